//! Temperature scaling: one factor on the logits that calibrates their probabilities (Guo et al.,
//! "On Calibration of Modern Neural Networks", ICML 2017).

use tch::{Kind, Reduction, TchError, Tensor};

/// Halvings of the interval: to a millionth of it.
const HALVINGS: usize = 20;

/// The factor in `(0, most]` that gives `logits` (`[N, K]`) the lowest mean cross-entropy, and
/// that, in nats. The problem is convex, so the search follows the sign of the slope. `labels` are
/// int64 `[N]`.
pub fn temper(logits: &Tensor, labels: &Tensor, most: f64) -> Result<(f64, f64), TchError> {
    let z = logits.f_to_kind(Kind::Double)?;
    let own = z.f_gather(1, &labels.f_unsqueeze(1)?, false)?;
    let slope = |factor: f64| -> Result<f64, TchError> {
        let shares = z.f_mul_scalar(factor)?.f_softmax(1, Kind::Double)?;
        let expected = shares.f_mul(&z)?.f_sum_dim_intlist(1, true, Kind::Double)?;
        expected.f_sub(&own)?.f_mean(Kind::Double)?.f_double_value(&[])
    };
    let (mut low, mut high) = (0., most);
    let mut factor = most;
    if slope(most)? > 0. {
        for _ in 0..HALVINGS {
            factor = (low + high) / 2.;
            if slope(factor)? > 0. {
                high = factor;
            } else {
                low = factor;
            }
        }
    }
    let (z, mean) = (z.f_mul_scalar(factor)?, Reduction::Mean);
    let loss = z.f_cross_entropy_loss::<Tensor>(labels, None, mean, -100, 0.)?.f_double_value(&[])?;
    Ok((factor, loss))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_that_promise_too_much_are_shrunk_to_what_they_keep() {
        // Right on three of four, always confident.
        let logits = Tensor::from_slice(&[9f32, 0., 9., 0., 9., 0., 9., 0.]).view([4, 2]);
        let labels = Tensor::from_slice(&[0i64, 0, 0, 1]);
        let (factor, loss) = temper(&logits, &labels, 1.).unwrap();
        assert!((factor * 9. - 3f64.ln()).abs() < 1e-4, "{factor}");
        assert!((loss - (0.75 * (4. / 3f64).ln() + 0.25 * 4f64.ln())).abs() < 1e-6, "{loss}");
        // Underconfident ones stay, or are raised where allowed.
        let modest = &logits * 0.01;
        assert_eq!(temper(&modest, &labels, 1.).unwrap().0, 1.);
        assert!((temper(&modest, &labels, 20.).unwrap().0 * 0.09 - 3f64.ln()).abs() < 1e-4);
    }
}
