//! Whose a file is.
//!
//! "Ours" is what has the owner that a file has which we make in the same folder: on network, FUSE and
//! Windows file systems that need not be the process's user.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::text::path_text::path_text;

/// Whether `found`, in `folder`, is this user's.
pub(super) fn is_ours(found: &Metadata, folder: &Path) -> io::Result<bool> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match tempfile::tempfile_in(folder) {
        Ok(made) => Ok(made.metadata()?.uid() == found.uid()),
        // Nor can anything be written to it there.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether `folder`, which this user can write to, is another's.
///
/// # Errors
/// If nothing can be written to it.
pub(crate) fn is_another_users(folder: &Path) -> io::Result<bool> {
    let made = tempfile::tempfile_in(folder)?.metadata()?.uid();
    Ok(made != fs::metadata(folder)?.uid())
}

/// Refuses an existing file that must not be written to.
pub(super) fn check_file(found: &Metadata, path: &Path) -> io::Result<()> {
    let refuse = |what: &str| Err(io::Error::other(format!("{} {what}: remove it", path_text(path))));
    if !found.is_file() {
        return refuse("is no regular file");
    }
    if !is_ours(found, path.parent().unwrap_or(path))? {
        return Err(another_users(path, found.uid()));
    }
    match found.nlink() {
        0 | 1 => Ok(()),
        _ => refuse("has a second name (a hard link), and would change under both"),
    }
}

pub(super) fn another_users(path: &Path, uid: u32) -> io::Error {
    let path = path_text(path);
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{path} belongs to another user (uid {uid}): have it removed, or use another folder"),
    )
}

pub(super) fn through_a_link(path: &Path) -> io::Error {
    io::Error::other(format!("{} is a link, and is not written through: remove it", path_text(path)))
}

/// Whether the link at `path` may be followed to what it stands for: it is ours, the system's, or of
/// the one whose folder it is in. The Linux kernel has the same rule for folders like `/tmp`.
pub(crate) fn may_follow(path: &Path) -> io::Result<bool> {
    let link = fs::symlink_metadata(path)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(link.uid() == 0 || link.uid() == fs::metadata(folder)?.uid() || is_ours(&link, folder)?)
}

/// Whether the file at `path` has the owner of `other`.
pub(crate) fn has_owner_of(path: &Path, other: &Path) -> bool {
    let owner = |found: io::Result<Metadata>| found.ok().map(|found| found.uid());
    owner(fs::symlink_metadata(path)).is_some_and(|uid| owner(fs::metadata(other)) == Some(uid))
}
