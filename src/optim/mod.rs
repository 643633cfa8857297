//! Optimizers with restorable state, and learning rates as pure functions.
//!
//! An exact resume needs two things that `tch::nn::Optimizer` does not offer: the moment buffers,
//! and a learning rate that depends only on the step. [`Optimizer`] exposes its buffers
//! ([`Optimizer::state`], [`Optimizer::load_state`]); [`Schedule`] is a function of the step and of
//! the validation accuracies so far, so none of it has to be saved.
//!
//! The update rules are those of `torch.optim.SGD` and `torch.optim.AdamW`, to float rounding.

mod adamw;
mod clip;
mod ema;
mod fused;
mod schedule;
mod sgd;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

pub use adamw::AdamW;
pub use clip::clip_grad_norm;
pub use ema::Ema;
pub use schedule::{Decay, PLATEAU_THRESHOLD, Schedule};
pub use sgd::Sgd;

/// The update rule, with the hyperparameters shared by all parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
}

/// Parameters that share a learning rate and a weight decay.
#[derive(Debug)]
pub struct ParamGroup {
    /// Names (state-dict keys, unique over all groups) and the tensors that are updated in place.
    pub params: Vec<(String, Tensor)>,
    /// The learning rate before the schedule's factor.
    pub lr: f64,
    /// Weight decay: added to the gradient by SGD, decoupled (times the learning rate) in AdamW.
    pub weight_decay: f64,
}

/// A parameter and its optimizer state.
#[derive(Debug)]
struct Slot {
    name: String,
    param: Tensor,
    memory: Memory,
}

/// Optimizer state of one parameter; empty before its first gradient.
#[derive(Debug, Default)]
struct Memory {
    /// SGD's momentum buffer, or AdamW's mean of the gradient.
    first: Option<Tensor>,
    /// AdamW's mean of the squared gradient.
    second: Option<Tensor>,
    /// AdamW's number of updates.
    step: i64,
}

#[derive(Debug)]
struct Group {
    slots: Vec<Slot>,
    lr: f64,
    weight_decay: f64,
}

/// An update rule over groups of parameters.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    groups: Vec<Group>,
}

impl Optimizer {
    /// An optimizer before its first step. The tensors are shared with the caller, not copied.
    pub fn new(config: OptimizerConfig, groups: Vec<ParamGroup>) -> Self {
        let slot = |(name, param)| Slot { name, param, memory: Memory::default() };
        let groups = groups
            .into_iter()
            .map(|group| Group {
                slots: group.params.into_iter().map(slot).collect(),
                lr: group.lr,
                weight_decay: group.weight_decay,
            })
            .collect();
        Optimizer { config, groups }
    }

    /// Drops every gradient: [`Optimizer::step`] skips parameters that get none in the next
    /// backward pass.
    pub fn zero_grad(&mut self) -> Result<()> {
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            fused::drop_gradient(&mut slot.param).map_err(torch(&slot.name))?;
        }
        Ok(())
    }

    /// Updates every parameter that has a gradient, at `lr_factor` times its group's learning rate.
    ///
    /// A parameter without a gradient is left alone, weight decay and state included, as in
    /// PyTorch.
    pub fn step(&mut self, lr_factor: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for group in &mut self.groups {
            let lr = group.lr * lr_factor;
            let mut slots = Vec::with_capacity(group.slots.len());
            for slot in &mut group.slots {
                if slot.param.f_grad().map_err(Error::torch("read a gradient"))?.defined() {
                    slots.push(slot);
                }
            }
            match &self.config {
                OptimizerConfig::Sgd(sgd) => sgd.update(slots, lr, group.weight_decay),
                OptimizerConfig::AdamW(adamw) => adamw.update(slots, lr, group.weight_decay),
            }
            .map_err(Error::torch("update the parameters"))?;
        }
        Ok(())
    }

    /// The whole optimizer state by name, in the order of the parameters.
    ///
    /// SGD: `momentum.NAME`. AdamW: `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME` (int64, no
    /// dimensions). Parameters that have not had a gradient yet are absent. The tensors are the
    /// live buffers: write them out, or copy them, before the next step.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let [first, second] = self.keys();
        let mut state = Vec::new();
        for slot in self.slots() {
            if let Some(buffer) = &slot.memory.first {
                state.push((format!("{first}.{}", slot.name), buffer.shallow_clone()));
            }
            if let Some(buffer) = &slot.memory.second {
                state.push((format!("{second}.{}", slot.name), buffer.shallow_clone()));
                state.push((format!("step.{}", slot.name), Tensor::from(slot.memory.step)));
            }
        }
        state
    }

    /// Restores the result of [`Optimizer::state`]; buffers are copied to their parameter's device.
    ///
    /// # Errors
    /// If a name belongs to no parameter, a shape or dtype differs from the parameter's, or an
    /// AdamW parameter has only some of its three entries. Then nothing is changed.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let mut rest: HashMap<&str, &Tensor> = HashMap::with_capacity(state.len());
        for (name, tensor) in state {
            if rest.insert(name, tensor).is_some() {
                return Err(Error::run(format!("the optimizer state names `{name}` twice")));
            }
        }
        let [first, second] = self.keys();
        let mut memories = Vec::new();
        for slot in self.slots() {
            let mut take = |prefix: &str| rest.remove(format!("{prefix}.{}", slot.name).as_str());
            let entries = match self.config {
                OptimizerConfig::Sgd(_) => [take(first), None, None],
                OptimizerConfig::AdamW(_) => [take(first), take(second), take("step")],
            };
            let adamw = matches!(self.config, OptimizerConfig::AdamW(_));
            if adamw && entries.iter().any(Option::is_some) && entries.iter().any(Option::is_none) {
                let name = &slot.name;
                return Err(Error::run(format!(
                    "the optimizer state of `{name}` is incomplete: expected exp_avg, exp_avg_sq and step"
                )));
            }
            memories.push(Memory {
                first: entries[0].map(|buffer| like(buffer, slot)).transpose()?,
                second: entries[1].map(|buffer| like(buffer, slot)).transpose()?,
                step: entries[2].map(|step| read_step(step, slot)).transpose()?.unwrap_or(0),
            });
        }
        if let Some(name) = rest.keys().min() {
            return Err(Error::run(format!(
                "the optimizer state has an entry `{name}` that fits no parameter: it belongs to another run"
            )));
        }
        let slots = self.groups.iter_mut().flat_map(|group| &mut group.slots);
        for (slot, memory) in slots.zip(memories) {
            slot.memory = memory;
        }
        Ok(())
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.groups.iter().flat_map(|group| &group.slots)
    }

    /// The key prefixes of the first and the second buffer.
    fn keys(&self) -> [&'static str; 2] {
        match self.config {
            OptimizerConfig::Sgd(_) => ["momentum", ""],
            OptimizerConfig::AdamW(_) => ["exp_avg", "exp_avg_sq"],
        }
    }
}

/// A copy of a saved buffer, checked against its parameter.
fn like(buffer: &Tensor, slot: &Slot) -> Result<Tensor> {
    let (found, expected) = (buffer.size(), slot.param.size());
    if found != expected || buffer.kind() != slot.param.kind() {
        return Err(Error::run(format!(
            "the optimizer state of `{}` is {found:?} of {:?}, expected {expected:?} of {:?}: it belongs to another run",
            slot.name,
            buffer.kind(),
            slot.param.kind(),
        )));
    }
    let mut copy = slot.param.f_detach().and_then(|param| param.f_empty_like()).map_err(torch(&slot.name))?;
    copy.f_copy_(buffer).map_err(torch(&slot.name))?;
    Ok(copy)
}

fn read_step(step: &Tensor, slot: &Slot) -> Result<i64> {
    let value = if step.kind() == Kind::Int64 { i64::try_from(step).ok() } else { None };
    value.filter(|&step| step >= 1).ok_or_else(|| {
        Error::run(format!("the optimizer state `step.{}` is not a positive integer", slot.name))
    })
}

fn torch(name: &str) -> impl FnOnce(tch::TchError) -> Error {
    Error::torch(format!("update the parameter `{name}`"))
}
