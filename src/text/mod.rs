//! Words of messages: counts, lists cut short, hints, names that look alike, paths that can be opened again.

pub mod look_alikes;
pub mod path_text;
pub mod suggest;
pub mod words;
