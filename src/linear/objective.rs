//! Loss, gradient and second derivative of several weighted problems on the same images at once.

use tch::{Kind, TchError, Tensor};

use super::precondition::centred;
use super::stop::{Attempt, Stop};
use super::torch;
use crate::error::Result;

/// Numbers in a block's logits at most: bounds the memory, and keeps a block in cache between its
/// forward and backward pass.
const BLOCK_LOGITS: i64 = 1 << 20;

/// Probabilities kept for products with the second derivative at most, 256 MB; those of further
/// blocks are recomputed each time, which costs half as much again.
const KEPT_CHANCES: i64 = 1 << 26;

/// Multinomial logistic regression on shared images. A problem is a set of weights of the images: a
/// fold of a cross-validation gives weight 0 to those that it holds out.
///
/// The parameters of a problem are its weights `[K, M]` row by row, then its biases `[K]`: `L`
/// together. Its value is the weighted mean of the cross-entropy plus half of the squares of the
/// parameters, each times its `ridge`.
#[derive(Debug)]
pub(super) struct Problems {
    /// `[N, M]`, float32 or float64: the dtype of values and gradients.
    x: Tensor,
    /// The same in float32, for second derivatives.
    x_single: Tensor,
    /// int64 `[N, 1]`. Ones and zeros for all images and classes would take as much memory as the
    /// features.
    labels: Tensor,
    /// `[N, P]`: the images' weights in each problem, their sum 1.
    image_weights: Tensor,
    pub(super) classes: i64,
    /// The mean square of each column.
    pub(super) moments: Vec<f64>,
    /// Without it the biases stay at their start: their gradient is 0.
    intercept: bool,
}

/// Inputs of second-derivative products at a point, all float32.
pub(super) struct Curvature {
    /// The points' weights `[P·K, M]` and biases `[P·K]`.
    w: Tensor,
    b: Tensor,
    /// `[N, P, 1]`.
    image_weights: Tensor,
    /// Probabilities `[rows, P, K]` of the first blocks of images.
    kept: Vec<Tensor>,
}

impl Problems {
    /// Problems over the images `x` (`[N, M]`), with labels in `0..classes`, and a row of image
    /// weights for each problem, not all 0.
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
            let x_single = x.f_to_kind(Kind::Float)?;
            let norms = x_single.f_linalg_norm(2, Some(&[0i64][..]), false, Kind::Double)?;
            let moments = Vec::try_from(norms.f_square()?.f_div_scalar(n as f64)?)?;
            Ok(Problems { moments, x, x_single, labels, image_weights, classes, intercept })
        };
        build().map_err(torch())
    }

    /// The number of parameters of a problem.
    pub(super) fn parameters(&self) -> usize {
        (self.classes * (self.columns() + 1)) as usize
    }

    pub(super) fn columns(&self) -> i64 {
        self.x.size()[1]
    }

    /// Each parameter's penalty, float64 `[P, L]`: 0 for a bias.
    pub(super) fn ridge(&self, penalties: &[f64]) -> std::result::Result<Tensor, TchError> {
        let (count, weights) = (penalties.len() as i64, self.classes * self.columns());
        let ridge = Tensor::f_from_slice(penalties)?.f_unsqueeze(1)?.f_expand([count, weights], true)?;
        Tensor::f_cat(&[ridge, Tensor::f_zeros([count, self.classes], (Kind::Double, self.x.device()))?], 1)
    }

    /// Points `[P, L]` less the mean over the classes, on which no probability depends.
    pub(super) fn centred(&self, points: &Tensor) -> std::result::Result<Tensor, TchError> {
        let (w, b) = self.split(points, points.kind())?;
        let w = centred(&w.f_view([-1, self.classes, self.columns()])?)?;
        self.join(&w, &centred(&b.f_view([-1, self.classes])?)?)
    }

    /// The problems' values at one point each, and their gradients as float64 `[P, L]`. `points`
    /// and `ridge` are float64 `[P, L]`.
    pub(super) fn evaluate(
        &self,
        points: &Tensor,
        ridge: &Tensor,
        stop: Stop,
    ) -> Attempt<(Vec<f64>, Tensor)> {
        let count = points.size()[0];
        let (w, b) = self.split(points, self.x.kind())?;
        let double = (Kind::Double, self.x.device());
        let pulled = points.f_mul(ridge)?;
        let mut values =
            pulled.f_mul(points)?.f_sum_dim_intlist(1, false, Kind::Double)?.f_mul_scalar(0.5)?;
        let mut slopes = w.f_zeros_like()?;
        let mut bias_slopes = Tensor::f_zeros([count * self.classes], double)?;
        for (start, rows) in self.blocks(count) {
            stop.ask()?;
            let x = self.x.f_narrow(0, start, rows)?;
            let targets = self.targets(start, rows)?.f_unsqueeze(1)?;
            let shares = self.image_weights.f_narrow(0, start, rows)?.f_unsqueeze(2)?;
            let logits = b.f_addmm(&x, &w.tr())?.f_view([rows, count, self.classes])?;
            let mut log_chances = logits.f_log_softmax(2, None::<Kind>)?;
            let block = log_chances.f_mul(&targets)?.f_mul_(&shares)?;
            let _ = values.f_sub_(&block.f_sum_dim_intlist(&[0i64, 2][..], false, Kind::Double)?)?;
            let errors = log_chances.f_exp_()?.f_sub_(&targets)?.f_mul_(&shares)?;
            let errors = errors.f_view([rows, count * self.classes])?;
            let _ = slopes.f_addmm_(&errors.tr(), &x)?;
            let _ = bias_slopes.f_add_(&errors.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        }
        let gradients = self.join(&slopes, &bias_slopes)?.f_add_(&pulled)?;
        Ok((Vec::try_from(values)?, gradients))
    }

    /// Prepares [`Problems::curve`] at the points, float64 `[P, L]`.
    pub(super) fn curvature(&self, points: &Tensor, stop: Stop) -> Attempt<Curvature> {
        let count = points.size()[0];
        let (w, b) = self.split(points, Kind::Float)?;
        let image_weights = self.image_weights.f_to_kind(Kind::Float)?.f_unsqueeze(2)?;
        let mut curvature = Curvature { w, b, image_weights, kept: Vec::new() };
        for (start, rows) in self.blocks(count) {
            if (start + rows) * count * self.classes > KEPT_CHANCES {
                break;
            }
            stop.ask()?;
            let chances = self.chances(&curvature, start, rows)?;
            curvature.kept.push(chances);
        }
        Ok(curvature)
    }

    /// Probabilities `[rows, P, K]` of a block of images.
    fn chances(&self, curvature: &Curvature, start: i64, rows: i64) -> std::result::Result<Tensor, TchError> {
        let x = self.x_single.f_narrow(0, start, rows)?;
        let logits = curvature.b.f_addmm(&x, &curvature.w.tr())?;
        logits.f_view([rows, -1, self.classes])?.f_softmax(2, None::<Kind>)
    }

    /// Calls `with` for each block of images: its first image, its features, probabilities `[rows,
    /// P, K]` and weights `[rows, P, 1]`.
    fn each_block(
        &self,
        curvature: &Curvature,
        stop: Stop,
        mut with: impl FnMut(i64, Tensor, &Tensor, Tensor) -> Attempt<()>,
    ) -> Attempt<()> {
        let count = curvature.image_weights.size()[1];
        for (i, (start, rows)) in self.blocks(count).enumerate() {
            stop.ask()?;
            let x = self.x_single.f_narrow(0, start, rows)?;
            let shares = curvature.image_weights.f_narrow(0, start, rows)?;
            match curvature.kept.get(i) {
                Some(chances) => with(start, x, chances, shares)?,
                None => with(start, x, &self.chances(curvature, start, rows)?, shares)?,
            }
        }
        Ok(())
    }

    /// The second derivative times `directions`; result, `directions` and `ridge` are float32 `[P,
    /// L]`.
    pub(super) fn curve(
        &self,
        curvature: &Curvature,
        directions: &Tensor,
        ridge: &Tensor,
        stop: Stop,
    ) -> Attempt<Tensor> {
        let (w, b) = self.split(directions, Kind::Float)?;
        let mut curved = w.f_zeros_like()?;
        let mut bias_curved = b.f_zeros_like()?;
        let count = directions.size()[0];
        self.each_block(curvature, stop, |start, x, chances, shares| {
            let mut turned = b.f_addmm(&x, &w.tr())?.f_view_as(chances)?;
            // A number subtracted from all classes changes nothing; subtracting the label's avoids
            // cancellation where the label's probability is 1 but for rounding.
            let rows = x.size()[0];
            let labels =
                self.labels.f_narrow(0, start, rows)?.f_unsqueeze(2)?.f_expand([rows, count, 1], false)?;
            let mut turned = turned.f_sub_(&turned.f_gather(2, &labels, false)?)?;
            let mean = turned.f_mul(chances)?.f_sum_dim_intlist(2, true, None::<Kind>)?;
            let turned = turned.f_sub_(&mean)?.f_mul_(chances)?.f_mul_(&shares)?.f_flatten(1, 2)?;
            let _ = curved.f_addmm_(&turned.tr(), &x)?;
            let _ = bias_curved.f_add_(&turned.f_sum_dim_intlist(0, false, None::<Kind>)?)?;
            Ok(())
        })?;
        Ok(self.join(&curved, &bias_curved)?.f_addcmul_(directions, ridge)?)
    }

    /// The second derivatives of each class in its own parameters, as means over the problems: a
    /// square `[K, R, R]` for the last `R` columns, or its mean over the classes if `shared`; the
    /// diagonal `[K, M]` for all columns; and `[K]` for the biases.
    pub(super) fn own_curvature(
        &self,
        curvature: &Curvature,
        block: i64,
        shared: bool,
        stop: Stop,
    ) -> Attempt<[Tensor; 3]> {
        let (k, m, options) = (self.classes, self.columns(), (Kind::Float, self.x.device()));
        let squares = Tensor::f_zeros([if shared { 1 } else { k }, block, block], options)?;
        let mut diagonal = Tensor::f_zeros([k, m], options)?;
        let mut biases = Tensor::f_zeros([k], options)?;
        self.each_block(curvature, stop, |_, x, chances, shares| {
            let spread = chances.f_sub(&chances.f_square()?)?.f_mul_(&shares)?;
            let spread = spread.f_mean_dim(Some(&[1i64][..]), false, None::<Kind>)?;
            let _ = diagonal.f_addmm_(&spread.tr(), &x.f_square()?)?;
            let _ = biases.f_add_(&spread.f_sum_dim_intlist(0, false, None::<Kind>)?)?;
            if block == 0 {
                return Ok(());
            }
            let x = x.f_narrow(1, m - block, block)?.f_contiguous()?;
            let spread =
                if shared { spread.f_mean_dim(Some(&[1i64][..]), true, None::<Kind>)? } else { spread };
            for class in 0..spread.size()[1] {
                stop.ask()?;
                let weighted = x.f_mul(&spread.f_narrow(1, class, 1)?)?;
                let _ = squares.f_get(class)?.f_addmm_(&x.tr(), &weighted)?;
            }
            Ok(())
        })?;
        Ok([squares, diagonal, biases])
    }

    /// Weights `[P·K, M]` and biases `[P·K]` as parameters `[P, L]`.
    fn join(&self, weights: &Tensor, biases: &Tensor) -> std::result::Result<Tensor, TchError> {
        let biases = if self.intercept { biases.shallow_clone() } else { biases.f_zeros_like()? };
        let weights = weights.f_view([-1, self.classes * self.columns()])?.f_to_kind(biases.kind())?;
        Tensor::f_cat(&[weights, biases.f_view([-1, self.classes])?], 1)
    }

    /// Parameters `[P, L]` as weights `[P·K, M]` and biases `[P·K]`.
    fn split(&self, points: &Tensor, kind: Kind) -> std::result::Result<(Tensor, Tensor), TchError> {
        let weights = self.classes * self.columns();
        let points = points.f_to_kind(kind)?;
        let w = points.f_narrow(1, 0, weights)?.f_reshape([-1, self.columns()])?;
        Ok((w, points.f_narrow(1, weights, self.classes)?.f_reshape([-1])?))
    }

    /// The logits at a point, `[rows, K]`, of the rows from `start` on.
    pub(super) fn logits(&self, point: &[f64], start: usize, rows: usize) -> Result<Tensor> {
        let run = || {
            let (w, b) = self.split(&Tensor::f_from_slice(point)?.f_unsqueeze(0)?, self.x.kind())?;
            b.f_addmm(&self.x.f_narrow(0, start as i64, rows as i64)?, &w.tr())
        };
        run().map_err(torch())
    }

    /// `[rows, K]`: 1 at the label, else 0.
    fn targets(&self, start: i64, rows: i64) -> std::result::Result<Tensor, TchError> {
        let mut targets = Tensor::f_zeros([rows, self.classes], (self.x.kind(), self.x.device()))?;
        let _ = targets.f_scatter_value_(1, &self.labels.f_narrow(0, start, rows)?, 1.0)?;
        Ok(targets)
    }

    fn blocks(&self, problems: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        blocks(self.x.size()[0], problems * self.classes)
    }
}

fn blocks(rows: i64, width: i64) -> impl Iterator<Item = (i64, i64)> {
    let size = (BLOCK_LOGITS / width.max(1)).max(64);
    (0..rows).step_by(size as usize).map(move |start| (start, size.min(rows - start)))
}
