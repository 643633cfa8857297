//! Several taps of the chain: features of different stages, and a head that reads them (`method:
//! stages`).
//!
//! For very little data and a very different source: the last stage is too specific to the source's
//! classes, and useful features may be in the middle of the network (Donahue et al., "DeCAF", ICML
//! 2014; Razavian et al., CVPRW 2014).

use tch::Tensor;

use super::head::Classifier;
use super::layers::{LinearInit, Mode, linear};
use super::network::{Activations, Network, Tap};
use super::vars::{Fill, Init, Vars};
use crate::error::{Error, Result};

/// State-dict path of a head on several stages, beside torchvision's keys.
pub const STAGES_HEAD: &str = "tl_head";

/// Stages that [`Network::candidates`] names at most, without `features`.
const CANDIDATES: usize = 6;
/// A chain with fewer groups is cut between its stages.
const FEW_GROUPS: usize = 4;

impl Network {
    /// Replaces the head by a linear layer of `classes` outputs at `tl_head`, on the concatenated
    /// vectors of `taps`, `width` numbers together. `taps` are in the chain's order, with
    /// [`Tap::Features`] last. Stages behind the last tap are removed, with their variables.
    pub fn read_stages(&mut self, taps: &[Tap], width: usize, classes: usize, fill: Fill) -> Result<()> {
        self.read_stages_over(taps, width, classes, Vars::new(self.device, fill))?;
        self.freeze(self.frozen)
    }

    /// The same with the head's variables among `vars`, and without checking what is frozen.
    pub(super) fn read_stages_over(
        &mut self,
        taps: &[Tap],
        width: usize,
        classes: usize,
        vars: Vars,
    ) -> Result<()> {
        let place = |tap: &Tap| match *tap {
            Tap::Stage(index) => index,
            _ => usize::MAX,
        };
        if !taps.is_sorted_by(|a, b| place(a) < place(b)) {
            return Err(Error::run("a head on stages has to read them once, in the chain's order"));
        }
        let end = match taps.last() {
            Some(&Tap::Stage(last)) if last < self.stages.len() => {
                self.stages.truncate(last + 1);
                self.stages[last].vars.end
            }
            Some(Tap::Features) => self.head.vars.start,
            _ => return Err(Error::run("a head on stages has to read one at least, and no logits")),
        };
        self.vars.truncate(end);
        let init = LinearInit::weights(Init::Constant(0.));
        let linear = linear(&(vars.root() / STAGES_HEAD), width as i64, classes as i64, init)?;
        self.vars.extend(vars.into_inner());
        self.head.key = STAGES_HEAD;
        self.head.classifier = Classifier::Linear(linear);
        self.head.vars = end..self.vars.len();
        self.head.reads = taps.to_vec();
        Ok(())
    }

    /// The taps of the head, if it reads several stages.
    pub fn head_taps(&self) -> &[Tap] {
        &self.head.reads
    }

    /// Their names.
    pub fn head_reading_names(&self) -> Vec<String> {
        self.head.reads.iter().map(|&tap| self.tap_name(tap).to_string()).collect()
    }

    /// The name of a tap, as `--stage` takes it.
    pub fn tap_name(&self, tap: Tap) -> &str {
        match tap {
            Tap::Stage(index) => &self.stages[index].name,
            Tap::Features => super::FEATURES,
            Tap::Peaks => "peaks",
            Tap::Logits => super::LOGITS,
        }
    }

    /// Taps worth comparing: the ends of the groups of stages, six at most and evenly spaced, and
    /// `features`. A chain with hardly any groups, such as a transformer's, is cut between its
    /// stages instead.
    pub fn candidates(&self) -> Vec<Tap> {
        if !self.head.reads.is_empty() {
            return self.head.reads.clone();
        }
        let group = |index: usize| self.stages[index].name.split('.').next().unwrap_or_default();
        let count = self.stages.len();
        // Without the last stage: pooled, it equals the features, but for a normalisation in some
        // networks.
        let inner = 0..count.saturating_sub(1);
        let mut ends: Vec<usize> = inner.clone().filter(|&index| group(index) != group(index + 1)).collect();
        if ends.len() + 1 < FEW_GROUPS {
            ends = inner.collect();
        }
        let picked = ends.len().min(CANDIDATES);
        let stages = (1..=picked).map(|nth| ends[nth * ends.len() / picked - 1]);
        stages.map(Tap::Stage).chain([Tap::Features]).collect()
    }

    /// The vectors `[N, D]` at each of `taps`, in the chain's order, for images `[N, 3, H, W]`, in
    /// inference mode and without gradients. Each stage runs once, and those behind the last tap
    /// not at all.
    pub fn read_all(&self, images: &Tensor, taps: &[Tap]) -> Result<Vec<Tensor>> {
        tch::no_grad(|| match taps {
            [tap] => Ok(vec![self.read_from(&self.enter(images)?, *tap)?]),
            _ => self.collect(&self.enter(images)?, taps, self.stages.len(), Mode::INFERENCE),
        })
    }

    /// The vectors at [`Tap::Features`] and [`Tap::Logits`], as [`Network::read`], in one pass.
    pub fn read_both(&self, images: &Tensor) -> Result<[Tensor; 2]> {
        tch::no_grad(|| {
            let (xs, all) = (self.enter(images)?, self.stages.len());
            if self.head.reads.is_empty() {
                let last = self.run(xs.stages..all, &xs.values, Mode::INFERENCE)?;
                return self.head.read_both(&last, Mode::INFERENCE);
            }
            let features = join(&self.collect(&xs, &self.head.reads, all, Mode::INFERENCE)?)?;
            let logits = self.head.classifier.forward(&features, Mode::INFERENCE)?;
            Ok([features, logits])
        })
    }

    /// The vectors at one tap, from the output of the first stages.
    pub(super) fn read_from(&self, xs: &Activations, tap: Tap) -> Result<Tensor> {
        tch::no_grad(|| {
            let all = self.stages.len();
            match (self.head.reads.is_empty(), tap) {
                // The features of a head on several stages are those stages'.
                (false, Tap::Features) => join(&self.collect(xs, &self.head.reads, all, Mode::INFERENCE)?),
                (false, Tap::Logits) => Ok(self.forward_from(xs, all, Mode::INFERENCE)?.0),
                _ => {
                    let mut vectors = self.collect(xs, &[tap], all, Mode::INFERENCE)?;
                    vectors.pop().ok_or_else(|| Error::run("nothing was read"))
                }
            }
        })
    }

    /// The vectors at the `taps` behind `xs`, in the chain's order: the first `held` stages without
    /// gradients and in inference mode (never fewer than are frozen), the rest in `mode`.
    pub(super) fn collect(
        &self,
        xs: &Activations,
        taps: &[Tap],
        held: usize,
        mode: Mode,
    ) -> Result<Vec<Tensor>> {
        let end = match taps.last() {
            Some(&Tap::Stage(index)) => index + 1,
            _ => self.stages.len(),
        };
        let held = held.max(self.frozen);
        let mut vectors = Vec::with_capacity(taps.len());
        let mut values = xs.values.shallow_clone();
        for index in xs.stages..end {
            values = match index < held {
                true => tch::no_grad(|| self.run(index..index + 1, &values, Mode::INFERENCE))?,
                false => self.run(index..index + 1, &values, mode)?,
            };
            if taps.contains(&Tap::Stage(index)) {
                vectors.push(self.pooling.pool(&values)?);
            }
        }
        for &tap in taps.iter().filter(|tap| !matches!(tap, Tap::Stage(_))) {
            vectors.push(self.head.read(&values, tap, mode)?);
        }
        Ok(vectors)
    }

    /// The logits of a head on several stages, from its vectors.
    pub(super) fn classify(&self, vectors: &[Tensor], mode: Mode) -> Result<Tensor> {
        self.head.classifier.forward(&join(vectors)?, mode)
    }
}

fn join(vectors: &[Tensor]) -> Result<Tensor> {
    Tensor::f_cat(vectors, 1).map_err(Error::torch("join the features of stages"))
}
