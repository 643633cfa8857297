//! `race`: each method learns from all folds of the training images but one, and is measured on that one.

use std::fs;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::candidates::taken;
use super::{Run, build, card};
use crate::dataset::Sample;
use crate::error::{Error, Result};
use crate::models::{Network, Reading};
use crate::output::AtomicFile;
use crate::parts::Parts;
use crate::plan::{Entrant, LinearSettings, Plan, RaceSettings, SINGLE, TrainSettings};
use crate::recipe::Method;
use crate::run_folder::{RunFolder, Start};
use crate::signal::Signals;
use crate::strategy::Race;
use crate::strategy::race::{Outcomes, folds};
use crate::trainer::{self, EpochRow, Observer, Step};
use crate::weights::source::Opened;

use crate::commands::terminal::Terminal;

/// What a race is given besides the plan.
pub(super) struct Ground<'a> {
    pub folder: &'a RunFolder,
    pub start: Start,
    pub signals: &'a Signals,
    pub terminal: Terminal,
    pub device: Device,
}

/// Measures the methods, and makes the best one what `plan` trains. What is finished of an earlier part of the same run
/// is not done again.
pub(super) fn race(plan: &mut Plan, settings: &RaceSettings, ground: &Ground) -> Result<Race> {
    let opened = match plan.opened.take() {
        Some(opened) => opened,
        None => plan.source.open(&ground.terminal.downloads(ground.signals))?,
    };
    let data = &plan.data;
    let dealt = folds(&data.train, data.classes.len(), settings.folds, plan.settings.seed);
    let (fold_of, count) = dealt.ok_or_else(|| Error::run(SINGLE))?;
    // Only now that nothing is known to stand in the way.
    ground.folder.begin(&plan.settings, ground.start)?;
    let listing = plan.data.listing();
    let mut heats =
        Heats { plan, settings, ground, opened: &opened, fold_of, count, listing, rows: Vec::new() };
    heats.restore()?;
    heats.on_features()?;
    for entrant in &settings.methods {
        for fold in 0..count {
            if let Some(train) = entrant.train.as_ref().filter(|_| !heats.is_done(entrant.method, fold)) {
                heats.by_gradient(entrant, train, fold)?;
            }
        }
    }
    let (outcomes, notes) = (heats.outcomes(), heats.notes());
    ground.folder.drop_heats()?;
    let race = Race::of(outcomes, count, settings.epochs);
    for row in &race.methods {
        let interval = match row.difference {
            None => format!(" ({:.4} to {:.4})", row.interval.low, row.interval.high),
            Some(_) => String::new(),
        };
        ground.terminal.say(format!("race    {}{interval}, {:.1} s", row.line(), row.seconds));
    }
    for note in notes.into_iter().chain(race.note()) {
        ground.terminal.say(format!("note: {note}"));
        plan.notes.push(note);
    }
    let winner = race.winner().map(|row| row.method);
    let winner = settings.methods.iter().find(|entrant| Some(entrant.method) == winner);
    let winner = winner.ok_or_else(|| Error::run("nobody has run in the race"))?;
    plan.settings.adopt(winner.clone(), race.reason());
    // For the winner's network.
    plan.opened = Some(opened);
    Ok(race)
}

/// One method on one fold: a line of `race.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Heat {
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
    /// Names the images of the run.
    listing: String,
}

/// A race under way.
struct Heats<'a> {
    plan: &'a Plan,
    settings: &'a RaceSettings,
    ground: &'a Ground<'a>,
    opened: &'a Opened,
    fold_of: Vec<Option<usize>>,
    count: usize,
    listing: String,
    rows: Vec<Heat>,
}

impl Heats<'_> {
    /// What is finished already.
    fn restore(&mut self) -> Result<()> {
        let path = self.ground.folder.race();
        if !path.exists() {
            return Ok(());
        }
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        for line in text.lines() {
            let heat: Heat = serde_json::from_str(line).map_err(|error| {
                let message =
                    format!("is not what a race has written ({error}); `--overwrite` starts afresh");
                Error::file(&path, message)
            })?;
            let whole = heat.right.len() == heat.images.len();
            if heat.listing != self.listing
                || heat.images != self.held_out(heat.fold.wrapping_sub(1))
                || !whole
            {
                return Err(Error::file(
                    &path,
                    "was measured on other images: which of them can be read has changed since. Bring them back as \
                     they were, or start afresh with `--overwrite`",
                ));
            }
            self.rows.push(heat);
        }
        Ok(())
    }

    fn is_done(&self, method: Method, fold: usize) -> bool {
        self.rows.iter().any(|heat| heat.method == method && heat.fold == fold + 1)
    }

    fn held_out(&self, fold: usize) -> Vec<usize> {
        (0..self.fold_of.len()).filter(|&image| self.fold_of[image] == Some(fold)).collect()
    }

    fn learnt_from(&self, fold: usize) -> Vec<usize> {
        (0..self.fold_of.len()).filter(|&image| self.fold_of[image] != Some(fold)).collect()
    }

    fn samples(&self, images: &[usize]) -> Vec<Sample> {
        images.iter().map(|&image| self.plan.data.train[image].clone()).collect()
    }

    /// What to say if a signal has ended the work.
    fn stopped<T>(&self, result: Result<T>) -> Result<T> {
        let (done, all) = (self.rows.len(), self.count * self.settings.methods.len());
        match &result {
            Err(_) => self
                .ground
                .signals
                .check(&format!(
                    "stopped in the race; {done} of its {all} parts are kept: go on with `--resume`"
                ))
                .and(result),
            Ok(_) => result,
        }
    }

    /// Keeps what a method did on a fold.
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
        let Ground { terminal, folder, .. } = self.ground;
        terminal.say(format!(
            "race    {method}, fold {} of {}: {what}, {seconds:.1} s",
            fold + 1,
            self.count
        ));
        let (images, listing) = (self.held_out(fold), self.listing.clone());
        self.rows.push(Heat { method, fold: fold + 1, images, right, diverged, seconds, listing });
        let lines = self.rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let lines =
            lines.map_err(|error| Error::run(format!("cannot write what the race has found: {error}")))?;
        AtomicFile::write(folder.race(), (lines.join("\n") + "\n").as_bytes())
    }

    /// `linear` and `stages`: each image goes through the frozen network once, for all folds and for both.
    fn on_features(&mut self) -> Result<()> {
        let rows = |entrant: &Entrant| (0..self.count).any(|fold| !self.is_done(entrant.method, fold));
        let entrants: Vec<(&Entrant, &LinearSettings)> = self
            .settings
            .methods
            .iter()
            .filter(|it| rows(it))
            .filter_map(|it| Some((it, it.linear.as_ref()?)))
            .collect();
        let Some((first, settings)) = entrants.first() else { return Ok(()) };
        let (plan, ground) = (self.plan, self.ground);
        let network =
            build(plan, Some(self.opened), first.method, first.frozen_stages.len(), None, ground.device)?;
        let read =
            entrants.iter().map(|(_, settings)| readings(&network, settings)).collect::<Result<Vec<_>>>()?;
        let mut all: Vec<Reading> = read.concat();
        all.sort_by_key(|&reading| match reading {
            Reading::Stage(index) => index,
            _ => usize::MAX,
        });
        all.dedup();

        let started = Instant::now();
        let run = Run {
            card: card(plan, &network),
            limits: plan.settings.data.limits(),
            plan,
            folder: ground.folder,
            signals: ground.signals,
            terminal: ground.terminal,
            resume: true,
            to_beat: None,
            beside: None,
        };
        let samples: Vec<&Sample> = plan.data.train.iter().collect();
        let store = ground.folder.heat("features")?.features();
        let listing = format!("race {} {}", self.listing, network.frozen_hash()?);
        let bar = ground.terminal.images("race: features", samples.len());
        let vectors = run.features_job(&network, &all, settings.batch_size, &store).compute(
            &samples,
            &listing,
            true,
            |done| bar.set_position(done as u64),
        );
        bar.finish_and_clear();
        let vectors = self.stopped(vectors)?;
        let shared = started.elapsed().as_secs_f64() / self.count as f64;

        for ((entrant, settings), read) in entrants.into_iter().zip(&read) {
            let places = read.iter().filter_map(|reading| all.iter().position(|it| it == reading));
            let vectors: Vec<Tensor> = places.map(|place| vectors[place].shallow_clone()).collect();
            for fold in 0..self.count {
                if self.is_done(entrant.method, fold) {
                    continue;
                }
                let started = Instant::now();
                let (learnt, held) = (self.learnt_from(fold), self.held_out(fold));
                let (x, samples) = (taken(&vectors, &learnt)?, self.samples(&learnt));
                let candidates = self.stopped(run.candidates(&network, settings, &x, &samples, false))?;
                let labels = trainer::labels_of(self.samples(&held).iter())?;
                let best = self.stopped(run.best(&network, settings, candidates, &x, &samples))?;
                let found = best.measure(&taken(&vectors, &held)?, &labels, plan.data.classes.len())?;
                let seconds = shared + started.elapsed().as_secs_f64();
                self.finish(entrant.method, fold, found.confusion.outcomes().to_vec(), false, seconds)?;
            }
        }
        Ok(())
    }

    /// A method with a training loop, on one fold: its last epoch counts, and no epoch is chosen.
    fn by_gradient(&mut self, entrant: &Entrant, settings: &TrainSettings, fold: usize) -> Result<()> {
        let started = Instant::now();
        let (plan, ground) = (self.plan, self.ground);
        let frozen = entrant.frozen_stages.len();
        let network = build(plan, Some(self.opened), entrant.method, frozen, Some(settings), ground.device)?;
        let settings = settings.shortened(self.settings.epochs, &network);
        let augment = entrant.augment.clone().unwrap_or_default();
        let (train, held) = (self.samples(&self.learnt_from(fold)), self.samples(&self.held_out(fold)));
        let folder = ground.folder.heat(&format!("{}-{}", entrant.method, fold + 1))?;
        let job = trainer::Job {
            settings: &settings,
            preprocessing: &plan.settings.preprocessing,
            augment: &augment,
            limits: plan.settings.data.limits(),
            listing: &self.listing,
            train: &train,
            val: &[],
            test: None,
            classes: plan.data.classes.len(),
            seed: plan.settings.seed,
            threads: plan.settings.threads,
            folder: &folder,
            card: &card(plan, &network),
            to_beat: None,
            signals: ground.signals,
            parts: Parts::new(network.device()),
        };
        let mut watch = Watch {
            terminal: ground.terminal,
            what: format!("race: {}, fold {} of {}", entrant.method, fold + 1, self.count),
            epochs: settings.epochs,
            bar: None,
        };
        let resume = folder.checkpoint().exists();
        let trained = trainer::train_to_the_end(&job, &network, resume, &mut watch);
        drop(watch);
        let measured = trained.and_then(|()| trainer::evaluate(&job, &network, &held));
        let (right, diverged) = match measured {
            Ok(found) if found.loss.is_finite() => (found.confusion.outcomes().to_vec(), false),
            Ok(_) | Err(Error::Diverged(_)) => (vec![false; held.len()], true),
            Err(error) => return self.stopped(Err(error)),
        };
        self.finish(entrant.method, fold, right, diverged, started.elapsed().as_secs_f64())
    }

    /// What each method did on all held-out images, in the order of the folds.
    fn outcomes(&self) -> Vec<Outcomes> {
        let of = |entrant: &Entrant| {
            let mut heats: Vec<&Heat> =
                self.rows.iter().filter(|heat| heat.method == entrant.method).collect();
            heats.sort_by_key(|heat| heat.fold);
            Outcomes {
                method: entrant.method,
                right: heats.iter().flat_map(|heat| heat.right.iter().copied()).collect(),
                seconds: heats.iter().map(|heat| heat.seconds).sum(),
            }
        };
        self.settings.methods.iter().map(of).collect()
    }

    fn notes(&self) -> Vec<String> {
        let diverged = self.rows.iter().filter(|heat| heat.diverged);
        let note = |heat: &Heat| {
            format!(
                "the training of `{}` diverged in fold {} of the race, which counts as wrong on its images: lower \
                 `train.lr` or set `train.clip_grad_norm: 1`",
                heat.method, heat.fold
            )
        };
        diverged.map(note).collect()
    }
}

/// What a method reads of the frozen network.
fn readings(network: &Network, settings: &LinearSettings) -> Result<Vec<Reading>> {
    match settings.stages.is_empty() {
        true => Ok(vec![Reading::Features]),
        false => settings.stages.iter().map(|name| network.reading(name)).collect(),
    }
}

/// Shows how far a method is on a fold, where there is a terminal.
struct Watch {
    terminal: Terminal,
    what: String,
    epochs: usize,
    bar: Option<ProgressBar>,
}

impl Observer for Watch {
    fn step(&mut self, step: &Step) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = self.terminal.bar("{prefix} {wide_bar} {msg}, {eta} left", self.epochs * step.steps);
            bar.reset_eta();
            bar.with_prefix(self.what.clone())
        });
        bar.set_message(format!("loss {:.3}, {:.0} images/s", step.loss, step.images_per_second));
        bar.set_position(((step.epoch - 1) * step.steps + step.step) as u64);
    }

    fn epoch(&mut self, _: &EpochRow, _: bool) {}
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
