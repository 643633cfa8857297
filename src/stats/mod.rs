//! Metrics of a classifier, and their significance.

pub mod calibration;
pub mod confidence;
pub mod figures;
pub mod labels;
pub mod metrics;
pub mod per_class;
pub mod ranking;
pub mod scores;
pub mod significance;
pub mod student;
