//! Newton's method for several problems side by side. Its equations are solved by preconditioned
//! conjugate gradients, only as far as useful (Nocedal & Wright, "Numerical Optimization", 2006,
//! algorithm 7.1). Values and gradients are in the problems' own precision, the equations in
//! float32; the next step corrects their error.

use tch::{Kind, TchError, Tensor};

use super::objective::{Curvature, Problems};
use super::precondition::Preconditioner;
use super::stop::{Attempt, Stop, unless_told};
use crate::error::Result;

/// The required decrease, relative to the slope.
const DECREASE: f64 = 1e-4;
/// Shorter steps count as none.
const SHORTEST: f64 = 1e-9;
/// Products in one solution of Newton's equations at most.
const PRODUCTS: usize = 250;
/// The preconditioner is rebuilt after a solution that took more products than this.
const MANY_PRODUCTS: usize = 8;
/// Bounds on the residual of Newton's equations: float32 cannot reach below the first, and a step
/// is not worth more than the second before the next one.
const RESIDUAL: (f64, f64) = (1e-4, 0.25);

/// Stopping criteria.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    /// The gradient's length in the units of the curvature, about the root of twice the value's
    /// excess over the minimum.
    pub tolerance: f64,
    /// Steps taken even within the tolerance: under a strong penalty zero is within it, and tells
    /// no classes apart.
    pub least_steps: usize,
    /// Steps of Newton's method at most.
    pub max_steps: usize,
    /// Products with the second derivative at most, over all steps.
    pub max_products: usize,
    /// Relative rounding error of the values: smaller differences mean nothing.
    pub noise: f64,
}

/// A problem's solution.
#[derive(Debug)]
pub(super) struct Solution {
    /// Weights `[K, M]`, then biases `[K]`.
    pub point: Vec<f64>,
    /// Steps taken.
    pub iterations: usize,
    /// Whether the gradient came within the tolerance.
    pub converged: bool,
}

/// State of a problem's search.
#[derive(Clone, Copy, PartialEq)]
enum Status {
    Running,
    Converged,
    Stopped,
}

/// Minimises every problem from its own start, at its own penalty; `None` if told to stop.
pub(super) fn minimise(
    problems: &Problems,
    starts: &[Vec<f64>],
    penalties: &[f64],
    settings: Settings,
    should_stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<Solution>>> {
    unless_told(search(problems, starts, penalties, settings, Stop(should_stop)))
}

fn search(
    problems: &Problems,
    starts: &[Vec<f64>],
    penalties: &[f64],
    settings: Settings,
    stop: Stop,
) -> Attempt<Vec<Solution>> {
    let count = starts.len();
    let ridge = problems.ridge(penalties)?;
    let mut points =
        problems.centred(&Tensor::f_from_slice(&starts.concat())?.f_view([count as i64, -1])?)?;
    let (mut values, mut gradients) = problems.evaluate(&points, &ridge, stop)?;
    let start = |value: &f64| if value.is_finite() { Status::Running } else { Status::Stopped };
    let mut status: Vec<Status> = values.iter().map(start).collect();
    let (mut steps, mut products) = (vec![0; count], 0);
    let mut lengths = vec![f64::INFINITY; count];
    let mut stalled = vec![false; count];
    let mut kept: Option<Preconditioner> = None;
    let mut curvature = None;
    loop {
        let preconditioner = match kept.take() {
            Some(preconditioner) => preconditioner,
            None => {
                let at = problems.curvature(&points, stop)?;
                let preconditioner = Preconditioner::new(problems, &at, penalties, stop)?;
                curvature = Some(at);
                preconditioner
            }
        };
        let residual = gradients.f_neg()?.f_to_kind(Kind::Float)?;
        let direction = preconditioner.apply(&residual)?;
        for (i, square) in dots(&residual, &direction)?.into_iter().enumerate() {
            let length = square.max(0.).sqrt();
            if status[i] != Status::Running {
                continue;
            }
            if length <= settings.tolerance && (steps[i] >= settings.least_steps || length == 0.) {
                status[i] = Status::Converged;
            } else if !length.is_finite() || (stalled[i] && length > 0.5 * lengths[i]) {
                // The remaining gradient is rounding error.
                status[i] = Status::Stopped;
            }
            lengths[i] = length;
        }
        let running: Vec<bool> = status.iter().map(|&status| status == Status::Running).collect();
        let most = steps.iter().copied().max().unwrap_or(0);
        if !running.contains(&true) || most >= settings.max_steps || products >= settings.max_products {
            break;
        }
        let at = match curvature.take() {
            Some(at) => at,
            None => problems.curvature(&points, stop)?,
        };
        let newton = Newton { problems, preconditioner: &preconditioner, curvature: &at, ridge: &ridge };
        let limit = PRODUCTS.min(settings.max_products - products);
        let residuals: Vec<f64> = lengths.iter().map(|&length| settings.residual(length)).collect();
        let (direction, used) = newton.solve(residual, direction, &running, &residuals, limit, stop)?;
        products += used;
        if used <= MANY_PRODUCTS {
            kept = Some(preconditioner);
        }

        let slopes = dots(&gradients, &direction)?;
        let mut shares: Vec<f64> = running.iter().map(|&running| f64::from(u8::from(running))).collect();
        loop {
            let trial = points.f_addcmul(&direction, &column(&shares)?)?;
            let (new_values, new_gradients) = problems.evaluate(&trial, &ridge, stop)?;
            let mut good = true;
            for i in 0..count {
                if shares[i] <= 0. {
                    continue;
                }
                let (old, new, slope) = (values[i], new_values[i], shares[i] * slopes[i]);
                // Written so that NaN is no descent.
                if slope < 0. && new <= old + DECREASE * slope + settings.noise * old.abs() {
                    continue;
                }
                good = false;
                let share = -0.5 * slope / (new - old - slope);
                shares[i] *= if share.is_finite() { share.clamp(0.1, 0.5) } else { 0.1 };
                if shares[i] < SHORTEST || slope.is_nan() || slope >= 0. {
                    (shares[i], status[i]) = (0., Status::Stopped);
                }
            }
            if !good {
                continue;
            }
            for i in (0..count).filter(|&i| shares[i] > 0.) {
                stalled[i] = values[i] - new_values[i] <= settings.noise * values[i].abs();
                steps[i] += 1;
            }
            (points, values, gradients) = (trial, new_values, new_gradients);
            break;
        }
    }
    let points: Vec<f64> = Vec::try_from(points.f_flatten(0, -1)?)?;
    let solution = |(i, point): (usize, &[f64])| Solution {
        point: point.to_vec(),
        iterations: steps[i],
        converged: status[i] == Status::Converged,
    };
    Ok(points.chunks(problems.parameters()).enumerate().map(solution).collect())
}

impl Settings {
    /// The residual to solve Newton's equations to at a gradient of this length. It shrinks with
    /// the length, which makes the convergence superlinear, but not below what the tolerance needs.
    fn residual(self, length: f64) -> f64 {
        let (least, most) = RESIDUAL;
        length.sqrt().max(0.5 * self.tolerance / length).clamp(least, most)
    }
}

/// Newton's equations of all problems.
struct Newton<'a> {
    problems: &'a Problems,
    preconditioner: &'a Preconditioner,
    curvature: &'a Curvature,
    ridge: &'a Tensor,
}

impl Newton<'_> {
    /// Conjugate gradients from `residual` (the negative gradients) and the preconditioned
    /// `direction`, until the residuals have shrunk to their share. Returns the solution, float64
    /// `[P, L]`, and the number of products.
    fn solve(
        &self,
        mut residual: Tensor,
        mut direction: Tensor,
        running: &[bool],
        shares: &[f64],
        limit: usize,
        stop: Stop,
    ) -> Attempt<(Tensor, usize)> {
        let ridge = self.ridge.f_to_kind(Kind::Float)?;
        let mut answer = residual.f_zeros_like()?;
        let mut squares = dots(&residual, &direction)?;
        let targets: Vec<f64> =
            squares.iter().zip(shares).map(|(square, share)| square * share * share).collect();
        let mut open = running.to_vec();
        let mut products = 0;
        while open.contains(&true) && products < limit {
            let curved = self.problems.curve(self.curvature, &direction, &ridge, stop)?;
            products += 1;
            let mut steps = dots(&direction, &curved)?;
            for (i, step) in steps.iter_mut().enumerate() {
                // Curvature lost in rounding ends it too.
                let share = squares[i] / *step;
                open[i] &= *step > 0. && share.is_finite();
                *step = if open[i] { share } else { 0. };
            }
            let steps = column(&steps)?.f_to_kind(Kind::Float)?;
            let _ = answer.f_addcmul_(&direction, &steps)?;
            let _ = residual.f_addcmul_(&curved, &steps.f_neg()?)?;
            let turned = self.preconditioner.apply(&residual)?;
            let mut turns = vec![0.; open.len()];
            for (i, square) in dots(&residual, &turned)?.into_iter().enumerate() {
                if open[i] {
                    turns[i] = square / squares[i];
                    squares[i] = square;
                    open[i] = square > targets[i];
                }
            }
            direction = turned.f_addcmul(&direction, &column(&turns)?.f_to_kind(Kind::Float)?)?;
        }
        Ok((answer.f_to_kind(Kind::Double)?.f_nan_to_num(0., 0., 0.)?, products))
    }
}

/// Row-wise dot products.
fn dots(a: &Tensor, b: &Tensor) -> std::result::Result<Vec<f64>, TchError> {
    Vec::try_from(a.f_mul(b)?.f_sum_dim_intlist(1, false, Kind::Double)?)
}

fn column(numbers: &[f64]) -> std::result::Result<Tensor, TchError> {
    Tensor::f_from_slice(numbers)?.f_unsqueeze(1)
}
