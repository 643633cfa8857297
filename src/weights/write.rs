//! Writes model files, and other files of named tensors.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype as FileDtype, View};

use super::card::{Card, KEY};
use super::checkpoint::{Dtype, RawTensor};
use super::state_dict;
use crate::error::{Error, Result};
use crate::models::Network;
use crate::text::path_text::path_text;
use crate::util::atomic::AtomicFile;

/// Writes `network` and its `card` to `path`, atomically.
pub fn write_model(path: &Path, network: &Network, card: &Card) -> Result<()> {
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
