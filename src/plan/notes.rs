//! Notes on recipes that are valid but unusual.

use super::fine_tuning;
use crate::recipe::Trains;
use crate::recipe::{
    BatchNormMode, Kind, Method, OptimizerChoice, PolicyChoice, Recipe, ScheduleChoice, find,
};
use crate::text::words::counted;
use crate::weights::source::{Source, Weights};

/// Keys that were given and are not used: each once, with the condition for its use. `taken`: the
/// head is the source's own.
pub(super) fn unused_keys(recipe: &Recipe, methods: &[Method], asked: Method, taken: bool) -> Vec<String> {
    let typed = &recipe.train;
    let schedule = typed.schedule.unwrap_or(ScheduleChoice::Cosine);
    let adamw = typed.optimizer == Some(OptimizerChoice::AdamW);
    let by_method = |method: Method| match asked {
        Method::Race => Some("method: race".into()),
        _ => Some(format!("method: {method}")),
    };
    let unused_by = |method: Method, key: &str| match (method, key) {
        (_, key) if find(key).is_some_and(|key| !key.users.include(method, asked)) => {
            match key.starts_with("strategy.race.") {
                true => Some(format!("method: {asked}")),
                false => by_method(method),
            }
        }
        // Folds choose nothing; `stages` are compared on them.
        (Method::Linear, "train.folds") => typed.c.map(|c| format!("c: {c}")),
        (method, _) if !method.is_by_gradient() => None,
        (_, key) if fine_tuning::KEYS.contains(&key) => fine_tuning::unused(recipe, method, key, taken),
        (_, "train.momentum" | "train.nesterov") if adamw => Some("optimizer: adamw".into()),
        (_, "train.step_epochs") if schedule != ScheduleChoice::Step => Some(format!("schedule: {schedule}")),
        (_, "train.patience") if schedule != ScheduleChoice::Plateau => Some(format!("schedule: {schedule}")),
        (_, "train.gamma") if !matches!(schedule, ScheduleChoice::Step | ScheduleChoice::Plateau) => {
            Some(format!("schedule: {schedule}"))
        }
        (_, "augment.scale" | "augment.ratio") if recipe.augment.random_resized_crop == Some(false) => {
            Some("random_resized_crop: false".into())
        }
        (_, "augment.scale" | "augment.ratio") if recipe.augment.scale_jitter.is_some() => {
            Some("scale_jitter".into())
        }
        (_, "augment.num_ops" | "augment.magnitude") => {
            let policy = recipe.augment.policy.unwrap_or(PolicyChoice::None);
            (policy != PolicyChoice::RandAugment).then(|| format!("policy: {policy}"))
        }
        _ => None,
    };
    recipe
        .given()
        // A section is reported by its keys.
        .filter(|key| find(key).is_none_or(|key| key.kind != Kind::Section))
        // A key used by one method of a race is used.
        .filter_map(|key| {
            let by: Option<Vec<String>> = methods.iter().map(|&method| unused_by(method, key)).collect();
            by?.pop().map(|by| {
                let by_default = by == fine_tuning::HEAD_AS_IT_IS && typed.linear_head_first.is_none();
                let why = if by_default { ", the default where the head is taken over" } else { "" };
                format!("`{key}` is not used by `{by}`{why}")
            })
        })
        .collect()
}

/// Settings that are allowed but seldom intended.
pub(super) fn warnings(recipe: &Recipe, source: &Source, method: Method) -> Vec<String> {
    let mut notes = Vec::new();
    let random = matches!(source.weights, Weights::None);
    if random && method.trains() != Trains::AllStages {
        notes.push(
            "`weights: none` with a method that freezes stages: they keep random values, and what they see \
             carries little; `method: scratch` trains them all"
                .into(),
        );
    }
    if method.is_from_random() && recipe.weights.as_deref().is_some_and(|weights| weights != "none") {
        notes.push(
            "`method: scratch` starts from random values: only the preprocessing of `weights` is used".into(),
        );
    }
    if let (Some(warmup), Some(epochs)) = (recipe.train.warmup_epochs, recipe.train.epochs)
        && method.is_by_gradient()
        && warmup >= epochs
    {
        notes.push(format!(
            "`warmup_epochs: {warmup}` takes all of {}: the learning rate never comes down",
            counted(epochs, "epoch", "epochs")
        ));
    }
    if recipe.train.batch_norm == Some(BatchNormMode::Inference) && method.is_from_random() {
        notes.push(
            "`batch_norm: inference` from scratch: the running statistics stay at their first values".into(),
        );
    }
    notes
}
