//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009): their files, and their binary version.
//!
//! A record is its labels, a byte each, and 32 × 32 pixels: all of red, all of green, all of blue.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Labels, Opened, python, regular};
use crate::error::{Error, Result};
use crate::preprocess::{Bytes, Channels, Packed};
use crate::text::path_text::path_text;
use crate::text::words::{counted, shown};

/// Columns and rows.
pub(super) const SIDE: u32 = 32;
/// Bytes of an image.
pub(super) const PIXELS: usize = (SIDE * SIDE * 3) as usize;
/// The names of the classes are shorter than this.
const LONGEST_NAMES: u64 = 1 << 20;

/// Layout of a version of a set.
pub(super) struct Layout {
    pub(super) title: &'static str,
    /// Files that identify it: all of one of these lists are present.
    marks: &'static [&'static [&'static str]],
    pub(super) train: &'static [&'static str],
    pub(super) test: &'static [&'static str],
    /// The file that names the classes.
    classes: &'static str,
    kind: Kind,
}

enum Kind {
    /// This many bytes of labels, the class last, before the pixels.
    Binary { labels: usize },
    /// Pickles with the labels and the class names under these keys.
    Python { labels: &'static str, classes: &'static str },
}

/// All versions.
pub(super) static LAYOUTS: [Layout; 4] = [
    Layout {
        title: "CIFAR-10 (binary version)",
        marks: &[
            &["batches.meta.txt"],
            &["data_batch_1.bin"],
            &["data_batch_2.bin"],
            &["data_batch_3.bin"],
            &["data_batch_4.bin"],
            &["data_batch_5.bin"],
            &["test_batch.bin"],
        ],
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: &["test_batch.bin"],
        classes: "batches.meta.txt",
        kind: Kind::Binary { labels: 1 },
    },
    Layout {
        title: "CIFAR-100 (binary version)",
        marks: &[&["fine_label_names.txt"], &["train.bin", "test.bin"]],
        train: &["train.bin"],
        test: &["test.bin"],
        classes: "fine_label_names.txt",
        kind: Kind::Binary { labels: 2 },
    },
    Layout {
        title: "CIFAR-10 (Python version)",
        marks: &[
            &["batches.meta"],
            &["data_batch_1"],
            &["data_batch_2"],
            &["data_batch_3"],
            &["data_batch_4"],
            &["data_batch_5"],
            &["test_batch"],
        ],
        train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test: &["test_batch"],
        classes: "batches.meta",
        kind: Kind::Python { labels: "labels", classes: "label_names" },
    },
    Layout {
        title: "CIFAR-100 (Python version)",
        marks: &[&["meta", "train"], &["meta", "test"], &["train", "test"]],
        train: &["train"],
        test: &["test"],
        classes: "meta",
        kind: Kind::Python { labels: "fine_labels", classes: "fine_label_names" },
    },
];

impl Layout {
    /// Whether a folder contains this version, or some of it.
    pub(super) fn is_in(&self, folder: &Path) -> bool {
        self.marks.iter().any(|files| files.iter().all(|file| folder.join(file).is_file()))
    }

    /// The names of its image files.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().chain(self.test).copied()
    }

    /// Opens one of its image files.
    pub(super) fn open(&self, path: &Path) -> Result<Opened> {
        let classes = path.with_file_name(self.classes);
        if !classes.is_file() {
            let message = format!("is missing: it names the classes of {}; unpack it too", self.title);
            return Err(Error::file(&classes, message));
        }
        let (names, images, numbers) = match self.kind {
            Kind::Binary { labels } => {
                let (images, numbers) = binary(path, labels)?;
                (class_names(&classes)?, images, numbers)
            }
            Kind::Python { labels, classes: key } => {
                let (pixels, numbers) = python::images(path, labels)?;
                (python::class_names(&classes, key)?, packed(path, Bytes::Memory(pixels), 0), numbers)
            }
        };
        if let Some(twice) = (1..names.len()).find(|&index| names[..index].contains(&names[index])) {
            let message = format!("names the class \"{}\" twice; mend it", shown(&names[twice]));
            return Err(Error::file(&classes, message));
        }
        if let Some(index) = numbers.iter().position(|&number| usize::from(number) >= names.len()) {
            return Err(Error::file(
                path,
                format!(
                    "image {index} has the label {}, but {} names {} (0 to {}): one of the two files is damaged, or \
                     belongs to another set; download them again",
                    numbers[index],
                    path_text(&classes),
                    counted(names.len(), "class", "classes"),
                    names.len().saturating_sub(1)
                ),
            ));
        }
        let count = numbers.len();
        let labels = Some(Labels { numbers, classes: Arc::new(names) });
        Ok(Opened { images: Arc::new(images), count, labels })
    }
}

/// A file of images whose pixels follow `labels` bytes of labels.
fn packed(path: &Path, bytes: Bytes, labels: usize) -> Packed {
    Packed {
        path: path.into(),
        bytes,
        start: labels as u64,
        stride: (labels + PIXELS) as u64,
        size: (SIDE, SIDE),
        channels: Channels::Planes,
    }
}

/// A file of records, and the class of each.
fn binary(path: &Path, labels: usize) -> Result<(Packed, Vec<u16>)> {
    let (file, length) = regular(path)?;
    let record = (labels + PIXELS) as u64;
    if length == 0 || length % record != 0 {
        let bytes = |count: u64| counted(count as usize, "byte", "bytes");
        return Err(Error::file(
            path,
            format!(
                "expected records of {record} bytes ({} and 32 x 32 pixels), found {}, which are {} and {} \
                 more: it is cut short or no file of CIFAR; download it again",
                counted(labels, "label", "labels"),
                bytes(length),
                counted((length / record) as usize, "record", "records"),
                bytes(length % record)
            ),
        ));
    }
    let mut numbers = Vec::new();
    for index in 0..length / record {
        let mut label = [0];
        let place = index * record + labels as u64 - 1;
        file.read_exact_at(&mut label, place).map_err(Error::io("read", path))?;
        numbers.push(label[0].into());
    }
    Ok((packed(path, Bytes::File(file), labels), numbers))
}

/// Reads a class a line.
fn class_names(path: &Path) -> Result<Vec<String>> {
    let (file, _) = regular(path)?;
    let mut text = String::new();
    let read = file.take(LONGEST_NAMES).read_to_string(&mut text);
    if read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData) {
        return Err(Error::file(path, "expected the name of a class a line, in UTF-8; download it again"));
    }
    read.map_err(Error::io("read", path))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_string).collect();
    match names.is_empty() {
        true => Err(Error::file(path, "expected the name of a class a line, found none; download it again")),
        false => Ok(names),
    }
}
