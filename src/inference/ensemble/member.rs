//! A member of an average: from images to its probabilities.

use tch::{Device, Kind, Tensor};

use crate::device::back_off::BackOff;
use crate::device::copy::upload;
use crate::device::precision::{Autocast, Precision};
use crate::error::{Error, Result};
use crate::models::{Network, Tap};
use crate::preprocess::Preprocessing;
use crate::stats::calibration::temper;
use crate::unknown::Unknown;

/// A network whose probabilities are averaged.
pub struct Member<'a> {
    /// The network.
    pub network: &'a Network,
    /// A second network of the same classes and preprocessing, and its weight. Its probabilities
    /// are mixed with the first one's for each view: see
    /// [`Partner`](crate::weights::card::Partner).
    pub partner: Option<(&'a Network, f64)>,
    /// The temperature of its probabilities, after the second network's are mixed in; `None`: the
    /// softmax as it is.
    pub temperature: Option<f64>,
    /// What tells how strange an image is to the first network.
    pub unknown: Option<&'a Unknown>,
    /// Preprocessing of its input.
    pub preprocessing: &'a Preprocessing,
    /// For each class of the average its index among the network's logits; `None`: the same index.
    pub order: Option<Vec<i64>>,
    /// Its precision.
    pub precision: Precision,
    /// Its back-off.
    pub parts: BackOff,
}

impl Member<'_> {
    pub(super) fn way(&self) -> Way<'_> {
        Way {
            order: self.order.as_deref(),
            precision: self.precision,
            parts: &self.parts,
            weight: self.partner.map(|(_, weight)| weight),
            temperature: self.temperature,
            unknown: self.unknown,
        }
    }

    pub(super) fn networks(&self) -> impl Iterator<Item = &Network> {
        std::iter::once(self.network).chain(self.partner.map(|(network, _)| network))
    }
}

/// A member's path from images to probabilities, shared by the threads; each thread has its own
/// network.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    order: Option<&'a [i64]>,
    pub precision: Precision,
    parts: &'a BackOff,
    /// Weight of the second network, if any.
    weight: Option<f64>,
    temperature: Option<f64>,
    pub unknown: Option<&'a Unknown>,
}

/// What a member says of a batch of views.
pub(super) struct Answers {
    /// The probabilities of each view, one after the other.
    pub shares: Vec<f32>,
    /// How strange each view is; empty if the member cannot tell.
    pub unknown: Vec<f32>,
}

impl Way<'_> {
    pub fn networks(self) -> usize {
        1 + usize::from(self.weight.is_some())
    }

    /// Mixed answers of the member's networks, in the order of the average's classes. The only
    /// place where logits become the probabilities of a prediction.
    pub fn pooled(self, networks: &[&Network], images: &Tensor) -> Result<Answers> {
        let Some((first, others)) = networks.split_first() else {
            return Ok(Answers { shares: Vec::new(), unknown: Vec::new() });
        };
        let (logits, unknown) = match self.unknown {
            None => (self.logits(first, images)?, Vec::new()),
            Some(known) => self.logits_and_unknown(first, known, images)?,
        };
        let mut shares = self.shares(&logits)?;
        if let (Some(second), Some(weight)) = (others.first(), self.weight) {
            let second = self.shares(&self.logits(second, images)?)?;
            let mix = |(p, q): (&f32, &f32)| ((1. - weight) * f64::from(*p) + weight * f64::from(*q)) as f32;
            shares = shares.iter().zip(&second).map(mix).collect();
        }
        if let Some(temperature) = self.temperature {
            let classes = (shares.len() / (logits.size()[0] as usize).max(1)).max(1);
            shares.chunks_exact_mut(classes).for_each(|row| temper(row, temperature));
        }
        Ok(Answers { shares, unknown })
    }

    /// The logits `[N, K]`, on the network's device.
    fn logits(self, network: &Network, images: &Tensor) -> Result<Tensor> {
        let device = network.device();
        self.parts.run_one(images, |images| {
            let images = upload(images, device)?;
            let _autocast = Autocast::begin(device, self.precision)?;
            network.read(&images, Tap::Logits)
        })
    }

    /// The same, and how strange each image is.
    fn logits_and_unknown(
        self,
        network: &Network,
        known: &Unknown,
        images: &Tensor,
    ) -> Result<(Tensor, Vec<f32>)> {
        let device = network.device();
        let mut both = self.parts.run(images, |images| {
            let images = upload(images, device)?;
            let _autocast = Autocast::begin(device, self.precision)?;
            network.read_both(&images).map(Vec::from)
        })?;
        let (Some(logits), Some(features)) = (both.pop(), both.pop()) else {
            return Err(Error::run("a batch without an output"));
        };
        let values = |tensor: &Tensor| -> Result<Vec<f32>> {
            let rows = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
            Ok(Vec::try_from(rows.f_flatten(0, -1)?)?)
        };
        let rows = (logits.size()[0] as usize).max(1);
        let (vectors, scores) = (values(&features)?, values(&logits)?);
        let vectors = vectors.chunks_exact((vectors.len() / rows).max(1));
        let scores = scores.chunks_exact((scores.len() / rows).max(1));
        let unknown = vectors.zip(scores).map(|(features, logits)| known.share(features, logits));
        Ok((logits, unknown.collect()))
    }

    /// The softmax for each image, row by row, in the order of the average's classes.
    fn shares(self, logits: &Tensor) -> Result<Vec<f32>> {
        let softmax = || {
            let shares = logits.f_softmax(1, Kind::Float)?.f_to_device(Device::Cpu)?;
            match self.order {
                None => Ok(shares),
                Some(order) => shares.f_index_select(1, &Tensor::f_from_slice(order)?),
            }
        };
        let shares = softmax().map_err(Error::torch("compute probabilities"))?;
        Ok(Vec::<f32>::try_from(shares.f_flatten(0, -1)?)?)
    }
}
