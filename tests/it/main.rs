//! The integration tests: one binary, because each one links libtorch.

mod digits;
mod filled;
mod finetune;
mod models;
mod program;
mod recipes;
mod resume;
