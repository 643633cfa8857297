//! What every room needs: words of messages, names that look alike, signals, locks, files that appear whole.

pub mod atomic;
pub mod digest;
pub mod json;
pub mod lock;
pub mod look_alikes;
pub mod path_text;
pub mod random;
pub mod signal;
pub mod suggest;
pub mod text;
