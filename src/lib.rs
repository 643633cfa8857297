//! Transfer learning for image classification: a folder of images in, a classifier you can trust out.
//!
//! The way of a recipe: [`recipe`] is what the user typed; [`plan`] resolves every default, finds every mistake and, where
//! the method is open, asks [`strategy`], which measures size and similarity and decides; [`methods`] trains what was
//! decided, by [`linear`] heads on features or by the [`trainer`]'s loop with [`optim`]; [`run`] keeps what a run leaves in its
//! folder and goes on from; [`report`] is what people and programs read of it. [`commands`] is the command line.
//!
//! The way of an image: [`data`] lists it with its label, and loads images in parallel and in order; [`preprocess`]
//! turns one into a network's input, exactly as torchvision does; [`models`] holds the networks, each a chain of
//! named stages, and [`weights`] fills them; [`device`] carries batches to a GPU, computes in fewer bits, and goes on in
//! parts where memory runs out; [`inference`] asks one network or several, with one view of an image or many;
//! [`stats`] says how good the answers are, and [`output`] writes features and predictions of any number of images.
//!
//! A module uses those below it and none above: the order is in CONTRIBUTING.md, and a test holds it.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "paths of tests are text"))]

pub mod commands;
pub mod data;
pub mod device;
pub mod error;
pub mod inference;
pub mod linear;
pub mod methods;
pub mod models;
pub mod optim;
pub mod output;
pub mod plan;
pub mod preprocess;
pub mod recipe;
pub mod report;
pub mod run;
pub mod stats;
pub mod strategy;
pub mod text;
pub mod trainer;
pub mod util;
pub mod weights;

pub use error::{Error, Result};
