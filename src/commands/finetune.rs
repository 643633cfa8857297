//! `tl finetune`: from a recipe to a model.

use std::path::PathBuf;
use tch::Device;

use super::Outcome;
use super::args::Common;
use super::page;
use super::plan::{read, show};
use super::terminal::{Terminal, warn};
use crate::data::Sample;
use crate::data::verify::{self, BadImage};
use crate::device;
use crate::error::{Error, Result};
use crate::methods::contest::ContestResult;
use crate::methods::{Chosen, Context, Outcomes, Seconds, TrainedModel, pair, race};
use crate::models::Network;
use crate::plan::{Candidate, Overrides, Plan, Training};
use crate::recipe::BadImages;
use crate::report::{
    Best, Calibration, Frozen, ImageCounts, Metrics, MetricsOfViews, Race, Report, confusion_picture,
};
use crate::run::folder::{Entered, PARTNER_FILE, RunFolder, Start, Used};
use crate::stats::metrics::Evaluation;
use crate::stats::significance;
use crate::strategy::Contest;
use crate::text::path_text::path_text;
use crate::text::words::{are, for_shell};
use crate::util::signal::Signals;
use crate::weights::download::DownloadBar;
use crate::weights::source::Opened;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The recipe, a YAML file (docs/recipe.md lists its keys)
    pub recipe: PathBuf,
    /// The run folder [default: the recipe's `out`, or runs/RECIPE]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Override a key of the recipe, as in --set train.epochs=5
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub sets: Vec<String>,
    /// Go on with the run in the run folder
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace the run in the run folder
    #[arg(long)]
    pub overwrite: bool,
    /// Show the plan and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs a recipe, from the plan to the report.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
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
    // Locked until the end.
    let entered = RunFolder::enter(&plan, used)?;
    let folder = &entered.folder;
    if entered.start == Start::Finished {
        // A run may have been killed just before doing this.
        folder.drop_features()?;
        folder.drop_fold_runs()?;
        let path = path_text(folder.path());
        terminal.say(format!(
            "{path} is finished: nothing to do (a new run with `model: {path}` trains its model further)"
        ));
        return Ok(Outcome::Done);
    }
    plan.notes.extend(entered.notes());
    let settings = plan.settings.clone();
    carry_out(plan, &entered, seconds, device, args, terminal, &signals)
        .map_err(|error| folder.with_way_on(error, &settings))
}

/// Trains and measures, in the run folder.
fn carry_out(
    mut plan: Plan,
    entered: &Entered,
    mut seconds: Seconds,
    device: Device,
    args: &Args,
    terminal: Terminal,
    signals: &Signals,
) -> Result<Outcome> {
    let (folder, start) = (&entered.folder, entered.start);
    device::set_threads(plan.settings.threads);

    let bad_images = seconds.of("check", || without_bad_images(&mut plan, signals, terminal))?;
    introduce(&plan, terminal);
    let opened = seconds.of("load", || opened(&mut plan, &terminal.downloads(signals)))?;
    seconds.of("check", || remember(&mut plan, opened.as_ref(), signals))?;
    let resume = start == Start::Checkpoint;
    let run = Run { opened: opened.as_ref(), folder, signals, terminal: &terminal, device, resume };
    let raced = match &plan.settings.candidate.training {
        Training::Race { race } => Some(seconds.of("race", || race::race(&run.context(&plan), race, start))?),
        _ => None,
    };
    let raced = raced.map(|raced| adopt_winner(&mut plan, raced, terminal));
    let network = seconds.of("load", || run.context(&plan).network(&plan.settings.candidate))?;
    // Only after all checks have passed: an earlier run is not given up for one that cannot begin.
    if raced.is_none() {
        folder.begin(&plan.settings, start)?;
    }
    let (trained, partner, contest) = train(&mut plan, &run, network, &mut seconds)?;
    let TrainedModel { network, mut outcomes, known } = trained;
    let (second, more) = match partner {
        Some((TrainedModel { network, outcomes, .. }, weight)) => (Some((network, weight)), Some(outcomes)),
        None => (None, None),
    };
    let context = run.context(&plan);
    let kept =
        Chosen { network: &network, partner: second.as_ref().map(|(network, weight)| (network, *weight)) };
    if contest.is_some() {
        more.into_iter().for_each(|more| outcomes.take_over(more));
        context.publish(&kept, &outcomes)?;
        seconds.of("evaluate", || context.measure_kept(&kept, &mut outcomes))?;
    }
    let calibration = seconds.of("calibrate", || context.calibrate(&kept, known, &mut outcomes))?;
    let temperature = calibration.as_ref().map(|calibration| calibration.temperature);
    let views = match &plan.settings.eval {
        Some(views) => Some(seconds.of("evaluate", || context.measure_views(&kept, temperature, views))?),
        None => None,
    };
    let chance = significance::note(&outcomes.val.confusion, &plan.data.classes);
    outcomes.notes.extend(chance.clone());
    let shown = seconds.of("report", || page::shown(&plan, &outcomes, &network, args))?;
    let picture = || confusion_picture(&outcomes.val.confusion);
    folder.show_picture("confusion/val", outcomes.best.epoch, picture)?;
    let found = Found { outcomes: &outcomes, calibration, views, raced, contest, bad_images, seconds };
    let report = report(&plan, folder, &network, found)?;
    report.write(folder, &shown)?;
    folder.drop_features()?;
    folder.drop_fold_runs()?;
    conclude(&report, chance, folder, terminal);
    Ok(Outcome::Done)
}

/// A model, and its weight in the mean of two.
type Weighted = (TrainedModel, f64);

/// Trains what the plan says; with a rival, both.
fn train(
    plan: &mut Plan,
    run: &Run,
    network: Network,
    seconds: &mut Seconds,
) -> Result<(TrainedModel, Option<Weighted>, Option<Contest>)> {
    let Some(rival) = plan.settings.rival.take() else {
        let trained = run.context(plan).train(&plan.settings.candidate, network, seconds)?;
        return Ok((trained, None, None));
    };
    drop(network);
    let ContestResult { kept, partner, contest, .. } = contest(plan, run, rival, seconds)?;
    Ok((kept, partner, Some(contest)))
}

/// Trains the plan's method and its rival, and puts the kept one into the plan.
fn contest(
    plan: &mut Plan,
    run: &Run,
    rival: Candidate,
    seconds: &mut Seconds,
) -> Result<ContestResult<TrainedModel>> {
    // Only the kept one is measured on the test images.
    let test = plan.data.test.take();
    let both = [&plan.settings.candidate, &rival];
    let (decided, notes) = pair::hold(run.context(plan), both, plan.settings.average, seconds)?;
    plan.data.test = test;
    plan.notes.extend(notes);
    let reason = format!("{}; {}", plan.settings.reason, decided.reason);
    match decided.contest.kept() == Some(rival.method) {
        true => plan.settings.adopt(rival, reason),
        false => plan.settings.reason = reason,
    }
    run.terminal.say(format!("method  {}: {}", plan.settings.candidate.method, plan.settings.reason));
    Ok(decided)
}

/// The parts of a run besides its plan, which changes when the method is chosen.
struct Run<'a> {
    opened: Option<&'a Opened>,
    folder: &'a RunFolder,
    signals: &'a Signals,
    terminal: &'a Terminal,
    device: Device,
    resume: bool,
}

impl<'a> Run<'a> {
    fn context(&self, plan: &'a Plan) -> Context<'a> {
        let Run { opened, folder, signals, terminal: observer, device, resume } = *self;
        Context { plan, opened, folder, signals, observer, device, resume }
    }
}

/// Puts the winner of a race into the plan.
fn adopt_winner(plan: &mut Plan, raced: race::Raced, terminal: Terminal) -> Race {
    let race::Raced { race, winner, notes } = raced;
    plan.notes.extend(notes);
    plan.settings.adopt(winner, race.reason());
    terminal.say(format!("method  {}: {}", plan.settings.candidate.method, plan.settings.reason));
    plan.method_lines().iter().for_each(|line| terminal.say(line));
    race
}

/// Findings of a run, besides its model.
struct Found<'a> {
    outcomes: &'a Outcomes,
    calibration: Option<Calibration>,
    views: Option<(Evaluation, Option<Evaluation>)>,
    raced: Option<Race>,
    contest: Option<Contest>,
    bad_images: Vec<BadImage>,
    seconds: Seconds,
}

fn report(plan: &Plan, folder: &RunFolder, network: &Network, found: Found<'_>) -> Result<Report> {
    let Plan { settings, data, notes, .. } = plan;
    let Found { outcomes, calibration, views, raced, contest, bad_images, seconds } = found;
    let measured = |evaluation: &Evaluation, images: usize| Metrics::of(evaluation, images, &data.classes);
    let viewed = |evaluation: &Evaluation, samples: &[Sample]| {
        let measured = measured(evaluation, samples.len());
        settings.eval.clone().map(|views| MetricsOfViews { views, measured })
    };
    let (val_views, test_views) = match &views {
        None => (None, None),
        Some((val, test)) => (
            viewed(val, &data.val),
            test.as_ref().zip(data.test.as_ref()).and_then(|(test, samples)| viewed(test, samples)),
        ),
    };
    let frozen = Frozen {
        stages: network.stage_names().take(network.frozen()).map(str::to_string).collect(),
        sha256: network.frozen_hash()?,
    };
    let sha256 = folder.model_digests(contest.as_ref().and_then(Contest::partner).is_some())?;
    let test = outcomes.test.as_ref().zip(data.test.as_ref());
    Ok(Report {
        tl: env!("CARGO_PKG_VERSION"),
        method: settings.candidate.method,
        reason: settings.reason.clone(),
        strategy: settings.strategy.clone(),
        race: raced,
        contest,
        model: settings.model.clone(),
        sha256,
        weights: settings.weights.clone(),
        classes: data.classes.clone(),
        seed: settings.seed,
        device: settings.device,
        threads: settings.threads,
        decode: settings.data.decode,
        train: ImageCounts { images: data.train.len() },
        val: measured(&outcomes.val, data.val.len()),
        test: test.map(|(evaluation, samples)| measured(evaluation, samples.len())),
        val_views,
        test_views,
        calibration,
        epochs: outcomes.epochs.clone(),
        best: Best { epoch: outcomes.best.epoch, val_accuracy: outcomes.best.val_accuracy },
        best_reason: outcomes.best.reason.clone(),
        stopped_early: outcomes.stopped_early,
        linear: outcomes.linear.clone(),
        frozen,
        bad_images,
        stages: outcomes.stages.clone(),
        heads: outcomes.heads.clone(),
        notes: notes.iter().chain(&outcomes.notes).cloned().collect(),
        linear_head: outcomes.linear_head.clone(),
        passes: outcomes.passes.clone(),
        seconds: seconds.0,
    })
}

/// Announces the run.
fn introduce(plan: &Plan, terminal: Terminal) {
    plan.lines().iter().for_each(|line| terminal.say(line));
    for note in &plan.notes {
        terminal.say(format!("note: {note}"));
    }
}

/// Decodes every image once before training, and removes the bad ones from the plan.
fn without_bad_images(plan: &mut Plan, signals: &Signals, terminal: Terminal) -> Result<Vec<BadImage>> {
    let limits = plan.settings.data.limits();
    let samples: Vec<&Sample> = plan.data.all().map(|(_, sample)| sample).collect();
    let bar = terminal.images("checking", samples.len());
    let bad = verify::find_bad_images(&samples, limits, plan.settings.threads, signals, || bar.inc(1));
    bar.finish_and_clear();
    let bad = bad?;
    if bad.is_empty() {
        return Ok(bad);
    }
    let list = verify::list(&bad);
    if bad.len() == samples.len() {
        return Err(Error::run(format!(
            "{0} of {0} images cannot be used:\n{list}\nso there is nothing to learn from. Does an image viewer \
             open them? JPEG, JPEG 2000, PNG, GIF, WebP, BMP, TIFF and PNM files are read",
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
                "{} of {} images cannot be used and {} left out:\n{list}",
                bad.len(),
                samples.len(),
                are(bad.len())
            ));
        }
    }
    plan.data.remove(&bad)?;
    Ok(bad)
}

/// Keeps which images the model learns from, those of the model that it begins with included.
fn remember(plan: &mut Plan, opened: Option<&Opened>, signals: &Signals) -> Result<()> {
    let earlier = opened.and_then(|opened| opened.card.as_ref()).and_then(|card| card.learnt_from.as_ref());
    let check = || signals.check("stopped while reading the images: nothing was trained yet");
    plan.data.remember(earlier, plan.settings.threads, check)
}

/// The source's values, if the method begins with them.
fn opened(plan: &mut Plan, downloads: &DownloadBar) -> Result<Option<Opened>> {
    match (plan.settings.candidate.method.is_from_random(), plan.opened.take()) {
        (true, _) => Ok(None),
        (false, Some(opened)) => Ok(Some(opened)),
        (false, None) => plan.source.open(downloads).map(Some),
    }
}

/// Shows the results, and how to use the model.
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
    let model = match report.contest.as_ref().and_then(Contest::partner) {
        None => path_text(&folder.model()).into_owned(),
        Some(_) => {
            format!("{} with {PARTNER_FILE} beside it: predict averages them", path_text(&folder.model()))
        }
    };
    terminal.say(format!(
        "val accuracy {:.4} ({}{epoch}){test}{views}\nmodel   {model}\nreport  {}\nnext    tl predict --model {} PATH...",
        report.val.accuracy,
        report.val.interval,
        path_text(&folder.page()),
        for_shell(&path_text(folder.path()))
    ));
}
