//! `torch.optim.SGD` with dampening 0 (`torch/optim/sgd.py`, `_single_tensor_sgd`).

use tch::{TchError, Tensor};

use super::Memory;

/// Stochastic gradient descent with momentum.
///
/// With gradient `g` (weight decay added), the buffer is `g` at first and `momentum * buffer + g` after;
/// the step is along the buffer, or along `g + momentum * buffer` with Nesterov's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// The share of the buffer that is kept at each step; 0 keeps no buffer.
    pub momentum: f64,
    /// Look one step ahead along the buffer; without momentum it changes nothing.
    pub nesterov: bool,
}

impl Sgd {
    pub(super) fn update(
        &self,
        param: &mut Tensor,
        grad: Tensor,
        memory: &mut Memory,
        lr: f64,
        weight_decay: f64,
    ) -> Result<(), TchError> {
        let grad = match weight_decay {
            0.0 => grad,
            decay => param.f_detach()?.f_mul_scalar(decay)?.f_add_(&grad)?,
        };
        let step = if self.momentum == 0.0 {
            grad.f_mul_scalar(-lr)?
        } else {
            match &mut memory.first {
                Some(buffer) => {
                    let _ = buffer.f_mul_scalar_(self.momentum)?.f_add_(&grad)?;
                }
                // A copy: without weight decay `grad` is the gradient itself, which the next
                // backward pass writes to.
                empty => {
                    let mut buffer = grad.f_empty_like()?;
                    buffer.f_copy_(&grad)?;
                    *empty = Some(buffer);
                }
            }
            match (&memory.first, self.nesterov) {
                (Some(buffer), true) => {
                    buffer.f_mul_scalar(self.momentum)?.f_add_(&grad)?.f_mul_scalar_(-lr)?
                }
                (Some(buffer), false) => buffer.f_mul_scalar(-lr)?,
                (None, _) => grad.f_mul_scalar(-lr)?,
            }
        };
        let _ = param.f_add_(&step)?;
        Ok(())
    }
}
