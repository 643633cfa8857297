//! Checkpoint files: reads tensors written by PyTorch or a safetensors writer.
//!
//! The container is detected by content, never by name: PyTorch's zip, its legacy stream, its
//! oldest tar, or safetensors (`container`). PyTorch's three hold a pickle, a program for a small
//! stack machine that can request a call of any Python function. The machine here (`pickle`)
//! records calls and makes none. `rebuild` then interprets the few recorded calls that rebuild a
//! tensor, and `state_dict` finds the one dictionary that matters. Everything else in a training
//! checkpoint (an optimizer's state, arguments, dates) is ignored.
//!
//! Every length in a file is checked against the file's contents, nothing recurses on nested data,
//! and memory is bounded by three times the file's size and 320 MB (which only a hostile
//! description of the tensors takes).

mod container;
mod legacy;
pub(crate) mod pickle;
mod rebuild;
mod safetensors;
mod state_dict;
mod tar;
mod tensor;
#[cfg(test)]
mod tests;
mod zip;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use container::Container;

pub(super) use self::safetensors::MAX_HEADER;
pub use tensor::{Dtype, RawTensor};

/// Larger files are refused unread. The largest torchvision file is 2.6 GB; with an optimizer's
/// state in it, three times that.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// `Result` of the parsers; errors are the text after `{path}: `.
type Parsed<T> = std::result::Result<T, String>;

/// Contents of a checkpoint file.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// Names and tensors in the file's order, each name once. Wrappers (`state_dict`, `module.` and
    /// the like) are removed.
    pub tensors: Vec<(String, RawTensor)>,
    /// The names in the file, if [`Checkpoint::rename`] has changed any.
    pub own_names: Option<Vec<String>>,
    /// The `__metadata__` of a safetensors file; empty for PyTorch's containers.
    pub metadata: BTreeMap<String, String>,
    /// Warnings for the user about a file that was read: whole sentences without the path.
    pub warnings: Vec<String>,
    /// The sha256 of the whole file, as 64 lower-case hex digits.
    pub sha256: String,
}

impl Checkpoint {
    /// Renames the tensors.
    pub fn rename(&mut self, name: impl Fn(&str) -> String) {
        let names = self.tensors.iter().map(|(own, _)| name(own));
        let names: Vec<String> = names.collect();
        if self.tensors.iter().zip(&names).all(|((own, _), name)| own == name) {
            return;
        }
        let pairs = self.tensors.iter_mut().zip(names);
        self.own_names = Some(pairs.map(|((own, _), name)| std::mem::replace(own, name)).collect());
    }

    /// The tensors under their names in the file.
    pub fn as_in_file(&self) -> impl Iterator<Item = (&str, &RawTensor)> {
        let own = |index: usize| self.own_names.as_ref().map(|names| names[index].as_str());
        let tensors = self.tensors.iter().enumerate();
        tensors.map(move |(index, (name, tensor))| (own(index).unwrap_or(name), tensor))
    }
}

/// Reads a whole checkpoint file.
///
/// # Errors
///
/// [`Error::Io`] if the system refuses; [`Error::File`] with one sentence or two if the file is no
/// checkpoint, is cut short, damaged or hostile, or holds something other than a state dict.
pub fn read_checkpoint(path: &Path) -> Result<Checkpoint> {
    let about = fs::metadata(path).map_err(Error::io("read", path))?;
    if !about.is_file() {
        let what = if about.is_dir() { "a folder" } else { "not a regular file" };
        return Err(Error::file(path, format!("is {what}; expected a .pth, .pt or .safetensors file")));
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(Error::file(
            path,
            format!("is larger than {} GB, which no weights file is", MAX_FILE_BYTES >> 30),
        ));
    }
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    // The head decides, so that a film named `x.pth` is refused without reading all of it.
    let mut bytes = Vec::new();
    file.by_ref().take(container::HEAD_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let container = Container::of(&bytes).map_err(|message| Error::file(path, message))?;
    let rest = about.len().saturating_sub(bytes.len() as u64);
    let Ok(_) = bytes.try_reserve_exact(rest as usize) else {
        return Err(Error::file(path, format!("does not fit into memory ({} MB)", about.len() >> 20)));
    };
    file.take(rest).read_to_end(&mut bytes).map_err(Error::io("read", path))?;

    // The digest takes as long as everything else together, so it runs in parallel.
    std::thread::scope(|scope| {
        let digest = std::thread::Builder::new().spawn_scoped(scope, || sha256(&bytes));
        let checkpoint = parse(container, &bytes).map_err(|message| Error::file(path, message));
        let digest = match digest.map(|thread| thread.join()) {
            Ok(Ok(digest)) => digest,
            _ => sha256(&bytes),
        };
        Ok(Checkpoint { sha256: digest, ..checkpoint? })
    })
}

/// Parses everything but the digest from the file's bytes.
fn parse(container: Container, bytes: &[u8]) -> Parsed<Checkpoint> {
    match container {
        Container::Zip => zip::read(bytes),
        Container::Legacy => legacy::read(bytes),
        Container::Tar => tar::read(bytes),
        Container::Safetensors => safetensors::read(bytes),
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The remedy for a damaged file that came from elsewhere.
pub(super) const AGAIN: &str = "; download or copy it again";

/// The error for a file that ends too early: by far the most common damage, with one remedy.
fn cut_short(what: impl std::fmt::Display) -> String {
    format!("is cut short: {what}{AGAIN}")
}

/// The error for a file whose parts contradict each other.
fn damaged(what: impl std::fmt::Display) -> String {
    format!("is damaged: {what}{AGAIN}")
}

/// A name from a file, safe to print: control characters escaped, long ones shortened.
fn quoted(name: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The first few of several names, each quoted, and the number of the others.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let mut text = names.take(SHOWN).map(quoted).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// `count` little-endian bytes at `at`, if present.
fn slice_at(bytes: &[u8], at: usize, count: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(count)?)
}

/// The little-endian 16-bit number at `at`.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(slice_at(bytes, at, 2)?.try_into().ok()?))
}

/// The little-endian 32-bit number at `at`.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(slice_at(bytes, at, 4)?.try_into().ok()?))
}

/// The little-endian 64-bit number at `at`.
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(slice_at(bytes, at, 8)?.try_into().ok()?))
}
