//! `NAME.partial`: an incomplete download, held by one process at a time.

use std::fs::TryLockError;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::util::digest::Hasher;
use crate::util::files::{self, OwnFile};

/// The bytes of a file so far, and their digest.
pub(super) struct Partial {
    file: OwnFile,
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
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written, or is a link; [`Error::File`] if another user has left
    /// it, which is not known before that user's process has ended.
    pub(super) fn try_hold(path: &Path) -> Result<Hold> {
        loop {
            let (mut file, own) = files::open_lock(path).map_err(Error::io("write", path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Hold::Taken),
                // A file system without locks: two concurrent processes then end in a wrong digest,
                // which is found and repaired.
                Err(TryLockError::Error(_)) => {}
            }
            // Between opening and locking, the previous holder may have put the file in place or
            // deleted it: then the locked file is no longer the one at the path.
            if !file.is_at(path) {
                continue;
            }
            if !own {
                return Err(Error::file(
                    path,
                    "is another user's download that was stopped, or has a second name; have it removed, or set \
                     TORCH_HOME to a folder of your own",
                ));
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
        if !self.file.is_at(&self.path) {
            return Err(Error::file(&self.path, "was moved or removed while it was written; run it again"));
        }
        self.file.sync().map_err(Error::io("write", &self.path))?;
        files::rename(&self.path, target).map_err(Error::io("write", target))
    }

    /// Deletes the file.
    pub(super) fn discard(self) {
        // If that fails, the digest is found wrong again, and the download starts over.
        let _ = files::remove(&self.path);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A server that never answered leaves no file. The lock is still ours.
        if self.len == 0 && self.file.is_at(&self.path) {
            let _ = files::remove(&self.path);
        }
    }
}
