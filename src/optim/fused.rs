//! libtorch's fused updates (`torch.optim.SGD(fused=True)`, `torch.optim.AdamW(fused=True)`), from
//! `fused.cpp`: one pass over the memory of each parameter, and one call for all of them.

use std::ffi::{c_char, c_int};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::{AdamW, Sgd};
use crate::device::torch::checked;

unsafe extern "C" {
    fn tl_fused_sgd(
        params: *const *const C_tensor,
        buffers: *const *const C_tensor,
        count: usize,
        weight_decay: f64,
        momentum: f64,
        lr: f64,
        nesterov: c_int,
        first: c_int,
    ) -> *mut c_char;
    fn tl_fused_adamw(
        params: *const *const C_tensor,
        means: *const *const C_tensor,
        squares: *const *const C_tensor,
        steps: *const *const C_tensor,
        count: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
    fn tl_drop_gradient(param: *mut C_tensor) -> *mut c_char;
}

fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*const C_tensor> {
    tensors.into_iter().map(Tensor::as_ptr).collect()
}

/// One step of `params`, all of which have a gradient. `buffers`, one for each with momentum and
/// none without, have their parameters' memory layout; the `first` step fills them.
pub(super) fn sgd(
    rule: &Sgd,
    params: &[&Tensor],
    buffers: &[&Tensor],
    first: bool,
    lr: f64,
    weight_decay: f64,
) -> Result<(), TchError> {
    let expected = if rule.momentum == 0.0 { 0 } else { params.len() };
    if buffers.len() != expected {
        return Err(TchError::Torch(format!("{} buffers, expected {expected}", buffers.len())));
    }
    let (params, buffers) = (pointers(params.iter().copied()), pointers(buffers.iter().copied()));
    let (nesterov, first) = (c_int::from(rule.nesterov && rule.momentum != 0.0), c_int::from(first));
    // SAFETY: all tensors outlive the call, and the count passed is theirs.
    checked(unsafe {
        let (params, count) = (params.as_ptr(), params.len());
        tl_fused_sgd(params, buffers.as_ptr(), count, weight_decay, rule.momentum, lr, nesterov, first)
    })
}

/// One step of `params`, all of which have a gradient. Each comes with its mean, mean of squares
/// and step count (float32, this one included).
pub(super) fn adamw(
    rule: &AdamW,
    params: &[&Tensor],
    means: &[&Tensor],
    squares: &[&Tensor],
    steps: &[&Tensor],
    lr: f64,
    weight_decay: f64,
) -> Result<(), TchError> {
    if [means, squares, steps].iter().any(|list| list.len() != params.len()) {
        return Err(TchError::Torch("not every parameter has its state".into()));
    }
    let [params, means, squares, steps] =
        [params, means, squares, steps].map(|list| pointers(list.iter().copied()));
    // SAFETY: all tensors outlive the call, and the count passed is theirs.
    checked(unsafe {
        tl_fused_adamw(
            params.as_ptr(),
            means.as_ptr(),
            squares.as_ptr(),
            steps.as_ptr(),
            params.len(),
            lr,
            rule.beta1,
            rule.beta2,
            weight_decay,
            rule.eps,
        )
    })
}

/// Drops a parameter's gradient (`zero_grad(set_to_none=True)`): the next one need not be added to
/// zeros.
pub(super) fn drop_gradient(param: &mut Tensor) -> Result<(), TchError> {
    // SAFETY: the tensor is whole and outlives the call.
    checked(unsafe { tl_drop_gradient(param.as_mut_ptr()) })
}
