//! `partial`, `full` and `scratch`: stages are trained by gradient.

use super::{Context, Outcomes, Seconds, TrainedModel};
use crate::device::back_off::BackOff;
use crate::error::Result;
use crate::models::Network;
use crate::plan::{Plan, TrainSettings};
use crate::preprocess::Augmentation;
use crate::trainer;
use crate::weights::checkpoint::read_checkpoint;
use crate::weights::{Head, load};

/// Trains `network`, and measures the kept epoch.
pub(super) fn fine_tune(
    context: &Context,
    settings: &TrainSettings,
    augment: &Augmentation,
    network: Network,
    seconds: &mut Seconds,
) -> Result<TrainedModel> {
    let Plan { settings: plan, data, .. } = context.plan;
    let card = context.card(&network);
    let job = trainer::TrainingJob {
        settings,
        preprocessing: &plan.preprocessing,
        augment,
        limits: plan.data.limits(),
        // Without the images that were left out, as in the checkpoint.
        fingerprint: &data.fingerprint(),
        train: &data.train,
        val: &data.val,
        test: data.test.as_deref(),
        classes: data.classes.len(),
        seed: plan.seed,
        threads: plan.threads,
        folder: context.folder,
        card: &card,
        signals: context.signals,
        parts: BackOff::new(network.device()),
    };
    let mut observer = context.observer.training(settings.epochs);
    let resume = can_resume(context);
    let trained = seconds.of("train", || trainer::train(&job, &network, resume, observer.as_mut()))?;
    drop(observer);
    // Measured on the kept model, which need not be the last epoch's.
    let model = context.folder.model();
    load(&network, &model, &read_checkpoint(&model)?, Head::Load)?;
    let (val, test) = seconds.of("evaluate", || -> Result<_> {
        let val = trained.evaluate_val(&job, &network)?;
        let test = data.test.as_ref().map(|test| trainer::evaluate(&job, &network, test)).transpose()?;
        Ok((val, test))
    })?;
    let trainer::TrainingResult { epochs, best, linear_head, passes, stopped_early, mut notes, .. } = trained;
    notes.extend(job.parts.note());
    notes.iter().for_each(|note| context.observer.say(&format!("note: {note}")));
    let fine_tuned = Outcomes { epochs, best, val, test, notes, ..Outcomes::default() };
    let outcomes = Outcomes { linear_head, stopped_early, passes, ..fine_tuned };
    Ok(TrainedModel { network, outcomes, known: None })
}

/// Whether there is a training to resume: not before the first checkpoint, nor if the epochs are
/// done and their model is gone.
fn can_resume(context: &Context) -> bool {
    let folder = context.folder;
    let kept = folder.model().exists() || !folder.has_epochs();
    context.resume && folder.checkpoint().exists() && kept
}
