//! `torch.nn.utils.clip_grad_norm_`.

use tch::Tensor;

use crate::error::{Error, Result};

/// Scales all gradients so that their common 2-norm is at most `max_norm`; returns the norm before
/// that.
///
/// As in PyTorch the factor is `max_norm / (norm + 1e-6)`, at most 1, and parameters without a
/// gradient are left out. If the norm is not finite, no gradient is touched: the caller sees it and
/// stops.
pub fn clip_grad_norm<'a>(params: impl IntoIterator<Item = &'a Tensor>, max_norm: f64) -> Result<f64> {
    let torch = || Error::torch("clip the gradients");
    let _guard = tch::no_grad_guard();
    let mut grads = Vec::new();
    for param in params {
        let grad = param.f_grad().map_err(torch())?;
        if grad.defined() {
            grads.push(grad);
        }
    }
    let Some(device) = grads.first().map(Tensor::device) else {
        return Ok(0.0);
    };
    // Only one number is copied from the device, however many gradients there are.
    let norms: Result<Vec<Tensor>, _> =
        grads.iter().map(|grad| grad.f_norm().and_then(|norm| norm.f_to_device(device))).collect();
    let norm = norms.and_then(|norms| Tensor::f_stack(&norms, 0)).and_then(|norms| norms.f_norm());
    let norm = norm.and_then(|norm| f64::try_from(norm.f_to_kind(tch::Kind::Double)?)).map_err(torch())?;
    let factor = max_norm / (norm + 1e-6);
    if norm.is_finite() && factor < 1.0 {
        for grad in &mut grads {
            let _ = grad.f_mul_scalar_(factor).map_err(torch())?;
        }
    }
    Ok(norm)
}
