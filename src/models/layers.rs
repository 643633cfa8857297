//! The layers that the families share.
//!
//! A layer is built at a path of the state dict, which names its variables as torchvision does, and is a function of
//! a tensor and a [`Mode`]. All errors of libtorch come back as errors.

use tch::Tensor;

use super::vars::{Init, Path, Role};
use crate::error::{Error, Result};

/// What a layer does beyond its formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Dropout drops.
    pub dropout: bool,
    /// BatchNorm normalises by the batch's own statistics and moves its running ones.
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

/// Layers one after the other.
pub struct Sequential(pub Vec<Box<dyn Layer>>);

impl Layer for Sequential {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut xs = xs.shallow_clone();
        for layer in &self.0 {
            xs = layer.forward(&xs, mode)?;
        }
        Ok(xs)
    }
}

/// What PyTorch's `nn.Conv2d` takes besides channels, for square kernels.
#[derive(Clone, Copy, Debug)]
pub struct ConvConfig {
    /// Side of the kernel.
    pub kernel: i64,
    /// Step between outputs.
    pub stride: i64,
    /// Zeros added on each side.
    pub padding: i64,
    /// Groups of channels that do not see each other.
    pub groups: i64,
    /// Whether there is a bias.
    pub bias: bool,
    /// The initial distribution.
    pub init: ConvInit,
}

impl ConvConfig {
    /// A kernel with stride 1, padding that keeps the size, one group and no bias.
    pub const fn new(kernel: i64) -> Self {
        ConvConfig { kernel, stride: 1, padding: kernel / 2, groups: 1, bias: false, init: ConvInit::Default }
    }
    /// The same with this stride.
    pub const fn stride(self, stride: i64) -> Self {
        ConvConfig { stride, ..self }
    }
    /// The same with this padding.
    pub const fn padding(self, padding: i64) -> Self {
        ConvConfig { padding, ..self }
    }
    /// The same with this many groups.
    pub const fn groups(self, groups: i64) -> Self {
        ConvConfig { groups, ..self }
    }
    /// The same with a bias.
    pub const fn bias(self) -> Self {
        ConvConfig { bias: true, ..self }
    }
    /// The same with this initial distribution.
    pub const fn init(self, init: ConvInit) -> Self {
        ConvConfig { init, ..self }
    }
}

/// Initial distributions of convolution weights in torchvision.
#[derive(Clone, Copy, Debug)]
pub enum ConvInit {
    /// `nn.Conv2d`'s own: uniform in ±1/√fan_in.
    Default,
    /// `kaiming_normal_(mode="fan_out", nonlinearity="relu")` (He et al., 2015).
    KaimingFanOut,
}

/// A 2-d convolution (`nn.Conv2d`).
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: ConvConfig,
}

/// A convolution from `inputs` to `outputs` channels at `path`.
pub fn conv2d(path: &Path, inputs: i64, outputs: i64, config: ConvConfig) -> Result<Conv2d> {
    let ConvConfig { kernel, groups, .. } = config;
    let fan_in = (inputs / groups * kernel * kernel) as f64;
    let fan_out = (outputs * kernel * kernel) as f64;
    let init = match config.init {
        ConvInit::Default => Init::Uniform(fan_in.sqrt().recip()),
        ConvInit::KaimingFanOut => Init::Normal((2. / fan_out).sqrt()),
    };
    let weight = path.var("weight", Role::Weight, &[outputs, inputs / groups, kernel, kernel], init)?;
    let bias = match config.bias {
        true => Some(path.var("bias", Role::Bias, &[outputs], Init::Uniform(fan_in.sqrt().recip()))?),
        false => None,
    };
    Ok(Conv2d { weight, bias, config })
}

impl Layer for Conv2d {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        let ConvConfig { stride, padding, groups, .. } = self.config;
        let (stride, padding) = ([stride, stride], [padding, padding]);
        xs.f_conv2d(&self.weight, self.bias.as_ref(), stride, padding, [1, 1], groups)
            .map_err(|error| input_too_small(error, xs, self.config.kernel))
    }
}

/// libtorch's message names its own kernel sizes; a user's mistake is the size of the input.
fn input_too_small(error: tch::TchError, xs: &Tensor, kernel: i64) -> Error {
    if error.to_string().contains("Kernel size can't be greater") {
        let side = xs.size().last().copied().unwrap_or_default();
        return Error::run(format!(
            "the input is too small for this network: {side} pixels are left where a kernel needs {kernel}; \
             raise `preprocess: {{resize_size, crop_size}}`"
        ));
    }
    Error::torch("run a convolution")(error)
}

/// Batch normalisation over images (`nn.BatchNorm2d`; Ioffe and Szegedy, 2015).
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,
}

/// PyTorch's defaults; the three families use no others.
const BATCH_NORM_MOMENTUM: f64 = 0.1;
const BATCH_NORM_EPS: f64 = 1e-5;

/// A batch normalisation of `channels` at `path`.
pub fn batch_norm2d(path: &Path, channels: i64) -> Result<BatchNorm2d> {
    let var = |name, role, value| path.var(name, role, &[channels], Init::Constant(value));
    Ok(BatchNorm2d {
        weight: var("weight", Role::Norm, 1.)?,
        bias: var("bias", Role::Norm, 0.)?,
        running_mean: var("running_mean", Role::RunningStatistic, 0.)?,
        running_var: var("running_var", Role::RunningStatistic, 1.)?,
        batches: path.var("num_batches_tracked", Role::BatchCount, &[], Init::Constant(0.))?,
    })
}

impl Layer for BatchNorm2d {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let training = mode.batch_statistics;
        if training {
            // One value has no variance; PyTorch refuses it too, in Python.
            if xs.numel() as i64 == xs.size().get(1).copied().unwrap_or(1) {
                return Err(Error::run(
                    "a batch normalisation was given one value for each channel: raise `train.batch_size` or \
                     the image size (`preprocess`), or set `train.batch_norm: inference`",
                ));
            }
            // A copy of the handle: the count itself is shared, and in-place methods want `&mut`.
            let _ = tch::no_grad(|| self.batches.shallow_clone().f_add_scalar_(1))?;
        }
        xs.f_batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.running_mean),
            Some(&self.running_var),
            training,
            BATCH_NORM_MOMENTUM,
            BATCH_NORM_EPS,
            true,
        )
        .map_err(Error::torch("run a batch normalisation"))
    }
}

/// A convolution, its batch normalisation and, where there is one, its ReLU: the unit that most
/// convolutional families are made of.
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm2d,
    relu: bool,
}

/// A convolution at `conv` and its normalisation at `norm`: families differ in how they name the two.
pub fn conv_norm(
    conv: &Path,
    norm: &Path,
    inputs: i64,
    outputs: i64,
    config: ConvConfig,
    relu: bool,
) -> Result<ConvNorm> {
    Ok(ConvNorm { conv: conv2d(conv, inputs, outputs, config)?, norm: batch_norm2d(norm, outputs)?, relu })
}

impl Layer for ConvNorm {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut xs = self.norm.forward(&self.conv.forward(xs, mode)?, mode)?;
        if self.relu {
            // In place, as torchvision's `nn.ReLU(inplace=True)`: batch normalisation keeps its input
            // for the gradient, not its output.
            return xs.f_relu_().map_err(Error::torch("run a ReLU"));
        }
        Ok(xs)
    }
}

/// A fully connected layer (`nn.Linear`).
pub struct Linear {
    /// `[outputs, inputs]`
    pub weight: Tensor,
    /// `[outputs]`
    pub bias: Tensor,
}

/// A fully connected layer from `inputs` to `outputs` at `path`, with `nn.Linear`'s initial values.
pub fn linear(path: &Path, inputs: i64, outputs: i64) -> Result<Linear> {
    let init = Init::Uniform((inputs as f64).sqrt().recip());
    Ok(Linear {
        weight: path.var("weight", Role::Weight, &[outputs, inputs], init)?,
        bias: path.var("bias", Role::Bias, &[outputs], init)?,
    })
}

impl Layer for Linear {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        xs.f_linear(&self.weight, Some(&self.bias)).map_err(Error::torch("run a linear layer"))
    }
}

/// `nn.ReLU`
pub fn relu() -> Box<dyn Layer> {
    Box::new(Func(|xs: &Tensor, _| xs.f_relu()))
}

/// `nn.Dropout`
pub fn dropout(p: f64) -> Box<dyn Layer> {
    Box::new(Func(move |xs: &Tensor, mode: Mode| xs.f_dropout(p, mode.dropout)))
}

/// `nn.MaxPool2d`
pub fn max_pool2d(kernel: i64, stride: i64, padding: i64) -> Box<dyn Layer> {
    Box::new(MaxPool2d { kernel, stride, padding })
}

struct MaxPool2d {
    kernel: i64,
    stride: i64,
    padding: i64,
}

impl Layer for MaxPool2d {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        let MaxPool2d { kernel, stride, padding } = *self;
        let side = xs.size().last().copied().unwrap_or_default();
        if side + 2 * padding < kernel {
            return Err(Error::run(format!(
                "the input is too small for this network: {side} pixels are left where a pooling window \
                 needs {kernel}; raise `preprocess: {{resize_size, crop_size}}`"
            )));
        }
        xs.f_max_pool2d([kernel, kernel], [stride, stride], [padding, padding], [1, 1], false)
            .map_err(Error::torch("run a max pooling"))
    }
}

/// `nn.AdaptiveAvgPool2d((side, side))`, then `torch.flatten(x, 1)`
pub fn adaptive_avg_pool2d_flat(side: i64) -> Box<dyn Layer> {
    Box::new(Func(move |xs: &Tensor, _| xs.f_adaptive_avg_pool2d([side, side])?.f_flatten(1, -1)))
}

/// `x.mean([2, 3])`
pub fn global_mean() -> Box<dyn Layer> {
    Box::new(Func(|xs: &Tensor, _| xs.f_mean_dim([2i64, 3].as_slice(), false, None)))
}

/// The input as it is (`nn.Identity`).
pub fn identity() -> Box<dyn Layer> {
    Box::new(Func(|xs: &Tensor, _| Ok(xs.shallow_clone())))
}
