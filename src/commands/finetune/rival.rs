//! Two methods on the same images, the better one to be kept: see [`crate::strategy::rival`].

use std::fs;
use std::path::Path;
use std::time::Instant;

use tch::Device;

use super::look::Look;
use super::{Outcomes, Run, Seconds, alone};
use crate::commands::terminal::Terminal;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::plan::LinearSettings;
use crate::plan::{Entrant, Plan};
use crate::recipe::{DatasetSize, Method};
use crate::run_folder::RunFolder;
use crate::signal::Signals;
use crate::strategy::rival::{Heads, Looked, NINE_IN_TEN, ToBeat, Trained, at_best, of_epochs};
use crate::strategy::{Contest, race};
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

/// What has come of a contest.
pub(super) struct Decided {
    pub network: Network,
    pub outcomes: Outcomes,
    pub contest: Contest,
    /// The other one, where both count.
    pub beside: Option<Beside>,
}

/// The second of two models that are averaged.
pub(super) struct Beside {
    pub network: Network,
    /// What it counts, below a half.
    pub share: f64,
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

    /// The same, and what it is compared by: heads by all images that they were cross-validated and measured on, unless that
    /// was a part.
    fn trained(&self, plan: &Plan) -> Trained {
        let accuracies: Vec<f64> = self.outcomes.epochs.iter().map(|row| row.val_accuracy).collect();
        let look = self.look();
        let heads = look.heads(plan).filter(|heads| self.entrant.train.is_none() && !heads.part);
        let estimate = heads.map_or_else(|| of_epochs(&accuracies), |heads| heads.right());
        Trained { outcomes: self.on_val(), estimate }
    }

    /// What its heads have told.
    fn look(&self) -> Look {
        let stages = &self.outcomes.stages;
        let alone = stages.iter().filter(|row| row.stages.len() == 1);
        Look {
            images: self.outcomes.compared_on,
            by_stage: alone.filter_map(|row| row.cv_accuracy).collect(),
            chosen: self.outcomes.held_out,
            on_val: self.outcomes.val.confusion.outcomes().to_vec(),
        }
    }
}

impl Look {
    /// What tells whether fine-tuning need not be tried, where the heads could be cross-validated.
    fn heads(&self, plan: &Plan) -> Option<Heads<'_>> {
        Some(Heads {
            size: plan.settings.strategy.size.verdict,
            by_stage: &self.by_stage,
            chosen: self.chosen?,
            train: self.images,
            part: self.images < plan.data.train.len(),
            val: self.on_val.len(),
            val_right: self.right(),
        })
    }

    fn right(&self) -> usize {
        self.on_val.iter().filter(|right| **right).count()
    }

    /// The share of the validation images that the best head is right on.
    fn accuracy(&self) -> f64 {
        self.right() as f64 / self.on_val.len().max(1) as f64
    }

    /// As the report has it.
    fn row(&self, method: Method, plan: &Plan) -> Looked {
        let (fitted_to, accuracy) = (self.images, self.accuracy());
        let at_best = at_best(accuracy, fitted_to, plan.data.train.len());
        Looked { method, fitted_to, measured_on: self.on_val.len(), accuracy, at_best }
    }
}

/// Trains the plan's method and its rival, and makes the better one what the plan trains and the run folder holds.
///
/// The one with a training loop has the run folder for itself, so that its epochs can be watched and a stopped run goes on. The
/// other one comes first, in a folder of its own: it takes one pass, and its features are kept for a resumed run. Where
/// fine-tuning is the table's choice, there are many images, and heads are fitted to a part of them at first.
pub(super) fn contest(
    plan: &mut Plan,
    rival: Entrant,
    ground: &Ground,
    seconds: &mut Seconds,
) -> Result<Decided> {
    let (choice, reason) = (plan.settings.entrant(), plan.settings.reason.clone());
    let favourite = choice.method;
    let beside = ground.folder.heat("beside")?;
    // A run that was stopped after the decision has the winner's model in the place of the one to go on from.
    if ground.resume && ground.folder.beaten().exists() {
        put(&ground.folder.beaten(), &ground.folder.model())?;
    }
    if choice.train.is_some() && rival.train.is_some() {
        return partial_or_full(plan, choice, rival, reason, ground, seconds);
    }
    let mut both = [choice, rival];
    both.sort_by_key(|entrant| entrant.train.is_some());
    let [on_features, by_gradient] = both;
    let heads_method = on_features.method;
    let first = match favourite == by_gradient.method {
        true => looked(plan, &on_features, ground, false, seconds)?,
        false => None,
    };
    let row = first.as_ref().map(|look| look.row(heads_method, plan));
    let (mut fitted, look) = match first {
        Some(look) => (None, look),
        None => {
            let fitted = trained(plan, on_features.clone(), &beside, ground, None, seconds)?;
            let look = fitted.look();
            (Some(fitted), look)
        }
    };
    let heads = look.heads(plan);
    let mut settled = heads.and_then(|heads| Some(heads.settled()?.reason(by_gradient.method, &heads)));
    let mut learnt = None;
    let size = plan.settings.strategy.size.verdict;
    // What it is compared with in the end.
    let accuracy = match (&heads, size) {
        (Some(heads), DatasetSize::Little) => heads.right(),
        _ => look.accuracy(),
    };
    if settled.is_none() {
        let rival = by_gradient.method;
        let to_beat = Some(ToBeat { accuracy, size });
        match trained(plan, by_gradient, ground.folder, ground, to_beat, seconds) {
            Ok(side) => learnt = Some(side),
            // The heads are there, and a rate that was too high for `full` says nothing against them.
            Err(Error::Diverged(message)) => {
                ground.terminal.say(format!("note: {rival} is given up: {message}"));
                settled = Some(format!("`{rival}` diverged"));
            }
            Err(error) => return Err(error),
        }
    }
    if let (Some(learnt), Some(row)) = (&learnt, row)
        && row.at_best > learnt.trained(plan).estimate
    {
        fitted = Some(trained(plan, on_features.clone(), &beside, ground, None, seconds)?);
    }
    let Some(learnt) = learnt else {
        let fitted = match fitted {
            Some(fitted) => fitted,
            None => trained(plan, on_features, &beside, ground, None, seconds)?,
        };
        put(&beside.model(), &ground.folder.model())?;
        ground.folder.rewrite_metrics(&fitted.outcomes.epochs)?;
        let contest = Contest::settled(fitted.trained(plan)).after(row);
        let reason = format!("{reason}; {}", settled.unwrap_or_default());
        return Ok(keep(plan, fitted, None, contest, reason, ground.terminal));
    };
    given_up(&learnt, accuracy, row, heads_method, ground.terminal);
    let Some(fitted) = fitted else {
        let contest = Contest::settled(learnt.trained(plan)).after(row);
        let reason = contest.reason(&reason);
        return Ok(keep(plan, learnt, None, contest, reason, ground.terminal));
    };
    let (choice, rival) =
        if fitted.entrant.method == favourite { (&fitted, &learnt) } else { (&learnt, &fitted) };
    let (size, average) = (plan.settings.strategy.size.verdict, plan.settings.average);
    let contest = Contest::of(choice.trained(plan), rival.trained(plan), size, average);
    let contest = contest.after(row);
    let kept = contest.methods.first().map(|row| row.method);
    let fitted_is_kept = kept == Some(fitted.entrant.method);
    if fitted_is_kept {
        put(&ground.folder.model(), &ground.folder.beaten())?;
        put(&beside.model(), &ground.folder.model())?;
        ground.folder.rewrite_metrics(&fitted.outcomes.epochs)?;
    }
    let reason = contest.reason(&reason);
    let (kept, other) = if fitted_is_kept { (fitted, learnt) } else { (learnt, fitted) };
    Ok(keep(plan, kept, Some(other), contest, reason, ground.terminal))
}

/// With lots of images that are similar: the last stages alone, or all of them. The two are never both trained. What a linear
/// classifier on the top features is right on tells: where these fit, there is little for the early stages to learn.
fn partial_or_full(
    plan: &mut Plan,
    choice: Entrant,
    rival: Entrant,
    reason: String,
    ground: &Ground,
    seconds: &mut Seconds,
) -> Result<Decided> {
    let frozen = choice.frozen_stages.iter().chain(&choice.trained_stages);
    let linear = Entrant {
        method: Method::Linear,
        frozen_stages: frozen.cloned().collect(),
        trained_stages: Vec::new(),
        linear: Some(LinearSettings::on_features(&plan.recipe)),
        train: None,
        augment: None,
    };
    let look = looked(plan, &linear, ground, true, seconds)?;
    let row = look.as_ref().map(|look| look.row(Method::Linear, plan));
    let right = look.as_ref().map(|look| look.heads(plan).map_or(look.accuracy(), |heads| heads.right()));
    let (entrant, reason) = match right {
        Some(right) if right < NINE_IN_TEN => {
            let what = format!(
                "{reason}; a linear classifier on the top features of some is right on {right:.4} only, so that all stages are \
                 trained"
            );
            (rival, what)
        }
        Some(right) => {
            let what = format!(
                "{reason}; a linear classifier on the top features of some is right on {right:.4}, so that the early stages \
                 have little to learn"
            );
            (choice, what)
        }
        None => (choice, reason),
    };
    let side = trained(plan, entrant, ground.folder, ground, None, seconds)?;
    let contest = Contest::settled(side.trained(plan)).after(row);
    Ok(keep(plan, side, None, contest, reason, ground.terminal))
}

/// Says that a training has ended before its last epoch, if it has.
fn given_up(learnt: &Side, to_beat: f64, row: Option<Looked>, heads: Method, terminal: Terminal) {
    let Side { entrant, outcomes, .. } = learnt;
    let done = outcomes.epochs.len();
    let Some(epochs) = entrant.train.as_ref().map(|train| train.epochs).filter(|&all| done < all) else {
        return;
    };
    let part = row.map_or(String::new(), |row| format!(", fitted to {} images,", row.fitted_to));
    terminal.say(format!(
        "{} ends after {} of {epochs}: its best val accuracy is {:.4}, and {heads}{part} is to be beaten by {to_beat:.4}",
        entrant.method,
        counted(done, "epoch", "epochs"),
        outcomes.val.accuracy
    ));
}

/// Makes one of the two what the plan trains. The other one goes beside it, if it counts.
fn keep(
    plan: &mut Plan,
    kept: Side,
    other: Option<Side>,
    contest: Contest,
    reason: String,
    terminal: Terminal,
) -> Decided {
    plan.settings.adopt(kept.entrant, reason);
    terminal.say(format!("method  {}: {}", plan.settings.method, plan.settings.reason));
    let Side { network, mut outcomes, .. } = kept;
    let beside = other.zip(contest.beside()).map(|(other, share)| {
        // The report has what the heads have come to, and what was seen for either; of epochs those of the kept one.
        let more = other.outcomes;
        if outcomes.linear.is_none() {
            (outcomes.linear, outcomes.stages, outcomes.heads) = (more.linear, more.stages, more.heads);
            outcomes.adapted_on = more.adapted_on;
        }
        outcomes.notes.extend(more.notes);
        outcomes.passes.extend(more.passes);
        Beside { network: other.network, share }
    });
    Decided { network, outcomes, contest, beside }
}

/// Moves a model within the run folder.
fn put(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("move the model to", to))
}

/// Fits heads to a part of the images; `None` where there are too few for that, unless `anyhow`.
fn looked(
    plan: &mut Plan,
    entrant: &Entrant,
    ground: &Ground,
    anyhow: bool,
    seconds: &mut Seconds,
) -> Result<Option<Look>> {
    let Some(settings) = &entrant.linear else { return Ok(None) };
    let Ground { opened, signals, terminal, device, resume, .. } = *ground;
    plan.settings.adopt(entrant.clone(), String::new());
    let network = alone(plan, opened, device)?;
    let folder = ground.folder.heat("look")?;
    let look = Run::of(plan, &network, &folder, signals, terminal, resume)
        .look(&network, settings, anyhow, seconds)?;
    if let Some(look) = &look {
        terminal.say(format!(
            "a look at {}: heads on {} of {} are right on {:.4} of val",
            entrant.method,
            look.images,
            counted(plan.data.train.len(), "training image", "training images"),
            look.accuracy()
        ));
    }
    Ok(look)
}

/// Trains one of the two into `folder`.
fn trained(
    plan: &mut Plan,
    entrant: Entrant,
    folder: &RunFolder,
    ground: &Ground,
    to_beat: Option<ToBeat>,
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
