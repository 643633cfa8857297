//! The table of classes, worst first.

use maud::{Markup, html};

use super::html::percent;
use crate::stats::figures::Figures;
use crate::stats::per_class::ClassRow;
use crate::stats::significance::Interval;
use crate::text::words::counted;

/// Rows that are open; the others unfold.
const OPEN: usize = 40;

pub(super) fn section(figures: &Figures, trained_on: &[usize], part: &str) -> Markup {
    let mut rows: Vec<(usize, &ClassRow)> = figures.per_class.iter().enumerate().collect();
    // What has neither images nor answers says nothing, and comes last.
    rows.sort_by(|(_, a), (_, b)| a.f1.unwrap_or(2.).total_cmp(&b.f1.unwrap_or(2.)));
    let (open, more) = rows.split_at(rows.len().min(OPEN));
    html! {
        h2 #classes { "Classes, worst first" }
        p.soft {
            "Found: the share of a class's " (part) " images that were recognised (recall). Right: the share of the \
             answers with this class that were right (precision). F1 is their harmonic mean; the line in a bar is its \
             95 % interval."
        }
        (table(open, trained_on))
        @if !more.is_empty() {
            details {
                summary { (counted(more.len(), "more class", "more classes")) }
                (table(more, trained_on))
            }
        }
    }
}

fn table(rows: &[(usize, &ClassRow)], trained_on: &[usize]) -> Markup {
    let known = !trained_on.is_empty();
    html! {
        .wide {
            table.classes {
                thead {
                    tr {
                        th { "class" } th { "F1" } th { "found" } th { "right" } th { "images" }
                        @if known { th { "learnt from" } }
                    }
                }
                tbody {
                    @for (class, row) in rows {
                        tr {
                            td { (row.class) }
                            td { (bar(row)) }
                            (share(row.recall, row.recall_interval))
                            (share(row.precision, row.precision_interval))
                            td { (row.images) }
                            @if known { td { (trained_on.get(*class).copied().unwrap_or(0)) } }
                        }
                    }
                }
            }
        }
    }
}

fn share(value: Option<f64>, interval: Option<Interval>) -> Markup {
    let between = interval.map(|Interval(low, high)| format!("{:.0} to {:.0} %", low * 100., high * 100.));
    html! { td title=[between] { (value.map(percent).unwrap_or_default()) } }
}

fn bar(row: &ClassRow) -> Markup {
    let (Some(f1), Some(Interval(low, high))) = (row.f1, row.f1_interval) else { return html! {} };
    html! {
        (format!("{f1:.2}"))
        span.bar {
            b style=(format!("width:{:.0}%", f1 * 100.)) {}
            i style=(format!("left:{:.0}%;width:{:.0}%", low * 100., (high - low) * 100.)) {}
        }
    }
}
