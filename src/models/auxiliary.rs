//! Auxiliary classifiers: small heads on inner stages, whose losses bring gradients into the depth
//! of the network during training (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015).
//! They are otherwise no part of the network: no model file holds them.

use super::layers::Layer;
use super::vars::Path;
use crate::error::Result;

/// The auxiliary classifiers of an architecture.
pub struct Auxiliaries {
    /// The paper's weight of each of their losses, relative to the main one.
    pub weight: f64,
    /// Smallest side of an input that they can take.
    pub min_size: u32,
    /// In the order of the stages they read.
    pub classifiers: &'static [Auxiliary],
}

impl Auxiliaries {
    /// Most networks have none.
    pub(super) const NONE: Auxiliaries = Auxiliaries { weight: 0., min_size: 1, classifiers: &[] };

    /// Whether this state-dict key belongs to one of them.
    pub fn own(&self, key: &str) -> bool {
        let belongs = |own: &str| key.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'));
        self.classifiers.iter().any(|classifier| belongs(classifier.key))
    }
}

/// An auxiliary classifier.
pub struct Auxiliary {
    /// Its path in torchvision's state dict, such as `aux1`.
    pub key: &'static str,
    /// The stage whose output it reads.
    pub after: &'static str,
    /// Builds it at a path for a number of classes; its output is logits `[N, K]`.
    pub build: fn(&Path, i64) -> Result<Box<dyn Layer>>,
}
