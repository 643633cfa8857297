//! The gradient of one batch: forward, loss, backward; whole, or in parts whose gradients have the
//! same sum.

use tch::{Kind, Reduction, Tensor};

use super::TrainingJob;
use crate::device::back_off::sizes;
use crate::device::precision::{Autocast, LossScale};
use crate::error::{Error, Result};
use crate::models::{Activations, Network, Role, layers::Mode};
use crate::recipe::BatchNormMode;

/// Everything needed to train on a batch.
pub(super) struct Learner<'a> {
    pub job: &'a TrainingJob<'a>,
    pub network: &'a Network,
    /// Number of stages that do not learn yet.
    pub held: usize,
    pub mode: Mode,
    pub class_weights: Option<&'a Tensor>,
}

/// Results of a batch, on the device: nothing has waited for them.
pub(super) struct BatchOutcome {
    /// The mean loss of the batch, without auxiliary classifiers.
    pub loss: Tensor,
    /// Number of right predictions.
    pub right: Tensor,
}

impl Learner<'_> {
    /// Adds the gradient of the mean loss over a batch, times the loss scale if there is one, to
    /// the gradients of the parameters. At most `most` images go through the network at once.
    pub fn gradient(
        &self,
        xs: &Activations,
        targets: &Tensor,
        most: usize,
        scale: Option<&LossScale>,
    ) -> Result<BatchOutcome> {
        let images = targets.size()[0] as usize;
        if images <= most {
            return self.backward(xs, targets, None, scale);
        }
        let whole = self.weight(targets)?;
        let (mut start, mut outcome) = (0, None::<BatchOutcome>);
        for part in sizes(images, most, self.least()) {
            let part = part as i64;
            let values = xs.values.f_narrow(0, start, part)?;
            let targets = targets.f_narrow(0, start, part)?;
            let BatchOutcome { loss, right } =
                self.backward(&xs.with(&values), &targets, Some(&whole), scale)?;
            outcome = Some(match outcome {
                None => BatchOutcome { loss, right },
                Some(sum) => BatchOutcome { loss: sum.loss.f_add(&loss)?, right: sum.right.f_add(&right)? },
            });
            start += part;
        }
        outcome.ok_or_else(|| Error::run("a batch without images"))
    }

    /// Minimum number of images in the network at once: BatchNorm cannot normalise a single image.
    pub fn least(&self) -> usize {
        if self.normalises_batches() { 2 } else { 1 }
    }

    /// Whether the network's output for an image depends on the others of its batch.
    pub fn normalises_batches(&self) -> bool {
        self.job.settings.batch_norm == BatchNormMode::Train && self.network.has_running_statistics()
    }

    /// Copies of the running statistics, with their counts: a failed forward pass may have changed
    /// some of them.
    pub fn statistics(&self) -> Result<Vec<(Tensor, Tensor)>> {
        let vars = self.network.vars().iter().chain(self.network.auxiliary_vars());
        let moves = |role| matches!(role, Role::RunningStatistic | Role::BatchCount);
        let moved = vars.filter(|var| self.normalises_batches() && moves(var.role));
        let copy = |live: &Tensor| {
            let mut kept = live.f_empty_like()?;
            kept.f_copy_(live)?;
            Ok((live.shallow_clone(), kept))
        };
        moved.map(|var| copy(&var.tensor)).collect()
    }

    /// Without `whole` the mean over these images; with it, their share of the mean over a batch of
    /// that weight.
    fn backward(
        &self,
        xs: &Activations,
        targets: &Tensor,
        whole: Option<&Tensor>,
        scale: Option<&LossScale>,
    ) -> Result<BatchOutcome> {
        let settings = self.job.settings;
        let autocast = Autocast::begin(self.network.device(), settings.precision)?;
        let (logits, auxiliary) = self.network.forward_from(xs, self.held, self.mode)?;
        let loss_of = |logits: &Tensor| {
            let loss = |reduction| {
                logits.f_cross_entropy_loss(
                    targets,
                    self.class_weights,
                    reduction,
                    -100,
                    settings.label_smoothing,
                )
            };
            match whole {
                None => loss(Reduction::Mean),
                Some(whole) => loss(Reduction::Sum).and_then(|loss| loss.f_div(whole)),
            }
            .map_err(Error::torch("compute the loss"))
        };
        let loss = loss_of(&logits)?;
        let right = right(&logits, targets)?;
        let value = loss.f_detach()?;
        let aux_weight = settings.aux_weight.unwrap_or_default();
        let loss = auxiliary.iter().try_fold(loss, |loss, logits| -> Result<Tensor> {
            Ok(loss.f_add(&loss_of(logits)?.f_mul_scalar(aux_weight)?)?)
        })?;
        drop(autocast);
        let loss = match scale {
            None => loss,
            Some(scale) => scale.scaled(&loss)?,
        };
        loss.f_backward().map_err(Error::torch("compute the gradient"))?;
        Ok(BatchOutcome { loss: value, right })
    }

    /// PyTorch's divisor of the sum of a batch's losses: the weights of the labels' classes, or the
    /// number of images if targets are shares of classes.
    fn weight(&self, targets: &Tensor) -> Result<Tensor> {
        let weigh = || match self.class_weights {
            Some(weights) if targets.dim() == 1 => weights.f_index_select(0, targets)?.f_sum(Kind::Float),
            // On the CPU for any device: a scalar needs no copy.
            _ => Tensor::f_from_slice(&[targets.size()[0] as f32])?.f_reshape([0i64; 0]),
        };
        weigh().map_err(Error::torch("weigh a batch"))
    }
}

/// Number of predictions that equal the target, or its largest share if the targets are shares `[N,
/// K]`.
fn right(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let labels = match targets.dim() {
        1 => targets.shallow_clone(),
        _ => targets.f_argmax(1, false)?,
    };
    Ok(logits.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?)
}
