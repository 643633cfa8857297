//! Convolutions, alone and with their normalisation and activation.

use std::borrow::Borrow;

use tch::Tensor;

use super::norm::{BatchNorm2d, NormConfig, batch_norm2d};
use super::{Activation, Layer, Mode, trace};
use crate::error::{Error, Result};
use crate::models::vars::{Init, Path, Role};

/// Zero padding around the input of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// This many above and below, and left and right, as in `nn.Conv2d`.
    Even([i64; 2]),
    /// As few as give `⌈side / stride⌉` outputs: TensorFlow's `SAME`. The number depends on the
    /// size of the input, and an odd zero is below or on the right, so that networks trained with
    /// it see other windows where the stride is 2.
    Same,
}

/// Parameters of PyTorch's `nn.Conv2d` besides channels; pairs are height and width.
#[derive(Clone, Copy, Debug)]
pub struct ConvConfig {
    /// Sides of the kernel.
    pub kernel: [i64; 2],
    /// Step between outputs.
    pub stride: i64,
    /// Padding around the input.
    pub padding: Padding,
    /// Step between the inputs of one output.
    pub dilation: i64,
    /// Groups of channels, convolved separately.
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
            padding: Padding::Even([height / 2, width / 2]),
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
    /// The same with this many zeros on all sides.
    pub const fn padding(self, padding: i64) -> Self {
        self.padded(Padding::Even([padding, padding]))
    }
    /// The same with this padding.
    pub const fn padded(self, padding: Padding) -> Self {
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
    /// `nn.Conv2d`'s own: weights and bias uniform in ±1/√fan_in.
    Default,
    /// `kaiming_normal_(mode="fan_out", nonlinearity="relu")` (He et al., 2015); biases 0.
    KaimingFanOut,
    /// The same with the outputs of one group only, as in TensorFlow: a depthwise kernel starts
    /// with larger weights.
    KaimingFanOutOfGroup,
    /// As [`ConvInit::KaimingFanOut`], with `nn.Conv2d`'s own biases.
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
    /// Whether it calls oneDNN directly: see [`crate::models::InferenceNetwork`].
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

/// The same in its training form.
fn own_conv2d(path: &Path, inputs: i64, outputs: i64, config: ConvConfig) -> Result<Conv2d> {
    let ConvConfig { kernel: [height, width], groups, .. } = config;
    let fan_in = (inputs / groups * height * width) as f64;
    // As PyTorch counts it: not divided by the groups.
    let fan_out = (outputs * height * width) as f64;
    let default = Init::Uniform(fan_in.sqrt().recip());
    let (init, bias_init) = match config.init {
        ConvInit::Default => (default, default),
        ConvInit::KaimingFanOut => (Init::Normal((2. / fan_out).sqrt()), Init::Constant(0.)),
        ConvInit::KaimingFanOutOfGroup => {
            (Init::Normal((2. * groups as f64 / fan_out).sqrt()), Init::Constant(0.))
        }
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
    /// Whether the kernel fits everywhere into an input with this padding; otherwise libtorch
    /// reports it.
    fn fits(&self, xs: &Tensor, padding: [i64; 2]) -> bool {
        let ConvConfig { kernel, dilation, .. } = self.config;
        let sides = &xs.size()[2..];
        xs.dim() == 4 && (0..2).all(|side| sides[side] + 2 * padding[side] > dilation * (kernel[side] - 1))
    }

    /// The input, zero-padded here if the two sides differ, and the padding left to the
    /// convolution. The memory format is kept.
    fn padded(&self, xs: &Tensor) -> Result<(Tensor, [i64; 2])> {
        let zeros = match (self.config.padding, xs.dim()) {
            (Padding::Even(padding), _) => return Ok((xs.shallow_clone(), padding)),
            (Padding::Same, 4) => same_padding(&self.config, &xs.size()[2..]),
            // No image: libtorch reports it.
            (Padding::Same, _) => return Ok((xs.shallow_clone(), [0, 0])),
        };
        let [[top, bottom], [left, right]] = zeros;
        if top == bottom && left == right {
            return Ok((xs.shallow_clone(), [top, left]));
        }
        let padded = xs.f_constant_pad_nd([left, right, top, bottom]);
        Ok((padded.map_err(Error::torch("pad an image"))?, [0, 0]))
    }
}

/// TensorFlow's `SAME` padding for an input of these sides: the zeros before and behind it, in
/// height and width.
fn same_padding(config: &ConvConfig, sides: &[i64]) -> [[i64; 2]; 2] {
    let ConvConfig { kernel, stride, dilation, .. } = *config;
    [0, 1].map(|side| {
        let outputs = (sides[side] + stride - 1) / stride;
        let reach = (outputs - 1) * stride + dilation * (kernel[side] - 1) + 1;
        let zeros = (reach - sides[side]).max(0);
        [zeros / 2, zeros - zeros / 2]
    })
}

impl Layer for Conv2d {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        let ConvConfig { stride, dilation, groups, .. } = self.config;
        let (stride, dilation) = ([stride, stride], [dilation, dilation]);
        let (weight, bias) = (&self.weight, self.bias.as_ref());
        let (xs, padding) = self.padded(xs)?;
        let out = match self.direct && self.fits(&xs, padding) {
            true => xs.f_mkldnn_convolution(weight, bias, padding, stride, dilation, groups),
            false => xs.f_conv2d(weight, bias, stride, padding, dilation, groups),
        };
        let out = out.map_err(|error| input_too_small(error, &xs, self.config.kernel[1]))?;
        let [height, width] = self.config.kernel;
        let per_output = self.weight.size()[1] * height * width;
        trace::note(|| format!("Conv2d {height}×{width}"), Some(&self.weight), &out, per_output);
        Ok(out)
    }
}

/// libtorch's message names its own kernel sizes; the user's mistake is the size of the input.
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

/// A convolution, its batch normalisation and its activation: the basic unit of most convolutional
/// families.
pub struct ConvNorm {
    conv: Conv2d,
    /// `None` if folded into the convolution.
    norm: Option<BatchNorm2d>,
    activation: Activation,
}

/// A convolution at `conv` and its normalisation at `norm`: their names differ between families.
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

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::models::is_channels_last;

    fn same(kernel: i64, stride: i64, side: i64) -> [i64; 2] {
        let config = ConvConfig::new(kernel).stride(stride).padded(Padding::Same);
        let [height, width] = same_padding(&config, &[side, side]);
        assert_eq!(height, width);
        height
    }

    /// `tf.nn`'s documentation, "Padding": with stride s, kernel k and side n, `max(k - s, 0)`
    /// zeros where s divides n, else `max(k - n mod s, 0)`; the odd one behind.
    #[test]
    fn same_pads_as_tensorflow_does() {
        assert_eq!(same(3, 1, 7), [1, 1]);
        assert_eq!(same(5, 1, 7), [2, 2]);
        assert_eq!(same(3, 2, 224), [0, 1]);
        assert_eq!(same(3, 2, 7), [1, 1]);
        assert_eq!(same(5, 2, 28), [1, 2]);
        assert_eq!(same(5, 2, 15), [2, 2]);
        assert_eq!(same(1, 2, 8), [0, 0]);
        assert_eq!(same(5, 2, 1), [2, 2]);
        for (kernel, stride, side) in combinations(&[1, 3, 4, 5], &[1, 2, 3], &[1, 2, 5, 6, 9]) {
            let rest = side % stride;
            let zeros = (kernel - if rest == 0 { stride } else { rest }).max(0);
            let found = same(kernel, stride, side);
            assert_eq!(found, [zeros / 2, zeros - zeros / 2], "{kernel} {stride} {side}");
        }
    }

    fn combinations<'a>(
        a: &'a [i64],
        b: &'a [i64],
        c: &'a [i64],
    ) -> impl Iterator<Item = (i64, i64, i64)> + 'a {
        a.iter().flat_map(move |&a| b.iter().flat_map(move |&b| c.iter().map(move |&c| (a, b, c))))
    }

    /// By PyTorch and by oneDNN, in images that are not square; the memory format is kept.
    #[test]
    fn same_gives_a_value_for_each_step_and_an_odd_zero_stands_behind() {
        let ramp = Tensor::arange(4 * 7, (Kind::Float, Device::Cpu)).reshape([1, 1, 4, 7]);
        let images = Tensor::cat(&[&ramp, &(&ramp * 2.)], 1);
        let images = crate::models::channels_last(&images).unwrap();
        let config = ConvConfig::new(3).stride(2).groups(2).padded(Padding::Same);
        for direct in [false, true] {
            let weight = Tensor::ones([2, 1, 3, 3], (Kind::Float, Device::Cpu));
            let conv = Conv2d { weight, bias: None, config, direct };
            let out = conv.forward(&images, Mode::INFERENCE).unwrap();
            assert_eq!(out.size(), [1, 2, 2, 4]);
            assert!(is_channels_last(&out));
            // Rows 0 to 2, then 2 to 3 and zeros; columns -1 to 1, 1 to 3, 3 to 5, 5 to 7 of 0 to
            // 6.
            let rows = |from: i64, to: i64, left: i64, right: i64| {
                ramp.slice(2, from, to, 1).slice(3, left, right, 1).sum(Kind::Float).double_value(&[])
            };
            for (column, (left, right)) in [(0, 2), (1, 4), (3, 6), (5, 7)].into_iter().enumerate() {
                let at = |channel: i64, row: i64| out.double_value(&[0, channel, row, column as i64]);
                assert_eq!([at(0, 0), at(0, 1)], [rows(0, 3, left, right), rows(2, 4, left, right)]);
                assert_eq!(at(1, 0), 2. * rows(0, 3, left, right));
            }
        }
    }
}
