//! `tl extract`: the features that a network computes of images.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::terminal::{Terminal, warn};
use super::{Classifier, Named, Outcome, Work};
use crate::cli::{self, Common};
use crate::error::{Error, Result};
use crate::features::append;
use crate::loader::Batching;
use crate::models::Network;
use crate::output::{FeatureFormat, FeatureWriter, errors_path};
use crate::parts::Parts;
use crate::precision::Autocast;
use crate::preprocess::{DecodeLimits, decode_file};
use crate::signal::Signals;
use crate::transfer::{Behind, upload_images};
use crate::weights::CLASSIFIER;
use crate::weights::source::Source;
use crate::wording::counted;

/// What to say when a signal has ended the work.
pub const STOPPED: &str = "stopped: nothing was written; run it again to start over";

/// Writes a row for each image that can be read, and lists the others beside the output.
pub fn run(args: &cli::Extract, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    FeatureFormat::of(&args.out)?;
    let check = |network: &Network, source: &Source| {
        let reading = network.reading(&args.stage)?;
        match source.features_only() && network.reads(reading, CLASSIFIER) {
            true => Err(Error::usage(source.features_only_refusal())),
            false => Ok(()),
        }
    };
    let named = Named::find(&args.model, &args.weights, check)?;
    let work = Work::find(&args.images, common, terminal)?;
    let Classifier { network, preprocessing, .. } = &named.open(&work, terminal, &signals)?;
    let Work { inputs, threads, .. } = &work;
    let reading = network.reading(&args.stage)?;
    let side = i64::from(preprocessing.crop_size);
    // One black image tells the length of a row, and whether the network takes images of this size.
    let black = Tensor::f_zeros([1, 3, side, side], (Kind::Float, Device::Cpu))?;
    let length = network.read(&black.f_to_device(network.device())?, reading)?.numel();

    let bar = terminal.images("extracting", inputs.len());
    // Shared by the two callbacks below, which are never under way at the same time.
    let writer = RefCell::new(FeatureWriter::create(&args.out, length)?);
    let limits = DecodeLimits { max_pixels: args.images.max_pixels };
    let batching =
        Batching { preprocessing, batch_size: args.images.batch_size, join_single: false, threads: *threads };
    let mut rows = Vec::new();
    let mut write = |indices: &[usize], features: &Tensor| -> Result<()> {
        rows.clear();
        append(&mut rows, features)?;
        let mut writer = writer.borrow_mut();
        for (row, &index) in rows.chunks_exact(length).zip(indices) {
            writer.write_row(&inputs[index].name, &inputs[index].label, row)?;
        }
        bar.inc(indices.len() as u64);
        Ok(())
    };
    // A GPU computes a batch while the rows of the one before are written.
    let mut behind = Behind::new(network.device());
    let parts = Parts::new(network.device());
    batching.run(
        inputs.len(),
        |index| Ok(preprocessing.eval_pixels(&decode_file(&inputs[index].path, limits)?)),
        |index, error| {
            signals.check(STOPPED)?;
            bar.inc(1);
            writer.borrow_mut().write_failure(&inputs[index].name, &reason(&error))
        },
        |batch| {
            signals.check(STOPPED)?;
            let features = parts.run_one(&batch.images, |images| {
                let images = upload_images(images, preprocessing, network.device())?;
                let _autocast = Autocast::begin(network.device(), args.images.precision)?;
                network.read(&images, reading)
            })?;
            parts.note().iter().for_each(|note| bar.suspend(|| terminal.say(format!("note: {note}"))));
            if let Some((indices, features)) = behind.push(batch.indices, &features)? {
                write(&indices, &features)?;
            }
            Ok(())
        },
    )?;
    while let Some((indices, features)) = behind.pop()? {
        write(&indices, &features)?;
    }
    signals.check(STOPPED)?;
    let written = writer.into_inner().finish()?;
    bar.finish_and_clear();
    terminal.say(format!(
        "{} of {length} numbers (`{}` of {}) in {}",
        counted(written.rows as usize, "row", "rows"),
        args.stage,
        network.architecture.name,
        args.out.display()
    ));
    if written.failures == 0 {
        return Ok(Outcome::Done);
    }
    let list = errors_path(&args.out);
    warn(format!(
        "{} of {} could not be read: see {}",
        written.failures,
        counted(inputs.len(), "image", "images"),
        list.display()
    ));
    Ok(Outcome::SomeFailed)
}

/// An error about a file without the file's name, which stands beside it.
pub fn reason(error: &Error) -> String {
    match error {
        Error::File { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
