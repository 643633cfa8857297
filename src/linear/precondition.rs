//! A cheap approximate inverse of the second derivative.

use tch::{Kind, Tensor};

use super::objective::{Curvature, Problems};
use super::stop::{Attempt, Stop};

/// Cost of the squares at most, in evaluations of one problem.
const EVALUATIONS: f64 = 20.;
/// Numbers in the squares of all classes at most.
const NUMBERS: f64 = (1 << 25) as f64;
/// Deviation from a unit diagonal that is rounding.
const ROUNDING: f64 = 1e-5;
/// The second derivative is about a tenth of the images' mean square: below a third of the penalty
/// it hardly matters.
const NEGLIGIBLE: f64 = 3.;
const SMALLEST_CURVATURE: f64 = 1e-9;
/// Above this number, classes share a square: separate ones would cost as much as the rest
/// together, and one class of many looks much like another.
const OWN_SQUARES: i64 = 50;
/// Rows of the shared square at most; its eigenvectors take a tenth of a second.
const SHARED_ROWS: i64 = 512;
/// Eigenvalues below this share of the largest are rounding errors.
const SMALLEST_EIGENVALUE: f64 = 1e-6;

/// The second derivative of each class alone, without cross-class terms: in full for the principal
/// axes of most variance, diagonal for the others. (The columns are the principal axes, the largest
/// last.) The problems, folds of one set of images, share it.
///
/// The sum over the classes, on which no probability depends, is removed before and after: there
/// the approximation would be off by the whole loss.
pub(super) struct Preconditioner {
    squares: Squares,
    /// `[K, M - R]`.
    diagonal: Tensor,
    /// `[K]`.
    biases: Tensor,
}

enum Squares {
    /// Cholesky factors `[K, R, R]` of the squares, their rows and columns times `scale`, `[K, R,
    /// 1]`.
    Own { factors: Tensor, scale: Tensor },
    /// The eigenvectors `[R, R]` of the classes' mean, and the inverse `[K, R]` on them: the
    /// eigenvalues, scaled by the curvature of the class's bias, plus the penalty.
    Shared { axes: Tensor, inverse: Tensor },
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
        let shared = classes > OWN_SQUARES;
        let own = (2. * EVALUATIONS * columns as f64).min(NUMBERS / classes as f64).sqrt() as i64;
        let block = if shared { SHARED_ROWS } else { own };
        // Where the penalty dominates, the diagonal is enough.
        let curved = problems.moments.iter().filter(|&&moment| moment > NEGLIGIBLE * penalty).count();
        let block = block.min(curved as i64).min(columns);
        let [squares, diagonal, biases] = problems.own_curvature(curvature, block, shared, stop)?;
        let mut diagonal = diagonal;
        let diagonal = diagonal.f_add_scalar_(penalty.max(f64::from(f32::MIN_POSITIVE)))?;
        let squares = match shared {
            true => Squares::shared(&squares.f_get(0)?, &biases, penalty)?,
            false => Squares::own(squares, &diagonal.f_narrow(1, columns - block, block)?, penalty)?,
        };
        Ok(Preconditioner {
            squares,
            diagonal: diagonal.f_narrow(1, 0, columns - block)?,
            biases: biases.f_clamp_min(SMALLEST_CURVATURE)?,
        })
    }

    /// Applies it to `gradients`, float32 `[P, L]`.
    pub(super) fn apply(&self, gradients: &Tensor) -> Result<Tensor, tch::TchError> {
        let (classes, rest) = self.diagonal.size2()?;
        let block = self.squares.rows();
        let weights = classes * (rest + block);
        let g = gradients.f_narrow(1, 0, weights)?.f_reshape([-1, classes, rest + block])?;
        let g = centred(&g)?;
        let outer = g.f_narrow(2, 0, rest)?.f_div(&self.diagonal)?;
        let inner = self.squares.solve(&g.f_narrow(2, rest, block)?)?;
        let w = centred(&Tensor::f_cat(&[outer, inner], 2)?)?.f_reshape([-1, weights])?;
        let biases = centred(&gradients.f_narrow(1, weights, classes)?)?.f_div(&self.biases)?;
        Tensor::f_cat(&[w, centred(&biases)?], 1)
    }
}

impl Squares {
    /// From the squares `[K, R, R]` without the penalty, and their diagonals `[K, R]` with it.
    fn own(mut squares: Tensor, diagonal: &Tensor, penalty: f64) -> Result<Self, tch::TchError> {
        // Scaled to a unit diagonal for float32; a class whose square still fails keeps the
        // diagonal.
        let scale = diagonal.f_rsqrt()?.f_unsqueeze(2)?;
        let _ = squares.f_diagonal(0, 1, 2)?.f_add_scalar_(penalty)?;
        let squares = squares.f_mul_(&scale)?.f_mul_(&scale.f_transpose(1, 2)?)?;
        let _ = squares.f_diagonal(0, 1, 2)?.f_add_scalar_(ROUNDING)?;
        let (factors, failed) = Tensor::f_linalg_cholesky_ex(&squares, false, false)?;
        let ones = Tensor::f_eye(squares.size()[1], (Kind::Float, squares.device()))?;
        Ok(Squares::Own {
            factors: ones.f_where_self(&failed.f_view([-1, 1, 1])?.f_ne(0)?, &factors)?,
            scale,
        })
    }

    /// From the classes' mean `[R, R]` without the penalty, and the biases' curvature `[K]`.
    fn shared(mean: &Tensor, biases: &Tensor, penalty: f64) -> Result<Self, tch::TchError> {
        let smallest = f64::from(f32::MIN_POSITIVE);
        let size = biases.f_div(&biases.f_mean(None::<Kind>)?.f_clamp_min(smallest)?)?.f_unsqueeze(1)?;
        if mean.size()[0] == 0 {
            let inverse = Tensor::f_zeros([size.size()[0], 0], (Kind::Float, mean.device()))?;
            return Ok(Squares::Shared { axes: mean.shallow_clone(), inverse });
        }
        let (values, axes) = mean.f_linalg_eigh("L")?;
        let values = values.f_maximum(&values.f_max()?.f_mul_scalar(SMALLEST_EIGENVALUE)?)?;
        let curved = size.f_mul(&values)?.f_add_scalar_(penalty)?.f_clamp_min(smallest)?;
        Ok(Squares::Shared { axes, inverse: curved.f_reciprocal()? })
    }

    fn rows(&self) -> i64 {
        match self {
            Squares::Own { factors: square, .. } | Squares::Shared { axes: square, .. } => square.size()[1],
        }
    }

    /// Applies it to gradients `[P, K, R]`.
    fn solve(&self, gradients: &Tensor) -> Result<Tensor, tch::TchError> {
        match self {
            Squares::Own { factors, scale } => {
                let scaled = gradients.f_permute([1, 2, 0])?.f_mul(scale)?;
                scaled.f_cholesky_solve(factors, false)?.f_mul(scale)?.f_permute([2, 0, 1])
            }
            Squares::Shared { axes, inverse } => {
                gradients.f_matmul(axes)?.f_mul_(inverse)?.f_matmul(&axes.tr())
            }
        }
    }
}

/// `x` minus its mean over the classes, dimension 1.
pub(super) fn centred(x: &Tensor) -> Result<Tensor, tch::TchError> {
    x.f_sub(&x.f_mean_dim(Some(&[1i64][..]), true, None::<Kind>)?)
}
