//! `tl finetune`: from a recipe to a model.

use std::collections::BTreeMap;
use std::time::Instant;

use tch::Device;

use super::terminal::{Terminal, warn};
use super::{Outcome, plan::show};
use crate::artifact::{self, Card, FORMAT};
use crate::check::{self, BadImage};
use crate::cli::{self, Common};
use crate::dataset::Sample;
use crate::device;
use crate::error::{Error, Result};
use crate::features;
use crate::linear::{self, LinearConfig, LinearFit, LinearProgress};
use crate::metrics::{Confusion, Evaluation};
use crate::models::{Fill, Network};
use crate::plan::{Data, LinearSettings, Overrides, Plan, TrainSettings};
use crate::preprocess::DecodeLimits;
use crate::recipe::{BadImages, ClassWeights, Method};
use crate::report::{Best, Frozen, GradientReport, LinearReport, Measured, Report};
use crate::run_folder::{RunFolder, Start, Used};
use crate::signal::Signals;
use crate::trainer::{self, EpochRow, Trained};
use crate::weights::download::DownloadBar;
use crate::weights::load;

/// Runs a recipe, from the plan to the report.
pub fn run(args: &cli::Finetune, common: &Common) -> Result<Outcome> {
    let terminal = Terminal::new(common.quiet);
    let signals = Signals::listen()?;
    let overrides = Overrides { out: args.out.clone(), device: common.device, threads: common.threads };
    let mut plan = Plan::read(&args.recipe, &args.sets, &overrides)?;
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
        terminal.say(format!("{} is finished: nothing to do", folder.path().display()));
        return Ok(Outcome::Done);
    }
    device::set_threads(plan.settings.threads);

    let mut seconds = Seconds::default();
    let bad_images = seconds.of("check", || without_bad_images(&mut plan, &signals, terminal))?;
    introduce(&plan, terminal);
    let network = seconds.of("load", || network(&mut plan, device, &terminal.downloads(&signals)))?;
    // Only now that nothing is known to stand in the way: an earlier run is not given up for one that
    // cannot begin.
    folder.begin(&plan.settings, start)?;
    let run = Run {
        card: Card {
            architecture: plan.settings.model.clone(),
            classes: plan.data.classes.clone(),
            format: FORMAT,
            preprocessing: plan.settings.preprocessing.clone(),
            recipe: plan.recipe.to_json(),
            transform_input: network.transform_input(),
        },
        limits: DecodeLimits { max_pixels: plan.settings.data.max_pixels },
        plan: &plan,
        folder: &folder,
        signals: &signals,
        terminal,
        resume: start == Start::Checkpoint,
    };
    let before = network.frozen_hash()?;
    let result = match (&plan.settings.linear, &plan.settings.train) {
        (Some(settings), _) => run.linear(&network, settings, &mut seconds)?,
        (None, Some(settings)) => run.by_gradient(&network, settings, &mut seconds)?,
        (None, None) => return Err(Error::run("the plan names no way to train")),
    };
    let after = network.frozen_hash()?;
    if before != after {
        return Err(Error::run(format!(
            "a frozen weight or running statistic has moved (sha256 {before} became {after}): this is a fault \
             of tl, please report it with {}",
            folder.path().join("plan.yaml").display()
        )));
    }
    let frozen = Frozen { stages: plan.settings.frozen_stages.clone(), sha256: before };
    let report = run.report(result, frozen, bad_images, seconds);
    report.write(&folder)?;
    folder.drop_features()?;
    conclude(&report, &folder, terminal);
    Ok(Outcome::Done)
}

/// What a method has come to.
struct Outcomes {
    epochs: Vec<EpochRow>,
    val: Evaluation,
    test: Option<Evaluation>,
    linear: Option<LinearReport>,
    note: Option<String>,
    /// Of the methods that train by gradient.
    gradient: Option<GradientReport>,
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
}

impl Run<'_> {
    /// Features once, then the head, fitted to them.
    fn linear(
        &self,
        network: &Network,
        settings: &LinearSettings,
        seconds: &mut Seconds,
    ) -> Result<Outcomes> {
        let Plan { settings: plan, data, .. } = self.plan;
        let samples: Vec<&Sample> = data.all().map(|(_, sample)| sample).collect();
        let job = features::Job {
            network,
            preprocessing: &plan.preprocessing,
            limits: self.limits,
            batch_size: settings.batch_size,
            threads: plan.threads,
            store: &self.folder.features(),
            signals: self.signals,
        };
        // Without the images that were left out: one that has become readable shifts the rows. With the
        // network's values: a file of another content may have taken the weights' place.
        let listing = format!("{} {}", data.listing(), network.frozen_hash()?);
        let bar = self.terminal.images("features", samples.len());
        let features = seconds.of("features", || {
            job.compute(&samples, &listing, self.resume, |done| bar.set_position(done as u64))
        });
        bar.finish_and_clear();
        let features = features?;
        let part = |start: usize, samples: &[Sample]| -> Result<_> {
            let rows = features.f_narrow(0, start as i64, samples.len() as i64)?;
            Ok((rows, trainer::labels_of(samples.iter())?))
        };
        let (x, y) = part(0, &data.train)?;
        self.terminal.say(format!("features of {} images in {:.1} s", samples.len(), seconds.0["features"]));
        let started = Instant::now();
        let fit = seconds.of("fit", || self.fit(settings, &x, &y));
        self.signals.check("stopped while fitting the head; the features are kept: go on with `--resume`")?;
        let fit = fit?.ok_or_else(|| Error::run("the fit was stopped"))?;
        set_head(network, &fit)?;
        artifact::write(&self.folder.model(), network, &self.card)?;

        let measure = |x: &tch::Tensor, y: &tch::Tensor| -> Result<Evaluation> {
            let classifier = network.classifier();
            let x = x.f_to_device(network.device())?;
            let logits = tch::no_grad(|| x.f_linear(classifier.weight(), classifier.bias()))?;
            let mut confusion = Confusion::new(data.classes.len());
            let loss = trainer::count(&logits.f_to_device(Device::Cpu)?, y, &mut confusion)?;
            let loss = loss / confusion.total().max(1) as f64;
            Ok(Evaluation { loss, accuracy: confusion.accuracy(), confusion })
        };
        let train = measure(&x, &y)?;
        let (x, y) = part(data.train.len(), &data.val)?;
        let val = measure(&x, &y)?;
        let test = match &data.test {
            None => None,
            Some(test) => {
                let (x, y) = part(data.train.len() + data.val.len(), test)?;
                Some(measure(&x, &y)?)
            }
        };
        let elapsed = started.elapsed().as_secs_f64();
        let row = EpochRow {
            epoch: 1,
            train_loss: train.loss,
            train_accuracy: train.accuracy,
            val_loss: val.loss,
            val_accuracy: val.accuracy,
            lr: 0.,
            images_per_second: samples.len() as f64 / seconds.0["features"].max(1e-9),
            seconds: elapsed + seconds.0["features"],
        };
        self.folder.rewrite_metrics(std::slice::from_ref(&row))?;
        let linear = LinearReport::of(&fit);
        self.terminal.say(linear.to_string());
        Ok(Outcomes { epochs: vec![row], val, test, linear: Some(linear), note: fit.note, gradient: None })
    }

    fn fit(&self, settings: &LinearSettings, x: &tch::Tensor, y: &tch::Tensor) -> Result<Option<LinearFit>> {
        let data = &self.plan.data;
        let config = LinearConfig {
            c: settings.c,
            folds: settings.folds,
            seed: self.plan.settings.seed,
            class_weights: match settings.class_weights {
                ClassWeights::None => None,
                ClassWeights::Balanced => Some(trainer::balanced(data.classes.len(), &data.train)),
            },
        };
        let stop = || self.signals.received().is_some();
        let bar = self.terminal.bar("{prefix} {wide_bar} {pos}/{len} values of C, {eta} left", 0);
        bar.set_prefix("fitting the head");
        let fit = linear::fit(x, y, data.classes.len(), &config, &stop, &mut |progress| {
            if let LinearProgress::CrossValidation { done, total } = progress {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
        });
        bar.finish_and_clear();
        fit
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
            signals: self.signals,
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
        let Trained { epochs, linear_head, passes, notes, .. } = trained;
        notes.iter().for_each(|note| self.terminal.say(format!("note: {note}")));
        let gradient = Some(GradientReport { linear_head, passes, notes });
        Ok(Outcomes { epochs, val, test, linear: None, note: None, gradient })
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
        Report {
            tl: env!("CARGO_PKG_VERSION"),
            method: settings.method,
            reason: settings.reason.clone(),
            model: settings.model.clone(),
            weights: settings.weights.clone(),
            classes: data.classes.clone(),
            seed: settings.seed,
            device: settings.device,
            threads: settings.threads,
            train: crate::report::Images { images: data.train.len() },
            val: measured(&outcomes.val, data.val.len()),
            test: outcomes
                .test
                .as_ref()
                .zip(data.test.as_ref())
                .map(|(evaluation, samples)| measured(evaluation, samples.len())),
            epochs: outcomes.epochs,
            best,
            linear: outcomes.linear,
            frozen,
            bad_images,
            notes: {
                let said = outcomes.gradient.iter().flat_map(|gradient| gradient.notes.clone());
                notes.iter().cloned().chain(outcomes.note).chain(said).collect()
            },
            gradient: outcomes.gradient,
            seconds: seconds.0,
        }
    }
}

/// Says what is about to happen.
fn introduce(plan: &Plan, terminal: Terminal) {
    let settings = &plan.settings;
    let counts = plan.data.counts();
    terminal.say(format!("{} · {} · weights {}", settings.model, settings.method, settings.weights));
    terminal.say(format!(
        "{} classes · {} training images ({} to {} a class) · {} for validation{}",
        plan.data.classes.len(),
        plan.data.train.len(),
        counts.iter().min().unwrap_or(&0),
        counts.iter().max().unwrap_or(&0),
        plan.data.val.len(),
        plan.data.test.as_ref().map(|test| format!(" · {} to test on", test.len())).unwrap_or_default()
    ));
    for note in &plan.notes {
        terminal.say(format!("note: {note}"));
    }
}

/// Decodes every image once, before anything is trained on it, and takes the bad ones out of the plan.
fn without_bad_images(plan: &mut Plan, signals: &Signals, terminal: Terminal) -> Result<Vec<BadImage>> {
    let limits = DecodeLimits { max_pixels: plan.settings.data.max_pixels };
    let samples: Vec<&Sample> = plan.data.all().map(|(_, sample)| sample).collect();
    let bar = terminal.images("checking", samples.len());
    let bad = check::find_bad_images(&samples, limits, plan.settings.threads, signals, || bar.inc(1));
    bar.finish_and_clear();
    let bad = bad?;
    if bad.is_empty() {
        return Ok(bad);
    }
    let list = check::list(&bad);
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

/// The network with its first values, its head and its frozen stages.
fn network(plan: &mut Plan, device: Device, downloads: &DownloadBar) -> Result<Network> {
    let opened = plan.opened.take();
    let Plan { settings, source, data: Data { classes, .. }, .. } = &*plan;
    let (classes, seed) = (classes.len(), settings.seed);
    let side = settings.preprocessing.crop_size;
    let opened = match (settings.method, opened) {
        (Method::Scratch, _) => None,
        (_, Some(opened)) => Some(opened),
        (_, None) => Some(source.open(downloads)?),
    };
    let mut network = match &opened {
        None => Network::sized(source.architecture, classes, side.into(), device, Fill::Initial { seed })?,
        Some(opened) => opened.with_new_head(classes, side, device, seed)?,
    };
    network.freeze(settings.frozen_stages.len())?;
    if settings.train.as_ref().is_some_and(|train| train.aux_weight.is_some()) {
        network.add_auxiliaries(Fill::Initial { seed })?;
        if let Some(opened) = &opened {
            opened.load_auxiliaries(&network)?;
        }
    }
    Ok(network)
}

fn set_head(network: &Network, fit: &LinearFit) -> Result<()> {
    tch::no_grad(|| {
        let classifier = network.classifier();
        classifier.weight().shallow_clone().f_copy_(&fit.weight)?;
        if let Some(bias) = classifier.bias() {
            bias.shallow_clone().f_copy_(&fit.bias)?;
        }
        Ok(())
    })
    .map_err(Error::torch("set the head"))
}

/// Says what came out, and what to do with it.
fn conclude(report: &Report, folder: &RunFolder, terminal: Terminal) {
    let test = match &report.test {
        Some(test) => format!(", test accuracy {:.4}", test.accuracy),
        None => String::new(),
    };
    let epoch = match report.linear {
        Some(_) => String::new(),
        None => format!(" (epoch {})", report.best.epoch),
    };
    for pass in report.gradient.iter().flat_map(|gradient| &gradient.passes) {
        terminal.say(format!("passes  {pass}"));
    }
    terminal.say(format!(
        "val accuracy {:.4}{epoch}{test}\nmodel   {}\nreport  {}\nnext    tl predict --model {} PATH...",
        report.best.val_accuracy,
        folder.model().display(),
        folder.page().display(),
        folder.path().display()
    ));
}
