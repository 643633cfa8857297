//! `tl eval`: models measured on labelled images.

mod data;
mod folder;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use tch::Device;

use self::data::{Chosen, Labelled};
use self::folder::{Answers, EvalFolder};
use super::args::{Common, ReadArgs, ViewArgs, WeightArgs};
use super::named::{Classifier, Named, limits};
use super::page::Heat;
use super::predict::{find, members, open};
use super::terminal::{Terminal, print, warn};
use super::work::place;
use super::{Outcome, not_finite};
use crate::data::Sample;
use crate::data::verify::{self, BadImage};
use crate::error::{Error, Result};
use crate::inference::ensemble::{Averaged, Averaging, Member};
use crate::inference::measure::{count_probabilities, label_tensor};
use crate::preprocess::{DecodeLimits, Picture, RgbImage};
use crate::report::Metrics;
use crate::report::eval::{Comparison, EvalReport, LeftOut, Measured, Pictured};
use crate::report::gallery::{Mistakes, Reader};
use crate::stats::metrics::{Counter, Evaluation};
use crate::stats::significance::note_on;
use crate::text::path_text::{path_text, typed};
use crate::text::words::counted;
use crate::util::signal::Signals;

/// The command line.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Several models are each measured by themselves, on the same images, and compared with the first one: \
                  McNemar's exact test, and a 95 % interval of the difference. `tl predict` averages them instead."
)]
pub struct Args {
    /// Names that `tl models` lists, run folders, or model files that `tl` wrote
    #[arg(value_name = "MODEL", required = true)]
    pub models: Vec<String>,
    /// Class folders, a .csv of path,label, or CIFAR or MNIST (their test part)
    #[arg(value_name = "DATA", required = true)]
    pub data: PathBuf,
    /// The models' weights
    #[command(flatten)]
    pub weights: WeightArgs,
    /// How images are read
    #[command(flatten)]
    pub read: ReadArgs,
    /// How often each image is seen
    #[command(flatten)]
    pub views: ViewArgs,
    /// Confidences as the network's softmax has them, without the temperature that was fitted to validation
    /// images
    #[arg(long)]
    pub raw: bool,
    /// Measure on images that the model has learnt from, too
    #[arg(long)]
    pub include_training: bool,
    /// A folder for report.json, report.html and predictions.csv
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the measurement in that folder
    #[arg(long, requires = "out")]
    pub overwrite: bool,
    /// Write the probability of every class into predictions.csv
    #[arg(long, requires = "out")]
    pub probabilities: bool,
}

/// Measures, shows a table, and writes the folder.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let started = Instant::now();
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    let views = args.views.views();
    let named = find(&args.models, &args.weights, &views)?;
    let labelled = Labelled::read(&typed(&args.data))?;
    labelled.notes.iter().for_each(|note| terminal.say(format!("note: {note}")));
    let out = args.out.as_ref().map(|out| EvalFolder::enter(out, args.overwrite)).transpose()?;
    let (device, threads) = place(common, args.read.precision, terminal)?;
    let classifiers = open(&named, &views, device, terminal, &signals)?;
    let chosen = labelled.choose(&named, &classifiers, args.include_training, threads, &signals)?;
    chosen.notes.iter().for_each(|note| terminal.say(format!("note: {note}")));

    let mut measured = Vec::new();
    for (place, model) in named.iter().enumerate() {
        let each = place..place + 1;
        let members = members(
            &named[each.clone()],
            &classifiers[each.clone()],
            args.read.precision,
            args.raw,
            terminal,
        )?;
        let limits = limits(&args.read, &classifiers[each]);
        let batch_size = args.read.batch_size;
        let averaging = Averaging { members: &members, views: &views, batch_size, threads };
        let work = Measuring { averaging, limits, terminal, signals: &signals, name: model.name };
        measured.push(work.measure(&labelled, &chosen.images, &chosen.labels[place], &classifiers[place])?);
    }
    let bad = bad_images(&labelled, &measured);
    if measured.iter().any(|answers| answers.rows.is_empty()) {
        let images = counted(bad.len(), "image", "images");
        return Err(Error::run(format!("no image could be read ({images}):\n{}", verify::list(&bad))));
    }
    let mut report = report(args, &named, &classifiers, &labelled, &measured);
    (report.device, report.threads) = (device_name(device), threads);
    report.left_out =
        LeftOut { learnt_from: chosen.learnt.len(), unknown_labels: chosen.unknown.clone(), bad_images: bad };
    report.notes = labelled.notes.iter().chain(&chosen.notes).cloned().collect();
    report.notes.extend(remarks(&measured, &classifiers, terminal));
    report.seconds = started.elapsed().as_secs_f64();
    print(&table::text(&report))?;
    if let Some(out) = out {
        let found =
            Found { labelled: &labelled, chosen: &chosen, measured: &measured, classifiers: &classifiers };
        out.write(&found, &report, &found.pictured(&args.read)?, args.probabilities)?;
        terminal.say(format!("report  {}", path_text(&out.page())));
    }
    let bad = &report.left_out.bad_images;
    if bad.is_empty() {
        return Ok(Outcome::Done);
    }
    let images = counted(chosen.images.len(), "image", "images");
    warn(format!("{} of {images} could not be read:\n{}", bad.len(), verify::list(bad)));
    Ok(Outcome::SomeFailed)
}

/// What was measured.
struct Found<'a> {
    labelled: &'a Labelled,
    chosen: &'a Chosen,
    measured: &'a [Answers],
    classifiers: &'a [Classifier],
}

impl Found<'_> {
    /// Each model's mistakes in pictures, read once more from the images.
    fn pictured(&self, read: &ReadArgs) -> Result<Vec<Pictured<'_>>> {
        let of = |(answers, classifier): (&'_ Answers, &Classifier)| {
            let (network, preprocessing) = (&classifier.network, &classifier.preprocessing);
            let Some(scores) = &answers.evaluation.scores else { return Ok(Mistakes::default()) };
            let sample = |(&image, (label, _)): (&usize, (usize, &[f32]))| Sample {
                label,
                ..self.labelled.dataset.samples[image].clone()
            };
            let samples: Vec<Sample> = answers.rows.iter().zip(scores.rows()).map(sample).collect();
            let reader = Reader { preprocessing, limits: limits(read, std::slice::from_ref(classifier)) };
            let heat = Heat::of(network, preprocessing);
            let heat = |pixels: &RgbImage, class| heat.over(pixels, class);
            Mistakes::of(&samples, scores, &classifier.classes, reader, &heat)
        };
        let each = self.measured.iter().zip(self.classifiers);
        each.map(|(answers, classifier)| {
            Ok(Pictured { confusion: &answers.evaluation.confusion, mistakes: of((answers, classifier))? })
        })
        .collect()
    }
}

/// A model at work on the images.
struct Measuring<'a> {
    averaging: Averaging<'a>,
    limits: DecodeLimits,
    terminal: Terminal,
    signals: &'a Signals,
    name: &'a str,
}

impl Measuring<'_> {
    /// Measures on `images`, whose labels are indices into the model's classes.
    fn measure(
        &self,
        labelled: &Labelled,
        images: &[usize],
        labels: &[usize],
        classifier: &Classifier,
    ) -> Result<Answers> {
        let bar = self.terminal.images(&format!("measuring {}", self.name), images.len());
        let mut counter = Counter::with_scores(classifier.classes.len());
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        let (mut bad, samples, limits) = (Vec::new(), &labelled.dataset.samples, self.limits);
        let work = self.averaging.run(
            images.len(),
            images.len(),
            |index| Ok(Picture::Stored(samples[images[index]].image(), limits)),
            || self.signals.check("stopped before the last image: nothing was written"),
            |index, error| {
                bar.inc(1);
                bad.push((images[index], reason(error)));
                Ok(())
            },
            |batch| {
                let notes = self.averaging.members.iter().filter_map(|member: &Member| member.parts.note());
                notes.for_each(|note| bar.suspend(|| self.terminal.say(format!("note: {note}"))));
                bar.inc(batch.indices.len() as u64);
                let Averaged { indices, probabilities, .. } = batch.finite(|index| {
                    failures.push((images[index], reason(not_finite())));
                })?;
                if indices.is_empty() {
                    return Ok(());
                }
                let truths = label_tensor(indices.iter().map(|&index| labels[index]))?;
                count_probabilities(&probabilities, &truths, &mut counter)?;
                rows.extend(indices.into_iter().map(|index| images[index]));
                Ok(())
            },
        );
        bar.finish_and_clear();
        work?;
        failures.extend(bad);
        failures.sort();
        Ok(Answers { evaluation: counter.finish(), rows, failures })
    }
}

/// The text of an error without its file's name, which is shown beside it.
fn reason(error: Error) -> String {
    match error {
        Error::File { message, .. } => message,
        other => other.to_string(),
    }
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".into(),
    }
}

/// The images that some model could not be measured on, each once.
fn bad_images(labelled: &Labelled, measured: &[Answers]) -> Vec<BadImage> {
    let mut failures: Vec<&(usize, String)> = measured.iter().flat_map(|answers| &answers.failures).collect();
    failures.sort();
    failures.dedup_by_key(|(image, _)| *image);
    let bad = |(image, error): &(usize, String)| {
        let file = labelled.dataset.samples[*image].path.clone();
        BadImage { path: labelled.name(*image), error: error.clone(), file }
    };
    failures.into_iter().map(bad).collect()
}

fn report(
    args: &Args,
    named: &[Named],
    classifiers: &[Classifier],
    labelled: &Labelled,
    measured: &[Answers],
) -> EvalReport {
    let views = args.views.views();
    let model = |((model, classifier), answers): ((&Named, &Classifier), &Answers)| Measured {
        model: model.name.into(),
        architecture: model.source.architecture.name,
        sha256: classifier.both(),
        views: views.resolved(&classifier.preprocessing),
        classes: classifier.classes.clone(),
        measured: Metrics::of(&answers.evaluation, answers.rows.len(), &classifier.classes),
    };
    let models: Vec<Measured> = named.iter().zip(classifiers).zip(measured).map(model).collect();
    let first =
        measured.iter().take(1).flat_map(|first| measured[1..].iter().map(move |other| (first, other)));
    let compared = first.zip(&named[1..]).map(|((first, other), model)| {
        let pairs = first.beside(other);
        Comparison::of(named[0].name, model.name, &pairs)
    });
    EvalReport {
        tl: env!("CARGO_PKG_VERSION"),
        data: path_text(&labelled.path).into_owned(),
        compared: compared.collect(),
        models,
        left_out: LeftOut::default(),
        notes: Vec::new(),
        device: String::new(),
        threads: 0,
        seconds: 0.,
    }
}

/// Sentences on what the figures do not say.
fn remarks(measured: &[Answers], classifiers: &[Classifier], terminal: Terminal) -> Vec<String> {
    let one_class = |evaluation: &Evaluation| {
        let counts = evaluation.confusion.counts();
        (counts.iter().filter(|counts| counts.images > 0).count() == 1).then(|| {
            "the area under the ROC curve is not defined: it needs images of at least two classes".to_string()
        })
    };
    let mut notes: Vec<String> = Vec::new();
    for (answers, classifier) in measured.iter().zip(classifiers) {
        let evaluation = &answers.evaluation;
        notes.extend(note_on("", &evaluation.confusion, &classifier.classes));
        notes.extend(one_class(evaluation));
    }
    let mut seen = Vec::new();
    notes.retain(|note| {
        !seen.contains(note) && {
            seen.push(note.clone());
            true
        }
    });
    notes.iter().for_each(|note| terminal.say(format!("note: {note}")));
    notes
}
