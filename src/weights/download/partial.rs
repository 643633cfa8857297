//! `NAME.partial`: an incomplete download, held by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::util::digest::Hasher;
use crate::util::lock::is_still_at;

/// The bytes of a file so far, and their digest.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    len: u64,
    /// Whether the bytes come from more than one response, so that they may not belong together.
    pieced: bool,
}

/// Outcome of an attempt to lock a partial file.
pub(super) enum Hold {
    /// Ours until dropped.
    Ours(Partial),
    /// Held by another process.
    Taken,
}

impl Partial {
    /// Locks the partial file at `path` without waiting; creates it if missing.
    pub(super) fn try_hold(path: &Path) -> Result<Hold> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(Error::io("write", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Hold::Taken),
                // A file system without locks: two concurrent processes then end in a wrong digest,
                // which is found and repaired.
                Err(TryLockError::Error(_)) => {}
            }
            // Between opening and locking, the previous holder may have put the file in place or
            // deleted it: then the locked file is no longer the one at the path.
            if !is_still_at(&file, path) {
                continue;
            }
            let mut hasher = Hasher::new();
            let len = hasher.update_from(&mut file).map_err(Error::io("read", path))?;
            return Ok(Hold::Ours(Self { file, path: path.into(), hasher, len, pieced: len > 0 }));
        }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The sha256 of the bytes so far.
    pub(super) fn hex(&self) -> String {
        self.hasher.hex()
    }

    /// Whether the bytes come from more than one response, so that they may not belong together.
    pub(super) fn is_pieced(&self) -> bool {
        self.pieced
    }

    /// Marks that the next bytes come from another response.
    pub(super) fn next_piece(&mut self) {
        self.pieced |= self.len > 0;
    }

    /// Appends bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Discards all bytes.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("write", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io("write", &self.path))?;
        (self.hasher, self.len, self.pieced) = (Hasher::new(), 0, false);
        Ok(())
    }

    /// Puts the file in place, durably and atomically, replacing any existing one.
    pub(super) fn place(self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        fs::rename(&self.path, target).map_err(Error::io("write", target))?;
        if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
            // The name survives a power cut only with the folder's own sync; not every system
            // supports it.
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// Deletes the file.
    pub(super) fn discard(self) {
        // If that fails, the digest is found wrong again, and the download starts over.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A server that never answered leaves no file. The lock is still ours.
        if self.len == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}
