//! The table: which method for which corner, and why.

use super::{Likeness, Size, Strategy};
use crate::recipe::{DatasetSize, Method, Similarity};

/// A method and its reason, one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The method.
    pub method: Method,
    /// Why.
    pub reason: String,
}

/// What the table says.
pub fn choose(strategy: &Strategy) -> Choice {
    let size = &strategy.size;
    let Some(similarity) = &strategy.similarity else {
        return Choice {
            method: Method::Scratch,
            reason: "there are no pretrained weights to transfer from: all stages are trained".into(),
        };
    };
    let (method, what) = corner(size, similarity);
    Choice { method, reason: format!("{}, {}: {what}", size.short(), similarity.short()) }
}

fn corner(size: &Size, similarity: &Likeness) -> (Method, &'static str) {
    match (size.verdict, similarity.verdict) {
        (DatasetSize::Little, Similarity::Similar) => (
            Method::Linear,
            "a linear classifier on the top features cannot overfit much, and they fit the images",
        ),
        (DatasetSize::Little, _) => (
            Method::Stages,
            "too few images to retrain the network, and its top features are made for others: linear classifiers on \
             the features of several stages",
        ),
        (_, Similarity::Similar) => (
            Method::Partial,
            "the features nearly fit: a linear classifier first, then the last stages are fine-tuned from it",
        ),
        _ => {
            (Method::Full, "the features do not fit, and there are images enough: all stages are fine-tuned")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_corner_has_its_method() {
        for (images, similarity, method) in [
            (5, Similarity::Similar, Method::Linear),
            (5, Similarity::Different, Method::Stages),
            (100, Similarity::Similar, Method::Partial),
            (100, Similarity::Different, Method::Full),
        ] {
            let size = Size::of(&[images, images], None, 20);
            let strategy = Strategy { size, similarity: Some(Likeness::forced(similarity)) };
            let choice = choose(&strategy);
            assert_eq!(choice.method, method);
            assert!(choice.reason.contains(&format!("({images} images a class)")), "{}", choice.reason);
        }
        let none = Strategy { size: Size::of(&[9, 9], None, 20), similarity: None };
        assert_eq!(choose(&none).method, Method::Scratch);
    }
}
