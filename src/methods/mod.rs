//! Methods of training a model: heads on the features of a frozen network, fine-tuning, a contest
//! of the two, and a race of several methods.
//!
//! Nothing here prints, and nothing is chosen by the test images: events go to an [`MethodObserver`],
//! results are returned.

mod chosen;
pub mod contest;
mod fine_tuning;
mod heads;
mod known;
pub mod pair;
pub mod race;

use std::collections::BTreeMap;
use std::time::Instant;

use tch::Device;

pub use self::chosen::Chosen;
pub use self::known::Known;

use crate::error::{Error, Result};
use crate::models::{Fill, Network};
use crate::plan::PLAN_FILE;
use crate::plan::{Candidate, Data, Plan, Training};
use crate::report::{HeadsReport, LinearReport, StageRow};
use crate::run::folder::RunFolder;
use crate::run::history::{EpochRow, LinearHead};
use crate::stats::metrics::Evaluation;
use crate::trainer::{self, ForwardCount, StoppedEarly};
use crate::util::signal::Signals;
use crate::weights::card::{Card, FORMAT};
use crate::weights::source::Opened;

/// Observer of methods at work.
pub trait MethodObserver {
    /// Shows a line to the user.
    fn say(&self, line: &str);
    /// Work on `total` images, or other things of a kind.
    fn counting(&self, what: &str, total: usize) -> Box<dyn Counting>;
    /// A training of `epochs` epochs.
    fn training(&self, epochs: usize) -> Box<dyn trainer::Observer>;
    /// A training of `epochs` epochs that is a part of something larger.
    fn part(&self, what: String, epochs: usize) -> Box<dyn trainer::Observer>;
}

/// Progress of some work; dropped when it is done.
pub trait Counting {
    /// This many of the total are done.
    fn at(&self, done: usize);
}

/// Inputs of every method.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The plan of the run.
    pub plan: &'a Plan,
    /// The source's values; none are needed for `scratch`.
    pub opened: Option<&'a Opened>,
    /// The folder of checkpoints and models.
    pub folder: &'a RunFolder,
    /// Checked between two steps.
    pub signals: &'a Signals,
    /// Receives events.
    pub observer: &'a dyn MethodObserver,
    /// The device of the network.
    pub device: Device,
    /// Whether to resume from the folder's contents.
    pub resume: bool,
}

/// Result of a method.
pub struct TrainedModel {
    /// The network with the values of the kept model, which is in the folder too.
    pub network: Network,
    /// Its history.
    pub outcomes: Outcomes,
    /// What it finds in images, if that was read for its training.
    pub known: Option<Known>,
}

/// How a method reached its model.
#[derive(Default)]
pub struct Outcomes {
    /// A row for each epoch; a single one for a head.
    pub epochs: Vec<EpochRow>,
    /// The kept epoch, and why.
    pub best: trainer::KeptEpoch,
    /// The kept model on the validation images.
    pub val: Evaluation,
    /// The kept model on the test images, if the plan has any.
    pub test: Option<Evaluation>,
    /// The fit of a head.
    pub linear: Option<LinearReport>,
    /// The mean of several heads.
    pub heads: Option<HeadsReport>,
    /// Accuracy of the fitted head on held-out training images.
    pub held_out: Option<f64>,
    /// Number of training images that the heads were compared on.
    pub compared_on: usize,
    /// A row for each fitted head.
    pub stages: Vec<StageRow>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// The initial head of fine-tuning, if it was fitted.
    pub linear_head: Option<LinearHead>,
    /// Whether a training ended before its last epoch.
    pub stopped_early: Option<StoppedEarly>,
    /// How often images went through the network.
    pub passes: Vec<ForwardCount>,
}

/// Seconds by phase.
#[derive(Default)]
pub struct Seconds(pub BTreeMap<&'static str, f64>);

impl Seconds {
    /// Does `work`, and adds its duration to `phase`.
    pub fn of<T>(&mut self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        *self.0.entry(phase).or_default() += started.elapsed().as_secs_f64();
        result
    }
}

impl Context<'_> {
    /// The initial network of `candidate`: its first values, its head and its frozen stages.
    pub fn network(&self, candidate: &Candidate) -> Result<Network> {
        let Plan { settings, source, data: Data { classes, .. }, .. } = self.plan;
        let (classes, seed, device) = (classes.len(), settings.seed, self.device);
        let side = settings.preprocessing.crop_size;
        let opened = self.opened.filter(|_| !candidate.method.is_from_random());
        let mut network = match opened {
            None => {
                Network::sized(source.architecture, classes, side.into(), device, Fill::Initial { seed })?
            }
            Some(opened) => opened.with_new_head(classes, side, device, seed)?,
        };
        let takes = candidate.train().is_some_and(|train| train.source_head.is_some());
        if let Some(opened) = opened.filter(|_| takes) {
            opened.load_head_rows(&network, &self.plan.data.classes)?;
        }
        network.freeze(candidate.frozen_stages.len())?;
        if candidate.train().is_some_and(|train| train.aux_weight.is_some()) {
            network.add_auxiliaries(Fill::Initial { seed })?;
            if let Some(opened) = opened {
                opened.load_auxiliaries(&network)?;
            }
        }
        Ok(network)
    }

    /// Metadata of the model file.
    pub fn card(&self, network: &Network) -> Card {
        let Plan { settings, data, recipe, .. } = self.plan;
        Card {
            architecture: settings.model.clone(),
            partner: None,
            classes: data.classes.clone(),
            format: FORMAT,
            learnt_from: data.learnt_from.clone(),
            decode: settings.data.decode,
            preprocessing: settings.preprocessing.clone(),
            reads: network.head_reading_names(),
            recipe: recipe.to_json(),
            temperature: None,
            transform_input: network.transform_input(),
            unknown: None,
        }
    }

    /// Trains `candidate` from `network`, as made by [`Context::network`].
    pub fn train(
        &self,
        candidate: &Candidate,
        network: Network,
        seconds: &mut Seconds,
    ) -> Result<TrainedModel> {
        let before = network.frozen_hash()?;
        let trained = match &candidate.training {
            Training::Heads { linear } => self.fit_heads(linear, network, seconds)?,
            Training::Gradient { train, augment } => {
                fine_tuning::fine_tune(self, train, augment, network, seconds)?
            }
            Training::Race { .. } => return Err(Error::run("a race trains what has won it")),
        };
        // A head on several stages has shortened the chain, and has checked this before.
        if trained.network.head_taps().is_empty() {
            self.verify_frozen(&trained.network, &before)?;
        }
        Ok(trained)
    }

    /// Checks that no frozen weight or running statistic has changed since their hash was `before`.
    fn verify_frozen(&self, network: &Network, before: &str) -> Result<()> {
        let after = network.frozen_hash()?;
        match after == before {
            true => Ok(()),
            // About the plan's file, because resuming cannot mend it.
            false => Err(Error::file(
                self.folder.path().join(PLAN_FILE),
                format!(
                    "a frozen weight or running statistic has moved (sha256 {before} became {after}): this is a fault of tl, \
                     please report it with this file"
                ),
            )),
        }
    }
}
