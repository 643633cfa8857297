//! The images that `extract` and `predict` are given: files and folders on the command line.

use std::path::{Component, Path, PathBuf};

use super::walk::{self, LeftOut};
use crate::error::{Error, Result};
use crate::wording::counted;

/// An image to read, with what is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The file to open.
    pub path: PathBuf,
    /// The path as it is reported: the given PATH and what is below it, `/` between the parts.
    pub name: String,
    /// The name of the folder that the image lies in, if that folder is below the given PATH; else empty.
    pub label: String,
}

/// All images of a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path component, each file once.
    pub inputs: Vec<Input>,
    /// What was left out, a sentence each, to be said once.
    pub notes: Vec<String>,
}

/// Lists the images that `paths` name: a file is taken whatever its ending is, a folder is walked to any
/// depth for files with an image's ending, hidden entries left out. Sorted by path component as bytes.
///
/// # Errors
/// [`Error::Usage`] naming every path that does not exist or is neither file nor folder, or when there is no
/// image at all; [`Error::Io`] naming a folder that cannot be read.
pub fn list_images(paths: &[PathBuf]) -> Result<Listing> {
    let mut folders = Vec::new();
    let mut wrong = Vec::new();
    for path in paths {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => folders.push(true),
            Ok(metadata) if metadata.is_file() => folders.push(false),
            Ok(_) => wrong.push(format!("{}: expected an image or a folder, found neither", path.display())),
            // A link that leads nowhere is there, and cannot be read.
            Err(source) => wrong.push(Error::io("read", path)(source).to_string()),
        }
    }
    if !wrong.is_empty() {
        return Err(Error::usage(wrong.join("\n")));
    }

    let mut inputs = Vec::new();
    let mut notes = Vec::new();
    for (path, is_folder) in paths.iter().zip(folders) {
        if !is_folder {
            inputs.push(Input { path: path.clone(), name: slashed(path), label: String::new() });
            continue;
        }
        let mut left_out = LeftOut::default();
        let images = walk::images(path, &mut left_out)?;
        notes.extend(left_out.notes(path));
        if images.is_empty() {
            notes.push(format!("{}: no images in this folder", path.display()));
        }
        inputs.extend(images.into_iter().map(|image| {
            let below = image.strip_prefix(path).unwrap_or(&image).parent();
            let label = below.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            Input { name: slashed(&image), label: label.unwrap_or_default(), path: image }
        }));
    }
    if inputs.is_empty() {
        let notes = notes.join("\n");
        return Err(Error::usage(format!("there is no image to read\n{notes}").trim_end().to_string()));
    }

    // Of a file given twice the one with a label stays: it was found below a folder.
    inputs.sort_by(|a, b| {
        plain(&a.path).cmp(plain(&b.path)).then_with(|| a.label.is_empty().cmp(&b.label.is_empty()))
    });
    let before = inputs.len();
    inputs.dedup_by(|later, earlier| plain(&later.path) == plain(&earlier.path));
    let twice = before - inputs.len();
    if twice > 0 {
        notes.push(format!("{} given more than once, read once", counted(twice, "image was", "images were")));
    }
    Ok(Listing { inputs, notes })
}

/// A path without `./` at its start: `Path` compares by component, and passes over the other `.`.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// A path as it is reported: `/` between the parts, no `./`, bytes that are no UTF-8 replaced.
pub(super) fn slashed(path: &Path) -> String {
    let mut text = String::new();
    for part in path.components().filter(|part| *part != Component::CurDir) {
        if !text.is_empty() && !text.ends_with('/') {
            text.push('/');
        }
        text.push_str(&part.as_os_str().to_string_lossy());
    }
    text
}
