//! `method: race`: what is measured against what, and what the winner will be trained with.

use serde::Serialize;

use super::{Data, LinearSettings, ScheduleSettings, Settings, TrainSettings};
use crate::models::Network;
use crate::preprocess::Augmentation;
use crate::recipe::{Method, Mistake, Recipe};
use crate::strategy::race::usable;
use crate::trainer;
use crate::weights::source::{Source, Weights};
use crate::wording::counted;

/// A third of the images is held out, so that two thirds are learnt from, in three times the work of one split.
const FOLDS: usize = 3;
/// Enough for the methods to separate on the development tasks of `docs/strategy.md`, and a third of `partial`'s.
const EPOCHS: usize = 5;
/// What races unless the recipe says otherwise: the table's four corners.
const METHODS: [Method; 4] = [Method::Linear, Method::Stages, Method::Partial, Method::Full];

/// A race, resolved.
#[derive(Clone, Debug, Serialize)]
pub struct RaceSettings {
    /// Into how many folds the training images are cut.
    pub folds: usize,
    /// Passes of the methods with a training loop, all the same.
    pub epochs: usize,
    /// What is measured, the cheapest first, each with the settings that the winner will have in full.
    pub methods: Vec<Entrant>,
}

/// A method with all that it decides.
#[derive(Clone, Debug, Serialize)]
pub struct Entrant {
    /// How much of the network is trained, and how.
    pub method: Method,
    /// Stages that keep their weights and running statistics.
    pub frozen_stages: Vec<String>,
    /// Stages that are trained, besides the head.
    pub trained_stages: Vec<String>,
    /// For `linear` and `stages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear: Option<LinearSettings>,
    /// For the methods that train by gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainSettings>,
    /// Random changes to training images, where the method uses them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augmentation>,
}

impl Entrant {
    /// Nothing, until a race has said more.
    pub(super) fn unknown(method: Method) -> Self {
        Entrant {
            method,
            frozen_stages: Vec::new(),
            trained_stages: Vec::new(),
            linear: None,
            train: None,
            augment: None,
        }
    }
}

impl Settings {
    /// Makes the winner of a race what the run trains, as if the recipe had named it.
    pub fn adopt(&mut self, winner: Entrant, reason: String) {
        let Entrant { method, frozen_stages, trained_stages, linear, train, augment } = winner;
        if method == Method::Scratch {
            self.weights = "none".into();
        }
        self.reason = reason;
        (self.method, self.frozen_stages, self.trained_stages) = (method, frozen_stages, trained_stages);
        (self.linear, self.train, self.augment) = (linear, train, augment);
    }
}

impl TrainSettings {
    /// The same training in `epochs` epochs, for a race. Cuts of the rate and unfreezing come in proportion. Nothing
    /// looks at the images that are held out before the last epoch is done: there is no best epoch, no early stopping,
    /// and the rate that `plateau` would cut stays.
    pub fn shortened(&self, epochs: usize, network: &Network) -> TrainSettings {
        let share = |count: usize| (count * epochs + self.epochs / 2) / self.epochs.max(1);
        let mut short = TrainSettings {
            epochs,
            warmup_epochs: self.warmup_epochs.min(epochs / 4),
            unfreeze_epochs: share(self.unfreeze_epochs),
            schedule: match self.schedule {
                ScheduleSettings::Step { epochs, gamma } => {
                    ScheduleSettings::Step { epochs: share(epochs).max(1), gamma }
                }
                ScheduleSettings::Plateau { .. } => ScheduleSettings::Constant,
                other => other,
            },
            early_stopping: None,
            ..self.clone()
        };
        short.groups = trainer::groups(&short, network);
        short
    }
}

/// What races, the cheapest first; what cannot race goes to `mistakes`.
pub(super) fn methods(
    recipe: &Recipe,
    source: Option<&Source>,
    probe: Option<&Network>,
    data: &Data,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Method> {
    let typed = &recipe.strategy.race;
    let mut methods = typed.methods.clone().unwrap_or_else(|| {
        // A model that `stages` made has its stages chosen.
        let chosen = probe.is_some_and(|probe| !probe.head_readings().is_empty());
        METHODS.into_iter().filter(|&method| !(chosen && method == Method::Stages)).collect()
    });
    methods.sort_by_key(|method| method.cost());
    methods.dedup();
    if let [only] = methods[..] {
        let message = format!("a race takes two methods at least; `strategy: {{ method: {only} }}` trains this one");
        mistakes.push(recipe.mistake("strategy.race.methods", message));
    }
    if source.is_some_and(|source| matches!(source.weights, Weights::None)) {
        let message = "without pretrained weights (`weights: none`) there is nothing to race: the methods that keep \
                       stages would keep random ones. Take `method: scratch`";
        mistakes.push(recipe.mistake("strategy.method", message));
    }
    if !data.train.is_empty() && usable(&data.counts(), FOLDS).is_none() {
        mistakes.push(recipe.mistake("strategy.method", SINGLE));
    }
    methods
}

/// Why images of one a class cannot race.
pub const SINGLE: &str = "a race holds images out, and no class has two images to train on: add images, or choose \
                          a method (`linear` for so few)";

/// The race of these methods, and what is to be said of it.
pub(super) fn settings(recipe: &Recipe, methods: Vec<Entrant>, data: &Data, notes: &mut Vec<String>) -> RaceSettings {
    let typed = &recipe.strategy.race;
    let wanted = typed.epochs.unwrap_or(EPOCHS);
    let shortest = methods.iter().filter_map(|it| Some((it.train.as_ref()?.epochs, it.method))).min_by_key(|it| it.0);
    let epochs = shortest.map_or(wanted, |(epochs, _)| wanted.min(epochs));
    if let (Some(typed), Some((_, method))) = (typed.epochs.filter(|&typed| typed > epochs), shortest) {
        notes.push(format!(
            "`race.epochs: {typed}` is more than `{method}` has in full: the race gives each method {epochs}"
        ));
    }
    let counts = data.counts();
    let wanted = typed.folds.unwrap_or(FOLDS);
    let folds = usable(&counts, wanted).unwrap_or(wanted);
    if folds < wanted {
        notes.push(format!(
            "the race has {folds} folds and not {wanted}: no class has more than {}",
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
    /// What it will do, in two lines for a person.
    pub fn lines(&self) -> [String; 2] {
        let names: Vec<String> = self.methods.iter().map(|it| it.method.to_string()).collect();
        let passes = |it: &Entrant| match it.method {
            // Features of all images once, for all folds and for both methods.
            Method::Linear | Method::Stages => 0.,
            // A step is about three passes where all stages learn: forward, and twice as much backward.
            Method::Partial => 2. * self.learning(),
            _ => 3. * self.learning(),
        };
        let features = if self.methods.iter().any(|it| it.linear.is_some()) { 1. } else { 0. };
        let measured = self.methods.iter().filter(|it| it.train.is_some()).count() as f64;
        let all = features + measured + self.methods.iter().map(passes).sum::<f64>();
        [
            format!(
                "race        {}: each learns from the other folds of the training images and is measured on one, for \
                 {} folds; the best is then trained in full",
                names.join(", "),
                self.folds
            ),
            format!(
                "            {}; together about as much as {all:.0} passes of the training images through the network",
                match measured > 0. {
                    true => format!(
                        "{} in each fold (`linear` and `stages` need one pass)",
                        counted(self.epochs, "epoch", "epochs")
                    ),
                    false => "one pass, without a training loop".into(),
                }
            ),
        ]
    }

    /// How many times the training images are learnt from by a method, over all folds.
    fn learning(&self) -> f64 {
        (self.folds - 1) as f64 * self.epochs as f64
    }
}
