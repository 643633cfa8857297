//! `tl predict`: what is in each image, and how sure the network is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Stdout, stdout};

use tch::{Device, Kind, Tensor};

use super::extract::{STOPPED, reason};
use super::terminal::{Terminal, warn};
use super::{Classifier, Outcome};
use crate::cli::{self, Common};
use crate::error::{Error, Result};
use crate::loader::Batching;
use crate::models::{Network, Reading};
use crate::output::{PredictionFormat, PredictionRow, PredictionTable, PredictionWriter, TableStyle};
use crate::preprocess::{DecodeLimits, decode_file};
use crate::signal::Signals;
use crate::weights::source::Source;
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
    let classifier = Classifier::open(&args.model, &args.images, common, terminal, &signals, check)?;
    let Classifier { network, classes, preprocessing, inputs, threads } = &classifier;
    let top_k = args.top_k.min(classes.len());
    if top_k < args.top_k {
        terminal.say(format!("note: the model has {} classes, so each row names {top_k}", classes.len()));
    }

    let stopped = if args.out.is_some() { STOPPED } else { "stopped before the last image" };
    let bar = terminal.images("predicting", inputs.len());
    let mut rows = Rows::new(args, top_k)?;
    let limits = DecodeLimits { max_pixels: args.images.max_pixels };
    let batching =
        Batching { preprocessing, batch_size: args.images.batch_size, join_single: false, threads: *threads };
    // The failed and the classified come in order each, but a failed one may come before the batch that
    // images ahead of it wait in: rows are held back until their turn.
    let pending = RefCell::new(Pending::default());
    let mut failed = 0;
    batching.run(
        inputs.len(),
        |index| Ok(preprocessing.eval_pixels(&decode_file(&inputs[index].path, limits)?)),
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
            signals.check(stopped)?;
            let logits = network.read(&batch.images.f_to_device(network.device())?, Reading::Logits)?;
            let ranks = ranks(&logits, top_k, classes)?;
            let mut pending = pending.borrow_mut();
            for (&index, ranks) in batch.indices.iter().zip(ranks) {
                let row = PredictionRow { path: inputs[index].name.clone(), ranks, error: None };
                pending.rows.insert(index, row);
            }
            bar.inc(batch.indices.len() as u64);
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

/// The `top_k` most likely classes of each row of logits, with their softmax.
fn ranks(logits: &Tensor, top_k: usize, classes: &[String]) -> Result<Vec<Vec<(String, f32)>>> {
    let (confidences, indices) =
        logits.f_softmax(1, Kind::Float)?.f_to_device(Device::Cpu)?.f_topk(top_k as i64, 1, true, true)?;
    let confidences = Vec::<f32>::try_from(confidences.f_flatten(0, -1)?)?;
    let indices = Vec::<i64>::try_from(indices.f_flatten(0, -1)?)?;
    let pairs: Vec<(String, f32)> = indices
        .into_iter()
        .zip(confidences)
        .map(|(index, confidence)| (classes[index as usize].clone(), confidence))
        .collect();
    Ok(pairs.chunks(top_k).map(<[_]>::to_vec).collect())
}
