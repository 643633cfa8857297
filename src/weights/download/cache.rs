//! The cache folder of weights.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::util::files;

/// `{torch or cache/torch or home/.cache/torch}/hub/checkpoints`, as in `torch/hub.py`.
pub(super) fn folder(
    torch: Option<PathBuf>,
    cache: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Result<PathBuf> {
    let torch = match (torch, cache) {
        (Some(torch), _) => torch,
        (None, Some(cache)) => cache.join("torch"),
        (None, None) => PathBuf::from("~/.cache/torch"),
    };
    // A quoted "~" arrives unexpanded; PyTorch expands it, and both must use the same folder.
    let torch = match torch.strip_prefix("~") {
        Ok(rest) => home
            .filter(|home| !home.as_os_str().is_empty())
            .ok_or_else(|| Error::run("there is no home folder to keep weights in; set TORCH_HOME"))?
            .join(rest),
        Err(_) => torch,
    };
    Ok(torch.join("hub").join("checkpoints"))
}

/// Creates the folder, and checks that it is writable.
pub(super) fn create(folder: &Path) -> Result<()> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory => {
            let reason = error.to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
            let message =
                format!("cannot keep weights here ({reason}); set TORCH_HOME to a folder you may write to");
            Error::file(folder, message)
        }
        _ => Error::io("create the folder", folder)(error),
    };
    files::create_folders(folder).map_err(explain)?;
    // Checked by writing: permissions, mounts and quotas all matter.
    tempfile::tempfile_in(folder).map(drop).map_err(explain)
}
