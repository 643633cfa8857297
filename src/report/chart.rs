//! A chart of two lines, as SVG.

use maud::{Markup, html};

const WIDTH: f64 = 400.;
const HEIGHT: f64 = 200.;
const LEFT: f64 = 36.;
const BOTTOM: f64 = 20.;
const MARGIN: f64 = 8.;

/// Two lines over the epochs; accuracies have the axis from 0 to 1.
pub(super) fn chart(title: &str, train: &[f64], val: &[f64], is_share: bool) -> Markup {
    let greatest = train.iter().chain(val).copied().fold(0., f64::max);
    let top = if is_share { 1. } else { greatest.max(1e-9) * 1.05 };
    let last = (train.len() - 1).max(1) as f64;
    let x = |epoch: usize| LEFT + (WIDTH - LEFT - MARGIN) * epoch as f64 / last;
    let y = |value: f64| MARGIN + (HEIGHT - BOTTOM - MARGIN) * (1. - value / top);
    let points = |values: &[f64]| -> String {
        let point = |(epoch, &value): (usize, &f64)| format!("{:.1},{:.1}", x(epoch), y(value));
        values.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
    };
    let ticks = (0..=4).map(|tick| top * f64::from(tick) / 4.);
    html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("{title} by epoch")) {
                @for value in ticks {
                    @let height = format!("{:.1}", y(value));
                    line x1=(LEFT) x2=(WIDTH) y1=(height) y2=(height) stroke="var(--line)" {}
                    text x=(LEFT - 4.) y=(format!("{:.1}", y(value) + 4.)) text-anchor="end" {
                        (format!("{value:.2}"))
                    }
                }
                polyline points=(points(train)) fill="none" stroke="var(--train)" stroke-width="2" {}
                polyline points=(points(val)) fill="none" stroke="var(--val)" stroke-width="2" {}
                text x=(LEFT) y=(HEIGHT - 4.) { "1" }
                text x=(WIDTH - MARGIN) y=(HEIGHT - 4.) text-anchor="end" { "epoch " (train.len()) }
            }
        }
    }
}
