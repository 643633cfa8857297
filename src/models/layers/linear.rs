//! Fully connected layers.

use tch::Tensor;

use super::{Layer, Mode, trace};
use crate::error::{Error, Result};
use crate::models::vars::{Init, Path, Role};

/// A fully connected layer (`nn.Linear`).
pub struct Linear {
    /// `[outputs, inputs]`
    pub weight: Tensor,
    /// `[outputs]`
    pub bias: Option<Tensor>,
    /// Whether it calls oneDNN directly: see [`crate::models::InferenceNetwork`].
    direct: bool,
}

/// With fewer rows libtorch's matrix product is used: oneDNN first reorders the weights, which is
/// then most of the work.
const DIRECT_ROWS: i64 = 64;

/// The initial distributions of a fully connected layer.
#[derive(Clone, Copy, Debug)]
pub struct LinearInit {
    /// The distribution of the weights.
    pub weight: Init,
    /// The distribution of the bias; `None` for a layer without one.
    pub bias: Option<Init>,
}

impl LinearInit {
    /// `nn.Linear`'s default: uniform in ±1/√inputs.
    pub fn default(inputs: i64) -> Self {
        let init = Init::Uniform((inputs as f64).sqrt().recip());
        LinearInit { weight: init, bias: Some(init) }
    }

    /// Weights of this distribution, and a bias of zeros.
    pub fn weights(weight: Init) -> Self {
        LinearInit { weight, bias: Some(Init::Constant(0.)) }
    }

    /// `xavier_uniform_` over the weights, and a bias of zeros.
    pub fn xavier(inputs: i64, outputs: i64) -> Self {
        LinearInit::weights(Init::Uniform((6. / (inputs + outputs) as f64).sqrt()))
    }

    /// The same without a bias.
    pub fn without_bias(self) -> Self {
        LinearInit { bias: None, ..self }
    }
}

/// A fully connected layer from `inputs` to `outputs` at `path`.
pub fn linear(path: &Path, inputs: i64, outputs: i64, init: LinearInit) -> Result<Linear> {
    let weight = path.var("weight", Role::Weight, &[outputs, inputs], init.weight)?;
    let bias = init.bias.map(|init| path.var("bias", Role::Bias, &[outputs], init)).transpose()?;
    Ok(Linear::over(path, weight, bias))
}

impl Linear {
    /// The layer of a weight and a bias registered below `path`.
    pub fn over(path: &Path, weight: Tensor, bias: Option<Tensor>) -> Self {
        Linear { weight, bias, direct: path.prepared().is_some_and(|prepared| prepared.direct) }
    }

    /// The layer with another bias.
    pub fn with_bias(&self, xs: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let inputs = self.weight.size()[1];
        let rows = xs.numel() as i64 / inputs.max(1);
        let out = match self.direct && rows >= DIRECT_ROWS {
            true => self.as_convolution(xs, bias, rows),
            false => xs.f_linear(&self.weight, bias),
        };
        let out = out.map_err(Error::torch("run a linear layer"))?;
        trace::note(|| "Linear".into(), Some(&self.weight), &out, inputs);
        Ok(out)
    }

    /// The rows are the positions of a channels-last image: a 1×1 convolution, and no copy.
    fn as_convolution(&self, xs: &Tensor, bias: Option<&Tensor>, rows: i64) -> Result<Tensor, tch::TchError> {
        let (outputs, inputs) = self.weight.size2()?;
        let mut shape = xs.size();
        shape.pop();
        shape.push(outputs);
        let image = xs.f_reshape([1, rows, 1, inputs])?.f_permute([0, 3, 1, 2])?;
        let kernel = self.weight.f_view([outputs, inputs, 1, 1])?;
        let out = image.f_mkldnn_convolution(&kernel, bias, [0, 0], [1, 1], [1, 1], 1)?;
        out.f_permute([0, 2, 3, 1])?.f_reshape(shape)
    }
}

impl Layer for Linear {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        self.with_bias(xs, self.bias.as_ref())
    }
}
