//! The confusion matrix, as a table with counts or, for many classes, as a drawing.

use maud::{Markup, html};

use crate::stats::metrics::Confusion;
use crate::text::words::counted;

/// With more classes than this their names and counts do not fit, and those that are taken for each
/// other are drawn together.
const WITH_COUNTS: usize = 20;
/// The classes with the most mistakes that are drawn.
const DRAWN: usize = 100;
/// The side of a cell, and the width of the names, in the drawing's own pixels.
const CELL: usize = 12;
const NAMES: usize = 150;
/// Letters of a name that fit.
const LETTERS: usize = 24;

/// The matrix of `confusion`, whose classes have the names `classes`.
pub(super) fn matrix(confusion: &Confusion, classes: &[String]) -> Markup {
    match classes.len() <= WITH_COUNTS {
        true => with_counts(confusion, classes),
        false => drawn(confusion, classes),
    }
}

fn with_counts(confusion: &Confusion, classes: &[String]) -> Markup {
    let recall = confusion.recall();
    html! {
        p.soft { "A row a true class, a column a prediction" }
        .wide {
            table.matrix {
                thead { tr { th {} @for class in classes { th { (class) } } th { "right" } } }
                tbody {
                    @for (truth, row) in confusion.matrix().iter().enumerate() {
                        tr {
                            th { (classes[truth]) }
                            @for (prediction, &count) in row.iter().enumerate() {
                                (cell(count, row.iter().sum(), truth == prediction))
                            }
                            td { (recall[truth].map(super::html::percent).unwrap_or_default()) }
                        }
                    }
                }
            }
        }
    }
}

/// A cell of a row with `total` images.
fn cell(count: u64, total: u64, right: bool) -> Markup {
    html! {
        td style=[(count > 0).then(|| format!("background:{}", colour(count, total, right)))] {
            @if count > 0 { (count) }
        }
    }
}

fn colour(count: u64, total: u64, right: bool) -> String {
    let share = count as f64 / total.max(1) as f64;
    let colour = if right { "var(--good)" } else { "var(--bad)" };
    // A single mistake among many images must remain visible.
    let least = if right { 0. } else { 15. };
    format!("color-mix(in srgb,{colour} {:.0}%,transparent)", least + share * 60.)
}

fn drawn(confusion: &Confusion, classes: &[String]) -> Markup {
    let shown = with_most_mistakes(confusion, classes.len());
    let order = together(confusion, shown);
    let mut totals = vec![0; classes.len()];
    confusion.pairs().for_each(|(truth, _, count)| totals[truth] += count);
    let mut place = vec![None; classes.len()];
    order.iter().enumerate().for_each(|(at, &class)| place[class] = Some(at));
    let cells = confusion.pairs().filter_map(|(truth, prediction, count)| {
        Some((place[truth]?, place[prediction]?, truth, prediction, count))
    });
    let side = order.len() * CELL;
    html! {
        p.soft {
            "A row a true class, a column a prediction in the same order; classes that are taken for each other are \
             neighbours."
            @if order.len() < classes.len() {
                " The " (order.len()) " classes with the most mistakes, of "
                (counted(classes.len(), "class", "classes")) "."
            }
        }
        .wide {
            svg.drawn viewBox=(format!("0 0 {} {side}", NAMES + side)) style=(format!("min-width:{}px", (NAMES + side) * 3 / 4)) role="img" aria-label="confusion matrix" {
                @for (at, &class) in order.iter().enumerate() {
                    text x=(NAMES - 6) y=(at * CELL + CELL - 3) text-anchor="end" { (short(&classes[class])) }
                }
                rect x=(NAMES) y="0" width=(side) height=(side) fill="none" stroke="var(--line)" {}
                @for (row, column, truth, prediction, count) in cells {
                    rect x=(NAMES + column * CELL) y=(row * CELL) width=(CELL) height=(CELL)
                        style=(format!("fill:{}", colour(count, totals[truth], truth == prediction))) {
                        title {
                            (classes[truth])
                            @if truth != prediction { " taken for " (classes[prediction]) }
                            ": " (count) " of " (totals[truth])
                        }
                    }
                }
            }
        }
    }
}

fn short(name: &str) -> String {
    match name.chars().count() > LETTERS {
        false => name.into(),
        true => name.chars().take(LETTERS - 1).chain(['…']).collect(),
    }
}

/// The classes that take part in the most mistakes, in their own order.
fn with_most_mistakes(confusion: &Confusion, classes: usize) -> Vec<usize> {
    let mut mistakes = vec![0; classes];
    for (truth, prediction, count) in confusion.pairs().filter(|(truth, prediction, _)| truth != prediction) {
        mistakes[truth] += count;
        mistakes[prediction] += count;
    }
    let mut order: Vec<usize> = (0..classes).collect();
    order.sort_by_key(|&class| (std::cmp::Reverse(mistakes[class]), class));
    order.truncate(DRAWN);
    order.sort_unstable();
    order
}

/// Orders classes so that those that are often confused are neighbours: the leaves of an average
/// linkage of their mutual confusions, joined end to end.
fn together(confusion: &Confusion, classes: Vec<usize>) -> Vec<usize> {
    let count = classes.len();
    let mut between = vec![vec![0.; count]; count];
    for (truth, prediction, images) in confusion.pairs() {
        let places = (classes.binary_search(&truth), classes.binary_search(&prediction));
        if let (Ok(a), Ok(b)) = places
            && a != b
        {
            between[a][b] += images as f64;
            between[b][a] += images as f64;
        }
    }
    let mut groups: Vec<Vec<usize>> = (0..count).map(|place| vec![place]).collect();
    let linkage = |a: &[usize], b: &[usize]| {
        let sum: f64 =
            a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b))).map(|(a, b)| between[a][b]).sum();
        sum / (a.len() * b.len()) as f64
    };
    // What is never confused stays in its order behind the rest.
    while let Some((a, b)) = closest(&groups, linkage) {
        let joined = groups.remove(b);
        groups[a].extend(joined);
    }
    groups.into_iter().flatten().map(|place| classes[place]).collect()
}

/// The two groups with the greatest linkage above 0; the first on ties.
fn closest(groups: &[Vec<usize>], linkage: impl Fn(&[usize], &[usize]) -> f64) -> Option<(usize, usize)> {
    let mut best = (0., None);
    for b in 1..groups.len() {
        for a in 0..b {
            let near = linkage(&groups[a], &groups[b]);
            if near > best.0 {
                best = (near, Some((a, b)));
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confused(classes: usize, pairs: &[(usize, usize)]) -> Confusion {
        let mut confusion = Confusion::new(classes);
        (0..classes).for_each(|class| confusion.add(class, class));
        pairs.iter().for_each(|&(truth, prediction)| confusion.add(truth, prediction));
        confusion
    }

    #[test]
    fn confused_classes_are_neighbours() {
        let confusion = confused(6, &[(0, 4), (4, 0), (4, 5), (1, 3)]);
        assert_eq!(together(&confusion, (0..6).collect()), [0, 4, 5, 1, 3, 2]);
    }

    #[test]
    fn the_classes_with_the_most_mistakes_are_drawn() {
        let pairs: Vec<(usize, usize)> =
            (0..150).filter(|class| class % 3 != 0).map(|class| (class, 0)).collect();
        let shown = with_most_mistakes(&confused(150, &pairs), 150);
        assert_eq!(shown.len(), DRAWN);
        assert!(shown.is_sorted() && shown[0] == 0);
        assert!(shown[1..].iter().all(|class| class % 3 != 0));
    }

    #[test]
    fn names_are_escaped_and_shortened() {
        let names: Vec<String> = (0..30).map(|class| format!("<b>{}</b>{class}", "ü".repeat(40))).collect();
        let page = matrix(&confused(30, &[(1, 2)]), &names).into_string();
        assert!(!page.contains("<b>") && page.contains("ü…</text>"));
        assert_eq!(page.matches("<rect").count(), 32);
    }
}
