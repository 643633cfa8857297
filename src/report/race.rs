//! Comparisons of methods, in `report.html`.

use maud::{Markup, html};
use serde::Serialize;

use super::html::{self, percent};
use crate::stats::significance::Interval;
use crate::strategy::Contest;
use crate::strategy::comparison::{Difference, MethodAnswers, Row, rows as compared};
use crate::text::words::counted;

/// Result of a race, for the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Race {
    /// Number of folds of the training images.
    pub folds: usize,
    /// Passes of the methods with a training loop.
    pub epochs: usize,
    /// Images held out, each once.
    pub images: usize,
    /// The methods, the best first; the first one is the winner.
    pub methods: Vec<Row>,
}

impl Race {
    /// Compares methods, given in the order of their cost: the more accurate wins, the cheaper one
    /// on a tie.
    pub fn of(mut outcomes: Vec<MethodAnswers>, folds: usize, epochs: usize) -> Self {
        // Stable, so that the cheaper of two equals stays first.
        outcomes.sort_by_key(|outcomes| std::cmp::Reverse(outcomes.right()));
        let images = outcomes.first().map_or(0, |winner| winner.right.len());
        Race { folds, epochs, images, methods: compared(&outcomes) }
    }

    /// The best method.
    pub fn winner(&self) -> Option<&Row> {
        self.methods.first()
    }

    /// Why the winner won, for the report's `reason`. No seconds: two runs of the same recipe say
    /// the same.
    pub fn reason(&self) -> String {
        let Some((winner, others)) = self.methods.split_first() else { return String::new() };
        let what = format!("won the race on {} held-out images: {:.4}", self.images, winner.accuracy);
        let others: Vec<String> = others.iter().map(Row::line).collect();
        format!("{what}; {}", others.join("; "))
    }

    /// A sentence on the methods that cannot be told from the winner, if any.
    pub fn note(&self) -> Option<String> {
        let winner = self.winner()?;
        let alike: Vec<&Row> = self.methods[1..].iter().filter(|row| row.is_alike()).collect();
        let name = |row: &&Row| match row.method.cost() < winner.method.cost() {
            true => format!("{}, which is cheaper", row.method),
            false => row.method.to_string(),
        };
        let names: Vec<String> = alike.iter().map(name).collect();
        (!alike.is_empty()).then(|| {
            format!(
                "the race cannot tell {} from {}: on other images the order may be another",
                winner.method,
                names.join("; ")
            )
        })
    }
}

/// The methods of a race, the best first.
pub(super) fn table(race: &Race) -> Markup {
    html! {
        h3 { "The race" }
        p.soft {
            "Each method learnt from " (race.folds - 1) " of " (race.folds) " folds of the training images, "
            (counted(race.epochs, "epoch", "epochs"))
            " in those with a training loop, and was measured on the other; " (race.images)
            " held-out images in all. " (INTERVALS)
        }
        (rows("less the winner's", &race.methods))
    }
}

/// Two methods on the validation images, the one that is kept first.
pub(super) fn contest(contest: &Contest) -> Markup {
    let what = match (contest.methods.len(), contest.partner()) {
        (1, _) => "The other one was not trained: the reason above says why.",
        (_, None) => "The upper one is kept.",
        (_, Some(_)) => "The upper one counts more.",
    };
    let shares = match (contest.partner(), &contest.shares[..]) {
        (Some(_), &[first, second]) => Some((first, second)),
        _ => None,
    };
    html! {
        h3 { "Two methods" }
        p.soft {
            "On the " (counted(contest.images, "validation image", "validation images")) ", each alone. "
            (what) " " (INTERVALS)
        }
        (rows("less the upper one's", &contest.methods))
        @if let Some((first, second)) = shares {
            p {
                "Both are kept, and their answers averaged: the upper one counts " (format!("{first:.2}"))
                ", the other one " (format!("{second:.2}")) "."
            }
        }
        @if let [kept, other] = contest.compared_by[..] {
            p.soft {
                "Their mean losses on these images are " (format!("{kept:.4}")) " and " (format!("{other:.4}"))
                " nats. What each counts is its most probable weight in a mixture of the two."
            }
        }
    }
}

const INTERVALS: &str = "Intervals are at 95 %; a difference whose interval holds 0 is not told apart.";

fn rows(difference: &str, methods: &[Row]) -> Markup {
    let columns = ["method", "accuracy", "interval", difference, "interval", "seconds"];
    let cells = |row: &Row| {
        let Interval(low, high) = row.interval;
        let [difference, between] = match row.difference {
            None => [String::new(), String::new()],
            Some(Difference { mean, interval: Interval(low, high), .. }) => [
                format!("{:+.1} %", mean * 100.),
                format!(
                    "{:+.1} to {:+.1} %{}",
                    low * 100.,
                    high * 100.,
                    if row.is_alike() { ", not told apart" } else { "" }
                ),
            ],
        };
        let interval = format!("{} to {}", percent(low), percent(high));
        let seconds = format!("{:.1}", row.seconds);
        vec![row.method.to_string(), percent(row.accuracy), interval, difference, between, seconds]
    };
    html::table(&columns, methods.iter().enumerate().map(|(place, row)| (place == 0, cells(row))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Method;

    fn outcomes(method: Method, right: &str) -> MethodAnswers {
        MethodAnswers { method, right: right.chars().map(|c| c == '1').collect(), seconds: 1. }
    }

    #[test]
    fn the_most_accurate_wins_and_of_equals_the_cheaper() {
        let race = |rows: &[(Method, &str)]| {
            Race::of(rows.iter().map(|(method, right)| outcomes(*method, right)).collect(), 3, 5)
        };
        let found = race(&[(Method::Linear, "1100"), (Method::Partial, "1110"), (Method::Full, "0111")]);
        let order: Vec<Method> = found.methods.iter().map(|row| row.method).collect();
        assert_eq!(order, [Method::Partial, Method::Full, Method::Linear]);
        assert_eq!(found.images, 4);
        assert_eq!(found.methods[0].difference, None);
        assert_eq!(found.methods[2].difference.unwrap().mean, -0.25);
        assert!(found.methods[2].is_alike());
        assert_eq!(
            found.note().unwrap(),
            "the race cannot tell partial from full; linear, which is cheaper: on other images the order may be another"
        );
        let (all, none) = ("1".repeat(60), "0".repeat(60));
        let found = race(&[(Method::Linear, &none), (Method::Full, &all)]);
        assert_eq!(found.winner().unwrap().method, Method::Full);
        assert!(!found.methods[1].is_alike() && found.note().is_none());
        assert!(found.reason().starts_with("won the race on 60 held-out images: 1.0000; linear -1.0000 ("));
    }
}
