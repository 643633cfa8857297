//! Transfer learning for image classification: a folder of images in, a classifier you can trust out.
//!
//! The way of a run, a module a step:
//!
//! ```text
//! recipe.yaml ── recipe ──> plan ──> dataset ──> loader ──> network ──> trainer ──> artifact, report
//!                as typed   resolved  (path,label) batches   stages      one loop    model.safetensors, report.*
//! ```
//!
//! [`recipe`] is what the user typed, [`plan`] what will happen; where the method is open, [`strategy`] measures and
//! chooses; [`methods`] trains what was chosen. [`dataset`] lists images, [`preprocess`]
//! turns one into the network's input exactly as torchvision does, [`loader`] does so in parallel and in
//! order. [`models`] holds the networks, each a chain of named stages; [`weights`] fills them, and [`inference`] runs
//! them on many images at once. [`trainer`]
//! trains by gradient with [`optim`], [`features`] and [`linear`] fit a head on what a frozen network
//! computes. [`device`] finds a GPU, [`transfer`] carries batches to it, [`precision`] computes in fewer bits,
//! [`parts`] goes on where memory runs out. [`averaging`] asks several crops, scales and networks. [`artifact`] is the
//! model file, [`output`] writes features and predictions of any number of images, of which [`shard`] gives each
//! process a part; [`report`] is what people and programs read, [`commands`] what the command line runs.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "paths of tests are text"))]

pub mod alike;
pub mod artifact;
pub mod averaging;
pub mod chance;
pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod dataset;
pub mod device;
pub mod error;
pub mod features;
pub mod inference;
pub mod linear;
pub mod loader;
pub mod lock;
pub mod memory;
pub mod methods;
pub mod metrics;
pub mod mixing;
pub mod models;
pub mod optim;
pub mod output;
pub mod parts;
pub mod path_text;
pub mod plan;
pub mod precision;
pub mod preprocess;
pub mod recipe;
pub mod report;
pub mod run_folder;
pub mod shard;
pub mod signal;
pub mod strategy;
pub mod suggest;
mod torch;
pub mod trainer;
pub mod transfer;
pub mod weights;
pub mod wording;

pub use error::{Error, Result};
