//! Convolutions, alone and with their normalisation and activation.

use std::borrow::Borrow;

use tch::Tensor;

use super::norm::{BatchNorm2d, NormConfig, batch_norm2d};
use super::{Activation, Layer, Mode, trace};
use crate::error::{Error, Result};
use crate::models::vars::{Init, Path, Role};

/// What PyTorch's `nn.Conv2d` takes besides channels; pairs are height and width.
#[derive(Clone, Copy, Debug)]
pub struct ConvConfig {
    /// Sides of the kernel.
    pub kernel: [i64; 2],
    /// Step between outputs.
    pub stride: i64,
    /// Zeros added on each side.
    pub padding: [i64; 2],
    /// Step between the inputs of one output.
    pub dilation: i64,
    /// Groups of channels that do not see each other.
    pub groups: i64,
    /// Whether there is a bias.
    pub bias: bool,
    /// The initial distribution.
    pub init: ConvInit,
}

impl ConvConfig {
    /// A square kernel with stride 1, padding that keeps the size, one group and no bias.
    pub const fn new(kernel: i64) -> Self {
        ConvConfig::rectangle(kernel, kernel)
    }
    /// The same for a kernel of `height` by `width`.
    pub const fn rectangle(height: i64, width: i64) -> Self {
        ConvConfig {
            kernel: [height, width],
            stride: 1,
            padding: [height / 2, width / 2],
            dilation: 1,
            groups: 1,
            bias: false,
            init: ConvInit::Default,
        }
    }
    /// The same with this stride.
    pub const fn stride(self, stride: i64) -> Self {
        ConvConfig { stride, ..self }
    }
    /// The same with this padding on all sides.
    pub const fn padding(self, padding: i64) -> Self {
        ConvConfig { padding: [padding, padding], ..self }
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
    /// `nn.Conv2d`'s own: weights and bias uniform in ±1/√fan_in.
    Default,
    /// `kaiming_normal_(mode="fan_out", nonlinearity="relu")` (He et al., 2015); biases 0.
    KaimingFanOut,
    /// The same with `nn.Conv2d`'s own biases.
    KaimingFanOutDefaultBias,
    /// Normal with this standard deviation; biases 0.
    Normal(f64),
    /// Normal with this standard deviation; biases 1.
    NormalBiasOne(f64),
    /// `trunc_normal_` with this standard deviation and bounds ±2; biases 0.
    TruncatedNormal(f64),
    /// `kaiming_uniform_(nonlinearity="relu")` over the inputs; biases 0.
    KaimingUniform,
}

/// A 2-d convolution (`nn.Conv2d`).
pub struct Conv2d {
    /// `[outputs, inputs / groups, height, width]`
    pub weight: Tensor,
    /// `[outputs]`
    pub bias: Option<Tensor>,
    pub(in crate::models) config: ConvConfig,
    /// Whether it goes to oneDNN without PyTorch's own choice: see [`crate::models::InferenceNetwork`].
    pub(in crate::models) direct: bool,
}

/// A convolution from `inputs` to `outputs` channels at `path`.
pub fn conv2d(path: &Path, inputs: i64, outputs: i64, config: ConvConfig) -> Result<Conv2d> {
    let conv = own_conv2d(path, inputs, outputs, config)?;
    match path.prepared() {
        Some(prepared) => prepared.convolution(&path.key("weight"), conv),
        None => Ok(conv),
    }
}

/// The same as it is trained.
fn own_conv2d(path: &Path, inputs: i64, outputs: i64, config: ConvConfig) -> Result<Conv2d> {
    let ConvConfig { kernel: [height, width], groups, .. } = config;
    let fan_in = (inputs / groups * height * width) as f64;
    // As PyTorch counts it: the groups do not shrink it.
    let fan_out = (outputs * height * width) as f64;
    let default = Init::Uniform(fan_in.sqrt().recip());
    let (init, bias_init) = match config.init {
        ConvInit::Default => (default, default),
        ConvInit::KaimingFanOut => (Init::Normal((2. / fan_out).sqrt()), Init::Constant(0.)),
        ConvInit::KaimingFanOutDefaultBias => (Init::Normal((2. / fan_out).sqrt()), default),
        ConvInit::Normal(deviation) => (Init::Normal(deviation), Init::Constant(0.)),
        ConvInit::NormalBiasOne(deviation) => (Init::Normal(deviation), Init::Constant(1.)),
        ConvInit::TruncatedNormal(deviation) => (Init::TruncatedNormal(deviation), Init::Constant(0.)),
        ConvInit::KaimingUniform => (Init::Uniform((6. / fan_in).sqrt()), Init::Constant(0.)),
    };
    let weight = path.var("weight", Role::Weight, &[outputs, inputs / groups, height, width], init)?;
    let bias = match config.bias {
        true => Some(path.var("bias", Role::Bias, &[outputs], bias_init)?),
        false => None,
    };
    Ok(Conv2d { weight, bias, config, direct: false })
}

impl Conv2d {
    /// Whether the kernel fits into the padded input everywhere; libtorch says it where it does not.
    fn fits(&self, xs: &Tensor) -> bool {
        let ConvConfig { kernel, padding, dilation, .. } = self.config;
        let sides = &xs.size()[2..];
        xs.dim() == 4 && (0..2).all(|side| sides[side] + 2 * padding[side] > dilation * (kernel[side] - 1))
    }
}

impl Layer for Conv2d {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        let ConvConfig { stride, padding, dilation, groups, .. } = self.config;
        let (stride, dilation) = ([stride, stride], [dilation, dilation]);
        let (weight, bias) = (&self.weight, self.bias.as_ref());
        let out = match self.direct && self.fits(xs) {
            true => xs.f_mkldnn_convolution(weight, bias, padding, stride, dilation, groups),
            false => xs.f_conv2d(weight, bias, stride, padding, dilation, groups),
        };
        let out = out.map_err(|error| input_too_small(error, xs, self.config.kernel[1]))?;
        let [height, width] = self.config.kernel;
        let per_output = self.weight.size()[1] * height * width;
        trace::note(|| format!("Conv2d {height}×{width}"), Some(&self.weight), &out, per_output);
        Ok(out)
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

/// A convolution, its batch normalisation and its activation: the unit that most convolutional families
/// are made of.
pub struct ConvNorm {
    conv: Conv2d,
    /// Nothing where it is folded into the convolution.
    norm: Option<BatchNorm2d>,
    activation: Activation,
}

/// A convolution at `conv` and its normalisation at `norm`: families differ in how they name the two.
pub fn conv_norm<'a, P: Borrow<Path<'a>>>(
    [conv, norm]: [P; 2],
    inputs: i64,
    outputs: i64,
    config: ConvConfig,
    norm_config: NormConfig,
    activation: Activation,
) -> Result<ConvNorm> {
    let (conv, norm) = (conv.borrow(), norm.borrow());
    let own = own_conv2d(conv, inputs, outputs, config)?;
    let norm = batch_norm2d(norm, outputs, norm_config)?;
    let Some(prepared) = conv.prepared() else {
        return Ok(ConvNorm { conv: own, norm: Some(norm), activation });
    };
    let key = conv.key("weight");
    match prepared.fold(&key, &own, &norm)? {
        Some(folded) => Ok(ConvNorm { conv: folded, norm: None, activation }),
        None => Ok(ConvNorm { conv: prepared.convolution(&key, own)?, norm: Some(norm), activation }),
    }
}

impl Layer for ConvNorm {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let xs = self.conv.forward(xs, mode)?;
        let xs = match &self.norm {
            Some(norm) => norm.forward(&xs, mode)?,
            None => xs,
        };
        self.activation.apply_in_place(xs)
    }
}
