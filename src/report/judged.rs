//! What the page says of a model on labelled images: `finetune` and `eval` show the same.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::Metrics;
use super::calibration::BeforeAndAfter;
use super::gallery::Mistakes;
use super::html::percent;
use super::matrix::matrix;
use super::{classes, trust};
use crate::stats::metrics::Confusion;
use crate::stats::significance::Interval;
use crate::text::words::{counted, shown};

/// Half an interval above this is too wide to plan with.
const WIDE: f64 = 0.1;

/// A model on labelled images.
pub struct Judged<'a> {
    /// `test`, `validation` or `labelled`.
    pub part: &'a str,
    /// Its figures.
    pub metrics: &'a Metrics,
    /// Its confusions.
    pub confusion: &'a Confusion,
    /// Names of the classes.
    pub classes: &'a [String],
    /// Training images of each class; empty if they are not known.
    pub trained_on: &'a [usize],
    /// Its mistakes in pictures.
    pub mistakes: &'a Mistakes,
    /// The temperature of its probabilities, and what that changed, if one was fitted.
    pub calibrated: Option<(f64, &'a BeforeAndAfter)>,
}

impl Judged<'_> {
    /// How good, what is worst, what to do next: three sentences.
    pub(super) fn verdict(&self) -> [String; 3] {
        let weakest = self.weakest();
        [self.of_a_hundred(), self.worst(weakest), self.next(weakest)]
    }

    fn of_a_hundred(&self) -> String {
        let Metrics { images, accuracy, interval: Interval(low, high), .. } = self.metrics;
        let part = match self.part {
            // They had no part in choosing the model.
            "test" => "test images, looked at once",
            "validation" => "validation images, which also chose the model",
            "labelled" => "labelled images",
            other => other,
        };
        let guess = match self.confusion.most_frequent() {
            Some((class, count)) => format!(
                "; answering {} to everything would get {}",
                shown(&self.classes[class]),
                hundredth(count as f64 / (*images).max(1) as f64)
            ),
            None => String::new(),
        };
        format!(
            "Of 100 new images like these it gets about {} right ({} to {}, by {images} {part}){guess}.",
            hundredth(*accuracy),
            hundredth(*low),
            hundredth(*high)
        )
    }

    /// The class with the lowest F1 that has images, if any was mistaken.
    fn weakest(&self) -> Option<usize> {
        let rows = &self.metrics.figures.as_ref()?.per_class;
        let with = rows.iter().enumerate().filter(|(_, row)| row.images > 0);
        let f1 = |class: usize| rows[class].f1.unwrap_or(0.);
        let worst = with.map(|(class, _)| class).min_by(|&a, &b| f1(a).total_cmp(&f1(b)))?;
        (f1(worst) < 1.).then_some(worst)
    }

    fn worst(&self, weakest: Option<usize>) -> String {
        let rows = self.metrics.figures.as_ref().map(|figures| &figures.per_class);
        let Some((class, row)) = weakest.and_then(|class| Some((class, &rows?[class]))) else {
            return "No class stands out: every answer was right.".into();
        };
        let recall = hundredth(row.recall.unwrap_or(0.));
        let precision = hundredth(row.precision.unwrap_or(0.));
        let other = match self.confused_with(class) {
            Some(other) => format!(" It is mostly confused with {}.", shown(&self.classes[other])),
            None => String::new(),
        };
        format!(
            "The weakest class is {0}: {recall} of 100 of its images are found, and {precision} of 100 answers {0} are \
             right.{other}",
            shown(&row.class),
        )
    }

    /// The class that images of `class` are most often taken for, or else the other way round.
    fn confused_with(&self, class: usize) -> Option<usize> {
        let most = |other: fn((usize, usize)) -> usize, own: fn((usize, usize)) -> usize| {
            let wrong = self.confusion.pairs().filter(|(truth, guess, _)| truth != guess);
            let of_class = wrong.filter(|&(truth, guess, _)| own((truth, guess)) == class);
            let most = of_class.max_by_key(|&(truth, guess, count)| (count, Reverse(other((truth, guess)))));
            most.map(|(truth, guess, _)| other((truth, guess)))
        };
        most(|pair| pair.1, |pair| pair.0).or_else(|| most(|pair| pair.0, |pair| pair.1))
    }

    fn next(&self, weakest: Option<usize>) -> String {
        let labels = match self.mistakes.suspects() {
            0 => String::new(),
            some => {
                format!("; and look at {} below, whose label may be wrong", counted(some, "image", "images"))
            }
        };
        format!("Next: {}{labels}.", self.advice(weakest))
    }

    fn advice(&self, weakest: Option<usize>) -> String {
        let Metrics { images, interval: Interval(low, high), .. } = self.metrics;
        if high - low > 2. * WIDE {
            let (low, high) = (hundredth(*low), hundredth(*high));
            return format!(
                "label more images to measure with: {} cannot tell {low} from {high} right of 100",
                counted(*images, "image", "images")
            );
        }
        let Some(class) = weakest else {
            return "try it on images from another day, place or camera: these it knows".into();
        };
        let name = shown(&self.classes[class]);
        let (own, all) = (self.trained_on.get(class), self.trained_on.iter().sum::<usize>());
        match (own, self.confused_with(class)) {
            // A tenth below the mean.
            (Some(&own), _) if own * self.trained_on.len() * 10 < all * 9 => {
                let mean = all / self.trained_on.len();
                format!("add images of {name}: it has {own} to learn from, the mean is {mean}")
            }
            (_, Some(other)) => {
                let other = shown(&self.classes[other]);
                format!("add images that tell {name} from {other}, or try other methods with `method: race`")
            }
            (_, None) => format!("add images of {name}"),
        }
    }

    /// The sections that follow the head of the page.
    pub(super) fn sections(&self) -> Markup {
        html! {
            @if let Some(figures) = &self.metrics.figures {
                (trust::section(figures, self.part, self.calibrated))
                (classes::section(figures, self.trained_on, self.part))
            }
            h2 #confusions { "What is taken for what" }
            (matrix(self.confusion, self.classes))
            (self.mistakes.section(self.part))
        }
    }

    /// Figures of all classes together, in a line.
    pub(super) fn line(&self) -> Markup {
        let Some(figures) = &self.metrics.figures else { return html! {} };
        let optional = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {value:.3}"));
        let parts = [
            Some(format!("balanced accuracy {}", percent(figures.balanced_accuracy))),
            Some(format!("macro F1 {:.3}", figures.macro_f1)),
            figures.top5.map(|share| format!("label among the five likeliest {}", percent(share))),
            optional("ROC-AUC", figures.auc),
            optional("average precision", figures.average_precision),
            Some(format!("log-loss {:.3}", figures.log_loss)),
            Some(format!("Brier score {:.3}", figures.brier)),
        ];
        html! { p.soft { (parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")) } }
    }
}

/// A share as a whole number of 100. Nothing but all is 100, and nothing but none is 0.
fn hundredth(share: f64) -> String {
    match share * 100. {
        all if all > 99.5 && share < 1. => "over 99".into(),
        none if none < 0.5 && share > 0. => "under 1".into(),
        other => format!("{other:.0}"),
    }
}
