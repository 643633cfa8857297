//! The images that `extract` and `predict` are given: files and folders on the command line.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::walk::{Found, LeftOut, Walk};
use crate::error::{Error, Result};
use crate::path_text::path_text;
use crate::wording::counted;

/// An image to read, with what is told about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// The file to open.
    pub path: PathBuf,
    /// The path as it is reported: the given PATH and what is below it, `/` between the parts.
    pub name: String,
    /// The name of the folder that the image lies in, if that folder is below the given PATH; else empty.
    pub label: String,
    /// Why it cannot be opened, if that is known: it is a folder that cannot be read.
    pub refused: Option<String>,
}

impl Input {
    /// The file to open.
    ///
    /// # Errors
    /// [`Error::File`] for a folder that cannot be read.
    pub fn file(&self) -> Result<&Path> {
        match &self.refused {
            None => Ok(&self.path),
            Some(reason) => Err(Error::file(&self.path, reason)),
        }
    }
}

/// All images of a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path component, each file once.
    pub inputs: Vec<Input>,
    /// What was left out, a sentence each, to be said once.
    pub notes: Vec<String>,
}

/// Lists the images that `paths` name, all at once: see [`Inputs`].
///
/// # Errors
/// As [`Inputs::open`] and [`Inputs::next`].
pub fn list_images(paths: &[PathBuf]) -> Result<Listing> {
    let mut listing = Inputs::open(paths)?;
    let mut inputs = Vec::new();
    while let Some(input) = listing.next()? {
        inputs.push(input);
    }
    Ok(Listing { inputs, notes: listing.notes() })
}

/// The images that PATHs name, one after the other: a file is taken whatever its ending is, a folder is walked
/// to any depth for files with an image's ending, hidden entries left out. Sorted by path component as bytes,
/// each file once. A folder below it that cannot be read stands in the list as an [`Input`] that is refused.
///
/// The first image is there before the last folder is read, and memory holds the names of a few folders,
/// whatever the number of images.
pub struct Inputs {
    /// The next of each source, least first; a folder that has not been read stands in its own place, which
    /// is before all that it holds.
    heads: BinaryHeap<Reverse<Head>>,
    folders: Vec<Folder>,
    /// The last image that was handed out.
    last: Option<PathBuf>,
    twice: usize,
}

/// A folder of the command line.
struct Folder {
    root: PathBuf,
    walk: Walk,
    left_out: LeftOut,
    images: usize,
}

/// Ordered by path, and of the same file the one with a label first: it was found below a folder.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    place: PathBuf,
    unlabelled: bool,
    source: Option<usize>,
    /// `None`: a folder that has not been read.
    input: Option<Input>,
}

impl Inputs {
    /// Looks at the given paths themselves, not into them.
    ///
    /// # Errors
    /// [`Error::Usage`] naming every path that does not exist or is neither file nor folder.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut wrong = Vec::new();
        let mut inputs = Inputs { heads: BinaryHeap::new(), folders: Vec::new(), last: None, twice: 0 };
        for path in paths {
            let place = plain(path).to_path_buf();
            let (source, input) = match std::fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    let (root, walk) = (path.clone(), Walk::new(path));
                    inputs.folders.push(Folder { root, walk, left_out: LeftOut::default(), images: 0 });
                    (Some(inputs.folders.len() - 1), None)
                }
                Ok(metadata) if metadata.is_file() => {
                    let (path, name) = (path.clone(), slashed(path));
                    (None, Some(Input { path, name, label: String::new(), refused: None }))
                }
                Ok(_) => {
                    wrong.push(format!("{}: expected an image or a folder, found neither", path.display()));
                    continue;
                }
                // A link that leads nowhere is there, and cannot be read.
                Err(source) => {
                    wrong.push(Error::io("read", path)(source).to_string());
                    continue;
                }
            };
            inputs.heads.push(Reverse(Head { place, unlabelled: true, source, input }));
        }
        match wrong.is_empty() {
            true => Ok(inputs),
            false => Err(Error::usage(wrong.join("\n"))),
        }
    }

    /// The next image.
    ///
    /// # Errors
    /// [`Error::Io`] naming a PATH that cannot be read, [`Error::File`] for links without end, and
    /// [`Error::Usage`] when there is no image at all.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and then it is over")]
    pub fn next(&mut self) -> Result<Option<Input>> {
        while let Some(Reverse(head)) = self.heads.pop() {
            if let Some(source) = head.source {
                let folder = &mut self.folders[source];
                if let Some(found) = folder.walk.next(&mut folder.left_out)? {
                    folder.images += 1;
                    let input = match found {
                        Found::Image(path) => below(&folder.root, path),
                        // Not to be read, and told as a file that cannot be: the others are worth going on for.
                        Found::Closed(path, error) => {
                            let (name, refused) = (slashed(&path), Some(error.to_string()));
                            Input { path, name, label: String::new(), refused }
                        }
                    };
                    let (place, unlabelled) = (plain(&input.path).to_path_buf(), input.label.is_empty());
                    self.heads.push(Reverse(Head {
                        place,
                        unlabelled,
                        source: head.source,
                        input: Some(input),
                    }));
                }
            }
            let Some(input) = head.input else { continue };
            if self.last.as_ref() == Some(&head.place) {
                self.twice += 1;
                continue;
            }
            self.last = Some(head.place);
            return Ok(Some(input));
        }
        match self.last {
            Some(_) => Ok(None),
            None => {
                let notes = self.notes().join("\n");
                Err(Error::usage(format!("there is no image to read\n{notes}").trim_end().to_string()))
            }
        }
    }

    /// What was left out so far, a sentence each; complete when there is no next image.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for folder in &self.folders {
            notes.extend(folder.left_out.notes(&folder.root));
            if folder.images == 0 {
                notes.push(format!("{}: no images in this folder", folder.root.display()));
            }
        }
        if self.twice > 0 {
            let images = counted(self.twice, "image was", "images were");
            notes.push(format!("{images} given more than once, read once"));
        }
        notes
    }
}

/// An image below a given folder.
fn below(root: &Path, path: PathBuf) -> Input {
    let folder = path.strip_prefix(root).unwrap_or(&path).parent();
    let label = folder.and_then(Path::file_name).map(|name| path_text(name).into_owned());
    Input { name: slashed(&path), label: label.unwrap_or_default(), path, refused: None }
}

/// A path without `./` at its start: `Path` compares by component, and passes over the other `.`.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// A path as it is reported: `/` between the parts, no `./`, and bytes that are no UTF-8 as
/// [`path_text`](crate::path_text) has them.
pub(super) fn slashed(path: &Path) -> String {
    let mut bytes = Vec::with_capacity(path.as_os_str().len());
    for part in path.components().filter(|part| *part != Component::CurDir) {
        if !bytes.is_empty() && !bytes.ends_with(b"/") {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(part.as_os_str().as_bytes());
    }
    path_text(OsStr::from_bytes(&bytes)).into_owned()
}
