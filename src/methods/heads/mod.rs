//! `linear` and `stages`: computes features of the frozen network once, then fits a head to them.

mod fits;
mod pool;

use std::path::Path;
use std::time::Instant;

use tch::Tensor;

use self::fits::{Fit, FittedHead, Heads};
use super::known::{Known, KnownImages};
use super::{Context, Outcomes, Seconds, TrainedModel};
use crate::data::Sample;
use crate::device::back_off::BackOff;
use crate::error::{Error, Result};
use crate::inference::features;
use crate::inference::measure::labels_of;
use crate::linear;
use crate::models::{Classifier, Fill, Network, Tap};
use crate::plan::{Data, LinearSettings};
use crate::report::{HeadsReport, LinearReport, StageRow};
use crate::run::history::EpochRow;
use crate::stats::metrics::{Counter, Evaluation};
use crate::stats::per_class::{Averages, balanced_accuracy};
use crate::text::words::counted;
use crate::trainer::{ForwardCount, KeptEpoch};
use crate::unknown::Reading;
use crate::weights::write_model;

pub(super) use self::fits::taken;

impl Context<'_> {
    /// Computes features once, then fits the head to them. With several stages it is the single
    /// one, or all together, that cross-validation inside `train` finds best, or the mean of all.
    pub(super) fn fit_heads(
        &self,
        settings: &LinearSettings,
        mut network: Network,
        seconds: &mut Seconds,
    ) -> Result<TrainedModel> {
        let data = &self.plan.data;
        let taps = taps(&network, settings)?;
        let train = data.train.len();
        let forward_counts = forward_counts(&network, &taps, data);
        let started = Instant::now();
        let before = network.frozen_hash()?;
        let samples: Vec<&Sample> = data.all().map(|(_, sample)| sample).collect();
        let vectors = seconds.of("features", || self.vectors(&network, &taps, settings, &samples))?;
        let took = started.elapsed().as_secs_f64();
        self.observer
            .say(&format!("features of {} in {took:.1} s", counted(samples.len(), "image", "images")));
        let heads =
            seconds.of("fit", || self.heads(&network, settings, &rows(&vectors, 0, train)?, &data.train))?;
        let classes = data.classes.len();
        let measured = |head: &FittedHead, start, samples: &[Sample], counter| {
            let labels = labels_of(samples.iter())?;
            head.measure(&rows(&vectors, start, samples.len())?, &labels, counter)
        };
        let kept = |start, samples| measured(&heads.head, start, samples, Counter::with_scores(classes));
        let on_train = measured(&heads.head, 0, &data.train, Counter::new(classes))?;
        let on_val = kept(train, &data.val[..])?;
        let before_test = train + data.val.len();
        let test = data.test.as_ref().map(|it| kept(before_test, it)).transpose()?;
        let averaged = heads.weights[heads.best] < 1.;
        let alone = |fit: &Fit| measured(&fit.head(), train, &data.val, Counter::new(classes));
        let on_val_alone = |fit: &Fit| Ok(alone(fit)?.accuracy);
        let stages = match settings.stages.is_empty() {
            true => Vec::new(),
            false => stage_rows(&network, &taps, &heads, on_val.accuracy, on_val_alone)?,
        };
        let notes = notes(&network, &taps, settings, &heads, train);
        notes.iter().for_each(|note| self.observer.say(&format!("note: {note}")));

        let peaks = vectors.get(1).map(|peaks| peaks.narrow(0, 0, train as i64));
        self.put_head(settings, &mut network, &taps, &heads.head, peaks, &before)?;
        let images_per_second = samples.len() as f64 / took.max(1e-9);
        let row = only_epoch(&on_train, &on_val, images_per_second, started.elapsed().as_secs_f64());
        self.folder.rewrite_metrics(std::slice::from_ref(&row))?;
        let linear = LinearReport::of(&heads.compared[heads.best].fit);
        self.say_heads(&stages, &linear, heads.held_out, averaged.then_some(on_val.accuracy));
        let outcomes = Outcomes {
            best: KeptEpoch::only(&row),
            epochs: vec![row],
            val: on_val,
            test,
            linear: Some(linear),
            heads: averaged.then_some(HeadsReport { cv_accuracy: heads.held_out }),
            held_out: heads.held_out,
            compared_on: heads.images,
            stages,
            notes,
            passes: forward_counts,
            ..Outcomes::default()
        };
        let known = Some(self.known_by(&heads.head, &vectors)?);
        Ok(TrainedModel { network, outcomes, known })
    }

    /// What the network with this head finds in images, from the features of all.
    fn known_by(&self, head: &FittedHead, vectors: &[Tensor]) -> Result<Known> {
        let KnownImages { train, val } = KnownImages::of(self.plan);
        let behind: Vec<usize> = val.iter().map(|image| self.plan.data.train.len() + image).collect();
        let (val, logits) = head.read(&taken(vectors, &behind)?)?;
        let (train, _) = head.read(&taken(vectors, &train)?)?;
        Ok(Known { train, val: Reading { features: val, logits } })
    }

    /// Puts the head into the network, and writes the model. With `stages`, the network ends at the
    /// last stage that is read; `before` is the hash of the values that must not change.
    fn put_head(
        &self,
        settings: &LinearSettings,
        network: &mut Network,
        taps: &[Tap],
        head: &FittedHead,
        peaks: Option<Tensor>,
        before: &str,
    ) -> Result<()> {
        let mut card = self.card(network);
        let FittedHead { weight, bias, .. } = head;
        if settings.stages.is_empty() {
            linear::set_head(network, weight, bias, peaks)?;
        } else {
            self.verify_frozen(network, before)?;
            let read: Vec<Tap> = head.taps.iter().map(|&index| taps[index]).collect();
            let classes = self.plan.data.classes.len();
            network.read_stages(&read, weight.size()[1] as usize, classes, Fill::Zeros)?;
            card.reads = network.head_reading_names();
            linear::set_head(network, weight, bias, None)?;
        }
        self.folder.check_lock()?;
        write_model(&self.folder.model(), network, &card)
    }

    /// `averaged`: the validation accuracy of the mean of the heads, if that is kept.
    fn say_heads(
        &self,
        stages: &[StageRow],
        linear: &LinearReport,
        held_out: Option<f64>,
        averaged: Option<f64>,
    ) {
        stages.iter().for_each(|row| self.observer.say(&row.to_string()));
        let Some(accuracy) = averaged else { return self.observer.say(&linear.to_string()) };
        let right = held_out.map_or("-".into(), |held_out| format!("{held_out:.4}"));
        let name = format!("the mean of the {}", stages.len());
        self.observer
            .say(&format!("  {name:<24} {:>15}  cross-validated {right}  val {accuracy:.4}  <- kept", ""));
    }

    /// The vectors at each reading of `samples`.
    fn vectors(
        &self,
        network: &Network,
        taps: &[Tap],
        settings: &LinearSettings,
        samples: &[&Sample],
    ) -> Result<Vec<Tensor>> {
        let store = self.folder.features();
        let job = self.features_job(network, taps, settings.batch_size, &store);
        // Without the images that were left out: one that has become readable shifts the rows. With
        // the network's values: the weights' file may have been replaced by another.
        let fingerprint = format!("{} {}", self.plan.data.fingerprint(), network.frozen_hash()?);
        let bar = self.observer.counting("features", samples.len());
        let vectors = job.compute(samples, &fingerprint, self.resume, |done| bar.at(done))?;
        job.parts.note().iter().for_each(|note| self.observer.say(&format!("note: {note}")));
        Ok(vectors)
    }

    pub(super) fn features_job<'a>(
        &'a self,
        network: &'a Network,
        taps: &'a [Tap],
        batch_size: usize,
        store: &'a Path,
    ) -> features::FeatureJob<'a> {
        let plan = &self.plan.settings;
        features::FeatureJob {
            network,
            taps,
            preprocessing: &plan.preprocessing,
            limits: self.plan.settings.data.limits(),
            batch_size,
            threads: plan.threads,
            store,
            signals: self.signals,
            parts: BackOff::new(network.device()),
        }
    }
}

/// A row for each compared head. `on_val`: the validation accuracy of the kept one; `alone`: that
/// of a single head.
fn stage_rows(
    network: &Network,
    taps: &[Tap],
    heads: &Heads,
    on_val: f64,
    alone: impl Fn(&Fit) -> Result<f64>,
) -> Result<Vec<StageRow>> {
    let averaged = heads.weights[heads.best] < 1.;
    let compared = heads.compared.iter().zip(&heads.weights).enumerate();
    let row = |(place, (fit, &weight)): (usize, (&Fit, &f64))| {
        let mut row = stage_row(network, taps, fit);
        row.chosen = place == heads.best;
        row.share = averaged.then_some(weight);
        // Heads fitted to a part of the images and to all differ.
        row.val_accuracy = if weight == 1. { on_val } else { alone(fit)? };
        Ok(row)
    };
    compared.map(row).collect()
}

fn stage_row(network: &Network, taps: &[Tap], fit: &Fit) -> StageRow {
    let name = |&index: &usize| network.tap_name(taps[index]).to_string();
    let row = fit.cross_validated();
    StageRow {
        stages: fit.taps.iter().map(name).collect(),
        features: fit.fit.weight.size()[1],
        c: fit.fit.c,
        cv_accuracy: row.map(|row| row.accuracy),
        cv_loss: row.map(|row| row.log_loss),
        val_accuracy: 0.,
        chosen: false,
        share: None,
    }
}

/// The metrics of a head, as the row of an epoch.
fn only_epoch(train: &Evaluation, val: &Evaluation, images_per_second: f64, seconds: f64) -> EpochRow {
    EpochRow {
        epoch: 1,
        train_loss: train.loss,
        train_accuracy: train.accuracy,
        val_loss: val.loss,
        val_accuracy: val.accuracy,
        val_balanced_accuracy: Some(balanced_accuracy(&val.confusion)),
        val_macro_f1: Some(Averages::of_classes(&val.confusion).f1),
        lr: 0.,
        images_per_second,
        seconds,
    }
}

/// The places where the network is read.
fn taps(network: &Network, settings: &LinearSettings) -> Result<Vec<Tap>> {
    match settings.stages.is_empty() {
        false => settings.stages.iter().map(|name| network.tap(name)).collect(),
        true if matches!(network.classifier(), Classifier::Convolution(_)) => {
            Ok(vec![Tap::Features, Tap::Peaks])
        }
        true => Ok(vec![Tap::Features]),
    }
}

/// Notes on a fit to `train` images.
fn notes(
    network: &Network,
    taps: &[Tap],
    settings: &LinearSettings,
    heads: &Heads,
    train: usize,
) -> Vec<String> {
    let best = &heads.compared[heads.best];
    let mut notes: Vec<String> = best.fit.note.iter().cloned().collect();
    if heads.images < train {
        notes.push(format!(
            "the stages{} were compared on {} of {}; the head is fitted to all of them",
            if settings.c.is_none() { " and C" } else { "" },
            heads.images,
            counted(train, "training image", "training images")
        ));
    }
    if !settings.stages.is_empty() && best.cross_validated().is_none() {
        notes.push(format!(
            "the stages could not be compared: `{}` was taken",
            network.tap_name(taps[best.taps[0]])
        ));
    }
    notes
}

/// Each image goes once through the stages that are read, and through no others.
fn forward_counts(network: &Network, taps: &[Tap], data: &Data) -> Vec<ForwardCount> {
    let end = match taps.last() {
        Some(&Tap::Stage(last)) => last + 1,
        _ => network.stage_count(),
    };
    let stages = network.span_name(0..end);
    let pass = |part, images| ForwardCount { part, stages: stages.clone(), images, times: 1 };
    let test = data.test.as_ref().map_or(0, Vec::len);
    let all = [pass("train", data.train.len()), pass("val", data.val.len()), pass("test", test)];
    all.into_iter().filter(|pass| pass.images > 0).collect()
}

/// A range of rows of all vectors.
pub(super) fn rows(vectors: &[Tensor], start: usize, length: usize) -> Result<Vec<Tensor>> {
    let narrow = |vectors: &Tensor| vectors.f_narrow(0, start as i64, length as i64);
    vectors.iter().map(narrow).collect::<Result<_, _>>().map_err(Error::torch("take rows of features"))
}
