//! Two methods on the same images, the better one to be kept: see [`crate::strategy::rival`].

use std::fs;
use std::path::Path;
use std::time::Instant;

use tch::Device;

use super::{Outcomes, Run, Seconds, alone};
use crate::commands::terminal::Terminal;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::plan::{Entrant, Plan};
use crate::run_folder::RunFolder;
use crate::signal::Signals;
use crate::strategy::{Contest, race, rival::Heads};
use crate::weights::source::Opened;
use crate::wording::counted;

/// What a contest is given besides the plan.
pub(super) struct Ground<'a> {
    pub opened: Option<&'a Opened>,
    pub folder: &'a RunFolder,
    pub signals: &'a Signals,
    pub terminal: Terminal,
    pub device: Device,
    pub resume: bool,
}

/// A method that has been trained.
struct Side {
    entrant: Entrant,
    network: Network,
    outcomes: Outcomes,
    seconds: f64,
}

impl Side {
    /// What it did on each validation image.
    fn on_val(&self) -> race::Outcomes {
        let right = self.outcomes.val.confusion.outcomes().to_vec();
        race::Outcomes { method: self.entrant.method, right, seconds: self.seconds }
    }

    /// The cross-validated accuracy at each stage alone.
    fn alone(&self) -> impl Iterator<Item = f64> + '_ {
        let alone = self.outcomes.stages.iter().filter(|row| row.stages.len() == 1);
        alone.filter_map(|row| row.cv_accuracy)
    }

    /// What its heads have told, where they could be cross-validated.
    fn heads<'a>(&self, plan: &Plan, by_stage: &'a [f64]) -> Option<Heads<'a>> {
        let val = &self.outcomes.val.confusion;
        Some(Heads {
            size: plan.settings.strategy.size.verdict,
            by_stage,
            chosen: self.outcomes.stages.iter().find(|row| row.chosen)?.cv_accuracy?,
            train: plan.data.train.len(),
            val: val.outcomes().len(),
            val_right: val.outcomes().iter().filter(|right| **right).count(),
        })
    }
}

/// Trains the plan's method and its rival, and makes the better one what the plan trains and the run folder holds.
///
/// The one with a training loop has the run folder for itself, so that its epochs can be watched and a stopped run goes on. The
/// other one is fitted first, in a folder of its own: it takes one pass, and its features are kept for a resumed run.
pub(super) fn contest(
    plan: &mut Plan,
    rival: Entrant,
    ground: &Ground,
    seconds: &mut Seconds,
) -> Result<(Network, Outcomes, Contest)> {
    let (choice, reason) = (plan.settings.entrant(), plan.settings.reason.clone());
    let favourite = choice.method;
    let beside = ground.folder.heat("beside")?;
    // A run that was stopped after the decision has the winner's model in the place of the one to go on from.
    if ground.resume && ground.folder.beaten().exists() {
        put(&ground.folder.beaten(), &ground.folder.model())?;
    }
    let mut both = [choice, rival];
    both.sort_by_key(|entrant| entrant.train.is_some());
    let [on_features, by_gradient] = both;
    let fitted = trained(plan, on_features, &beside, ground, None, seconds)?;
    let by_stage: Vec<f64> = fitted.alone().collect();
    let heads = fitted.heads(plan, &by_stage);
    if let Some(settled) = heads.as_ref().and_then(Heads::settled) {
        let why = heads.map(|heads| settled.reason(by_gradient.method, &heads)).unwrap_or_default();
        put(&beside.model(), &ground.folder.model())?;
        ground.folder.rewrite_metrics(&fitted.outcomes.epochs)?;
        let contest = Contest::settled(fitted.on_val());
        return Ok(keep(plan, fitted, contest, format!("{reason}; {why}"), ground.terminal));
    }
    let to_beat = Some(fitted.outcomes.val.accuracy);
    let learnt = trained(plan, by_gradient, ground.folder, ground, to_beat, seconds)?;

    let done = learnt.outcomes.epochs.len();
    if let Some(epochs) = learnt.entrant.train.as_ref().map(|train| train.epochs).filter(|&all| done < all) {
        let Side { entrant, outcomes, .. } = &learnt;
        ground.terminal.say(format!(
            "{} ends after {} of {epochs}: its best val accuracy is {:.4}, that of {} {:.4}",
            entrant.method,
            counted(done, "epoch", "epochs"),
            outcomes.val.accuracy,
            fitted.entrant.method,
            fitted.outcomes.val.accuracy
        ));
    }
    let (choice, rival) =
        if fitted.entrant.method == favourite { (&fitted, &learnt) } else { (&learnt, &fitted) };
    let contest = Contest::of(choice.on_val(), rival.on_val());
    let kept = contest.methods.first().map(|row| row.method);
    let fitted_is_kept = kept == Some(fitted.entrant.method);
    if fitted_is_kept {
        put(&ground.folder.model(), &ground.folder.beaten())?;
        put(&beside.model(), &ground.folder.model())?;
        ground.folder.rewrite_metrics(&fitted.outcomes.epochs)?;
    }
    let reason = contest.reason(&reason);
    let kept = if fitted_is_kept { fitted } else { learnt };
    Ok(keep(plan, kept, contest, reason, ground.terminal))
}

/// Makes one of the two what the plan trains.
fn keep(
    plan: &mut Plan,
    kept: Side,
    contest: Contest,
    reason: String,
    terminal: Terminal,
) -> (Network, Outcomes, Contest) {
    plan.settings.adopt(kept.entrant, reason);
    terminal.say(format!("method  {}: {}", plan.settings.method, plan.settings.reason));
    (kept.network, kept.outcomes, contest)
}

/// Moves a model within the run folder.
fn put(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("move the model to", to))
}

/// Trains one of the two into `folder`.
fn trained(
    plan: &mut Plan,
    entrant: Entrant,
    folder: &RunFolder,
    ground: &Ground,
    to_beat: Option<f64>,
    seconds: &mut Seconds,
) -> Result<Side> {
    let started = Instant::now();
    let Ground { opened, signals, terminal, device, resume, .. } = *ground;
    terminal.say(format!("trying  {}", entrant.method));
    plan.settings.adopt(entrant.clone(), String::new());
    let mut network = alone(plan, opened, device)?;
    let run = Run { to_beat, ..Run::of(plan, &network, folder, signals, terminal, resume) };
    let before = network.frozen_hash()?;
    let outcomes = run.train(&mut network, seconds)?;
    if network.head_readings().is_empty() {
        run.verify_frozen(&network, &before)?;
    }
    Ok(Side { entrant, network, outcomes, seconds: started.elapsed().as_secs_f64() })
}
