//! Files of tensors that a resumed run goes on from, with a checksum: safetensors itself has none.

use std::collections::HashMap;
use std::path::Path;

use super::checkpoint::{AGAIN, Checkpoint, RawTensor, read_checkpoint};
use super::write_tensors;
use crate::error::{Error, Result};

/// The metadata that holds the CRC-32.
const CHECKSUM: &str = "crc32";

/// As [`write_tensors`], with a checksum of tensors and metadata.
///
/// # Errors
/// As [`write_tensors`].
pub fn write_kept(
    path: &Path,
    tensors: &[(String, RawTensor)],
    mut metadata: HashMap<String, String>,
) -> Result<()> {
    metadata.insert(CHECKSUM.into(), checksum(tensors, &metadata));
    write_tensors(path, tensors, metadata)
}

/// Reads what [`write_kept`] wrote. A file of an earlier version has no checksum.
///
/// # Errors
/// As [`read_checkpoint`], and [`Error::File`] if the checksum is another.
pub fn read_kept(path: &Path) -> Result<Checkpoint> {
    let checkpoint = read_checkpoint(path).map_err(|error| match error {
        // It was written here: the caller knows a remedy.
        Error::File { path, message } => Error::file(path, message.strip_suffix(AGAIN).unwrap_or(&message)),
        other => other,
    })?;
    let metadata = checkpoint.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    match checkpoint.metadata.get(CHECKSUM) {
        Some(expected) if *expected != checksum(&checkpoint.tensors, &metadata) => {
            Err(Error::file(path, "is damaged: its checksum is another"))
        }
        _ => Ok(checkpoint),
    }
}

fn checksum(tensors: &[(String, RawTensor)], metadata: &HashMap<String, String>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    let mut tensors: Vec<&(String, RawTensor)> = tensors.iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (key, tensor) in tensors {
        hasher.update(format!("{key}\0{:?}{:?}", tensor.dtype, tensor.shape).as_bytes());
        hasher.update(&tensor.bytes);
    }
    let mut metadata: Vec<_> = metadata.iter().filter(|(key, _)| *key != CHECKSUM).collect();
    metadata.sort();
    metadata.into_iter().for_each(|(key, value)| hasher.update(format!("{key}\0{value}\0").as_bytes()));
    format!("{:08x}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::checkpoint::Dtype;

    #[test]
    fn a_flipped_bit_is_found_in_numbers_and_in_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let tensor =
            |bytes: &[u8]| RawTensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes: bytes.into() };
        let tensors = [("b".to_string(), tensor(b"numbers")), ("a".to_string(), tensor(b"others"))];
        write_kept(&path, &tensors, HashMap::from([("text".into(), "words".into())])).unwrap();
        assert_eq!(read_kept(&path).unwrap().tensors.len(), 2);
        let good = std::fs::read(&path).unwrap();
        for word in [&b"numbers"[..], b"others", b"words"] {
            let mut bytes = good.clone();
            let at = bytes.windows(word.len()).position(|found| found == word).unwrap();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let message = read_kept(&path).map(drop).unwrap_err().to_string();
            assert!(message.ends_with("x.safetensors: is damaged: its checksum is another"), "{message}");
        }
        write_tensors(&path, &tensors, HashMap::new()).unwrap();
        assert_eq!(read_kept(&path).unwrap().tensors.len(), 2);
    }
}
