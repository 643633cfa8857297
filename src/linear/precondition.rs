//! An approximate inverse of the second derivative that is cheap to apply.

use tch::{Kind, Tensor};

use super::objective::{Curvature, Problems};
use super::stop::{Attempt, Stop};

/// What the squares may cost, in evaluations of one problem.
const EVALUATIONS: f64 = 20.;
/// Numbers in the squares of all classes at most.
const NUMBERS: f64 = (1 << 25) as f64;
/// What rounding may make a diagonal of ones lack.
const ROUNDING: f64 = 1e-5;
/// The second derivative is about a tenth of the images' mean square: where that is less than a third of the
/// penalty it hardly matters.
const NEGLIGIBLE: f64 = 3.;
const SMALLEST_CURVATURE: f64 = 1e-9;

/// The second derivative of each class alone, without what one class's parameters do to another's: in full
/// for the principal axes of most variance, for the others its diagonal. (The columns are the principal axes,
/// the largest last.) The problems, folds of one set of images, share it.
///
/// The sum over the classes, on which no probability depends, is taken out before and after: there the
/// approximation would be off by the whole loss.
pub(super) struct Preconditioner {
    /// Cholesky factors `[K, R, R]` of the squares, their rows and columns times `scale`, `[K, R, 1]`.
    factors: Tensor,
    scale: Tensor,
    /// `[K, M - R]`.
    diagonal: Tensor,
    /// `[K]`.
    biases: Tensor,
}

impl Preconditioner {
    pub(super) fn new(
        problems: &Problems,
        curvature: &Curvature,
        penalties: &[f64],
        stop: Stop,
    ) -> Attempt<Self> {
        let penalty = penalties.iter().sum::<f64>() / penalties.len() as f64;
        let (classes, columns) = (problems.classes, problems.columns());
        let block = (2. * EVALUATIONS * columns as f64).min(NUMBERS / classes as f64).sqrt() as i64;
        // Where the penalty prevails the diagonal is all.
        let curved = problems.moments.iter().filter(|&&moment| moment > NEGLIGIBLE * penalty).count();
        let block = block.min(curved as i64);
        let [squares, diagonal, biases] = problems.own_curvature(curvature, block, stop)?;
        let mut diagonal = diagonal;
        let diagonal = diagonal.f_add_scalar_(penalty.max(f64::from(f32::MIN_POSITIVE)))?;
        // Scaled to a diagonal of ones, which bears float32; a class whose square does not keeps that diagonal.
        let scale = diagonal.f_narrow(1, columns - block, block)?.f_rsqrt()?.f_unsqueeze(2)?;
        let _ = squares.f_diagonal(0, 1, 2)?.f_add_scalar_(penalty)?;
        let mut squares = squares;
        let squares = squares.f_mul_(&scale)?.f_mul_(&scale.f_transpose(1, 2)?)?;
        let _ = squares.f_diagonal(0, 1, 2)?.f_add_scalar_(ROUNDING)?;
        let (factors, failed) = Tensor::f_linalg_cholesky_ex(&squares, false, false)?;
        let ones = Tensor::f_eye(block, (Kind::Float, squares.device()))?;
        Ok(Preconditioner {
            factors: ones.f_where_self(&failed.f_view([-1, 1, 1])?.f_ne(0)?, &factors)?,
            scale,
            diagonal: diagonal.f_narrow(1, 0, columns - block)?,
            biases: biases.f_clamp_min(SMALLEST_CURVATURE)?,
        })
    }

    /// Applied to `gradients`, float32 `[P, L]`.
    pub(super) fn apply(&self, gradients: &Tensor) -> Result<Tensor, tch::TchError> {
        let (classes, rest) = self.diagonal.size2()?;
        let block = self.factors.size()[1];
        let weights = classes * (rest + block);
        let g = gradients.f_narrow(1, 0, weights)?.f_reshape([-1, classes, rest + block])?;
        let g = centred(&g)?;
        let outer = g.f_narrow(2, 0, rest)?.f_div(&self.diagonal)?;
        let inner = g.f_narrow(2, rest, block)?.f_permute([1, 2, 0])?.f_mul(&self.scale)?;
        let inner = inner.f_cholesky_solve(&self.factors, false)?.f_mul(&self.scale)?.f_permute([2, 0, 1])?;
        let w = centred(&Tensor::f_cat(&[outer, inner], 2)?)?.f_reshape([-1, weights])?;
        let biases = centred(&gradients.f_narrow(1, weights, classes)?)?.f_div(&self.biases)?;
        Tensor::f_cat(&[w, centred(&biases)?], 1)
    }
}

/// Less the mean over the classes, dimension 1.
pub(super) fn centred(x: &Tensor) -> Result<Tensor, tch::TchError> {
    x.f_sub(&x.f_mean_dim(Some(&[1i64][..]), true, None::<Kind>)?)
}
