//! A network watched at a stage: what a class's logit depends on there, for heat maps.
//!
//! The stages up to the watched one run without gradients. Its output is a leaf of the graph, and
//! only what comes behind it is kept for the backward pass: no weight gets a gradient.

use tch::{Kind, Tensor};

use super::head::Pooling;
use super::layers::Mode;
use super::network::{Network, Tap};
use crate::error::{Error, Result};

/// Images that went through a network in inference mode, with the graph from one stage to the
/// logits.
pub struct Watched {
    /// The stage's output, a leaf of the graph.
    leaf: Tensor,
    /// `[N, K]`, with their graph.
    pub logits: Tensor,
    pooling: Pooling,
}

impl Watched {
    /// The stage's output, and the gradient with respect to it of each image's logit of its class:
    /// float32 `[N, C, h, w]` each. `classes` is int64 `[N]`. The graph is used up.
    pub fn gradient(self, classes: &Tensor) -> Result<[Tensor; 2]> {
        // In inference mode no image's logits depend on another image: one backward pass is enough.
        let sum =
            tch::with_grad(|| self.logits.f_gather(1, &classes.f_unsqueeze(1)?, false)?.f_sum(Kind::Float))?;
        // libtorch's own function would follow a pointer to nothing.
        if !sum.requires_grad() {
            return Err(Error::run("no class depends on the stage"));
        }
        let gradients = Tensor::f_run_backward(&[&sum], &[&self.leaf], false, false)
            .map_err(Error::torch("compute the gradient of a class"))?;
        let gradient = gradients.first().filter(|gradient| gradient.defined());
        let gradient = gradient.ok_or_else(|| Error::run("no class depends on the stage"))?;
        let places = |xs: &Tensor| -> Result<Tensor> {
            let places = self.pooling.places(&xs.f_detach()?)?;
            let places = places.ok_or_else(|| Error::run("the stage's output has no places"))?;
            Ok(places.f_to_kind(Kind::Float)?)
        };
        Ok([places(&self.leaf)?, places(gradient)?])
    }
}

impl Pooling {
    /// A stage's output as images `[N, C, h, w]`, if it has places: a transformer's patches, without
    /// the class token, or the positions of a feature map.
    fn places(self, xs: &Tensor) -> Result<Option<Tensor>> {
        Ok(match (self, xs.dim()) {
            (Pooling::Spatial, 4) => Some(xs.shallow_clone()),
            (Pooling::ChannelsLast, 4) => Some(xs.f_permute([0, 3, 1, 2])?),
            (Pooling::ClassToken, 3) => {
                let patches = xs.size()[1] - 1;
                let side = (patches as f64).sqrt().round() as i64;
                let patches = xs.f_narrow(1, 1, patches)?.f_transpose(1, 2)?;
                Some(patches.f_unflatten(2, [side, side])?)
            }
            _ => None,
        })
    }
}

impl Network {
    /// The index of the stage at which heat maps are made: the last one of `name`, or the last one
    /// whose output has places that count for the head. `side` is that of the images, one of which
    /// goes through the network.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown stage, and for one whose output has no such places.
    pub fn map_stage(&self, name: Option<&str>, side: u32) -> Result<usize> {
        let named = name.map(|name| Ok::<_, Error>(self.stages_named(name)?.end - 1)).transpose()?;
        let last = self.last_with_places(side)?;
        let stage = |index: usize| &self.stages[index].name;
        let Some(last) = last else {
            return Err(Error::usage(format!(
                "no stage of {} has places for a heat map: it looks at the whole image at once",
                self.architecture.name
            )));
        };
        match named {
            Some(named) if named > last => Err(Error::usage(format!(
                "no heat map can be made behind the stage `{}` of {}, {}: the last stage with places is `{}`",
                stage(named),
                self.architecture.name,
                match self.pooling {
                    Pooling::ClassToken => "since the class token alone is read there",
                    _ => "which looks at the whole image at once",
                },
                stage(last)
            ))),
            named => Ok(named.unwrap_or(last)),
        }
    }

    fn last_with_places(&self, side: u32) -> Result<Option<usize>> {
        let side = i64::from(side);
        let black = Tensor::f_zeros([1, 3, side, side], (Kind::Float, self.device))?;
        let mut last = None;
        let mut values = black;
        for index in 0..self.stages.len() {
            values = self.stage(index, &values)?;
            // Behind the last attention no patch reaches the class token any more.
            let counts = self.pooling != Pooling::ClassToken || index + 1 < self.stages.len();
            if counts && self.pooling.places(&values)?.is_some() {
                last = Some(index);
            }
        }
        Ok(last)
    }

    /// Runs images `[N, 3, H, W]` in inference mode, with gradients from the output of this stage
    /// on.
    pub fn watch(&self, images: &Tensor, stage: usize) -> Result<Watched> {
        let before =
            |index: usize, xs: &Tensor| tch::no_grad(|| self.run(index..index + 1, xs, Mode::INFERENCE));
        let mut values = tch::no_grad(|| self.transformed(images))?;
        let (mut leaf, mut vectors) = (None, Vec::new());
        for index in 0..self.stages.len() {
            values = match index <= stage {
                true => before(index, &values)?,
                false => tch::with_grad(|| self.run(index..index + 1, &values, Mode::INFERENCE))?,
            };
            if index == stage {
                values = values.f_detach()?.f_set_requires_grad(true)?;
                leaf = Some(values.shallow_clone());
            }
            if self.head.reads.contains(&Tap::Stage(index)) {
                vectors.push(tch::with_grad(|| self.pooling.pool(&values))?);
            }
        }
        let leaf = leaf.ok_or_else(|| Error::run("the network has no such stage"))?;
        let logits = tch::with_grad(|| self.watched_head(&values, vectors))?;
        Ok(Watched { leaf, logits, pooling: self.pooling })
    }

    /// The logits for the last stage's output and the vectors of the stages that the head reads.
    fn watched_head(&self, last: &Tensor, mut vectors: Vec<Tensor>) -> Result<Tensor> {
        if self.head.reads.is_empty() {
            return self.head.read(last, Tap::Logits, Mode::INFERENCE);
        }
        for &tap in self.head.reads.iter().filter(|tap| !matches!(tap, Tap::Stage(_))) {
            vectors.push(self.head.read(last, tap, Mode::INFERENCE)?);
        }
        self.classify(&vectors, Mode::INFERENCE)
    }
}
