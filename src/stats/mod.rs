//! Metrics of a classifier, and their significance.

pub mod metrics;
pub mod significance;
