//! Labelled images: reads class folders, a CSV or a published data set into sorted classes and
//! samples.
//!
//! Nothing is decoded here. The same folder gives the same list on every machine: classes are
//! sorted by the bytes of their names, images by path component. Left-out files are reported in
//! `notes`, once.

mod contents;
mod csv_text;
mod divided;
mod draw;
mod folder;
mod given;
mod list;
pub mod loader;
pub mod mixing;
mod part;
mod paths;
mod published;
mod split;
mod table;
pub mod verify;
mod walk;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use contents::{content_hashes, first_of_each_content};
pub(crate) use draw::draw;
pub use given::Given;
pub use list::{Input, Inputs, Listing, list_images};
pub use part::{Part, in_yaml};
pub use split::{Split, split};

use crate::error::{Error, Result};
use crate::preprocess::{ImageAt, Record};
use crate::text::look_alikes::{alike, looks, unseen};
use crate::text::path_text::path_text;
use crate::text::words::{counted, first_few, near, shown};
use divided::Divided;
use published::Portion;

/// An image and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file to open, or the file and the number of an image in it: `data_batch_1.bin#1234`.
    pub path: PathBuf,
    /// The reported name: relative to the dataset, `/` between the parts; as written, in a CSV.
    pub name: String,
    /// An index into [`Dataset::classes`].
    pub label: usize,
    /// Its record, if it is one of many in a file.
    pub record: Option<Record>,
}

impl Sample {
    /// Where its pixels are.
    pub fn image(&self) -> ImageAt<'_> {
        ImageAt::of(&self.path, self.record.as_ref())
    }
}

/// Labelled images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    /// The names of the classes, sorted by their bytes, each with at least one image (but see
    /// [`read_labelled_with`]).
    pub classes: Vec<String>,
    /// Of a folder, by class, then by path component; of a CSV, in its order.
    pub samples: Vec<Sample>,
    /// Notes on what was left out or looks odd, a sentence each, to be shown once.
    pub notes: Vec<String>,
    /// Images of a CSV that are not trained on, if a column tells them.
    pub aside: Option<Aside>,
}

/// The rows of a CSV that are for validation and for testing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The name of the column.
    pub column: String,
    /// For validation; may be empty.
    pub val: Vec<Sample>,
    /// For testing; may be empty.
    pub test: Vec<Sample>,
}

impl Dataset {
    /// The number of images of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.samples {
            counts[sample.label] += 1;
        }
        counts
    }
}

/// Images as read, each with the name of its class.
#[derive(Default)]
struct Named {
    images: Vec<Image>,
    notes: Vec<String>,
    divided: Divided,
}

/// What was found at a path.
enum Read {
    Images(Named),
    /// The parts of a dataset in the place of class folders, and why they are not classes.
    Parts {
        parts: Vec<(Part, PathBuf)>,
        refusal: String,
    },
}

struct Image {
    path: PathBuf,
    name: String,
    class: String,
    record: Option<Record>,
}

/// Reads a folder of class folders, a `.csv` of `path,label`, or the training part of a published
/// data set (CIFAR, MNIST), given as its folder or one of its files.
///
/// Class folders are walked to any depth. Links are followed, loops are cut. Hidden entries, files
/// without an image's ending and classes without images are left out, each with a note.
///
/// Of a CSV with a column such as `split` the training rows are the samples, and the others
/// [`Dataset::aside`].
///
/// # Errors
/// [`Error::File`] for a path that is none of these, for a folder without class folders or images,
/// and for all faults of a CSV; [`Error::Io`] naming the file or folder that cannot be read.
pub fn read_labelled(path: &Path) -> Result<Dataset> {
    to_train_on(path, read_named(path, Portion::Train, Some(Part::Train))?)
}

/// As [`read_labelled`]; of a folder with the parts of a dataset in the place of class folders, which
/// that refuses, these parts and their paths.
///
/// # Errors
/// As [`read_labelled`].
pub fn read_labelled_or_parts(path: &Path) -> Result<Result<Dataset, Vec<(Part, PathBuf)>>> {
    match read_any(path, Portion::Train, Some(Part::Train))? {
        Read::Images(named) => to_train_on(path, named).map(Ok),
        Read::Parts { parts, .. } => Ok(Err(parts)),
    }
}

fn to_train_on(path: &Path, mut named: Named) -> Result<Dataset> {
    let divided = named.divided.parts.take();
    let mut rest = match &divided {
        Some((_, parts)) => set_aside(&mut named, parts),
        None => Default::default(),
    };
    let mut classes: Vec<String> = named.images.iter().map(|image| image.class.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    let mut dataset = index(named, classes);
    dataset.notes.extend(look_alikes(&dataset.classes).map(|note| format!("{}: {note}", path_text(path))));
    if let Some((column, _)) = divided {
        if dataset.samples.is_empty() {
            let message =
                format!("its column `{column}` leaves no row to train on: expected train in some of them");
            return Err(Error::file(path, message));
        }
        let [val, test] = rest.each_mut().map(std::mem::take);
        let parts = [
            (dataset.samples.len(), "to train on"),
            (val.len(), "for validation"),
            (test.len(), "to test on"),
        ];
        // A part without rows comes from elsewhere, or not at all.
        let said =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        dataset.notes.push(format!(
            "{}: its column `{column}` divides the images: {}",
            path_text(path),
            said.collect::<Vec<_>>().join(", ")
        ));
        let mut within = |part: Part, images: Vec<Image>| -> Result<Vec<Sample>> {
            if images.is_empty() {
                return Ok(Vec::new());
            }
            let named = Named { images, ..Named::default() };
            let rows = format!("in its {} rows, ", part.key());
            let part = index_within(path, &rows, named, &dataset.classes)?;
            dataset.notes.extend(part.notes);
            Ok(part.samples)
        };
        dataset.aside = Some(Aside { column, val: within(Part::Val, val)?, test: within(Part::Test, test)? });
    }
    Ok(dataset)
}

/// Labelled images to measure a model on: as [`read_labelled`], but of a published set the test
/// part, and of a CSV with a column such as `split` the rows to test on, or those for validation if
/// there are none.
///
/// # Errors
/// As [`read_labelled`], and [`Error::File`] for a folder of train, val and test folders.
pub fn read_to_measure(path: &Path) -> Result<Dataset> {
    let mut named = match read_any(path, Portion::Test, None)? {
        Read::Images(named) => named,
        Read::Parts { parts, .. } => {
            let names: Vec<_> = parts.iter().map(|(_, folder)| path_text(folder).into_owned()).collect();
            let message =
                format!("holds the parts of a dataset: name the one to measure on ({})", names.join(", "));
            return Err(Error::file(path, message));
        }
    };
    if let Some((column, parts)) = named.divided.parts.take() {
        let [val, test] = set_aside(&mut named, &parts);
        let (images, what) = if test.is_empty() { (val, "for validation") } else { (test, "to test on") };
        let rows = counted(images.len(), "row", "rows");
        let note = format!(
            "{}: its column `{column}` divides the images: the {rows} {what} are measured",
            path_text(path)
        );
        named.notes.push(note);
        named.images = images;
    }
    let mut classes: Vec<String> = named.images.iter().map(|image| image.class.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    Ok(index(named, classes))
}

/// Moves the images for validation and for testing out of those of a CSV.
fn set_aside(named: &mut Named, parts: &[Part]) -> [Vec<Image>; 2] {
    let mut rest = [Vec::new(), Vec::new()];
    for (image, part) in std::mem::take(&mut named.images).into_iter().zip(parts) {
        match part {
            Part::Train => named.images.push(image),
            Part::Val => rest[0].push(image),
            Part::Test => rest[1].push(image),
        }
    }
    rest
}

/// As [`read_labelled`], for images of known classes: the validation or the test images, as `part`
/// says. Labels are indices into `classes`, which becomes the result's list of classes; a class
/// without images is noted. Of a published set the test part is read.
///
/// # Errors
/// As [`read_labelled`], and [`Error::File`] naming all classes missing in `classes`, or for a CSV
/// with rows of other parts.
pub fn read_labelled_with(path: &Path, classes: &[String], part: Part) -> Result<Dataset> {
    let named = read_named(path, Portion::Test, Some(part))?;
    if let Some((column, _)) = &named.divided.parts {
        let message = format!(
            "its column `{column}` has rows of several parts: give it as `data.train` alone, or write a .csv of the rows for \
             `data.{}`",
            part.key()
        );
        return Err(Error::file(path, message));
    }
    index_within(path, "", named, classes)
}

/// Samples of images whose classes are in `classes`; `rows` tells which rows of `path` they are.
fn index_within(path: &Path, rows: &str, named: Named, classes: &[String]) -> Result<Dataset> {
    let mut unknown: Vec<&str> = named.images.iter().map(|image| image.class.as_str()).collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown.retain(|class| !classes.iter().any(|known| known == class));
    if !unknown.is_empty() {
        let hinted: Vec<String> = unknown
            .iter()
            .map(|class| format!("\"{}\"{}", shown(class), known_by_another_name(class, classes)))
            .collect();
        let what = counted(unknown.len(), "class", "classes");
        return Err(Error::file(
            path,
            format!(
                "{rows}{what} that the training images lack: {}; rename or remove, or train on them too",
                hinted.join(", ")
            ),
        ));
    }
    let mut dataset = index(named, classes.to_vec());
    let counts = dataset.counts();
    let missing: Vec<&String> =
        classes.iter().zip(counts).filter(|(_, n)| *n == 0).map(|(class, _)| class).collect();
    if !missing.is_empty() {
        let what = counted(missing.len(), "class has no image here", "classes have no image here");
        dataset.notes.push(format!("{}: {rows}{what}: {}", path_text(path), first_few(&missing)));
    }
    Ok(dataset)
}

/// Whether `path` is the folder of a published data set and contains some of its test part.
pub fn has_test_part(path: &Path) -> bool {
    let set = path.is_dir().then(|| published::find(path));
    set.is_some_and(|set| matches!(set, Ok(Some(set)) if set.has(Portion::Test)))
}

fn read_named(path: &Path, portion: Portion, part: Option<Part>) -> Result<Named> {
    match read_any(path, portion, part)? {
        Read::Images(named) => Ok(named),
        Read::Parts { refusal, .. } => Err(Error::file(path, refusal)),
    }
}

fn read_any(path: &Path, portion: Portion, part: Option<Part>) -> Result<Read> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read the images in", path))?;
    let is_csv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    if metadata.is_dir() {
        match published::find(path)? {
            Some(set) => set.read(portion).map(Read::Images),
            None => folder::read(path),
        }
    } else if is_csv && metadata.is_file() {
        let named = table::read(path)?;
        match part.and_then(|part| named.divided.contradiction(part)) {
            Some(message) => Err(Error::file(path, message)),
            None => Ok(Read::Images(named)),
        }
    } else if let Some(file) = published::open_file(path)? {
        published::labelled(&file).map(Read::Images)
    } else {
        Err(Error::file(path, "expected a folder with one sub-folder per class, or a .csv of path,label"))
    }
}

/// Converts class names to numbers; every class is in `classes`, which is sorted or the caller's.
fn index(named: Named, classes: Vec<String>) -> Dataset {
    let numbers: std::collections::HashMap<&str, usize> =
        classes.iter().enumerate().map(|(i, class)| (class.as_str(), i)).collect();
    let samples = named
        .images
        .into_iter()
        .filter_map(|Image { path, name, class, record }| {
            Some(Sample { path, name, label: *numbers.get(class.as_str())?, record })
        })
        .collect();
    Dataset { samples, notes: named.notes, classes, aside: None }
}

/// A known class that an unknown one may stand for, in brackets.
fn known_by_another_name(class: &str, classes: &[String]) -> String {
    let known = || classes.iter().map(String::as_str);
    match alike(class, known()).and_then(|other| Some((other, unseen(class, other)?))) {
        Some((other, (here, there))) => {
            format!(" (it has {here} where the training images' \"{}\" has {there})", shown(other))
        }
        None => {
            near(class, known()).map_or(String::new(), |near| format!(" (did you mean \"{}\"?)", shown(near)))
        }
    }
}

/// Pairs of class names that look the same to a person.
fn look_alikes(classes: &[String]) -> impl Iterator<Item = String> {
    let mut looks: Vec<(String, &String)> = classes.iter().map(|class| (looks(class), class)).collect();
    looks.sort();
    let pairs = looks.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| {
        let (one, other) = (pair[0].1, pair[1].1);
        let differ =
            unseen(one, other).map(|(here, there)| format!(" ({here}, {there})")).unwrap_or_default();
        format!("\"{}\" and \"{}\"{differ} count as two classes; is that meant?", shown(one), shown(other))
    });
    pairs.collect::<Vec<_>>().into_iter()
}
