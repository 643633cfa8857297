//! Methods that were compared, in `report.html`.

use std::fmt::Write;

use super::html::percent;
use crate::strategy::race::{Difference, Row};
use crate::strategy::{Contest, Race};
use crate::wording::counted;

/// The methods of a race, the best first.
pub(super) fn table(race: &Race, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "<h2>The race</h2><p class=\"soft\">Each method learnt from {} of {} folds of the training images, {} in those \
         with a training loop, and was measured on the other; {} held-out images in all. Intervals are at 95 %; a \
         difference whose interval holds 0 is not told apart.</p><div class=\"wide\"><table><thead><tr><th>method\
         <th>accuracy<th>interval<th>less the winner's<th>interval<th>seconds</thead><tbody>",
        race.folds - 1,
        race.folds,
        counted(race.epochs, "epoch", "epochs"),
        race.images
    )?;
    rows(&race.methods, out)
}

/// Two methods on the validation images, the one that is kept first.
pub(super) fn contest(contest: &Contest, out: &mut String) -> std::fmt::Result {
    let what = match (contest.methods.len(), contest.beside()) {
        (1, _) => "The other one was not trained: the reason above says why.",
        (_, None) => "The upper one is kept.",
        (_, Some(_)) => "The upper one counts more.",
    };
    write!(
        out,
        "<h2>Two methods</h2><p class=\"soft\">On the {} validation images, each alone. {what} Intervals are at 95 %; a \
         difference whose interval holds 0 is not told apart.</p><div class=\"wide\"><table><thead><tr><th>method<th>accuracy\
         <th>interval<th>less the upper one's<th>interval<th>seconds</thead><tbody>",
        contest.images
    )?;
    rows(&contest.methods, out)?;
    if let (Some(_), &[first, second]) = (contest.beside(), &contest.shares[..]) {
        write!(
            out,
            "<p>Both are kept, and their answers averaged: the upper one counts {first:.2}, the other one {second:.2}.</p>"
        )?;
    }
    if let [kept, other] = contest.compared_by[..] {
        write!(
            out,
            "<p class=\"soft\">Their mean losses on these images are {kept:.4} and {other:.4} nats. What each counts is its most \
             probable weight in a mixture of the two.</p>"
        )?;
    }
    Ok(())
}

fn rows(methods: &[Row], out: &mut String) -> std::fmt::Result {
    for (place, row) in methods.iter().enumerate() {
        write!(
            out,
            "<tr{}><td>{}<td>{}<td>{} to {}",
            if place == 0 { " class=\"best\"" } else { "" },
            row.method,
            percent(row.accuracy),
            percent(row.interval.low),
            percent(row.interval.high)
        )?;
        match row.difference {
            None => out.push_str("<td><td>"),
            Some(Difference { mean, interval }) => write!(
                out,
                "<td>{:+.1} %<td>{:+.1} to {:+.1} %{}",
                mean * 100.,
                interval.low * 100.,
                interval.high * 100.,
                if row.is_alike() { ", not told apart" } else { "" }
            )?,
        }
        write!(out, "<td>{:.1}", row.seconds)?;
    }
    out.push_str("</tbody></table></div>");
    Ok(())
}
