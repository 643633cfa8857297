//! Text for messages: counts, shortened lists, hints, look-alike names, paths that can be opened
//! again.

pub mod look_alikes;
pub mod path_text;
pub mod suggest;
pub mod words;
