//! The images given to `extract` and `predict`, one after the other.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::given::{Given, Last, Source};
use super::published::Opened;
use super::walk::{Found, LeftOut, Walk};
use crate::error::{Error, Result};
use crate::preprocess::{ImageAt, Record};
use crate::text::path_text::{located, path_text};
use crate::text::words::counted;

/// An image to read, and how it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The file to open, or the file and the number of an image in it: `data_batch_1.bin#1234`.
    pub path: PathBuf,
    /// The reported path: the given PATH and the part below it, separated by `/`; as written in a
    /// list.
    pub name: String,
    /// The name of the image's folder, if that folder is below the given PATH; its class in a
    /// published data set; the list's column `label`; else empty.
    pub label: String,
    /// Its record, if it is one of many in a file.
    pub record: Option<Record>,
    /// Why it cannot be read, if already known: it is a folder that cannot be entered.
    pub refused: Option<String>,
}

impl Input {
    /// Where its pixels are.
    ///
    /// # Errors
    /// [`Error::File`] for a folder that cannot be entered.
    pub fn image(&self) -> Result<ImageAt<'_>> {
        match &self.refused {
            None => Ok(ImageAt::of(&self.path, self.record.as_ref())),
            Some(reason) => Err(Error::file(&self.path, reason)),
        }
    }
}

/// All images of a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of [`Inputs`].
    pub inputs: Vec<Input>,
    /// Notes on left-out files, a sentence each, to be shown once.
    pub notes: Vec<String>,
}

/// Lists all images that `paths` name at once: see [`Inputs`].
///
/// # Errors
/// As [`Given::read`] and [`Inputs::next`].
pub fn list_images(paths: &[PathBuf]) -> Result<Listing> {
    let mut listing = Inputs::of(&Given::read(paths)?);
    let mut inputs = Vec::new();
    while let Some(input) = listing.next()? {
        inputs.push(input);
    }
    Ok(Listing { inputs, notes: listing.notes() })
}

/// The images that PATHs name, one after the other. A file is taken whatever its ending, a folder
/// is walked to any depth for files with an image's ending, without hidden entries. Sorted by path
/// component as bytes, each file once. The lines of a list keep their order and their duplicates;
/// PATHs before and after a list stay before and after it.
///
/// The first image is available before the last folder is read. Memory holds the names of a few
/// folders, and the lists, whatever the number of images.
pub struct Inputs {
    given: Given,
    /// Index of the next source.
    at: usize,
    /// Index of the next line in the current list.
    line: usize,
    merge: Merge,
    last: Last,
    any: bool,
}

impl Inputs {
    /// The images of these PATHs, from the first.
    pub fn of(given: &Given) -> Self {
        Inputs { given: given.clone(), at: 0, line: 0, merge: Merge::default(), last: None, any: false }
    }

    /// The next image.
    ///
    /// # Errors
    /// [`Error::Io`] naming a folder that cannot be read, [`Error::File`] for endless folders or a
    /// damaged published set, and [`Error::Usage`] if there is no image at all.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and then it is over")]
    pub fn next(&mut self) -> Result<Option<Input>> {
        loop {
            if let Some(input) = self.merge.next()? {
                self.any = true;
                return Ok(Some(input));
            }
            if !self.refill()? {
                break;
            }
        }
        match self.any {
            true => Ok(None),
            false => {
                let notes = self.notes().join("\n");
                Err(Error::usage(format!("there is no image to read\n{notes}").trim_end().to_string()))
            }
        }
    }

    /// Adds the next line of a list, or all sources up to the next list.
    fn refill(&mut self) -> Result<bool> {
        let sources = Arc::clone(&self.given.sources);
        self.merge.restart();
        if let Some(Source::List(list)) = sources.get(self.at) {
            let Some((path, label)) = list.line(self.line) else {
                (self.at, self.line) = (self.at + 1, 0);
                return Ok(true);
            };
            self.line += 1;
            let mut source =
                Source::of(&located(&list.base, path.as_os_str().as_bytes()), path, &mut self.last)?;
            // An image is named as in its line, so that the two can be joined.
            if let Source::File { name, .. } | Source::One { name, .. } = &mut source {
                *name =
                    path.to_str().map_or_else(|| path_text(path.as_os_str()).into_owned(), str::to_string);
            }
            self.merge.add(&source, label);
            return Ok(true);
        }
        let start = self.at;
        while let Some(source) = sources.get(self.at).filter(|source| !matches!(source, Source::List(_))) {
            self.merge.add(source, "");
            self.at += 1;
        }
        Ok(self.at > start)
    }

    /// Notes on what was left out so far, a sentence each; complete when there is no next image.
    pub fn notes(&self) -> Vec<String> {
        self.merge.notes()
    }
}

/// Merges sources whose images come sorted, each file once.
#[derive(Default)]
struct Merge {
    /// The next image of each source, least first; an unread folder is at its own path, which is
    /// before all its contents.
    heads: BinaryHeap<Reverse<ListHead>>,
    sources: Vec<Open>,
    notes: Vec<String>,
    /// The place of the last returned image.
    last: Option<(PathBuf, usize)>,
    twice: usize,
}

/// A source of many images.
enum Open {
    Folder { root: PathBuf, shown: PathBuf, label: String, walk: Box<Walk>, left_out: LeftOut, images: usize },
    File { file: Arc<Opened>, shown: PathBuf, label: String, done: usize },
}

/// Ordered by path and number; of one file, the entry with a label comes first: it was found below
/// a folder.
struct ListHead {
    place: PathBuf,
    number: usize,
    unlabelled: bool,
    source: Option<usize>,
    /// `None`: a source that has not been read.
    input: Option<Input>,
}

impl ListHead {
    fn key(&self) -> (&Path, usize, bool, Option<usize>) {
        (&self.place, self.number, self.unlabelled, self.source)
    }
}

impl Ord for ListHead {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for ListHead {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ListHead {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ListHead {}

impl Merge {
    /// Starts anew for sources that come after those so far.
    fn restart(&mut self) {
        let notes: Vec<String> = self.sources.drain(..).flat_map(|source| source.notes()).collect();
        self.notes.extend(notes);
        self.last = None;
    }

    /// Adds a source. `label` is that of its images, if not empty.
    fn add(&mut self, source: &Source, label: &str) {
        let label = label.to_string();
        match source {
            Source::File { path, name } => {
                let (path, name) = (path.clone(), name.clone());
                self.push(Input { path, name, label, record: None, refused: None }, None);
            }
            Source::One { file, index, name } => {
                let label = if label.is_empty() { file.class(*index).to_string() } else { label };
                self.push(stored(file, *index, name.clone(), label), None);
            }
            Source::Folder { path, shown } => {
                let (place, walk) = (plain(path).to_path_buf(), Box::new(Walk::new(path)));
                let (root, shown) = (path.clone(), shown.clone());
                self.open(
                    place,
                    Open::Folder { root, shown, label, walk, left_out: LeftOut::default(), images: 0 },
                );
            }
            Source::Set { files, shown } => {
                for file in files {
                    let place = plain(file.path()).to_path_buf();
                    let (file, shown, label) = (Arc::clone(file), shown.clone(), label.clone());
                    self.open(place, Open::File { file, shown, label, done: 0 });
                }
            }
            // Its lines are added one by one.
            Source::List(_) => {}
        }
    }

    fn open(&mut self, place: PathBuf, source: Open) {
        self.sources.push(source);
        let source = Some(self.sources.len() - 1);
        self.heads.push(Reverse(ListHead { place, number: 0, unlabelled: true, source, input: None }));
    }

    fn push(&mut self, input: Input, source: Option<usize>) {
        let (place, number) = match &input.record {
            Some(record) => (plain(record.file()).to_path_buf(), record.index()),
            None => (plain(&input.path).to_path_buf(), 0),
        };
        let unlabelled = input.label.is_empty();
        self.heads.push(Reverse(ListHead { place, number, unlabelled, source, input: Some(input) }));
    }

    fn next(&mut self) -> Result<Option<Input>> {
        while let Some(Reverse(head)) = self.heads.pop() {
            if let Some(source) = head.source
                && let Some(input) = self.sources[source].next()?
            {
                self.push(input, Some(source));
            }
            let Some(input) = head.input else { continue };
            let place = (head.place, head.number);
            if self.last.as_ref() == Some(&place) {
                self.twice += 1;
                continue;
            }
            self.last = Some(place);
            return Ok(Some(input));
        }
        Ok(None)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.sources.iter().flat_map(Open::notes));
        if self.twice > 0 {
            let images = counted(self.twice, "image was", "images were");
            notes.push(format!("{images} given more than once, read once"));
        }
        notes
    }
}

impl Open {
    fn next(&mut self) -> Result<Option<Input>> {
        match self {
            Open::Folder { root, shown, label, walk, left_out, images } => {
                let (path, refused) = match walk.next(left_out)? {
                    Some(Found::Image(path)) => (path, None),
                    // Reported like an unreadable file: the others are worth continuing for.
                    Some(Found::Closed(path, error)) => (path, Some(error.to_string())),
                    None => return Ok(None),
                };
                *images += 1;
                let below = path.strip_prefix(root).unwrap_or(&path);
                let folder = below.parent().and_then(Path::file_name);
                let folder = folder.map(|name| path_text(name).into_owned()).unwrap_or_default();
                let label = if label.is_empty() { folder } else { label.clone() };
                Ok(Some(Input { name: slashed(&shown.join(below)), label, path, record: None, refused }))
            }
            Open::File { file, shown, label, done } => {
                if *done == file.count() {
                    return Ok(None);
                }
                let index = *done;
                *done += 1;
                let last = file.path().file_name().unwrap_or_default();
                let name = format!("{}#{index}", slashed(&shown.join(last)));
                let label = if label.is_empty() { file.class(index).to_string() } else { label.clone() };
                Ok(Some(stored(file, index, name, label)))
            }
        }
    }

    fn notes(&self) -> Vec<String> {
        let Open::Folder { root, left_out, images, .. } = self else { return Vec::new() };
        let mut notes = left_out.notes(root);
        if *images == 0 {
            notes.push(format!("{}: no images in this folder", path_text(root)));
        }
        notes
    }
}

/// An image of a published set.
fn stored(file: &Opened, index: usize, name: String, label: String) -> Input {
    let record = file.record(index);
    Input { path: record.path(), name, label, record: Some(record), refused: None }
}

/// A path without `./` at its start: `Path` compares by component, and ignores any other `.`.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// A path as reported: `/` between the parts, no `./`, and bytes that are not UTF-8 as in
/// [`path_text`](crate::text::path_text).
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
