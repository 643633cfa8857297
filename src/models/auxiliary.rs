//! Auxiliary classifiers: small heads on inner stages, whose losses bring gradients into the depth of the
//! network while it is trained (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015). They are no
//! part of the network otherwise: no model file holds them.

use super::layers::Layer;
use super::vars::Path;
use crate::error::Result;

/// The auxiliary classifiers of an architecture.
pub struct Auxiliaries {
    /// What the loss of each counts beside the main one's, in the paper.
    pub weight: f64,
    /// The smallest side of an input that they can take.
    pub min_size: u32,
    /// In the order of the stages that they read.
    pub classifiers: &'static [Auxiliary],
}

impl Auxiliaries {
    /// Most networks have none.
    pub(super) const NONE: Auxiliaries = Auxiliaries { weight: 0., min_size: 1, classifiers: &[] };

    /// Whether this key of a state dict belongs to one of them.
    pub fn own(&self, key: &str) -> bool {
        let belongs = |own: &str| key.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'));
        self.classifiers.iter().any(|classifier| belongs(classifier.key))
    }
}

/// One of them.
pub struct Auxiliary {
    /// Its path in torchvision's state dict, such as `aux1`.
    pub key: &'static str,
    /// The stage whose output it reads.
    pub after: &'static str,
    /// From its path and a number of classes to what computes logits `[N, K]`.
    pub build: fn(&Path, i64) -> Result<Box<dyn Layer>>,
}
