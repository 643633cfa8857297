//! The legacy stream (PyTorch 0.1.10 to 1.5): pickles, then raw storages
//! (`_legacy_load` in `torch/serialization.py`).

use std::collections::HashMap;

use super::pickle::{self, Object, Pickle, Value};
use super::rebuild::{Budgets, StorageRef, Storages};
use super::{Checkpoint, Parsed, cut_short, damaged, quoted, slice_at, state_dict, u64_at};
use crate::text::words::counted;

const PROTOCOL: Value = Value::Int(1001);

/// Reads a legacy stream.
///
/// # Errors
///
/// If it is another pickle, cut short, damaged, or holds no state dict.
pub(super) fn read(bytes: &[u8]) -> Parsed<Checkpoint> {
    let mut stream = Stream { bytes, at: 0 };
    let magic = stream.pickle()?;
    if !pickle::is_magic(magic.root) {
        return Err(plain_pickle(&magic));
    }
    if stream.pickle()?.root != PROTOCOL {
        return Err(damaged("its protocol is not the one that PyTorch writes (1001)"));
    }
    check_byte_order(&stream.pickle()?)?;
    let object = stream.pickle()?;
    let storages = stream.storages(&object)?;
    let mut checkpoint = state_dict::read(&object, &storages, Budgets::for_file(bytes))?;
    if stream.at < bytes.len() {
        let (one, many) =
            ("byte follows the last tensor and was ignored", "bytes follow the last tensor and were ignored");
        checkpoint.warnings.push(counted(bytes.len() - stream.at, one, many));
    }
    Ok(checkpoint)
}

/// The error for a pickle that PyTorch did not write.
fn plain_pickle(pickle: &Pickle) -> String {
    state_dict::attack(pickle, pickle.root, "").unwrap_or_else(|| {
        "is a plain Python pickle, not a file of PyTorch; in Python: torch.save(model.state_dict(), ...)"
            .into()
    })
}

/// Reads `sys_info`, present in the legacy stream and the tar.
pub(super) fn check_byte_order(info: &Pickle) -> Parsed<()> {
    let entries =
        info.mapping(info.root).ok_or_else(|| damaged("it does not say how its numbers are stored"))?;
    match entries.iter().any(|entry| entry == (Value::Str("little_endian"), Value::Bool(false))) {
        true => Err(
            "was written on a big-endian machine, which is not supported; load it in PyTorch and save it \
                     again"
                .into(),
        ),
        false => Ok(()),
    }
}

/// A file read sequentially.
pub(super) struct Stream<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Stream<'a> {
    /// The next pickle.
    pub(super) fn pickle(&mut self) -> Parsed<Pickle<'a>> {
        let pickle = pickle::read(self.bytes.get(self.at..).unwrap_or_default())?;
        self.at += pickle.len;
        Ok(pickle)
    }

    /// The next storage: its length in elements, then the elements. `None` if the file ends first.
    pub(super) fn storage(&mut self, element: usize) -> Option<&'a [u8]> {
        let numel = u64_at(self.bytes, self.at)?;
        let count = usize::try_from(numel).ok()?.checked_mul(element)?;
        let start = self.at.checked_add(8)?;
        let storage = slice_at(self.bytes, start, count)?;
        self.at = start + count;
        Some(storage)
    }

    /// The list of keys, then the storages in that order.
    fn storages(&mut self, object: &Pickle<'a>) -> Parsed<Keyed<'a>> {
        // The size of an element is known only from references to a storage.
        let mut elements = HashMap::new();
        for reference in object.objects() {
            let Object::Persistent(id) = reference else { continue };
            let Some(StorageRef { key, element, .. }) = StorageRef::of(object, *id) else { continue };
            if *elements.entry(key).or_insert(element) != element {
                return Err(damaged(format!("its storage {} has elements of two sizes", quoted(key))));
            }
        }
        let keys = self.pickle()?;
        let keys = keys.sequence(keys.root).ok_or_else(|| damaged("the list of its storages is no list"))?;
        let mut storages = HashMap::new();
        for (done, key) in keys.iter().enumerate() {
            let Value::Str(key) = key else { return Err(damaged("the list of its storages holds no names")) };
            let Some(&element) = elements.get(key) else {
                return Err(damaged(format!("nothing says what its storage {} holds", quoted(key))));
            };
            let Some(storage) = self.storage(element) else {
                return Err(cut_short(format!("it holds {done} of {} storages", keys.len())));
            };
            if storages.insert(*key, storage).is_some() {
                return Err(damaged(format!("its storage {} occurs twice", quoted(key))));
            }
        }
        Ok(Keyed(storages))
    }
}

/// Storages by key.
struct Keyed<'a>(HashMap<&'a str, &'a [u8]>);

impl<'a> Storages<'a> for Keyed<'a> {
    fn storage(&self, key: &str) -> Option<&'a [u8]> {
        self.0.get(key).copied()
    }
}
