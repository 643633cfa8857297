//! The self-contained model file, `model.safetensors`.
//!
//! Weights under torchvision's keys, so that `load_state_dict(load_file(path), strict=True)` works, and
//! one metadata entry, `tl`, that says all that prediction needs: the [`Card`]. It holds no path and no
//! time: equal runs write equal bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype as FileDtype, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::Network;
use crate::output::AtomicFile;
use crate::path_text::path_text;
use crate::preprocess::{Decode, Preprocessing};
use crate::weights::checkpoint::{Dtype, RawTensor};
use crate::weights::state_dict;

/// The version of the metadata that this program writes and reads.
pub const FORMAT: u32 = 1;
/// The metadata key.
const KEY: &str = "tl";
/// A safetensors header longer than this is refused, as the format's own library does.
const MAX_HEADER: u64 = 100_000_000;

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The torchvision builder, such as `resnet18`.
    pub architecture: String,
    /// The second of two models, where both are averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// How much of a JPEG the network was trained on.
    #[serde(default, skip_serializing_if = "Decode::is_exact")]
    pub decode: Decode,
    /// The version of this record: [`FORMAT`].
    pub format: u32,
    /// How an image becomes the network's input.
    pub preprocessing: Preprocessing,
    /// The stages that the head reads, where it reads more than the features ([`Network::read_stages`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// The recipe as it was typed, without `out`.
    pub recipe: Value,
    /// Whether the network moves its input ([`Network::set_transform_input`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transform_input: bool,
}

/// A model that is averaged with another one: `(1 - s) · p + s · q` of the class probabilities `p` of the one and `q` of the one
/// beside it ([`crate::averaging`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// Its file, in the same folder.
    pub file: String,
    /// What it counts, `s`: above 0 and below 1.
    pub share: f64,
}

impl Card {
    /// JSON with sorted keys.
    fn to_json(&self) -> Result<String> {
        let unreadable = |error| Error::run(format!("cannot write the model's metadata: {error}"));
        // Through text, because a float32 that becomes a `Value` directly grows a float64's tail of digits.
        let text = serde_json::to_string(self).map_err(unreadable)?;
        let value: Value = serde_json::from_str(&text).map_err(unreadable)?;
        serde_json::to_string(&sorted(value)).map_err(unreadable)
    }
}

/// The same value with the keys of every object in order, whatever map `serde_json` was built with.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Writes `network` and its `card` to `path`, atomically.
pub fn write(path: &Path, network: &Network, card: &Card) -> Result<()> {
    let metadata = HashMap::from([(KEY.to_string(), card.to_json()?)]);
    write_tensors(path, &state_dict(network)?, metadata)
}

/// Writes named tensors and metadata as a safetensors file, atomically.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, RawTensor)],
    metadata: HashMap<String, String>,
) -> Result<()> {
    let views = tensors.iter().map(|(key, tensor)| (key.as_str(), Borrowed(tensor)));
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| Error::run(format!("cannot write {}: {error}", path_text(path))))?;
    AtomicFile::write(path, &bytes)
}

struct Borrowed<'a>(&'a RawTensor);

impl View for Borrowed<'_> {
    fn dtype(&self) -> FileDtype {
        match self.0.dtype {
            Dtype::F64 => FileDtype::F64,
            Dtype::F32 => FileDtype::F32,
            Dtype::F16 => FileDtype::F16,
            Dtype::BF16 => FileDtype::BF16,
            Dtype::I64 => FileDtype::I64,
            Dtype::I32 => FileDtype::I32,
            Dtype::I16 => FileDtype::I16,
            Dtype::I8 => FileDtype::I8,
            Dtype::U8 => FileDtype::U8,
            Dtype::Bool => FileDtype::BOOL,
        }
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0.bytes)
    }
    fn data_len(&self) -> usize {
        self.0.bytes.len()
    }
}

/// The card of a file that `tl` wrote, read from the file's head alone; `None` for any other file.
pub fn read_card(path: &Path) -> Result<Option<Card>> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut length = [0; 8];
    if file.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length);
    let available = file.metadata().map_err(Error::io("read", path))?.len().saturating_sub(8);
    if length > available.min(MAX_HEADER) {
        return Ok(None);
    }
    let mut header = vec![0; length as usize];
    if file.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        metadata: Option<HashMap<String, String>>,
    }
    let Ok(Header { metadata: Some(metadata) }) = serde_json::from_slice(&header) else { return Ok(None) };
    metadata.get(KEY).map(|text| parse_card(path, text)).transpose()
}

/// The card in a file's metadata, if `tl` wrote it.
pub fn card_in<'a>(
    path: &Path,
    metadata: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Option<Card>> {
    metadata.into_iter().find(|(key, _)| *key == KEY).map(|(_, text)| parse_card(path, text)).transpose()
}

fn parse_card(path: &Path, text: &str) -> Result<Card> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_str(text)
        .map_err(|error| Error::file(path, format!("its `tl` metadata cannot be read: {error}")))?;
    if version.format > FORMAT {
        return Err(Error::file(
            path,
            format!(
                "was written by a newer tl (format {}; this one reads up to {FORMAT}): update tl",
                version.format
            ),
        ));
    }
    let card: Card = serde_json::from_str(text)
        .map_err(|error| Error::file(path, format!("its `tl` metadata cannot be read: {error}")))?;
    let mistake = match card.classes.is_empty() {
        true => Some("classes: expected at least one name, found none".into()),
        false => match &card.beside {
            Some(Beside { share, .. }) if !(*share > 0. && *share < 1.) => {
                Some(format!("beside.share: expected a number between 0 and 1, found {share}"))
            }
            // A name that leads elsewhere is nothing that `tl` wrote.
            Some(Beside { file, .. }) if Path::new(file).file_name() != Some(file.as_ref()) => {
                Some(format!("beside.file: expected the name of a file in the same folder, found `{file}`"))
            }
            _ => card.preprocessing.mistake(),
        },
    };
    match mistake {
        Some(mistake) => Err(Error::file(path, format!("its `tl` metadata is wrong: {mistake}"))),
        None => Ok(card),
    }
}
