//! How much of a network to retrain: dataset size × similarity to the source data.
//!
//! Every course on CNNs shows the table (CS231n, "Transfer Learning"; Donahue et al., "DeCAF", ICML
//! 2014; Razavian et al., CVPRW 2014):
//!
//! | | similar | different |
//! | --- | --- | --- |
//! | little data | a linear classifier on the top features | linear classifiers on features of different stages |
//! | lots of data | fine-tune a few stages | fine-tune all of them |
//!
//! [`size`] counts, [`similarity`] measures, [`choose()`] reads the table. No course defines little
//! or similar: [`decide`] compares two methods on the validation images; the thresholds were
//! measured (`docs/strategy.md`), and a recipe can set them.

pub mod choose;
pub mod comparison;
pub mod decide;
pub mod similarity;
pub mod size;

use serde::{Deserialize, Serialize};

pub use choose::{Choice, choose};
pub use decide::Contest;
pub use similarity::{Measure, Measured, SimilarityEstimate};
pub use size::{PerClass, Size};

/// Measurements and decisions, for the plan and the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// The amount of data.
    pub size: Size,
    /// Similarity to the source data; absent if nothing depended on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<SimilarityEstimate>,
}
