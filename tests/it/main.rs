//! The integration tests: one binary, because each one links libtorch.

mod augment;
mod digits;
mod doctor;
mod dropping;
mod extract;
mod filled;
mod finetune;
mod inspect;
mod large;
mod lite;
mod little;
mod models;
mod odd;
mod partial;
mod precision;
mod predict;
mod program;
mod race;
mod recipes;
mod resume;
mod rival;
mod shards;
mod sizes;
mod stages;
mod strategy;
mod weights;
