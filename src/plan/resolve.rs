//! From a recipe to a plan.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tch::Device;

use super::augment::augmentation;
use super::data::Data;
use super::defaults::{self, Defaults};
use super::race::{self, Entrant};
use super::strategy::{Decision, Watch};
use super::{
    DataSettings, LinearHeadSettings, LinearSettings, OptimizerSettings, Plan, ScheduleSettings, Settings,
    TrainSettings, fine_tuning,
};
use crate::device::{self, choose};
use crate::error::Result;
use crate::mixing::Mixing;
use crate::models::{Architecture, DEFAULT_SIDE, Fill, Network, Reading, Role};
use crate::preprocess::{DecodeLimits, Interpolation, Preprocessing, Views};
use crate::recipe::{
    BadImages, BatchNormMode, ClassWeights, DeviceChoice, InterpolationChoice, Kind, Method, Mistake,
    OptimizerChoice, PolicyChoice, PreprocessChoice, Recipe, ScheduleChoice, ValChoice, find,
};
use crate::run_folder::PLAN as PLAN_FILE;
use crate::weights::Head;
use crate::weights::download::Silent;
use crate::weights::source::{Opened, Source, Weights, preprocessing_by_tag};

/// What the command line adds to a recipe.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--out`
    pub out: Option<PathBuf>,
    /// `--device`
    pub device: Option<crate::recipe::DeviceChoice>,
    /// `--threads`
    pub threads: Option<usize>,
    /// `--resume`
    pub resume: bool,
}

/// Pillow refuses more than twice its warning limit of 89,478,485 pixels as a decompression bomb.
const MAX_PIXELS: u64 = 178_956_970;

impl Plan {
    /// Reads the recipe at `path` with `sets`, and resolves it. All mistakes come in one error.
    ///
    /// Where the method is open, the similarity of the images to the source data is measured, which may download
    /// the weights.
    pub fn read(path: &Path, sets: &[String], overrides: &Overrides, watch: &Watch) -> Result<Plan> {
        let (recipe, mistakes) = Recipe::read_leniently(path, sets)?;
        Plan::resolve(recipe, mistakes, overrides, watch)
    }

    fn resolve(
        recipe: Recipe,
        mut mistakes: Vec<Mistake>,
        overrides: &Overrides,
        watch: &Watch,
    ) -> Result<Plan> {
        let seed = recipe.seed.unwrap_or(0);
        let mut notes = Vec::new();
        let asked = recipe.strategy.method.unwrap_or(Method::Auto);
        let source = source(&recipe, asked, &mut mistakes);
        let mut opened = source.as_ref().and_then(|source| open(&recipe, source, &mut mistakes));
        let preprocessing =
            source.as_ref().and_then(|source| preprocessing(&recipe, source, opened.as_ref(), &mut mistakes));
        if let (Some(source), Some(opened), Some(preprocessing)) = (&source, &opened, &preprocessing) {
            check_weights(&recipe, source, opened, preprocessing, &mut mistakes);
        }
        let device = device(&recipe, overrides, &mut mistakes)?;
        let threads = overrides.threads.or(recipe.threads).unwrap_or_else(device::default_threads);
        let out = overrides.out.clone().unwrap_or_else(|| recipe.out_folder());
        let data = Data::list(&recipe, seed, threads, &mut mistakes, &mut notes);
        // Nothing is downloaded or measured for a recipe that has to be mended first.
        let mut decided = None;
        if let (Some(source), Some(preprocessing), true) = (&source, &preprocessing, mistakes.is_empty()) {
            let earlier = overrides.resume.then(|| out.join(PLAN_FILE));
            let decision = Decision {
                recipe: &recipe,
                source,
                preprocessing,
                data: &data,
                limits: DecodeLimits { max_pixels: recipe.data.max_pixels.unwrap_or(MAX_PIXELS) },
                seed,
                device,
                threads,
                earlier: earlier.as_deref(),
            };
            decided = Some(decision.make(asked, &mut opened, watch)?);
        }
        let method = match (&decided, asked) {
            (Some(decided), _) => decided.choice.method,
            (None, Method::Auto) => Method::Linear,
            (None, asked) => asked,
        };
        let mut probe = match (&source, &opened) {
            (_, Some(opened)) => Some(opened.network(2, DEFAULT_SIDE as u32, Device::Cpu, Fill::Shapes)?),
            (Some(source), None) => Some(Network::new(source.architecture, 2, Device::Cpu, Fill::Shapes)?),
            (None, None) => None,
        };
        let eval = preprocessing.as_ref().and_then(|preprocessing| {
            let name = source.as_ref().map_or("the network", |source| source.architecture.name);
            views(&recipe, name, preprocessing, &mut mistakes)
        });
        let methods = match method {
            Method::Race => race::methods(&recipe, source.as_ref(), probe.as_ref(), &data, &mut mistakes),
            method => vec![method],
        };
        let mut entrants = Vec::new();
        for &method in &methods {
            let (said, wrong) = (&mut notes, &mut mistakes);
            entrants.push(entrant(
                &recipe,
                method,
                &data,
                probe.as_mut(),
                preprocessing.as_ref(),
                said,
                wrong,
            )?);
        }
        let mut told: Vec<Mistake> = Vec::new();
        mistakes.retain(|mistake| {
            let new = !told.contains(mistake);
            told.extend(new.then(|| mistake.clone()));
            new
        });
        recipe.refuse(mistakes)?;
        let (Some(source), Some(preprocessing), Some(probe), Some(decided)) =
            (source, preprocessing, probe, decided)
        else {
            // Whatever is missing here has left a mistake behind, and mistakes have been refused.
            return Err(crate::Error::run("the plan is incomplete though no mistake was found"));
        };

        notes.extend(opened.iter().flat_map(Opened::warnings));
        if method != Method::Scratch {
            let side = preprocessing.crop_size;
            notes.extend(opened.as_ref().map_or_else(|| source.note(side), |opened| opened.note(side)));
        }
        notes.extend(data.imbalance().filter(|_| recipe.train.class_weights.is_none()));
        notes.extend(unused_keys(&recipe, &methods, asked));
        notes.extend(methods.iter().flat_map(|&method| warnings(&recipe, &source, method)));
        // The methods of a race may say the same.
        let mut said = HashSet::new();
        notes.retain(|note| said.insert(note.clone()));
        let race =
            (method == Method::Race).then(|| race::settings(&recipe, entrants.clone(), &data, &mut notes));
        let alone = if race.is_none() { entrants.pop() } else { None };
        let how = alone.unwrap_or_else(|| Entrant::unknown(method));
        drop(probe);
        let settings = Settings {
            model: source.architecture.name.into(),
            weights: describe(&recipe, &source, method),
            preprocessing,
            data: data_settings(&recipe, &data),
            strategy: decided.strategy,
            method,
            reason: match method {
                Method::Race => "the methods are measured before one is trained".into(),
                _ => decided.choice.reason,
            },
            frozen_stages: how.frozen_stages,
            trained_stages: how.trained_stages,
            race,
            linear: how.linear,
            train: how.train,
            augment: how.augment,
            eval,
            seed,
            device,
            threads,
            out,
        };
        Ok(Plan { settings, source, opened, data, notes, recipe, rate: decided.rate })
    }
}

/// All that a method decides, for the network that `probe` has the shape of.
fn entrant(
    recipe: &Recipe,
    method: Method,
    data: &Data,
    mut probe: Option<&mut Network>,
    preprocessing: Option<&Preprocessing>,
    notes: &mut Vec<String>,
    mistakes: &mut Vec<Mistake>,
) -> Result<Entrant> {
    let frozen = probe.as_ref().map_or(0, |probe| frozen(recipe, probe, method, mistakes));
    let read = probe.as_ref().map_or_else(Vec::new, |probe| read(recipe, probe, method, mistakes));
    let by_gradient = method.is_by_gradient();
    let augment = by_gradient.then(|| augmentation(recipe, preprocessing, mistakes));
    let fits_head = probe.as_ref().is_some_and(|probe| probe.holds_linear());
    let mut train = by_gradient.then(|| train(recipe, method, fits_head, data.train.len()));
    if let (Some(train), Some(probe)) = (&mut train, &mut probe) {
        probe.freeze(frozen)?;
        let changes = augment.as_ref().is_some_and(|augment| !augment.is_none());
        fine_tuning::resolve(recipe, method, changes, probe, train, notes);
        mistakes.extend(single_images(recipe, train, probe));
        if let Some(preprocessing) = preprocessing {
            let crop_size = preprocessing.crop_size;
            train.aux_weight = auxiliary_weight(recipe, probe, frozen, crop_size, notes, mistakes);
        }
    }
    let stages: Vec<String> =
        probe.iter().flat_map(|probe| probe.stage_names()).map(str::to_string).collect();
    Ok(Entrant {
        method,
        frozen_stages: stages[..frozen].to_vec(),
        trained_stages: stages[frozen..].to_vec(),
        linear: (!by_gradient).then(|| linear(recipe, read)),
        train,
        augment,
    })
}

/// The device that is there; a recipe's that is not is a mistake of the recipe.
fn device(recipe: &Recipe, overrides: &Overrides, mistakes: &mut Vec<Mistake>) -> Result<DeviceChoice> {
    let chosen = choose(overrides.device.or(recipe.device).unwrap_or_default());
    match chosen {
        Ok(Device::Cuda(index)) => Ok(DeviceChoice::Cuda(index)),
        Ok(_) => Ok(DeviceChoice::Cpu),
        Err(error) if overrides.device.is_some() => Err(error),
        Err(error) => {
            mistakes.push(recipe.mistake("device", error.to_string()));
            Ok(DeviceChoice::Cpu)
        }
    }
}

fn source(recipe: &Recipe, method: Method, mistakes: &mut Vec<Mistake>) -> Option<Source> {
    let model = recipe.model.as_deref()?;
    let weights = recipe.weights.as_deref();
    let mut source = match Source::resolve(model, weights, |path| recipe.resolve(path)) {
        Ok(source) => source,
        Err(message) => {
            // The weights are at fault when the model alone would do.
            let alone = Source::resolve(model, None, |path| recipe.resolve(path)).is_ok();
            mistakes.push(recipe.mistake(if alone { "weights" } else { "model" }, message));
            return None;
        }
    };
    if source.features_only() {
        mistakes.push(recipe.mistake("weights", source.features_only_refusal()));
        return None;
    }
    if method == Method::Scratch && weights.is_none() && matches!(source.weights, Weights::Entry(_)) {
        source.weights = Weights::None;
    }
    Some(source)
}

/// A file that is at hand is read now, so that one that does not fit is a mistake of the recipe and not
/// the end of a run.
fn open(recipe: &Recipe, source: &Source, mistakes: &mut Vec<Mistake>) -> Option<Opened> {
    if matches!(source.weights, Weights::Entry(_)) {
        return None;
    }
    source
        .open(&Silent)
        .map_err(|error| mistakes.push(recipe.mistake(key_of(source), error.to_string())))
        .ok()
}

/// The key that names the source's file.
fn key_of(source: &Source) -> &'static str {
    if matches!(source.weights, Weights::Model(_)) { "model" } else { "weights" }
}

/// Whether the file that was opened fits the network, at the size that the images will have.
fn check_weights(
    recipe: &Recipe,
    source: &Source,
    opened: &Opened,
    preprocessing: &Preprocessing,
    mistakes: &mut Vec<Mistake>,
) {
    if fits(source.architecture, preprocessing).is_err() {
        return;
    }
    if let Err(error) = opened.check(Head::Replace, preprocessing.crop_size) {
        mistakes.push(recipe.mistake(key_of(source), error.to_string()));
    }
}

fn preprocessing(
    recipe: &Recipe,
    source: &Source,
    opened: Option<&Opened>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Preprocessing> {
    let mut preprocessing = match (opened, &source.weights) {
        (Some(opened), _) => opened.preprocessing.clone(),
        (None, Weights::Entry(entry)) => entry.preprocessing.clone(),
        // A file that could not be read has left its mistake; the other keys are still worth checking.
        (None, _) => source.architecture.preprocessing(),
    };
    match &recipe.preprocess {
        None => {}
        Some(PreprocessChoice::Tag(tag)) => match preprocessing_by_tag(source.architecture, tag) {
            Ok(by_tag) => preprocessing = by_tag,
            Err(message) => {
                mistakes.push(recipe.mistake("preprocess", message));
                return None;
            }
        },
        Some(PreprocessChoice::Changes(changes)) => {
            // A crop alone would otherwise cut a corner-sized piece out of a much larger image, and a
            // resize alone would be padded: the one follows the other where only one is given.
            let (resize, crop) = (changes.resize_size, changes.crop_size);
            if let Some(size) = resize.or(crop) {
                preprocessing.resize_size = size as u32;
            }
            if let Some(size) = crop.or(resize) {
                preprocessing.crop_size = size as u32;
            }
            if let Some(choice) = changes.interpolation {
                preprocessing.interpolation = match choice {
                    InterpolationChoice::Bilinear => Interpolation::Bilinear,
                    InterpolationChoice::Bicubic => Interpolation::Bicubic,
                };
            }
            if let Some(mean) = changes.mean {
                preprocessing.mean = mean.map(|value| value as f32);
            }
            if let Some(std) = changes.std {
                preprocessing.std = std.map(|value| value as f32);
            }
        }
    }
    if let Err(message) = fits(source.architecture, &preprocessing) {
        mistakes.push(recipe.mistake("preprocess", message));
    }
    Some(preprocessing)
}

/// Whether the network can take images of this size.
pub fn fits(architecture: &Architecture, preprocessing: &Preprocessing) -> Result<(), String> {
    if let Some(mistake) = preprocessing.mistake() {
        return Err(mistake);
    }
    architecture.check_side(preprocessing.crop_size)
}

/// How many stages keep their weights.
fn frozen(recipe: &Recipe, network: &Network, method: Method, mistakes: &mut Vec<Mistake>) -> usize {
    match method {
        Method::Linear | Method::Stages => network.stage_count(),
        Method::Partial => {
            let from = recipe.strategy.train_from.as_deref().unwrap_or(network.architecture.partial_from);
            match network.stages_named(from) {
                Ok(stages) => stages.start,
                Err(error) => {
                    mistakes.push(recipe.mistake("strategy.train_from", error.to_string()));
                    0
                }
            }
        }
        _ => 0,
    }
}

/// The stages whose features `stages` compares.
fn read(recipe: &Recipe, network: &Network, method: Method, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    if method != Method::Stages {
        return Vec::new();
    }
    if !network.head_readings().is_empty() {
        mistakes.push(recipe.mistake(
            "strategy.method",
            "the model was made by `stages`, and its stages are chosen: `linear` fits a new head to them",
        ));
        return Vec::new();
    }
    let Some(typed) = &recipe.strategy.read else {
        return network.candidates().into_iter().map(|r| network.reading_name(r).to_string()).collect();
    };
    let mut readings = Vec::new();
    for name in typed {
        match network.reading(name) {
            Ok(Reading::Logits) => {
                mistakes
                    .push(recipe.mistake("strategy.read", "`logits` are behind the head: read `features`"));
            }
            Ok(reading) => readings.push(reading),
            Err(error) => mistakes.push(recipe.mistake("strategy.read", error.to_string())),
        }
    }
    readings.sort_by_key(|&reading| match reading {
        Reading::Stage(index) => index,
        _ => usize::MAX,
    });
    readings.dedup();
    readings.into_iter().map(|reading| network.reading_name(reading).to_string()).collect()
}

/// The views of the last measurement, unless they are the one that is measured anyhow.
fn views(
    recipe: &Recipe,
    network: &str,
    preprocessing: &Preprocessing,
    mistakes: &mut Vec<Mistake>,
) -> Option<Views> {
    let typed = &recipe.eval;
    let views =
        Views { crops: typed.crops.unwrap_or_default(), scales: typed.scales.clone().unwrap_or_default() };
    if let Some(message) = views.mistake(network, preprocessing) {
        let key = if typed.scales.is_some() { "eval.scales" } else { "eval.crops" };
        mistakes.push(recipe.mistake(key, message));
    }
    (!views.is_plain(preprocessing)).then(|| views.resolved(preprocessing))
}

fn describe(recipe: &Recipe, source: &Source, method: Method) -> String {
    match &source.weights {
        _ if method == Method::Scratch => "none".into(),
        // As typed: an absolute path would make the same run another one elsewhere.
        Weights::File(_) => recipe.weights.clone().unwrap_or_default(),
        Weights::Model(_) => recipe.model.clone().unwrap_or_default(),
        _ => source.describe(),
    }
}

fn data_settings(recipe: &Recipe, data: &Data) -> DataSettings {
    let typed = &recipe.data;
    DataSettings {
        train: typed.train.as_deref().map(|path| recipe.resolve(path)).unwrap_or_default(),
        train_images: data.train.len(),
        val: match &typed.val {
            Some(ValChoice::Path(path)) => path.display().to_string(),
            Some(ValChoice::Fraction(fraction)) => format!("{fraction} of train"),
            None => "0.2 of train".into(),
        },
        val_images: data.val.len(),
        test: typed.test.as_deref().map(|path| recipe.resolve(path)),
        test_images: data.test.as_ref().map(Vec::len),
        classes: data.classes.len(),
        bad_images: typed.bad_images.unwrap_or(BadImages::Skip),
        max_pixels: typed.max_pixels.unwrap_or(MAX_PIXELS),
        listing: data.listing(),
    }
}

fn linear(recipe: &Recipe, stages: Vec<String>) -> LinearSettings {
    let typed = &recipe.train;
    LinearSettings {
        stages,
        c: typed.c,
        folds: typed.folds.unwrap_or(defaults::FOLDS),
        class_weights: typed.class_weights.unwrap_or(ClassWeights::None),
        batch_size: typed.batch_size.unwrap_or(defaults::FEATURE_BATCH),
    }
}

fn train(recipe: &Recipe, method: Method, holds_linear: bool, images: usize) -> TrainSettings {
    let typed = &recipe.train;
    let choice = typed.optimizer.unwrap_or(OptimizerChoice::Sgd);
    let by_method = Defaults::of(method, choice);
    let batch_size = typed.batch_size.unwrap_or(defaults::BATCH_SIZE);
    let epochs = typed.epochs.unwrap_or_else(|| by_method.epochs_for(images, batch_size));
    let (optimizer, weight_decay) = match choice {
        OptimizerChoice::Sgd => {
            let momentum = typed.momentum.unwrap_or(defaults::MOMENTUM);
            let nesterov = typed.nesterov.unwrap_or(false);
            (OptimizerSettings::Sgd { momentum, nesterov }, defaults::WEIGHT_DECAY_SGD)
        }
        OptimizerChoice::AdamW => (OptimizerSettings::AdamW, defaults::WEIGHT_DECAY_ADAMW),
    };
    let gamma = typed.gamma.unwrap_or(defaults::GAMMA);
    let schedule = match typed.schedule.unwrap_or(ScheduleChoice::Cosine) {
        ScheduleChoice::Constant => ScheduleSettings::Constant,
        ScheduleChoice::Cosine => ScheduleSettings::Cosine,
        ScheduleChoice::Step => {
            let epochs = typed.step_epochs.unwrap_or(epochs.div_ceil(defaults::STEP_CUTS));
            ScheduleSettings::Step { epochs, gamma }
        }
        ScheduleChoice::Plateau => {
            ScheduleSettings::Plateau { patience: typed.patience.unwrap_or(defaults::PATIENCE), gamma }
        }
    };
    let linear_head = typed.linear_head_first.unwrap_or(by_method.linear_head_first);
    let linear_head = linear_head && holds_linear && method != Method::Scratch;
    // LP-FT (Kumar et al. 2022) keeps BatchNorm in inference mode, whose features the head was fitted to.
    let batch_norm = if linear_head { BatchNormMode::Inference } else { by_method.batch_norm };
    // With one rate typed the other follows it, in the method's own proportion. A head that comes fitted has
    // nothing to catch up with.
    let proportion = if linear_head { 1. } else { by_method.head_lr / by_method.lr };
    let lr = typed.lr.unwrap_or(by_method.lr);
    TrainSettings {
        epochs,
        batch_size,
        optimizer,
        lr,
        head_lr: typed.head_lr.unwrap_or(lr * proportion),
        weight_decay: typed.weight_decay.unwrap_or(weight_decay),
        decay_norm_and_bias: typed.decay_norm_and_bias.unwrap_or(false),
        schedule,
        // A warm-up of the whole run would never reach the rate that was asked for.
        warmup_epochs: typed.warmup_epochs.unwrap_or(by_method.warmup_epochs.min(epochs / 4)),
        label_smoothing: typed.label_smoothing.unwrap_or(0.),
        aux_weight: None,
        class_weights: typed.class_weights.unwrap_or(ClassWeights::None),
        clip_grad_norm: typed.clip_grad_norm.or(linear_head.then_some(defaults::FITTED_CLIP)),
        early_stopping: typed.early_stopping,
        batch_norm: typed.batch_norm.unwrap_or(batch_norm),
        linear_head: linear_head
            .then(|| LinearHeadSettings { c: typed.c, folds: typed.folds.unwrap_or(defaults::FOLDS) }),
        layer_decay: 1.,
        unfreeze_epochs: 0,
        groups: Vec::new(),
        kept: None,
        kept_views: 0,
        mixing: Mixing {
            mixup: typed.mixup.filter(|&alpha| alpha > 0.),
            cutmix: typed.cutmix.filter(|&alpha| alpha > 0.),
        },
        ema: typed.ema,
    }
}

/// What the auxiliary classifiers' losses count, if there are any to be trained.
fn auxiliary_weight(
    recipe: &Recipe,
    network: &Network,
    frozen: usize,
    crop_size: u32,
    notes: &mut Vec<String>,
    mistakes: &mut Vec<Mistake>,
) -> Option<f64> {
    let (typed, name) = (recipe.train.aux_weight, network.architecture.name);
    let auxiliaries = &network.architecture.auxiliaries;
    if network.auxiliaries_from(frozen).is_empty() {
        if typed.is_some() {
            let why = if auxiliaries.classifiers.is_empty() {
                "has none"
            } else {
                "has none behind what is frozen"
            };
            notes.push(format!("`train.aux_weight` is for auxiliary classifiers, and {name} {why}"));
        }
        return None;
    }
    let weight = typed.unwrap_or(auxiliaries.weight);
    let min_size = auxiliaries.min_size;
    if weight == 0. || crop_size >= min_size {
        return (weight > 0.).then_some(weight);
    }
    if typed.is_some() {
        let message = format!(
            "the auxiliary classifier of {name} needs images of {min_size} pixels, and these are {crop_size}: \
             raise `preprocess: {{crop_size}}`, or take 0"
        );
        mistakes.push(recipe.mistake("train.aux_weight", message));
    } else {
        notes.push(format!(
            "{name} is trained without its auxiliary classifier, which needs images of {min_size} pixels"
        ));
    }
    None
}

/// BatchNorm cannot normalise one image by itself: where its input is one pixel, the variance of a single
/// number is not a number, and everywhere else it is that image's own.
fn single_images(recipe: &Recipe, train: &TrainSettings, network: &Network) -> Option<Mistake> {
    let normalises = network.vars().iter().any(|var| var.role == Role::RunningStatistic);
    (train.batch_size == 1 && train.batch_norm == BatchNormMode::Train && normalises).then(|| {
        let message = "BatchNorm cannot learn from one image at a time: take 2 or more, or set \
                       `train.batch_norm: inference`";
        recipe.mistake("train.batch_size", message)
    })
}

/// Keys that were given and that nothing uses: each said once, with what would have to be otherwise.
fn unused_keys(recipe: &Recipe, methods: &[Method], asked: Method) -> Vec<String> {
    let typed = &recipe.train;
    let schedule = typed.schedule.unwrap_or(ScheduleChoice::Cosine);
    let adamw = typed.optimizer == Some(OptimizerChoice::AdamW);
    let by_method = |method: Method| match asked {
        Method::Race => Some("method: race".into()),
        _ => Some(format!("method: {method}")),
    };
    let linear_keys = ["train.batch_size", "train.c", "train.folds", "train.class_weights"];
    let unused_by = |method: Method, key: &str| match (method, key) {
        // They are what `auto` decides by.
        (_, "strategy.size" | "strategy.little_below") if asked == Method::Auto => None,
        (_, "strategy.similarity" | "strategy.similar_below" | "strategy.similar_above")
            if asked == Method::Auto =>
        {
            None
        }
        (
            _,
            "strategy.size"
            | "strategy.little_below"
            | "strategy.similarity"
            | "strategy.similar_below"
            | "strategy.similar_above",
        ) => by_method(method),
        (_, key) if key.starts_with("strategy.race.") => {
            (asked != Method::Race).then(|| format!("method: {asked}"))
        }
        (Method::Partial, "strategy.train_from") => None,
        (_, "strategy.train_from") => by_method(method),
        (Method::Stages, "strategy.read") => None,
        (_, "strategy.read") => by_method(method),
        (Method::Linear | Method::Stages, key) if key.starts_with("augment.") => by_method(method),
        (Method::Linear | Method::Stages, key)
            if key.starts_with("train.") && !linear_keys.contains(&key) =>
        {
            by_method(method)
        }
        (Method::Linear | Method::Stages, _) => None,
        (_, key) if fine_tuning::KEYS.contains(&key) => fine_tuning::unused(recipe, method, key),
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
        // A section is told by its keys.
        .filter(|key| find(key).is_none_or(|key| key.kind != Kind::Section))
        // What one method of a race uses is used.
        .filter_map(|key| {
            let by: Option<Vec<String>> = methods.iter().map(|&method| unused_by(method, key)).collect();
            by?.pop().map(|by| format!("`{key}` is not used by `{by}`"))
        })
        .collect()
}

/// What is allowed but seldom meant.
fn warnings(recipe: &Recipe, source: &Source, method: Method) -> Vec<String> {
    let mut notes = Vec::new();
    let random = matches!(source.weights, Weights::None);
    if random && matches!(method, Method::Linear | Method::Stages | Method::Partial) {
        notes.push(
            "`weights: none` with a method that freezes stages: they keep random values, and what they see \
             carries little; `method: scratch` trains them all"
                .into(),
        );
    }
    if method == Method::Scratch && recipe.weights.as_deref().is_some_and(|weights| weights != "none") {
        notes.push(
            "`method: scratch` starts from random values: only the preprocessing of `weights` is used".into(),
        );
    }
    if let (Some(warmup), Some(epochs)) = (recipe.train.warmup_epochs, recipe.train.epochs)
        && !matches!(method, Method::Linear | Method::Stages)
        && warmup >= epochs
    {
        notes.push(format!(
            "`warmup_epochs: {warmup}` takes all of the {epochs} epochs: the learning rate never comes down"
        ));
    }
    if recipe.train.batch_norm == Some(BatchNormMode::Inference) && method == Method::Scratch {
        notes.push(
            "`batch_norm: inference` from scratch: the running statistics stay at their first values".into(),
        );
    }
    notes
}
