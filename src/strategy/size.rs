//! The amount of data.

use serde::{Deserialize, Serialize};

use crate::recipe::DatasetSize;
use crate::text::words::counted;

/// Fewer training images a class than this, by the median over the classes, are little. On the
/// development tasks of `docs/strategy.md`, with different images, heads on several stages were
/// better than fine-tuning with 4 a class, as good with 16, and worse with 80.
pub const LITTLE_BELOW: usize = 20;

/// Counts of a run's training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// `little` or `lots`.
    pub verdict: DatasetSize,
    /// Whether the recipe sets it.
    pub forced: bool,
    /// All training images.
    pub images: usize,
    /// Number of classes.
    pub classes: usize,
    /// Images of a class.
    pub per_class: PerClass,
    /// The median below which data is little.
    pub little_below: usize,
}

/// Images of a class over the classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerClass {
    /// Of the smallest class.
    pub least: usize,
    /// Of the median class (the lower of two).
    pub median: usize,
    /// Of the largest class.
    pub most: usize,
}

impl Size {
    /// The size of a training set with `counts` images in each class.
    pub fn of(counts: &[usize], forced: Option<DatasetSize>, little_below: usize) -> Self {
        let mut sorted = counts.to_vec();
        sorted.sort_unstable();
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let per_class = PerClass {
            least: at(0),
            median: at(sorted.len().saturating_sub(1) / 2),
            most: at(sorted.len().saturating_sub(1)),
        };
        let measured = match per_class.median < little_below {
            true => DatasetSize::Little,
            false => DatasetSize::Lots,
        };
        let forced = forced.filter(|&size| size != DatasetSize::Auto);
        Size {
            verdict: forced.unwrap_or(measured),
            forced: forced.is_some(),
            images: counts.iter().sum(),
            classes: counts.len(),
            per_class,
            little_below,
        }
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let PerClass { least, median, most } = self.per_class;
        let imbalance = most as f64 / least.max(1) as f64;
        let range = match least == most {
            true => format!("{least} a class"),
            false => format!("{least} to {most} a class, median {median}, imbalance {imbalance:.1}"),
        };
        let why = match (self.forced, self.verdict) {
            (true, _) => "as the recipe says".into(),
            (_, DatasetSize::Little) => format!("{median} is below {}", self.little_below),
            _ => format!("{median} is not below {}", self.little_below),
        };
        format!(
            "{} in {} ({range}): {} data, {why}",
            counted(self.images, "training image", "training images"),
            counted(self.classes, "class", "classes"),
            self.verdict
        )
    }

    /// For the reason of a choice: `little data (5 images a class)`.
    pub fn short(&self) -> String {
        match self.forced {
            true => format!("{} data (as the recipe says)", self.verdict),
            false => {
                let images = counted(self.per_class.median, "image", "images");
                format!("{} data ({images} a class)", self.verdict)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides_and_the_recipe_overrules_it() {
        let size = Size::of(&[5000, 1, 30], None, 20);
        assert_eq!(size.per_class, PerClass { least: 1, median: 30, most: 5000 });
        assert_eq!((size.verdict, size.images, size.classes), (DatasetSize::Lots, 5031, 3));
        insta::assert_snapshot!(size.line(), @"5031 training images in 3 classes (1 to 5000 a class, median 30, imbalance 5000.0): lots of data, 30 is not below 20");
        assert_eq!(Size::of(&[19, 19], None, 20).verdict, DatasetSize::Little);
        assert_eq!(Size::of(&[20, 20], None, 20).verdict, DatasetSize::Lots);
        assert_eq!(Size::of(&[20, 20], None, 21).verdict, DatasetSize::Little);
        let forced = Size::of(&[5], Some(DatasetSize::Lots), 20);
        assert!(forced.forced && forced.verdict == DatasetSize::Lots);
        assert!(!Size::of(&[5], Some(DatasetSize::Auto), 20).forced);
    }

    #[test]
    fn lines_are_sentences() {
        assert_eq!(Size::of(&[1, 1], None, 20).short(), "little data (1 image a class)");
        assert_eq!(Size::of(&[2, 2], None, 20).short(), "little data (2 images a class)");
        assert_eq!(
            Size::of(&[10, 10, 10], None, 20).line(),
            "30 training images in 3 classes (10 a class): little data, 10 is below 20"
        );
        assert_eq!(
            Size::of(&[8, 30, 64], None, 20).line(),
            "102 training images in 3 classes (8 to 64 a class, median 30, imbalance 8.0): lots of data, 30 is not \
             below 20"
        );
    }
}
