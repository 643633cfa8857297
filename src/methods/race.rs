//! `race`: each method learns from all folds of the training images but one, and is measured on
//! that one.

use std::fs::File;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Context;
use super::heads::taken;
use crate::data::Sample;
use crate::device::back_off::BackOff;
use crate::error::{Error, Result};
use crate::inference::measure::labels_of;
use crate::linear;
use crate::models::{Network, Tap};
use crate::plan::{Candidate, LinearSettings, RaceSettings, SINGLE, TrainSettings, Training};
use crate::preprocess::Augmentation;
use crate::recipe::Method;
use crate::report::Race;
use crate::run::folder::Start;
use crate::stats::metrics::Counter;
use crate::strategy::comparison::MethodAnswers;
use crate::text::words::are;
use crate::trainer;
use crate::util::atomic::AtomicFile;
use crate::util::budget::bytes_up_to;
use crate::util::random::seed_of;

/// Result of a race.
pub struct Raced {
    /// The measurements.
    pub race: Race,
    /// The method that the run is to train.
    pub winner: Candidate,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Measures the methods, and chooses the best. Finished parts of an earlier run are not repeated.
pub fn race(context: &Context, settings: &RaceSettings, start: Start) -> Result<Raced> {
    let Context { plan, folder, observer, .. } = *context;
    let data = &plan.data;
    let dealt = folds(&data.train, data.classes.len(), settings.folds, plan.settings.seed);
    let (fold_of, count) = dealt.ok_or_else(|| Error::run(SINGLE))?;
    // Only after all checks have passed.
    folder.begin(&plan.settings, start)?;
    let fingerprint = plan.data.fingerprint();
    let mut fold_runs = FoldRuns { context, settings, fold_of, count, fingerprint, rows: Vec::new() };
    fold_runs.restore()?;
    fold_runs.on_features()?;
    for candidate in &settings.methods {
        let Training::Gradient { train, augment } = &candidate.training else { continue };
        for fold in (0..count).filter(|&fold| !fold_runs.is_done(candidate.method, fold)).collect::<Vec<_>>()
        {
            fold_runs.by_gradient(candidate, train, augment, fold)?;
        }
    }
    let (outcomes, mut notes) = (fold_runs.outcomes(), fold_runs.notes());
    folder.drop_fold_runs()?;
    let race = Race::of(outcomes, count, settings.epochs);
    for row in &race.methods {
        let interval = match row.difference {
            None => format!(" ({:.4} to {:.4})", row.interval.0, row.interval.1),
            Some(_) => String::new(),
        };
        observer.say(&format!("race    {}{interval}, {:.1} s", row.line(), row.seconds));
    }
    notes.extend(race.note());
    notes.iter().for_each(|note| observer.say(&format!("note: {note}")));
    let winner = race.winner().map(|row| row.method);
    let winner = settings.methods.iter().find(|candidate| Some(candidate.method) == winner).cloned();
    let winner = winner.ok_or_else(|| Error::run("nobody has run in the race"))?;
    Ok(Raced { race, winner, notes })
}

/// One method on one fold: a line of `race.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FoldRun {
    method: Method,
    /// Counted from 1.
    fold: usize,
    /// The images that were held out, counted from 0 in the order of the training images.
    images: Vec<usize>,
    /// Whether the method was right on each of them.
    right: Vec<bool>,
    /// Whether its training diverged, which counts as wrong on all of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    diverged: bool,
    seconds: f64,
    /// Identifies the images of the run.
    #[serde(rename = "listing")]
    fingerprint: String,
}

/// Bytes of `race.jsonl`; a million images take a tenth.
const LARGEST: u64 = 512 << 20;

/// What comes before the checksum at the end of a line.
const CHECKSUM: &str = ",\"crc32\":\"";

impl FoldRun {
    /// A line of `race.jsonl`, which ends with the checksum of what comes before it: a resumed race
    /// goes on from it.
    fn line(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string(self)?;
        let text = text.strip_suffix('}').unwrap_or(&text);
        Ok(format!("{text}{CHECKSUM}{:08x}\"}}\n", crc32fast::hash(text.as_bytes())))
    }

    /// Reads a whole line.
    fn read(line: &str) -> Option<FoldRun> {
        let (text, checksum) = line.strip_suffix("\"}")?.rsplit_once(CHECKSUM)?;
        let whole = u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(text.as_bytes());
        whole.then(|| serde_json::from_str(line).ok())?
    }
}

/// A race in progress.
struct FoldRuns<'a> {
    context: &'a Context<'a>,
    settings: &'a RaceSettings,
    fold_of: Vec<Option<usize>>,
    count: usize,
    fingerprint: String,
    rows: Vec<FoldRun>,
}

impl FoldRuns<'_> {
    /// Restores finished measurements.
    fn restore(&mut self) -> Result<()> {
        let path = self.context.folder.race();
        if !path.exists() {
            return Ok(());
        }
        let text = File::open(&path).and_then(|file| bytes_up_to(file, LARGEST));
        let text = text.map_err(Error::io("read", &path))?;
        let text = text.ok_or_else(|| Error::file(&path, "has more than 512 MiB, which no race has"))?;
        for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            let fold_run = FoldRun::read(line).ok_or_else(|| {
                let message = format!(
                    "line {}: is damaged, or is not what a race has written; `--overwrite` starts afresh",
                    number + 1
                );
                Error::file(&path, message)
            })?;
            let whole = fold_run.right.len() == fold_run.images.len();
            if fold_run.fingerprint != self.fingerprint
                || fold_run.images != self.held_out(fold_run.fold.wrapping_sub(1))
                || !whole
            {
                return Err(Error::file(
                    &path,
                    "was measured on other images: which of them can be read has changed since. Bring them back as \
                     they were, or start afresh with `--overwrite`",
                ));
            }
            self.rows.push(fold_run);
        }
        Ok(())
    }

    fn is_done(&self, method: Method, fold: usize) -> bool {
        self.rows.iter().any(|fold_run| fold_run.method == method && fold_run.fold == fold + 1)
    }

    fn held_out(&self, fold: usize) -> Vec<usize> {
        (0..self.fold_of.len()).filter(|&image| self.fold_of[image] == Some(fold)).collect()
    }

    fn learnt_from(&self, fold: usize) -> Vec<usize> {
        (0..self.fold_of.len()).filter(|&image| self.fold_of[image] != Some(fold)).collect()
    }

    fn samples(&self, images: &[usize]) -> Vec<Sample> {
        images.iter().map(|&image| self.context.plan.data.train[image].clone()).collect()
    }

    /// Explains an interruption by a signal.
    fn stopped<T>(&self, result: Result<T>) -> Result<T> {
        let (done, all) = (self.rows.len(), self.count * self.settings.methods.len());
        match &result {
            Err(_) => self
                .context
                .signals
                .check(&format!(
                    "stopped in the race; {done} of its {all} parts {} kept: go on with `--resume`",
                    are(done)
                ))
                .and(result),
            Ok(_) => result,
        }
    }

    /// Records the result of a method on a fold.
    fn finish(
        &mut self,
        method: Method,
        fold: usize,
        right: Vec<bool>,
        diverged: bool,
        seconds: f64,
    ) -> Result<()> {
        let count = right.iter().filter(|right| **right).count();
        let what = match diverged {
            true => "its training diverged, which counts as wrong".to_string(),
            false => format!("{count} of {} right", right.len()),
        };
        let Context { observer, folder, .. } = *self.context;
        observer.say(&format!(
            "race    {method}, fold {} of {}: {what}, {seconds:.1} s",
            fold + 1,
            self.count
        ));
        let (images, fingerprint) = (self.held_out(fold), self.fingerprint.clone());
        self.rows.push(FoldRun { method, fold: fold + 1, images, right, diverged, seconds, fingerprint });
        let lines = self.rows.iter().map(FoldRun::line).collect::<Result<String, _>>();
        let lines =
            lines.map_err(|error| Error::run(format!("cannot write what the race has found: {error}")))?;
        AtomicFile::write(folder.race(), lines.as_bytes())
    }

    /// `linear` and `stages`: each image goes through the frozen network once, for all folds and
    /// for both.
    fn on_features(&mut self) -> Result<()> {
        let rows = |candidate: &Candidate| (0..self.count).any(|fold| !self.is_done(candidate.method, fold));
        let candidates: Vec<(&Candidate, &LinearSettings)> = self
            .settings
            .methods
            .iter()
            .filter(|it| rows(it))
            .filter_map(|it| Some((it, it.linear()?)))
            .collect();
        let Some((first, settings)) = candidates.first() else { return Ok(()) };
        let Context { plan, folder, observer, .. } = *self.context;
        let network = self.context.network(first)?;
        let read =
            candidates.iter().map(|(_, settings)| taps(&network, settings)).collect::<Result<Vec<_>>>()?;
        let mut all: Vec<Tap> = read.concat();
        all.sort_by_key(|&tap| match tap {
            Tap::Stage(index) => index,
            _ => usize::MAX,
        });
        all.dedup();

        let started = Instant::now();
        let context = Context { resume: true, ..*self.context };
        let samples: Vec<&Sample> = plan.data.train.iter().collect();
        let store = folder.fold_run("features")?.features();
        let fingerprint = format!("race {} {}", self.fingerprint, network.frozen_hash()?);
        let bar = observer.counting("race: features", samples.len());
        let vectors = context.features_job(&network, &all, settings.batch_size, &store).compute(
            &samples,
            &fingerprint,
            true,
            |done| bar.at(done),
        );
        drop(bar);
        let vectors = self.stopped(vectors)?;
        let shared = started.elapsed().as_secs_f64() / self.count as f64;

        for ((candidate, settings), read) in candidates.into_iter().zip(&read) {
            let places = read.iter().filter_map(|tap| all.iter().position(|it| it == tap));
            let vectors: Vec<Tensor> = places.map(|place| vectors[place].shallow_clone()).collect();
            for fold in 0..self.count {
                if self.is_done(candidate.method, fold) {
                    continue;
                }
                let started = Instant::now();
                let (learnt, held) = (self.learnt_from(fold), self.held_out(fold));
                let (x, samples) = (taken(&vectors, &learnt)?, self.samples(&learnt));
                let heads = self.stopped(context.heads(&network, settings, &x, &samples))?;
                let labels = labels_of(self.samples(&held).iter())?;
                let found = heads.head.measure(
                    &taken(&vectors, &held)?,
                    &labels,
                    Counter::new(plan.data.classes.len()),
                )?;
                let seconds = shared + started.elapsed().as_secs_f64();
                self.finish(candidate.method, fold, found.confusion.outcomes().to_vec(), false, seconds)?;
            }
        }
        Ok(())
    }

    /// Trains a method with a training loop on one fold: its last epoch counts, and no epoch is
    /// chosen.
    fn by_gradient(
        &mut self,
        candidate: &Candidate,
        settings: &TrainSettings,
        augment: &Augmentation,
        fold: usize,
    ) -> Result<()> {
        let started = Instant::now();
        let Context { plan, folder, observer, signals, .. } = *self.context;
        let network = self.context.network(candidate)?;
        let settings = settings.shortened(self.settings.epochs, &network);
        let (train, held) = (self.samples(&self.learnt_from(fold)), self.samples(&self.held_out(fold)));
        let folder = folder.fold_run(&format!("{}-{}", candidate.method, fold + 1))?;
        let job = trainer::TrainingJob {
            settings: &settings,
            preprocessing: &plan.settings.preprocessing,
            augment,
            limits: plan.settings.data.limits(),
            fingerprint: &self.fingerprint,
            train: &train,
            val: &[],
            test: None,
            classes: plan.data.classes.len(),
            seed: plan.settings.seed,
            threads: plan.settings.threads,
            folder: &folder,
            card: &self.context.card(&network),
            signals,
            parts: BackOff::new(network.device()),
        };
        let what = format!("race: {}, fold {} of {}", candidate.method, fold + 1, self.count);
        let mut watch = observer.part(what, settings.epochs);
        let resume = folder.checkpoint().exists();
        let trained = trainer::train_to_the_end(&job, &network, resume, watch.as_mut());
        drop(watch);
        let measured = trained.and_then(|()| trainer::evaluate(&job, &network, &held));
        let (right, diverged) = match measured {
            Ok(found) if found.loss.is_finite() => (found.confusion.outcomes().to_vec(), false),
            Ok(_) | Err(Error::Diverged(_)) => (vec![false; held.len()], true),
            Err(error) => return self.stopped(Err(error)),
        };
        self.finish(candidate.method, fold, right, diverged, started.elapsed().as_secs_f64())
    }

    /// Results of each method on all held-out images, in the order of the folds.
    fn outcomes(&self) -> Vec<MethodAnswers> {
        let of = |candidate: &Candidate| {
            let mut fold_runs: Vec<&FoldRun> =
                self.rows.iter().filter(|fold_run| fold_run.method == candidate.method).collect();
            fold_runs.sort_by_key(|fold_run| fold_run.fold);
            MethodAnswers {
                method: candidate.method,
                right: fold_runs.iter().flat_map(|fold_run| fold_run.right.iter().copied()).collect(),
                seconds: fold_runs.iter().map(|fold_run| fold_run.seconds).sum(),
            }
        };
        self.settings.methods.iter().map(of).collect()
    }

    fn notes(&self) -> Vec<String> {
        let diverged = self.rows.iter().filter(|fold_run| fold_run.diverged);
        let note = |fold_run: &FoldRun| {
            format!(
                "the training of `{}` diverged in fold {} of the race, which counts as wrong on its images: lower \
                 `train.lr` or set `train.clip_grad_norm: 1`",
                fold_run.method, fold_run.fold
            )
        };
        diverged.map(note).collect()
    }
}

/// The readings of a method in the frozen network.
fn taps(network: &Network, settings: &LinearSettings) -> Result<Vec<Tap>> {
    match settings.stages.is_empty() {
        true => Ok(vec![Tap::Features]),
        false => settings.stages.iter().map(|name| network.tap(name)).collect(),
    }
}

/// The fold that holds out each image, from 0; none for an image that is alone in its class, from
/// which all learn. Folds are equal in size to one image, in each class too. Also the number of
/// folds, at most the images of the largest class. `None` if no class has two images, so that
/// nothing can be held out.
fn folds(samples: &[Sample], classes: usize, folds: usize, seed: u64) -> Option<(Vec<Option<usize>>, usize)> {
    let labels: Vec<i64> = samples.iter().map(|sample| sample.label as i64).collect();
    let mut counts = vec![0; classes];
    samples.iter().for_each(|sample| counts[sample.label] += 1);
    let folds = linear::folds(&counts, folds)?;
    Some((linear::stratified_folds(&labels, classes, folds, seed_of(seed, "race") as u64), folds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(counts: &[usize]) -> Vec<Sample> {
        let class = |(label, &count): (usize, &usize)| {
            let sample =
                move |i| Sample { path: "".into(), name: format!("{label}/{i}"), label, record: None };
            (0..count).map(sample).collect::<Vec<_>>()
        };
        counts.iter().enumerate().flat_map(class).collect()
    }

    #[test]
    fn a_changed_line_of_a_race_is_not_believed() {
        let fold_run = FoldRun {
            method: Method::Linear,
            fold: 2,
            images: vec![1, 4],
            right: vec![true, false],
            diverged: false,
            seconds: 1.5,
            fingerprint: "f".into(),
        };
        let line = fold_run.line().unwrap();
        insta::assert_snapshot!(line, @r#"{"method":"linear","fold":2,"images":[1,4],"right":[true,false],"seconds":1.5,"listing":"f","crc32":"8814064d"}"#);
        let line = line.trim_end();
        assert_eq!(FoldRun::read(line), Some(fold_run));
        assert_eq!(FoldRun::read(&line.replace("[true,false]", "[true,true]")), None);
        assert_eq!(FoldRun::read(&line.replace("1.5", "7.5")), None);
        for end in 0..line.len() {
            assert_eq!(FoldRun::read(&line[..end]), None);
        }
    }

    #[test]
    fn folds_are_stratified_and_seeded_and_each_class_is_always_learnt() {
        let samples = samples(&[9, 2, 1, 30]);
        let (of, count) = folds(&samples, 4, 3, 5).unwrap();
        assert_eq!(count, 3);
        assert_eq!(folds(&samples, 4, 3, 5).unwrap().0, of);
        assert_ne!(folds(&samples, 4, 3, 6).unwrap().0, of);
        // An image that is alone in its class is learnt from, and never held out.
        assert_eq!(of[11], None);
        for fold in 0..3 {
            let held_out = |label| {
                samples.iter().zip(&of).filter(|(s, f)| s.label == label && **f == Some(fold)).count()
            };
            assert_eq!((held_out(0), held_out(3)), (3, 10));
            for label in 0..4 {
                assert!(held_out(label) < samples.iter().filter(|s| s.label == label).count());
            }
        }
        assert_eq!(folds(&self::samples(&[2, 2]), 2, 3, 0).unwrap().1, 2);
        assert!(folds(&self::samples(&[1, 1, 1]), 3, 3, 0).is_none());
    }
}
