//! Residual connections (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

use tch::Tensor;

use super::{Activation, Layer, Mode, Sequential};
use crate::error::{Error, Result};

/// The sum of a branch and the input, or the shortcut's output.
pub struct Residual {
    main: Sequential,
    shortcut: Option<Box<dyn Layer>>,
    activation: Activation,
}

impl Residual {
    /// A branch plus its unchanged input; the branch must not modify the input in place.
    pub fn plain(main: Vec<Box<dyn Layer>>) -> Self {
        Residual { main: Sequential(main), shortcut: None, activation: Activation::Identity }
    }

    /// A branch, the shortcut where the shape changes, and the activation of the sum.
    pub fn new<S: Layer + 'static>(main: Sequential, shortcut: Option<S>, activation: Activation) -> Self {
        Residual { main, shortcut: shortcut.map(|shortcut| Box::new(shortcut) as _), activation }
    }
}

impl Layer for Residual {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut out = self.main.forward(xs, mode)?;
        let sum = match &self.shortcut {
            Some(shortcut) => out.f_add_(&shortcut.forward(xs, mode)?),
            None => out.f_add_(xs),
        };
        self.activation.apply_in_place(sum.map_err(Error::torch("add a residual"))?)
    }
}
