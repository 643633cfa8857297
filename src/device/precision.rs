//! Lower precision where it is safe, as in `torch.autocast` and `torch.amp.GradScaler`.
//!
//! Weights, gradients and the optimizer stay in single precision. Inside an [`Autocast`],
//! libtorch's dispatcher casts the inputs of each operation: to the lower precision for
//! convolutions and matrix products, to single precision for losses, softmax and norms (PyTorch's
//! "Autocast Op Reference"; the CPU and CUDA have their own lists). bfloat16 has the range of
//! single precision and needs nothing else; float16 has not, so its gradients are scaled up by a
//! [`LossScale`].
//!
//! TensorFloat-32 follows PyTorch's defaults: off for matrix products, on for cuDNN's convolutions.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::device::torch;
use crate::error::{Error, Result};
use crate::models::Folding;

/// The precision in which a network computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// bfloat16, where safe.
    Bf16,
    /// float16, where safe.
    Fp16,
}

impl Precision {
    /// The dtype that operations are cast to; `None` for single precision.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Precision::Fp32 => None,
            Precision::Bf16 => Some(Kind::BFloat16),
            Precision::Fp16 => Some(Kind::Half),
        }
    }

    /// The [`Folding`] of an inference network in this precision.
    pub fn folding(self) -> Folding {
        match self {
            Precision::Fp32 => Folding::Folded,
            _ => Folding::Plain,
        }
    }
}

impl Precision {
    /// A note on this precision on a device, if needed.
    pub fn note(self, device: Device) -> Option<String> {
        (self == Precision::Fp16 && !device.is_cuda()).then(|| {
            "fp16 is for GPUs: most CPUs compute in it many times slower than in fp32; bf16 is for those that have \
             instructions for it"
                .into()
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        match typed {
            "fp32" => Ok(Precision::Fp32),
            "bf16" => Ok(Precision::Bf16),
            "fp16" => Ok(Precision::Fp16),
            _ => Err("expected one of fp32, bf16, fp16".into()),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
            Precision::Fp16 => "fp16",
        })
    }
}

/// While it lives, this thread's operations on a device are cast as by `torch.autocast`. Run
/// backward passes after it ends, as PyTorch recommends: they use the dtypes of the forward pass.
#[must_use = "autocast ends when this is dropped"]
pub struct Autocast {
    device: Device,
    before: Option<torch::Before>,
    /// Autocast belongs to the thread that began it.
    _thread: PhantomData<*const ()>,
}

impl Autocast {
    /// Starts casting; a no-op in single precision.
    pub fn begin(device: Device, precision: Precision) -> Result<Autocast> {
        let enter = |kind| torch::autocast_enter(device, kind).map_err(Error::torch("begin autocast"));
        Ok(Autocast { device, before: precision.kind().map(enter).transpose()?, _thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // Setting two thread-local values does not fail, and a drop could not report it.
            let _ = torch::autocast_leave(self.device, before);
        }
    }
}

/// Dynamic loss scaling for float16 (Micikevicius et al., "Mixed Precision Training", ICLR 2018),
/// with the constants and operations of `torch.amp.GradScaler`.
///
/// The loss is multiplied by the scale, so that small gradients do not vanish, and the gradients
/// are divided by it before they are clipped and used. A step with non-finite gradients is skipped
/// and halves the scale; 2000 finite steps in a row double it.
#[derive(Debug)]
pub struct LossScale {
    /// float32, no dimensions.
    scale: Tensor,
    /// int32, no dimensions: finite steps since the scale last changed.
    good_steps: Tensor,
}

/// Saved state of a [`LossScale`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScaleState {
    /// The factor on the loss.
    pub scale: f64,
    /// Finite steps since the scale last changed.
    pub good_steps: i64,
}

impl Default for LossScaleState {
    /// PyTorch's `init_scale`.
    fn default() -> Self {
        LossScaleState { scale: 65_536., good_steps: 0 }
    }
}

impl LossScale {
    /// PyTorch's `growth_factor`.
    const GROWTH: f64 = 2.;
    /// PyTorch's `backoff_factor`.
    const BACKOFF: f64 = 0.5;
    /// PyTorch's `growth_interval`.
    const INTERVAL: i64 = 2_000;
    /// Below this scale, 26 net halvings below the initial one, a training is lost.
    pub const LEAST: f64 = 1. / 1024.;

    /// Continues from a state.
    pub fn new(state: LossScaleState, device: Device) -> Result<LossScale> {
        let make = || {
            Ok(LossScale {
                scale: Tensor::f_from_slice(&[state.scale as f32])?
                    .f_reshape([0i64; 0])?
                    .f_to_device(device)?,
                good_steps: Tensor::f_from_slice(&[state.good_steps as i32])?
                    .f_reshape([0i64; 0])?
                    .f_to_device(device)?,
            })
        };
        make().map_err(Error::torch("make the loss scale"))
    }

    /// The state for a checkpoint.
    pub fn state(&self) -> Result<LossScaleState> {
        let read = || {
            Ok(LossScaleState {
                scale: self.scale.f_double_value(&[])?,
                good_steps: self.good_steps.f_int64_value(&[])?,
            })
        };
        read().map_err(Error::torch("read the loss scale"))
    }

    /// The scaled loss, for the backward pass.
    pub fn scaled(&self, loss: &Tensor) -> Result<Tensor> {
        loss.f_mul(&self.scale).map_err(Error::torch("scale the loss"))
    }

    /// Divides the gradients by the scale; returns whether all of them are finite. Adjusts the
    /// scale for the next step, which PyTorch does after the optimizer's step.
    pub fn unscale(&mut self, gradients: &[Tensor]) -> Result<bool> {
        let _guard = tch::no_grad_guard();
        let mut adjust = || {
            let mut found = self.scale.f_zeros_like()?;
            // In double precision, as in PyTorch: the inverse of a tiny scale overflows float32.
            let inverse = self.scale.f_to_kind(Kind::Double)?.f_reciprocal()?.f_to_kind(Kind::Float)?;
            if !gradients.is_empty() {
                torch::unscale(gradients, &mut found, &inverse)?;
            }
            let LossScale { scale, good_steps } = self;
            let _ = scale.f_internal_amp_update_scale_(
                good_steps,
                &found,
                Self::GROWTH,
                Self::BACKOFF,
                Self::INTERVAL,
            )?;
            Ok(found.f_double_value(&[])? == 0.)
        };
        adjust().map_err(Error::torch("unscale the gradients"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// `torch.amp.GradScaler("cpu")` over thousands of steps, to the bit.
    #[test]
    fn the_loss_scale_is_pytorchs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/precision/scaler.json");
        let facts: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let overflow = |step: u64| match facts["overflows"][step.to_string()].as_str() {
            Some(number) => number.parse().unwrap(),
            None => 0.25f32,
        };
        let mut scale = LossScale::new(LossScaleState::default(), Device::Cpu).unwrap();
        let mut param = Tensor::zeros([3], (Kind::Float, Device::Cpu));
        let mut next = 0;
        for row in facts["rows"].as_array().unwrap() {
            let step = row["step"].as_u64().unwrap();
            for step in next..=step {
                let seen = scale.scaled(&Tensor::from(1f32)).unwrap().double_value(&[]) as f32;
                let gradients = [Tensor::from_slice(&[0.5 * seen, overflow(step) * seen, seen])];
                if scale.unscale(&gradients).unwrap() {
                    param -= &gradients[0] * f64::powi(2., -12);
                }
                // As from a checkpoint.
                scale = LossScale::new(scale.state().unwrap(), Device::Cpu).unwrap();
            }
            next = step + 1;
            let state = scale.state().unwrap();
            assert_eq!(state.scale, row["scale"].as_f64().unwrap(), "step {step}");
            assert_eq!(state.good_steps, row["good_steps"].as_i64().unwrap(), "step {step}");
            let expected: Vec<f64> =
                row["param"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect();
            assert_eq!(Vec::<f64>::try_from(&param).unwrap(), expected, "step {step}");
        }
        assert!(next > 6_000);
    }

    #[test]
    fn autocast_ends_with_its_scope_and_nests() {
        let matrix = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        let kind = || matrix.matmul(&matrix).kind();
        let cpu = |precision| Autocast::begin(Device::Cpu, precision).unwrap();
        assert_eq!(kind(), Kind::Float);
        {
            let _outer = cpu(Precision::Bf16);
            assert_eq!(kind(), Kind::BFloat16);
            {
                let _inner = cpu(Precision::Fp16);
                assert_eq!(kind(), Kind::Half);
            }
            assert_eq!(kind(), Kind::BFloat16);
            let _nothing = cpu(Precision::Fp32);
            assert_eq!(kind(), Kind::BFloat16);
            // A loss is computed in single precision.
            let logits = matrix.matmul(&matrix);
            let labels = Tensor::from_slice(&[0i64, 1]);
            let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, 0.);
            assert_eq!(loss.kind(), Kind::Float);
        }
        assert_eq!(kind(), Kind::Float);
    }
}
