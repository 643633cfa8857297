//! A measurement as text for the terminal.

use unicode_width::UnicodeWidthStr;

use crate::report::eval::{EvalReport, Measured};
use crate::text::words::{counted, shown};

/// Classes and confusions that are shown.
const SHOWN: usize = 10;
/// Spaces between columns.
const GAP: &str = "  ";

/// The whole text.
pub fn text(report: &EvalReport) -> String {
    let mut text = String::new();
    match &report.models[..] {
        [model] => {
            text.push_str(&format!("{}\n\n", heading(report, model)));
            let cells = model.figures().into_iter().map(|(name, figure)| {
                let interval =
                    if name == "accuracy" { model.measured.interval.to_string() } else { String::new() };
                vec![name.to_string(), figure, interval]
            });
            text.push_str(&aligned(&cells.collect::<Vec<_>>(), 1));
            text.push_str(&classes(model));
            text.push_str(&confusions(model));
        }
        models => {
            let images = models.first().map_or(0, |model| model.measured.images);
            text.push_str(&format!("{} of {}\n\n", counted(images, "image", "images"), shown(&report.data)));
            text.push_str(&aligned(&beside(models), 1));
            text.push('\n');
            report.compared.iter().for_each(|it| text.push_str(&format!("{}\n", it.line())));
        }
    }
    text
}

fn heading(report: &EvalReport, model: &Measured) -> String {
    let with = model.measured.recall.values().flatten().count();
    format!(
        "{} on {} of {}: {}",
        shown(&model.model),
        counted(model.measured.images, "image", "images"),
        counted(with, "class", "classes"),
        shown(&report.data)
    )
}

/// A row a figure, a column a model.
fn beside(models: &[Measured]) -> Vec<Vec<String>> {
    let mut rows =
        vec![std::iter::once(String::new()).chain(models.iter().map(|it| shown(&it.model))).collect()];
    let figures: Vec<_> = models.iter().map(Measured::figures).collect();
    for (name, _) in figures.iter().flatten() {
        if rows.iter().any(|row: &Vec<String>| row[0] == *name) {
            continue;
        }
        let of = |figures: &Vec<(&str, String)>| {
            figures.iter().find(|(other, _)| other == name).map_or("-".into(), |(_, figure)| figure.clone())
        };
        rows.push(std::iter::once(name.to_string()).chain(figures.iter().map(of)).collect());
        if *name == "accuracy" {
            let interval = |it: &Measured| it.measured.interval.to_string();
            rows.push(std::iter::once(String::new()).chain(models.iter().map(interval)).collect());
        }
    }
    rows
}

/// The weakest classes.
fn classes(model: &Measured) -> String {
    let weakest = model.weakest();
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    let title = if weakest.len() > SHOWN { "weakest classes" } else { "classes" };
    let head = [title, "images", "precision", "recall", "F1"].map(String::from).to_vec();
    let row = |row: &&crate::stats::per_class::ClassRow| {
        let figures = [row.precision, row.recall, row.f1].map(number);
        [shown(&row.class), row.images.to_string()].into_iter().chain(figures).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(weakest.iter().take(SHOWN).map(row)).collect();
    format!("\n{}", aligned(&rows, 1))
}

/// The most frequent confusions.
fn confusions(model: &Measured) -> String {
    let mistakes = &model.measured.mistakes;
    if mistakes.is_empty() {
        return String::new();
    }
    let head = ["is", "was taken for", "times"].map(String::from).to_vec();
    let rows = mistakes.iter().take(SHOWN);
    let rows = rows.map(|it| vec![shown(&it.truth), shown(&it.prediction), it.images.to_string()]);
    format!("\n{}", aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), 2))
}

/// Lines of columns: `left` of them begin at the left, the others end at the right.
fn aligned(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.width())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let blank = " ".repeat(width - cell.width());
            if column < left { format!("{cell}{blank}") } else { format!("{blank}{cell}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}
