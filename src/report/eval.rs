//! The report of `tl eval`: models measured on labelled images.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde::Serialize;

use super::Metrics;
use super::gallery::Mistakes;
use super::html::{page, prose};
use super::judged::Judged;
use crate::data::verify::BadImage;
use crate::preprocess::Views;
use crate::stats::metrics::Confusion;
use crate::stats::per_class::ClassRow;
use crate::stats::significance::{Interval, mcnemar};
use crate::text::words::counted;

/// What the images are called on the page.
const PART: &str = "labelled";

/// `report.json` of `tl eval`. Shares are in [0, 1], losses in nats.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// The version of tl.
    pub tl: &'static str,
    /// The images, as given.
    pub data: String,
    /// Each model's figures, in the order given.
    pub models: Vec<Measured>,
    /// Each further model beside the first one.
    pub compared: Vec<Comparison>,
    /// Images that were not measured on.
    pub left_out: LeftOut,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Device used.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// Seconds in all.
    pub seconds: f64,
}

/// A model, and its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// As named on the command line.
    pub model: String,
    /// torchvision's name of the network.
    pub architecture: &'static str,
    /// The sha256 of its file.
    pub sha256: String,
    /// The views of each image.
    #[serde(flatten)]
    pub views: Views,
    /// Its classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The figures.
    #[serde(flatten)]
    pub measured: Metrics,
}

/// Images that were not measured on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeftOut {
    /// Number of images that a model has learnt from.
    pub learnt_from: usize,
    /// Labels that a model does not have, and their numbers of images.
    pub unknown_labels: BTreeMap<String, usize>,
    /// Images that cannot be read.
    pub bad_images: Vec<BadImage>,
}

/// Two models on the same images.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The first model.
    pub first: String,
    /// The second model.
    pub second: String,
    /// Images that both have answered.
    pub images: usize,
    /// Images on which only the first is right.
    pub only_first: usize,
    /// Images on which only the second is right.
    pub only_second: usize,
    /// Accuracy of the second, less that of the first.
    pub difference: f64,
    /// 95 % interval of the difference: see [`Interval::of_difference`].
    pub interval: Interval,
    /// McNemar's exact test: see [`mcnemar`].
    pub p: f64,
}

impl Comparison {
    /// Of whether each model is right, image by image.
    pub fn of(first: &str, second: &str, pairs: &[(bool, bool)]) -> Self {
        let only_first = pairs.iter().filter(|pair| **pair == (true, false)).count();
        let only_second = pairs.iter().filter(|pair| **pair == (false, true)).count();
        let images = pairs.len();
        Comparison {
            first: first.into(),
            second: second.into(),
            images,
            only_first,
            only_second,
            difference: (only_second as f64 - only_first as f64) / images.max(1) as f64,
            interval: Interval::of_difference(only_second, only_first, images),
            p: mcnemar(only_second as u64, only_first as u64),
        }
    }

    /// A sentence.
    pub fn line(&self) -> String {
        let Interval(low, high) = self.interval;
        let told = match (self.p <= 0.05, self.difference > 0.) {
            (false, _) => "these images do not tell them apart".to_string(),
            (true, true) => format!("{} is better", self.second),
            (true, false) => format!("{} is better", self.first),
        };
        format!(
            "{} beside {} on {}: {:+.1} points of accuracy ({:+.1} to {:+.1}), alone right {} and {} times, McNemar's \
             p = {}: {told}",
            self.second,
            self.first,
            counted(self.images, "image", "images"),
            self.difference * 100.,
            low * 100.,
            high * 100.,
            self.only_second,
            self.only_first,
            probability(self.p)
        )
    }
}

/// `0.034`, and of small ones the power of ten.
fn probability(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
}

/// What the page shows of a model besides its figures.
pub struct Pictured<'a> {
    /// Its confusions.
    pub confusion: &'a Confusion,
    /// Its mistakes.
    pub mistakes: Mistakes,
}

impl EvalReport {
    /// The report as a page, with what is `pictured` of each model. What comes from outside is
    /// escaped by the template.
    pub fn to_html(&self, pictured: &[Pictured]) -> String {
        let names: Vec<&str> = self.models.iter().map(|it| it.model.as_str()).collect();
        let title = format!("{} on {}", names.join(", "), self.data);
        let several = self.models.len() > 1;
        page(
            &title,
            &html! {
                h1 { (title) }
                p.soft { (self.device) ", " (counted(self.threads, "thread", "threads")) " · tl " (self.tl) }
                @for comparison in &self.compared { p { (prose(&comparison.line())) } }
                (self.left_out.html())
                @if !self.notes.is_empty() {
                    h2 { "Notes" }
                    ul { @for note in &self.notes { li { (prose(note)) } } }
                }
                @for (model, pictured) in self.models.iter().zip(pictured) {
                    @if several { h1 { (model.model) } }
                    (model.html(pictured))
                }
            },
        )
    }
}

impl LeftOut {
    fn html(&self) -> Markup {
        let unknown: usize = self.unknown_labels.values().sum();
        let labels: Vec<&str> = self.unknown_labels.keys().map(String::as_str).collect();
        html! {
            @if self.learnt_from + unknown + self.bad_images.len() > 0 {
                h2 { "Left out" }
                ul {
                    @if self.learnt_from > 0 {
                        li { (counted(self.learnt_from, "image", "images")) " that a model has learnt from" }
                    }
                    @if unknown > 0 {
                        li {
                            (counted(unknown, "image", "images")) " with labels that a model does not have: "
                            (labels.join(", "))
                        }
                    }
                    @for image in &self.bad_images { li { code { (image.path) } ": " (image.error) } }
                }
            }
        }
    }
}

impl Measured {
    fn html(&self, pictured: &Pictured) -> Markup {
        let judged = Judged {
            part: PART,
            metrics: &self.measured,
            confusion: pictured.confusion,
            classes: &self.classes,
            trained_on: &[],
            mistakes: &pictured.mistakes,
            calibrated: None,
        };
        html! {
            .verdict { @for sentence in judged.verdict() { p { (prose(&sentence)) } } }
            (judged.line())
            p.soft { (self.architecture) ", " (self.views) }
            (judged.sections())
        }
    }

    /// The figures of the whole, by name; `-` for what is not defined.
    pub fn figures(&self) -> Vec<(&'static str, String)> {
        let shown = |value: f64| format!("{value:.4}");
        let maybe = |value: Option<f64>| value.map_or("-".into(), shown);
        let mut rows = vec![("accuracy", shown(self.measured.accuracy))];
        let Some(figures) = &self.measured.figures else { return rows };
        rows.extend(figures.top5.map(|top5| ("top-5 accuracy", shown(top5))));
        rows.extend([
            ("balanced accuracy", shown(figures.balanced_accuracy)),
            ("macro precision", shown(figures.macro_precision)),
            ("macro F1", shown(figures.macro_f1)),
            ("weighted F1", shown(figures.weighted_f1)),
            ("area under ROC", maybe(figures.auc)),
            ("average precision", maybe(figures.average_precision)),
            ("log-loss", shown(figures.log_loss)),
            ("Brier score", shown(figures.brier)),
            ("calibration error", shown(figures.ece)),
        ]);
        rows
    }

    /// The classes that have images, those of the lowest F1 first.
    pub fn weakest(&self) -> Vec<&ClassRow> {
        let rows = self.measured.figures.iter().flat_map(|figures| &figures.per_class);
        let mut rows: Vec<&ClassRow> = rows.filter(|row| row.images > 0).collect();
        rows.sort_by(|a, b| a.f1.unwrap_or(0.).total_cmp(&b.f1.unwrap_or(0.)));
        rows
    }
}
