//! Folder -> its images, in the order of their path components, whatever the file system's order is.
//!
//! One `readdir` a folder, and no `stat` for plain files where the file system tells their kind.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::preprocess::is_image_name;
use crate::wording::{counted, first_few, shown};

/// Folders nested deeper than this are refused.
const DEEPEST: usize = 200;
/// Links may lead to a folder that was read already, but not more often than this: links that fork at each
/// level make a tree without end out of few folders.
const MOST_REPEATS: usize = 1000;

/// What a folder holds besides images, counted, to be said once.
#[derive(Default)]
pub(super) struct LeftOut {
    hidden: usize,
    /// A few names of hidden entries, as examples.
    hidden_names: BTreeSet<String>,
    /// Files whose ending is no image's, by ending.
    endings: BTreeMap<String, usize>,
    /// Pipes, sockets and devices: opening one may wait for ever.
    special: Vec<String>,
    /// Links to a folder around them.
    loops: Vec<String>,
}

impl LeftOut {
    /// A sentence for each kind of thing that was left out.
    pub(super) fn notes(&self, root: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        let root = root.display();
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
                "{root}: left out {} that by the ending is no image ({})",
                counted(total, "file", "files"),
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
                "{root}: did not follow {} to a folder around it: {}",
                counted(self.loops.len(), "link", "links"),
                first_few(&self.loops)
            ));
        }
        notes
    }

    fn hide(&mut self, name: &OsStr) {
        self.hidden += 1;
        if self.hidden_names.len() < 6 {
            self.hidden_names.insert(name.to_string_lossy().into_owned());
        }
    }

    fn other(&mut self, path: &Path) {
        let ending = match path.extension() {
            Some(ending) => format!(".{}", shown(&ending.to_string_lossy().to_lowercase())),
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

/// The entries of one folder that count (folders and images), sorted by the bytes of their names.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub(super) fn entries(folder: &Path, left_out: &mut LeftOut) -> Result<Vec<Entry>> {
    let cannot = || Error::io("read the folder", folder);
    let mut names: Vec<(OsString, FileType)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot())? {
        let entry = entry.map_err(cannot())?;
        let name = entry.file_name();
        if is_hidden(&name) {
            left_out.hide(&name);
        } else {
            names.push((name, entry.file_type().map_err(cannot())?));
        }
    }
    names.sort_by(|(a, _), (b, _)| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    let mut entries = Vec::new();
    for (name, kind) in names {
        let path = folder.join(name);
        // A link that leads nowhere counts as a file: under an image's name it is told as one that cannot
        // be read.
        let target =
            if kind.is_symlink() { fs::metadata(&path).ok().map(|m| m.file_type()) } else { Some(kind) };
        match target {
            Some(kind) if kind.is_dir() => entries.push(Entry { path, is_folder: true }),
            Some(kind) if !kind.is_file() => left_out.special.push(path.display().to_string()),
            _ if is_image_name(&path) => entries.push(Entry { path, is_folder: false }),
            _ => left_out.other(&path),
        }
    }
    Ok(entries)
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
/// [`Error::Io`] when a folder cannot be read; [`Error::File`] for folders nested, or linked, without end.
pub(super) fn images(root: &Path, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let mut walk =
        Walk { left_out, images: Vec::new(), around: Vec::new(), read: BTreeSet::new(), repeats: 0 };
    walk.folder(root)?;
    Ok(walk.images)
}

struct Walk<'a> {
    left_out: &'a mut LeftOut,
    images: Vec<PathBuf>,
    /// Device and inode of each folder around the current one.
    around: Vec<(u64, u64)>,
    read: BTreeSet<(u64, u64)>,
    repeats: usize,
}

impl Walk<'_> {
    /// Depth first in the order of names, which is the order of path components.
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let id = identity(&fs::metadata(folder).map_err(Error::io("read the folder", folder))?);
        if self.around.contains(&id) {
            self.left_out.loops.push(folder.display().to_string());
            return Ok(());
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
        self.around.push(id);
        for entry in entries(folder, self.left_out)? {
            match entry.is_folder {
                true => self.folder(&entry.path)?,
                false => self.images.push(entry.path),
            }
        }
        self.around.pop();
        Ok(())
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
