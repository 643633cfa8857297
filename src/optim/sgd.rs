//! `torch.optim.SGD` with dampening 0 (`torch/optim/sgd.py`).

use tch::TchError;

use super::{Slot, fused};

/// Stochastic gradient descent with momentum.
///
/// With gradient `g` (weight decay added), the buffer is `g` at first and `momentum * buffer + g`
/// after; the step is along the buffer, or along `g + momentum * buffer` with Nesterov's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Decay of the buffer; 0 keeps no buffer.
    pub momentum: f64,
    /// Nesterov momentum; without momentum it changes nothing.
    pub nesterov: bool,
}

impl Sgd {
    /// One step of `slots`, all of which have a gradient.
    pub(super) fn update(&self, slots: Vec<&mut Slot>, lr: f64, weight_decay: f64) -> Result<(), TchError> {
        let (first, later): (Vec<_>, Vec<_>) =
            slots.into_iter().partition(|slot| self.momentum != 0.0 && slot.memory.first.is_none());
        for (slots, is_first) in [(first, true), (later, false)] {
            let mut slots = slots;
            for slot in slots.iter_mut().filter(|_| is_first) {
                slot.memory.first = Some(slot.param.f_detach()?.f_empty_like()?);
            }
            let params: Vec<_> = slots.iter().map(|slot| &slot.param).collect();
            let buffers: Vec<_> = slots.iter().filter_map(|slot| slot.memory.first.as_ref()).collect();
            if !params.is_empty() {
                fused::sgd(self, &params, &buffers, is_first, lr, weight_decay)?;
            }
        }
        Ok(())
    }
}
