//! The integration tests: one binary, because each one links libtorch.

mod filled;
mod models;
