//! The oldest container (PyTorch before 0.1.10): a tar of `storages`, `tensors` and `pickle`
//! (`legacy_load` in `torch/serialization.py`).

use std::collections::HashMap;

use super::legacy::{self, Stream};
use super::pickle::Value;
use super::rebuild::{self, Budgets, Storages, View};
use super::tensor::Dtype;
use super::{Checkpoint, Parsed, cut_short, damaged, listed, quoted, slice_at, state_dict, u32_at, u64_at};

/// Reads a tar.
///
/// # Errors
///
/// If it is another tar, cut short, damaged, or holds no state dict.
pub(super) fn read(bytes: &[u8]) -> Parsed<Checkpoint> {
    let members = Members::of(bytes)?;
    if let Ok(info) = members.get("sys_info") {
        legacy::check_byte_order(&Stream { bytes: info, at: 0 }.pickle()?)?;
    }
    let storages = storages(members.get("storages")?)?;
    let tables = Tables { tensors: tensors(members.get("tensors")?, &storages)? };
    let object = Stream { bytes: members.get("pickle")?, at: 0 }.pickle()?;
    state_dict::read(&object, &tables, Budgets::for_file(bytes))
}

/// The members of the archive by name.
struct Members<'a>(Vec<(String, &'a [u8])>);

impl<'a> Members<'a> {
    fn of(bytes: &'a [u8]) -> Parsed<Self> {
        let mut members: Vec<(String, &[u8])> = Vec::new();
        let mut archive = ::tar::Archive::new(bytes);
        let entries = archive.entries().map_err(|error| unreadable(bytes, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(bytes, &error))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            // The reader skips a member's data without checking that it is there.
            let data = rebuild::part(bytes, entry.raw_file_position(), entry.size())
                .ok_or_else(|| cut_short(format!("its member {} is not complete", quoted(&name))))?;
            if entry.header().entry_type().is_file() {
                if members.iter().any(|(known, _)| *known == name) {
                    return Err(damaged(format!("it holds {} twice", quoted(&name))));
                }
                if members.len() >= MAX_MEMBERS {
                    return Err(not_torch(&members));
                }
                members.push((name, data));
            }
        }
        Ok(Members(members))
    }

    fn get(&self, name: &str) -> Parsed<&'a [u8]> {
        let member = self.0.iter().find(|(known, _)| known == name).map(|(_, data)| *data);
        member.ok_or_else(|| {
            // A tar that begins as PyTorch's files do has lost its end.
            let ours = ["sys_info", "storages", "tensors", "pickle"];
            match self.0.iter().all(|(known, _)| ours.contains(&known.as_str())) {
                true => cut_short(format!("its member {} is missing", quoted(name))),
                false => not_torch(&self.0),
            }
        })
    }
}

/// PyTorch wrote four.
const MAX_MEMBERS: usize = 64;

fn not_torch(members: &[(String, &[u8])]) -> String {
    format!(
        "is a tar archive, but not one of PyTorch: it holds {}; unpack it if there are weights in it",
        listed(members.iter().map(|(name, _)| name.as_str()))
    )
}

fn unreadable(bytes: &[u8], error: &std::io::Error) -> String {
    // A tar consists of whole blocks.
    match bytes.len().is_multiple_of(512) {
        true => damaged(format!("its tar headers cannot be read ({error})")),
        false => cut_short("it ends in the middle of a block"),
    }
}

/// A storage and its dtype, `None` if that cannot be read.
type Typed<'a> = (&'a [u8], Option<Dtype>);

/// Their number; then for each `(key, device, class)`, its length and its bytes; then a list of
/// views `(key, key of the root, offset, elements)`.
fn storages(bytes: &[u8]) -> Parsed<HashMap<i64, Typed<'_>>> {
    let wrong = || damaged("the table of its storages makes no sense");
    let mut stream = Stream { bytes, at: 0 };
    let Value::Int(count) = stream.pickle()?.root else { return Err(wrong()) };
    let mut storages = HashMap::new();
    for done in 0..count {
        let about = stream.pickle()?;
        let Some([Value::Int(key), _device, class]) = about.sequence(about.root) else { return Err(wrong()) };
        let Some((_, class)) = about.global(*class) else { return Err(wrong()) };
        let Some((dtype, element)) = rebuild::storage_class(class) else {
            return Err(format!("holds a storage of kind {}, which no model here uses", quoted(class)));
        };
        let Some(storage) = stream.storage(element) else {
            return Err(cut_short(format!("it holds {done} of {count} storages")));
        };
        if storages.insert(*key, (storage, dtype)).is_some() {
            return Err(damaged(format!("its storage {key} occurs twice")));
        }
    }
    let views = stream.pickle()?;
    for view in views.sequence(views.root).ok_or_else(wrong)? {
        let Some([Value::Int(key), Value::Int(root), Value::Int(offset), Value::Int(numel)]) =
            views.sequence(*view)
        else {
            return Err(wrong());
        };
        let &(root, dtype) = storages.get(root).ok_or_else(wrong)?;
        let size = dtype.map_or(1, Dtype::size) as u64;
        let bytes_of = |elements: &i64| u64::try_from(*elements).ok()?.checked_mul(size);
        let inner =
            bytes_of(offset).zip(bytes_of(numel)).and_then(|(at, count)| rebuild::part(root, at, count));
        let Some(inner) = inner else {
            return Err(damaged(format!("its storage {key} reaches beyond another")));
        };
        if storages.insert(*key, (inner, dtype)).is_some() {
            return Err(damaged(format!("its storage {key} occurs twice")));
        }
    }
    Ok(storages)
}

/// Their number; then for each `(key, key of the storage, class)`, the number of dimensions (in 8
/// bytes, of which 4 count), sizes, strides and offset.
fn tensors<'a>(bytes: &[u8], storages: &HashMap<i64, Typed<'a>>) -> Parsed<HashMap<i64, Parsed<View<'a>>>> {
    let wrong = || damaged("the table of its tensors makes no sense");
    let mut stream = Stream { bytes, at: 0 };
    let Value::Int(count) = stream.pickle()?.root else { return Err(wrong()) };
    let mut tensors = HashMap::new();
    for done in 0..count {
        let about = stream.pickle()?;
        let Some([Value::Int(key), Value::Int(storage), ..]) = about.sequence(about.root) else {
            return Err(wrong());
        };
        let Some((shape, stride, offset)) = geometry(&mut stream) else {
            return Err(cut_short(format!("it describes {done} of {count} tensors")));
        };
        let &(storage, dtype) = storages.get(storage).ok_or_else(wrong)?;
        let view = match dtype {
            Some(dtype) => Ok(View { storage, dtype, offset, shape, stride }),
            None => Err("holds elements of a kind that no model here uses; save it as float32".into()),
        };
        if tensors.insert(*key, view).is_some() {
            return Err(damaged(format!("its tensor {key} occurs twice")));
        }
    }
    Ok(tensors)
}

/// Sizes, strides and offset at the stream's position; `None` if it ends before them.
fn geometry(stream: &mut Stream) -> Option<(Vec<u64>, Vec<u64>, u64)> {
    let dimensions = usize::try_from(u32_at(stream.bytes, stream.at)?).ok()?;
    let start = stream.at.checked_add(8)?;
    let sizes = slice_at(stream.bytes, start, dimensions.checked_mul(16)?)?;
    let numbers: Vec<_> = sizes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
    let end = start + sizes.len();
    let offset = u64_at(stream.bytes, end)?;
    stream.at = end + 8;
    let (shape, stride) = numbers.split_at(dimensions);
    Some((shape.to_vec(), stride.to_vec(), offset))
}

/// The tensors by key.
struct Tables<'a> {
    tensors: HashMap<i64, Parsed<View<'a>>>,
}

impl<'a> Storages<'a> for Tables<'a> {
    /// Only tensors are referenced.
    fn storage(&self, _key: &str) -> Option<&'a [u8]> {
        None
    }

    fn tensor(&self, id: Value<'a>) -> Option<Parsed<View<'a>>> {
        let key = match id {
            Value::Int(key) => key,
            // Longer than any number.
            Value::Str(key) if key.len() > 24 => return None,
            Value::Str(key) => key.trim_end_matches('L').parse().ok()?,
            _ => return None,
        };
        self.tensors.get(&key).cloned()
    }
}
