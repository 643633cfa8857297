//! `tl explain`: where an image speaks for its class.

mod pictures;

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use self::pictures::{Picture, Pictures, shown};
use super::args::{Common, ImageArgs, WeightArgs};
use super::named::{Classifier, Named, limits};
use super::stream::{self, Sink};
use super::terminal::Terminal;
use super::work::Work;
use super::{Outcome, ended, not_finite, say_if_too_dark};
use crate::data::Input;
use crate::data::loader::Batching;
use crate::device::back_off::BackOff;
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::inference::explain::{Explaining, Explanation, Method};
use crate::models::{Folding, Network};
use crate::preprocess::DecodeLimits;
use crate::text::path_text::{path_text, typed};
use crate::text::suggest;
use crate::text::words::{counted, first_few, shown as shown_text};
use crate::util::signal::Signals;
use crate::weights::source::Source;

/// The command line.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "A map says which parts of an image raise the logit of the class, as this network sees it; it does \
                  not say why. The methods are those of Selvaraju et al. 2017 (Grad-CAM) and Jiang et al. 2021 \
                  (LayerCAM)."
)]
pub struct Args {
    /// A name that `tl models` lists, a run folder, or a model file that `tl` wrote
    pub model: String,
    /// Its weights
    #[command(flatten)]
    pub weights: WeightArgs,
    /// The images
    #[command(flatten)]
    pub images: ImageArgs,
    /// gradcam: a weight for each channel; layercam: for each channel and place, sharper at early stages
    #[arg(long, value_name = "gradcam|layercam", default_value = "gradcam", value_parser = method)]
    pub method: Method,
    /// The stage whose output is looked at [default: the last one that has places]
    #[arg(long, value_name = "NAME")]
    pub stage: Option<String>,
    /// The class to explain [default: for each image the most likely one]
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// The folder of the pictures, the maps and `index.csv`
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

fn method(text: &str) -> Result<Method, &'static str> {
    text.parse()
}

/// Writes a picture and a map of each readable image, and a table of all.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    outside(&args.out, &args.images.paths)?;
    let check = |network: &Network, source: &Source| {
        args.stage.as_ref().map_or(Ok(()), |stage| network.stages_named(stage).map(drop))?;
        match source.features_only() {
            true => Err(Error::usage(source.features_only_refusal())),
            false => Ok(()),
        }
    };
    let named = Named::find(&args.model, &args.weights, check)?;
    let work = Work::find(&args.images, common, terminal)?;
    let index = work.out(&args.out.join("index.csv"), |_| Vec::new())?;
    let classifier = named.open(work.device, terminal, &signals, false)?;
    let Classifier { network, classes, preprocessing, .. } = &classifier;
    let class = args.class.as_ref().map(|name| class_named(classes, name)).transpose()?;
    let stage = network.map_stage(args.stage.as_deref(), preprocessing.crop_size)?;
    let limits = limits(&args.images.read, std::slice::from_ref(&classifier));
    let (batch_size, threads) = (args.images.read.batch_size, work.threads);
    let parts = BackOff::new(network.device());
    let bar = terminal.images("explaining", 0);
    let pictures = Pictures::begin(&args.out, &index, classes)?;
    let mut explaining = Explainer {
        network,
        explaining: Explaining {
            stage,
            method: args.method,
            class,
            temperature: classifier.temperature,
            precision: args.images.read.precision,
            parts: &parts,
        },
        batching: Batching { preprocessing, batch_size, join_single: false, threads },
        limits,
        inference: None,
        terminal,
        bar: bar.clone(),
    };
    let each = |inputs: &[Input], sink: &Sink<_>| explaining.chunk(inputs, sink);
    let progress = stream::run(work.images, pictures, batch_size, &signals, bar, each)?;
    terminal.say(format!(
        "{} of {} in {}: {} at `{}` of {}",
        counted((progress.images - progress.failures) as usize, "heat map", "heat maps"),
        counted(progress.images as usize, "image", "images"),
        path_text(&args.out),
        args.method.name(),
        network.stage_names().nth(stage).unwrap_or_default(),
        network.architecture.name,
    ));
    Ok(ended(&progress, &format!("`error` in {}", path_text(&index))))
}

/// Refuses a folder for the pictures in which images are looked for: the next call would explain
/// the pictures too, and this one perhaps.
fn outside(out: &Path, paths: &[PathBuf]) -> Result<()> {
    if out.exists() && !out.is_dir() {
        return Err(Error::usage(format!("{} is a file: `--out` names a folder", path_text(out))));
    }
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    // The part of `out` that exists, links followed.
    let full = whole(out);
    let place = full.ancestors().find_map(|folder| folder.canonicalize().ok());
    let inside = |path: &&PathBuf| {
        let path = typed(path);
        path.is_dir()
            && path.canonicalize().is_ok_and(|path| place.as_ref().is_some_and(|out| out.starts_with(path)))
    };
    match paths.iter().find(inside) {
        None => Ok(()),
        Some(path) => Err(Error::usage(format!(
            "the pictures in {} would be among the images of the PATH {}: choose a folder outside it for `--out`",
            path_text(out),
            path_text(path)
        ))),
    }
}

/// The index of the class of this name.
fn class_named(classes: &[String], name: &str) -> Result<usize> {
    if let Some(index) = classes.iter().position(|class| class == name) {
        return Ok(index);
    }
    let name = shown_text(name);
    let nearest = suggest::nearest_few(&name, classes.iter().map(String::as_str), 3);
    Err(Error::usage(match nearest.is_empty() {
        true => format!("the model has no class named `{name}`: it has {}", first_few(classes)),
        false => {
            format!("the model has no class named `{name}`; the nearest are {}", suggest::quoted(&nearest))
        }
    }))
}

/// Explains a chunk of images.
struct Explainer<'a> {
    network: &'a Network,
    explaining: Explaining<'a>,
    batching: Batching<'a>,
    limits: DecodeLimits,
    /// Made at the first chunk, when the number of images is known.
    inference: Option<Inference<'a>>,
    terminal: Terminal,
    bar: ProgressBar,
}

impl Explainer<'_> {
    fn chunk(&mut self, inputs: &[Input], sink: &Sink<Pictures>) -> Result<()> {
        let Explainer { network, explaining, limits, terminal, .. } = *self;
        let (bar, preprocessing) = (&self.bar, self.batching.preprocessing);
        let say = |note| bar.suspend(|| terminal.say(note));
        let inference = match &mut self.inference {
            Some(inference) => inference,
            none => {
                say_if_too_dark(inputs, preprocessing, limits, say);
                let (images, threads) = (sink.images(), self.batching.threads);
                // PyTorch's own operations: all of them have a gradient.
                none.insert(Inference::new(&[network], images, threads, Folding::Plain)?)
            }
        };
        inference.images(
            &self.batching,
            0..inputs.len(),
            |index| preprocessing.read_eval(inputs[index].image()?, limits),
            |network, images, _| {
                let explanations = explaining.run(network, images)?;
                shown(images, preprocessing)?.into_iter().zip(explanations).map(picture).collect()
            },
            |index, error| {
                sink.check()?;
                sink.put(index, Err(error))
            },
            |indices, made: Vec<Option<Picture>>| {
                sink.check()?;
                explaining.parts.note().into_iter().for_each(|note| say(format!("note: {note}")));
                for (&index, made) in indices.iter().zip(made) {
                    sink.put(index, made.ok_or_else(not_finite))?;
                }
                sink.batch_done()
            },
        )
    }
}

/// The picture of an explanation; `None` if its numbers are not finite.
fn picture((image, explanation): (crate::preprocess::RgbImage, Explanation)) -> Result<Option<Picture>> {
    match explanation.confidence.is_finite() && explanation.map.is_finite() {
        true => Picture::of(&image, &explanation).map(Some),
        false => Ok(None),
    }
}
