//! The commands, a file each. Only they, [`report`](crate::report) and `main.rs` print.

mod extract;
mod finetune;
mod inspect;
mod models;
mod plan;
mod predict;
mod terminal;

use std::path::Path;

use self::terminal::Terminal;
use crate::cli::{self, Cli, Command, Common};
use crate::dataset::{self, Input, Listing};
use crate::device;
use crate::error::{Error, Result};
use crate::models::{Fill, Network};
use crate::plan::fits;
use crate::preprocess::Preprocessing;
use crate::recipe::DeviceChoice;
use crate::signal::Signals;
use crate::weights::source::{Source, Weights, preprocessing_by_tag};

/// How a command that did not fail has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done.
    Done,
    /// The output is complete, but some inputs could not be read.
    SomeFailed,
}

/// Runs the command that was asked for.
pub fn run(cli: &Cli) -> Result<Outcome> {
    device::set_threads(cli.common.threads.unwrap_or_else(device::default_threads));
    match &cli.command {
        Command::Finetune(args) => finetune::run(args, &cli.common),
        Command::Plan(args) => plan::run(args, &cli.common),
        Command::Extract(args) => extract::run(args, &cli.common),
        Command::Predict(args) => predict::run(args, &cli.common),
        Command::Models(args) => models::run(args),
        Command::Inspect(args) => inspect::run(args),
    }
}

/// A model that was asked for, found but not yet opened.
struct Named<'a> {
    /// As typed.
    name: &'a str,
    source: Source,
    /// `--preprocess`
    tagged: Option<Preprocessing>,
}

/// The images of a command, and where they are computed on.
struct Work {
    inputs: Vec<Input>,
    device: tch::Device,
    threads: usize,
}

/// A network ready for inference, with what it needs to read images.
struct Classifier {
    network: Network,
    classes: Vec<String>,
    preprocessing: Preprocessing,
}

impl<'a> Named<'a> {
    /// Finds a model. `check` looks at a network without values, so that a wrong stage is said before
    /// anything is downloaded.
    fn find(
        name: &'a str,
        weights: &cli::Weights,
        check: impl FnOnce(&Network, &Source) -> Result<()>,
    ) -> Result<Self> {
        let source =
            Source::resolve(name, weights.weights.as_deref(), Path::to_path_buf).map_err(Error::usage)?;
        let architecture = source.architecture;
        check(&Network::new(architecture, 2, tch::Device::Cpu, Fill::Shapes)?, &source)?;
        let tagged = match &weights.preprocess {
            None => None,
            Some(tag) => Some(preprocessing_by_tag(architecture, tag).map_err(Error::usage)?),
        };
        Ok(Named { name, source, tagged })
    }

    /// How it prepares images, if that is known without opening a file.
    fn preprocessing(&self) -> Option<&Preprocessing> {
        match (&self.tagged, &self.source.weights) {
            (Some(tagged), _) => Some(tagged),
            (None, Weights::Entry(entry)) => Some(&entry.preprocessing),
            _ => None,
        }
    }

    /// Reads its weights, downloading them first where it has to.
    fn open(&self, work: &Work, terminal: Terminal, signals: &Signals) -> Result<Classifier> {
        if matches!(self.source.weights, Weights::None) {
            terminal
                .say("note: `--weights none`: the network has random values, and its answers mean nothing");
        }
        let opened = self.source.open(&terminal.downloads(signals))?;
        opened.warnings().iter().for_each(|warning| terminal.say(format!("warning: {warning}")));
        let preprocessing = self.tagged.clone().unwrap_or_else(|| opened.preprocessing.clone());
        fits(self.source.architecture, &preprocessing).map_err(Error::run)?;
        if let Some(note) = opened.note(preprocessing.crop_size) {
            terminal.say(format!("note: {note}"));
        }
        let (network, classes) = opened.into_classifier(preprocessing.crop_size, work.device, 0)?;
        Ok(Classifier { network, classes, preprocessing })
    }
}

impl Work {
    /// Lists the images and finds the device.
    fn find(images: &cli::Images, common: &Common, terminal: Terminal) -> Result<Self> {
        let Listing { inputs, notes } = dataset::list_images(&images.paths)?;
        notes.iter().for_each(|note| terminal.say(format!("note: {note}")));
        let choice = common.device.unwrap_or(DeviceChoice::Auto);
        let device = device::choose(choice)?;
        let notes = device::fallen_back(choice).into_iter().chain(images.precision.note(device));
        notes.for_each(|note| terminal.say(format!("note: {note}")));
        let threads = common.threads.unwrap_or_else(device::default_threads);
        device::set_threads(threads);
        Ok(Work { inputs, device, threads })
    }
}
