//! What model files hold, as tests compare them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use transferkit::weights::checkpoint::read_checkpoint;

/// The header of a safetensors file.
pub fn header(bytes: &[u8]) -> Value {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

/// The card of a file that `tl` wrote.
pub fn card(bytes: &[u8]) -> Value {
    serde_json::from_str(header(bytes)["__metadata__"]["tl"].as_str().unwrap()).unwrap()
}

/// The same file with another card.
pub fn with_card(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (mut header, mut card) = (header(bytes), card(bytes));
    change(&mut card);
    header["__metadata__"]["tl"] = card.to_string().into();
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

/// The float tensors of a file, by key without `prefix`, of those whose key begins with it.
pub fn tensors(path: &Path, prefix: &str) -> BTreeMap<String, Vec<f32>> {
    let checkpoint = read_checkpoint(path).unwrap();
    let tensors = checkpoint.tensors.iter().filter(|(_, raw)| raw.dtype.is_float());
    tensors
        .filter_map(|(key, raw)| {
            let floats = raw.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            Some((key.strip_prefix(prefix)?.to_string(), floats.collect()))
        })
        .collect()
}
