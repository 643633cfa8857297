//! The integration tests: one binary, because each one links libtorch.

mod filled;
mod finetune;
mod models;
mod program;
mod recipes;
mod resume;
