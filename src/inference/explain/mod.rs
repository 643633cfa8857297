//! Which parts of an image speak for a class: Grad-CAM (Selvaraju et al., "Grad-CAM: Visual
//! Explanations from Deep Networks via Gradient-based Localization", ICCV 2017) and LayerCAM (Jiang
//! et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021).
//!
//! Both weigh a stage's channels by the gradient of the class's logit, add them up, and leave out
//! what is negative, which speaks for other classes. A vision transformer's patches are treated as
//! the positions of a feature map: its attention is computed by a fused kernel that does not show
//! the weights which attention rollout would need.

mod heat_map;

use std::str::FromStr;

use tch::{Device, Kind, Tensor};

pub use heat_map::HeatMap;

use crate::device::back_off::BackOff;
use crate::device::precision::{Autocast, Precision};
use crate::error::{Error, Result};
use crate::models::Network;

/// How a heat map is computed from a stage's output and the class's gradient there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// A channel's weight is the mean of its gradient over all positions.
    #[default]
    GradCam,
    /// A channel's weight at each position is the gradient there, if it is positive: sharper, also
    /// at early stages.
    LayerCam,
}

impl Method {
    /// Both.
    pub const ALL: [Method; 2] = [Method::GradCam, Method::LayerCam];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Method::GradCam => "gradcam",
            Method::LayerCam => "layercam",
        }
    }

    /// The maps `[N, h, w]` of a stage's outputs and gradients `[N, C, h, w]`: nowhere negative.
    fn maps(self, outputs: &Tensor, gradients: &Tensor) -> Result<Tensor, tch::TchError> {
        let weights = match self {
            Method::GradCam => gradients.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float)?,
            Method::LayerCam => gradients.f_relu()?,
        };
        outputs.f_mul(&weights)?.f_sum_dim_intlist(1, false, Kind::Float)?.f_relu()
    }
}

impl FromStr for Method {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        Method::ALL.into_iter().find(|method| method.name() == text).ok_or("expected gradcam or layercam")
    }
}

/// What is to be explained, and how.
#[derive(Clone, Copy, Debug)]
pub struct Explaining<'a> {
    /// The stage that is looked at: see [`Network::map_stage`].
    pub stage: usize,
    /// How its output becomes a map.
    pub method: Method,
    /// The class; `None`: each image's most likely one.
    pub class: Option<usize>,
    /// The temperature of the confidences; `None`: the softmax as it is. Maps do not depend on it.
    pub temperature: Option<f64>,
    /// The network's precision.
    pub precision: Precision,
    /// The network's back-off.
    pub parts: &'a BackOff,
}

/// The explanation of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The class that is explained.
    pub class: usize,
    /// Its probability, in [0, 1].
    pub confidence: f32,
    /// Where the image speaks for it, at the stage's resolution.
    pub map: HeatMap,
}

impl Explaining<'_> {
    /// Explains a batch of prepared images `[N, 3, H, W]`. No weight gets a gradient.
    pub fn run(&self, network: &Network, images: &Tensor) -> Result<Vec<Explanation>> {
        let outputs = self.parts.run(images, |images| self.tensors(network, images))?;
        let [maps, classes, confidences] =
            <[Tensor; 3]>::try_from(outputs).map_err(|_| Error::run("an explanation has three parts"))?;
        let (_, height, width) = maps.size3()?;
        let values = Vec::<f32>::try_from(maps.f_to_device(Device::Cpu)?.f_contiguous()?.f_flatten(0, -1)?)?;
        let classes = Vec::<i64>::try_from(classes.f_to_device(Device::Cpu)?)?;
        let confidences = Vec::<f32>::try_from(confidences.f_to_device(Device::Cpu)?)?;
        let maps = values.chunks_exact((height * width).max(1) as usize);
        Ok(maps
            .zip(classes.into_iter().zip(confidences))
            .map(|(values, (class, confidence))| Explanation {
                class: class as usize,
                confidence,
                map: HeatMap::of(width as usize, height as usize, values),
            })
            .collect())
    }

    /// The maps `[N, h, w]`, the classes and their confidences `[N]`.
    fn tensors(&self, network: &Network, images: &Tensor) -> Result<Vec<Tensor>> {
        let watched = {
            let _autocast = Autocast::begin(network.device(), self.precision)?;
            network.watch(images, self.stage)?
        };
        let logits = watched.logits.f_detach()?.f_to_kind(Kind::Float)?;
        let classes = match self.class {
            None => logits.f_argmax(1, false)?,
            Some(class) => Tensor::f_full([logits.size()[0]], class as i64, (Kind::Int64, network.device()))?,
        };
        let tempered = logits.f_div_scalar(self.temperature.unwrap_or(1.))?;
        let probabilities = tempered.f_softmax(1, Kind::Float)?;
        let confidences = probabilities.f_gather(1, &classes.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
        let [outputs, gradients] = watched.gradient(&classes)?;
        Ok(vec![self.method.maps(&outputs, &gradients)?, classes, confidences])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels of 1×2 places: outputs 1 2 and 3 4, gradients 1 3 and -4 2.
    #[test]
    fn maps_are_the_papers_formulas() {
        let outputs = Tensor::from_slice(&[1f32, 2., 3., 4.]).reshape([1, 2, 1, 2]);
        let gradients = Tensor::from_slice(&[1f32, 3., -4., 2.]).reshape([1, 2, 1, 2]);
        let maps = |method: Method| {
            Vec::<f32>::try_from(method.maps(&outputs, &gradients).unwrap().reshape([-1])).unwrap()
        };
        // Means 2 and -1: 2·1 - 1·3 = -1 is left out, 2·2 - 1·4 = 0.
        assert_eq!(maps(Method::GradCam), [0., 0.]);
        // 1·1 + 0·3 and 3·2 + 2·4.
        assert_eq!(maps(Method::LayerCam), [1., 14.]);
    }
}
