//! Transfer learning for image classification: a folder of images in, a classifier you can trust
//! out.
//!
//! The way of a recipe: [`recipe`] is what the user typed; [`plan`] resolves every default, finds
//! every mistake and, where the method is open, asks [`strategy`], which measures size and
//! similarity and decides; [`methods`] trains what was decided, by [`linear`] heads on features or
//! by the [`trainer`]'s loop with [`optim`]; [`run`] keeps what a run leaves in its folder and goes
//! on from; [`report`] is what people and programs read of it. [`commands`] is the command line.
//!
//! The path of an image: [`data`] lists it with its label, and loads images in parallel and in
//! order. [`preprocess`] turns it into a network's input, exactly as torchvision does. [`models`]
//! holds the networks, each a chain of named stages, and [`weights`] fills them. [`device`] moves
//! batches to a GPU, computes in reduced precision, and splits a batch where memory runs out.
//! [`inference`] runs one network or several, on one view of an image or many, and shows what in an image
//! speaks for a class. [`stats`] measures
//! the answers, and [`output`] writes features and predictions of any number of images.
//!
//! A module uses only those below it: the order is in CONTRIBUTING.md, and a test enforces it.

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
pub mod unknown;
pub mod util;
pub mod weights;

pub use error::{Error, Result};
