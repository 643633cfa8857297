//! `report.html`: one file, no script, no external resources.

use std::fmt::Write;

use super::{Measured, Report};
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
    /// The report as a page.
    pub fn to_html(&self) -> String {
        let mut page = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.page(&mut page);
        page
    }

    fn page(&self, out: &mut String) -> std::fmt::Result {
        let (model, method) = (escape(&self.model), self.method);
        write!(
            out,
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{model}, {method}</title><style>{STYLE}</style><h1>{model}, {method}</h1>\
             <p class=\"soft\">weights {} · {} · seed {} · {}, {} · tl {}</p>\
             <p class=\"soft\">{method}: {}</p><p class=\"soft\">{}{}</p>",
            escape(&self.weights),
            counted(self.classes.len(), "class", "classes"),
            self.seed,
            self.device,
            counted(self.threads, "thread", "threads"),
            self.tl,
            escape(&self.reason),
            escape(&self.strategy.size.line()),
            self.strategy.similarity.iter().map(|it| format!("; {}", escape(&it.line()))).collect::<String>()
        )?;
        self.figures(out)?;
        if let Some(race) = &self.race {
            super::race::table(race, out)?;
        }
        if let Some(contest) = &self.contest {
            super::race::contest(contest, out)?;
        }
        if !self.bad_images.is_empty() {
            write!(out, "<h2>{} left out</h2><ul>", counted(self.bad_images.len(), "image", "images"))?;
            for image in &self.bad_images {
                write!(out, "<li><code>{}</code>: {}", escape(&image.path), escape(&image.error))?;
            }
            out.push_str("</ul>");
        }
        if !self.notes.is_empty() {
            out.push_str("<h2>Notes</h2><ul>");
            for note in &self.notes {
                write!(out, "<li>{}", escape(note))?;
            }
            out.push_str("</ul>");
        }
        match (&self.linear, &self.heads) {
            (_, Some(heads)) => {
                let known = heads
                    .cv_accuracy
                    .map(|it| format!(", cross-validated accuracy {} inside train", percent(it)));
                write!(
                    out,
                    "<h2>The head</h2><p>The mean of the heads below, each by what it is worth{}.</p>",
                    known.unwrap_or_default()
                )?;
            }
            (Some(linear), None) => {
                write!(out, "<h2>The head</h2><p>{}</p>", escape(&linear.to_string()))?;
            }
            (None, None) => (),
        }
        if !self.stages.is_empty() {
            self.stage_table(out)?;
        }
        if let Some(head) = &self.linear_head {
            write!(out, "<h2>Before the first epoch</h2><p>{}", escape(&head.to_string()))?;
        }
        if self.epochs.len() > 1 {
            self.charts(out)?;
        }
        if self.epochs.len() > 1 || self.linear.is_none() {
            self.epoch_table(out)?;
        }
        // The test set if there is one: its images had no part in choosing the model.
        match &self.test {
            Some(test) => self.classes_of(out, "test", test)?,
            None => self.classes_of(out, "validation", &self.val)?,
        }
        self.rest(out)
    }

    fn figures(&self, out: &mut String) -> std::fmt::Result {
        out.push_str("<div class=\"figures\">");
        if let Some(test) = &self.test {
            let (share, between) = (percent(test.accuracy), between(test));
            write!(out, "<div><b>{share}</b>right on {} test images{between}</div>", test.images)?;
        }
        write!(
            out,
            "<div><b>{}</b>right on {} validation images{}</div>{}<div><b>{}</b>training images</div>\
             <div><b>{:.1} s</b>in all</div></div>",
            percent(self.val.accuracy),
            self.val.images,
            between(&self.val),
            match self.linear {
                Some(_) => String::new(),
                None => format!("<div><b>{} of {}</b>epoch kept</div>", self.best.epoch, self.epochs.len()),
            },
            self.train.images,
            self.seconds.values().sum::<f64>()
        )?;
        if self.linear.is_none() {
            write!(out, "<p class=\"soft\">Epoch {} is kept: {}.</p>", self.best.epoch, self.best_reason)?;
        }
        let Some(val) = &self.val_views else { return Ok(()) };
        write!(out, "<p>With the probabilities of {} averaged: ", val.views)?;
        if let Some(test) = &self.test_views {
            write!(out, "{} right on the test images, ", percent(test.measured.accuracy))?;
        }
        write!(out, "{} on the validation images.</p>", percent(val.measured.accuracy))
    }

    fn charts(&self, out: &mut String) -> std::fmt::Result {
        out.push_str("<h2>Epoch by epoch</h2><div class=\"charts\">");
        let series = |of: fn(&EpochRow) -> f64| self.epochs.iter().map(of).collect::<Vec<_>>();
        chart(out, "Loss", &series(|row| row.train_loss), &series(|row| row.val_loss), false)?;
        chart(out, "Accuracy", &series(|row| row.train_accuracy), &series(|row| row.val_accuracy), true)?;
        out.push_str(
            "</div><p class=\"soft\"><span style=\"color:var(--train)\">■</span> training, on augmented \
             images while learning &nbsp; <span style=\"color:var(--val)\">■</span> validation</p>",
        );
        Ok(())
    }

    fn epoch_table(&self, out: &mut String) -> std::fmt::Result {
        out.push_str(
            "<div class=\"wide\"><table><thead><tr><th>epoch<th>train loss<th>train accuracy<th>val loss\
             <th>val accuracy<th>rate<th>images/s</thead><tbody>",
        );
        for row in &self.epochs {
            write!(
                out,
                "<tr{}><td>{}<td>{:.4}<td>{:.4}<td>{:.4}<td>{:.4}<td>{:.2e}<td>{:.0}",
                if row.epoch == self.best.epoch { " class=\"best\"" } else { "" },
                row.epoch,
                row.train_loss,
                row.train_accuracy,
                row.val_loss,
                row.val_accuracy,
                row.lr,
                row.images_per_second
            )?;
        }
        out.push_str("</tbody></table></div>");
        Ok(())
    }

    fn stage_table(&self, out: &mut String) -> std::fmt::Result {
        out.push_str(
            "<h2>Stage by stage</h2><p class=\"soft\">A linear head on the features of each stage and on all of \
             them, compared by cross-validation inside the training images</p><div class=\"wide\"><table><thead>\
             <tr><th>features of<th>numbers<th>C<th>cross-validated<th>validation",
        );
        out.push_str(if self.heads.is_some() { "<th>counts</thead><tbody>" } else { "</thead><tbody>" });
        for row in &self.stages {
            write!(
                out,
                "<tr{}><td>{}<td>{}<td>{:.3e}<td>{}<td>{}",
                if row.chosen && row.share.is_none() { " class=\"best\"" } else { "" },
                escape(&row.stages.join(", ")),
                row.features,
                row.c,
                row.cv_accuracy.map(percent).unwrap_or_default(),
                percent(row.val_accuracy)
            )?;
            if let Some(share) = row.share {
                write!(out, "<td>{share:.2}")?;
            }
        }
        out.push_str("</tbody></table></div>");
        Ok(())
    }

    fn classes_of(&self, out: &mut String, what: &str, measured: &Measured) -> std::fmt::Result {
        let matrix = measured.confusion.as_ref().filter(|matrix| matrix.len() <= MATRIX_CLASSES);
        let Some(matrix) = matrix else { return self.mistakes(out, what, measured) };
        write!(
            out,
            "<h2>Confusions</h2><p class=\"soft\">{what} images: a row a true class, a column a \
             prediction</p><div class=\"wide\"><table class=\"matrix\"><thead><tr><th>"
        )?;
        for class in &self.classes {
            write!(out, "<th>{}", escape(class))?;
        }
        out.push_str("<th>right</thead><tbody>");
        for (truth, (class, row)) in self.classes.iter().zip(matrix).enumerate() {
            write!(out, "<tr><th>{}", escape(class))?;
            let total = row.iter().sum::<u64>().max(1);
            for (prediction, &count) in row.iter().enumerate() {
                let share = count as f64 / total as f64;
                let colour = if truth == prediction { "var(--val)" } else { "var(--train)" };
                let shown = if count == 0 { String::new() } else { count.to_string() };
                // A single mistake among many images must remain visible.
                let least = if truth != prediction && count > 0 { 12. } else { 0. };
                write!(
                    out,
                    "<td style=\"background:color-mix(in srgb,{colour} {:.0}%,transparent)\">{shown}",
                    least + share * 60.
                )?;
            }
            let recall = measured.recall.get(class).copied().flatten();
            write!(out, "<td>{}", recall.map(percent).unwrap_or_default())?;
        }
        out.push_str("</tbody></table></div>");
        Ok(())
    }

    fn mistakes(&self, out: &mut String, what: &str, measured: &Measured) -> std::fmt::Result {
        write!(
            out,
            "<h2>The most frequent mistakes</h2><p class=\"soft\">{what} images</p><table><thead><tr><th>is\
             <th>was taken for<th>times</thead><tbody>"
        )?;
        for mistaken in measured.mistakes.iter().take(MISTAKES) {
            let (truth, prediction) = (escape(&mistaken.truth), escape(&mistaken.prediction));
            write!(out, "<tr><td>{truth}<td>{prediction}<td>{}", mistaken.images)?;
        }
        out.push_str("</tbody></table>");
        Ok(())
    }

    fn rest(&self, out: &mut String) -> std::fmt::Result {
        out.push_str("<h2>How</h2><p>");
        match self.frozen.stages.split_first() {
            None => out.push_str("Every stage was trained."),
            Some((first, rest)) => write!(
                out,
                "Frozen, and the same afterwards to the last bit: <code>{}</code>{}.",
                escape(first),
                rest.last().map(|last| format!(" to <code>{}</code>", escape(last))).unwrap_or_default()
            )?,
        }
        out.push_str("</p>");
        if !self.passes.is_empty() {
            out.push_str("<table><thead><tr><th>stages<th>images<th>passes</thead><tbody>");
            for ForwardCount { part, stages, images, times } in &self.passes {
                write!(out, "<tr><td>{}<td>{images} {part}<td>{times}", escape(stages))?;
            }
            out.push_str("</tbody></table>");
        }
        out.push_str("<table><thead><tr><th>phase<th>seconds</thead><tbody>");
        for phase in PHASES {
            if let Some(seconds) = self.seconds.get(phase) {
                write!(out, "<tr><td>{phase}<td>{seconds:.1}")?;
            }
        }
        out.push_str("</tbody></table></html>\n");
        Ok(())
    }
}

/// Two lines over the epochs; accuracies have the axis from 0 to 1.
fn chart(out: &mut String, title: &str, train: &[f64], val: &[f64], share: bool) -> std::fmt::Result {
    const WIDTH: f64 = 400.;
    const HEIGHT: f64 = 200.;
    const LEFT: f64 = 36.;
    const BOTTOM: f64 = 20.;
    let greatest = train.iter().chain(val).copied().fold(0., f64::max);
    let top = if share { 1. } else { greatest.max(1e-9) * 1.05 };
    let x = |epoch: usize| LEFT + (WIDTH - LEFT - 8.) * epoch as f64 / (train.len() - 1).max(1) as f64;
    let y = |value: f64| 8. + (HEIGHT - BOTTOM - 8.) * (1. - value / top);
    write!(
        out,
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title} by epoch\">"
    )?;
    for tick in 0..=4 {
        let value = top * f64::from(tick) / 4.;
        let height = y(value);
        write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"var(--line)\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.2}</text>",
            LEFT - 4.,
            height + 4.
        )?;
    }
    for (values, colour) in [(train, "var(--train)"), (val, "var(--val)")] {
        let points: String =
            values.iter().enumerate().map(|(i, &value)| format!("{:.1},{:.1} ", x(i), y(value))).collect();
        write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.trim_end()
        )?;
    }
    write!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\">1</text><text x=\"{}\" y=\"{}\" text-anchor=\"end\">epoch {}</text></svg></figure>",
        HEIGHT - 4.,
        WIDTH - 8.,
        HEIGHT - 4.,
        train.len()
    )
}

/// The confidence interval of an accuracy, in words.
fn between(measured: &Measured) -> String {
    let Interval(low, high) = measured.interval;
    format!(
        "<br><span class=\"soft\" title=\"Wilson's 95 % interval\">{:.0} to {:.0} % (95 % sure)</span>",
        low * 100.,
        high * 100.
    )
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.)
}

/// Escapes text for HTML: class and file names may contain anything.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
