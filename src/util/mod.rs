//! Signals, locks, seeds, digests, and files that appear whole.

pub mod atomic;
pub mod digest;
pub mod json;
pub mod lock;
pub mod random;
pub mod same_file;
pub mod signal;
