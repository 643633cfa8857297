//! The end of a network: from the last stage's output to a vector, and the classifier.

use std::ops::Range;

use tch::Tensor;

use super::layers::{Activation, Conv2d, Layer, Linear, Mode};
use super::network::Tap;
use crate::error::Result;

/// Pooling of a stage's output to a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over height and width of images `[N, C, H, W]`; vectors are unchanged.
    Spatial,
    /// The mean over height and width of images `[N, H, W, C]`.
    ChannelsLast,
    /// The first of the tokens `[N, T, D]`: the class token.
    ClassToken,
}

impl Pooling {
    pub(super) fn pool(self, xs: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Pooling::Spatial if xs.dim() == 4 => xs.f_mean_dim([2i64, 3].as_slice(), false, None)?,
            Pooling::ChannelsLast if xs.dim() == 4 => xs.f_mean_dim([1i64, 2].as_slice(), false, None)?,
            Pooling::ClassToken if xs.dim() == 3 => xs.f_select(1, 0)?,
            _ => xs.shallow_clone(),
        })
    }
}

/// The final classifier layer.
pub enum Classifier {
    /// Linear, on the features.
    Linear(Linear),
    /// A 1×1 convolution of images, then ReLU and the mean over height and width (SqueezeNet).
    Convolution(Conv2d),
}

impl Classifier {
    /// `[classes, features]`, or `[classes, features, 1, 1]` for a convolution.
    pub fn weight(&self) -> &Tensor {
        match self {
            Classifier::Linear(linear) => &linear.weight,
            Classifier::Convolution(conv) => &conv.weight,
        }
    }

    /// `[classes]`
    pub fn bias(&self) -> Option<&Tensor> {
        match self {
            Classifier::Linear(linear) => linear.bias.as_ref(),
            Classifier::Convolution(conv) => conv.bias.as_ref(),
        }
    }

    /// The logits `[N, K]` of the neck's output.
    pub(super) fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Classifier::Linear(linear) => linear.forward(xs, mode),
            Classifier::Convolution(conv) => {
                Pooling::Spatial.pool(&Activation::Relu.apply_in_place(conv.forward(xs, mode)?)?)
            }
        }
    }
}

/// The end of the chain: the neck, which turns the last stage's output into a vector, and the
/// classifier.
pub(super) struct Head {
    /// The classifier's path in the state dict, such as `fc` or `classifier.6`.
    pub key: &'static str,
    /// From the last stage's output to the features, `[N, D]` (or `[N, D, H, W]` before a
    /// convolution).
    pub neck: Box<dyn Layer>,
    pub classifier: Classifier,
    pub vars: Range<usize>,
    /// The classifier's inputs, if not the neck's output alone.
    pub reads: Vec<Tap>,
}

impl Head {
    /// The features and the logits, from the last stage's output.
    pub fn read_both(&self, xs: &Tensor, mode: Mode) -> Result<[Tensor; 2]> {
        let features = self.neck.forward(xs, mode)?;
        let logits = self.classifier.forward(&features, mode)?;
        Ok([Pooling::Spatial.pool(&features)?, logits])
    }

    /// Reads a tap behind the last stage, from its output.
    pub fn read(&self, xs: &Tensor, tap: Tap, mode: Mode) -> Result<Tensor> {
        let features = self.neck.forward(xs, mode)?;
        match tap {
            Tap::Logits => self.classifier.forward(&features, mode),
            Tap::Peaks if features.dim() == 4 => Ok(features.f_amax([2i64, 3].as_slice(), false)?),
            _ => Pooling::Spatial.pool(&features),
        }
    }
}
