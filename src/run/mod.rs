//! Files of a run folder, which also allow a run to resume.

pub mod checkpoint;
pub mod folder;
pub mod history;
pub mod progress;
pub mod tensorboard;
