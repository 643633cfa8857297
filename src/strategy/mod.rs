//! How much of a network to retrain: dataset size × similarity to the source data.
//!
//! Every course on CNNs shows the table (CS231n, "Transfer Learning"; Donahue et al., "DeCAF", ICML 2014; Razavian
//! et al., CVPRW 2014):
//!
//! | | similar | different |
//! | --- | --- | --- |
//! | little data | a linear classifier on the top features | linear classifiers on features of different stages |
//! | lots of data | fine-tune a few stages | fine-tune all of them |
//!
//! [`size`] counts, [`similarity`] measures, [`choose()`] reads the table. No course says what is little or
//! similar: [`decide`] compares two methods on the validation images; the thresholds were measured, as `docs/strategy.md` tells, and a recipe can set them.

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

/// What was measured and decided, as the plan and the report hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// How much data there is.
    pub size: Size,
    /// How like the source data it is; absent where nothing depended on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<SimilarityEstimate>,
}
