//! Atomic file writes: a file is either complete or unchanged.
//!
//! The bytes go to a hidden temporary beside the path, which replaces the path durably once all of
//! them are written. A failure before that (a full disk, an error, a panic) leaves the old file
//! untouched and removes the temporary; only `kill -9` and a power cut can leave one behind.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher as _};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::util::digest::Hasher;
use crate::util::files::{self, OwnFile};

/// Longer names leave no room for the temporary's own letters (file systems allow 255 bytes).
const LONGEST_PREFIX: usize = 200;

/// A file under construction. Dropped without [`AtomicFile::commit`] it leaves no trace.
///
/// Writes are buffered. Their errors carry no path: [`AtomicFile::error`] adds it.
pub struct AtomicFile {
    /// The path as the user gave it, for error messages.
    path: PathBuf,
    /// The path that is replaced.
    target: PathBuf,
    // Before the temporary: closed, and then removed.
    writer: BufWriter<OwnFile>,
    temporary: Temporary,
}

/// The name of a temporary, which goes with this.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // In its place it is no longer there.
        let _ = files::remove(&self.0);
    }
}

impl AtomicFile {
    /// Starts a file that will replace `path`, which the user has named: a link of the user's stays
    /// a link. Missing parent folders are created.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be created or written to, [`Error::File`] if `path` is a
    /// folder, not a regular file, or another user's link.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::beside(path, resolve(path)?)
    }

    /// As [`AtomicFile::create`], for a name that the program has chosen: a link is replaced, since
    /// others can put one where they expect this name.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_own(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            true => Self::beside(path, path.into()),
            false => Self::create(path),
        }
    }

    fn beside(path: &Path, target: PathBuf) -> Result<Self> {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        files::create_folders(folder).map_err(Error::io("create the folder", folder))?;
        let (temporary, file) = temporary(&target, folder).map_err(Error::io("write", path))?;
        file.take_permissions_of(&target);
        Ok(Self { path: path.into(), target, writer: BufWriter::with_capacity(1 << 18, file), temporary })
    }

    /// Replaces a file of the program's own at `path` by these bytes.
    ///
    /// # Errors
    /// As [`AtomicFile::create_own`] and [`AtomicFile::commit`].
    pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let mut file = Self::create_own(path)?;
        file.write_all(bytes).map_err(|error| file.error(error))?;
        file.commit()
    }

    /// The path that will be replaced, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error `cannot write PATH: …` for a failed write to this file.
    pub fn error(&self, error: io::Error) -> Error {
        Error::io("write", &self.path)(error)
    }

    /// Puts the file in place, durably.
    ///
    /// # Errors
    /// [`Error::Io`] if the last bytes cannot be written; the old file is then unchanged.
    pub fn commit(self) -> Result<()> {
        Self::commit_all([self])
    }

    /// Puts several files in place. All are written out before the first is renamed, in the order
    /// given, so that a full disk leaves all the old ones. Only a power cut between two renames can
    /// separate them.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`].
    pub fn commit_all(files: impl IntoIterator<Item = Self>) -> Result<()> {
        let mut ready = Vec::new();
        for mut file in files {
            let written = file.writer.flush().and_then(|()| file.writer.get_ref().sync());
            written.map_err(|error| file.error(error))?;
            ready.push(file);
        }
        for file in &ready {
            files::rename(&file.temporary.0, &file.target).map_err(|error| file.error(error))?;
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}

/// Follows the user's links, and refuses targets that a rename would destroy.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
        && !files::may_follow(path).map_err(Error::io("write", path))?
    {
        return Err(Error::file(
            path,
            "is a link of another user's, who can choose what it stands for; name the file itself",
        ));
    }
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.into()),
        // A part of the path is a file: creating the folder would only say "file exists".
        Err(error) => return Err(Error::io("write", path)(error)),
    };
    if found.is_dir() {
        return Err(Error::file(path, "is a folder; name a file to write"));
    }
    if !found.is_file() {
        return Err(Error::file(
            path,
            "is a device or a pipe, which cannot be replaced; name a file to write",
        ));
    }
    fs::canonicalize(path).map_err(Error::io("write", path))
}

/// A new file beside `target`, under a name that nobody can expect.
fn temporary(target: &Path, folder: &Path) -> io::Result<(Temporary, OwnFile)> {
    let mut prefix = OsString::from(".");
    match target.file_name() {
        Some(name) if name.len() <= LONGEST_PREFIX => prefix.push(name),
        _ => prefix.push("tl"),
    }
    loop {
        // The standard library seeds these from the system's random numbers.
        let random = RandomState::new().build_hasher().finish();
        let mut name = prefix.clone();
        name.push(format!(".{random:016x}.tmp"));
        let path = folder.join(name);
        match files::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (Temporary(path), file)),
        }
    }
}

/// A fixed hidden name beside `target`: `.x.npy.partial`.
pub(crate) fn hidden(target: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    match target.file_name() {
        Some(file) if file.len() <= LONGEST_PREFIX => name.push(file),
        Some(file) => {
            let mut hasher = Hasher::new();
            hasher.update(file.as_encoded_bytes());
            name.push(format!("tl-{}", hasher.hex()));
        }
        None => name.push("tl"),
    }
    name.push(ending);
    target.with_file_name(name)
}

/// Whether `path` is a temporary left beside `target` by a killed process.
pub fn is_temporary_of(target: &Path, path: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let (Some(target_name), Some(name)) = (name(target), name(path)) else { return false };
    target.parent() == path.parent()
        && name.strip_prefix(&format!(".{target_name}.")).is_some_and(|rest| rest.ends_with(".tmp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_file_stays_until_the_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deeper/x.bin");
        AtomicFile::write(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(path.parent().unwrap()), ["x.bin"]);
    }

    #[test]
    fn dropped_it_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        let temporaries = names(folder.path());
        assert!(temporaries.len() == 1 && temporaries[0].starts_with(".x.bin."), "{temporaries:?}");
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn folders_and_pipes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let message = AtomicFile::create(folder.path()).map(drop).unwrap_err().to_string();
        assert!(message.contains("is a folder"), "{message}");
        let message = AtomicFile::create("/dev/null").map(drop).unwrap_err().to_string();
        assert!(message.contains("is a device"), "{message}");
        fs::write(folder.path().join("file"), b"").unwrap();
        let below = folder.path().join("file/x.csv");
        assert!(AtomicFile::create(&below).map(drop).unwrap_err().to_string().contains("Not a directory"));
    }

    #[test]
    fn long_names_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(255));
        AtomicFile::write(&path, b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_modes_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("x"), folder.path().join("link"));
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("x", &link).unwrap();
        let mut file = AtomicFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        // A name that the program has chosen is not written through.
        AtomicFile::write(&link, b"newer").unwrap();
        assert!(!link.is_symlink());
        assert_eq!((fs::read(&path).unwrap(), fs::read(&link).unwrap()), (b"new".into(), b"newer".into()));
        // A new file gets the umask's default permissions.
        AtomicFile::write(folder.path().join("a"), b"").unwrap();
        fs::write(folder.path().join("b"), b"").unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("a"), mode("b"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_names_the_file() {
        let file = AtomicFile::create(tempfile::tempdir().unwrap().path().join("x.csv")).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap().write_all(b"x").unwrap_err();
        let message = file.error(full).to_string();
        assert!(message.contains("x.csv") && message.contains("No space left"), "{message}");
    }
}
