//! The images of a run: for training, for validation, and for the final test.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::copies::{self, Apart, Parts};
pub use crate::data::Part;
use crate::data::{self, Aside, Dataset, Sample};
use crate::error::Result;
use crate::preprocess::ImageAt;
use crate::recipe::{Mistake, Recipe, ValChoice};
use crate::text::look_alikes::hint_beside;
use crate::text::path_text::path_text;
use crate::text::words::{counted, shown};
use crate::util::same_file::same_file;
use crate::weights::seen::SeenImages;

/// The images of a run, by part.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Class names in order.
    pub classes: Vec<String>,
    /// Trained on.
    pub train: Vec<Sample>,
    /// Measured on after each epoch.
    pub val: Vec<Sample>,
    /// Measured on once, at the end.
    pub test: Option<Vec<Sample>>,
    /// The column of the training CSV that selects the validation images, if there is one.
    pub val_column: Option<String>,
    /// The contents of the training and validation images, for the model file, once they are read.
    pub learnt_from: Option<SeenImages>,
}

/// Default share of the training images that is held back for validation.
const VAL_FRACTION: f64 = 0.2;

/// Ratio of class sizes from which a note is shown.
const UNEVEN: usize = 10;

impl Data {
    /// Lists the images of a recipe. Errors go to `mistakes`, remarks to `notes`.
    ///
    /// Files are compared by content on `threads` threads. Images in `data.val` or `data.test` are
    /// not trained on, and copies are not split between training and validation.
    pub fn list(
        recipe: &Recipe,
        seed: u64,
        threads: usize,
        mistakes: &mut Vec<Mistake>,
        notes: &mut Vec<String>,
    ) -> Data {
        let Some(train) = &recipe.data.train else { return Data::default() };
        let train_path = recipe.resolve(train);
        let before = mistakes.len();
        mistakes.extend(all_missing(recipe));
        if mistakes.len() > before {
            return Data::default();
        }
        let Some(mut listed) = read_train(recipe, &train_path, mistakes) else { return Data::default() };
        notes.extend(listed.notes.iter().cloned());
        let aside = listed.aside.take();
        mistakes.extend(aside.as_ref().map(|aside| given_twice(recipe, aside)).unwrap_or_default());
        let (column, own_val, own_test_rows) = match aside {
            Some(Aside { column, val, test }) => (Some(column), Some(val), Some(test)),
            None => (None, None, None),
        };
        let [own_val, own_test_rows] =
            [own_val, own_test_rows].map(|rows| rows.filter(|rows| !rows.is_empty()));
        let val_path = val_path(recipe);
        let own_test = recipe.data.test.is_none()
            && data::has_test_part(&train_path)
            && !val_path.is_some_and(|val| same_file(&recipe.resolve(val), &train_path));
        let mut read = |key, path: &Path, part| {
            read_part(recipe, key, &recipe.resolve(path), &listed.classes, part, mistakes, notes)
        };
        let test = match (&recipe.data.test, own_test) {
            (Some(path), _) => Some(read("data.test", path, Part::Test)),
            (None, true) => Some(read("data.train", train, Part::Test)),
            (None, false) => own_test_rows,
        };
        let val_column = column.filter(|_| own_val.is_some());
        let val = match val_path {
            Some(path) => Some(read("data.val", path, Part::Val)),
            None => own_val,
        };
        if own_test {
            notes.push(format!(
                "there is no `data.test`: the test part of {} is what the model is tested on at the end",
                path_text(&train_path)
            ));
        }
        if mistakes.len() > before {
            return Data::default();
        }
        let parts = Parts { listed, val, test };
        let data = without_copies(recipe, parts, seed, threads, mistakes, notes);
        Data { val_column, ..data }
    }

    /// All images with their parts, in order.
    pub fn all(&self) -> impl Iterator<Item = (Part, &Sample)> {
        let part = |part| move |sample| (part, sample);
        self.train
            .iter()
            .map(part(Part::Train))
            .chain(self.val.iter().map(part(Part::Val)))
            .chain(self.test.iter().flatten().map(part(Part::Test)))
    }

    /// Reads the contents of the training and validation images, unless they are too many for a
    /// model file. `earlier` are those of the model that the training begins with; `check` is called
    /// for each.
    pub fn remember(
        &mut self,
        earlier: Option<&SeenImages>,
        threads: usize,
        check: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let images: Vec<ImageAt> = self.train.iter().chain(&self.val).map(Sample::image).collect();
        if images.len() <= SeenImages::MOST {
            let hashes = data::content_hashes(&images, threads, check)?;
            self.learnt_from = SeenImages::of(hashes.into_iter().flatten(), earlier);
        }
        Ok(())
    }

    /// sha256 over classes, and over the names, labels and parts of all images.
    pub fn fingerprint(&self) -> String {
        let mut sha = Sha256::new();
        let mut add = |text: &str| {
            sha.update((text.len() as u64).to_le_bytes());
            sha.update(text.as_bytes());
        };
        self.classes.iter().for_each(|class| add(class));
        for (part, sample) in self.all() {
            add(&format!("{part:?} {} {}", sample.label, sample.name));
        }
        sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A note if the class sizes differ so much that a model may ignore the small classes.
    pub fn imbalance(&self) -> Option<String> {
        let counts = self.counts();
        let (small, least) = counts.iter().enumerate().min_by_key(|&(_, count)| count)?;
        let (large, most) = counts.iter().enumerate().rev().max_by_key(|&(_, count)| count)?;
        (*most >= UNEVEN * (*least).max(1)).then(|| {
            format!(
                "the classes are uneven: `{}` has {}, `{}` has {least}; if rare classes matter as much as frequent \
                 ones, `train: {{ class_weights: balanced }}` gives all the same weight",
                shown(&self.classes[large]),
                counted(*most, "training image", "training images"),
                shown(&self.classes[small])
            )
        })
    }

    /// Number of training images of each class, without bad ones.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.train.iter().for_each(|sample| counts[sample.label] += 1);
        counts
    }
}

fn val_path(recipe: &Recipe) -> Option<&PathBuf> {
    match &recipe.data.val {
        Some(ValChoice::Path(path)) => Some(path),
        _ => None,
    }
}

/// The paths of the recipe that do not exist.
fn all_missing(recipe: &Recipe) -> Vec<Mistake> {
    let typed = &recipe.data;
    let paths = [
        ("data.train", typed.train.as_ref()),
        ("data.val", val_path(recipe)),
        ("data.test", typed.test.as_ref()),
    ];
    let mistake = |(key, path): (&str, Option<&PathBuf>)| {
        Some(recipe.mistake(key, missing(recipe, &recipe.resolve(path?))?))
    };
    paths.into_iter().filter_map(mistake).collect()
}

/// Reads the training images and their classes, at least two.
fn read_train(recipe: &Recipe, path: &Path, mistakes: &mut Vec<Mistake>) -> Option<Dataset> {
    let message = match data::read_labelled(path) {
        Ok(listed) if listed.classes.len() >= 2 => return Some(listed),
        Ok(listed) => format!(
            "expected at least 2 classes, found {} in {}: a classifier needs something to tell apart",
            match listed.classes.first() {
                Some(class) => format!("only `{class}`"),
                None => "none".into(),
            },
            path_text(path)
        ),
        Err(error) => error.to_string(),
    };
    mistakes.push(recipe.mistake("data.train", message));
    None
}

/// Reads the images of another part, with the classes of the training images.
fn read_part(
    recipe: &Recipe,
    key: &str,
    path: &Path,
    classes: &[String],
    part: Part,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> Vec<Sample> {
    match data::read_labelled_with(path, classes, part) {
        Ok(part) => {
            notes.extend(part.notes);
            if part.samples.is_empty() {
                mistakes.push(recipe.mistake(key, format!("no images in {}", path_text(path))));
            }
            part.samples
        }
        Err(error) => {
            mistakes.push(recipe.mistake(key, error.to_string()));
            Vec::new()
        }
    }
}

/// The data of its parts: no part has copies of another's images.
fn without_copies(
    recipe: &Recipe,
    mut parts: Parts,
    seed: u64,
    threads: usize,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> Data {
    let contents = match copies::keep_apart(&mut parts, threads) {
        Ok(Apart { contents, notes: said }) => {
            notes.extend(said);
            contents
        }
        Err(error) => {
            mistakes.push(recipe.mistake("data.train", error.to_string()));
            return Data::default();
        }
    };
    let Parts { listed, val, test } = parts;
    let (train, val) = match val {
        Some(val) => (listed.samples, val),
        None => divide(recipe, &listed, &contents, seed, mistakes, notes),
    };
    Data { classes: listed.classes, train, val, test, val_column: None, learnt_from: None }
}

/// Splits training and validation images, if the recipe has no validation images of its own.
fn divide(
    recipe: &Recipe,
    listed: &Dataset,
    contents: &[usize],
    seed: u64,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> (Vec<Sample>, Vec<Sample>) {
    let fraction = match recipe.data.val {
        Some(ValChoice::Fraction(fraction)) => fraction,
        _ => VAL_FRACTION,
    };
    let data::Split { train, val, notes: said } = data::split(listed, contents, fraction, seed);
    notes.extend(said);
    if val.is_empty() && !listed.samples.is_empty() {
        mistakes.push(recipe.mistake(
            "data.val",
            "nothing is left to measure on: no class has two images, and one of each must stay to be trained on. \
             Add images, or name a folder of others as `data.val`",
        ));
    }
    let pick = |indices: Vec<usize>| -> Vec<Sample> {
        indices.into_iter().map(|index| listed.samples[index].clone()).collect()
    };
    (pick(train), pick(val))
}

/// Mistakes for parts given both by a column of the training CSV and by the recipe.
fn given_twice(recipe: &Recipe, aside: &Aside) -> Vec<Mistake> {
    let parts = [
        ("data.val", &aside.val, recipe.data.val.is_some()),
        ("data.test", &aside.test, recipe.data.test.is_some()),
    ];
    let twice = parts.into_iter().filter(|(_, rows, given)| *given && !rows.is_empty());
    let message = |(key, rows, _): (&str, &Vec<Sample>, bool)| {
        let (column, rows) = (&aside.column, counted(rows.len(), "row", "rows"));
        let message = format!(
            "the column `{column}` of `data.train` gives {rows} for it already: leave `{key}` out, or take these rows out of the CSV"
        );
        recipe.mistake(key, message)
    };
    twice.map(message).collect()
}

/// The error if nothing is at `path`. It names the folder that the path starts from, as users may
/// expect the working directory.
fn missing(recipe: &Recipe, path: &Path) -> Option<String> {
    let gone = std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let hint = match recipe.path().parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) if path.starts_with(folder) => {
            format!("; a recipe's paths start at its own folder, {}", path_text(folder))
        }
        _ => String::new(),
    };
    let beside = || hint_beside(path).map(|hint| format!("; {hint}")).unwrap_or_default();
    gone.then(|| format!("there is no folder or file {}{hint}{}", path_text(path), beside()))
}
