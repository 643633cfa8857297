//! The safetensors format: a JSON header with dtypes, shapes and offsets, then the bytes.
//!
//! The crate checks that the tensors fill the file without gaps or overlaps and match their
//! declared sizes. It does not detect duplicate keys or keep their order; this module does.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt;

use ::safetensors::{Dtype as Kind, SafeTensors};
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::tensor::{Dtype, RawTensor};
use super::{Checkpoint, Parsed, cut_short, damaged, quoted, slice_at, state_dict, u64_at};

const LENGTH: usize = 8;
/// The format allows 100 MB, which take 1.5 GB once parsed. A large model's header has 0.2 MB.
pub(in crate::weights) const MAX_HEADER: usize = 16 << 20;
/// A large model has 2,000.
const MAX_TENSORS: usize = 100_000;
const METADATA: &str = "__metadata__";

/// Reads a safetensors file.
///
/// # Errors
///
/// If it is cut short, damaged, has a duplicate key, or holds dtypes that no model uses.
pub(super) fn read(bytes: &[u8]) -> Parsed<Checkpoint> {
    let length = u64_at(bytes, 0).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(damaged(format!("it claims a header of {length} bytes, which no model has")));
    }
    let header = slice_at(bytes, LENGTH, length).ok_or_else(|| cut_short("its header is not complete"))?;
    let keys = keys(header)?;
    if keys.len() > MAX_TENSORS {
        return Err(format!("holds {} tensors, which no model has: it is damaged or hostile", keys.len()));
    }
    let (_, about) = SafeTensors::read_metadata(bytes).map_err(|error| refusal(bytes, length, &error))?;
    let data = &bytes[LENGTH + length..];

    let mut tensors = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(info) = about.info(&key) else { continue };
        let Some(dtype) = dtype(info.dtype) else {
            return Err(format!(
                "the tensor {} holds elements of kind {:?}, which no model here uses; save it as float32",
                quoted(&key),
                info.dtype
            ));
        };
        let (start, end) = info.data_offsets;
        let bytes = data.get(start..end).ok_or_else(|| damaged("its tensors reach beyond its end"))?;
        tensors.push((key, RawTensor { dtype, shape: info.shape.clone(), bytes: bytes.to_vec() }));
    }
    let metadata: BTreeMap<_, _> = about.metadata().clone().unwrap_or_default().into_iter().collect();
    state_dict::strip_data_parallel(&mut tensors);
    Ok(Checkpoint { tensors, metadata, ..Checkpoint::default() })
}

fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::F64 => Dtype::F64,
        Kind::F32 => Dtype::F32,
        Kind::F16 => Dtype::F16,
        Kind::BF16 => Dtype::BF16,
        Kind::I64 => Dtype::I64,
        Kind::I32 => Dtype::I32,
        Kind::I16 => Dtype::I16,
        Kind::I8 => Dtype::I8,
        Kind::U8 => Dtype::U8,
        Kind::BOOL => Dtype::Bool,
        _ => return None,
    })
}

/// Why the crate refused the file: its length shows whether the end is missing.
fn refusal(bytes: &[u8], header: usize, error: &::safetensors::SafeTensorError) -> String {
    use ::safetensors::SafeTensorError as E;
    let present = bytes.len().saturating_sub(LENGTH + header);
    // Of metadata there are none.
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        data_offsets: [usize; 2],
    }
    let expected = serde_json::from_slice::<BTreeMap<String, Entry>>(&bytes[LENGTH..LENGTH + header])
        .ok()
        .and_then(|header| header.values().map(|entry| entry.data_offsets[1]).max());
    match error {
        E::MetadataIncompleteBuffer if expected.is_some_and(|expected| present < expected) => cut_short(
            format!("its tensors need {} bytes and {present} are there", expected.unwrap_or_default()),
        ),
        E::MetadataIncompleteBuffer => damaged("bytes follow its last tensor"),
        E::InvalidOffset(key) => {
            damaged(format!("the place of its tensor {} leaves a gap or overlaps", quoted(key)))
        }
        E::TensorInvalidInfo => damaged("the place of a tensor does not have the tensor's size"),
        E::ValidationOverflow => damaged("the size of a tensor is beyond all limits"),
        other => damaged(format!("its header cannot be understood ({})", quoted(&other.to_string()))),
    }
}

/// The header's keys in order.
fn keys(header: &[u8]) -> Parsed<Vec<String>> {
    let not_json = |error: serde_json::Error| damaged(format!("its header is not valid JSON ({error})"));
    let mut json = serde_json::Deserializer::from_slice(header);
    let keys = json.deserialize_map(Keys { nested: true }).map_err(not_json)?;
    json.end().map_err(not_json)?;
    let mut seen = HashSet::new();
    match keys.iter().find(|key| !seen.insert(key.as_str())) {
        Some(key) => Err(state_dict::duplicate(key)),
        None => Ok(keys.into_iter().filter(|key| key != METADATA).collect()),
    }
}

/// Collects the keys of a map, duplicates included.
struct Keys {
    /// Whether to check the metadata for duplicate keys too.
    nested: bool,
}

impl<'de> Visitor<'de> for Keys {
    type Value = Vec<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.nested && key == METADATA {
                let inner = map.next_value_seed(Keys { nested: false })?;
                let mut seen = HashSet::new();
                if let Some(twice) = inner.iter().find(|key| !seen.insert(key.as_str())) {
                    return Err(serde::de::Error::custom(format!("the key {} occurs twice", quoted(twice))));
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Keys {
    type Value = Vec<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}
