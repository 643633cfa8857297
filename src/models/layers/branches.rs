//! Branches on the same input (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015).

use tch::Tensor;

use super::{Layer, Mode, trace};
use crate::error::{Error, Result};

/// Layers that run side by side; their outputs are concatenated along the channels.
pub struct Branches(pub Vec<Box<dyn Layer>>);

impl Layer for Branches {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let outputs = self.0.iter().map(|branch| branch.forward(xs, mode)).collect::<Result<Vec<_>>>()?;
        Tensor::f_cat(&outputs, 1)
            .inspect(|out| trace::note(|| "Concatenation".into(), None, out, 0))
            .map_err(Error::torch("join branches"))
    }
}
