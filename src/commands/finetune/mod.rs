//! `tl finetune`: from a recipe to a model.

mod candidates;
mod look;
mod on_features;
mod pool;
mod race;
mod rival;

use std::collections::BTreeMap;
use std::time::Instant;

use tch::Device;

use super::Outcome;
use super::plan::{read, show};
use super::terminal::{Terminal, warn};
use crate::artifact::{self, Beside, Card, FORMAT};
use crate::averaging::{Averaging, Member};
use crate::chance;
use crate::check::{self, BadImage};
use crate::cli::{self, Common};
use crate::dataset::Sample;
use crate::device;
use crate::error::{Error, Result};
use crate::memory;
use crate::metrics::Evaluation;
use crate::models::{Fill, Network};
use crate::parts::Parts;
use crate::plan::{Data, Overrides, Plan, Settings, TrainSettings};
use crate::precision::Precision;
use crate::preprocess::{DecodeLimits, Views};
use crate::recipe::{BadImages, Method};
use crate::report::{Best, Frozen, HeadsReport, LinearReport, Measured, MeasuredViews, Report, StageRow};
use crate::run_folder::{BESIDE, RunFolder, Start, Used};
use crate::signal::Signals;
use crate::strategy::Contest;
use crate::strategy::rival::ToBeat;
use crate::trainer::{self, EpochRow, LinearHead, Pass, Trained};
use crate::weights::download::DownloadBar;
use crate::weights::load;
use crate::weights::source::Opened;

/// Runs a recipe, from the plan to the report.
pub fn run(args: &cli::Finetune, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    let overrides = Overrides {
        out: args.out.clone(),
        device: common.device,
        threads: common.threads,
        resume: args.resume,
    };
    let mut seconds = Seconds::default();
    let plan = seconds.of("plan", || read(&args.recipe, &args.sets, &overrides, terminal, &signals));
    let mut plan = plan?;
    if args.dry_run {
        show(&plan, terminal)?;
        return Ok(Outcome::Done);
    }
    let device = device::choose(plan.settings.device)?;
    let used = match (args.resume, args.overwrite) {
        (true, _) => Used::Resume,
        (_, true) => Used::Overwrite,
        _ => Used::Refuse,
    };
    let (folder, start) = RunFolder::inspect(&plan.settings, used)?;
    if start == Start::Finished {
        // It may have been killed just before it would have done that.
        folder.drop_features()?;
        folder.drop_heats()?;
        terminal.say(format!("{} is finished: nothing to do", folder.path().display()));
        return Ok(Outcome::Done);
    }
    device::set_threads(plan.settings.threads);
    memory::keep_freed();

    let bad_images = seconds.of("check", || without_bad_images(&mut plan, &signals, terminal))?;
    introduce(&plan, terminal);
    let raced = match plan.settings.race.clone() {
        None => None,
        Some(settings) => {
            let ground = race::Ground { folder: &folder, start, signals: &signals, terminal, device };
            let found = seconds.of("race", || race::race(&mut plan, &settings, &ground))?;
            terminal.say(format!("method  {}: {}", plan.settings.method, plan.settings.reason));
            plan.method_lines().iter().for_each(|line| terminal.say(line));
            Some(found)
        }
    };
    let opened = seconds.of("load", || opened(&mut plan, &terminal.downloads(&signals)))?;
    let mut network = seconds.of("load", || alone(&plan, opened.as_ref(), device))?;
    // Only now that nothing is known to stand in the way: an earlier run is not given up for one that
    // cannot begin.
    if raced.is_none() {
        folder.begin(&plan.settings, start)?;
    }
    let resume = start == Start::Checkpoint;
    let (mut contest, mut beside) = (None, None);
    let mut result = match plan.settings.rival.take() {
        None => {
            let run = Run::of(&plan, &network, &folder, &signals, terminal, resume);
            let before = network.frozen_hash()?;
            let result = run.train(&mut network, &mut seconds)?;
            // A head on several stages has shortened the chain, and has looked before.
            if network.head_readings().is_empty() {
                run.verify_frozen(&network, &before)?;
            }
            result
        }
        Some(rival) => {
            drop(network);
            let ground = rival::Ground {
                opened: opened.as_ref(),
                folder: &folder,
                signals: &signals,
                terminal,
                device,
                resume,
            };
            // Only the one that is kept sees the test images.
            let test = plan.data.test.take();
            let decided = rival::contest(&mut plan, rival, &ground, &mut seconds)?;
            plan.data.test = test;
            (network, contest, beside) = (decided.network, Some(decided.contest), decided.beside);
            decided.outcomes
        }
    };
    let mut run = Run::of(&plan, &network, &folder, &signals, terminal, resume);
    if let Some(rival::Beside { network: second, share }) = &beside {
        artifact::write(&folder.beside(), second, &card(&plan, second))?;
        run.card.beside = Some(Beside { file: BESIDE.into(), share: *share });
        artifact::write(&folder.model(), &network, &run.card)?;
        run.beside = Some((second, *share));
    }
    if contest.is_some() {
        seconds.of("evaluate", || run.measure_kept(&network, &mut result))?;
    }
    if let Some(views) = &plan.settings.eval {
        result.views = Some(seconds.of("evaluate", || run.measure_views(&network, views))?);
    }
    let frozen = Frozen {
        stages: network.stage_names().take(network.frozen()).map(str::to_string).collect(),
        sha256: network.frozen_hash()?,
    };
    let chance = chance::note(&result.val.confusion, &plan.data.classes);
    result.notes.extend(chance.clone());
    let report = Report { race: raced, contest, ..run.report(result, frozen, bad_images, seconds) };
    report.write(&folder)?;
    folder.drop_features()?;
    folder.drop_heats()?;
    conclude(&report, chance, &folder, terminal);
    Ok(Outcome::Done)
}

/// What a method has come to.
struct Outcomes {
    epochs: Vec<EpochRow>,
    val: Evaluation,
    test: Option<Evaluation>,
    views: Option<(Evaluation, Option<Evaluation>)>,
    linear: Option<LinearReport>,
    heads: Option<HeadsReport>,
    /// Training images whose BatchNorm statistics the network has taken.
    adapted_on: Option<usize>,
    /// Accuracy of the fitted head on held-out training images.
    held_out: Option<f64>,
    stages: Vec<StageRow>,
    /// Training images that the stages were compared on.
    compared_on: usize,
    notes: Vec<String>,
    linear_head: Option<LinearHead>,
    passes: Vec<Pass>,
}

/// Seconds by phase.
#[derive(Default)]
struct Seconds(BTreeMap<&'static str, f64>);

impl Seconds {
    fn of<T>(&mut self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        *self.0.entry(phase).or_default() += started.elapsed().as_secs_f64();
        result
    }
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    card: Card,
    limits: DecodeLimits,
    folder: &'a RunFolder,
    signals: &'a Signals,
    terminal: Terminal,
    resume: bool,
    /// A validation accuracy that another method has reached.
    to_beat: Option<ToBeat>,
    /// A second network that is averaged with the kept one, and what it counts.
    beside: Option<(&'a Network, f64)>,
}

impl<'a> Run<'a> {
    fn of(
        plan: &'a Plan,
        network: &Network,
        folder: &'a RunFolder,
        signals: &'a Signals,
        terminal: Terminal,
        resume: bool,
    ) -> Self {
        let limits = plan.settings.data.limits();
        let card = card(plan, network);
        Run { plan, card, limits, folder, signals, terminal, resume, to_beat: None, beside: None }
    }

    /// Trains what the plan says.
    fn train(&self, network: &mut Network, seconds: &mut Seconds) -> Result<Outcomes> {
        match (&self.plan.settings.linear, &self.plan.settings.train) {
            (Some(settings), _) => self.on_features(network, settings, seconds),
            (None, Some(settings)) => self.by_gradient(network, settings, seconds),
            (None, None) => Err(Error::run("the plan names no way to train")),
        }
    }

    /// That no frozen weight or running statistic has moved since their hash was `before`.
    fn verify_frozen(&self, network: &Network, before: &str) -> Result<()> {
        let after = network.frozen_hash()?;
        match after == before {
            true => Ok(()),
            false => Err(Error::run(format!(
                "a frozen weight or running statistic has moved (sha256 {before} became {after}): this is a fault \
                 of tl, please report it with {}",
                self.folder.path().join("plan.yaml").display()
            ))),
        }
    }

    fn by_gradient(
        &self,
        network: &Network,
        settings: &TrainSettings,
        seconds: &mut Seconds,
    ) -> Result<Outcomes> {
        let Plan { settings: plan, data, .. } = self.plan;
        let augment = plan.augment.clone().unwrap_or_default();
        let job = trainer::Job {
            settings,
            preprocessing: &plan.preprocessing,
            augment: &augment,
            limits: self.limits,
            // Without the images that were left out, as the checkpoint has it.
            listing: &data.listing(),
            train: &data.train,
            val: &data.val,
            test: data.test.as_deref(),
            classes: data.classes.len(),
            seed: plan.seed,
            threads: plan.threads,
            folder: self.folder,
            card: &self.card,
            to_beat: self.to_beat,
            signals: self.signals,
            parts: Parts::new(network.device()),
        };
        let mut observer = self.terminal.epochs(settings.epochs);
        // A run that was stopped before its first checkpoint has nothing to go on from.
        let resume = self.resume && self.folder.checkpoint().exists();
        let trained = seconds.of("train", || trainer::train(&job, network, resume, &mut observer))?;
        drop(observer);
        // Measured on the model that is kept, which is the best epoch's and not the last one's.
        let model = self.folder.model();
        let checkpoint = crate::weights::checkpoint::read_checkpoint(&model)?;
        load(network, &model, &checkpoint, crate::weights::Head::Load)?;
        let (val, test) = seconds.of("evaluate", || -> Result<_> {
            let val = trained.evaluate_val(&job, network)?;
            let test = data.test.as_ref().map(|test| trainer::evaluate(&job, network, test)).transpose()?;
            Ok((val, test))
        })?;
        let Trained { epochs, linear_head, passes, mut notes, .. } = trained;
        notes.extend(job.parts.note());
        notes.iter().for_each(|note| self.terminal.say(format!("note: {note}")));
        Ok(Outcomes {
            epochs,
            val,
            test,
            views: None,
            linear: None,
            heads: None,
            adapted_on: None,
            held_out: None,
            stages: Vec::new(),
            compared_on: 0,
            notes,
            linear_head,
            passes,
        })
    }

    /// The kept model on the validation and the test images, with what it says of several views averaged.
    fn measure_views(&self, network: &Network, views: &Views) -> Result<(Evaluation, Option<Evaluation>)> {
        let data = &self.plan.data;
        let val = self.measure(network, views, "measuring val", &data.val)?;
        let test = data.test.as_ref().map(|test| self.measure(network, views, "measuring test", test));
        Ok((val, test.transpose()?))
    }

    /// The kept model on the test images, where the training of two models has left them alone, and on the validation images
    /// where it is both of them.
    fn measure_kept(&self, network: &Network, outcomes: &mut Outcomes) -> Result<()> {
        let Plan { settings, data, .. } = self.plan;
        let views = Views::default().resolved(&settings.preprocessing);
        if self.beside.is_some() {
            outcomes.val = self.measure(network, &views, "measuring val", &data.val)?;
            outcomes.passes.iter_mut().filter(|pass| pass.part == "val").for_each(|pass| pass.times += 1);
        }
        let Some(test) = &data.test else { return Ok(()) };
        outcomes.test = Some(self.measure(network, &views, "measuring test", test)?);
        let seen: Vec<Pass> = outcomes.passes.iter().filter(|pass| pass.part == "val").cloned().collect();
        let pass = |val| Pass { part: "test", images: test.len(), times: 1, ..val };
        outcomes.passes.extend(seen.into_iter().map(pass));
        Ok(())
    }

    fn measure(
        &self,
        network: &Network,
        views: &Views,
        what: &str,
        samples: &[Sample],
    ) -> Result<Evaluation> {
        let Plan { settings, data, .. } = self.plan;
        let parts = Parts::new(network.device());
        let preprocessing = &settings.preprocessing;
        let (order, precision, beside) = (None, Precision::Fp32, self.beside);
        let members = [Member { network, beside, preprocessing, order, precision, parts }];
        let batch_size = match (&settings.train, &settings.linear) {
            (Some(train), _) => train.batch_size,
            (None, Some(linear)) => linear.batch_size,
            (None, None) => 1,
        };
        let averaging = Averaging { members: &members, views, batch_size, threads: settings.threads };
        let bar = self.terminal.images(what, samples.len());
        let measured = averaging.evaluate(samples, data.classes.len(), self.limits, self.signals, |done| {
            bar.inc(done as u64);
        });
        bar.finish_and_clear();
        measured
    }

    fn report(
        &self,
        outcomes: Outcomes,
        frozen: Frozen,
        bad_images: Vec<BadImage>,
        seconds: Seconds,
    ) -> Report {
        let Plan { settings, data, notes, .. } = self.plan;
        let best = trainer::best(&outcomes.epochs).map_or(Best { epoch: 0, val_accuracy: 0. }, |row| Best {
            epoch: row.epoch,
            val_accuracy: row.val_accuracy,
        });
        let measured =
            |evaluation: &Evaluation, images: usize| Measured::of(evaluation, images, &data.classes);
        let viewed = |evaluation: &Evaluation, samples: &[Sample]| {
            let measured = measured(evaluation, samples.len());
            settings.eval.clone().map(|views| MeasuredViews { views, measured })
        };
        let (val_views, test_views) = match &outcomes.views {
            None => (None, None),
            Some((val, test)) => (
                viewed(val, &data.val),
                test.as_ref().zip(data.test.as_ref()).and_then(|(test, samples)| viewed(test, samples)),
            ),
        };
        Report {
            tl: env!("CARGO_PKG_VERSION"),
            method: settings.method,
            reason: settings.reason.clone(),
            strategy: settings.strategy.clone(),
            race: None,
            contest: None,
            model: settings.model.clone(),
            weights: settings.weights.clone(),
            classes: data.classes.clone(),
            seed: settings.seed,
            device: settings.device,
            threads: settings.threads,
            decode: settings.data.decode,
            train: crate::report::Images { images: data.train.len() },
            val: measured(&outcomes.val, data.val.len()),
            test: outcomes
                .test
                .as_ref()
                .zip(data.test.as_ref())
                .map(|(evaluation, samples)| measured(evaluation, samples.len())),
            val_views,
            test_views,
            epochs: outcomes.epochs,
            best,
            linear: outcomes.linear,
            frozen,
            bad_images,
            stages: outcomes.stages,
            heads: outcomes.heads,
            adapted_on: outcomes.adapted_on,
            notes: notes.iter().cloned().chain(outcomes.notes).collect(),
            linear_head: outcomes.linear_head,
            passes: outcomes.passes,
            seconds: seconds.0,
        }
    }
}

/// Says what is about to happen.
fn introduce(plan: &Plan, terminal: Terminal) {
    plan.lines().iter().for_each(|line| terminal.say(line));
    for note in &plan.notes {
        terminal.say(format!("note: {note}"));
    }
}

/// Decodes every image once, before anything is trained on it, and takes the bad ones out of the plan.
fn without_bad_images(plan: &mut Plan, signals: &Signals, terminal: Terminal) -> Result<Vec<BadImage>> {
    let limits = plan.settings.data.limits();
    let samples: Vec<&Sample> = plan.data.all().map(|(_, sample)| sample).collect();
    let bar = terminal.images("checking", samples.len());
    let bad = check::find_bad_images(&samples, limits, plan.settings.threads, signals, || bar.inc(1));
    bar.finish_and_clear();
    let bad = bad?;
    if bad.is_empty() {
        return Ok(bad);
    }
    let list = check::list(&bad);
    if bad.len() == samples.len() {
        return Err(Error::run(format!(
            "{0} of {0} images cannot be used:\n{list}\nso there is nothing to learn from. Does an image viewer \
             open them? JPEG, PNG, GIF, WebP, BMP, TIFF and PNM files are read",
            samples.len()
        )));
    }
    match plan.settings.data.bad_images {
        BadImages::Fail => {
            return Err(Error::run(format!(
                "{} of {} images cannot be used, and the recipe says `bad_images: fail`:\n{list}",
                bad.len(),
                samples.len()
            )));
        }
        BadImages::Skip => {
            warn(format!(
                "{} of {} images cannot be used and are left out:\n{list}",
                bad.len(),
                samples.len()
            ));
        }
    }
    check::remove(&mut plan.data, &bad)?;
    Ok(bad)
}

/// What the model file will say about itself.
fn card(plan: &Plan, network: &Network) -> Card {
    Card {
        architecture: plan.settings.model.clone(),
        beside: None,
        classes: plan.data.classes.clone(),
        format: FORMAT,
        decode: plan.settings.data.decode,
        preprocessing: plan.settings.preprocessing.clone(),
        reads: network.head_reading_names(),
        recipe: plan.recipe.to_json(),
        transform_input: network.transform_input(),
    }
}

/// The source's values, where the method begins with them.
fn opened(plan: &mut Plan, downloads: &DownloadBar) -> Result<Option<Opened>> {
    match (plan.settings.method, plan.opened.take()) {
        (Method::Scratch, _) => Ok(None),
        (_, Some(opened)) => Ok(Some(opened)),
        (_, None) => plan.source.open(downloads).map(Some),
    }
}

/// The network with its first values, its head and its frozen stages.
fn alone(plan: &Plan, opened: Option<&Opened>, device: Device) -> Result<Network> {
    let Settings { method, frozen_stages, train, .. } = &plan.settings;
    build(plan, opened, *method, frozen_stages.len(), train.as_ref(), device)
}

/// The network of `plan` as a method begins with it: with the values of `opened` or, for `scratch`, without.
fn build(
    plan: &Plan,
    opened: Option<&Opened>,
    method: Method,
    frozen: usize,
    train: Option<&TrainSettings>,
    device: Device,
) -> Result<Network> {
    let Plan { settings, source, data: Data { classes, .. }, .. } = plan;
    let (classes, seed) = (classes.len(), settings.seed);
    let side = settings.preprocessing.crop_size;
    let opened = opened.filter(|_| method != Method::Scratch);
    let mut network = match opened {
        None => Network::sized(source.architecture, classes, side.into(), device, Fill::Initial { seed })?,
        Some(opened) => opened.with_new_head(classes, side, device, seed)?,
    };
    network.freeze(frozen)?;
    if train.is_some_and(|train| train.aux_weight.is_some()) {
        network.add_auxiliaries(Fill::Initial { seed })?;
        if let Some(opened) = opened {
            opened.load_auxiliaries(&network)?;
        }
    }
    Ok(network)
}

/// Says what came out, and what to do with it.
fn conclude(report: &Report, chance: Option<String>, folder: &RunFolder, terminal: Terminal) {
    let test = match &report.test {
        Some(test) => format!(", test accuracy {:.4} ({})", test.accuracy, test.interval),
        None => String::new(),
    };
    let epoch = match report.method.is_by_gradient() {
        false => String::new(),
        true => format!(", epoch {}", report.best.epoch),
    };
    let views = match &report.val_views {
        Some(val) => {
            let test = report.test_views.as_ref().map(|test| test.measured.accuracy);
            let test = test.map(|accuracy| format!(", test accuracy {accuracy:.4}")).unwrap_or_default();
            format!("\nwith {}: val accuracy {:.4}{test}", val.views, val.measured.accuracy)
        }
        None => String::new(),
    };
    if let Some(note) = chance {
        terminal.say(format!("note: {note}"));
    }
    for pass in &report.passes {
        terminal.say(format!("passes  {pass}"));
    }
    let model = match report.contest.as_ref().and_then(Contest::beside) {
        None => folder.model().display().to_string(),
        Some(_) => {
            format!("{} with {BESIDE} beside it: predict averages them", folder.model().display())
        }
    };
    terminal.say(format!(
        "val accuracy {:.4} ({}{epoch}){test}{views}\nmodel   {model}\nreport  {}\nnext    tl predict --model {} PATH...",
        report.val.accuracy,
        report.val.interval,
        folder.page().display(),
        folder.path().display()
    ));
}
