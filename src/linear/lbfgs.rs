//! L-BFGS (Nocedal & Wright, "Numerical Optimization", 2006, algorithms 7.4 and 7.5) for smooth convex
//! functions, as a state machine: the caller evaluates [`Lbfgs::point`] and answers with [`Lbfgs::tell`].
//!
//! Turned inside out like this, several problems that share their data advance together, and one matrix
//! product serves them all.

use std::collections::VecDeque;

/// Pairs of step and gradient change that are kept (scipy's L-BFGS-B keeps 10 too).
const HISTORY: usize = 10;
/// Fewer of them for more than this many variables, where ten pairs would take gigabytes.
const MANY: usize = 1 << 22;
const SHORT_HISTORY: usize = 4;
/// The decrease, relative to the slope, that a step must bring (the first Wolfe condition).
const DECREASE: f64 = 1e-4;
/// What may be left of the slope after a step (the second, strong Wolfe condition).
const CURVATURE: f64 = 0.9;
/// Evaluations in one line search; a bracket that shrank that often is empty.
const SEARCH_LIMIT: usize = 30;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settings {
    /// The largest entry of the gradient at which the search ends.
    pub tolerance: f64,
    /// Accepted steps at most.
    pub max_iterations: usize,
    /// Relative rounding error of the values: differences below it say nothing, so that close to the
    /// minimum the slopes decide alone (Hager & Zhang, 2005, "approximate Wolfe conditions").
    pub noise: f64,
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// [`Lbfgs::point`] waits to be evaluated.
    Running,
    /// The gradient is within the tolerance.
    Converged,
    /// No further descent could be told from rounding errors, or the iterations are used up.
    Stopped,
}

/// A point on the line of search: the step, and the function's slope along the direction there.
#[derive(Debug, Clone, Copy)]
struct Probe {
    step: f64,
    slope: f64,
}

/// One minimisation. The variables should be scaled so that the Hessian is near the identity: the first
/// step tried is the negative gradient itself.
#[derive(Debug)]
pub(super) struct Lbfgs {
    settings: Settings,
    status: Status,
    iterations: usize,
    /// The point to be evaluated next, and `origin` plus `step` times `direction` within a line search.
    point: Vec<f64>,
    origin: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    direction: Vec<f64>,
    /// The slope at the origin, negative; 0 before the first evaluation.
    slope: f64,
    step: f64,
    low: Probe,
    high: Option<Probe>,
    probes: usize,
    pairs: VecDeque<Pair>,
}

#[derive(Debug)]
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// Their product, positive.
    product: f64,
}

impl Lbfgs {
    /// A search from `start`, which is the first point to be evaluated.
    pub(super) fn new(start: Vec<f64>, settings: Settings) -> Self {
        Lbfgs {
            settings,
            status: Status::Running,
            iterations: 0,
            origin: start.clone(),
            point: start,
            value: f64::INFINITY,
            gradient: Vec::new(),
            direction: Vec::new(),
            slope: 0.0,
            step: 0.0,
            low: Probe { step: 0.0, slope: 0.0 },
            high: None,
            probes: 0,
            pairs: VecDeque::with_capacity(HISTORY),
        }
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// Accepted steps so far.
    pub(super) fn iterations(&self) -> usize {
        self.iterations
    }

    /// The point to be evaluated next.
    pub(super) fn point(&self) -> &[f64] {
        &self.point
    }

    /// The best point: the last one accepted.
    pub(super) fn solution(&self) -> &[f64] {
        &self.origin
    }

    /// The function's value and gradient at [`Lbfgs::point`].
    pub(super) fn tell(&mut self, value: f64, gradient: Vec<f64>) {
        if self.status != Status::Running {
            return;
        }
        if self.gradient.is_empty() {
            (self.value, self.gradient) = (value, gradient);
            if !value.is_finite() {
                self.status = Status::Stopped;
            } else {
                self.next_direction();
            }
            return;
        }
        let here = Probe { step: self.step, slope: dot(&gradient, &self.direction) };
        let bound = self.value + DECREASE * self.step * self.slope + self.settings.noise * self.value.abs();
        // Negated, so that a value that is not a number counts as too high.
        let falls = value <= bound && here.slope.is_finite();
        if falls && here.slope.abs() <= -CURVATURE * self.slope {
            self.accept(value, gradient);
        } else {
            // On a convex function the steps that satisfy both conditions form one interval, steps that
            // are too long lie above it and steps that are too short below, so this bracket closes in.
            if falls && here.slope < 0.0 {
                self.low = here;
            } else {
                self.high = Some(here);
            }
            self.next_probe();
        }
    }

    fn accept(&mut self, value: f64, gradient: Vec<f64>) {
        let step: Vec<f64> = self.direction.iter().map(|d| self.step * d).collect();
        let change: Vec<f64> = gradient.iter().zip(&self.gradient).map(|(new, old)| new - old).collect();
        let product = dot(&step, &change);
        if product > f64::EPSILON * dot(&change, &change) {
            let history = if step.len() > MANY { SHORT_HISTORY } else { HISTORY };
            if self.pairs.len() == history {
                self.pairs.pop_front();
            }
            self.pairs.push_back(Pair { step, change, product });
        }
        self.origin.clone_from(&self.point);
        (self.value, self.gradient) = (value, gradient);
        self.iterations += 1;
        self.next_direction();
    }

    /// Stops, or turns to the quasi-Newton direction at the origin.
    fn next_direction(&mut self) {
        if self.gradient.iter().all(|g| g.abs() <= self.settings.tolerance) {
            self.status = Status::Converged;
            return;
        }
        if self.iterations >= self.settings.max_iterations {
            self.status = Status::Stopped;
            return;
        }
        if self.pairs.is_empty() {
            self.restart();
            return;
        }
        self.direction = self.quasi_newton();
        self.slope = dot(&self.gradient, &self.direction);
        if !(self.slope < 0.0 && self.slope.is_finite()) {
            self.restart();
            return;
        }
        self.start_search();
    }

    /// Searches along the gradient, without any memory of the curvature.
    fn restart(&mut self) {
        self.pairs.clear();
        // Without any curvature yet, no variable moves by more than 1 at first.
        let largest = self.gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
        self.direction = self.gradient.iter().map(|g| -g / largest.max(1.0)).collect();
        self.slope = dot(&self.gradient, &self.direction);
        if self.slope < 0.0 && self.slope.is_finite() {
            self.start_search();
        } else {
            self.status = Status::Stopped;
        }
    }

    fn start_search(&mut self) {
        self.low = Probe { step: 0.0, slope: self.slope };
        self.high = None;
        self.probes = 0;
        self.go_to(1.0);
    }

    fn next_probe(&mut self) {
        self.probes += 1;
        if self.probes >= SEARCH_LIMIT {
            match self.pairs.is_empty() {
                true => self.status = Status::Stopped,
                false => self.restart(),
            }
            return;
        }
        let low = self.low;
        let step = match self.high {
            None => 4.0 * low.step,
            Some(high) => {
                // Where a straight line through the two slopes is zero, kept away from the ends; every
                // third time the middle, for slopes that lie far apart.
                let width = high.step - low.step;
                let share = low.slope / (low.slope - high.slope);
                let straight = high.slope > 0.0 && share.is_finite() && !self.probes.is_multiple_of(3);
                let share = if straight { share } else { 0.5 };
                low.step + width * share.clamp(0.1, 0.9)
            }
        };
        self.go_to(step);
    }

    fn go_to(&mut self, step: f64) {
        self.step = step;
        for ((point, origin), direction) in self.point.iter_mut().zip(&self.origin).zip(&self.direction) {
            *point = origin + step * direction;
        }
    }

    /// Algorithm 7.4, the two-loop recursion.
    fn quasi_newton(&self) -> Vec<f64> {
        let mut direction: Vec<f64> = self.gradient.iter().map(|g| -g).collect();
        let mut shares = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let share = dot(&pair.step, &direction) / pair.product;
            add_scaled(&mut direction, -share, &pair.change);
            shares.push(share);
        }
        if let Some(last) = self.pairs.back() {
            let scale = last.product / dot(&last.change, &last.change);
            direction.iter_mut().for_each(|d| *d *= scale);
        }
        for (pair, share) in self.pairs.iter().zip(shares.into_iter().rev()) {
            let correction = share - dot(&pair.change, &direction) / pair.product;
            add_scaled(&mut direction, correction, &pair.step);
        }
        direction
    }
}

/// Eight sums side by side: one alone would wait for each addition to end before the next.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_blocks, b_blocks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0; 8];
    for (x, y) in a_blocks.zip(b_blocks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(to: &mut [f64], factor: f64, from: &[f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimise(
        start: Vec<f64>,
        settings: Settings,
        f: impl Fn(&[f64]) -> (f64, Vec<f64>),
    ) -> (Lbfgs, usize) {
        let mut search = Lbfgs::new(start, settings);
        let mut evaluations = 0;
        while search.status() == Status::Running {
            let (value, gradient) = f(search.point());
            search.tell(value, gradient);
            evaluations += 1;
            assert!(evaluations < 100_000, "the search does not end");
        }
        (search, evaluations)
    }

    const TIGHT: Settings = Settings { tolerance: 1e-10, max_iterations: 10_000, noise: 1e-15 };

    #[test]
    fn finds_the_minimum_of_an_ill_conditioned_quadratic() {
        let curvature: Vec<f64> = (0..50).map(|i| 10f64.powf(f64::from(i) / 10.0 - 3.0)).collect();
        let (search, evaluations) = minimise(vec![0.0; 50], TIGHT, |x| {
            let value = x.iter().zip(&curvature).map(|(x, c)| 0.5 * c * (x - 1.0) * (x - 1.0)).sum();
            (value, x.iter().zip(&curvature).map(|(x, c)| c * (x - 1.0)).collect())
        });
        assert_eq!(search.status(), Status::Converged);
        assert!(search.solution().iter().all(|x| (x - 1.0).abs() < 1e-6), "{:?}", search.solution());
        // scipy 1.17 needs 2482 for the same.
        assert!(evaluations < 3_500, "{evaluations} evaluations");
    }

    #[test]
    fn solves_a_well_scaled_problem_in_a_few_evaluations() {
        let (search, evaluations) = minimise(vec![3.0, -2.0], TIGHT, |x| {
            (x.iter().map(|x| x.cosh()).sum(), x.iter().map(|x| x.sinh()).collect())
        });
        assert_eq!(search.status(), Status::Converged);
        assert!(evaluations < 20, "{evaluations} evaluations");
    }

    #[test]
    fn follows_a_curved_valley() {
        let (search, _) = minimise(vec![-1.2, 1.0], TIGHT, |x| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
        });
        assert!(search.solution().iter().all(|x| (x - 1.0).abs() < 1e-6), "{:?}", search.solution());
    }

    #[test]
    fn bears_steps_into_overflow() {
        // The first step, along a gradient of e^30, leads where the value is infinite.
        let (search, _) = minimise(vec![30.0], TIGHT, |x| (x[0].exp() - x[0], vec![x[0].exp() - 1.0]));
        assert!(search.solution()[0].abs() < 1e-6, "{:?}", search.solution());
    }

    #[test]
    fn ends_where_there_is_no_minimum_or_no_number() {
        let bounded = Settings { max_iterations: 50, ..TIGHT };
        let (search, _) = minimise(vec![0.0], bounded, |_| (0.0, vec![-1.0]));
        assert_eq!(search.status(), Status::Stopped);
        let (search, _) = minimise(vec![0.0], bounded, |_| (f64::NAN, vec![f64::NAN]));
        assert_eq!(search.status(), Status::Stopped);
        assert_eq!(search.solution(), [0.0]);
        let (search, _) = minimise(vec![1.0], bounded, |x| {
            if x[0] == 1.0 { (1.0, vec![1.0]) } else { (f64::NAN, vec![f64::NAN]) }
        });
        assert_eq!(search.status(), Status::Stopped);
        assert_eq!(search.solution(), [1.0]);
    }
}
