//! An inference copy of a network, over the same weights: same stages, same numbers but for
//! rounding, several times as fast on a CPU.
//!
//! Nothing is drawn or read from a file: [`Path::var`](super::Path::var) finds the other network's
//! tensors, so families need no code for it. The differences:
//!
//! - A BatchNorm behind a convolution is folded into its weights (Jacob et al., CVPR 2018, section
//!   3.2): with running mean μ and variance σ², scale γ and shift β,
//!   `γ (w x + b - μ) / √(σ² + ε) + β` is one convolution.
//! - Kernels are channels-last in memory, and so are images between convolutions.
//! - Convolutions and linear layers are oneDNN's. PyTorch's own choice for 1×1 convolutions on one
//!   thread, and for linear layers always, is MKL's matrix product, which runs at less than half
//!   the speed on an AMD processor with AVX-512 (100 against 230 GFLOP/s a core) and no faster on
//!   others.
//!
//! The original network stays as it is, for training and writing.

use std::collections::HashMap;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::layers::{BatchNorm2d, Conv2d};
use super::network::{Network, Tap, channels_last};
use super::prepared::{Folding, Prepared};
use super::vars::Vars;
use super::{Architecture, Chain};
use crate::error::{Error, Result};

impl Prepared {
    /// A convolution with a channels-last kernel; `key` is its weight's.
    pub fn convolution(&self, key: &str, conv: Conv2d) -> Result<Conv2d> {
        let weight = self.once(format!("{key} channels-last"), || Ok(channels_last(&conv.weight)?))?;
        Ok(Conv2d { weight, direct: self.direct, ..conv })
    }

    /// A convolution equal to `conv` followed by `norm`, if folding is on.
    pub fn fold(&self, key: &str, conv: &Conv2d, norm: &BatchNorm2d) -> Result<Option<Conv2d>> {
        if self.folding != Folding::Folded {
            return Ok(None);
        }
        let scale = || -> Result<Tensor, tch::TchError> {
            let deviation =
                norm.running_var.f_to_kind(Kind::Double)?.f_add_scalar(norm.config.eps)?.f_sqrt()?;
            norm.weight.f_to_kind(Kind::Double)?.f_div(&deviation)
        };
        let weight = self.once(format!("{key} folded"), || {
            let scale = scale()?.f_to_kind(Kind::Float)?.f_view([-1, 1, 1, 1])?;
            Ok(channels_last(&conv.weight.f_mul(&scale)?)?)
        })?;
        let bias = self.once(format!("{key} folded bias"), || {
            let mean = norm.running_mean.f_to_kind(Kind::Double)?;
            let shift = match &conv.bias {
                Some(bias) => bias.f_to_kind(Kind::Double)?.f_sub(&mean)?,
                None => mean.f_neg()?,
            };
            let bias = shift.f_mul(&scale()?)?.f_add(&norm.bias.f_to_kind(Kind::Double)?)?;
            Ok(bias.f_to_kind(Kind::Float)?)
        })?;
        Ok(Some(Conv2d { weight, bias: Some(bias), config: conv.config, direct: self.direct }))
    }
}

/// An inference network to copy for each thread; all copies share its memory.
pub struct InferenceNetwork {
    architecture: &'static Architecture,
    prepared: Rc<Prepared>,
    classes: usize,
    width: usize,
    side: i64,
    device: Device,
    frozen: usize,
    transform_input: bool,
    reads: Vec<Tap>,
}

impl InferenceNetwork {
    /// Prepares the current values of `network`; later changes to them have no effect.
    pub fn of(network: &Network, folding: Folding) -> Result<Self> {
        tch::no_grad(|| {
            let tensors = network.vars().iter().map(|var| Ok((var.key.clone(), var.tensor.f_detach()?)));
            let tensors = tensors.collect::<Result<HashMap<_, _>, tch::TchError>>();
            let tensors = tensors.map_err(Error::torch("prepare the network for inference"))?;
            let on_cpu = network.device() == Device::Cpu;
            let direct = on_cpu && folding != Folding::Plain && tch::utils::has_mkldnn();
            let view = InferenceNetwork {
                architecture: network.architecture,
                prepared: Rc::new(Prepared::new(folding, direct, tensors)),
                classes: network.classes(),
                width: network.feature_length(),
                side: network.side(),
                device: network.device(),
                frozen: network.frozen(),
                transform_input: network.transform_input(),
                reads: network.head_taps().to_vec(),
            };
            // Folds everything once, here.
            view.network()?;
            Ok(view)
        })
    }

    /// A network over these values, for inference only. It may move to another thread.
    pub fn network(&self) -> Result<Network> {
        tch::no_grad(|| {
            let vars = || Vars::over(Rc::clone(&self.prepared), self.device);
            let (own, head) = (vars(), vars());
            let mut chain = Chain::new(&own, self.classes as i64, self.side);
            (self.architecture.build)(&mut chain)?;
            let (stages, neck, pooling) = chain.finish();
            let mut network = Network::of_parts(self.architecture, stages, neck, pooling, own, self.side)?;
            if !self.reads.is_empty() {
                network.read_stages_over(&self.reads, self.width, self.classes, head)?;
            }
            network.set_transform_input(self.transform_input)?;
            network.frozen = self.frozen.min(network.stage_count());
            Ok(network)
        })
    }
}
