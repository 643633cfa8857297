//! Scaling of features: each is centred, and all of a block are divided by one number, so that the
//! mean of the images' squared lengths is 1 and a penalty strength means the same for every network
//! and number of features. No feature is divided by its own deviation: ten images cannot determine
//! that of 1,280 features, and features that hardly vary are mostly noise (`docs/strategy.md` has
//! the measurement).

use tch::{Kind, Tensor};

use super::{row_blocks, torch};
use crate::error::Result;

/// Columns that vary less than this count as constant: their weights would overflow float32.
const SMALLEST_SCALE: f64 = 1e-30;

/// Mean and scale of each feature, float64 `[D]`.
#[derive(Debug)]
pub(super) struct Scaler {
    /// The subtracted mean.
    pub mean: Tensor,
    /// The divisor: the root mean square of a block's centred features times the root of the number
    /// of all features; 1 if the block is constant.
    pub scale: Tensor,
    /// Whether each feature is constant and has become 0, boolean `[D]`.
    pub constant: Tensor,
}

/// The scaled features as a new float64 tensor `[N, D]`, and their scaler. `blocks` are the widths
/// of the blocks scaled separately. Without `centre` the means and the constant features stay: a
/// head without biases uses them as one.
pub(super) fn scale(features: &Tensor, blocks: &[i64], centre: bool) -> Result<(Tensor, Scaler)> {
    run(features, blocks, centre).map_err(torch())
}

fn run(features: &Tensor, blocks: &[i64], centre: bool) -> Result<(Tensor, Scaler), tch::TchError> {
    let (n, d) = features.size2()?;
    let mut x = features.f_to_kind(Kind::Double)?.f_contiguous()?;
    let options = (Kind::Double, x.device());
    let mut mean = Tensor::f_zeros([d], options)?;
    for (start, rows) in row_blocks(n, d) {
        let _ = mean.f_add_(&x.f_narrow(0, start, rows)?.f_sum_dim_intlist(0, false, Kind::Double)?)?;
    }
    let _ = mean.f_div_scalar_(n as f64)?;
    let mut variance = Tensor::f_zeros([d], options)?;
    for (start, rows) in row_blocks(n, d) {
        let mut block = x.f_narrow(0, start, rows)?;
        let centred = if centre { block.f_sub_(&mean)? } else { block.f_sub(&mean)? };
        let _ = variance.f_add_(&centred.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?)?;
    }
    let _ = variance.f_div_scalar_(n as f64)?;

    // scikit-learn's `_is_constant_feature`: a variance within the rounding error of its own
    // computation.
    let n_eps = n as f64 * f64::EPSILON;
    let rounding = mean.f_mul_scalar(n_eps)?.f_square()?.f_add_(&variance.f_mul_scalar(n_eps)?)?;
    let deviation = variance.f_sqrt()?;
    let constant = variance.f_le_tensor(&rounding)?.f_logical_or(&deviation.f_lt(SMALLEST_SCALE)?)?;
    // Without centring, the scale is that of the features themselves.
    let squares = if centre { variance } else { mean.f_square()?.f_add_(&variance)? };
    let scale = scales(&squares, blocks)?;
    for (start, rows) in row_blocks(n, d) {
        let _ = x.f_narrow(0, start, rows)?.f_div_(&scale)?;
    }
    if !centre {
        return Ok((x, Scaler { mean: mean.f_zeros_like()?, scale, constant: constant.f_zeros_like()? }));
    }
    // Rounding errors left in a constant column carry no information.
    let _ = x.f_masked_fill_(&constant, 0.0)?;
    Ok((x, Scaler { mean, scale, constant }))
}

/// For each feature, the root mean square of its block times the root of the number of all
/// features.
fn scales(squares: &Tensor, blocks: &[i64]) -> Result<Tensor, tch::TchError> {
    let parts = squares.f_split_with_sizes(blocks, 0)?;
    let all = blocks.iter().sum::<i64>() as f64;
    let of = |(part, &width): (&Tensor, &i64)| -> Result<Tensor, tch::TchError> {
        let scale = part.f_mean(Kind::Double)?.f_mul_scalar(all)?.f_sqrt()?;
        let scale = scale.f_masked_fill(&scale.f_lt(SMALLEST_SCALE)?, 1.0)?;
        scale.f_expand([width], false)
    };
    let scales = parts.iter().zip(blocks).map(of).collect::<Result<Vec<_>, _>>()?;
    Tensor::f_cat(&scales, 0)
}
