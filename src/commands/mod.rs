//! The commands, a file each. Only they, [`report`](crate::report) and `main.rs` print.

mod args;
mod named;
mod page;
mod stream;
mod terminal;
mod work;

use std::path::Path;

use clap::{Parser, Subcommand};

use self::args::Common;
use self::terminal::{Terminal, warn};
use crate::data::Input;
use crate::device;
use crate::error::{Error, Result};
use crate::inference::as_they_are;
use crate::output::OutputProgress;
use crate::preprocess::{Brightness, DecodeLimits, Preprocessing};
use crate::text::words::counted;

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
    /// See what it does, on images that it brings
    Demo(demo)
    /// Write a recipe for a folder of images
    Init(init)
    /// Learn the classes of a folder of images, as a recipe says
    Finetune(finetune)
    /// Show a run under way
    Watch(watch)
    /// Show what `finetune` would do, with every default resolved
    Plan(plan)
    /// Write the features that a network computes of images
    Extract(extract)
    /// Classify images
    Predict(predict)
    /// Measure models on labelled images
    Eval(eval)
    /// Show which parts of images speak for a class
    Explain(explain)
    /// List the networks
    Models(models)
    /// Show a network layer by layer: shapes, parameters, multiply-adds
    Inspect(inspect)
    /// Show what was found on this machine: libtorch, CUDA, cores, memory, folders
    Doctor(doctor)
    /// Write the completions of a shell, or the man pages
    Completions(completions)
}

/// Transfer learning for image classification: a folder of images in, a classifier you can trust out.
#[derive(Debug, Parser)]
#[command(name = "tl", version, about, max_term_width = 100)]
#[command(after_help = "Start with: tl demo, or tl init FOLDER, which writes a recipe for your images\n\
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

/// What `tl` says if nothing is asked of it.
pub const START: &str = "\
tl: a folder of images in, a classifier you can trust out
  tl demo                             see what it does, on images that it brings
  tl init photos                      look at your photos, write the recipe photos.yaml
  tl finetune photos.yaml             train, measure, write runs/photos
  tl predict --model runs/photos new  name what is in the images of new
Usage: tl COMMAND [OPTIONS]; tl --help lists all commands, tl COMMAND --help explains one
";

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
        Command::Finetune(_) | Command::Demo(_) => true,
        Command::Predict(args) => !args.views.is_one() || as_they_are(),
        Command::Eval(args) => !args.views.is_one() || as_they_are(),
        _ => as_they_are(),
    }
}

/// Whether the command trains by gradient steps, which free and take the same memory all the time.
pub fn trains(cli: &Cli) -> bool {
    matches!(cli.command, Command::Finetune(_))
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
