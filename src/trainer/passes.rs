//! How often images go through the network: what keeping the frozen stages' output saves.

use std::fmt;

use serde::Serialize;

use super::kept::{Kept, views};
use super::{Job, LinearHead};
use crate::models::Network;
use crate::wording::counted;

/// Images that go through some of the stages, so many times in a whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pass {
    /// `train`, `val` or `test`.
    pub part: &'static str,
    /// The stages, `conv1 to layer3.1`; with the head's name at the end where it is run too.
    pub stages: String,
    /// How many images; each kept view of a training image is one.
    pub images: usize,
    /// How often.
    pub times: usize,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pass { part, stages, images, times } = self;
        let images = counted(*images, &format!("{part} image"), &format!("{part} images"));
        write!(f, "{stages}: {images} × {times}")
    }
}

/// The passes of a run of `epochs` epochs. What a run that was stopped did again is not counted: a resumed run
/// has the report of one that was never stopped.
pub(super) fn passes(
    job: &Job,
    network: &Network,
    kept: &Kept,
    head: Option<&LinearHead>,
    epochs: usize,
) -> Vec<Pass> {
    let name = |start: usize| {
        let stages = network.span_name(start..network.stage_count());
        let first = stages.split(" to ").next().filter(|first| !first.is_empty());
        first.map_or(network.head_key().to_string(), |first| format!("{first} to {}", network.head_key()))
    };
    let (prefix, rest, all) = (network.span_name(0..network.frozen()), name(network.frozen()), name(0));
    let head = usize::from(head.is_some());
    let pass = |part, stages: &str, images, times| Pass { part, stages: stages.into(), images, times };
    let images = job.train.len();
    let mut passes = Vec::new();
    match (&kept.train, kept.train_as_in_evaluation(job)) {
        (Some(_), Some(_)) => {
            passes.push(pass("train", &prefix, images, 1));
            passes.push(pass("train", &rest, images, epochs + head));
        }
        (Some(_), None) => {
            passes.push(pass("train", &prefix, images * views(job), 1));
            passes.push(pass("train", &rest, images, epochs));
            passes.push(pass("train", &all, images, head));
        }
        (None, _) => passes.push(pass("train", &all, images, epochs + head)),
    }
    // Once more at the end, on the model that is kept.
    let (images, times) = (job.val.len(), epochs + head + 1);
    match &kept.val {
        Some(_) => {
            passes.push(pass("val", &prefix, images, 1));
            passes.push(pass("val", &rest, images, times));
        }
        None => passes.push(pass("val", &all, images, times)),
    }
    passes.push(pass("test", &all, job.test.map_or(0, <[_]>::len), 1));
    passes.retain(|pass| pass.images > 0 && pass.times > 0);
    passes
}
