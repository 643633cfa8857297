//! Local response normalisation (Krizhevsky et al., NIPS 2012, section 3.3).

use tch::Tensor;

use super::{Func, Layer, trace};

/// Size of the neighbourhood of channels: the paper's n.
const SIZE: i64 = 5;
/// The paper's α, which PyTorch's `LocalResponseNorm` divides by the size: there it is 5e-4.
const ALPHA: f64 = 1e-4;
/// The paper's β.
const BETA: f64 = 0.75;
/// The paper's k.
const K: f64 = 2.;

/// Each activation divided by `(k + α Σ x²)^β` over the neighbouring channels at its position, with
/// the paper's constants.
pub fn local_response_norm() -> Box<dyn Layer> {
    Box::new(Func(|xs: &Tensor, _| {
        let squares = xs.f_square()?.f_unsqueeze(1)?.f_constant_pad_nd([0, 0, 0, 0, SIZE / 2, SIZE / 2])?;
        let mean = squares.f_avg_pool3d(
            [SIZE, 1, 1].as_slice(),
            [1, 1, 1].as_slice(),
            [0, 0, 0].as_slice(),
            false,
            true,
            None,
        )?;
        let scale = mean.f_squeeze_dim(1)?.f_mul_scalar(ALPHA * SIZE as f64)?.f_add_scalar(K)?;
        let out = xs.f_div(&scale.f_pow_tensor_scalar(BETA)?)?;
        trace::note(|| "LocalResponseNorm".into(), None, &out, 0);
        Ok(out)
    }))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::models::layers::Mode;

    #[test]
    fn each_activation_is_divided_as_in_the_paper() {
        let channels = 7;
        let xs =
            Tensor::arange(channels * 2, (Kind::Double, Device::Cpu)).reshape([1, channels, 1, 2]) * 3 - 11;
        let out = local_response_norm().forward(&xs, Mode::INFERENCE).unwrap();
        for place in 0..2 {
            let at = |channel: i64| xs.double_value(&[0, channel, 0, place]);
            for channel in 0..channels {
                let neighbours = (channel - 2).max(0)..=(channel + 2).min(channels - 1);
                let sum: f64 = neighbours.map(|neighbour| at(neighbour).powi(2)).sum();
                let expected = at(channel) / (2. + 1e-4 * sum).powf(0.75);
                let found = out.double_value(&[0, channel, 0, place]);
                assert!((found - expected).abs() < 1e-12, "channel {channel}: {found}, expected {expected}");
            }
        }
    }
}
