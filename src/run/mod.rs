//! What a run leaves in its folder, and goes on from.

pub mod checkpoint;
pub mod folder;
pub mod history;
