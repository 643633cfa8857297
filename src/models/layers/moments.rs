//! Input statistics of a network's BatchNorm layers on some images, beside those of the source
//! data.
//!
//! Layers record themselves only while moments are being taken on their thread, as in
//! [`super::trace`].

use std::cell::RefCell;

use tch::{Kind, TchError, Tensor};

/// The inputs of one BatchNorm layer, channel by channel: float64 `[C]` each.
#[derive(Debug)]
pub struct Moments {
    /// The address of its running mean, which identifies the layer.
    layer: usize,
    /// Number of values a channel.
    count: f64,
    sum: Tensor,
    squares: Tensor,
    /// Of the source data.
    running_mean: Tensor,
    /// Of the source data, with the layer's epsilon.
    running_var: Tensor,
    eps: f64,
}

thread_local! {
    static MOMENTS: RefCell<Option<Vec<Moments>>> = const { RefCell::new(None) };
}

/// Runs `work`; returns its result, with the moments of each BatchNorm layer over all of it.
pub fn moments<T>(work: impl FnOnce() -> T) -> (T, Vec<Moments>) {
    MOMENTS.with_borrow_mut(|moments| *moments = Some(Vec::new()));
    let result = work();
    let moments = MOMENTS.with_borrow_mut(Option::take);
    (result, moments.unwrap_or_default())
}

/// Records the input `xs` (`[N, C, H, W]`) of a layer, if moments are being taken.
pub(super) fn note(xs: &Tensor, mean: &Tensor, var: &Tensor, eps: f64) -> Result<(), TchError> {
    MOMENTS.with_borrow_mut(|moments| {
        let Some(moments) = moments else { return Ok(()) };
        let layer = mean.data_ptr() as usize;
        let sides: &[i64] = &[0, 2, 3];
        let sum = xs.f_sum_dim_intlist(sides, false, Kind::Double)?;
        // Float32 squares: their mean is needed to a few digits.
        let squares = xs.f_square()?.f_sum_dim_intlist(sides, false, Kind::Double)?;
        let count = (xs.numel() as i64 / sum.size()[0].max(1)) as f64;
        let seen = Moments {
            layer,
            count,
            sum,
            squares,
            running_mean: mean.f_to_kind(Kind::Double)?,
            running_var: var.f_to_kind(Kind::Double)?.f_add_scalar(eps)?,
            eps,
        };
        merge(moments, vec![seen])
    })
}

/// Adds the moments of more images to `known`, layer by layer.
pub fn merge(known: &mut Vec<Moments>, seen: Vec<Moments>) -> Result<(), TchError> {
    for Moments { layer, count, sum, squares, .. } in &seen {
        if let Some(known) = known.iter_mut().find(|known| known.layer == *layer) {
            known.count += count;
            let _ = known.sum.f_add_(sum)?;
            let _ = known.squares.f_add_(squares)?;
        }
    }
    let new = |seen: &Moments| known.iter().all(|known| known.layer != seen.layer);
    let new: Vec<Moments> = seen.into_iter().filter(new).collect();
    known.extend(new);
    Ok(())
}

impl Moments {
    /// Distance of the images from the source data in this layer, in nats: the median over its
    /// channels of the Kullback-Leibler divergence of two normal distributions, the images' from
    /// the running statistics. The median, because a channel that was hardly ever active on the
    /// source data would outweigh all others.
    pub fn divergence(&self) -> Result<f64, TchError> {
        let mean = self.sum.f_div_scalar(self.count)?;
        let var = self.squares.f_div_scalar(self.count)?.f_sub(&mean.f_square()?)?;
        let var = var.f_clamp_min(0.)?.f_add_scalar(self.eps)?;
        let shift = mean.f_sub(&self.running_mean)?.f_square()?.f_div(&self.running_var)?;
        let ratio = var.f_div(&self.running_var)?;
        let divergence = shift.f_add(&ratio)?.f_sub(&ratio.f_log()?)?.f_sub_scalar(1.)?.f_mul_scalar(0.5)?;
        divergence.f_median()?.f_double_value(&[])
    }
}
