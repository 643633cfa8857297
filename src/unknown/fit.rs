//! Fits [`Unknown`] to features.

use tch::{Device, Kind, Tensor};

use super::packed::Packed;
use super::{Spread, Unknown, distance, doubt};
use crate::error::{Error, Result};

/// Directions of large spread within the classes. With 8 to 64 of them strangers are told as well
/// on ten tasks (area under the curve within 0.01); without any, by 0.015 worse.
const DIRECTIONS: usize = 16;
/// The share of the spread that is taken to be even: little data shows too few directions.
const EVEN: f64 = 0.1;
/// Axes of the classes' means at most. More classes share them.
const MEAN_AXES: usize = 64;
/// Numbers that are kept at most, as far as possible: 1.6 MB of text. A thousand classes stay below;
/// with ten thousand there are fewer axes.
const MOST_NUMBERS: usize = 600_000;
/// Directions with less than this share of the largest spread are rounding.
const ROUNDING: f64 = 1e-6;

/// What a network finds in images.
#[derive(Debug)]
pub struct Reading {
    /// Float32 `[N, D]` on the CPU.
    pub features: Tensor,
    /// Float32 `[N, K]` on the CPU.
    pub logits: Tensor,
}

/// Fits to the features of training images (`[N, D]`), of classes `labels`, and to a reading of
/// validation images, which the network has not learnt from. `None` if these are too few or all the
/// same to the network.
pub fn fit(train: &Tensor, labels: &[usize], val: &Reading) -> Result<Option<Unknown>> {
    let _guard = tch::no_grad_guard();
    let learnt = Learnt::of(train, labels).map_err(Error::torch("learn what is known"))?;
    let rows = |tensor: &Tensor| -> Result<Vec<Vec<f32>>> {
        let width = tensor.size().get(1).map_or(1, |&width| width.max(1) as usize);
        let values = Vec::<f32>::try_from(tensor.f_to_kind(Kind::Float)?.f_contiguous()?.f_flatten(0, -1)?)?;
        Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
    };
    let Some(Learnt { axes, classes, damped, width }) = learnt else { return Ok(None) };
    let far = |features: &Vec<f32>| distance(&axes, &classes, &damped, features);
    let distances: Vec<f64> = rows(&val.features)?.iter().map(far).collect();
    let doubts: Vec<f64> = rows(&val.logits)?.iter().map(|logits| doubt(logits)).collect();
    let (Some(distance), Some(doubt)) = (Spread::of(&distances), Spread::of(&doubts)) else {
        return Ok(None);
    };
    let sums: Vec<f64> =
        distances.iter().zip(&doubts).map(|(&a, &b)| distance.deviations(a) + doubt.deviations(b)).collect();
    let Some(Spread { deviation: sum, .. }) = Spread::of(&sums) else { return Ok(None) };
    let images = sums.len() as u64;
    Ok(Some(Unknown { axes, classes, damped, distance, doubt, images, sum, width }))
}

/// What the training images show.
struct Learnt {
    axes: Packed,
    classes: Packed,
    damped: Vec<f64>,
    width: usize,
}

impl Learnt {
    /// `None` without images, or if a feature is not finite.
    fn of(features: &Tensor, labels: &[usize]) -> Result<Option<Learnt>, tch::TchError> {
        let (n, width) = features.size2()?;
        let finite = features.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
        if n == 0 || width == 0 || n as usize != labels.len() || !finite {
            return Ok(None);
        }
        let x = features.f_to_kind(Kind::Double)?;
        let lengths = x.f_norm_scalaropt_dim(2., [1i64].as_slice(), true)?;
        let x = x.f_div(&lengths.f_clamp_min(f64::MIN_POSITIVE)?)?;
        let (means, own) = means(&x, labels)?;
        let within = x.f_sub(&means.f_index_select(0, &own)?)?;
        let rows = MOST_NUMBERS / (means.size()[0] + width) as usize;
        let (of_means, _) = principal(&means, rows.saturating_sub(DIRECTIONS).clamp(1, MEAN_AXES))?;
        let (of_spread, variances) = principal(&within, DIRECTIONS)?;
        let total = within.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
        let damped = damped(&variances, total, width as f64);
        // The classes are placed along the axes as they are stored.
        let axes = packed(&Tensor::f_cat(&[of_means, of_spread], 0)?)?;
        let stored = Tensor::f_from_slice(axes.values())?.f_reshape([-1, width])?.f_to_kind(Kind::Double)?;
        let classes = packed(&means.f_mm(&stored.tr())?)?;
        Ok(Some(Learnt { axes, classes, damped, width: width as usize }))
    }
}

/// The mean `[C, D]` of each class that has images, and for each image the row of its class.
fn means(x: &Tensor, labels: &[usize]) -> Result<(Tensor, Tensor), tch::TchError> {
    let mut known = labels.to_vec();
    known.sort_unstable();
    known.dedup();
    let place = |label: &usize| known.binary_search(label).unwrap_or_default() as i64;
    let own = Tensor::f_from_slice(&labels.iter().map(place).collect::<Vec<_>>())?;
    let options = (Kind::Double, Device::Cpu);
    let sums = Tensor::f_zeros([known.len() as i64, x.size()[1]], options)?.f_index_add_(0, &own, x)?;
    let counts = own.f_bincount::<Tensor>(None, known.len() as i64)?.f_to_kind(Kind::Double)?;
    Ok((sums.f_div(&counts.f_unsqueeze(1)?)?, own))
}

/// The `most` axes (orthonormal rows `[R, D]`) with the greatest sums of squares of the rows of
/// `x`, and these sums.
fn principal(x: &Tensor, most: usize) -> Result<(Tensor, Vec<f64>), tch::TchError> {
    let (n, d) = x.size2()?;
    let few = n < d;
    let products = if few { x.f_mm(&x.tr())? } else { x.tr().f_mm(x)? };
    let (squares, vectors) = products.f_linalg_eigh("L")?;
    let squares: Vec<f64> = Vec::try_from(squares)?;
    let greatest = squares.last().copied().unwrap_or_default();
    let counts = |square: &f64| *square > ROUNDING * greatest;
    let kept: Vec<f64> = squares.iter().rev().copied().filter(counts).take(most).collect();
    let order: Vec<i64> = (0..kept.len()).map(|nth| (squares.len() - 1 - nth) as i64).collect();
    let vectors = vectors.f_index_select(1, &Tensor::f_from_slice(&order)?)?;
    let axes = match few {
        false => vectors.tr(),
        true => {
            let lengths = Tensor::f_from_slice(&kept)?.f_sqrt()?.f_unsqueeze(1)?;
            vectors.tr().f_mm(x)?.f_div(&lengths)?
        }
    };
    Ok((axes, kept))
}

/// For each direction of the covariance `1 - s / v`: `v` its variance, `s` that of the even rest.
fn damped(variances: &[f64], total: f64, width: f64) -> Vec<f64> {
    let shown: f64 = variances.iter().sum();
    let even = EVEN * total / width;
    let rest = (1. - EVEN) * (total - shown).max(0.) / (width - variances.len() as f64).max(1.) + even;
    let damped = |variance: &f64| 1. - rest / ((1. - EVEN) * variance + even);
    variances.iter().map(|variance| damped(variance).clamp(0., 1.)).collect()
}

fn packed(values: &Tensor) -> Result<Packed, tch::TchError> {
    Ok(Packed::of(Vec::<f64>::try_from(values.f_contiguous()?.f_flatten(0, -1)?)?))
}
