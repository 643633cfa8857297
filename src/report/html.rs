//! `report.html`: one file, no script, no external resources.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::chart;
use super::race;
use super::{Metrics, Report, Shown};
use crate::run::history::EpochRow;
use crate::stats::significance::Interval;
use crate::text::words::counted;
use crate::trainer::ForwardCount;

/// The phases of a run, in order.
const PHASES: [&str; 9] = ["plan", "check", "race", "load", "features", "fit", "train", "evaluate", "report"];
const STYLE: &str = include_str!("style.css");

impl Report {
    /// The report as a page. What comes from outside (names of classes and files, errors) is escaped by
    /// the template.
    pub fn to_html(&self, shown: &Shown) -> String {
        let title = format!("{}: {}, {}", shown.data, self.model, self.method);
        let judged = shown.judged(self);
        page(
            &title,
            &html! {
                h1 { (title) }
                (self.about())
                (navigation(self.bad_images.len() + self.notes.len() > 0))
                .verdict { @for sentence in judged.verdict() { p { (prose(&sentence)) } } }
                (self.figures())
                (judged.line())
                (self.remarks())
                (judged.sections())
                (shown.examples.section())
                (self.how(shown))
                h2 #card { "Model card" }
                details {
                    summary { "MODEL_CARD.md, for those who get the model" }
                    pre { (self.model_card(&judged, &shown.data)) }
                }
            },
        )
    }

    fn about(&self) -> Markup {
        let similarity = self.strategy.similarity.as_ref().map(|it| format!("; {}", it.line()));
        html! {
            p.soft {
                "weights " (self.weights) " · " (counted(self.classes.len(), "class", "classes"))
                " · seed " (self.seed) " · " (self.device) ", " (counted(self.threads, "thread", "threads"))
                " · tl " (self.tl)
            }
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

    /// Images that were left out, and notes.
    fn remarks(&self) -> Markup {
        html! {
            @if !self.bad_images.is_empty() {
                h2 #notes { (counted(self.bad_images.len(), "image", "images")) " left out" }
                ul {
                    @for image in &self.bad_images { li { code { (image.path) } ": " (image.error) } }
                }
            }
            @if !self.notes.is_empty() {
                h2 #notes { "Notes" }
                ul { @for note in &self.notes { li { (prose(note)) } } }
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
        html! { h3 { "The head" } p { (text) } }
    }

    fn charts(&self) -> Markup {
        let series = |of: fn(&EpochRow) -> f64| self.epochs.iter().map(of).collect::<Vec<_>>();
        html! {
            h3 { "Epoch by epoch" }
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
            h3 { "Stage by stage" }
            p.soft {
                "A linear head on the features of each stage and on all of them, compared by cross-validation inside \
                 the training images"
            }
            (table(&columns, rows))
        }
    }

    /// The method and its course, and how to repeat it.
    fn how(&self, shown: &Shown) -> Markup {
        html! {
            h2 #how { "How" }
            p { (self.method) ": " (prose(&self.reason)) "." }
            @if let Some(race) = &self.race { (race::table(race)) }
            @if let Some(contest) = &self.contest { (race::contest(contest)) }
            (self.head())
            @if !self.stages.is_empty() { (self.stage_table()) }
            @if let Some(head) = &self.linear_head {
                h3 { "Before the first epoch" }
                p { (head) }
            }
            @if self.epochs.len() > 1 { (self.charts()) }
            @if self.epochs.len() > 1 || self.linear.is_none() {
                details { summary { "Every epoch" } (self.epoch_table()) }
            }
            (self.work())
            h3 { "The same again" }
            pre { (shown.command) }
            @for (file, sha256) in &self.sha256 { p { "sha256 of " code { (file) } ": " code { (sha256) } } }
        }
    }

    /// What the images went through, and how long it took.
    fn work(&self) -> Markup {
        let passes = self.passes.iter().map(|pass| {
            let ForwardCount { part, stages, images, times } = pass;
            (false, vec![stages.clone(), format!("{images} {part}"), times.to_string()])
        });
        let seconds = PHASES.iter().filter_map(|phase| {
            let seconds = self.seconds.get(phase)?;
            Some((false, vec![phase.to_string(), format!("{seconds:.1}")]))
        });
        html! {
            h3 { "What was computed" }
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
        }
    }
}

/// A page that needs nothing beside itself.
pub(super) fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string() + "\n"
}

/// A sentence whose `code` stands between backticks.
pub(super) fn prose(text: &str) -> Markup {
    let parts = text.split('`').enumerate();
    html! { @for (at, part) in parts { @if at % 2 == 1 { code { (part) } } @else { (part) } } }
}

fn navigation(remarks: bool) -> Markup {
    let parts = [
        ("#trust", "Can it be used?"),
        ("#classes", "Classes"),
        ("#confusions", "Confusions"),
        ("#mistakes", "Mistakes"),
        ("#data", "Data"),
        ("#how", "How"),
        ("#card", "Model card"),
    ];
    html! {
        nav {
            @if remarks { a href="#notes" { "Notes" } }
            @for (place, name) in parts { a href=(place) { (name) } }
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

/// The confidence interval of an accuracy, in words.
fn between(measured: &Metrics) -> Markup {
    let Interval(low, high) = measured.interval;
    let words = format!("{:.0} to {:.0} % (95 % sure)", low * 100., high * 100.);
    html! { br; span.soft title="Wilson's 95 % interval" { (words) } }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.)
}
