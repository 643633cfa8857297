//! The integration tests: one binary, because each one links libtorch.

#![allow(clippy::disallowed_methods, reason = "its paths are text")]

mod augment;
mod completions;
mod crash;
mod demo;
mod digits;
mod doctor;
mod documents;
mod dropping;
mod explain;
mod extract;
mod filled;
mod finetune;
mod fit;
mod fuzz;
mod going_on;
mod hostile_names;
mod init;
mod inspect;
mod large;
mod lists;
mod lite;
mod little;
mod model_file;
mod models;
mod odd;
mod page;
mod partial;
mod precision;
mod predict;
mod program;
mod race;
mod recipes;
mod resume;
mod rival;
mod rooms;
mod sets;
mod shards;
mod sizes;
mod stages;
mod strategy;
mod unknown;
mod watch;
mod weights;
mod white_level;
