//! SIGINT and SIGTERM as a flag that long work polls between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// Remembers the first SIGINT or SIGTERM. A second one ends the process at once.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Starts to listen for the rest of the process's life: call once, from the command line's
    /// side.
    pub fn listen() -> Result<Self> {
        let signals = Signals::default();
        for signal in [SIGINT, SIGTERM] {
            let again = Arc::new(AtomicBool::new(false));
            // In this order: the shutdown checks the flag that earlier signals have set.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))
                .and_then(|_| flag::register(signal, again))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&signals.received), signal as usize))
                .map_err(|error| Error::run(format!("cannot listen for signals: {error}")))?;
        }
        Ok(signals)
    }

    /// The signal received, if any.
    pub fn received(&self) -> Option<i32> {
        match self.received.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// [`Error::Interrupted`] with `message` if a signal has been received.
    pub fn check(&self, message: &str) -> Result<()> {
        match self.received() {
            None => Ok(()),
            Some(signal) => Err(Error::Interrupted { signal, message: message.to_string() }),
        }
    }
}
