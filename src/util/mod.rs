//! Shared helpers: words of messages, look-alike names, signals, locks, atomic files.

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
