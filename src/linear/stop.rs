//! Stopping in the middle of a computation.

use tch::TchError;

use super::torch;
use crate::error::Result;

/// Asks whether to stop.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a>(pub &'a dyn Fn() -> bool);

impl Stop<'_> {
    /// An error if told to stop. Ask about once a second; asking costs nothing.
    pub(super) fn ask(self) -> Attempt<()> {
        if self.0() { Err(Ended::Told) } else { Ok(()) }
    }
}

/// Why a computation ended before its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was told to stop.
    Told,
    Failed(TchError),
}

impl From<TchError> for Ended {
    fn from(error: TchError) -> Self {
        Ended::Failed(error)
    }
}

pub(super) type Attempt<T> = std::result::Result<T, Ended>;

/// `None` if told to stop.
pub(super) fn unless_told<T>(attempt: Attempt<T>) -> Result<Option<T>> {
    match attempt {
        Ok(found) => Ok(Some(found)),
        Err(Ended::Told) => Ok(None),
        Err(Ended::Failed(error)) => Err(torch()(error)),
    }
}
