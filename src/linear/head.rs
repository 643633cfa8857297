//! Puts a fitted head into its network.

use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::models::Network;

/// Margin by which a convolution's logits may be lower on new images than on training images before
/// its ReLU cuts them off.
const MARGIN: f64 = 2.;

/// Sets the classifier's parameters to the fitted values.
///
/// A convolution (SqueezeNet) precedes a ReLU and a mean over height and width. The same
/// number added to all logits changes no probability, so its biases are raised until the ReLU cuts
/// nothing off: the `peaks` of the training images (`[N, D]`, none negative) bound how low a logit
/// can be at any place. The result is exactly the fitted linear head.
pub fn set_head(
    network: &Network,
    fitted_weight: &Tensor,
    fitted_bias: &Tensor,
    peaks: Option<Tensor>,
) -> Result<()> {
    tch::no_grad(|| {
        let classifier = network.classifier();
        let weight = classifier.weight();
        weight.shallow_clone().f_copy_(&fitted_weight.f_reshape(weight.size())?)?;
        let Some(bias) = classifier.bias() else { return Ok(()) };
        let raise = match peaks {
            None => 0.,
            Some(peaks) => {
                let peaks = peaks.f_amax([0i64].as_slice(), false)?.f_to_device(Device::Cpu)?;
                let lowest = fitted_weight.f_clamp_max(0.)?.f_mv(&peaks)?.f_add(fitted_bias)?.f_min()?;
                MARGIN * (-lowest.f_double_value(&[])?).max(0.)
            }
        };
        bias.shallow_clone().f_copy_(&fitted_bias.f_add_scalar(raise)?)?;
        Ok(())
    })
    .map_err(Error::torch("set the head"))
}
