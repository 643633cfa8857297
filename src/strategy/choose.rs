//! The table: a method for each corner, with a reason.

use super::{SimilarityEstimate, Size, Strategy};
use crate::recipe::{DatasetSize, Method, Similarity};

/// A method and its reason, one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The method.
    pub method: Method,
    /// A second method to train, because no measurement tells which is better: see
    /// [`super::decide`].
    pub rival: Option<Method>,
    /// The reason.
    pub reason: String,
}

/// Reads the table. `young` weights are those that `tl` trained from random ones: their early
/// stages still have something to learn.
pub fn choose(strategy: &Strategy, young: bool) -> Choice {
    let size = &strategy.size;
    let Some(similarity) = &strategy.similarity else {
        return Choice {
            method: Method::Scratch,
            rival: None,
            reason: "there are no pretrained weights to transfer from: all stages are trained".into(),
        };
    };
    let (method, rival, what) = corner(size, similarity, young);
    // A user who declares images similar means that their top features fit. A measurement may be
    // wrong about that.
    let told = similarity.verdict == Similarity::Similar && similarity.measured.is_none();
    let rival = rival.filter(|_| !told);
    Choice { method, rival, reason: format!("{}, {}: {what}", size.short(), similarity.short()) }
}

fn corner(
    size: &Size,
    similarity: &SimilarityEstimate,
    young: bool,
) -> (Method, Option<Method>, &'static str) {
    match (size.verdict, similarity.verdict) {
        (DatasetSize::Little, Similarity::Similar) => (
            Method::Linear,
            Some(Method::Partial),
            "a linear classifier on the top features cannot overfit much, and they fit the images",
        ),
        (DatasetSize::Little, _) => (
            Method::Stages,
            Some(if young { Method::Full } else { Method::Partial }),
            "too few images to retrain the network, and its top features are made for others: linear classifiers on \
             the features of several stages",
        ),
        (_, Similarity::Similar) => (
            Method::Partial,
            Some(Method::Stages),
            "the features nearly fit: a linear classifier first, then the last stages are fine-tuned from it",
        ),
        _ => (
            Method::Full,
            Some(Method::Stages),
            "the features do not fit, and there are images enough: all stages are fine-tuned",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{Measure, Measured};

    #[test]
    fn each_corner_has_its_method() {
        for (images, similarity, method, rival) in [
            (5, Similarity::Similar, Method::Linear, Some(Method::Partial)),
            (5, Similarity::Different, Method::Stages, Some(Method::Partial)),
            (100, Similarity::Similar, Method::Partial, Some(Method::Stages)),
            (100, Similarity::Different, Method::Full, Some(Method::Stages)),
        ] {
            let size = Size::of(&[images, images], None, 20);
            let strategy = |similarity| Strategy { size: size.clone(), similarity: Some(similarity) };
            let choice = choose(&strategy(SimilarityEstimate::forced(similarity)), false);
            let different = similarity == Similarity::Different;
            assert_eq!((choice.method, choice.rival), (method, rival.filter(|_| different)));
            let value = if different { 0.3 } else { 0.01 };
            let measured = Measured { measure: Measure::Statistics, value, threshold: 0.03, images };
            let measured = choose(&strategy(SimilarityEstimate::of(measured)), false);
            assert_eq!((measured.method, measured.rival), (method, rival));
            assert!(choice.reason.contains(&format!("({images} images a class)")), "{}", choice.reason);
        }
        let none = Strategy { size: Size::of(&[9, 9], None, 20), similarity: None };
        assert_eq!(choose(&none, false).method, Method::Scratch);

        let size = Size::of(&[5, 5], None, 20);
        let far = Strategy { size, similarity: Some(SimilarityEstimate::forced(Similarity::Different)) };
        assert_eq!(choose(&far, true).rival, Some(Method::Full));
    }
}
