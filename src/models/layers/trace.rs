//! What the layers of one forward pass were: for `tl inspect`, and for the tests of what is dropped.
//!
//! Layers note themselves while a trace is being taken on their thread, and only then. The layer list of a
//! network cannot be read off its structure, because blocks are code; a pass through it shows what runs,
//! with the shapes that it runs on.

use std::cell::RefCell;

use tch::{TchError, Tensor};

use super::Dropping;

/// One layer as it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// What it is, such as `Conv2d 3×3`.
    pub kind: String,
    /// Where its weight lies in memory, which tells its key.
    pub weight: Option<usize>,
    /// The shape of its output.
    pub output: Vec<i64>,
    /// Multiply-adds.
    pub multiply_adds: u64,
}

/// A layer that drops at random, as it ran.
#[derive(Debug)]
pub struct Dropped {
    /// The layer itself.
    pub layer: Dropping,
    /// A copy of what went in.
    pub input: Tensor,
    /// A copy of what came out.
    pub output: Tensor,
}

thread_local! {
    static TRACE: RefCell<Option<Vec<Traced>>> = const { RefCell::new(None) };
    static DROPPED: RefCell<Option<Vec<Dropped>>> = const { RefCell::new(None) };
}

/// Runs `work` and returns what it returned, with the layers that ran in it, in order.
pub fn traced<T>(work: impl FnOnce() -> T) -> (T, Vec<Traced>) {
    TRACE.with_borrow_mut(|trace| *trace = Some(Vec::new()));
    let result = work();
    let layers = TRACE.with_borrow_mut(Option::take);
    (result, layers.unwrap_or_default())
}

/// Notes a layer, if a trace is being taken. `per_output` are the multiply-adds for each output number.
pub(in crate::models) fn note(
    kind: impl FnOnce() -> String,
    weight: Option<&Tensor>,
    output: &Tensor,
    per_output: i64,
) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(layers) = trace {
            layers.push(Traced {
                kind: kind(),
                weight: weight.map(|weight| weight.data_ptr() as usize),
                output: output.size(),
                multiply_adds: output.numel() as u64 * per_output as u64,
            });
        }
    });
}

/// Runs `work` and returns what it returned, with the layers that may drop at random, in order.
pub fn dropped<T>(work: impl FnOnce() -> T) -> (T, Vec<Dropped>) {
    DROPPED.with_borrow_mut(|dropped| *dropped = Some(Vec::new()));
    let result = work();
    let layers = DROPPED.with_borrow_mut(Option::take);
    (result, layers.unwrap_or_default())
}

/// Notes a layer that may drop, if [`dropped`] is under way. What follows may write into `output`: it is copied.
pub(super) fn note_dropping(layer: Dropping, input: &Tensor, output: &Tensor) -> Result<(), TchError> {
    DROPPED.with_borrow_mut(|dropped| {
        if let Some(layers) = dropped {
            let copy = |tensor: &Tensor| tensor.f_detach()?.f_contiguous()?.f_detach_copy();
            layers.push(Dropped { layer, input: copy(input)?, output: copy(output)? });
        }
        Ok(())
    })
}
