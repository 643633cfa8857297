//! `method: race`: the candidates, and the settings that the winner will be trained with.

use serde::Serialize;

use super::defaults::passes_of_a_step;
use super::{Candidate, Data};
use crate::linear::folds;
use crate::models::Network;
use crate::recipe::{Method, Mistake, Recipe, Trains};
use crate::text::words::counted;
use crate::weights::source::{Source, Weights};

/// A third of the images is held out, so that two thirds are learnt from, in three times the work
/// of one split.
const FOLDS: usize = 3;
/// Counted as in [`RaceSettings::lines`], a race of four methods then takes about 53 passes, and
/// `full` in 30 epochs 90.
const EPOCHS: usize = 5;
/// With fewer steps than this, there are more epochs: a network that has hardly moved tells
/// nothing. On 160 training images of digits (development only, 7 steps an epoch) `full` was 5.6
/// points behind `stages` after 5 epochs, a clear difference, and level after 15; on 60 images it
/// was 33 points behind, and level.
const STEPS: usize = 100;

/// A race, resolved.
#[derive(Clone, Debug, Serialize)]
pub struct RaceSettings {
    /// Number of folds of the training images.
    pub folds: usize,
    /// Epochs of the methods with a training loop, all the same.
    pub epochs: usize,
    /// The candidates, the cheapest first, each with the settings of the winner's full training.
    pub methods: Vec<Candidate>,
}

/// The methods of the race, the cheapest first; those that cannot race go to `mistakes`.
pub(super) fn methods(
    recipe: &Recipe,
    source: Option<&Source>,
    probe: Option<&Network>,
    data: &Data,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Method> {
    let typed = &recipe.strategy.race;
    let mut methods = typed.methods.clone().unwrap_or_else(|| {
        // A model made by `stages` has its stages chosen, and may have lost those that `partial`
        // trains.
        let can = |method: &Method| match (method.trains(), probe) {
            (_, Some(probe)) if method.compares_stages() => probe.head_taps().is_empty(),
            (Trains::LastStages, Some(probe)) if recipe.strategy.train_from.is_none() => {
                probe.stages_named(probe.architecture.partial_from).is_ok()
            }
            _ => true,
        };
        Method::racing().filter(can).collect()
    });
    methods.sort_by_key(|method| method.cost());
    methods.dedup();
    if let [only] = methods[..] {
        let message =
            format!("a race takes two methods at least; `strategy: {{ method: {only} }}` trains this one");
        mistakes.push(recipe.mistake("strategy.race.methods", message));
    }
    if source.is_some_and(|source| matches!(source.weights, Weights::None)) {
        let message = "without pretrained weights (`weights: none`) there is nothing to race: the methods that keep \
                       stages would keep random ones. Take `method: scratch`";
        mistakes.push(recipe.mistake("strategy.method", message));
    }
    if !data.train.is_empty() && folds(&data.counts(), FOLDS).is_none() {
        mistakes.push(recipe.mistake("strategy.method", SINGLE));
    }
    methods
}

/// Why images of one a class cannot race.
pub const SINGLE: &str = "a race holds images out, and no class has two images to train on: add images, or choose \
                          a method (`linear` for so few)";

/// The race of these methods, and notes on it.
pub(super) fn settings(
    recipe: &Recipe,
    methods: Vec<Candidate>,
    data: &Data,
    notes: &mut Vec<String>,
) -> RaceSettings {
    let typed = &recipe.strategy.race;
    let counts = data.counts();
    let folds_wanted = typed.folds.unwrap_or(FOLDS);
    let folds = folds(&counts, folds_wanted).unwrap_or(folds_wanted);
    let batch_size = methods.iter().find_map(|it| Some(it.train()?.batch_size)).unwrap_or(1);
    let steps = (data.train.len() * (folds - 1) / folds).div_ceil(batch_size).max(1);
    let wanted = typed.epochs.unwrap_or(EPOCHS.max(STEPS.div_ceil(steps)));
    let shortest =
        methods.iter().filter_map(|it| Some((it.train()?.epochs, it.method))).min_by_key(|it| it.0);
    let epochs = shortest.map_or(wanted, |(epochs, _)| wanted.min(epochs));
    if let (Some(typed), Some((_, method))) = (typed.epochs.filter(|&typed| typed > epochs), shortest) {
        notes.push(format!(
            "`race.epochs: {typed}` is more than `{method}` has in full: the race gives each method {epochs}"
        ));
    }
    if folds < folds_wanted {
        notes.push(format!(
            "the race has {folds} folds and not {folds_wanted}: no class has more than {}",
            counted(folds, "training image", "training images")
        ));
    }
    let alone = counts.iter().filter(|&&count| count == 1).count();
    if alone > 0 {
        notes.push(format!(
            "{} one training image alone, which the race learns from and does not hold out",
            counted(alone, "class has", "classes have")
        ));
    }
    RaceSettings { folds, epochs, methods }
}

impl RaceSettings {
    /// Its description in two lines for a person.
    pub fn lines(&self) -> [String; 2] {
        let names: Vec<String> = self.methods.iter().map(|it| it.method.to_string()).collect();
        // Features of all images are computed once, for all folds and for all methods that fit
        // heads.
        let passes = |it: &Candidate| passes_of_a_step(it.method) * self.learning();
        let features = if self.methods.iter().any(|it| it.linear().is_some()) { 1. } else { 0. };
        let measured = self.methods.iter().filter(|it| it.train().is_some()).count() as f64;
        let all = features + measured + self.methods.iter().map(passes).sum::<f64>();
        [
            format!(
                "race        {}: each learns from the other folds of the training images and is measured on one, for \
                 {} folds; the best is then trained in full",
                names.join(", "),
                self.folds
            ),
            format!(
                "            {}; together about as much as {} of the training images through the network",
                match measured > 0. {
                    true => format!(
                        "{} in each fold (`linear` and `stages` need one pass)",
                        counted(self.epochs, "epoch", "epochs")
                    ),
                    false => "one pass, without a training loop".into(),
                },
                counted(all.round() as usize, "pass", "passes")
            ),
        ]
    }

    /// The number of passes over the training images, of one method's learning in all folds.
    fn learning(&self) -> f64 {
        (self.folds - 1) as f64 * self.epochs as f64
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::models::{Fill, find};
    use crate::plan::{Overrides, Plan, ScheduleSettings, Training, Watch};
    use crate::weights::download::Silent;

    /// A race among all methods, on ten images of two classes.
    fn race(sets: &[&str]) -> (RaceSettings, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let rows: String = (0..10).map(|i| format!("{i}.png,{}\n", i % 2)).collect();
        (0..10).for_each(|i| std::fs::write(folder.path().join(format!("{i}.png")), "").unwrap());
        std::fs::write(folder.path().join("train.csv"), format!("path,label\n{rows}")).unwrap();
        let recipe = folder.path().join("r.yaml");
        let text =
            "model: resnet18\ndata: { train: train.csv, val: train.csv }\nstrategy: { method: race }\n";
        std::fs::write(&recipe, text).unwrap();
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        let watch = Watch { downloads: &Silent, measuring: &|_, _| Ok(()) };
        let plan = Plan::read(&recipe, &sets, &Overrides::default(), &watch).unwrap();
        match plan.settings.candidate.training {
            Training::Race { race } => (race, plan.notes),
            other => panic!("{other:?} is no race"),
        }
    }

    #[test]
    fn a_race_has_the_same_epochs_for_all_and_steps_enough() {
        // One step an epoch, and no more epochs than a full training has.
        let (found, _) = race(&[]);
        assert_eq!((found.folds, found.epochs), (3, 63));
        let methods: Vec<Method> = found.methods.iter().map(|it| it.method).collect();
        assert!(methods.iter().copied().eq(Method::racing()), "{methods:?}");
        assert_eq!(race(&["train.epochs=200", "train.batch_size=2"]).0.epochs, 34);
        assert_eq!(race(&["train.epochs=15"]).0.epochs, 15);
        assert_eq!(race(&["strategy.race.epochs=2"]).0.epochs, 2);
        let (found, notes) = race(&["strategy.race={ epochs: 20, folds: 9 }", "train.epochs=15"]);
        assert_eq!((found.folds, found.epochs), (5, 15));
        let notes = notes.join("\n");
        insta::assert_snapshot!(notes, @"
        `race.epochs: 20` is more than `partial` has in full: the race gives each method 15
        the race has 5 folds and not 9: no class has more than 5 training images
        ");
    }

    #[test]
    fn a_short_training_is_the_long_one_in_proportion_and_chooses_nothing() {
        let network = Network::new(find("resnet18").unwrap(), 2, Device::Cpu, Fill::Shapes).unwrap();
        let short = |sets: &[&str]| {
            let (found, _) = race(&[sets, &["train.epochs=30"]].concat());
            let full = found.methods.into_iter().find(|it| it.method == Method::Full);
            full.unwrap().train().unwrap().shortened(6, &network)
        };
        let found = short(&["train.schedule=step", "train.step_epochs=10", "train.early_stopping=3"]);
        assert_eq!((found.epochs, found.warmup_epochs, found.early_stopping), (6, 1, None));
        assert!(matches!(found.schedule, ScheduleSettings::Step { epochs: 2, .. }));
        let found = short(&["train.schedule=plateau", "train.unfreeze_epochs=5"]);
        assert!(matches!(found.schedule, ScheduleSettings::Constant));
        assert_eq!(found.unfreeze_epochs, 1);
        let from: Vec<usize> = found.groups.iter().map(|group| group.from_epoch).collect();
        assert_eq!(from, [5, 4, 3, 2, 1]);
    }
}
