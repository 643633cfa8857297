//! Stochastic depth (Huang et al., ECCV 2016; torchvision `ops/stochastic_depth.py`, mode `row`).

use tch::Tensor;

use super::{Func, Layer, Mode};

/// Drops the whole branch of each image with probability `p` while dropout drops, and scales up the others.
pub fn stochastic_depth(p: f64) -> Box<dyn Layer> {
    Box::new(Func(move |xs: &Tensor, mode: Mode| {
        if !mode.dropout || p == 0. {
            return Ok(xs.shallow_clone());
        }
        let kept = 1. - p;
        let mut shape = vec![1; xs.dim()];
        shape[0] = xs.size()[0];
        let mut noise = xs.f_new_empty(shape, (xs.f_kind()?, xs.device()))?.f_bernoulli_float_(kept)?;
        // With everything dropped there is nothing to scale.
        if kept > 0. {
            noise = noise.f_div_scalar(kept)?;
        }
        xs.f_mul(&noise)
    }))
}
