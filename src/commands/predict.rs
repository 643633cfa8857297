//! `tl predict`: what is in each image, and how sure the network is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Stdout, stdout};

use tch::Tensor;

use super::extract::{STOPPED, reason};
use super::terminal::{Terminal, warn};
use super::{Classifier, Named, Outcome, Work};
use crate::averaging::{Averaging, Member, match_classes};
use crate::cli::{self, Common};
use crate::error::{Error, Result};
use crate::models::Network;
use crate::output::{PredictionFormat, PredictionRow, PredictionTable, PredictionWriter, TableStyle};
use crate::parts::Parts;
use crate::precision::Precision;
use crate::preprocess::{DecodeLimits, Preprocessing, Views, decode_file};
use crate::signal::Signals;
use crate::weights::source::{Source, Weights};
use crate::wording::counted;

/// Writes a row for each input, readable or not.
pub fn run(args: &cli::Predict, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    if let Some(out) = &args.out {
        PredictionFormat::of(out)?;
    }
    let check = |_: &Network, source: &Source| match source.features_only() {
        true => Err(Error::usage(source.features_only_refusal())),
        false => Ok(()),
    };
    let named: Vec<Named> =
        args.models.iter().map(|model| Named::find(model, &args.weights, check)).collect::<Result<_>>()?;
    different(&named)?;
    let views = Views { crops: args.crops, scales: args.scales.clone() };
    for model in &named {
        model.preprocessing().map_or(Ok(()), |preprocessing| possible(&views, model, preprocessing))?;
    }
    let work = Work::find(&args.images, common, terminal)?;
    let classifiers = open(&named, &views, &work, terminal, &signals)?;
    let members = members(&named, &classifiers, args.images.precision, terminal)?;
    let Work { inputs, threads, .. } = &work;
    let classes: &[String] = classifiers.first().map_or(&[], |classifier| &classifier.classes);
    let top_k = args.top_k.min(classes.len());
    if top_k < args.top_k {
        terminal.say(format!("note: the model has {} classes, so each row names {top_k}", classes.len()));
    }

    let stopped = if args.out.is_some() { STOPPED } else { "stopped before the last image" };
    let bar = terminal.images("predicting", inputs.len());
    let mut rows = Rows::new(args, top_k)?;
    let limits = DecodeLimits { max_pixels: args.images.max_pixels };
    let averaging =
        Averaging { members: &members, views: &views, batch_size: args.images.batch_size, threads: *threads };
    // The failed and the classified come in order each, but a failed one may come before the batch that
    // images ahead of it wait in: rows are held back until their turn.
    let pending = RefCell::new(Pending::default());
    let mut failed = 0;
    averaging.run(
        inputs.len(),
        |index| decode_file(&inputs[index].path, limits),
        || signals.check(stopped),
        |index, error| {
            signals.check(stopped)?;
            failed += 1;
            bar.inc(1);
            let row = PredictionRow {
                path: inputs[index].name.clone(),
                ranks: Vec::new(),
                error: Some(reason(&error)),
            };
            pending.borrow_mut().rows.insert(index, row);
            Ok(())
        },
        |batch| {
            let ranks = ranks(&batch.probabilities, top_k, classes)?;
            let mut pending = pending.borrow_mut();
            for (&index, ranks) in batch.indices.iter().zip(ranks) {
                let row = PredictionRow { path: inputs[index].name.clone(), ranks, error: None };
                pending.rows.insert(index, row);
            }
            bar.inc(batch.indices.len() as u64);
            let notes = members.iter().filter_map(|member| member.parts.note());
            notes.for_each(|note| bar.suspend(|| terminal.say(format!("note: {note}"))));
            // Rows of a table would otherwise be written into the bar.
            bar.suspend(|| pending.write_ready(&mut rows))
        },
    )?;
    signals.check(stopped)?;
    pending.borrow_mut().write_ready(&mut rows)?;
    bar.finish_and_clear();
    rows.finish()?;
    if let Some(out) = &args.out {
        terminal.say(format!("{} in {}", counted(inputs.len(), "row", "rows"), out.display()));
    }
    if failed == 0 {
        return Ok(Outcome::Done);
    }
    let images = counted(inputs.len(), "image", "images");
    warn(format!(
        "{failed} of {images} could not be read: see `error` in {}",
        match args.out {
            Some(_) => "their rows",
            None => "the table",
        }
    ));
    Ok(Outcome::SomeFailed)
}

/// Opens the models.
fn open(
    named: &[Named],
    views: &Views,
    work: &Work,
    terminal: Terminal,
    signals: &Signals,
) -> Result<Vec<Classifier>> {
    named
        .iter()
        .map(|model| {
            let classifier = model.open(work, terminal, signals)?;
            possible(views, model, &classifier.preprocessing)?;
            Ok(classifier)
        })
        .collect()
}

/// Refuses views that a model cannot have.
fn possible(views: &Views, model: &Named, preprocessing: &Preprocessing) -> Result<()> {
    match views.mistake(model.name, preprocessing) {
        None => Ok(()),
        Some(mistake) => Err(Error::usage(mistake)),
    }
}

/// Refuses a model that was given twice, under whatever names.
fn different(named: &[Named]) -> Result<()> {
    let same = |a: &Source, b: &Source| {
        a.architecture.name == b.architecture.name
            && match (&a.weights, &b.weights) {
                (Weights::None, Weights::None) => true,
                (Weights::Entry(a), Weights::Entry(b)) => a.tag == b.tag,
                (Weights::File(a) | Weights::Model(a), Weights::File(b) | Weights::Model(b)) => {
                    a == b || a.canonicalize().ok().is_some_and(|a| b.canonicalize().ok() == Some(a))
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

/// The networks with their classes in the order of the first one's.
fn members<'a>(
    named: &[Named],
    classifiers: &'a [Classifier],
    precision: Precision,
    terminal: Terminal,
) -> Result<Vec<Member<'a>>> {
    let Some(first) = classifiers.first() else { return Ok(Vec::new()) };
    let mut members = Vec::new();
    for (model, Classifier { network, classes, preprocessing }) in named.iter().zip(classifiers) {
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
        let parts = Parts::new(network.device());
        members.push(Member { network, preprocessing, order, precision, parts });
    }
    Ok(members)
}

/// Rows that wait for those before them.
#[derive(Default)]
struct Pending {
    next: usize,
    rows: BTreeMap<usize, PredictionRow>,
}

impl Pending {
    fn write_ready(&mut self, rows: &mut Rows) -> Result<()> {
        while let Some(row) = self.rows.remove(&self.next) {
            rows.write(&row)?;
            self.next += 1;
        }
        Ok(())
    }
}

/// Where rows go.
enum Rows {
    File(Box<PredictionWriter>),
    Table(PredictionTable<Stdout>),
}

impl Rows {
    fn new(args: &cli::Predict, top_k: usize) -> Result<Self> {
        Ok(match &args.out {
            Some(out) => Rows::File(Box::new(PredictionWriter::create(out, top_k)?)),
            None => Rows::Table(PredictionTable::new(stdout(), top_k, TableStyle::of_stdout())),
        })
    }

    fn write(&mut self, row: &PredictionRow) -> Result<()> {
        match self {
            Rows::File(writer) => writer.write_row(row),
            Rows::Table(table) => table.write_row(row),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Rows::File(writer) => writer.finish(),
            Rows::Table(table) => table.finish(),
        }
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
