//! The commands, a file each. Only they, [`report`](crate::report) and `main.rs` print.

mod args;
mod stream;
mod terminal;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use self::args::{Common, ImageArgs};
use self::stream::ImageStream;
use self::terminal::{Terminal, warn};
use crate::data::{Given, Input};
use crate::device;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::inference::as_they_are;
use crate::models::{Fill, Network};
use crate::output::shard::Shard;
use crate::output::{Begun, JobIdentity, OutputProgress, Partial};
use crate::plan::fits;
use crate::preprocess::{Brightness, Crops, Decode, DecodeLimits, Fit, Preprocessing};
use crate::text::path_text::{self, path_text};
use crate::text::words::counted;
use crate::util::same_file::same_file;
use crate::util::signal::Signals;
use crate::weights::Head;
use crate::weights::download::Silent;
use crate::weights::source::{Opened, Source, Weights, preprocessing_by_tag};

/// Declares the commands' files, the subcommands, and which file runs which.
macro_rules! commands {
    ($($(#[$help:meta])* $name:ident($file:ident))*) => {
        $(mod $file;)*

        /// The commands.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $($(#[$help])* $name($file::Args)),*
        }

        impl Command {
            fn run(&self, common: &Common) -> Result<Outcome> {
                match self {
                    $(Command::$name(args) => $file::run(args, common)),*
                }
            }
        }
    };
}

// A new command is its file, with `Args` and `run`, and a line here.
commands! {
    /// Learn the classes of a folder of images, as a recipe says
    Finetune(finetune)
    /// Show what `finetune` would do, with every default resolved
    Plan(plan)
    /// Write the features that a network computes of images
    Extract(extract)
    /// Classify images
    Predict(predict)
    /// List the networks
    Models(models)
    /// Show a network layer by layer: shapes, parameters, multiply-adds
    Inspect(inspect)
    /// Show what was found on this machine: libtorch, CUDA, cores, memory, folders
    Doctor(doctor)
}

/// Transfer learning for image classification: a folder of images in, a classifier you can trust out.
#[derive(Debug, Parser)]
#[command(name = "tl", version, about, max_term_width = 100)]
#[command(after_help = "Start with: tl finetune recipes/quickstart.yaml\n\
                        Exit codes: 0 done; 1 failed, or finished with images that could not be read; \
                        2 the command line or the recipe is wrong; 130 or 143 stopped by a signal.")]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Options of all commands
    #[command(flatten, next_help_heading = "Options of all commands")]
    pub common: Common,
}

/// Result of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done.
    Done,
    /// The output is complete, but some inputs could not be read.
    SomeFailed,
}

/// Whether libtorch's own threads, which spin while they wait for each other, will be used.
/// Commands that only look at images give each core its own images. One or two images take less
/// time than the synchronisation of the cores on a busy machine, unless each is looked at ten
/// times.
pub fn all_cores_on_one_operation(cli: &Cli) -> bool {
    match &cli.command {
        Command::Finetune(_) => true,
        Command::Predict(args) => args.crops != Crops::One || !args.scales.is_empty() || as_they_are(),
        _ => as_they_are(),
    }
}

/// Runs the requested command.
pub fn run(cli: &Cli) -> Result<Outcome> {
    let threads = cli.common.threads.unwrap_or_else(device::default_threads);
    let together = all_cores_on_one_operation(cli) || matches!(cli.command, Command::Doctor(_));
    device::set_threads(if together { threads } else { 1 });
    if let Some(note) = cli.common.threads.and_then(device::too_many_threads) {
        Terminal::new(cli.common.quiet).say(format!("note: {note}"));
    }
    cli.command.run(&cli.common)
}

/// A requested model, found but not yet opened.
struct Named<'a> {
    /// As typed.
    name: &'a str,
    source: Source,
    /// `--preprocess`
    tagged: Option<Preprocessing>,
    /// `--fit`
    fit: Option<Fit>,
    /// `--white-level`
    white_level: Option<u16>,
}

/// The images of a command, and the device.
struct Work {
    images: ImageStream,
    /// As typed.
    paths: Vec<PathBuf>,
    /// `None`: all of them.
    shard: Option<Shard>,
    device: tch::Device,
    threads: usize,
}

/// A network ready for inference, with what it needs to read images.
struct Classifier {
    network: Network,
    classes: Vec<String>,
    preprocessing: Preprocessing,
    /// Size at which JPEGs were decoded in its training.
    decode: Decode,
    /// The sha256 of the weights' file, or `none`.
    weights: String,
    /// The second of two models that were kept together.
    partner: Option<PartnerNetwork>,
}

/// A network that is averaged with another one.
struct PartnerNetwork {
    network: Network,
    /// The sha256 of its file.
    weights: String,
    /// Its weight.
    weight: f64,
}

/// Limits of decoding: as given on the command line, else fast if all of `classifiers` were trained
/// so.
fn limits(images: &ImageArgs, classifiers: &[Classifier]) -> DecodeLimits {
    let fast = classifiers.iter().all(|classifier| classifier.decode == Decode::Fast);
    let trained = if fast { Decode::Fast } else { Decode::Exact };
    DecodeLimits {
        max_pixels: images.max_pixels,
        decode: images.decode.unwrap_or(trained),
        white_level: None,
    }
}

/// How a command over images has ended; a warning names the place of the errors, `see`.
fn ended(progress: &OutputProgress, see: &str) -> Outcome {
    if progress.failures == 0 {
        return Outcome::Done;
    }
    let images = counted(progress.images as usize, "image", "images");
    warn(format!("{} of {images} could not be read: see {see}", progress.failures));
    Outcome::SomeFailed
}

/// The error of an image for which a network gives no numbers.
fn not_finite() -> Error {
    Error::run(
        "the network gives numbers for it that are not finite: check the weights and the preprocessing",
    )
}

/// Prints a note if images of 16 bits a sample use few of them, or more than `preprocessing`
/// expects.
fn say_if_too_dark(
    inputs: &[Input],
    preprocessing: &Preprocessing,
    limits: DecodeLimits,
    say: impl Fn(String),
) {
    let files: Vec<&Path> =
        inputs.iter().filter(|input| input.record.is_none()).map(|input| &*input.path).collect();
    let advice = |white| format!("`--white-level {white}` makes {white} white, if the model was trained so");
    let found = Brightness::of(files.into_iter(), limits);
    if let Some(note) = found.and_then(|found| found.note("image", preprocessing.white_level, advice)) {
        say(format!("note: {note}"));
    }
}

impl<'a> Named<'a> {
    /// Finds a model. `check` examines a network without values, so that a wrong stage is reported
    /// before any download.
    fn find(
        name: &'a str,
        weights: &args::WeightArgs,
        check: impl FnOnce(&Network, &Source) -> Result<()>,
    ) -> Result<Self> {
        let source =
            Source::resolve(name, weights.weights.as_deref(), path_text::typed).map_err(Error::usage)?;
        let architecture = source.architecture;
        check(&Network::new(architecture, 2, tch::Device::Cpu, Fill::Shapes)?, &source)?;
        let tagged = match &weights.preprocess {
            None => None,
            Some(tag) => Some(preprocessing_by_tag(architecture, tag).map_err(Error::usage)?),
        };
        Ok(Named { name, source, tagged, fit: weights.fit, white_level: weights.white_level })
    }

    /// Its preprocessing, if known without opening a file.
    fn preprocessing(&self) -> Option<Preprocessing> {
        match (&self.tagged, &self.source.weights) {
            (Some(_), _) => Some(self.fitted(None)),
            (None, Weights::Entry(entry)) => Some(self.fitted(Some(&entry.preprocessing))),
            _ => None,
        }
    }

    /// The preprocessing of its weights, `own`, with the changes of the command line.
    fn fitted(&self, own: Option<&Preprocessing>) -> Preprocessing {
        let preset = || self.source.architecture.preprocessing();
        let mut named = self.tagged.as_ref().or(own).cloned().unwrap_or_else(preset);
        named.white_level = self.white_level.or(named.white_level);
        self.fit.map_or(named.clone(), |fit| named.with_fit(fit))
    }

    /// Reads its weights, after downloading them if necessary. `both`: with its partner, if two
    /// models are averaged.
    fn open(&self, work: &Work, terminal: Terminal, signals: &Signals, both: bool) -> Result<Classifier> {
        if matches!(self.source.weights, Weights::None) {
            terminal
                .say("note: `--weights none`: the network has random values, and its answers mean nothing");
        }
        let opened = self.source.open(&terminal.downloads(signals))?;
        opened.warnings().iter().for_each(|warning| terminal.say(format!("warning: {warning}")));
        let preprocessing = self.fitted(Some(&opened.preprocessing));
        let trained = opened.card.as_ref().map_or(&preprocessing, |card| &card.preprocessing);
        let different = |key: &str, trained: String, now: String| {
            if trained != now {
                let name = self.name;
                let note =
                    format!("{name} was trained with `{key}: {trained}`, and is shown images with `{now}`");
                terminal.say(format!("note: {note}"));
            }
        };
        different("fit", trained.fit.name().into(), preprocessing.fit.name().into());
        different("white_level", trained.white().to_string(), preprocessing.white().to_string());
        fits(self.source.architecture, &preprocessing).map_err(Error::run)?;
        if let Some(note) = opened.note(preprocessing.crop_size) {
            terminal.say(format!("note: {note}"));
        }
        let decode = opened.card.as_ref().map_or(Decode::Exact, |card| card.decode);
        let weights = opened.file.as_ref().map_or("none".into(), |(_, checkpoint)| checkpoint.sha256.clone());
        if let Some(note) = opened.note_of_two().filter(|_| !both) {
            terminal.say(format!("note: {note}"));
        }
        let partner = if both { self.second(&opened, &preprocessing, work, terminal)? } else { None };
        let (network, classes) = opened.into_classifier(preprocessing.crop_size, work.device, 0)?;
        Ok(Classifier { network, classes, preprocessing, decode, weights, partner })
    }

    /// The partner of this model, if `tl finetune` has kept two.
    fn second(
        &self,
        opened: &Opened,
        preprocessing: &Preprocessing,
        work: &Work,
        terminal: Terminal,
    ) -> Result<Option<PartnerNetwork>> {
        let partner = opened.card.as_ref().and_then(|card| card.partner.as_ref());
        let (Some(partner), Weights::Model(path) | Weights::File(path)) = (partner, &self.source.weights)
        else {
            return Ok(None);
        };
        let file = path.with_file_name(&partner.file);
        if !file.is_file() {
            terminal.say(format!(
                "warning: {} is averaged with {}, which is not in its folder: its answers are its own alone, and not those \
                 that the report measured",
                path_text(path),
                partner.file
            ));
            return Ok(None);
        }
        let second = Source { architecture: self.source.architecture, weights: Weights::Model(file.clone()) };
        let second = second.open(&Silent)?;
        let of_both = opened.card.as_ref().map(|card| &card.classes);
        if second.card.as_ref().map(|card| &card.classes) != of_both {
            let message =
                format!("belongs to another model than {}: its classes are others", path_text(path));
            return Err(Error::file(&file, message));
        }
        second.check(Head::Load, preprocessing.crop_size)?;
        let weights = second.file.as_ref().map_or(String::new(), |(_, checkpoint)| checkpoint.sha256.clone());
        let (network, _) = second.into_classifier(preprocessing.crop_size, work.device, 0)?;
        Ok(Some(PartnerNetwork { network, weights, weight: partner.weight }))
    }
}

impl Classifier {
    /// Adds everything that the network's answers depend on to a [`JobIdentity`].
    fn describe(&self, job: JobIdentity, number: usize) -> JobIdentity {
        let name =
            |what: &str| if number == 0 { what.into() } else { format!("{what} of model {}", number + 1) };
        job.with(&name("model"), self.network.architecture.name)
            .with(&name("weights' sha256"), self.both())
            .with(&name("preprocessing"), serde_json::to_string(&self.preprocessing).unwrap_or_default())
    }
}

impl Classifier {
    /// Identifies its values.
    fn both(&self) -> String {
        match &self.partner {
            None => self.weights.clone(),
            Some(PartnerNetwork { weights, weight, .. }) => {
                format!("{} and {weights}, which counts {weight}", self.weights)
            }
        }
    }
}

impl Work {
    /// Finds the first image and the device.
    fn find(images: &ImageArgs, common: &Common, terminal: Terminal) -> Result<Self> {
        let shard = match &images.shard {
            None => None,
            Some(choice) => {
                let (shard, by) = choice.resolve(variable)?;
                if let Some(by) = by {
                    terminal.say(format!("note: shard {shard}, {by}"));
                }
                Some(shard)
            }
        };
        let (precision, paths) = (images.precision, images.paths.clone());
        let images = ImageStream::open(Given::read(&paths)?, shard.unwrap_or(Shard::WHOLE), terminal)?;
        let choice = common.device.unwrap_or(DeviceChoice::Auto);
        let device = device::choose(choice)?;
        let notes = device::fallen_back(choice).into_iter().chain(precision.note(device));
        notes.for_each(|note| terminal.say(format!("note: {note}")));
        let threads = common.threads.unwrap_or_else(device::default_threads);
        Ok(Work { images, paths, shard, device, threads })
    }

    /// The path of the output.
    ///
    /// # Errors
    /// [`Error::Usage`] if it, or a file beside it, is one of the inputs: a list would be gone.
    fn out(&self, out: &Path, beside: impl Fn(&Path) -> Vec<PathBuf>) -> Result<PathBuf> {
        let out = self.shard.map_or_else(|| out.into(), |shard| shard.path(out));
        let written = beside(&out).into_iter().chain([out.clone()]);
        let written: Vec<PathBuf> = written.collect();
        let is_written =
            |path: &&PathBuf| written.iter().any(|output| same_file(&path_text::typed(path), output));
        match self.paths.iter().find(is_written) {
            None => Ok(out),
            Some(path) => Err(Error::usage(format!(
                "the output would replace the PATH {}: choose another name for `--out`",
                path_text(path)
            ))),
        }
    }

    /// Adds the shard and the lists to a [`JobIdentity`].
    fn describe(&self, job: JobIdentity) -> JobIdentity {
        let job = match self.images.lists() {
            Some(lists) => job.with("list", lists),
            None => job,
        };
        job.with("shard", self.shard.map_or("all".into(), |shard| shard.to_string()))
    }

    /// Prepares an output, and skips the images that it contains; or reports that the output is
    /// complete.
    ///
    /// # Errors
    /// As [`Partial::begin`] and [`ImageStream::pass`].
    fn begin(&mut self, out: &Path, job: &JobIdentity, resume: bool, terminal: Terminal) -> Result<Begun> {
        let partial = match Partial::begin(out, job, resume)? {
            Begun::Complete(progress) => {
                self.images.same_as(&progress, out)?;
                return Ok(Begun::Complete(progress));
            }
            Begun::Partial(partial) => partial,
        };
        self.images.pass(partial.progress(), out)?;
        let done = |images: u64| counted(images as usize, "image", "images");
        let going_on = |images: u64| counted(images as usize, "image that is done", "images that are done");
        if let Some(images) = partial.started_over() {
            let done = done(images);
            terminal.say(format!(
                "note: a run that was stopped had done {done}; started over, as `--resume` would not"
            ));
        }
        if partial.progress().images > 0 {
            terminal.say(format!("going on after {}", going_on(partial.progress().images)));
        }
        Ok(Begun::Partial(partial))
    }
}

/// An environment variable; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}
