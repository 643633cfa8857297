//! Signals, locks, seeds, digests, what is written to disk, files that appear whole, and what a file
//! may cost to read.

pub mod atomic;
pub mod budget;
pub mod digest;
pub mod files;
pub mod json;
pub mod lock;
pub mod random;
pub mod same_file;
pub mod signal;
