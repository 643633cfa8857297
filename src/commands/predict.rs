//! `tl predict`: the class of each image, and its confidence.

use std::cell::Cell;
use std::io::{Stdout, stdout};
use std::path::PathBuf;

use indicatif::ProgressBar;
use tch::{Device, Tensor};

use super::args::{Common, ImageArgs, ViewArgs, WeightArgs, between};
use super::named::{Classifier, Named, limits};
use super::stream::{self, Sink};
use super::terminal::Terminal;
use super::work::Work;
use super::{Outcome, ended, not_finite, say_if_too_dark};
use crate::data::Input;
use crate::device::back_off::BackOff;
use crate::device::precision::Precision;
use crate::error::{Error, Result};
use crate::inference::ensemble::{Averaging, Member, match_classes};
use crate::models::Network;
use crate::output::{
    Answer, Begun, Done, JobIdentity, Output, OutputProgress, PredictionColumns, PredictionFormat,
    PredictionRow, PredictionTable, PredictionWriter, TableStyle,
};
use crate::preprocess::{DecodeLimits, Picture, Preprocessing, Views};
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::unknown::{LABEL, LIMIT};
use crate::util::same_file::same_file;
use crate::util::signal::Signals;
use crate::weights::source::{Source, Weights};

/// The command line.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "With --crops, --scales or several models, the class probabilities (softmax) of all views by \
                        all models are averaged, as in AlexNet (Krizhevsky et al. 2012, 4.1) and VGG (Simonyan and \
                        Zisserman 2015, 4.2). The crops are those of torchvision's TenCrop. A model that tl finetune \
                        made gives calibrated confidences, and says in the column `unknown` how strange an image is: \
                        the share of images like its validation images that are less strange."
)]
pub struct Args {
    /// A name that `tl models` lists, a run folder, or a model file that `tl` wrote; given several times, the
    /// models are averaged, each with its own preprocessing
    #[arg(long = "model", value_name = "MODEL", required = true)]
    pub models: Vec<String>,
    /// Their weights; with several models, for each of them
    #[command(flatten)]
    pub weights: WeightArgs,
    /// The images
    #[command(flatten)]
    pub images: ImageArgs,
    /// How many classes to name for each image
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = top_k)]
    pub top_k: usize,
    /// How often each image is seen
    #[command(flatten)]
    pub views: ViewArgs,
    /// Confidences as the network's softmax has them, without the temperature that was fitted to validation
    /// images
    #[arg(long)]
    pub raw: bool,
    /// Label images `unknown` that are stranger than 95 % of images like the validation images
    #[arg(long)]
    pub reject: bool,
    /// The file to write, in the format of its ending; a table on the terminal without it
    #[arg(long, value_name = "FILE", help = format!(
        "The file to write: {} [default: a table on the terminal]", PredictionFormat::endings()
    ))]
    pub out: Option<PathBuf>,
    /// Go on where a run that was stopped left off
    #[arg(long, requires = "out")]
    pub resume: bool,
}

fn top_k(text: &str) -> Result<usize, String> {
    between(text, 100_000)
}

/// Finds the models, as far as possible without opening a file.
pub(super) fn find<'a>(models: &'a [String], weights: &WeightArgs, views: &Views) -> Result<Vec<Named<'a>>> {
    let check = |_: &Network, source: &Source| match source.features_only() {
        true => Err(Error::usage(source.features_only_refusal())),
        false => Ok(()),
    };
    let find = |model: &'a String| Named::find(model, weights, check);
    let named: Vec<Named> = models.iter().map(find).collect::<Result<_>>()?;
    different(&named)?;
    for model in &named {
        model.preprocessing().map_or(Ok(()), |preprocessing| possible(views, model, &preprocessing))?;
    }
    Ok(named)
}

/// Writes a row for each input, readable or not.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    if let Some(out) = &args.out {
        PredictionFormat::of(out)?;
    }
    let views = args.views.views();
    let named = find(&args.models, &args.weights, &views)?;
    let mut work = Work::find(&args.images, common, terminal)?;
    let out = args.out.as_ref().map(|out| work.out(out, |_| Vec::new())).transpose()?;
    let classifiers = open(&named, &views, work.device, terminal, &signals)?;
    let members = members(&named, &classifiers, args.images.read.precision, args.raw, terminal)?;
    let unknown = classifiers.iter().any(|classifier| classifier.unknown.is_some());
    if args.reject {
        can_reject(&named, &classifiers)?;
    }
    let classes: &[String] = classifiers.first().map_or(&[], |classifier| &classifier.classes);
    let top_k = args.top_k.min(classes.len());
    if top_k < args.top_k {
        terminal.say(format!(
            "note: the model has {}, so each row names {top_k}",
            counted(classes.len(), "class", "classes")
        ));
    }

    let columns = PredictionColumns { top_k, unknown };
    let limits = limits(&args.images.read, &classifiers);
    let (batch_size, threads) = (args.images.read.batch_size, work.threads);
    let averaging = Averaging { members: &members, views: &views, batch_size, threads };
    let bar = terminal.images("predicting", 0);
    let predicting = Predicting {
        averaging,
        limits,
        classes,
        top_k,
        reject: args.reject,
        terminal,
        bar: bar.clone(),
        begun: Cell::default(),
    };
    let progress = match out {
        None => {
            let table = PredictionTable::new(stdout(), columns, TableStyle::of_stdout());
            let table = Table { table, bar: bar.clone(), images: 0, failed: 0 };
            stream::run(work.images, table, batch_size, &signals, bar, |inputs, sink| {
                predicting.chunk(inputs, sink)
            })?
        }
        Some(out) => {
            let job = job(args, &work, &views, &classifiers, top_k);
            match work.begin(&out, &job, args.resume, terminal)? {
                Begun::Complete(progress) => progress,
                Begun::Partial(partial) => {
                    let writer = PredictionWriter::open(&out, columns, partial)?;
                    let each = |inputs: &[Input], sink: &Sink<_>| predicting.chunk(inputs, sink);
                    let progress = stream::run(work.images, writer, batch_size, &signals, bar, each)?;
                    let rows = counted(progress.rows as usize, "row", "rows");
                    terminal.say(format!("{rows} in {}", path_text(&out)));
                    progress
                }
            }
        }
    };
    let see = match (args.out.is_some(), progress.failures) {
        (false, _) => "`error` in the table",
        (true, 1) => "`error` in its row",
        (true, _) => "`error` in their rows",
    };
    Ok(ended(&progress, see))
}

/// Everything that the rows depend on.
fn job(args: &Args, work: &Work, views: &Views, classifiers: &[Classifier], top_k: usize) -> JobIdentity {
    let job = JobIdentity::new("predict");
    let job = (0..).zip(classifiers).fold(job, |job, (number, model)| model.describe(job, number));
    work.describe(
        job.with("--top-k", top_k)
            .with("--crops", format!("{:?}", views.crops))
            .with("--scales", format!("{:?}", views.scales))
            .with("--max-pixels", args.images.read.max_pixels)
            .with("--decode", format!("{:?}", limits(&args.images.read, classifiers).decode))
            .with("--precision", args.images.read.precision)
            .with("--raw", args.raw)
            .with("--reject", args.reject),
    )
}

/// Converts a chunk of images to rows.
struct Predicting<'a> {
    averaging: Averaging<'a>,
    limits: DecodeLimits,
    classes: &'a [String],
    top_k: usize,
    reject: bool,
    terminal: Terminal,
    bar: ProgressBar,
    /// Whether a chunk was done before.
    begun: Cell<bool>,
}

impl Predicting<'_> {
    fn chunk<O: Output<Row = Answer>>(&self, inputs: &[Input], sink: &Sink<O>) -> Result<()> {
        let limits = self.limits;
        if let (false, [first, ..]) = (self.begun.replace(true), self.averaging.members) {
            let say = |note| self.bar.suspend(|| self.terminal.say(note));
            say_if_too_dark(inputs, first.preprocessing, limits, say);
        }
        self.averaging.run(
            inputs.len(),
            sink.images(),
            |index| Ok(Picture::Stored(inputs[index].image()?, limits)),
            || sink.check(),
            |index, error| {
                sink.check()?;
                sink.put(index, Err(error))
            },
            |batch| {
                let notes = self.averaging.members.iter().filter_map(|member| member.parts.note());
                notes.for_each(|note| self.bar.suspend(|| self.terminal.say(format!("note: {note}"))));
                let ranks = ranks(&batch.probabilities, self.top_k, self.classes)?;
                for (place, (&index, ranks)) in batch.indices.iter().zip(ranks).enumerate() {
                    let unknown = batch.unknown.get(place).copied();
                    let mut numbers = ranks.iter().map(|(_, confidence)| *confidence).chain(unknown);
                    let finite = numbers.all(f32::is_finite);
                    let rejected = self.reject && unknown.is_some_and(|share| share > LIMIT);
                    let answer = Answer { ranks, unknown, rejected };
                    sink.put(index, if finite { Ok(answer) } else { Err(not_finite()) })?;
                }
                sink.batch_done()
            },
        )
    }
}

/// Opens the models.
pub(super) fn open(
    named: &[Named],
    views: &Views,
    device: Device,
    terminal: Terminal,
    signals: &Signals,
) -> Result<Vec<Classifier>> {
    named
        .iter()
        .map(|model| {
            let classifier = model.open(device, terminal, signals, true)?;
            possible(views, model, &classifier.preprocessing)?;
            Ok(classifier)
        })
        .collect()
}

/// Refuses views that the model does not support.
fn possible(views: &Views, model: &Named, preprocessing: &Preprocessing) -> Result<()> {
    match views.mistake(model.name, preprocessing) {
        None => Ok(()),
        Some(mistake) => Err(Error::usage(mistake)),
    }
}

/// Refuses a model given twice, under any names.
fn different(named: &[Named]) -> Result<()> {
    let same = |a: &Source, b: &Source| {
        a.architecture.name == b.architecture.name
            && match (&a.weights, &b.weights) {
                (Weights::None, Weights::None) => true,
                (Weights::Entry(a), Weights::Entry(b)) => a.tag == b.tag,
                (Weights::File(a) | Weights::Model(a), Weights::File(b) | Weights::Model(b)) => {
                    a == b || same_file(a, b)
                }
                _ => false,
            }
    };
    for (place, model) in named.iter().enumerate() {
        if let Some(first) = named[..place].iter().find(|first| same(&first.source, &model.source)) {
            let also = if first.name == model.name { "".into() } else { format!(" (it is {})", first.name) };
            return Err(Error::usage(format!(
                "the model {}{also} is given twice, and would count twice: name it once",
                model.name
            )));
        }
    }
    Ok(())
}

/// Whether some of the models can tell strangers, and none has a class of that name.
///
/// # Errors
/// [`Error::Usage`] if not.
fn can_reject(named: &[Named], classifiers: &[Classifier]) -> Result<()> {
    if classifiers.iter().all(|classifier| classifier.unknown.is_none()) {
        let models = named.iter().map(|model| format!("`{}`", model.name)).collect::<Vec<_>>().join(" and ");
        return Err(Error::usage(format!(
            "{models} cannot tell which images are unknown: only a model that `tl finetune` of this version trained can, \
             and that had validation images enough; train it again, or leave `--reject` out"
        )));
    }
    match classifiers.iter().any(|classifier| classifier.classes.iter().any(|class| class == LABEL)) {
        true => Err(Error::usage(format!(
            "the model has a class `{LABEL}` of its own, and with `--reject` that label would mean two things: leave it \
             out, and read the column `unknown`, which is above {LIMIT} for what would be rejected"
        ))),
        false => Ok(()),
    }
}

/// The networks, with classes in the order of the first one's.
pub(super) fn members<'a>(
    named: &[Named],
    classifiers: &'a [Classifier],
    precision: Precision,
    raw: bool,
    terminal: Terminal,
) -> Result<Vec<Member<'a>>> {
    let Some(first) = classifiers.first() else { return Ok(Vec::new()) };
    let mut members = Vec::new();
    for (model, classifier) in named.iter().zip(classifiers) {
        let Classifier { network, classes, preprocessing, partner, .. } = classifier;
        let order = match_classes(&first.classes, classes).map_err(|difference| {
            Error::usage(format!(
                "{} and {} cannot be averaged, because their classes are not the same: {difference}",
                named[0].name, model.name
            ))
        })?;
        if order.is_some() {
            terminal.say(format!(
                "note: {} has the classes of {} in another order; they are matched by name",
                model.name, named[0].name
            ));
        }
        let parts = BackOff::new(network.device());
        let partner = partner.as_ref().map(|second| (&second.network, second.weight));
        members.push(Member {
            network,
            partner,
            temperature: classifier.temperature.filter(|_| !raw),
            unknown: classifier.unknown.as_ref(),
            preprocessing,
            order,
            precision,
            parts,
        });
    }
    Ok(members)
}

/// A table on the terminal, which cannot be resumed.
struct Table {
    table: PredictionTable<Stdout>,
    bar: ProgressBar,
    images: u64,
    failed: u64,
}

impl Output for Table {
    type Row = Answer;

    const STOPPED: &'static str = "stopped before the last image";

    fn write(&mut self, input: &Input, row: Result<Self::Row, String>) -> Result<()> {
        self.images += 1;
        self.failed += u64::from(row.is_err());
        // Otherwise rows would be written into the bar.
        let Table { table, bar, .. } = self;
        bar.suspend(|| table.write_row(&PredictionRow::of(input, row)))
    }

    fn finish(self, done: Done) -> Result<OutputProgress> {
        self.table.finish()?;
        Ok(OutputProgress::new(done, self.images, self.failed))
    }
}

/// The `top_k` most likely classes of each row of probabilities.
fn ranks(probabilities: &Tensor, top_k: usize, classes: &[String]) -> Result<Vec<Vec<(String, f32)>>> {
    let (confidences, indices) = probabilities.f_topk(top_k as i64, 1, true, true)?;
    let confidences = Vec::<f32>::try_from(confidences.f_flatten(0, -1)?)?;
    let indices = Vec::<i64>::try_from(indices.f_flatten(0, -1)?)?;
    let pairs: Vec<(String, f32)> = indices
        .into_iter()
        .zip(confidences)
        .map(|(index, confidence)| (classes[index as usize].clone(), confidence))
        .collect();
    Ok(pairs.chunks(top_k).map(<[_]>::to_vec).collect())
}
