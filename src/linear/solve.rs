//! Several problems, minimised side by side.

use super::lbfgs::{Lbfgs, Settings, Status};
use super::objective::Problems;
use crate::error::Result;

/// Steps before the units are taken anew for the first time; twice as many the next time, and so on.
const FIRST_STEPS: usize = 20;
const SMALLEST_CURVATURE: f64 = 1e-9;

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

/// Minimises every problem from its own start, at its own penalty; `None` if it was told to stop.
///
/// The search runs in variables scaled by the root of their second derivative, and its tolerance is the
/// largest slope in those. The derivatives are taken anew along the way: where classes come apart they
/// fall by orders of magnitude, and a search in outdated units takes ten times as many steps.
pub(super) fn minimise(
    problems: &Problems,
    starts: &[Vec<f64>],
    penalties: &[f64],
    settings: Settings,
    should_stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<Solution>>> {
    let unsolved = |start: &Vec<f64>| Solution { point: start.clone(), iterations: 0, converged: false };
    let mut solutions: Vec<Solution> = starts.iter().map(unsolved).collect();
    let mut steps = FIRST_STEPS;
    loop {
        let before: usize = solutions.iter().map(|solution| solution.iterations).sum();
        let leg = Settings { max_iterations: steps, ..settings };
        if !advance(problems, &mut solutions, penalties, leg, should_stop)? {
            return Ok(None);
        }
        let after: usize = solutions.iter().map(|solution| solution.iterations).sum();
        let done = solutions.iter().all(|solution| solution.converged);
        if done || after == before || steps >= settings.max_iterations {
            return Ok(Some(solutions));
        }
        steps *= 2;
    }
}

/// Searches on in the units of the present points; false if it was told to stop.
fn advance(
    problems: &Problems,
    solutions: &mut [Solution],
    penalties: &[f64],
    settings: Settings,
    should_stop: &dyn Fn() -> bool,
) -> Result<bool> {
    let starts: Vec<Vec<f64>> = solutions.iter().map(|solution| solution.point.clone()).collect();
    let mut scales = problems.curvatures(&starts)?;
    for (scales, penalty) in scales.iter_mut().zip(penalties) {
        let (weights, biases) = scales.split_at_mut(problems.weights());
        weights.iter_mut().for_each(|x| *x = (*x + penalty).sqrt().recip());
        // A bias bears no penalty; the floor is for a class that is already told apart perfectly.
        biases.iter_mut().for_each(|x| *x = x.max(SMALLEST_CURVATURE).sqrt().recip());
    }
    let mut searches: Vec<Lbfgs> = starts
        .iter()
        .zip(&scales)
        .map(|(start, scales)| {
            let start = start.iter().zip(scales).map(|(x, scale)| x / scale).collect();
            Lbfgs::new(start, settings)
        })
        .collect();
    loop {
        let running: Vec<usize> = (0..searches.len())
            .filter(|&i| !solutions[i].converged && searches[i].status() == Status::Running)
            .collect();
        if running.is_empty() {
            break;
        }
        if should_stop() {
            return Ok(false);
        }
        let points: Vec<Vec<f64>> =
            running.iter().map(|&i| product(searches[i].point(), &scales[i])).collect();
        let their_penalties: Vec<f64> = running.iter().map(|&i| penalties[i]).collect();
        let evaluations = problems.evaluate(&running, &points, &their_penalties)?;
        for (&i, (value, gradient)) in running.iter().zip(evaluations) {
            searches[i].tell(value, product(&gradient, &scales[i]));
        }
    }
    for ((solution, search), scales) in solutions.iter_mut().zip(&searches).zip(&scales) {
        if !solution.converged {
            solution.point = product(search.solution(), scales);
            solution.iterations += search.iterations();
            solution.converged = search.status() == Status::Converged;
        }
    }
    Ok(true)
}

fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}
