//! The exponential moving average of weights, which often does better than the weights of the last
//! step.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// `average = decay * average + (1 - decay) * weights` after each step, in single precision:
/// torchvision's `ExponentialMovingAverage` (`references/classification/utils.py`) with an update
/// at every step.
///
/// As there, buffers are averaged with the parameters, so BatchNorm's running statistics belong to
/// the averaged weights; integers are copied. The update is written as `average + (1 - decay) *
/// (weights - average)`, like PyTorch's `get_ema_multi_avg_fn`: constant values, such as those of a
/// frozen stage, stay bit-identical.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    live: Tensor,
    average: Tensor,
}

impl Ema {
    /// An average initialised with these values. The tensors are shared with the caller, not
    /// copied.
    pub fn new(decay: f64, values: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let slot = |(name, live): (String, Tensor)| {
            let average = copy(&live).map_err(torch(&name))?;
            Ok(Slot { name, live, average })
        };
        Ok(Ema { decay, slots: values.into_iter().map(slot).collect::<Result<_>>()? })
    }

    /// Updates the average with the current values. With `restart` the average becomes these
    /// values.
    pub fn update(&mut self, restart: bool) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for Slot { name, live, average } in &mut self.slots {
            match restart || average.kind() != Kind::Float {
                true => average.f_copy_(live),
                false => average.f_lerp_(live, 1.0 - self.decay).map(drop),
            }
            .map_err(torch(name))?;
        }
        Ok(())
    }

    /// Exchanges average and live values, so that the network computes with the average; a second
    /// call restores both exactly.
    pub fn swap(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for Slot { name, live, average } in &mut self.slots {
            let exchange = |live: &mut Tensor, average: &mut Tensor| {
                let kept = copy(live)?;
                live.f_copy_(average)?;
                average.f_copy_(&kept)
            };
            exchange(live, average).map_err(torch(name))?;
        }
        Ok(())
    }

    /// The average, by name.
    pub fn state(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.slots.iter().map(|slot| (slot.name.as_str(), &slot.average))
    }

    /// Restores the result of [`Ema::state`].
    ///
    /// # Errors
    /// If a name is missing, or a shape or dtype differs. Then nothing is changed.
    pub fn load_state(&mut self, state: &HashMap<&str, Tensor>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mut found = Vec::with_capacity(self.slots.len());
        for Slot { name, average, .. } in &self.slots {
            let fits = |saved: &&Tensor| saved.size() == average.size() && saved.kind() == average.kind();
            found.push(state.get(name.as_str()).filter(fits).ok_or_else(|| {
                Error::run(format!(
                    "the averaged weights lack a fitting `{name}`: they belong to another run"
                ))
            })?);
        }
        for (slot, saved) in self.slots.iter_mut().zip(found) {
            slot.average.f_copy_(saved).map_err(torch(&slot.name))?;
        }
        Ok(())
    }
}

fn copy(tensor: &Tensor) -> Result<Tensor, tch::TchError> {
    let mut copy = tensor.f_detach()?.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

fn torch(name: &str) -> impl FnOnce(tch::TchError) -> Error {
    Error::torch(format!("average the weights of `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn values(of: &Value) -> Vec<(String, Tensor)> {
        let numbers = |value: &Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        of.as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), Tensor::from_slice(&numbers(value)).to_kind(Kind::Float)))
            .collect()
    }

    fn state(ema: &Ema) -> HashMap<String, Tensor> {
        ema.state().map(|(name, tensor)| (name.to_string(), tensor.copy())).collect()
    }

    /// The tolerance is that of single precision: both forms of the update round differently.
    #[test]
    fn the_average_is_torchvisions() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/augment/averages.json");
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let steps = case["steps"].as_array().unwrap();
            let live = values(&steps[0]["values"]);
            let shared = live.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            let mut ema = Ema::new(case["decay"].as_f64().unwrap(), shared).unwrap();
            for (index, step) in steps.iter().enumerate() {
                for ((_, tensor), (_, new)) in live.iter().zip(values(&step["values"])) {
                    tensor.shallow_clone().copy_(&new);
                }
                ema.update(index == 0).unwrap();
                let found = state(&ema);
                for (name, expected) in values(&step["average"]) {
                    let off = (&found[&name] - expected).abs().max().double_value(&[]);
                    assert!(off < 5e-7, "{name}: {off}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_move_stays_to_the_bit_and_whole_numbers_are_copied() {
        let still = Tensor::from_slice(&[0.1f32, 1e-30, -3.3, f32::MAX]);
        let mut count = Tensor::from_slice(&[1i64]);
        let values =
            [("still".to_string(), still.shallow_clone()), ("count".to_string(), count.shallow_clone())];
        for decay in [0.3, 0.999, 0.99999] {
            let values = values.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            let mut ema = Ema::new(decay, values).unwrap();
            for _ in 0..50 {
                let _ = count.g_add_scalar_(1i64);
                ema.update(false).unwrap();
            }
            assert_eq!(state(&ema)["still"], still);
            assert_eq!(state(&ema)["count"], count);
        }
    }

    #[test]
    fn two_exchanges_put_all_back_and_a_state_goes_on() {
        let mut live = Tensor::from_slice(&[1.0f32, 2.0]).set_requires_grad(true);
        let make = |live: &Tensor| Ema::new(0.9, [("w".to_string(), live.shallow_clone())]).unwrap();
        let mut ema = make(&live);
        tch::no_grad(|| live.copy_(&Tensor::from_slice(&[3.0f32, -1.0])));
        ema.update(false).unwrap();
        let (before, average) = (live.copy(), state(&ema).remove("w").unwrap());
        ema.swap().unwrap();
        assert_eq!((live.copy(), state(&ema).remove("w").unwrap()), (average.copy(), before.copy()));
        ema.swap().unwrap();
        assert_eq!((live.copy(), state(&ema).remove("w").unwrap()), (before, average.copy()));
        let mut other = make(&live);
        other.load_state(&HashMap::from([("w", average.copy())])).unwrap();
        assert_eq!(state(&other)["w"], average);
        for wrong in [HashMap::new(), HashMap::from([("w", Tensor::from_slice(&[1.0f32]))])] {
            let message = other.load_state(&wrong).unwrap_err().to_string();
            assert!(message.contains("another run"), "{message}");
        }
    }
}
