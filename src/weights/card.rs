//! The self-contained model file, `model.safetensors`.
//!
//! Weights under torchvision's keys, so that `load_state_dict(load_file(path), strict=True)` works,
//! and one metadata entry, `tl`, with everything that prediction needs: the [`Card`]. It contains
//! no path and no time: equal runs write equal bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::MAX_HEADER;
use super::seen::SeenImages;
use crate::error::{Error, Result};
use crate::preprocess::{Decode, Preprocessing};
use crate::unknown::Unknown;
use crate::util::json::sorted;

/// The version of the metadata that this program writes and reads.
pub const FORMAT: u32 = 1;
/// The metadata key.
pub(super) const KEY: &str = "tl";
/// Bytes of a card. Twenty thousand classes take 1 MB; a hostile one takes ninety times its text.
const MAX_CARD: usize = 4 << 20;

/// Metadata of a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The torchvision builder, such as `resnet18`.
    pub architecture: String,
    /// The second model of an ensemble.
    #[serde(rename = "beside", default, skip_serializing_if = "Option::is_none")]
    pub partner: Option<Partner>,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// JPEG decoding in training.
    #[serde(default, skip_serializing_if = "Decode::is_exact")]
    pub decode: Decode,
    /// The version of this record: [`FORMAT`].
    pub format: u32,
    /// The images that it has learnt from or was chosen by; absent in files of earlier versions,
    /// and if they are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learnt_from: Option<SeenImages>,
    /// Preprocessing of the network's input.
    pub preprocessing: Preprocessing,
    /// The stages that the head reads, if more than the features
    /// ([`Network::read_stages`](crate::models::Network::read_stages)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
    /// The recipe as typed, without `out`.
    pub recipe: Value,
    /// The temperature of the probabilities, of both models if there is a partner
    /// ([`crate::stats::calibration`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Whether the network converts its input
    /// ([`Network::set_transform_input`](crate::models::Network::set_transform_input)).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transform_input: bool,
    /// What tells how strange an image is to this file's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Unknown>,
}

/// A model to average with: `(1 - s) · p + s · q` of the class probabilities `p` of this file's
/// model and `q` of the partner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partner {
    /// Its file, in the same folder.
    pub file: String,
    /// Its weight `s`: above 0 and below 1.
    #[serde(rename = "share")]
    pub weight: f64,
}

impl Card {
    /// JSON with sorted keys.
    pub(super) fn to_json(&self) -> Result<String> {
        let unreadable = |error| Error::run(format!("cannot write the model's metadata: {error}"));
        // Through text, because a float32 converted to a `Value` directly grows a float64's tail of
        // digits.
        let text = serde_json::to_string(self).map_err(unreadable)?;
        let value: Value = serde_json::from_str(&text).map_err(unreadable)?;
        serde_json::to_string(&sorted(value)).map_err(unreadable)
    }
}

/// The card of a file that `tl` wrote, from the file's header alone; `None` for any other file.
pub fn read_card(path: &Path) -> Result<Option<Card>> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut length = [0; 8];
    if file.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length);
    let available = file.metadata().map_err(Error::io("read", path))?.len().saturating_sub(8);
    if length > available.min(MAX_HEADER as u64) {
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
    if text.len() > MAX_CARD {
        let message =
            format!("its `tl` metadata has more than {} MiB: it is damaged or hostile", MAX_CARD >> 20);
        return Err(Error::file(path, message));
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
    match mistake(&card) {
        Some(mistake) => Err(Error::file(path, format!("its `tl` metadata is wrong: {mistake}"))),
        None => Ok(card),
    }
}

fn mistake(card: &Card) -> Option<String> {
    if card.classes.is_empty() {
        return Some("classes: expected at least one name, found none".into());
    }
    match &card.partner {
        Some(Partner { weight, .. }) if !(*weight > 0. && *weight < 1.) => {
            return Some(format!("beside.share: expected a number between 0 and 1, found {weight}"));
        }
        // `tl` never writes a name that leads elsewhere.
        Some(Partner { file, .. }) if Path::new(file).file_name() != Some(file.as_ref()) => {
            return Some(format!(
                "beside.file: expected the name of a file in the same folder, found `{file}`"
            ));
        }
        _ => {}
    }
    match card.temperature {
        Some(temperature) if !(temperature.is_finite() && temperature > 0.) => {
            return Some(format!("temperature: expected a positive number, found {temperature}"));
        }
        _ => {}
    }
    let unknown = card.unknown.as_ref().and_then(Unknown::mistake);
    unknown.map(|mistake| format!("unknown.{mistake}")).or_else(|| card.preprocessing.mistake())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_card_is_not_read_without_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let refusal = |recipe: &str| {
            let card = format!("{{\"format\":1,\"architecture\":\"resnet18\",\"recipe\":{recipe}}}");
            let header = serde_json::json!({ "__metadata__": { KEY: card } }).to_string();
            let length = (header.len() as u64).to_le_bytes();
            std::fs::write(&path, [&length[..], header.as_bytes()].concat()).unwrap();
            let message = read_card(&path).unwrap_err().to_string();
            message.replace(&folder.path().display().to_string(), "run")
        };
        let start = Instant::now();
        let objects = |count: usize| format!("[{}0]", "{\"\":0},".repeat(count));
        insta::assert_snapshot!(refusal(&objects(700_000)), @"run/model.safetensors: its `tl` metadata has more than 4 MiB: it is damaged or hostile");
        // As many as are read, some 250 MB.
        insta::assert_snapshot!(refusal(&objects(500_000)), @"run/model.safetensors: its `tl` metadata cannot be read: missing field `classes` at line 1 column 3500051");
        let lists = ["[".repeat(2_000_000), "]".repeat(2_000_000)].concat();
        insta::assert_snapshot!(refusal(&lists), @"run/model.safetensors: its `tl` metadata cannot be read: recursion limit exceeded at line 1 column 174");
        assert!(start.elapsed() < Duration::from_secs(5));
        // A header that is longer than any model's is left to the reader of weights, which says so.
        std::fs::write(&path, (17u64 << 20).to_le_bytes()).unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_len(20 << 20).unwrap();
        assert_eq!(read_card(&path).unwrap(), None);
    }
}
