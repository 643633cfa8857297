//! `linear` and `stages`: features of the frozen network once, then a head that is fitted to them.

use std::path::Path;
use std::time::Instant;

use tch::Tensor;

use super::candidates::{Candidate, chosen};
use super::{Outcomes, Run, Seconds};
use crate::artifact;
use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::features;
use crate::linear;
use crate::models::{Classifier, Fill, Network, Reading};
use crate::parts::Parts;
use crate::plan::{Data, LinearSettings};
use crate::report::{LinearReport, StageRow};
use crate::trainer::{self, EpochRow, Pass};
use crate::wording::counted;

impl Run<'_> {
    /// Features once, then the head, fitted to them; with several stages the one, or all together, that
    /// cross-validation inside `train` finds best.
    pub(super) fn on_features(
        &self,
        network: &mut Network,
        settings: &LinearSettings,
        seconds: &mut Seconds,
    ) -> Result<Outcomes> {
        let data = &self.plan.data;
        let before = network.frozen_hash()?;
        let readings = match settings.stages.is_empty() {
            false => settings.stages.iter().map(|name| network.reading(name)).collect::<Result<Vec<_>>>()?,
            true if matches!(network.classifier(), Classifier::Convolution(_)) => {
                vec![Reading::Features, Reading::Peaks]
            }
            true => vec![Reading::Features],
        };
        let samples: Vec<&Sample> = data.all().map(|(_, sample)| sample).collect();
        let (vectors, taken) = self.vectors(network, &readings, settings, &samples, "", seconds)?;
        let (train, val) = (data.train.len(), data.val.len());
        let passes = passes(network, &readings, data);

        let started = Instant::now();
        let x = rows(&vectors, 0, train)?;
        let candidates = seconds.of("fit", || self.candidates(network, settings, &x, &data.train));
        self.signals.check("stopped while fitting the head; the features are kept: go on with `--resume`")?;
        let candidates = candidates?;
        let chosen = chosen(&candidates);
        let mut stages = match settings.stages.is_empty() {
            true => Vec::new(),
            false => candidates.iter().map(|c| stage_row(network, &readings, c)).collect::<Vec<_>>(),
        };
        for (index, row) in stages.iter_mut().enumerate() {
            row.chosen = index == chosen;
        }
        let compared = self.compared_on(settings, &data.train);
        let mut notes: Vec<String> = candidates[chosen].fit.note.iter().cloned().collect();
        notes.extend(compared.as_ref().map(|images| {
            format!(
                "the stages{} were compared on {} of {}; the head is fitted to all of them",
                if settings.c.is_none() { " and C" } else { "" },
                images.len(),
                counted(train, "training image", "training images")
            )
        }));
        if !settings.stages.is_empty() && candidates[chosen].cross_validated().is_none() {
            notes.push(format!(
                "no class has two images, so that the stages cannot be compared: `{}` was taken",
                network.reading_name(readings[candidates[chosen].readings[0]])
            ));
        }

        let measure = |candidate: &Candidate, start: usize, samples: &[Sample]| {
            let x = rows(&vectors, start, samples.len())?;
            candidate.measure(&x, &trainer::labels_of(samples.iter())?, data.classes.len())
        };
        for (candidate, row) in candidates.iter().zip(&mut stages) {
            row.val_accuracy = measure(candidate, train, &data.val)?.accuracy;
        }
        let fitted = seconds.of("fit", || self.best(network, settings, candidates, &x, &data.train));
        self.signals.check("stopped while fitting the head; the features are kept: go on with `--resume`")?;
        let candidate = fitted?;
        let on_train = measure(&candidate, 0, &data.train)?;
        let on_val = measure(&candidate, train, &data.val)?;
        let test = data.test.as_ref().map(|test| measure(&candidate, train + val, test)).transpose()?;
        // Fitted to a part of the images and to all, it is not the same head.
        stages.iter_mut().filter(|row| row.chosen).for_each(|row| row.val_accuracy = on_val.accuracy);

        let mut card = self.card.clone();
        if settings.stages.is_empty() {
            linear::set_head(
                network,
                &candidate.fit,
                vectors.get(1).map(|peaks| peaks.narrow(0, 0, train as i64)),
            )?;
        } else {
            self.verify_frozen(network, &before)?;
            let readings: Vec<Reading> = candidate.readings.iter().map(|&index| readings[index]).collect();
            let width = candidate.fit.weight.size()[1] as usize;
            network.read_stages(&readings, width, data.classes.len(), Fill::Zeros)?;
            card.reads = network.head_reading_names();
            linear::set_head(network, &candidate.fit, None)?;
        }
        artifact::write(&self.folder.model(), network, &card)?;

        let row = EpochRow {
            epoch: 1,
            train_loss: on_train.loss,
            train_accuracy: on_train.accuracy,
            val_loss: on_val.loss,
            val_accuracy: on_val.accuracy,
            lr: 0.,
            images_per_second: samples.len() as f64 / taken.max(1e-9),
            seconds: started.elapsed().as_secs_f64() + taken,
        };
        self.folder.rewrite_metrics(std::slice::from_ref(&row))?;
        let linear = LinearReport::of(&candidate.fit);
        stages.iter().for_each(|row| self.terminal.say(row.to_string()));
        self.terminal.say(linear.to_string());
        Ok(Outcomes {
            epochs: vec![row],
            val: on_val,
            test,
            views: None,
            linear: Some(linear),
            stages,
            compared_on: compared.map_or(train, |images| images.len()),
            notes,
            linear_head: None,
            passes,
        })
    }

    /// The vectors at each reading of all images, and the seconds that took. `what` tells them from others of the same
    /// images.
    pub(super) fn vectors(
        &self,
        network: &Network,
        readings: &[Reading],
        settings: &LinearSettings,
        samples: &[&Sample],
        what: &str,
        seconds: &mut Seconds,
    ) -> Result<(Vec<Tensor>, f64)> {
        let data = &self.plan.data;
        let store = self.folder.features();
        let job = self.features_job(network, readings, settings.batch_size, &store);
        // Without the images that were left out: one that has become readable shifts the rows. With the
        // network's values: a file of another content may have taken the weights' place.
        let listing = format!("{what}{} {}", data.listing(), network.frozen_hash()?);
        let bar = self.terminal.images("features", samples.len());
        let started = Instant::now();
        let vectors = seconds.of("features", || {
            job.compute(samples, &listing, self.resume, |done| bar.set_position(done as u64))
        });
        bar.finish_and_clear();
        let (vectors, taken) = (vectors?, started.elapsed().as_secs_f64());
        job.parts.note().iter().for_each(|note| self.terminal.say(format!("note: {note}")));
        self.terminal.say(format!("features of {} images in {:.1} s", samples.len(), taken));
        Ok((vectors, taken))
    }

    pub(super) fn features_job<'a>(
        &'a self,
        network: &'a Network,
        readings: &'a [Reading],
        batch_size: usize,
        store: &'a Path,
    ) -> features::Job<'a> {
        let plan = &self.plan.settings;
        features::Job {
            network,
            readings,
            preprocessing: &plan.preprocessing,
            limits: self.limits,
            batch_size,
            threads: plan.threads,
            store,
            signals: self.signals,
            parts: Parts::new(network.device()),
        }
    }
}

fn stage_row(network: &Network, readings: &[Reading], candidate: &Candidate) -> StageRow {
    let name = |&index: &usize| network.reading_name(readings[index]).to_string();
    let row = candidate.cross_validated();
    StageRow {
        stages: candidate.readings.iter().map(name).collect(),
        features: candidate.fit.weight.size()[1],
        c: candidate.fit.c,
        cv_accuracy: row.map(|row| row.accuracy),
        cv_loss: row.map(|row| row.log_loss),
        val_accuracy: 0.,
        chosen: false,
    }
}

/// Each image goes once through the stages that are read, and through no other.
fn passes(network: &Network, readings: &[Reading], data: &Data) -> Vec<Pass> {
    let end = match readings.last() {
        Some(&Reading::Stage(last)) => last + 1,
        _ => network.stage_count(),
    };
    let stages = network.span_name(0..end);
    let pass = |part, images| Pass { part, stages: stages.clone(), images, times: 1 };
    let test = data.test.as_ref().map_or(0, Vec::len);
    let all = [pass("train", data.train.len()), pass("val", data.val.len()), pass("test", test)];
    all.into_iter().filter(|pass| pass.images > 0).collect()
}

/// The same rows of all vectors.
pub(super) fn rows(vectors: &[Tensor], start: usize, length: usize) -> Result<Vec<Tensor>> {
    let narrow = |vectors: &Tensor| vectors.f_narrow(0, start as i64, length as i64);
    vectors.iter().map(narrow).collect::<Result<_, _>>().map_err(Error::torch("take rows of features"))
}
