//! Files and folders that the program writes: the only place that opens, renames and removes them.
//!
//! Others may be able to write to the folder, and they know most of the names in advance. So a file
//! is never opened through a link, never cut by opening, and never written to if it is another
//! user's or is also known under another name. What was created is synced into its folder.

mod owner;
mod trace;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use self::owner::{another_users, check_file, is_ours, through_a_link};
pub(crate) use self::owner::{has_owner_of, is_another_users, may_follow};
use self::trace::{Operation, hex, note, whole};

/// Attempts at a name that appears and disappears meanwhile.
const TRIES: usize = 100;

/// Others may read the program's own folders, but put nothing into them.
const FOLDER_MODE: u32 = 0o755;
/// Write permission of anybody but the owner.
const OTHERS_WRITE: u32 = 0o022;

/// A file that the program writes.
#[derive(Debug)]
pub struct OwnFile {
    file: File,
    /// Its number in a record of operations.
    number: u64,
}

impl OwnFile {
    fn created(file: File, path: &Path) -> Self {
        let number = trace::number();
        note(|| Operation::Create { file: number, path: whole(path) });
        OwnFile { file, number }
    }

    fn opened(file: File, path: &Path) -> Self {
        let number = trace::number();
        note(|| Operation::Open { file: number, path: whole(path) });
        OwnFile { file, number }
    }

    /// Cuts or extends it.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        note(|| Operation::Cut { file: self.number, length });
        Ok(())
    }

    /// Waits until its bytes are on disk.
    pub fn sync(&self) -> io::Result<()> {
        match self.file.sync_all() {
            // Some network and FUSE file systems have no sync.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            result => result?,
        }
        note(|| Operation::Sync { file: self.number });
        Ok(())
    }

    /// Locks it, without waiting, until it is dropped.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.file.try_lock()
    }

    /// Whether `path` is still this file.
    pub fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(path)) {
            (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
            _ => false,
        }
    }

    /// Takes over the permissions of an older file, if it is the same user's: another one could
    /// have put it there so that the new one is open to all. Some file systems have none.
    pub fn take_permissions_of(&self, old: &Path) {
        if let (Ok(old), Ok(new)) = (fs::symlink_metadata(old), self.file.metadata())
            && old.is_file()
            && old.uid() == new.uid()
        {
            let _ = self.file.set_permissions(old.permissions());
        }
    }
}

impl Read for OwnFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Write for OwnFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        note(|| {
            // After the write: a file that is appended to is where its end was.
            let end = self.file.stream_position().unwrap_or_default();
            let at = end.saturating_sub(written as u64);
            Operation::Write { file: self.number, at, hex: hex(&bytes[..written]) }
        });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for OwnFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Never through a link, and never waiting for the other end of a pipe.
fn options() -> OpenOptions {
    let mut options = File::options();
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// A new file, to be written and read.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if anything has that name, a link without a target included.
pub fn create_new(path: &Path) -> io::Result<OwnFile> {
    let file = options().read(true).write(true).create_new(true).open(path)?;
    Ok(OwnFile::created(file, path))
}

/// A file to be written and read, as long as it is; created if missing.
///
/// # Errors
/// If it is a link, no regular file, another user's, or has a second name: the error says so.
pub fn open(path: &Path) -> io::Result<OwnFile> {
    opened(path, options().read(true).write(true))
}

/// As [`open`], to be appended to.
///
/// # Errors
/// As [`open`].
pub fn append(path: &Path) -> io::Result<OwnFile> {
    opened(path, options().append(true))
}

fn opened(path: &Path, options: &OpenOptions) -> io::Result<OwnFile> {
    let mut tries = 0;
    loop {
        tries += 1;
        match options.clone().create_new(true).open(path) {
            Ok(file) => return Ok(OwnFile::created(file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match options.open(path) {
            // It has just gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
            Err(error) => return Err(explained(path, error)),
            Ok(file) => return check_file(&file.metadata()?, path).map(|()| OwnFile::opened(file, path)),
        }
    }
}

/// A lock's file, and whether this process may write to it: one of another user's is locked as it is.
///
/// # Errors
/// As [`open`], but for the owner.
pub fn open_lock(path: &Path) -> io::Result<(OwnFile, bool)> {
    let refused = match open(path) {
        Ok(file) => return Ok((file, true)),
        Err(error) => error,
    };
    let file = match options().read(true).open(path) {
        Ok(file) if file.metadata()?.is_file() => file,
        _ => return Err(refused),
    };
    Ok((OwnFile::opened(file, path), false))
}

/// Reads a file, not through a link.
///
/// # Errors
/// If it is a link or no regular file.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let file = options().read(true).open(path).map_err(|error| explained(path, error))?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// As [`open_to_read`], for a file that only this user can have written.
///
/// # Errors
/// As [`open`].
pub fn open_own_to_read(path: &Path) -> io::Result<File> {
    let file = open_to_read(path)?;
    check_file(&file.metadata()?, path).map(|()| file)
}

/// The system's refusal, with the reason that it does not give.
fn explained(path: &Path, error: io::Error) -> io::Error {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => through_a_link(path),
        Ok(found) if error.kind() == io::ErrorKind::PermissionDenied => {
            match is_ours(&found, path.parent().unwrap_or(path)) {
                Ok(false) => another_users(path, found.uid()),
                _ => error,
            }
        }
        _ => error,
    }
}

/// Creates a folder and those above it, as far as they are missing, so that they survive a power
/// cut.
///
/// # Errors
/// As [`fs::create_dir_all`].
pub fn create_folders(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    match create_folder(path, 0o777) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else { return Err(error) };
            create_folders(parent)?;
            match create_folder(path, 0o777) {
                // Another process was faster.
                Err(_) if path.is_dir() => Ok(()),
                made => made,
            }
        }
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

fn create_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    note(|| Operation::CreateFolder { path: whole(path) });
    sync_parent(path);
    Ok(())
}

/// A folder of the program's own, into which nobody else can put anything; created if missing.
///
/// # Errors
/// If it is a link, no folder, or another user's.
pub fn own_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        create_folders(parent)?;
    }
    match create_folder(path, FOLDER_MODE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let opened = options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(path);
    let folder = opened.map_err(|error| explained(path, error))?;
    let found = folder.metadata()?;
    if !is_ours(&found, path)? {
        return Err(another_users(path, found.uid()));
    }
    let mode = found.permissions().mode();
    if mode & OTHERS_WRITE != 0 {
        folder.set_permissions(Permissions::from_mode(mode & 0o7777 & !OTHERS_WRITE))?;
    }
    Ok(())
}

/// Renames a file, replacing what is there, and syncs both folders.
///
/// # Errors
/// As [`fs::rename`].
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    note(|| Operation::Rename { from: whole(from), to: whole(to) });
    sync_parent(to);
    if from.parent() != to.parent() {
        sync_parent(from);
    }
    Ok(())
}

/// Removes a file, or a link itself.
///
/// # Errors
/// As [`fs::remove_file`], but for a file that is not there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    note(|| Operation::Remove { path: whole(path) });
    Ok(())
}

/// Removes a folder with everything in it; links in it are removed, not followed.
///
/// # Errors
/// As [`fs::remove_dir_all`], but for a folder that is not there.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    note(|| Operation::RemoveFolder { path: whole(path) });
    Ok(())
}

/// Syncs the folder that `path` is in, without which a new name may not survive a power cut; not
/// every system supports it.
pub fn sync_parent(path: &Path) {
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if File::open(folder).and_then(|folder| folder.sync_all()).is_ok() {
            note(|| Operation::SyncFolder { path: whole(folder) });
        }
    }
}

#[cfg(test)]
mod tests;
