//! Metrics of a classifier, and how much they say.

pub mod metrics;
pub mod significance;
