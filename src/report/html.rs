//! `report.html`: one file, no script, no external resources.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::chart;
use super::race;
use super::{Metrics, Report};
use crate::run::history::EpochRow;
use crate::stats::significance::Interval;
use crate::text::words::counted;
use crate::trainer::ForwardCount;

/// With more classes than this the confusion matrix is unreadable, and the mistakes are listed
/// instead.
const MATRIX_CLASSES: usize = 30;
/// The phases of a run, in order.
const PHASES: [&str; 8] = ["plan", "check", "race", "load", "features", "fit", "train", "evaluate"];
/// Rows of the list of the most frequent mistakes.
const MISTAKES: usize = 15;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1d2733;--soft:#5b6b7b;--line:#d9e0e7;--back:#fff;--train:#b05a00;--val:#0b63a5}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa8b5;--line:#36424d;--back:#141a20;--train:#f0a050;--val:#6bb6f0}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.3rem 0}
.soft{color:var(--soft)}.figures{display:flex;flex-wrap:wrap;gap:2rem;margin:1.2rem 0}
.figures b{display:block;font-size:1.9rem;line-height:1.2}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}tr.best{font-weight:600}.wide{overflow-x:auto}
.matrix td{text-align:center;min-width:1.6rem;padding:.15rem .3rem;border:1px solid var(--line)}.matrix th{font-weight:400}
.matrix thead th{text-align:center;vertical-align:bottom;max-width:6rem;overflow-wrap:anywhere}
svg{width:100%;max-width:28rem;height:auto}svg text{fill:var(--soft);font-size:11px}
.charts{display:flex;flex-wrap:wrap;gap:1.5rem}.charts figure{margin:0;flex:1 1 20rem}figcaption{font-size:.9rem}
code{font-size:.92em}";

impl Report {
    /// The report as a page. What comes from outside (names of classes and files, errors) is escaped by
    /// the template.
    pub fn to_html(&self) -> String {
        let title = format!("{}, {}", self.model, self.method);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (title) }
                    (self.about())
                    (self.figures())
                    @if let Some(race) = &self.race { (race::table(race)) }
                    @if let Some(contest) = &self.contest { (race::contest(contest)) }
                    (self.bad_images())
                    (self.notes())
                    (self.head())
                    @if !self.stages.is_empty() { (self.stage_table()) }
                    @if let Some(head) = &self.linear_head {
                        h2 { "Before the first epoch" }
                        p { (head) }
                    }
                    @if self.epochs.len() > 1 { (self.charts()) }
                    @if self.epochs.len() > 1 || self.linear.is_none() { (self.epoch_table()) }
                    // The test set if there is one: its images had no part in choosing the model.
                    @match &self.test {
                        Some(test) => (self.classes_of("test", test)),
                        None => (self.classes_of("validation", &self.val)),
                    }
                    (self.how())
                }
            }
        };
        page.into_string() + "\n"
    }

    fn about(&self) -> Markup {
        let similarity = self.strategy.similarity.as_ref().map(|it| format!("; {}", it.line()));
        html! {
            p.soft {
                "weights " (self.weights) " · " (counted(self.classes.len(), "class", "classes"))
                " · seed " (self.seed) " · " (self.device) ", " (counted(self.threads, "thread", "threads"))
                " · tl " (self.tl)
            }
            p.soft { (self.method) ": " (self.reason) }
            p.soft { (self.strategy.size.line()) (similarity.unwrap_or_default()) }
        }
    }

    fn figures(&self) -> Markup {
        let figure = |figure: &str, what: &str, more: Markup| html! { div { b { (figure) } (what) (more) } };
        let right = |measured: &Metrics, part: &str| {
            let what = format!("right on {} {part} images", measured.images);
            figure(&percent(measured.accuracy), &what, between(measured))
        };
        let nothing = || html! {};
        html! {
            .figures {
                @if let Some(test) = &self.test { (right(test, "test")) }
                (right(&self.val, "validation"))
                @if self.linear.is_none() {
                    (figure(&format!("{} of {}", self.best.epoch, self.epochs.len()), "epoch kept", nothing()))
                }
                (figure(&self.train.images.to_string(), "training images", nothing()))
                (figure(&format!("{:.1} s", self.seconds.values().sum::<f64>()), "in all", nothing()))
            }
            @if self.linear.is_none() {
                p.soft { "Epoch " (self.best.epoch) " is kept: " (self.best_reason) "." }
            }
            @if let Some(val) = &self.val_views {
                p {
                    "With the probabilities of " (val.views) " averaged: "
                    @if let Some(test) = &self.test_views {
                        (percent(test.measured.accuracy)) " right on the test images, "
                    }
                    (percent(val.measured.accuracy)) " on the validation images."
                }
            }
        }
    }

    fn bad_images(&self) -> Markup {
        html! {
            @if !self.bad_images.is_empty() {
                h2 { (counted(self.bad_images.len(), "image", "images")) " left out" }
                ul {
                    @for image in &self.bad_images { li { code { (image.path) } ": " (image.error) } }
                }
            }
        }
    }

    fn notes(&self) -> Markup {
        html! {
            @if !self.notes.is_empty() {
                h2 { "Notes" }
                ul { @for note in &self.notes { li { (note) } } }
            }
        }
    }

    fn head(&self) -> Markup {
        let text = match (&self.linear, &self.heads) {
            (_, Some(heads)) => {
                let known = |it| format!(", cross-validated accuracy {} inside train", percent(it));
                let known = heads.cv_accuracy.map(known).unwrap_or_default();
                format!("The mean of the heads below, each by what it is worth{known}.")
            }
            (Some(linear), None) => linear.to_string(),
            (None, None) => return html! {},
        };
        html! { h2 { "The head" } p { (text) } }
    }

    fn charts(&self) -> Markup {
        let series = |of: fn(&EpochRow) -> f64| self.epochs.iter().map(of).collect::<Vec<_>>();
        html! {
            h2 { "Epoch by epoch" }
            .charts {
                (chart("Loss", &series(|row| row.train_loss), &series(|row| row.val_loss), false))
                (chart("Accuracy", &series(|row| row.train_accuracy), &series(|row| row.val_accuracy), true))
            }
            p.soft {
                span style="color:var(--train)" { "■" }
                " training, on augmented images while learning \u{a0} "
                span style="color:var(--val)" { "■" }
                " validation"
            }
        }
    }

    fn epoch_table(&self) -> Markup {
        let columns = [
            "epoch",
            "train loss",
            "train accuracy",
            "val loss",
            "val accuracy",
            "learning rate",
            "images/s",
        ];
        let cells = |row: &EpochRow| {
            [
                row.epoch.to_string(),
                format!("{:.4}", row.train_loss),
                format!("{:.4}", row.train_accuracy),
                format!("{:.4}", row.val_loss),
                format!("{:.4}", row.val_accuracy),
                format!("{:.2e}", row.lr),
                format!("{:.0}", row.images_per_second),
            ]
        };
        let rows = self.epochs.iter().map(|row| (row.epoch == self.best.epoch, cells(row).to_vec()));
        table(&columns, rows)
    }

    fn stage_table(&self) -> Markup {
        let mut columns = vec!["features of", "numbers", "C", "cross-validated", "validation"];
        columns.extend(self.heads.is_some().then_some("counts"));
        let rows = self.stages.iter().map(|row| {
            let mut cells = vec![
                row.stages.join(", "),
                row.features.to_string(),
                format!("{:.3e}", row.c),
                row.cv_accuracy.map(percent).unwrap_or_default(),
                percent(row.val_accuracy),
            ];
            cells.extend(row.share.map(|share| format!("{share:.2}")));
            (row.chosen && row.share.is_none(), cells)
        });
        html! {
            h2 { "Stage by stage" }
            p.soft {
                "A linear head on the features of each stage and on all of them, compared by cross-validation inside \
                 the training images"
            }
            (table(&columns, rows))
        }
    }

    fn classes_of(&self, part: &str, measured: &Metrics) -> Markup {
        let matrix = measured.confusion.as_ref().filter(|matrix| matrix.len() <= MATRIX_CLASSES);
        let Some(matrix) = matrix else { return mistakes(part, measured) };
        html! {
            h2 { "Confusions" }
            p.soft { (part) " images: a row a true class, a column a prediction" }
            .wide {
                table.matrix {
                    thead { tr { th {} @for class in &self.classes { th { (class) } } th { "right" } } }
                    tbody {
                        @for (truth, (class, row)) in self.classes.iter().zip(matrix).enumerate() {
                            tr {
                                th { (class) }
                                @for (prediction, &count) in row.iter().enumerate() {
                                    (cell(count, row.iter().sum(), truth == prediction))
                                }
                                td { (measured.recall.get(class).copied().flatten().map(percent).unwrap_or_default()) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn how(&self) -> Markup {
        let passes = self.passes.iter().map(|pass| {
            let ForwardCount { part, stages, images, times } = pass;
            (false, vec![stages.clone(), format!("{images} {part}"), times.to_string()])
        });
        let seconds = PHASES.iter().filter_map(|phase| {
            let seconds = self.seconds.get(phase)?;
            Some((false, vec![phase.to_string(), format!("{seconds:.1}")]))
        });
        html! {
            h2 { "How" }
            p {
                @match self.frozen.stages.split_first() {
                    None => "Every stage was trained.",
                    Some((first, rest)) => {
                        "Frozen, and the same afterwards to the last bit: " code { (first) }
                        @if let Some(last) = rest.last() { " to " code { (last) } }
                        "."
                    }
                }
            }
            @if !self.passes.is_empty() { (table(&["stages", "images", "passes"], passes)) }
            (table(&["phase", "seconds"], seconds))
            @for (file, sha256) in &self.sha256 { p { "sha256 of " code { (file) } ": " code { (sha256) } } }
        }
    }
}

/// Rows of text; of the best one it is known.
pub(super) fn table(columns: &[&str], rows: impl Iterator<Item = (bool, Vec<String>)>) -> Markup {
    html! {
        .wide {
            table {
                thead { tr { @for column in columns { th { (column) } } } }
                tbody {
                    @for (best, cells) in rows {
                        tr.best[best] { @for cell in cells { td { (cell) } } }
                    }
                }
            }
        }
    }
}

/// A cell of the confusion matrix, of a row with `total` images.
fn cell(count: u64, total: u64, right: bool) -> Markup {
    let share = count as f64 / total.max(1) as f64;
    let colour = if right { "var(--val)" } else { "var(--train)" };
    // A single mistake among many images must remain visible.
    let least = if !right && count > 0 { 12. } else { 0. };
    let style = format!("background:color-mix(in srgb,{colour} {:.0}%,transparent)", least + share * 60.);
    html! { td style=(style) { @if count > 0 { (count) } } }
}

fn mistakes(part: &str, measured: &Metrics) -> Markup {
    let rows = measured.mistakes.iter().take(MISTAKES).map(|mistaken| {
        let cells = [&mistaken.truth, &mistaken.prediction].map(Clone::clone);
        (false, cells.into_iter().chain([mistaken.images.to_string()]).collect())
    });
    html! {
        h2 { "The most frequent mistakes" }
        p.soft { (part) " images" }
        (table(&["is", "was taken for", "times"], rows))
    }
}

/// The confidence interval of an accuracy, in words.
fn between(measured: &Metrics) -> Markup {
    let Interval(low, high) = measured.interval;
    let words = format!("{:.0} to {:.0} % (95 % sure)", low * 100., high * 100.);
    html! { br; span.soft title="Wilson's 95 % interval" { (words) } }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.)
}
