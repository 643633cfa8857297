//! How often images go through the network: the savings of keeping the frozen stages' output.

use std::fmt;

use serde::Serialize;

use super::TrainingJob;
use super::activation_cache::{ActivationCache, views};
use crate::models::Network;
use crate::run::history::LinearHead;
use crate::text::words::counted;

/// Number of times that images go through some of the stages in a whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForwardCount {
    /// `train`, `val` or `test`.
    pub part: &'static str,
    /// The stages, `conv1 to layer3.1`; with the head's name at the end if it is run too.
    pub stages: String,
    /// Number of images; each kept view of a training image is one.
    pub images: usize,
    /// Number of passes.
    pub times: usize,
}

impl fmt::Display for ForwardCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ForwardCount { part, stages, images, times } = self;
        let images = counted(*images, &format!("{part} image"), &format!("{part} images"));
        write!(f, "{stages}: {images} × {times}")
    }
}

/// The passes of a run of `epochs` epochs. Work repeated after an interruption is not counted: a
/// resumed run has the same report as an uninterrupted one.
pub(super) fn forward_counts(
    job: &TrainingJob,
    network: &Network,
    kept: &ActivationCache,
    head: Option<&LinearHead>,
    epochs: usize,
) -> Vec<ForwardCount> {
    let name = |start: usize| {
        let stages = network.span_name(start..network.stage_count());
        let first = stages.split(" to ").next().filter(|first| !first.is_empty());
        first.map_or(network.head_key().to_string(), |first| format!("{first} to {}", network.head_key()))
    };
    let (prefix, rest, all) = (network.span_name(0..network.frozen()), name(network.frozen()), name(0));
    let head = usize::from(head.is_some());
    let count =
        |part, stages: &str, images, times| ForwardCount { part, stages: stages.into(), images, times };
    let images = job.train.len();
    let mut forward_counts = Vec::new();
    match (&kept.train, kept.train_as_in_evaluation(job)) {
        (Some(_), Some(_)) => {
            forward_counts.push(count("train", &prefix, images, 1));
            forward_counts.push(count("train", &rest, images, epochs + head));
        }
        (Some(_), None) => {
            forward_counts.push(count("train", &prefix, images * views(job), 1));
            forward_counts.push(count("train", &rest, images, epochs));
            forward_counts.push(count("train", &all, images, head));
        }
        (None, _) => forward_counts.push(count("train", &all, images, epochs + head)),
    }
    // Once more at the end, with the kept model.
    let (images, times) = (job.val.len(), epochs + head + 1);
    match &kept.val {
        Some(_) => {
            forward_counts.push(count("val", &prefix, images, 1));
            forward_counts.push(count("val", &rest, images, times));
        }
        None => forward_counts.push(count("val", &all, images, times)),
    }
    forward_counts.push(count("test", &all, job.test.map_or(0, <[_]>::len), 1));
    forward_counts.retain(|count| count.images > 0 && count.times > 0);
    forward_counts
}
