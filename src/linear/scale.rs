//! Features of a common size: each less its mean, and all of a block over one number, so that the mean of the images' squared
//! lengths is 1 and a strength of the penalty means the same for every network and number of features. No feature is divided by
//! its own deviation: that of 1,280 features cannot be told from ten images, and what hardly varies is mostly noise
//! (`docs/strategy.md` has the measurement).

use tch::{Kind, Tensor};

use super::{row_blocks, torch};
use crate::error::Result;

/// Columns that vary less than this count as constant: their weights would overflow a float32.
const SMALLEST_SCALE: f64 = 1e-30;

/// Mean and scale of each feature, float64 `[D]`.
#[derive(Debug)]
pub(super) struct Scaler {
    /// What was subtracted.
    pub mean: Tensor,
    /// What was divided by: the root mean square of a block's centred features times the root of the number of all features; 1
    /// where the block is constant.
    pub scale: Tensor,
    /// Which features are constant and have become 0, boolean `[D]`.
    pub constant: Tensor,
}

/// The scaled features as a new float64 tensor `[N, D]`, and what was taken from them. `blocks` are the widths of those that
/// have a scale of their own. Without `centre` their means stay, and those that are constant stay as they are: to a head
/// without biases they are one.
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

    // scikit-learn's `_is_constant_feature`: a variance within the rounding error of its own computation.
    let n_eps = n as f64 * f64::EPSILON;
    let rounding = mean.f_mul_scalar(n_eps)?.f_square()?.f_add_(&variance.f_mul_scalar(n_eps)?)?;
    let deviation = variance.f_sqrt()?;
    let constant = variance.f_le_tensor(&rounding)?.f_logical_or(&deviation.f_lt(SMALLEST_SCALE)?)?;
    // Without the mean taken away, what varies is the features themselves.
    let squares = if centre { variance } else { mean.f_square()?.f_add_(&variance)? };
    let scale = scales(&squares, blocks)?;
    for (start, rows) in row_blocks(n, d) {
        let _ = x.f_narrow(0, start, rows)?.f_div_(&scale)?;
    }
    if !centre {
        return Ok((x, Scaler { mean: mean.f_zeros_like()?, scale, constant: constant.f_zeros_like()? }));
    }
    // Rounding left in a constant column is no information.
    let _ = x.f_masked_fill_(&constant, 0.0)?;
    Ok((x, Scaler { mean, scale, constant }))
}

/// The root mean square of each block times the root of the number of all features, for each feature.
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
