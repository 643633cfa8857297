//! Walks a folder's images in the order of their path components, whatever the file system's order.
//!
//! One `readdir` a folder, and no `stat` for plain files if the file system tells their type.
//! Folders are read when the walk reaches them, so that the first image is available at once, and
//! memory holds only the packed names in the folders around the current one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::preprocess::is_image_name;
use crate::text::path_text::path_text;
use crate::text::words::{counted, first_few, shown};

/// Deeper folders are refused.
const DEEPEST: usize = 200;
/// How often links may lead to a folder that was read already: links that branch at each level make
/// an endless tree from few folders.
const MOST_REPEATS: usize = 1000;

/// Entries of a folder that are not images, counted, to be shown once.
#[derive(Default)]
pub(super) struct LeftOut {
    hidden: usize,
    /// A few names of hidden entries, as examples.
    hidden_names: BTreeSet<String>,
    /// Files without an image's ending, by ending.
    endings: BTreeMap<String, usize>,
    /// Pipes, sockets and devices: opening one may block.
    special: Vec<String>,
    /// Links to an enclosing folder.
    loops: Vec<String>,
}

impl LeftOut {
    /// A sentence for each kind of left-out entry.
    pub(super) fn notes(&self, root: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        let root = path_text(root);
        if self.hidden > 0 {
            let names: Vec<_> = self.hidden_names.iter().collect();
            notes.push(format!(
                "{root}: left out {} ({})",
                counted(self.hidden, "hidden entry", "hidden entries"),
                first_few(&names)
            ));
        }
        if !self.endings.is_empty() {
            let total = self.endings.values().sum();
            let mut endings: Vec<_> = self.endings.iter().collect();
            endings.sort_by_key(|&(_, count)| std::cmp::Reverse(*count));
            let endings: Vec<_> =
                endings.into_iter().map(|(ending, count)| format!("{count} {ending}")).collect();
            notes.push(format!(
                "{root}: left out {} ({})",
                counted(
                    total,
                    "file whose ending is not an image's",
                    "files whose endings are not an image's"
                ),
                first_few(&endings)
            ));
        }
        if !self.special.is_empty() {
            notes.push(format!(
                "{root}: left out what is neither file nor folder: {}",
                first_few(&self.special)
            ));
        }
        if !self.loops.is_empty() {
            notes.push(format!(
                "{root}: did not follow {}: {}",
                counted(self.loops.len(), "link to a folder around it", "links to folders around them"),
                first_few(&self.loops)
            ));
        }
        notes
    }

    fn hide(&mut self, name: &OsStr) {
        self.hidden += 1;
        if self.hidden_names.len() < 6 {
            self.hidden_names.insert(path_text(name).into_owned());
        }
    }

    fn other(&mut self, path: &Path) {
        let ending = match path.extension() {
            Some(ending) => format!(".{}", shown(&path_text(ending).to_lowercase())),
            None => "without an ending".into(),
        };
        *self.endings.entry(ending).or_default() += 1;
    }
}

/// An entry of a folder, links followed.
pub(super) struct Entry {
    pub path: PathBuf,
    pub is_folder: bool,
}

/// The names in a folder, sorted by their bytes, packed: there may be a million.
struct Names {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// One name, and its type from `readdir`.
#[derive(Clone, Copy)]
struct Slot {
    start: usize,
    length: u32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
    Special,
}

impl Names {
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    fn read(folder: &Path, left_out: &mut LeftOut) -> Result<Self> {
        let cannot = || Error::io("read the folder", folder);
        let (mut bytes, mut slots) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(cannot())? {
            let entry = entry.map_err(cannot())?;
            let name = entry.file_name();
            if is_hidden(&name) {
                left_out.hide(&name);
                continue;
            }
            let kind = entry.file_type().map_err(cannot())?;
            let kind = match () {
                () if kind.is_symlink() => Kind::Link,
                () if kind.is_dir() => Kind::Folder,
                () if kind.is_file() => Kind::File,
                () => Kind::Special,
            };
            slots.push(Slot { start: bytes.len(), length: name.len() as u32, kind });
            bytes.extend_from_slice(name.as_bytes());
        }
        let name = |slot: &Slot| &bytes[slot.start..slot.start + slot.length as usize];
        slots.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        Ok(Names { bytes, slots })
    }

    /// The entry of a name, if it counts.
    fn entry(&self, folder: &Path, slot: Slot, left_out: &mut LeftOut) -> Option<Entry> {
        let name = &self.bytes[slot.start..slot.start + slot.length as usize];
        let path = folder.join(OsStr::from_bytes(name));
        let kind = match slot.kind {
            // A dangling link counts as a file: with an image's name it is reported as unreadable.
            Kind::Link => match fs::metadata(&path) {
                Ok(target) if target.is_dir() => Kind::Folder,
                Ok(target) if !target.is_file() => Kind::Special,
                _ => Kind::File,
            },
            kind => kind,
        };
        match kind {
            Kind::Folder => return Some(Entry { path, is_folder: true }),
            Kind::Special => left_out.special.push(path_text(&path).into_owned()),
            _ if is_image_name(&path) => return Some(Entry { path, is_folder: false }),
            _ => left_out.other(&path),
        }
        None
    }
}

/// The entries of one folder that count (folders and images), sorted by the bytes of their names.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub(super) fn entries(folder: &Path, left_out: &mut LeftOut) -> Result<Vec<Entry>> {
    let names = Names::read(folder, left_out)?;
    Ok(names.slots.iter().filter_map(|&slot| names.entry(folder, slot, left_out)).collect())
}

/// Hidden, or made by a system for itself: macOS' archives, Windows' previews, Synology's indices.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
        || ["__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "Desktop.ini"]
            .iter()
            .any(|known| name == *known)
}

/// All images below a folder, sorted by path component. Links are followed, loops are cut.
///
/// # Errors
/// [`Error::Io`] when a folder cannot be read; [`Error::File`] for endless nesting or links.
pub(super) fn images(root: &Path, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let mut walk = Walk::new(root);
    let mut images = Vec::new();
    while let Some(found) = walk.next(left_out)? {
        match found {
            Found::Image(image) => images.push(image),
            Found::Closed(_, error) => return Err(error),
        }
    }
    Ok(images)
}

/// Item of a walk.
pub(super) enum Found {
    Image(PathBuf),
    /// A folder that cannot be read, and why.
    Closed(PathBuf, Error),
}

/// The images below a folder, one after the other.
pub(super) struct Walk {
    /// Not yet entered.
    root: Option<PathBuf>,
    /// The enclosing folders of the current image.
    around: Vec<Level>,
    read: BTreeSet<(u64, u64)>,
    repeats: usize,
}

/// A folder that is being walked.
struct Level {
    folder: PathBuf,
    /// Device and inode.
    id: (u64, u64),
    names: Names,
    /// Number of names done.
    done: usize,
}

impl Walk {
    pub(super) fn new(root: &Path) -> Self {
        Walk { root: Some(root.into()), around: Vec::new(), read: BTreeSet::new(), repeats: 0 }
    }

    /// The next image: depth first in the order of names, which is the order of path components.
    ///
    /// # Errors
    /// [`Error::Io`] if the root cannot be read, [`Error::File`] for endless links; the walk is
    /// then over.
    pub(super) fn next(&mut self, left_out: &mut LeftOut) -> Result<Option<Found>> {
        if let Some(root) = self.root.take() {
            let level = self.level(&root, left_out)?;
            self.around.extend(level);
        }
        while let Some(level) = self.around.last_mut() {
            let Some(&slot) = level.names.slots.get(level.done) else {
                self.around.pop();
                continue;
            };
            level.done += 1;
            match level.names.entry(&level.folder, slot, left_out) {
                Some(Entry { path, is_folder: true }) => match self.level(&path, left_out) {
                    Ok(level) => self.around.extend(level),
                    // The system refuses to read it; endless folders are a different error.
                    Err(error @ Error::Io { .. }) => return Ok(Some(Found::Closed(path, error))),
                    Err(error) => {
                        self.around.clear();
                        return Err(error);
                    }
                },
                Some(Entry { path, is_folder: false }) => return Ok(Some(Found::Image(path))),
                None => {}
            }
        }
        Ok(None)
    }

    /// Enters a folder, unless it encloses the current one.
    fn level(&mut self, folder: &Path, left_out: &mut LeftOut) -> Result<Option<Level>> {
        let id = identity(&fs::metadata(folder).map_err(Error::io("read the folder", folder))?);
        if self.around.iter().any(|level| level.id == id) {
            left_out.loops.push(path_text(folder).into_owned());
            return Ok(None);
        }
        if self.around.len() >= DEEPEST {
            return Err(Error::file(folder, format!("folders nested more than {DEEPEST} deep")));
        }
        if !self.read.insert(id) {
            self.repeats += 1;
        }
        if self.repeats > MOST_REPEATS {
            return Err(Error::file(
                folder,
                format!(
                    "links led to folders that were read already more than {MOST_REPEATS} times; take some links away"
                ),
            ));
        }
        let names = Names::read(folder, left_out)?;
        Ok(Some(Level { folder: folder.into(), id, names, done: 0 }))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
