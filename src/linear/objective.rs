//! Loss, gradient and curvature of several weighted problems on the same images at once.

use tch::{Kind, Tensor};

use super::torch;
use crate::error::Result;

/// Numbers in a block's logits at most: bounds the memory, and keeps a block in the processor's cache
/// between its way forward and its way back.
const BLOCK_LOGITS: i64 = 1 << 20;

/// Multinomial logistic regression on shared images. A problem is a set of weights of the images: a fold
/// of a cross-validation gives weight 0 to those that it holds out.
///
/// The parameters of a problem are its weights `[K, M]` row by row, then its biases `[K]`. Its value is
/// the weighted mean of the cross-entropy plus `penalty / 2` times the squared norm of the weights.
#[derive(Debug)]
pub(super) struct Problems {
    /// `[N, M]`, float32 or float64: what everything is computed in.
    x: Tensor,
    /// int64 `[N, 1]`. Ones and zeros for all images and classes would take as much memory as the features.
    labels: Tensor,
    /// `[N, P]`: the images' weights in each problem, their sum 1.
    image_weights: Tensor,
    classes: i64,
    /// Without it the biases stay where they start: they have no slope.
    intercept: bool,
}

/// A problem's value and its gradient.
pub(super) type Evaluation = (f64, Vec<f64>);

impl Problems {
    /// Problems over the images `x` (`[N, M]`), with labels in `0..classes`, and a row of image weights
    /// for each problem, not all 0.
    pub(super) fn new(
        x: Tensor,
        labels: &[i64],
        classes: usize,
        weights: &[Vec<f64>],
        intercept: bool,
    ) -> Result<Self> {
        let build = || {
            let (n, _) = x.size2()?;
            let classes = classes as i64;
            let labels = Tensor::f_from_slice(labels)?.f_view([n, 1])?;
            let mut columns = Vec::with_capacity(weights.len());
            for problem in weights {
                let total: f64 = problem.iter().sum();
                let column: Vec<f64> = problem.iter().map(|weight| weight / total).collect();
                columns.push(Tensor::f_from_slice(&column)?.f_to_kind(x.kind())?);
            }
            let image_weights = Tensor::f_stack(&columns, 1)?;
            Ok(Problems { x, labels, image_weights, classes, intercept })
        };
        build().map_err(torch())
    }

    /// The number of parameters of a problem.
    pub(super) fn parameters(&self) -> usize {
        self.weights() + self.classes as usize
    }

    /// How many of them are weights; the biases follow.
    pub(super) fn weights(&self) -> usize {
        (self.classes * self.columns()) as usize
    }

    fn columns(&self) -> i64 {
        self.x.size()[1]
    }

    /// Evaluates the problems named in `which` at a point each.
    pub(super) fn evaluate(
        &self,
        which: &[usize],
        points: &[Vec<f64>],
        penalties: &[f64],
    ) -> Result<Vec<Evaluation>> {
        let mut evaluations = self.losses(which, points).map_err(torch())?;
        let weights = self.weights();
        for (((value, gradient), point), penalty) in evaluations.iter_mut().zip(points).zip(penalties) {
            let mut square = 0.0;
            for (slope, weight) in gradient.iter_mut().zip(&point[..weights]) {
                *slope += penalty * weight;
                square += weight * weight;
            }
            *value += 0.5 * penalty * square;
        }
        Ok(evaluations)
    }

    /// The same without the penalty.
    fn losses(&self, which: &[usize], points: &[Vec<f64>]) -> Result<Vec<Evaluation>, tch::TchError> {
        let count = which.len() as i64;
        let (w, b) = self.stack(points)?;
        let image_weights = self.image_weights(which)?;
        let double = (Kind::Double, self.x.device());
        let mut losses = Tensor::f_zeros([count], double)?;
        let mut slopes =
            Tensor::f_zeros([count * self.classes, self.columns()], (self.x.kind(), self.x.device()))?;
        let mut bias_slopes = Tensor::f_zeros([count * self.classes], double)?;
        for (start, rows) in self.blocks(count) {
            let x = self.x.f_narrow(0, start, rows)?;
            let targets = self.targets(start, rows)?.f_unsqueeze(1)?;
            let shares = image_weights.f_narrow(0, start, rows)?.f_unsqueeze(2)?;
            let logits = b.f_addmm(&x, &w.tr())?.f_view([rows, count, self.classes])?;
            let mut log_chances = logits.f_log_softmax(2, None::<Kind>)?;
            let block = log_chances.f_mul(&targets)?.f_mul_(&shares)?;
            let _ = losses.f_sub_(&block.f_sum_dim_intlist(&[0i64, 2][..], false, Kind::Double)?)?;
            let errors = log_chances.f_exp_()?.f_sub_(&targets)?.f_mul_(&shares)?;
            let errors = errors.f_view([rows, count * self.classes])?;
            let _ = slopes.f_addmm_(&errors.tr(), &x)?;
            let _ = bias_slopes.f_add_(&errors.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        }
        let gradients = self.join(&slopes, &bias_slopes)?;
        Ok(numbers(&losses)?.into_iter().zip(gradients).collect())
    }

    /// The second derivatives of the loss in each parameter alone, for each problem.
    pub(super) fn curvatures(&self, points: &[Vec<f64>]) -> Result<Vec<Vec<f64>>> {
        let run = || {
            let count = points.len() as i64;
            let (w, b) = self.stack(points)?;
            let mut curvatures = Tensor::f_zeros(w.size(), (self.x.kind(), self.x.device()))?;
            let mut bias_curvatures = Tensor::f_zeros(b.size(), (Kind::Double, self.x.device()))?;
            for (start, rows) in self.blocks(count) {
                let x = self.x.f_narrow(0, start, rows)?;
                let shares = self.image_weights.f_narrow(0, start, rows)?.f_unsqueeze(2)?;
                let logits = b.f_addmm(&x, &w.tr())?.f_view([rows, count, self.classes])?;
                let chances = logits.f_softmax(2, None::<Kind>)?;
                let spread = chances.f_sub(&chances.f_square()?)?.f_mul_(&shares)?;
                let spread = spread.f_view([rows, count * self.classes])?;
                let _ = curvatures.f_addmm_(&spread.tr(), &x.f_square()?)?;
                let _ = bias_curvatures.f_add_(&spread.f_sum_dim_intlist(0, false, Kind::Double)?)?;
            }
            self.join(&curvatures, &bias_curvatures)
        };
        run().map_err(torch())
    }

    /// Numbers of weights `[P·K, M]` and biases `[P·K]`, problem after problem.
    fn join(&self, weights: &Tensor, biases: &Tensor) -> Result<Vec<Vec<f64>>, tch::TchError> {
        let (weights, mut biases) = (numbers(weights)?, numbers(biases)?);
        if !self.intercept {
            biases.fill(0.0);
        }
        let problems = weights.chunks(self.weights()).zip(biases.chunks(self.classes as usize));
        Ok(problems.map(|(weights, biases)| [weights, biases].concat()).collect())
    }

    /// How many of the images `start..start + rows` are classified as labelled at this point, and the
    /// sum of their cross-entropies.
    pub(super) fn score(&self, point: &[f64], start: usize, rows: usize) -> Result<(u64, f64)> {
        let run = || {
            let (w, b) = self.stack(&[point.to_vec()])?;
            let (mut right, mut loss) = (0, 0.0);
            for (offset, rows) in blocks(rows as i64, self.classes) {
                let start = start as i64 + offset;
                let targets = self.targets(start, rows)?;
                let logits = b.f_addmm(&self.x.f_narrow(0, start, rows)?, &w.tr())?;
                let found = logits.f_argmax(1, false)?.f_eq_tensor(&targets.f_argmax(1, false)?)?;
                right += found.f_sum(Kind::Int64)?.f_int64_value(&[])?;
                let log_chances = logits.f_log_softmax(1, None::<Kind>)?;
                loss -= log_chances.f_mul(&targets)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            }
            Ok((right as u64, loss))
        };
        run().map_err(torch())
    }

    /// `[rows, K]`: 1 at the label, else 0.
    fn targets(&self, start: i64, rows: i64) -> Result<Tensor, tch::TchError> {
        let mut targets = Tensor::f_zeros([rows, self.classes], (self.x.kind(), self.x.device()))?;
        let _ = targets.f_scatter_value_(1, &self.labels.f_narrow(0, start, rows)?, 1.0)?;
        Ok(targets)
    }

    /// Points as one matrix `[P·K, M]` and one row of biases `[P·K]`.
    fn stack(&self, points: &[Vec<f64>]) -> Result<(Tensor, Tensor), tch::TchError> {
        let (mut w, mut b) = (Vec::with_capacity(points.len() * self.weights()), Vec::new());
        for point in points {
            let (weights, biases) = point.split_at(self.weights());
            w.extend_from_slice(weights);
            b.extend_from_slice(biases);
        }
        let w = Tensor::f_from_slice(&w)?.f_view([-1, self.columns()])?.f_to_kind(self.x.kind())?;
        Ok((w, Tensor::f_from_slice(&b)?.f_to_kind(self.x.kind())?))
    }

    fn image_weights(&self, which: &[usize]) -> Result<Tensor, tch::TchError> {
        let which: Vec<i64> = which.iter().map(|&problem| problem as i64).collect();
        self.image_weights.f_index_select(1, &Tensor::f_from_slice(&which)?)
    }

    fn blocks(&self, problems: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        blocks(self.x.size()[0], problems * self.classes)
    }
}

fn blocks(rows: i64, width: i64) -> impl Iterator<Item = (i64, i64)> {
    let size = (BLOCK_LOGITS / width.max(1)).max(64);
    (0..rows).step_by(size as usize).map(move |start| (start, size.min(rows - start)))
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, tch::TchError> {
    Vec::try_from(tensor.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)
}
