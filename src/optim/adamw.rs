//! `torch.optim.AdamW` (`torch/optim/adam.py`, `_single_tensor_adam` with decoupled weight decay).

use tch::{TchError, Tensor};

use super::Memory;

/// Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019), without AMSGrad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// The share of the mean gradient that is kept at each step.
    pub beta1: f64,
    /// The share of the mean squared gradient that is kept at each step.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub eps: f64,
}

impl Default for AdamW {
    /// PyTorch's defaults.
    fn default() -> Self {
        AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl AdamW {
    pub(super) fn update(
        &self,
        param: &mut Tensor,
        grad: Tensor,
        memory: &mut Memory,
        lr: f64,
        weight_decay: f64,
    ) -> Result<(), TchError> {
        if memory.first.is_none() {
            memory.first = Some(grad.f_zeros_like()?);
            memory.second = Some(grad.f_zeros_like()?);
        }
        let (Some(mean), Some(square)) = (&mut memory.first, &mut memory.second) else {
            return Ok(());
        };
        memory.step += 1;
        if weight_decay != 0.0 {
            let _ = param.f_mul_scalar_(1.0 - lr * weight_decay)?;
        }
        let _ = mean.f_lerp_(&grad, 1.0 - self.beta1)?;
        let weighted = grad.f_mul_scalar(1.0 - self.beta2)?;
        let _ = square.f_mul_scalar_(self.beta2)?.f_addcmul_(&weighted, &grad)?;

        let correction1 = 1.0 - self.beta1.powf(memory.step as f64);
        let correction2 = 1.0 - self.beta2.powf(memory.step as f64);
        let denominator = square.f_sqrt()?.f_div_scalar_(correction2.sqrt())?.f_add_scalar_(self.eps)?;
        let step = mean.f_mul_scalar(-lr / correction1)?;
        let _ = param.f_addcdiv_(&step, &denominator)?;
        Ok(())
    }
}
