//! Predictions compared with labels.

use tch::{Kind, Reduction, Tensor};

use crate::data::Sample;
use crate::error::Result;
use crate::stats::metrics::Counter;

/// Counts predictions and their cross-entropies.
pub fn count(logits: &Tensor, labels: &Tensor, counter: &mut Counter) -> Result<()> {
    let loss = |reduction| logits.f_cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.);
    counter.loss_sum += loss(Reduction::Sum)?.f_double_value(&[])?;
    counter.losses.extend(Vec::<f64>::try_from(loss(Reduction::None)?.f_to_kind(Kind::Double)?)?);
    let predictions = Vec::<i64>::try_from(logits.f_argmax(1, false)?)?;
    let truths = Vec::<i64>::try_from(labels.shallow_clone())?;
    for (truth, prediction) in truths.into_iter().zip(predictions) {
        counter.confusion.add(truth as usize, prediction as usize);
    }
    Ok(())
}

/// Labels as int64 `[N]` on the CPU.
pub fn labels_of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Result<Tensor> {
    let labels: Vec<i64> = samples.map(|sample| sample.label as i64).collect();
    Ok(Tensor::f_from_slice(&labels)?)
}
