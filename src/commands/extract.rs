//! `tl extract`: features of images, computed by a network.

use std::collections::HashMap;
use std::path::PathBuf;

use indicatif::ProgressBar;
use tch::{Device, Kind, Tensor};

use super::args::{Common, ImageArgs, WeightArgs};
use super::named::{Classifier, Named, limits};
use super::stream::{self, Sink};
use super::terminal::Terminal;
use super::work::Work;
use super::{Outcome, ended, not_finite, say_if_too_dark};
use crate::data::Input;
use crate::data::loader::Batching;
use crate::device::back_off::BackOff;
use crate::device::copy::Download;
use crate::device::precision::{Autocast, Precision};
use crate::error::{Error, Result};
use crate::inference::Inference;
use crate::inference::features::append;
use crate::models::{Network, Tap};
use crate::output::{Begun, FeatureFormat, FeatureWriter, JobIdentity, Output, companions, errors_path};
use crate::preprocess::{DecodeLimits, Preprocessing};
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::util::signal::Signals;
use crate::weights::CLASSIFIER;
use crate::weights::source::Source;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A name that `tl models` lists, a run folder, or a model file that `tl` wrote
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Its weights
    #[command(flatten)]
    pub weights: WeightArgs,
    /// The images
    #[command(flatten)]
    pub images: ImageArgs,
    /// Where to read: a stage's name, `features` (the input of the last layer) or `logits`
    #[arg(long, value_name = "NAME", default_value = "features")]
    pub stage: String,
    /// The file to write, in the format of its ending
    #[arg(long, value_name = "FILE", help = format!("The file to write: {}", FeatureFormat::endings()))]
    pub out: PathBuf,
    /// Go on where a run that was stopped left off
    #[arg(long)]
    pub resume: bool,
}

/// Writes a row for each readable image, and lists the others beside the output.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    FeatureFormat::of(&args.out)?;
    let check = |network: &Network, source: &Source| {
        let tap = network.tap(&args.stage)?;
        match source.features_only() && network.reads(tap, CLASSIFIER) {
            true => Err(Error::usage(source.features_only_refusal())),
            false => Ok(()),
        }
    };
    let named = Named::find(&args.model, &args.weights, check)?;
    let mut work = Work::find(&args.images, common, terminal)?;
    let out = work.out(&args.out, companions)?;
    let classifier = named.open(work.device, terminal, &signals, false)?;
    let network = &classifier.network;
    let tap = network.tap(&args.stage)?;
    let length = length(network, tap, &classifier.preprocessing)?;
    let limits = limits(&args.images.read, std::slice::from_ref(&classifier));
    let job = job(args, &work, &classifier, limits);
    let progress = match work.begin(&out, &job, args.resume, terminal)? {
        Begun::Complete(progress) => progress,
        Begun::Partial(partial) => {
            let writer = match tap {
                Tap::Logits => FeatureWriter::open_named(&out, &columns(&classifier.classes), partial)?,
                _ => FeatureWriter::open(&out, length, partial)?,
            };
            let (batch_size, threads) = (args.images.read.batch_size, work.threads);
            let preprocessing = &classifier.preprocessing;
            let batching = Batching { preprocessing, batch_size, join_single: false, threads };
            let bar = terminal.images("extracting", 0);
            let mut extracting = Extracting {
                network,
                tap,
                length,
                batching,
                limits,
                precision: args.images.read.precision,
                back_off: BackOff::new(network.device()),
                inference: None,
                terminal,
                bar: bar.clone(),
            };
            let each = |inputs: &[Input], sink: &Sink<_>| extracting.chunk(inputs, sink);
            let progress = stream::run(work.images, writer, batch_size, &signals, bar, each)?;
            terminal.say(format!(
                "{} of {} (`{}` of {}) in {}",
                counted(progress.rows as usize, "row", "rows"),
                counted(length, "number", "numbers"),
                args.stage,
                network.architecture.name,
                path_text(&out)
            ));
            progress
        }
    };
    Ok(ended(&progress, &path_text(&errors_path(&out))))
}

/// Everything that the rows depend on.
fn job(args: &Args, work: &Work, classifier: &Classifier, limits: DecodeLimits) -> JobIdentity {
    let job = classifier.describe(JobIdentity::new("extract"), 0).with("stage", &args.stage);
    let job = work.describe(job.with("--max-pixels", args.images.read.max_pixels));
    job.with("--decode", format!("{:?}", limits.decode)).with("--precision", args.images.read.precision)
}

/// Numbers in a row.
fn length(network: &Network, tap: Tap, preprocessing: &Preprocessing) -> Result<usize> {
    match tap {
        Tap::Features => Ok(network.feature_length()),
        Tap::Logits => Ok(network.classes()),
        // Found with one black image.
        _ => {
            let side = i64::from(preprocessing.crop_size);
            let black = Tensor::f_zeros([1, 3, side, side], (Kind::Float, Device::Cpu))?;
            Ok(network.read(&black.f_to_device(network.device())?, tap)?.numel())
        }
    }
}

/// Converts a chunk of images to rows.
struct Extracting<'a> {
    network: &'a Network,
    tap: Tap,
    /// Numbers in a row.
    length: usize,
    batching: Batching<'a>,
    limits: DecodeLimits,
    precision: Precision,
    back_off: BackOff,
    /// Made at the first chunk, when the number of images is known.
    inference: Option<Inference<'a>>,
    terminal: Terminal,
    bar: ProgressBar,
}

impl Extracting<'_> {
    fn chunk<O: Output<Row = Vec<f32>>>(&mut self, inputs: &[Input], sink: &Sink<O>) -> Result<()> {
        let Extracting { network, tap, length, limits, precision, terminal, .. } = *self;
        let (back_off, bar, preprocessing) = (&self.back_off, &self.bar, self.batching.preprocessing);
        let say = |note| bar.suspend(|| terminal.say(note));
        let inference = match &mut self.inference {
            Some(inference) => inference,
            none => {
                say_if_too_dark(inputs, preprocessing, limits, say);
                let (images, threads) = (sink.images(), self.batching.threads);
                none.insert(Inference::new(&[network], images, threads, precision.folding())?)
            }
        };
        let mut rows = Vec::new();
        inference.images(
            &self.batching,
            0..inputs.len(),
            |index| preprocessing.read_eval(inputs[index].image()?, limits),
            |network, images, _| {
                let features = back_off.run_one(images, |images| {
                    let _autocast = Autocast::begin(network.device(), precision)?;
                    network.read(images, tap)
                })?;
                Download::begin(&features)
            },
            |index, error| {
                sink.check()?;
                sink.put(index, Err(error))
            },
            |indices, features| {
                sink.check()?;
                back_off.note().into_iter().for_each(|note| say(format!("note: {note}")));
                rows.clear();
                append(&mut rows, &features.wait()?)?;
                for (row, &index) in rows.chunks_exact(length).zip(indices) {
                    let finite = row.iter().all(|value| value.is_finite());
                    sink.put(index, if finite { Ok(row.to_vec()) } else { Err(not_finite()) })?;
                }
                sink.batch_done()
            },
        )
    }
}

/// Names of columns by class. A name that is not unique gets its index appended.
fn columns(classes: &[String]) -> Vec<String> {
    let mut times = HashMap::from([("path", 1), ("label", 1)]);
    classes.iter().for_each(|class| *times.entry(class.as_str()).or_insert(0) += 1);
    let is_taken = |class: &String| times.get(class.as_str()).is_some_and(|&times| times > 1);
    let name = |(index, class): (usize, &String)| {
        if is_taken(class) { format!("{class} ({index})") } else { class.clone() }
    };
    classes.iter().enumerate().map(name).collect()
}
