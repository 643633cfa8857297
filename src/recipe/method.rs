//! The methods, a row each, with the properties that distinguish them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The method of a run, `strategy.method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Chosen by size and similarity.
    Auto,
    /// A linear classifier on the top features.
    Linear,
    /// Linear classifiers on features of different stages.
    Stages,
    /// The last stages are fine-tuned.
    Partial,
    /// All stages are fine-tuned.
    Full,
    /// All stages are trained from random weights.
    Scratch,
    /// Several of these are measured against each other, and the best is taken.
    Race,
}

/// Which stages a method trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trains {
    /// None: a head is fitted to features.
    Head,
    /// Those from `strategy.train_from` on.
    LastStages,
    /// All of them.
    AllStages,
}

/// Properties of a method.
struct Row {
    method: Method,
    name: &'static str,
    trains: Trains,
    /// Whether it begins with random values instead of the source's.
    from_random: bool,
    /// Whether it compares features of several stages.
    compares_stages: bool,
    /// Whether it is in a race unless the recipe says otherwise.
    races: bool,
}

impl Row {
    const fn new(method: Method, name: &'static str, trains: Trains) -> Row {
        Row { method, name, trains, from_random: false, compares_stages: false, races: false }
    }
}

/// All methods, in the order of the enum and of their cost.
const ROWS: [Row; 7] = [
    Row::new(Method::Auto, "auto", Trains::Head),
    Row { races: true, ..Row::new(Method::Linear, "linear", Trains::Head) },
    Row { races: true, compares_stages: true, ..Row::new(Method::Stages, "stages", Trains::Head) },
    Row { races: true, ..Row::new(Method::Partial, "partial", Trains::LastStages) },
    Row { races: true, ..Row::new(Method::Full, "full", Trains::AllStages) },
    Row { from_random: true, ..Row::new(Method::Scratch, "scratch", Trains::AllStages) },
    Row::new(Method::Race, "race", Trains::Head),
];

/// The words of `strategy.method`.
pub(super) const NAMES: [&str; ROWS.len()] = names();

const fn names() -> [&'static str; ROWS.len()] {
    let mut names = [""; ROWS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ROWS[at].name;
        at += 1;
    }
    names
}

impl Method {
    /// The order of cost, and of how much of the network moves.
    pub fn cost(self) -> usize {
        self as usize
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Which stages it trains. Those of `auto` and `race` are the chosen method's.
    pub fn trains(self) -> Trains {
        self.row().trains
    }

    /// Whether it has a training loop.
    pub fn is_by_gradient(self) -> bool {
        self.trains() != Trains::Head
    }

    /// Whether it begins with random values, whatever the weights.
    pub fn is_from_random(self) -> bool {
        self.row().from_random
    }

    /// Whether it compares features of several stages.
    pub fn compares_stages(self) -> bool {
        self.row().compares_stages
    }

    /// The methods of a race for which the recipe names none, the cheapest first.
    pub fn racing() -> impl Iterator<Item = Method> {
        ROWS.iter().filter(|row| row.races).map(|row| row.method)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_enum_and_have_its_names() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(row.method as usize, place);
            assert_eq!(serde_json::to_value(row.method).unwrap(), row.name);
        }
        assert_eq!(ROWS.len(), Method::Race as usize + 1);
    }
}
