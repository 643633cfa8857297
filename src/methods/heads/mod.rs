//! `linear` and `stages`: features of the frozen network once, then a head that is fitted to them.

mod fits;
mod pool;

use std::path::Path;
use std::time::Instant;

use tch::Tensor;

use self::fits::{Fit, chosen};
use self::pool::{Pool, shares_of};
use super::{Context, Outcomes, Seconds, Trained};
use crate::adapt;
use crate::artifact;
use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::features;
use crate::linear;
use crate::metrics::Evaluation;
use crate::models::{Classifier, Fill, Network, Reading};
use crate::parts::Parts;
use crate::plan::{Data, LinearSettings, Plan};
use crate::report::{HeadsReport, LinearReport, StageRow};
use crate::run_folder::RunFolder;
use crate::trainer::{self, EpochRow, KeptEpoch, Pass};
use crate::wording::counted;

pub(super) use self::fits::taken;

/// How much better the heads have to do with the training images' own BatchNorm statistics than with the source's. On
/// development tasks with 4 and 16 images a class 3 to 10 points did as well.
const ADAPTED_LEAD: f64 = 0.06;

/// Heads that are right on more than this have no use for other statistics.
const ADAPT_BELOW: f64 = 0.9;

/// Heads on features, and the one that is kept.
struct Heads {
    vectors: Vec<Tensor>,
    /// Seconds that the vectors took.
    taken: f64,
    /// For `stages`: each of them and all together.
    stages: Vec<StageRow>,
    head: Fit,
    /// Accuracy of the kept head on held-out training images.
    held_out: Option<f64>,
    /// Whether it is the mean of all.
    averaged: bool,
    on_val: Evaluation,
    notes: Vec<String>,
}

impl Heads {
    /// The share of `train` and `val` that the kept head is right on, the former when held out.
    fn right(&self, train: usize) -> f64 {
        let (train, val) = (train as f64, self.on_val.confusion.total() as f64);
        match self.held_out {
            None => self.on_val.accuracy,
            Some(held_out) => (held_out * train + self.on_val.accuracy * val) / (train + val),
        }
    }
}

impl Context<'_> {
    /// Features once, then the head, fitted to them; with several stages the one, or all together, that
    /// cross-validation inside `train` finds best, or the mean of all of them.
    pub(super) fn fit_heads(
        &self,
        settings: &LinearSettings,
        mut network: Network,
        seconds: &mut Seconds,
    ) -> Result<Trained> {
        let data = &self.plan.data;
        let readings = match settings.stages.is_empty() {
            false => settings.stages.iter().map(|name| network.reading(name)).collect::<Result<Vec<_>>>()?,
            true if matches!(network.classifier(), Classifier::Convolution(_)) => {
                vec![Reading::Features, Reading::Peaks]
            }
            true => vec![Reading::Features],
        };
        let (train, val) = (data.train.len(), data.val.len());
        let mut passes = passes(&network, &readings, data);
        let started = Instant::now();
        let before = network.frozen_hash()?;
        let mut heads = self.heads(&network, &readings, settings, self.folder, seconds)?;
        let mut adapted_on = None;
        if settings.adapt && heads.right(train) < ADAPT_BELOW {
            (heads, adapted_on) = self.adapted(&network, &readings, settings, heads, &mut passes, seconds)?;
        }
        let before = if adapted_on.is_some() { network.frozen_hash()? } else { before };
        let Heads { vectors, taken: took, stages, head, held_out, averaged, on_val, notes } = heads;

        let compared = self.compared_on(settings, &data.train);
        let on_train = measure(&head, &vectors, 0, &data.train, data.classes.len())?;
        let on_test = |test: &Vec<Sample>| measure(&head, &vectors, train + val, test, data.classes.len());
        let test = data.test.as_ref().map(on_test).transpose()?;

        let mut card = self.card(&network);
        if settings.stages.is_empty() {
            linear::set_head(
                &network,
                &head.fit,
                vectors.get(1).map(|peaks| peaks.narrow(0, 0, train as i64)),
            )?;
        } else {
            self.verify_frozen(&network, &before)?;
            let readings: Vec<Reading> = head.readings.iter().map(|&index| readings[index]).collect();
            let width = head.fit.weight.size()[1] as usize;
            network.read_stages(&readings, width, data.classes.len(), Fill::Zeros)?;
            card.reads = network.head_reading_names();
            linear::set_head(&network, &head.fit, None)?;
        }
        artifact::write(&self.folder.model(), &network, &card)?;

        let row = EpochRow {
            epoch: 1,
            train_loss: on_train.loss,
            train_accuracy: on_train.accuracy,
            val_loss: on_val.loss,
            val_accuracy: on_val.accuracy,
            lr: 0.,
            images_per_second: data.all().count() as f64 / took.max(1e-9),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.folder.rewrite_metrics(std::slice::from_ref(&row))?;
        let linear = LinearReport::of(&head.fit);
        stages.iter().for_each(|row| self.observer.say(&row.to_string()));
        if averaged {
            let right = held_out.map_or("-".into(), |held_out| format!("{held_out:.4}"));
            let name = format!("the mean of the {}", stages.len());
            self.observer.say(&format!(
                "  {name:<24} {:>15}  cross-validated {right}  val {:.4}  <- kept",
                "", on_val.accuracy
            ));
        } else {
            self.observer.say(&linear.to_string());
        }
        let outcomes = Outcomes {
            best: KeptEpoch::only(&row),
            epochs: vec![row],
            val: on_val,
            test,
            linear: Some(linear),
            heads: averaged.then_some(HeadsReport { cv_accuracy: held_out }),
            adapted_on,
            held_out,
            compared_on: compared.map_or(train, |images| images.len()),
            stages,
            notes,
            linear_head: None,
            passes,
        };
        Ok(Trained { network, outcomes })
    }

    /// Features of all images, and the heads on them. The features are kept in `folder`.
    fn heads(
        &self,
        network: &Network,
        readings: &[Reading],
        settings: &LinearSettings,
        folder: &RunFolder,
        seconds: &mut Seconds,
    ) -> Result<Heads> {
        let data = &self.plan.data;
        let samples: Vec<&Sample> = data.all().map(|(_, sample)| sample).collect();
        let (vectors, taken) = self.vectors(network, readings, settings, &samples, ("", folder), seconds)?;
        let (train, classes) = (data.train.len(), data.classes.len());
        let x = rows(&vectors, 0, train)?;
        let compared = self.compared_on(settings, &data.train);
        let loose = compared.is_some();
        let candidates = seconds.of("fit", || self.candidates(network, settings, &x, &data.train, loose));
        self.signals.check("stopped while fitting the head; the features are kept: go on with `--resume`")?;
        let candidates = candidates?;
        let best = chosen(&candidates);
        let mut stages = match settings.stages.is_empty() {
            true => Vec::new(),
            false => candidates.iter().map(|c| stage_row(network, readings, c)).collect::<Vec<_>>(),
        };
        for (candidate, row) in candidates.iter().zip(&mut stages) {
            row.val_accuracy = measure(candidate, &vectors, train, &data.val, classes)?.accuracy;
        }
        stages.iter_mut().enumerate().for_each(|(index, row)| row.chosen = index == best);
        let mut notes: Vec<String> = candidates[best].fit.note.iter().cloned().collect();
        notes.extend(compared.as_ref().map(|images| {
            format!(
                "the stages{} were compared on {} of {}; the head is fitted to all of them",
                if settings.c.is_none() { " and C" } else { "" },
                images.len(),
                counted(train, "training image", "training images")
            )
        }));
        if !settings.stages.is_empty() && candidates[best].cross_validated().is_none() {
            notes.push(format!(
                "no class has two images, so that the stages cannot be compared: `{}` was taken",
                network.reading_name(readings[candidates[best].readings[0]])
            ));
        }
        let mut held_out = candidates[best].cross_validated().map(|row| row.accuracy);
        let widths: Vec<i64> = x.iter().map(|x| x.size()[1]).collect();
        let labels = trainer::labels_of(data.train.iter())?;
        let pooled = match (settings.average && candidates.len() > 1, &compared) {
            (false, _) => Err(candidates),
            (true, None) => Pool::of(candidates, &widths, &labels)?,
            (true, Some(images)) => {
                let shares = shares_of(&candidates).unwrap_or_default();
                let refit = |(index, it)| match shares.get(index) {
                    Some(0.) => Ok(it),
                    _ => self.refitted(network, settings, it, &x, &data.train),
                };
                let fitted = seconds
                    .of("fit", || candidates.into_iter().enumerate().map(refit).collect::<Result<Vec<_>>>());
                self.signals
                    .check("stopped while fitting the head; the features are kept: go on with `--resume`")?;
                let of_part = fits::taken(&[labels], images)?;
                Pool::of(fitted?, &widths, &of_part[0])?
            }
        };
        let averaged = pooled.is_ok();
        let head = match pooled {
            Ok(Pool { shares, accuracy, head }) => {
                stages.iter_mut().zip(shares).for_each(|(row, share)| row.share = Some(share));
                held_out = Some(accuracy);
                head
            }
            Err(candidates) => {
                let fitted = seconds.of("fit", || self.best(network, settings, candidates, &x, &data.train));
                self.signals
                    .check("stopped while fitting the head; the features are kept: go on with `--resume`")?;
                fitted?
            }
        };
        let on_val = measure(&head, &vectors, train, &data.val, classes)?;
        if !averaged {
            // Fitted to a part of the images and to all, it is not the same head.
            stages.iter_mut().filter(|row| row.chosen).for_each(|row| row.val_accuracy = on_val.accuracy);
        }
        Ok(Heads { vectors, taken, stages, head, held_out, averaged, on_val, notes })
    }

    /// The heads once more, on features that are normalised by the training images' own statistics. `network` keeps these where
    /// the heads do clearly better with them: then the number of images that they are of is returned too.
    fn adapted(
        &self,
        network: &Network,
        readings: &[Reading],
        settings: &LinearSettings,
        heads: Heads,
        passes: &mut Vec<Pass>,
        seconds: &mut Seconds,
    ) -> Result<(Heads, Option<usize>)> {
        let Plan { settings: plan, data, .. } = self.plan;
        let own_statistics = network.running_statistics()?;
        let job = adapt::Job {
            network,
            preprocessing: &plan.preprocessing,
            limits: self.plan.settings.data.limits(),
            seed: plan.seed,
            threads: plan.threads,
            signals: self.signals,
        };
        let images = seconds.of("features", || job.adapt(&data.train))?;
        if images == 0 {
            return Ok((heads, None));
        }
        let folder = self.folder.heat("adapted")?;
        let seen = passes.iter().find(|pass| pass.part == "train").cloned();
        let stages = network.span_name(0..network.stage_count());
        passes.extend(seen.map(|train| Pass { images, times: 1, stages, ..train }));
        let again = passes.len().saturating_sub(1);
        let mut once_more = || passes[..again].iter_mut().for_each(|pass| pass.times += 1);
        // The top features first: what better statistics mend reaches them, and most often there is nothing to mend.
        if readings.len() > 1 {
            let top = readings.len() - 1;
            let first = LinearSettings {
                stages: settings.stages[top..].to_vec(),
                average: false,
                ..settings.clone()
            };
            once_more();
            let adapted = self.heads(network, &readings[top..], &first, &folder, seconds)?.held_out;
            let own = heads.stages.iter().rfind(|row| row.stages.len() == 1).and_then(|row| row.cv_accuracy);
            if own.zip(adapted).is_some_and(|(own, adapted)| adapted - own < ADAPTED_LEAD / 2.) {
                self.observer.say(&format!(
                    "BatchNorm's statistics of {} make no better features than the source's",
                    counted(images, "training image", "training images")
                ));
                network.set_running_statistics(&own_statistics)?;
                return Ok((heads, None));
            }
        }
        once_more();
        let mut adapted = self.heads(network, readings, settings, &folder, seconds)?;
        let [was, is] = [&heads, &adapted].map(|heads| heads.right(data.train.len()));
        let kept = is - was >= ADAPTED_LEAD - 1e-6;
        self.observer.say(&format!(
            "heads are right on {is:.4} with BatchNorm's statistics of {} instead of the source's ({was:.4}): {}",
            counted(images, "training image", "training images"),
            if kept { "they are kept" } else { "not clearly more" }
        ));
        if !kept {
            network.set_running_statistics(&own_statistics)?;
            return Ok((heads, None));
        }
        adapted.notes.push(format!(
            "BatchNorm's running statistics are those of {}, with which the heads are right on {is:.4}, and on {was:.4} with \
             the source's",
            counted(images, "training image", "training images")
        ));
        Ok((adapted, Some(images)))
    }

    /// The vectors at each reading of all images, and the seconds that took. `what` tells them from others of the same
    /// images; they are kept in `folder`.
    pub(super) fn vectors(
        &self,
        network: &Network,
        readings: &[Reading],
        settings: &LinearSettings,
        samples: &[&Sample],
        (what, folder): (&str, &RunFolder),
        seconds: &mut Seconds,
    ) -> Result<(Vec<Tensor>, f64)> {
        let data = &self.plan.data;
        let store = folder.features();
        let job = self.features_job(network, readings, settings.batch_size, &store);
        // Without the images that were left out: one that has become readable shifts the rows. With the
        // network's values: a file of another content may have taken the weights' place.
        let listing = format!("{what}{} {}", data.listing(), network.frozen_hash()?);
        let bar = self.observer.counting("features", samples.len());
        let started = Instant::now();
        let vectors =
            seconds.of("features", || job.compute(samples, &listing, self.resume, |done| bar.at(done)));
        drop(bar);
        let (vectors, taken) = (vectors?, started.elapsed().as_secs_f64());
        job.parts.note().iter().for_each(|note| self.observer.say(&format!("note: {note}")));
        self.observer.say(&format!("features of {} images in {:.1} s", samples.len(), taken));
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
            limits: self.plan.settings.data.limits(),
            batch_size,
            threads: plan.threads,
            store,
            signals: self.signals,
            parts: Parts::new(network.device()),
        }
    }
}

fn stage_row(network: &Network, readings: &[Reading], candidate: &Fit) -> StageRow {
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
        share: None,
    }
}

/// What a head is worth on the images whose rows begin at `start`.
fn measure(
    candidate: &Fit,
    vectors: &[Tensor],
    start: usize,
    samples: &[Sample],
    classes: usize,
) -> Result<Evaluation> {
    candidate.measure(&rows(vectors, start, samples.len())?, &trainer::labels_of(samples.iter())?, classes)
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
