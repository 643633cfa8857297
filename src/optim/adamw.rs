//! `torch.optim.AdamW` (`torch/optim/adam.py` with decoupled weight decay).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tch::{TchError, Tensor};

use super::{Slot, fused};

/// Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019), without AMSGrad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
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
    /// One step of `slots`, all of which have a gradient.
    pub(super) fn update(&self, slots: Vec<&mut Slot>, lr: f64, weight_decay: f64) -> Result<(), TchError> {
        let mut slots = slots;
        // Usually one: parameters that began together have the same count.
        let mut counts: BTreeMap<i64, Tensor> = BTreeMap::new();
        for Slot { param, memory, .. } in slots.iter_mut().map(|slot| &mut **slot) {
            if memory.first.is_none() {
                memory.first = Some(param.f_detach()?.f_zeros_like()?);
                memory.second = Some(param.f_detach()?.f_zeros_like()?);
            }
            memory.step += 1;
            if let Entry::Vacant(entry) = counts.entry(memory.step) {
                let count = Tensor::f_from_slice(&[memory.step as f32])?.f_squeeze()?;
                entry.insert(count.f_to_device(param.device())?);
            }
        }
        let params: Vec<_> = slots.iter().map(|slot| &slot.param).collect();
        let means: Vec<_> = slots.iter().filter_map(|slot| slot.memory.first.as_ref()).collect();
        let squares: Vec<_> = slots.iter().filter_map(|slot| slot.memory.second.as_ref()).collect();
        let steps: Vec<_> = slots.iter().filter_map(|slot| counts.get(&slot.memory.step)).collect();
        match params.is_empty() {
            true => Ok(()),
            false => fused::adamw(self, &params, &means, &squares, &steps, lr, weight_decay),
        }
    }
}
