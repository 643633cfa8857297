//! Recipes as typed: YAML, with an `Option` for every optional key.
//!
//! Nothing is resolved here, and only the recipe file itself is read: defaults, weights and folders
//! are left to the plan. All mistakes of a recipe are reported at once, each with its line (or its
//! `--set`), what was expected and what was found. The steps:
//!
//! ```text
//! text ── yaml ──> tree with lines ── set ──> with --set ── check, against schema ──> Recipe + mistakes
//! ```

mod check;
mod choices;
mod kind;
mod method;
mod read;
#[cfg(test)]
mod reference;
mod schema;
mod sections;
mod set;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use choices::*;
pub use method::{Method, Trains};
pub use schema::{KEYS, Key, Kind, Limits, find};
pub use sections::*;

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::text::path_text::located;
use crate::text::words::shown;
use crate::util::json::sorted;

/// A recipe as typed, `--set` included. See `docs/recipe.md` for the keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct Recipe {
    /// A known name, a run folder or a `.safetensors` file that `tl` wrote. Always present unless
    /// [`Recipe::read_leniently`] reported it missing or wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A weights enum name, `DEFAULT`, `none` or a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Preprocessing other than the weights' own.
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
    /// Further evaluation of the kept model.
    #[serde(skip_serializing_if = "is_default")]
    pub eval: EvalSection,
    /// Source of all randomness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Device to compute on.
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

/// Origin of a recipe; not part of its content.
#[derive(Debug, Clone, Default)]
struct Source {
    path: PathBuf,
    places: BTreeMap<String, Place>,
}

/// Recipes with equal content are equal, wherever they are.
impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
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

/// A mistake in a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// The key at fault, `train.epochs`; empty when it is the whole file.
    pub key: String,
    /// Expected, found, and the remedy.
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
    /// Reads a recipe file and applies each `key.path=VALUE` of `--set`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a missing file, a folder or an unknown key in `sets`; [`Error::Recipe`]
    /// with all mistakes of the recipe; [`Error::Io`] if the system refuses the file.
    pub fn read(path: &Path, sets: &[String]) -> Result<Recipe> {
        let (recipe, mistakes) = Recipe::read_leniently(path, sets)?;
        recipe.refuse(mistakes)?;
        Ok(recipe)
    }

    /// As [`Recipe::read`], but invalid values are left out of the recipe and returned as mistakes,
    /// so that the plan can add its own and report all of them at once.
    ///
    /// # Errors
    /// As [`Recipe::read`]; [`Error::Recipe`] only if the file cannot be parsed as YAML.
    pub fn read_leniently(path: &Path, sets: &[String]) -> Result<(Recipe, Vec<Mistake>)> {
        let text = read::text(path)?;
        Recipe::from_text(&text, path, sets)
    }

    /// As [`Recipe::read_leniently`], from a text; `path` is its file.
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

    /// The `--set`s in force as they were typed, a section's before those of its keys.
    pub fn sets(&self) -> Vec<&str> {
        let mut sets = Vec::new();
        for place in self.source.places.values() {
            if let Place::Set(typed) = place
                && !sets.contains(&typed.as_str())
            {
                sets.push(typed.as_str());
            }
        }
        sets
    }

    /// Ok if there is no mistake.
    ///
    /// # Errors
    /// [`Error::Recipe`] with all of them, in the order of the file; only the first 50 of very
    /// many.
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

    /// A path of the recipe as the working directory sees it: relative ones start at the recipe's
    /// folder, and one that is not there is read as a line of a list is ([`located`]).
    pub fn resolve(&self, path: &Path) -> PathBuf {
        located(self.source.path.parent().unwrap_or(Path::new("")), path.as_os_str().as_bytes())
    }

    /// The run folder: `out`, or `runs/` and the recipe's file name without its extension; relative
    /// to the working directory.
    pub fn out_folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            Path::new("runs").join(self.source.path.file_stem().unwrap_or("recipe".as_ref()))
        })
    }

    /// The recipe as JSON with sorted keys, without `out` and `train.tensorboard`, and with absolute
    /// paths cut to their last part, for a model file: equal for equal runs on any machine.
    pub fn to_json(&self) -> serde_json::Value {
        let mut recipe = self.clone();
        recipe.out = None;
        recipe.train.tensorboard = None;
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
        // Every field is text, a number, a list or a section, so serialisation cannot fail.
        sorted(serde_json::to_value(&recipe).unwrap_or_default())
    }

    /// [`Recipe::to_json`] as YAML, which [`Recipe::read`] accepts.
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
