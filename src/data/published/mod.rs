//! Published data sets: CIFAR-10 and CIFAR-100, binary and Python, and MNIST's IDX files.
//!
//! They hold many images in a file, and come in two parts. Images do not get files of their own: an
//! image is a place in one of theirs ([`Record`]), named `data_batch_1.bin#1234`.

mod cifar;
mod idx;
mod python;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Image, Named};
use crate::error::{Error, Result};
use crate::preprocess::{Packed, Record};
use crate::text::path_text::path_text;
use crate::text::words::{counted, first_few};
use cifar::Layout;

/// Maximum number of folder entries searched for IDX files: a folder with more is not such a set.
const MOST_ENTRIES: usize = 1000;

/// One of the two parts that a set is published in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Portion {
    Train,
    Test,
}

impl Portion {
    fn name(self) -> &'static str {
        match self {
            Portion::Train => "training",
            Portion::Test => "test",
        }
    }
}

/// Family of a set, which determines how its files are read.
#[derive(Clone, Copy)]
enum Form {
    Cifar(&'static Layout),
    Idx,
}

/// An open file of a set: its images and their labels.
pub(super) struct Opened {
    images: Arc<Packed>,
    count: usize,
    /// `None`: their classes are unknown.
    labels: Option<Labels>,
}

/// A class for each image.
struct Labels {
    /// Indices into `classes`, each within.
    numbers: Vec<u16>,
    classes: Arc<Vec<String>>,
}

impl Opened {
    /// Number of images.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.images.path
    }

    /// Image `index`.
    pub(super) fn record(&self, index: usize) -> Record {
        Record::new(&self.images, index)
    }

    /// The name of its class; empty if unknown.
    pub(super) fn class(&self, index: usize) -> &str {
        let known = |labels: &Labels| usize::from(labels.numbers[index]);
        self.labels.as_ref().map_or("", |labels| &labels.classes[known(labels)])
    }
}

/// A set found in a folder.
pub(super) struct Published {
    folder: PathBuf,
    form: Form,
    /// The image files of each part, by path.
    train: Vec<PathBuf>,
    test: Vec<PathBuf>,
}

/// The set in a folder, if there is one.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub(super) fn find(folder: &Path) -> Result<Option<Published>> {
    if let Some(layout) = cifar::LAYOUTS.iter().find(|layout| layout.is_in(folder)) {
        let [train, test] =
            [layout.train, layout.test].map(|names| names.iter().map(|name| folder.join(name)).collect());
        return Ok(Some(Published { folder: folder.into(), form: Form::Cifar(layout), train, test }));
    }
    let files = idx::image_files(folder, MOST_ENTRIES)?;
    let (test, train): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| idx::is_test(path));
    let found = !train.is_empty() || !test.is_empty();
    Ok(found.then(|| Published { folder: folder.into(), form: Form::Idx, train, test }))
}

/// Opens a file if it alone is one of a set's image files.
///
/// # Errors
/// As [`Published::open`].
pub(super) fn open_file(path: &Path) -> Result<Option<Opened>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
    let folder = path.parent().unwrap_or(Path::new(""));
    let of = |layout: &&Layout| layout.names().any(|file| file == name) && layout.is_in(folder);
    let form = match cifar::LAYOUTS.iter().find(of) {
        Some(layout) => Form::Cifar(layout),
        None if idx::is_images(name) => Form::Idx,
        None => return Ok(None),
    };
    open(path, form).map(Some)
}

fn open(path: &Path, form: Form) -> Result<Opened> {
    match form {
        Form::Cifar(layout) => layout.open(path),
        Form::Idx => idx::open(path),
    }
}

/// The only sub-folder that contains a set, for a hint.
pub(super) fn nested(folders: &[&Path]) -> Option<PathBuf> {
    let mut found = folders.iter().filter(|folder| find(folder).is_ok_and(|set| set.is_some()));
    found.next().filter(|_| found.next().is_none()).map(|folder| folder.to_path_buf())
}

impl Published {
    fn title(&self) -> &'static str {
        match self.form {
            Form::Cifar(layout) => layout.title,
            Form::Idx => "a set of IDX files",
        }
    }

    fn files(&self, portion: Portion) -> &[PathBuf] {
        match portion {
            Portion::Train => &self.train,
            Portion::Test => &self.test,
        }
    }

    /// Whether any file of a part exists.
    pub(super) fn has(&self, portion: Portion) -> bool {
        self.files(portion).iter().any(|file| file.is_file())
    }

    /// Opens the files of a part.
    ///
    /// # Errors
    /// [`Error::File`] if one is missing, cut short, damaged or invalid; [`Error::Io`].
    fn part(&self, portion: Portion) -> Result<Vec<Opened>> {
        let files = self.files(portion);
        let names: Vec<String> = files.iter().map(|file| last(file)).collect();
        let wrong =
            |message: String| Err(Error::file(&self.folder, format!("is {}, {message}", self.title())));
        let missing: Vec<&String> =
            names.iter().zip(files).filter(|(_, file)| !file.is_file()).map(|(name, _)| name).collect();
        if !missing.is_empty() {
            let what = counted(missing.len(), "file of it is", "files of it are");
            let few = first_few(&missing);
            return wrong(format!("but {what} missing: {few}; unpack or download it again"));
        }
        match (self.form, names.len()) {
            (Form::Idx, 0) => {
                let name = if portion == Portion::Test { "t10k" } else { "train" };
                wrong(format!(
                    "but its {} part is missing: expected a file such as {name}-images-idx3-ubyte (or .gz); download it \
                     too, or name another folder",
                    portion.name()
                ))
            }
            (Form::Idx, 2..) => wrong(format!(
                "but it has several {} parts: {}; name one of these files instead of the folder",
                portion.name(),
                first_few(&names)
            )),
            _ => files.iter().map(|file| open(file, self.form)).collect(),
        }
    }

    /// Opens all existing files of both parts, by path.
    ///
    /// # Errors
    /// As [`open_file`].
    pub(super) fn open(&self) -> Result<Vec<Opened>> {
        let mut files: Vec<&PathBuf> =
            self.train.iter().chain(&self.test).filter(|file| file.is_file()).collect();
        files.sort();
        files.into_iter().map(|file| open(file, self.form)).collect()
    }

    /// The labelled images of a part.
    ///
    /// # Errors
    /// As [`Published::part`], and if there are no labels.
    pub(super) fn read(&self, portion: Portion) -> Result<Named> {
        let mut named = Named::default();
        for opened in self.part(portion)? {
            add(&mut named, &opened)?;
        }
        named.notes.push(format!(
            "{} is {}: {} of its {} part",
            path_text(&self.folder),
            self.title(),
            counted(named.images.len(), "image", "images"),
            portion.name()
        ));
        Ok(named)
    }
}

/// The labelled images of one file.
///
/// # Errors
/// [`Error::File`] if there are no labels.
pub(super) fn labelled(opened: &Opened) -> Result<Named> {
    let mut named = Named::default();
    add(&mut named, opened)?;
    Ok(named)
}

fn add(named: &mut Named, opened: &Opened) -> Result<()> {
    if opened.labels.is_none() {
        return Err(idx::no_labels(opened.path()));
    }
    let file = last(opened.path());
    named.images.extend((0..opened.count()).map(|index| {
        let (record, class) = (opened.record(index), opened.class(index).to_string());
        Image { path: record.path(), name: format!("{file}#{index}"), class, record: Some(record) }
    }));
    Ok(())
}

fn last(path: &Path) -> String {
    path_text(path.file_name().unwrap_or_default()).into_owned()
}

/// A regular file and its length.
fn regular(path: &Path) -> Result<(File, u64)> {
    // Checked before opening, which would block on a pipe.
    let about = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !about.is_file() {
        return Err(Error::file(path, "expected a file of images, found a folder or a device"));
    }
    Ok((File::open(path).map_err(Error::io("read", path))?, about.len()))
}
