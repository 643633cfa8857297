//! The Python version of CIFAR: pickles of a dictionary with a numpy array and a list.
//!
//! They are read by the reader of weight files, which calls nothing. A file that requests other
//! calls than numpy needs for an array of bytes is refused.

use std::io::Read;
use std::path::Path;

use super::cifar::PIXELS;
use super::regular;
use crate::error::{Error, Result};
use crate::text::words::{counted, shown};
use crate::weights::checkpoint::pickle::{self, Object, Pickle, Value};

/// CIFAR-100's training images take 155 MB.
const LARGEST: u64 = 1 << 30;

/// The calls that a pickle of such an array may request. Python 3 writes the bytes of protocol 2 as
/// text to be encoded.
const CALLS: [&str; 6] = [
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
    "numpy.dtype",
    "_codecs.encode",
];

/// `Result` of the parts; errors are the words after the path.
type Parsed<T> = std::result::Result<T, String>;

/// The pixels of a batch, image by image, and the labels under `key`.
pub(super) fn images(path: &Path, key: &str) -> Result<(Vec<u8>, Vec<u16>)> {
    with_pickle(path, |pickle| {
        let data = entry(pickle, "data")?;
        let labels = numbers(pickle, key, entry(pickle, key)?)?;
        if labels.is_empty() {
            return Err("holds no images; download it again".into());
        }
        let pixels = array(pickle, data, labels.len()).map_err(|message| {
            let rows = counted(labels.len(), "image", "images");
            format!(
                "`data`: expected uint8 [{}, {PIXELS}] (there are labels of {rows}), {message}",
                labels.len()
            )
        })?;
        Ok((pixels, labels))
    })
}

/// The class names under `key`.
pub(super) fn class_names(path: &Path, key: &str) -> Result<Vec<String>> {
    with_pickle(path, |pickle| {
        let value = entry(pickle, key)?;
        let expected = || format!("`{key}`: expected a list of names, found {}", pickle.describe(value));
        let names = pickle.sequence(value).filter(|names| !names.is_empty()).ok_or_else(expected)?;
        let name = |name: &Value| text(*name).map(str::to_string);
        names.iter().map(name).collect::<Option<_>>().ok_or_else(expected)
    })
}

fn with_pickle<T>(path: &Path, read: impl FnOnce(&Pickle) -> Parsed<T>) -> Result<T> {
    let (file, length) = regular(path)?;
    let wrong = |message: String| Error::file(path, message);
    if length > LARGEST {
        return Err(wrong(format!("has {} MB, more than any file of CIFAR", length >> 20)));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let pickle = pickle::read(&bytes).map_err(wrong)?;
    only_arrays(&pickle).and_then(|()| read(&pickle)).map_err(wrong)
}

/// Refuses a pickle that requests other calls than those for arrays.
fn only_arrays(pickle: &Pickle) -> Parsed<()> {
    for object in pickle.objects() {
        let callee = match object {
            Object::Call { callee, .. } => pickle.callee(*callee),
            Object::Persistent(_) => "a persistent object".into(),
            _ => continue,
        };
        if !CALLS.contains(&callee.as_str()) {
            return Err(format!(
                "asks Python to run `{}` when it is opened, which no file of CIFAR does: it is hostile or another \
                 file; nothing was run. Download it again",
                shown(&callee)
            ));
        }
    }
    Ok(())
}

/// The value under `key` of a dictionary. Python 2's keys are bytes in Python 3.
fn entry<'a>(pickle: &Pickle<'a>, key: &str) -> Parsed<Value<'a>> {
    let entries = pickle.mapping(pickle.root).ok_or_else(|| {
        format!(
            "expected a pickled dictionary, found {}; it is no file of CIFAR, download it again",
            pickle.describe(pickle.root)
        )
    })?;
    let found = entries.iter().find(|(name, _)| text(*name) == Some(key)).map(|(_, value)| value);
    found.ok_or_else(|| {
        format!("expected a dictionary with `{key}`, found none; it is no file of CIFAR, download it again")
    })
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Str(text) => Some(text),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn numbers(pickle: &Pickle, key: &str, value: Value) -> Parsed<Vec<u16>> {
    let wrong = |found: String| format!("`{key}`: expected a list of whole numbers from 0 up, found {found}");
    let values = pickle.sequence(value).ok_or_else(|| wrong(pickle.describe(value)))?;
    let number = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).map_err(|_| wrong(format!("the number {number}"))),
        other => Err(wrong(format!("{} in it", pickle.describe(*other)))),
    };
    values.iter().map(number).collect()
}

/// The bytes of an array of `rows` images; else a description of what was found.
fn array(pickle: &Pickle, value: Value, rows: usize) -> Parsed<Vec<u8>> {
    let found = || format!("found {}", pickle.describe(value));
    let Some(Object::Call { callee, args, state, .. }) = pickle.object(value) else { return Err(found()) };
    let function = pickle.callee(*callee);
    let (shape, dtype, by_column, data) = if function.ends_with("._reconstruct") {
        // The arguments of numpy's `__setstate__`: version, shape, dtype, column-major or not,
        // bytes.
        let &[_, shape, dtype, order, data] = pickle.arguments(*state) else { return Err(found()) };
        (shape, dtype, order != Value::Bool(false), data)
    } else if function.ends_with("._frombuffer") {
        let &[data, dtype, shape, order] = pickle.arguments(*args) else { return Err(found()) };
        (shape, dtype, order != Value::Str("C"), data)
    } else {
        return Err(found());
    };
    let kind = match pickle.object(dtype) {
        Some(Object::Call { callee, args, .. }) if pickle.callee(*callee) == "numpy.dtype" => {
            pickle.arguments(*args).first().copied().and_then(text)
        }
        _ => None,
    };
    if !matches!(kind, Some("u1" | "|u1")) {
        return Err(format!("found elements of kind {}", shown(kind.unwrap_or("unknown"))));
    }
    let sizes = pickle.sequence(shape).unwrap_or_default();
    if sizes != [Value::Int(rows as i64), Value::Int(PIXELS as i64)] {
        let size = |size: &Value| match size {
            Value::Int(size) => size.to_string(),
            _ => "?".into(),
        };
        return Err(format!("found [{}]", sizes.iter().map(size).collect::<Vec<_>>().join(", ")));
    }
    if by_column {
        return Err("found it stored column by column; save numpy.ascontiguousarray of it".into());
    }
    let bytes = bytes(pickle, data).ok_or("found no bytes")?;
    let length = rows.saturating_mul(PIXELS);
    match bytes.len() == length {
        true => Ok(bytes),
        false => {
            let found = counted(bytes.len(), "byte", "bytes");
            Err(format!("found {found} where {length} are promised; download it again"))
        }
    }
}

/// Bytes, in any of Python's encodings.
fn bytes(pickle: &Pickle, value: Value) -> Option<Vec<u8>> {
    match (value, pickle.object(value)) {
        (Value::Bytes(bytes), _) => Some(bytes.to_vec()),
        // A Python 2 string that happens to be text.
        (Value::Str(text), _) => Some(text.as_bytes().to_vec()),
        (_, Some(Object::Call { args, .. })) => match pickle.arguments(*args) {
            [Value::Str(text), Value::Str("latin1")] => {
                text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
            }
            _ => None,
        },
        _ => None,
    }
}
