//! Random dropping in training: dropout and stochastic depth.

use tch::Tensor;

use super::{Layer, Mode, trace};
use crate::error::{Error, Result};

/// A layer that drops with a probability, and scales up the rest to keep the mean. It does nothing
/// unless [`Mode::dropout`] is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dropping {
    /// Each number independently (Srivastava et al., JMLR 2014; `nn.Dropout`).
    Numbers(f64),
    /// The whole branch of an image (stochastic depth: Huang et al., ECCV 2016; torchvision
    /// `ops/stochastic_depth.py`, mode `row`).
    Images(f64),
}

impl Layer for Dropping {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let out = match *self {
            Dropping::Numbers(p) => xs.f_dropout(p, mode.dropout),
            Dropping::Images(p) if mode.dropout && p > 0. => drop_images(xs, p),
            Dropping::Images(_) => Ok(xs.shallow_clone()),
        };
        out.and_then(|out| trace::note_dropping(*self, xs, &out).map(|()| out))
            .map_err(Error::torch("drop at random"))
    }
}

fn drop_images(xs: &Tensor, p: f64) -> Result<Tensor, tch::TchError> {
    let kept = 1. - p;
    let mut shape = vec![1; xs.dim()];
    shape[0] = xs.size()[0];
    let mut noise = xs.f_new_empty(shape, (xs.f_kind()?, xs.device()))?.f_bernoulli_float_(kept)?;
    // With everything dropped there is nothing to scale.
    if kept > 0. {
        noise = noise.f_div_scalar(kept)?;
    }
    xs.f_mul(&noise)
}

/// `nn.Dropout`
pub fn dropout(p: f64) -> Box<dyn Layer> {
    Box::new(Dropping::Numbers(p))
}

/// `torchvision.ops.StochasticDepth(p, "row")`
pub fn stochastic_depth(p: f64) -> Box<dyn Layer> {
    Box::new(Dropping::Images(p))
}
