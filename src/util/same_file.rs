//! Whether two paths lead to one file.

use std::path::Path;

/// Whether both exist and are the same file or folder, links followed.
pub fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
