//! Trains both methods of a contest.

use std::time::Instant;

use super::contest::{ContestResult, Trainer, contest};
use super::{Context, Seconds, TrainedModel};
use crate::error::Result;
use crate::plan::{Candidate, Training};
use crate::recipe::Method;
use crate::run::folder::RunFolder;
use crate::strategy::decide;

/// Heads and fine-tuning of one plan.
pub struct Pair<'a> {
    context: Context<'a>,
    heads: &'a Candidate,
    tuned: &'a Candidate,
    seconds: &'a mut Seconds,
    /// Notes on trainings that ended early: the model of one may be dropped.
    ended_early: Vec<(Method, String)>,
}

/// Holds a contest between `first` and `second`, of which one fits heads; with notes on a training that ended early
/// and is not kept. Fine-tuning uses the run
/// folder, so that its epochs can be watched and a stopped run resumes; its model and the heads'
/// are in folders of their own until one is kept.
pub fn hold(
    context: Context,
    [first, second]: [&Candidate; 2],
    averaged: bool,
    seconds: &mut Seconds,
) -> Result<(ContestResult<TrainedModel>, Vec<String>)> {
    let (heads, tuned) = match first.training {
        Training::Heads { .. } => (first, second),
        _ => (second, first),
    };
    let mut pair = Pair { context, heads, tuned, seconds, ended_early: Vec::new() };
    let decided = contest(&mut pair, averaged)?;
    // Of what is kept, the report tells anyway.
    let is_used = |method| decided.partner.is_some() || decided.contest.kept() == Some(method);
    let dropped = pair.ended_early.into_iter().filter(|(method, _)| !is_used(*method));
    let notes = dropped.map(|(method, note)| format!("`{method}`, which is not kept, {note}")).collect();
    Ok((decided, notes))
}

impl Pair<'_> {
    fn train(
        &mut self,
        candidate: &Candidate,
        folder: &RunFolder,
    ) -> Result<(TrainedModel, decide::MethodResult)> {
        let started = Instant::now();
        self.context.observer.say(&format!("trying  {}", candidate.method));
        let context = Context { folder, ..self.context };
        let network = context.network(candidate)?;
        let trained = context.train(candidate, network, self.seconds)?;
        if let Some(early) = &trained.outcomes.stopped_early {
            self.ended_early.push((candidate.method, early.to_string()));
        }
        let measured = decide::MethodResult {
            method: candidate.method,
            val: trained.outcomes.val.clone(),
            held_out: trained.outcomes.held_out.map(|right| (right, trained.outcomes.compared_on)),
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((trained, measured))
    }
}

impl Trainer for Pair<'_> {
    type Model = TrainedModel;

    fn fit_heads(&mut self) -> Result<(TrainedModel, decide::MethodResult)> {
        let folder = self.context.folder.fold_run("heads")?;
        self.train(self.heads, &folder)
    }

    fn fine_tune(&mut self) -> Result<(TrainedModel, decide::MethodResult)> {
        let folder = self.context.folder.with_model_apart()?;
        self.train(self.tuned, &folder)
    }

    fn say(&self, line: &str) {
        self.context.observer.say(line);
    }
}
