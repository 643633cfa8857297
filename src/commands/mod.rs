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

/// A network ready for inference, with what it needs to read images.
struct Classifier {
    network: Network,
    classes: Vec<String>,
    preprocessing: Preprocessing,
    inputs: Vec<Input>,
    threads: usize,
}

impl Classifier {
    /// Opens what `extract` and `predict` share. `check` looks at a network without values, so that a wrong
    /// stage is said before anything is downloaded.
    fn open(
        model: &cli::Model,
        images: &cli::Images,
        common: &Common,
        terminal: Terminal,
        signals: &Signals,
        check: impl FnOnce(&Network, &Source) -> Result<()>,
    ) -> Result<Self> {
        let source = Source::resolve(&model.model, model.weights.as_deref(), Path::to_path_buf)
            .map_err(Error::usage)?;
        let architecture = source.architecture;
        check(&Network::new(architecture, 2, tch::Device::Cpu, Fill::Shapes)?, &source)?;
        let tagged = match &model.preprocess {
            None => None,
            Some(tag) => Some(preprocessing_by_tag(architecture, tag).map_err(Error::usage)?),
        };
        let Listing { inputs, notes } = dataset::list_images(&images.paths)?;
        notes.iter().for_each(|note| terminal.say(format!("note: {note}")));
        let device = device::choose(common.device.unwrap_or(DeviceChoice::Auto))?;
        let threads = common.threads.unwrap_or_else(device::default_threads);
        device::set_threads(threads);
        if matches!(source.weights, Weights::None) {
            terminal
                .say("note: `--weights none`: the network has random values, and its answers mean nothing");
        }
        let opened = source.open(&terminal.downloads(signals))?;
        opened.warnings().iter().for_each(|warning| terminal.say(format!("warning: {warning}")));
        let preprocessing = tagged.unwrap_or_else(|| opened.preprocessing.clone());
        fits(architecture, &preprocessing).map_err(Error::run)?;
        if let Some(note) = opened.note(preprocessing.crop_size) {
            terminal.say(format!("note: {note}"));
        }
        let (network, classes) = opened.into_classifier(preprocessing.crop_size, device, 0)?;
        Ok(Classifier { network, classes, preprocessing, inputs, threads })
    }
}
