//! Whether the model can be used: its confidences against the truth, and what is left to a person.

use maud::{Markup, html};

use super::calibration::BeforeAndAfter;
use super::html::{percent, table};
use crate::stats::confidence::{Answered, Bin};
use crate::stats::figures::Figures;

/// The share of right answers for which a threshold is recommended.
const AIM: f64 = 0.95;
/// Thresholds of the table.
const THRESHOLDS: [f32; 6] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.99];
/// The side of a drawing, and the room for its numbers.
const SIDE: f64 = 200.;
const LEFT: f64 = 34.;
const BOTTOM: f64 = 32.;

pub(super) fn section(figures: &Figures, part: &str, calibrated: Option<(f64, &BeforeAndAfter)>) -> Markup {
    let Some(all) = figures.coverage.last() else { return html! {} };
    html! {
        h2 #trust { "Can its answers be used?" }
        p { (advice(figures, all)) }
        .charts {
            figure { figcaption { "Leaving unsure answers to a person" } (coverage(figures)) }
            figure { figcaption { "How sure, and how often right" } (reliability(&figures.reliability)) }
        }
        p.soft {
            "Left: right answers among those at or above a confidence, from all (right end) to the surest alone. Right: \
             bars on the line mean that a confidence of 0.8 is right 8 times of 10; these are off by "
            (percent(figures.ece)) " on average (expected calibration error, " (part) " images)."
            @if let Some((temperature, BeforeAndAfter { before, .. })) = calibrated {
                " Confidences have a temperature of " (format!("{temperature:.2}")) ", fitted to the validation images; \
                 without it they would be off by " (percent(before.ece)) "."
            }
        }
        (thresholds(figures))
    }
}

/// The lowest threshold at which the aim is reached.
fn recommended(coverage: &[Answered]) -> Option<&Answered> {
    coverage.iter().rev().find(|point| point.accuracy >= AIM)
}

fn advice(figures: &Figures, all: &Answered) -> String {
    if all.accuracy >= AIM {
        return format!("Every answer can be taken: {} of them are right.", percent(all.accuracy));
    }
    match recommended(&figures.coverage) {
        Some(Answered { threshold, share, accuracy }) => format!(
            "Take answers with a confidence of {threshold:.2} or more: {} of the images, and {} of them right. The others \
             are for a person to look at.",
            percent(*share),
            percent(*accuracy)
        ),
        None => format!(
            "No confidence makes {:.0} of 100 answers right: somebody has to look at each.",
            AIM * 100.
        ),
    }
}

fn thresholds(figures: &Figures) -> Markup {
    let row = |threshold: f32| {
        // The curve is thinned: the next point at or above.
        let point = figures.coverage.iter().rev().find(|point| point.threshold >= threshold)?;
        let cells = [format!("{threshold}"), percent(point.share), percent(point.accuracy)];
        Some((false, cells.to_vec()))
    };
    html! {
        details {
            summary { "Thresholds" }
            (table(&["confidence at least", "answered", "right of them"], THRESHOLDS.into_iter().filter_map(row)))
        }
    }
}

fn x(share: f64) -> f64 {
    LEFT + (SIDE - LEFT) * share
}

fn y(share: f64) -> f64 {
    (SIDE - BOTTOM) * (1. - share) + 6.
}

/// The axes of a drawing whose sides are shares.
fn axes(below: &str, bottom: f64) -> Markup {
    html! {
        @for tick in 0..=4 {
            @let share = f64::from(tick) / 4.;
            @let height = format!("{:.1}", y(share));
            line x1=(LEFT) x2=(SIDE) y1=(height) y2=(height) stroke="var(--line)" {}
            text x=(LEFT - 4.) y=(format!("{:.1}", y(share) + 4.)) text-anchor="end" {
                (format!("{:.0}", (bottom + (1. - bottom) * share) * 100.)) "%"
            }
            @if tick % 2 == 0 {
                text x=(format!("{:.1}", x(share))) y=(SIDE - 12.) text-anchor=(if tick == 4 { "end" } else { "middle" }) {
                    (format!("{:.0}", share * 100.)) "%"
                }
            }
        }
        text x=(format!("{:.1}", x(0.5))) y=(SIDE) text-anchor="middle" { (below) }
    }
}

fn coverage(figures: &Figures) -> Markup {
    let least = figures.coverage.iter().map(|point| point.accuracy).fold(1., f64::min);
    // Only the upper part, where a good model's curve lies; four steps of 5 % or a multiple.
    let bottom = (least * 5.).floor().min(4.) / 5.;
    let height = |accuracy: f64| y((accuracy - bottom) / (1. - bottom));
    let point = |point: &Answered| format!("{:.1},{:.1}", x(point.share), height(point.accuracy));
    let points: Vec<String> = figures.coverage.iter().map(point).collect();
    html! {
        svg .small viewBox=(format!("-2 0 {} {}", SIDE + 8., SIDE + 4.)) role="img" aria-label="accuracy against the share answered" {
            (axes("answered", bottom))
            polyline points=(points.join(" ")) fill="none" stroke="var(--val)" stroke-width="2" {}
            @if let Some(at) = recommended(&figures.coverage) {
                circle cx=(format!("{:.1}", x(at.share))) cy=(format!("{:.1}", height(at.accuracy))) r="4" fill="var(--val)" {
                    title { "confidence " (format!("{:.2}", at.threshold)) }
                }
            }
        }
    }
}

fn reliability(bins: &[Bin]) -> Markup {
    let filled = bins.iter().filter_map(|bin| Some((bin, bin.accuracy?)));
    html! {
        svg .small viewBox=(format!("-2 0 {} {}", SIDE + 8., SIDE + 4.)) role="img" aria-label="reliability diagram" {
            (axes("confidence", 0.))
            @for (bin, accuracy) in filled {
                rect x=(format!("{:.1}", x(bin.low) + 0.5)) width=(format!("{:.1}", x(bin.high) - x(bin.low) - 1.))
                    y=(format!("{:.1}", y(accuracy))) height=(format!("{:.1}", y(0.) - y(accuracy)))
                    fill="var(--val)" fill-opacity="0.55" {
                    title { (bin.images) " images, right " (percent(accuracy)) }
                }
            }
            line x1=(x(0.)) y1=(y(0.)) x2=(x(1.)) y2=(y(1.)) stroke="var(--bad)" stroke-dasharray="4 3" {}
        }
    }
}
