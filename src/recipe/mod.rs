//! What the user typed: a recipe as YAML, an `Option` for every key that may be left out.
//!
//! Nothing is resolved here, and nothing but the recipe file itself is read: defaults, weights and folders
//! are the plan's work. A recipe that is wrong is told all its mistakes at once, each with its line (or the
//! `--set` it came from), what was expected and what was found. The way of a file:
//!
//! ```text
//! text ── yaml ──> tree with lines ── set ──> with --set ── check, against schema ──> Recipe + mistakes
//! ```

mod check;
mod choices;
mod kind;
mod read;
mod schema;
mod set;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use choices::*;
pub use schema::{KEYS, Key, Kind, Limits, find};

use crate::error::{Error, Result};
use crate::preprocess::Crops;
use crate::wording::shown;

/// A recipe as typed, `--set` included. See `docs/recipe.md` for what each key means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct Recipe {
    /// A known name, a run folder or a `.safetensors` file that `tl` wrote. Always there unless
    /// [`Recipe::read_leniently`] reported it missing or wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A weights enum name, `DEFAULT`, `none` or a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Another preprocessing than the weights' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessChoice>,
    /// The images.
    pub data: DataSection,
    /// How much of the network to retrain.
    #[serde(skip_serializing_if = "is_default")]
    pub strategy: StrategySection,
    /// The training loop.
    #[serde(skip_serializing_if = "is_default")]
    pub train: TrainSection,
    /// Random changes to training images.
    #[serde(skip_serializing_if = "is_default")]
    pub augment: AugmentSection,
    /// How the kept model is measured once more.
    #[serde(skip_serializing_if = "is_default")]
    pub eval: EvalSection,
    /// Where all randomness comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Where to compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceChoice>,
    /// CPU threads, 1 to 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The run folder, relative to the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    #[serde(skip)]
    source: Source,
}

/// Where a recipe came from; no part of what it says.
#[derive(Debug, Clone, Default)]
struct Source {
    path: PathBuf,
    places: BTreeMap<String, Place>,
}

/// Recipes that say the same are equal, wherever they stand.
impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// `preprocess:`, in one of its two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PreprocessChoice {
    /// The preprocessing of this weights entry.
    Tag(String),
    /// That of the weights in use, with these parts changed.
    Changes(PreprocessSection),
}

/// The keys under `preprocess:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct PreprocessSection {
    /// The shorter side after resizing, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize_size: Option<usize>,
    /// The side of the centre crop, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_size: Option<usize>,
    /// The resizing filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<InterpolationChoice>,
    /// Red, green, blue; finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f64; 3]>,
    /// Red, green, blue; above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
}

/// The keys under `data:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct DataSection {
    /// Class folders or a CSV. Always there unless [`Recipe::read_leniently`] reported it missing or wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// A share of `train`, or images of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<ValChoice>,
    /// Images measured once, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// What to do about images that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_images: Option<BadImages>,
    /// The most pixels that an image may have, 1 to 4294967295.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
}

/// `data.val:`, in one of its two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ValChoice {
    /// A stratified share of the training images, between 0 and 1.
    Fraction(f64),
    /// A folder or a CSV.
    Path(PathBuf),
}

/// The keys under `strategy:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct StrategySection {
    /// How much data there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<DatasetSize>,
    /// How like the source data it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<Similarity>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The first stage that is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_from: Option<String>,
    /// Fewer images a class than this are little, 1 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub little_below: Option<usize>,
    /// A smaller distance of BatchNorm's statistics than this is similar, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similar_below: Option<f64>,
    /// A greater share of information than this is similar, above 0, up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similar_above: Option<f64>,
    /// The stages whose features `stages` compares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Vec<String>>,
    /// For `race`: what is measured, and how.
    #[serde(skip_serializing_if = "is_default")]
    pub race: RaceSection,
}

/// The keys under `strategy.race:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct RaceSection {
    /// The methods that are measured against each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<Method>>,
    /// Into how many parts the training images are cut, 2 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
    /// Passes over the images in the race, 1 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
}

/// The keys under `train:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct TrainSection {
    /// 1 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Images per step, 1 to 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// The optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerChoice>,
    /// Peak learning rate of the body, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Peak learning rate of the head, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_lr: Option<f64>,
    /// From 0, below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Nesterov's form of momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// From 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Whether decay applies to normalisation layers and biases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_norm_and_bias: Option<bool>,
    /// The learning rate after the warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleChoice>,
    /// 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<usize>,
    /// Epochs between two cuts, for `step`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_epochs: Option<usize>,
    /// The factor of a cut, between 0 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Epochs without improvement before a cut, for `plateau`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// From 0, below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// What the losses of auxiliary classifiers count, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux_weight: Option<f64>,
    /// How classes count in the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Epochs without improvement before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<usize>,
    /// BatchNorm in the stages that are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<BatchNormMode>,
    /// Mixup's alpha, from 0 up; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// CutMix's alpha, from 0 up; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
    /// The decay of averaged weights, between 0 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Whether the head is fitted before fine-tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_head_first: Option<bool>,
    /// The rate of a group of stages over that of the group behind it, above 0, up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Epochs after which one more group is trained, 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_epochs: Option<usize>,
    /// Whether the frozen stages' output is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepChoice>,
    /// How much of it in memory, in MiB, 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_memory: Option<usize>,
    /// How much of it in a file, in MiB, 0 to a hundred million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_disk: Option<usize>,
    /// Augmented views of each training image, 0 to a million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_views: Option<usize>,
    /// The inverse L2 strength of a fitted head, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// Folds of the cross-validation that chooses it, 2 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
}

/// The keys under `augment:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct AugmentSection {
    /// Whether to train on random parts of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<bool>,
    /// Least and largest share of the area, above 0, up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<[f64; 2]>,
    /// Least and largest width / height, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<[f64; 2]>,
    /// Least and largest shorter side after resizing, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_jitter: Option<[u32; 2]>,
    /// The probability of a horizontal flip, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<f64>,
    /// The probability of a vertical flip, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vertical_flip: Option<f64>,
    /// Random operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyChoice>,
    /// Operations in a row, for `randaugment`, 1 to 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_ops: Option<u32>,
    /// The strength of the operations, for `randaugment`, 0 to 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<u32>,
    /// Random brightness, contrast, saturation and hue.
    #[serde(skip_serializing_if = "is_default")]
    pub color_jitter: ColorJitterSection,
    /// The deviation of AlexNet's shift of colours, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pca_color: Option<f64>,
}

/// The keys under `augment.color_jitter:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct ColorJitterSection {
    /// How far brightness may go, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brightness: Option<f64>,
    /// How far contrast may go, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<f64>,
    /// How far saturation may go, from 0 up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saturation: Option<f64>,
    /// How far hue may go, 0 to 0.5 turns of the colour circle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hue: Option<f64>,
}

/// The keys under `eval:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct EvalSection {
    /// The centre, or ten crops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crops: Option<Crops>,
    /// Shorter sides after resizing, 1 to 4096 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scales: Option<Vec<u32>>,
}

/// Where a key was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this line of the file, counted from 1.
    Line(usize),
    /// By this `--set`, as typed.
    Set(String),
    /// Nowhere: it is missing, or its default does not fit.
    Nowhere,
}

/// One thing that is wrong with a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// The key at fault, `train.epochs`; empty when it is the whole file.
    pub key: String,
    /// What was expected, what was found, what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line(line) => write!(f, "line {line}: ")?,
            Place::Set(typed) => write!(f, "--set {}: ", shown(typed))?,
            Place::Nowhere => {}
        }
        if !self.key.is_empty()
            && !matches!(&self.place, Place::Set(typed) if typed.starts_with(&format!("{}=", self.key)))
        {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl Recipe {
    /// Reads a recipe file and puts each `key.path=VALUE` of `--set` into it.
    ///
    /// # Errors
    /// [`Error::Usage`] for a missing file, a folder or an unknown key in `sets`; [`Error::Recipe`] with all
    /// mistakes of the recipe; [`Error::Io`] when the system refuses the file.
    pub fn read(path: &Path, sets: &[String]) -> Result<Recipe> {
        let (recipe, mistakes) = Recipe::read_leniently(path, sets)?;
        recipe.refuse(mistakes)?;
        Ok(recipe)
    }

    /// As [`Recipe::read`], but values that do not fit are left out of the recipe and returned as mistakes,
    /// so that the plan can add what it finds and report everything in one pass.
    ///
    /// # Errors
    /// As [`Recipe::read`]; [`Error::Recipe`] only where no value can be told from another (YAML that is
    /// none).
    pub fn read_leniently(path: &Path, sets: &[String]) -> Result<(Recipe, Vec<Mistake>)> {
        let text = read::text(path)?;
        Recipe::from_text(&text, path, sets)
    }

    /// As [`Recipe::read_leniently`], of a text; `path` is where it stands.
    fn from_text(text: &str, path: &Path, sets: &[String]) -> Result<(Recipe, Vec<Mistake>)> {
        let whole = |message: String| Error::Recipe { path: path.to_path_buf(), mistakes: vec![message] };
        let mut root = yaml::parse(text).map_err(whole)?;
        let set::Applied { places, mut mistakes } = set::apply(&mut root, sets)?;
        let checked = check::check(&root, places);
        mistakes.extend(checked.mistakes);
        let mut recipe: Recipe = serde_yaml::from_value(checked.value).map_err(|e| whole(e.to_string()))?;
        recipe.source = Source { path: path.to_path_buf(), places: checked.places };
        Ok((recipe, mistakes))
    }

    /// A mistake about a key, with the place where the key was given.
    pub fn mistake(&self, key: &str, message: impl Into<String>) -> Mistake {
        let place = self.source.places.get(key).cloned().unwrap_or(Place::Nowhere);
        Mistake { place, key: key.into(), message: message.into() }
    }

    /// Nothing if there is no mistake.
    ///
    /// # Errors
    /// [`Error::Recipe`] with all of them, in the order of the file; the first 50 of very many.
    pub fn refuse(&self, mut mistakes: Vec<Mistake>) -> Result<()> {
        const MOST: usize = 50;
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by_key(|mistake| match mistake.place {
            Place::Line(line) => line,
            Place::Set(_) => usize::MAX - 1,
            Place::Nowhere => usize::MAX,
        });
        let more = mistakes.len().saturating_sub(MOST);
        let mut mistakes: Vec<String> = mistakes.iter().take(MOST).map(Mistake::to_string).collect();
        if more > 0 {
            mistakes.push(format!("and {more} more"));
        }
        Err(Error::Recipe { path: self.source.path.clone(), mistakes })
    }

    /// The recipe file, as typed.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// The paths of all keys that were given, sections included, sorted.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.source.places.keys().map(String::as_str)
    }

    /// A path of the recipe as the working directory sees it: relative ones start at the recipe's folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match self.source.path.parent() {
            Some(folder) => folder.join(path),
            None => path.to_path_buf(),
        }
    }

    /// The run folder: `out`, or `runs/` and the recipe's file name without its ending; relative to the
    /// working directory.
    pub fn out_folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            Path::new("runs").join(self.source.path.file_stem().unwrap_or("recipe".as_ref()))
        })
    }

    /// The recipe as JSON with sorted keys, without `out`, and with absolute paths cut to their last part:
    /// what a model file says about its making, equal for equal runs wherever they took place.
    pub fn to_json(&self) -> serde_json::Value {
        let mut recipe = self.clone();
        recipe.out = None;
        for name in [&mut recipe.model, &mut recipe.weights].into_iter().flatten() {
            if let Some(last) = last_part(Path::new(name)) {
                *name = last.to_string_lossy().into_owned();
            }
        }
        let val = match &mut recipe.data.val {
            Some(ValChoice::Path(path)) => Some(path),
            _ => None,
        };
        for path in recipe.data.train.iter_mut().chain(&mut recipe.data.test).chain(val) {
            if let Some(last) = last_part(path) {
                *path = last;
            }
        }
        // Every field is text, a number, a list or a section, so there is nothing to refuse.
        sorted(serde_json::to_value(&recipe).unwrap_or_default())
    }

    /// [`Recipe::to_json`] as YAML, which [`Recipe::read`] takes again.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(&self.to_json()).unwrap_or_default()
    }
}

fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

/// The last part of an absolute path; nothing for a relative one.
fn last_part(path: &Path) -> Option<PathBuf> {
    if path.is_absolute() { path.file_name().map(PathBuf::from) } else { None }
}

/// Sorted keys, whether or not serde_json keeps the order of insertion (a feature any dependency may turn
/// on).
fn sorted(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let map: BTreeMap<_, _> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            serde_json::Value::Object(map.into_iter().collect())
        }
        other => other,
    }
}
