//! The layers that the families share.
//!
//! A layer is built at a path of the state dict, with torchvision's names of its variables, and is
//! a function of a tensor and a [`Mode`]. All errors of libtorch are returned as errors.

mod attention;
mod branches;
mod conv;
mod dropping;
mod inverted_residual;
mod linear;
mod local_response_norm;
pub mod moments;
mod norm;
mod residual;
mod squeeze_excitation;
pub mod trace;

pub use attention::{
    TransformerBlock, attend, join_windows, mlp, position_bias, relative_position_index, split_heads, windows,
};
pub use branches::Branches;
pub use conv::{Conv2d, ConvConfig, ConvInit, ConvNorm, Padding, conv_norm, conv2d};
pub use dropping::{Dropping, dropout, stochastic_depth};
pub use inverted_residual::{BlockKeys, InvertedResidualConfig, divisible, inverted_residual};
pub use linear::{Linear, LinearInit, linear};
pub use local_response_norm::local_response_norm;
pub use norm::{BatchNorm2d, LayerNorm, LayerNorm2d, NormConfig, batch_norm2d, layer_norm};
pub use residual::Residual;
pub use squeeze_excitation::{SqueezeExcitation, squeeze_excitation};
use tch::Tensor;

use crate::error::{Error, Result};

/// Training behaviour of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Whether dropout is active.
    pub dropout: bool,
    /// Whether BatchNorm normalises by the batch's own statistics and updates its running ones.
    pub batch_statistics: bool,
}

impl Mode {
    /// As in PyTorch after `model.eval()`.
    pub const INFERENCE: Mode = Mode { dropout: false, batch_statistics: false };
    /// As in PyTorch after `model.train()`.
    pub const TRAINING: Mode = Mode { dropout: true, batch_statistics: true };
}

/// A function of a tensor; images are `[N, C, H, W]`, vectors `[N, D]`.
pub trait Layer: Send {
    /// The output for the input `xs`.
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor>;
}

/// A layer without variables, written as a closure.
pub struct Func<F>(pub F);

impl<F: Fn(&Tensor, Mode) -> Result<Tensor, tch::TchError> + Send> Layer for Func<F> {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok((self.0)(xs, mode)?)
    }
}

/// Layers in sequence.
pub struct Sequential(pub Vec<Box<dyn Layer>>);

impl Layer for Sequential {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        self.0.iter().try_fold(xs.shallow_clone(), |xs, layer| layer.forward(&xs, mode))
    }
}

impl<L: Layer + 'static> FromIterator<L> for Sequential {
    fn from_iter<I: IntoIterator<Item = L>>(layers: I) -> Self {
        Sequential(layers.into_iter().map(|layer| Box::new(layer) as _).collect())
    }
}

impl Layer for Box<dyn Layer> {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        (**self).forward(xs, mode)
    }
}

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// None: the input as it is.
    Identity,
    /// `nn.ReLU`
    Relu,
    /// `nn.ReLU6`
    Relu6,
    /// `nn.SiLU`
    Silu,
    /// `nn.Hardswish`
    Hardswish,
    /// `nn.GELU`, with the error function
    Gelu,
    /// `nn.Sigmoid`
    Sigmoid,
    /// `nn.Hardsigmoid`
    Hardsigmoid,
    /// `nn.Tanh`
    Tanh,
}

impl Activation {
    /// The function of `xs`.
    pub fn apply(self, xs: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Identity => Ok(xs.shallow_clone()),
            Activation::Relu => xs.f_relu(),
            Activation::Relu6 => xs.f_clamp(0., 6.),
            Activation::Silu => xs.f_silu(),
            Activation::Hardswish => xs.f_hardswish(),
            Activation::Gelu => xs.f_gelu("none"),
            Activation::Sigmoid => xs.f_sigmoid(),
            Activation::Hardsigmoid => xs.f_hardsigmoid(),
            Activation::Tanh => xs.f_tanh(),
        }
        .map_err(Error::torch("run an activation"))
    }

    /// The same in the memory of `xs`, if no gradient needs its values: behind a normalisation or a
    /// convolution, which keep their inputs and not their outputs.
    pub fn apply_in_place(self, mut xs: Tensor) -> Result<Tensor> {
        let in_place = match self {
            Activation::Identity => return Ok(xs),
            Activation::Relu => xs.f_relu_(),
            // The gradient of a ReLU needs only its output, that of the others their input.
            other if xs.requires_grad() => return other.apply(&xs),
            Activation::Relu6 => xs.f_clamp_(0., 6.),
            Activation::Silu => xs.f_silu_(),
            Activation::Hardswish => xs.f_hardswish_(),
            Activation::Gelu => xs.f_gelu_("none"),
            Activation::Sigmoid => xs.f_sigmoid_(),
            Activation::Hardsigmoid => xs.f_hardsigmoid_(),
            Activation::Tanh => xs.f_tanh_(),
        };
        in_place.map_err(Error::torch("run an activation"))
    }
}

impl Layer for Activation {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        self.apply(xs)
    }
}

/// An activation behind a normalisation or a convolution: see [`Activation::apply_in_place`].
pub struct InPlace<L>(pub L, pub Activation);

impl<L: Layer> Layer for InPlace<L> {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        self.1.apply_in_place(self.0.forward(xs, mode)?)
    }
}

/// `nn.MaxPool2d`
pub fn max_pool2d(kernel: i64, stride: i64, padding: i64) -> Box<dyn Layer> {
    Box::new(MaxPool2d { kernel, stride, padding, ceil: false })
}

/// `nn.MaxPool2d(ceil_mode=True)`
pub fn max_pool2d_ceil(kernel: i64, stride: i64, padding: i64) -> Box<dyn Layer> {
    Box::new(MaxPool2d { kernel, stride, padding, ceil: true })
}

struct MaxPool2d {
    kernel: i64,
    stride: i64,
    padding: i64,
    /// Whether a window may extend over the edge.
    ceil: bool,
}

impl Layer for MaxPool2d {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        let MaxPool2d { kernel, stride, padding, ceil } = *self;
        let side = xs.size().last().copied().unwrap_or_default();
        // A window that may extend over the edge needs less: only its first position inside.
        let beyond = if ceil { stride - 1 } else { 0 };
        if side + 2 * padding + beyond < kernel {
            return Err(Error::run(format!(
                "the input is too small for this network: {side} pixels are left where a pooling window \
                 needs {kernel}; raise `preprocess: {{resize_size, crop_size}}`"
            )));
        }
        xs.f_max_pool2d([kernel, kernel], [stride, stride], [padding, padding], [1, 1], ceil)
            .inspect(|out| trace::note(|| format!("MaxPool2d {kernel}×{kernel}"), None, out, 0))
            .map_err(Error::torch("run a max pooling"))
    }
}

/// `nn.AvgPool2d`
pub fn avg_pool2d(kernel: i64, stride: i64, padding: i64) -> Box<dyn Layer> {
    Box::new(Func(move |xs: &Tensor, _| {
        let (kernels, strides, paddings) = ([kernel; 2], [stride; 2], [padding; 2]);
        let out = xs.f_avg_pool2d(kernels, strides, paddings, false, true, None)?;
        trace::note(|| format!("AvgPool2d {kernel}×{kernel}"), None, &out, 0);
        Ok(out)
    }))
}

/// `nn.AdaptiveAvgPool2d((side, side))`, then `torch.flatten(x, 1)`
pub fn adaptive_avg_pool2d_flat(side: i64) -> Box<dyn Layer> {
    Box::new(Func(move |xs: &Tensor, _| {
        let out = xs.f_adaptive_avg_pool2d([side, side])?;
        trace::note(|| format!("AdaptiveAvgPool2d {side}×{side}"), None, &out, 0);
        out.f_flatten(1, -1)
    }))
}

/// `x.mean([2, 3])`
pub fn global_mean() -> Box<dyn Layer> {
    Box::new(Func(|xs: &Tensor, _| {
        let out = xs.f_mean_dim([2i64, 3].as_slice(), false, None)?;
        trace::note(|| "mean".into(), None, &out, 0);
        Ok(out)
    }))
}

/// The input as it is (`nn.Identity`).
pub fn identity() -> Box<dyn Layer> {
    Box::new(Func(|xs: &Tensor, _| Ok(xs.shallow_clone())))
}
