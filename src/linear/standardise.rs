//! scikit-learn's `StandardScaler`, in float64 and a block of rows at a time.

use tch::{Kind, Tensor};

use super::{row_blocks, torch};
use crate::error::Result;

/// Columns that vary less than this count as constant: their weights would overflow a float32.
const SMALLEST_SCALE: f64 = 1e-30;

/// Mean and population standard deviation of each feature, float64 `[D]`.
#[derive(Debug)]
pub(super) struct Scaler {
    /// What was subtracted.
    pub mean: Tensor,
    /// 1 where a feature is constant, so that it becomes 0 instead of a division by nothing.
    pub scale: Tensor,
    /// Which features are constant and have become 0, boolean `[D]`.
    pub constant: Tensor,
}

/// The standardised features as a new float64 tensor `[N, D]`, and what was taken from them. Without `centre`
/// their means stay, and those that are constant stay as they are: to a head without biases they are one.
pub(super) fn standardise(features: &Tensor, centre: bool) -> Result<(Tensor, Scaler)> {
    run(features, centre).map_err(torch())
}

fn run(features: &Tensor, centre: bool) -> Result<(Tensor, Scaler), tch::TchError> {
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
    let scale = variance.f_sqrt()?;
    let constant = variance.f_le_tensor(&rounding)?.f_logical_or(&scale.f_lt(SMALLEST_SCALE)?)?;
    let scale = scale.f_masked_fill(&constant, 1.0)?;
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
