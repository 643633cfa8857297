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
}

/// The initial values of a fully connected layer: its weights', its bias's.
#[derive(Clone, Copy, Debug)]
pub struct LinearInit {
    /// The distribution of the weights.
    pub weight: Init,
    /// The distribution of the bias; `None` for a layer without one.
    pub bias: Option<Init>,
}

impl LinearInit {
    /// `nn.Linear`'s own: uniform in ±1/√inputs.
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
    Ok(Linear { weight, bias })
}

impl Layer for Linear {
    fn forward(&self, xs: &Tensor, _: Mode) -> Result<Tensor> {
        let out =
            xs.f_linear(&self.weight, self.bias.as_ref()).map_err(Error::torch("run a linear layer"))?;
        trace::note(|| "Linear".into(), Some(&self.weight), &out, self.weight.size()[1]);
        Ok(out)
    }
}
