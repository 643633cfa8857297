//! Predictions compared with labels.

use tch::{Device, Kind, Reduction, Tensor};

use crate::data::Sample;
use crate::error::Result;
use crate::stats::metrics::Counter;

/// Counts predictions and their cross-entropies, and keeps their probabilities if `counter` does.
pub fn count(logits: &Tensor, labels: &Tensor, counter: &mut Counter) -> Result<()> {
    let softmax = |logits: &Tensor| logits.f_softmax(1, Kind::Float);
    let probabilities = counter.scores.is_some().then(|| softmax(logits)).transpose()?;
    count_with(logits, logits, labels, probabilities.as_ref(), counter)
}

/// As [`count`], of probabilities `[N, C]`. An underflown one counts as the smallest positive
/// number in the cross-entropy.
pub fn count_probabilities(probabilities: &Tensor, labels: &Tensor, counter: &mut Counter) -> Result<()> {
    // Logarithms of probabilities are logits of the same probabilities.
    let logits = probabilities.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_log()?;
    count_with(probabilities, &logits, labels, Some(probabilities), counter)
}

/// `answers` has its greatest number at the answer of each row.
fn count_with(
    answers: &Tensor,
    logits: &Tensor,
    labels: &Tensor,
    probabilities: Option<&Tensor>,
    counter: &mut Counter,
) -> Result<()> {
    let loss = |reduction| logits.f_cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.);
    counter.loss_sum += loss(Reduction::Sum)?.f_double_value(&[])?;
    counter.losses.extend(Vec::<f64>::try_from(loss(Reduction::None)?.f_to_kind(Kind::Double)?)?);
    let predictions = Vec::<i64>::try_from(answers.f_argmax(1, false)?)?;
    let truths = Vec::<i64>::try_from(labels.shallow_clone())?;
    if let (Some(scores), Some(rows)) = (&mut counter.scores, probabilities) {
        let rows = Vec::<f32>::try_from(rows.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?;
        scores.add(truths.iter().map(|&truth| truth as usize), &rows);
    }
    for (truth, prediction) in truths.into_iter().zip(predictions) {
        counter.confusion.add(truth as usize, prediction as usize);
    }
    Ok(())
}

/// Labels as int64 `[N]` on the CPU.
pub fn labels_of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Result<Tensor> {
    label_tensor(samples.map(|sample| sample.label))
}

/// The same of plain labels.
pub fn label_tensor(labels: impl Iterator<Item = usize>) -> Result<Tensor> {
    let labels: Vec<i64> = labels.map(|label| label as i64).collect();
    Ok(Tensor::f_from_slice(&labels)?)
}
