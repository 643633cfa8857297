//! The layers of one forward pass: for `tl inspect`, and for tests of dropout.
//!
//! Layers record themselves only while a trace is being taken on their thread. The layer list of a
//! network cannot be read off its structure, because blocks are code; a forward pass shows the
//! layers that run, with their shapes.

use std::cell::RefCell;

use tch::{TchError, Tensor};

use super::Dropping;

/// A layer that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its type, such as `Conv2d 3×3`.
    pub kind: String,
    /// The address of its weight, which gives its key.
    pub weight: Option<usize>,
    /// The shape of its output.
    pub output: Vec<i64>,
    /// Multiply-adds.
    pub multiply_adds: u64,
}

/// A randomly dropping layer that ran.
#[derive(Debug)]
pub struct Dropped {
    /// The layer itself.
    pub layer: Dropping,
    /// A copy of its input.
    pub input: Tensor,
    /// A copy of its output.
    pub output: Tensor,
}

thread_local! {
    static TRACE: RefCell<Option<Vec<Traced>>> = const { RefCell::new(None) };
    static DROPPED: RefCell<Option<Vec<Dropped>>> = const { RefCell::new(None) };
}

/// Runs `work`; returns its result, with the layers that ran in it, in order.
pub fn traced<T>(work: impl FnOnce() -> T) -> (T, Vec<Traced>) {
    TRACE.with_borrow_mut(|trace| *trace = Some(Vec::new()));
    let result = work();
    let layers = TRACE.with_borrow_mut(Option::take);
    (result, layers.unwrap_or_default())
}

/// Records a layer, if a trace is being taken. `per_output` is the number of multiply-adds for each
/// output number.
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

/// Runs `work`; returns its result, with the layers that may drop at random, in order.
pub fn dropped<T>(work: impl FnOnce() -> T) -> (T, Vec<Dropped>) {
    DROPPED.with_borrow_mut(|dropped| *dropped = Some(Vec::new()));
    let result = work();
    let layers = DROPPED.with_borrow_mut(Option::take);
    (result, layers.unwrap_or_default())
}

/// Records a layer that may drop, inside [`dropped`]. Later layers may overwrite `output`: it is
/// copied.
pub(super) fn note_dropping(layer: Dropping, input: &Tensor, output: &Tensor) -> Result<(), TchError> {
    DROPPED.with_borrow_mut(|dropped| {
        if let Some(layers) = dropped {
            let copy = |tensor: &Tensor| tensor.f_detach()?.f_contiguous()?.f_detach_copy();
            layers.push(Dropped { layer, input: copy(input)?, output: copy(output)? });
        }
        Ok(())
    })
}
