//! PyTorch's own files (`tests/oracle/checkpoints.py`), then damaged and hostile ones.

mod bounds;
mod containers;
mod damage;
mod make;
mod pickles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::container::{Container, HEAD_BYTES};
use super::{Checkpoint, Dtype, RawTensor, parse, read_checkpoint};

#[derive(Deserialize)]
struct Expected {
    key: String,
    dtype: String,
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints")
}

fn expected() -> BTreeMap<String, Vec<Expected>> {
    let text = std::fs::read_to_string(fixtures().join("expected.json")).expect("the fixture is committed");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).expect("the fixture is committed")
}

/// `read_checkpoint` without opening the file and hashing it.
fn read(bytes: &[u8]) -> Result<Checkpoint, String> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES as usize)];
    parse(Container::of(head)?, bytes)
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).expect_err("has to be refused")
}

fn values(tensor: &RawTensor) -> Vec<f64> {
    if let Some(floats) = tensor.to_f32() {
        return floats.into_iter().map(f64::from).collect();
    }
    let integer = |chunk: &[u8]| {
        let negative = chunk[chunk.len() - 1] >= 0x80 && !matches!(tensor.dtype, Dtype::U8 | Dtype::Bool);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..chunk.len()].copy_from_slice(chunk);
        i64::from_le_bytes(wide) as f64
    };
    tensor.bytes.chunks_exact(tensor.dtype.size()).map(integer).collect()
}

#[test]
fn files_of_pytorch_give_the_values_that_were_saved() {
    let all = expected();
    assert_eq!(all.len(), 19);
    for (name, entries) in all {
        let checkpoint = read_checkpoint(&fixtures().join(&name)).unwrap_or_else(|error| panic!("{error}"));
        let keys: Vec<_> = checkpoint.tensors.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(), "{name}");
        for ((key, tensor), entry) in checkpoint.tensors.iter().zip(&entries) {
            let place = format!("{name}: {key}");
            assert_eq!(format!("{:?}", tensor.dtype), entry.dtype, "{place}");
            assert_eq!(tensor.shape, entry.shape, "{place}");
            assert_eq!(tensor.numel(), entry.shape.iter().product::<usize>(), "{place}");
            assert_eq!(values(tensor), entry.values, "{place}");
        }
        let warned = checkpoint.warnings.iter().any(|warning| warning.contains("without checksums"));
        assert_eq!(warned, name == "no-checksums.zip.pth", "{name}: {:?}", checkpoint.warnings);
        assert_eq!(checkpoint.warnings.len(), usize::from(warned), "{name}: {:?}", checkpoint.warnings);
    }
}

#[test]
fn the_digest_is_of_the_whole_file() {
    let path = fixtures().join("plain.safetensors");
    let checkpoint = read_checkpoint(&path).unwrap();
    assert_eq!(checkpoint.sha256, "f50025df7733839f320f5c0ef0b17c85b285ea19aee152a01e4757ae264547da");
    assert_eq!(checkpoint.metadata, BTreeMap::from([("note".into(), "two\nlines".into())]));
}

#[test]
fn what_holds_no_state_dict_says_what_it_holds() {
    let cases = [
        (
            "whole-module.zip.pth",
            "holds a whole Python object (class `net.Net`), not a state dict; in Python: torch.save(model.state_dict(), ...)",
        ),
        ("whole-module.legacy.pth", "holds a whole Python object (class `net.Net`), not"),
        (
            "whole-module-nested.zip.pth",
            "holds a whole Python object (class `net.Net`) under `model`, not a state dict",
        ),
        ("torchscript.pt", "is a TorchScript archive"),
        ("complex.zip.pth", "the tensor `a` holds elements of kind `ComplexFloatStorage`"),
        ("quantised.zip.pth", "the tensor `a` is quantised"),
        ("sparse.zip.pth", "the tensor `a` is sparse"),
        ("float8.zip.pth", "the tensor `a` holds elements of kind `float8_e4m3fn`"),
        (
            "numpy.zip.pth",
            "has an object of `numpy._core.multiarray._reconstruct` under `a`, where a tensor is expected",
        ),
        (
            "other-key.zip.pth",
            "holds no tensors at its top, nor under `state_dict`, `model_state_dict` or `model`: its keys are `net`, `epoch`",
        ),
        ("list.zip.pth", "holds a list, not a state dict"),
        ("empty-dict.zip.pth", "holds an empty dictionary"),
        ("plain-pickle.pth", "is a plain Python pickle"),
    ];
    for (name, expected) in cases {
        let message = read_checkpoint(&fixtures().join(name)).unwrap_err().to_string();
        let message = message.split_once(": ").unwrap().1;
        assert!(message.starts_with(expected), "{name}: {message}");
    }
}

#[test]
fn folders_and_missing_files_are_said() {
    let message = read_checkpoint(&fixtures()).unwrap_err().to_string();
    assert!(message.contains("is a folder"), "{message}");
    let message = read_checkpoint(&fixtures().join("none.pth")).unwrap_err().to_string();
    assert!(message.starts_with("cannot read"), "{message}");
    #[cfg(unix)]
    {
        let message = read_checkpoint(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(message.contains("is not a regular file"), "{message}");
    }
}
