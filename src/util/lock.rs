//! A lock on files that a process writes. The system frees it however the process ends, `kill -9`
//! and a crash included.

use std::fmt;
use std::fs::{self, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::util::files::{self, OwnFile};

/// Attempts at a lock whose file disappears meanwhile.
const TRIES: usize = 100;

/// Bytes of a lock's file that are read.
const LONGEST: u64 = 1 << 10;

/// A lock held by this process. Dropping it removes its file.
#[derive(Debug)]
pub struct Lock {
    file: OwnFile,
    path: PathBuf,
    works: bool,
}

/// The process that holds a lock, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    pid: Option<u32>,
    /// Its machine, if another one.
    host: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another process")?;
        match (self.pid, &self.host) {
            (Some(pid), Some(host)) => write!(f, " (pid {pid} on {host})"),
            (Some(pid), None) => write!(f, " (pid {pid})"),
            _ => Ok(()),
        }
    }
}

/// Outcome of [`Lock::take`].
#[derive(Debug)]
pub enum Taken {
    /// This process has it.
    Ours(Lock),
    /// Another process has it.
    Theirs(Holder),
}

impl Lock {
    /// Takes the lock at `path` without waiting, and writes its holder into the file. The file and
    /// its folders are created if missing. Another user's file is locked, but not written to.
    ///
    /// # Errors
    /// If the file cannot be created, or is a link. A file system without locks is no error: see
    /// [`Lock::works`].
    pub fn take(path: &Path) -> io::Result<Taken> {
        let mut tries = 0;
        loop {
            tries += 1;
            path.parent().map_or(Ok(()), files::create_folders)?;
            let (mut file, own) = match files::open_lock(path) {
                // The previous holder has just removed its folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => continue,
                opened => opened?,
            };
            let works = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => return Ok(Taken::Theirs(Holder::of(&mut file))),
                // Some network file systems have no locks.
                Err(TryLockError::Error(_)) => false,
            };
            // The previous holder may have removed the file between opening and locking.
            let still = file.is_at(path);
            if !still && tries < TRIES {
                continue;
            }
            if own {
                // For messages only: the lock holds on a full disk too.
                let _ = file.set_len(0);
                let _ = file.write_all(format!("{} {}\n", std::process::id(), host()).as_bytes());
            }
            return Ok(Taken::Ours(Lock { file, path: path.into(), works: works && still }));
        }
    }

    /// Whether it excludes other processes: not so on a file system without locks.
    pub fn works(&self) -> bool {
        self.works
    }

    /// Whether its file is still there: if it was removed or its folder renamed, another process can
    /// have taken a lock at the same path.
    pub fn is_held(&self) -> bool {
        self.file.is_at(&self.path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock is freed, so that another process's file is never removed.
        if self.is_held() {
            let _ = files::remove(&self.path);
        }
    }
}

impl Holder {
    fn of(file: &mut OwnFile) -> Holder {
        let mut text = String::new();
        let _ = file.take(LONGEST).read_to_string(&mut text);
        Holder::named(&text)
    }

    /// The process named in the lock's file at `path`, which may have ended without removing it;
    /// `None` if there is no file.
    pub fn of_file(path: &Path) -> Option<Holder> {
        let mut text = String::new();
        let file = fs::File::open(path).ok()?;
        let _ = file.take(LONGEST).read_to_string(&mut text);
        Some(Holder::named(&text))
    }

    /// Whether the process may be alive: on this machine there is one with its number, on another
    /// one nothing is known.
    pub fn may_be_alive(&self) -> bool {
        match (&self.host, self.pid) {
            (None, Some(pid)) => Path::new("/proc").join(pid.to_string()).exists(),
            _ => true,
        }
    }

    fn named(text: &str) -> Holder {
        let (pid, machine) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let host = Some(machine.to_string()).filter(|name| !name.is_empty() && *name != host());
        Holder { pid: pid.parse().ok(), host }
    }
}

/// The host name of this machine or container; empty if unknown.
fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn ours(path: &Path) -> Result<Lock, Holder> {
        match Lock::take(path).unwrap() {
            Taken::Ours(lock) => Ok(lock),
            Taken::Theirs(holder) => Err(holder),
        }
    }

    fn holder_in(path: &Path) -> Holder {
        Holder::of(&mut files::open(path).unwrap())
    }

    #[test]
    fn a_lock_whose_file_is_gone_is_no_longer_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/lock");
        let first = ours(&path).unwrap();
        assert!(first.is_held());
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert!(!first.is_held());
        let second = ours(&path).unwrap();
        assert!(!first.is_held() && second.is_held());
        // Nor does the first one take the second one's file with it.
        drop(first);
        assert!(second.is_held());
    }

    #[test]
    fn a_lock_is_not_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, path) = (folder.path().join("mine"), folder.path().join("lock"));
        fs::write(&mine, "mine").unwrap();
        std::os::unix::fs::symlink(&mine, &path).unwrap();
        let message = Lock::take(&path).unwrap_err().to_string();
        assert!(message.contains("lock is a link, and is not written through"), "{message}");
        fs::remove_file(&path).unwrap();
        // Under two names it is locked, but keeps its bytes.
        fs::hard_link(&mine, &path).unwrap();
        let lock = ours(&path).unwrap();
        assert!(lock.works());
        assert_eq!(fs::read(&mine).unwrap(), b"mine");
    }

    #[test]
    fn a_lock_names_its_process_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/lock");
        let lock = ours(&path).unwrap();
        assert!(lock.works());
        let holder = ours(&path).unwrap_err();
        assert_eq!(holder.to_string(), format!("another process (pid {})", std::process::id()));
        drop(lock);
        assert_eq!(fs::read_dir(folder.path().join("made")).unwrap().count(), 0);
        // A file left by a killed process is no lock.
        fs::write(&path, "999999 elsewhere\n").unwrap();
        assert_eq!(holder_in(&path).to_string(), "another process (pid 999999 on elsewhere)");
        let lock = ours(&path).unwrap();
        // A file that another process has since put there is not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(lock);
        assert!(path.exists());
        assert_eq!(holder_in(&path).to_string(), "another process");
    }

    #[test]
    fn of_many_that_try_one_at_a_time_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, inside) = (folder.path().join("lock"), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(lock) = ours(&path) else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have it at once");
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
