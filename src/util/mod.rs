//! Signals, locks, seeds, digests, what is written to disk, and files that appear whole.

pub mod atomic;
pub mod digest;
pub mod files;
pub mod json;
pub mod lock;
pub mod random;
pub mod same_file;
pub mod signal;
