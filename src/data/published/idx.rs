//! IDX files: MNIST, Fashion-MNIST, EMNIST and other sets in this format, gzipped or not.
//!
//! Two zero bytes, the element type (8: bytes), the number of dimensions, the size of each
//! (big-endian), then the values.

use std::fs::read_dir;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::{Labels, Opened, last, regular};
use crate::error::{Error, Result};
use crate::preprocess::{Bytes, Channels, Packed};
use crate::text::words::counted;

/// A gzipped file is unpacked in memory, up to this many bytes.
const MOST_UNPACKED: u64 = 2 << 30;
/// The maximum compression ratio of deflate.
const BEST_RATIO: u64 = 1032;

/// The two spellings of an image file's name: as published, and as some archives unpack it.
const IMAGES: [&str; 2] = ["images-idx3-ubyte", "images.idx3-ubyte"];
const LABELS: [&str; 2] = ["labels-idx1-ubyte", "labels.idx1-ubyte"];

/// The beginning of an image file's name: `train-` of `train-images-idx3-ubyte.gz`.
fn stem(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    IMAGES.iter().find_map(|ending| name.strip_suffix(ending))
}

/// Whether this is an image file's name.
pub(super) fn is_images(name: &str) -> bool {
    stem(name).is_some()
}

/// Whether it is the test part: `t10k` in MNIST, `test` in EMNIST.
pub(super) fn is_test(path: &Path) -> bool {
    let name = last(path);
    stem(&name).is_some_and(|stem| stem.contains("t10k") || stem.contains("test"))
}

/// The image files of a folder that has few entries, by path; of a file that is there both gzipped
/// and unpacked, the latter.
pub(super) fn image_files(folder: &Path, most: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (index, entry) in read_dir(folder).map_err(Error::io("read the folder", folder))?.enumerate() {
        if index >= most {
            return Ok(Vec::new());
        }
        let path = entry.map_err(Error::io("read the folder", folder))?.path();
        if is_images(&last(&path)) && path.is_file() {
            files.push(path);
        }
    }
    // Unpacked ones come before `.gz`.
    files.sort();
    let mut seen = std::collections::HashSet::new();
    files.retain(|path| seen.insert(stem(&last(path)).map(str::to_string)));
    Ok(files)
}

/// The label file of an image file, if it exists.
fn labels_of(images: &Path) -> Option<PathBuf> {
    let name = last(images);
    let stem = stem(&name)?;
    let names = LABELS.iter().flat_map(|ending| ["", ".gz"].map(|gz| format!("{stem}{ending}{gz}")));
    names.map(|name| images.with_file_name(name)).find(|path| path.is_file())
}

/// The error for a missing label file.
pub(super) fn no_labels(images: &Path) -> Error {
    let name = last(images);
    let expected = format!("{}{}", stem(&name).unwrap_or_default(), LABELS[0]);
    Error::file(
        images,
        format!("its labels are missing: expected {expected} (or .gz) beside it; download them too"),
    )
}

/// Opens an image file and the label file beside it.
///
/// # Errors
/// [`Error::File`] if one of them is cut short, damaged or of another kind, or if they do not
/// belong together.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let Values { sizes, bytes, start } = read(path, "images of rows and columns")?;
    let [count, height, width] = sizes;
    if sizes.contains(&0) {
        return Err(Error::file(path, "its header promises no image; download it again"));
    }
    let count = count as usize;
    let labels = match labels_of(path) {
        None => None,
        Some(labels) => {
            let Values { sizes: [found], bytes, start } = read(&labels, "labels")?;
            if found as usize != count {
                let (images, found) =
                    (counted(count, "image", "images"), counted(found as usize, "label", "labels"));
                return Err(Error::file(
                    &labels,
                    format!(
                        "expected the labels of the {images} of {}, found {found}; download both again",
                        last(path)
                    ),
                ));
            }
            let numbers = all(bytes, start).map_err(Error::io("read", &labels))?;
            let classes = numbers.iter().max().map_or(0, |&most| usize::from(most) + 1);
            let classes = Arc::new((0..classes).map(|class| class.to_string()).collect());
            Some(Labels { numbers: numbers.into_iter().map(u16::from).collect(), classes })
        }
    };
    let stride = u64::from(width) * u64::from(height);
    let (path, channels) = (path.into(), Channels::Grey);
    let images = Arc::new(Packed { path, bytes, start, stride, size: (width, height), channels });
    Ok(Opened { images, count, labels })
}

/// A complete file of `N` dimensions.
struct Values<const N: usize> {
    sizes: [u32; N],
    bytes: Bytes,
    /// Offset of the values.
    start: u64,
}

fn all(bytes: Bytes, start: u64) -> io::Result<Vec<u8>> {
    match bytes {
        Bytes::Memory(bytes) => Ok(bytes),
        Bytes::File(mut file) => {
            let mut bytes = Vec::new();
            file.seek(io::SeekFrom::Start(start))?;
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        }
    }
}

/// Reads a header and compares it with the file. `what` are the dimensions.
fn read<const N: usize>(path: &Path, what: &str) -> Result<Values<N>> {
    let (mut file, length) = regular(path)?;
    let wrong = |message: String| Error::file(path, message);
    let mut magic = [0; 2];
    let gzipped =
        read_up_to(&mut file, &mut magic).map_err(Error::io("read", path))? == 2 && magic == [0x1f, 0x8b];
    file.rewind().map_err(Error::io("read", path))?;
    if !gzipped {
        let sizes = header(&mut file, what).map_err(|error| told(path, error))?;
        let (start, promised) = (4 + 4 * N as u64, values(&sizes));
        let found = length.saturating_sub(start);
        if promised != Some(found) {
            return Err(wrong(differs(&sizes, promised, &format!("{found} follow"))));
        }
        return Ok(Values { sizes, bytes: Bytes::File(file), start });
    }
    let mut unpacked = MultiGzDecoder::new(BufReader::new(file));
    let sizes = header(&mut unpacked, what).map_err(|error| told(path, error))?;
    let promised = values(&sizes);
    let Some(count) = promised.filter(|&count| count / BEST_RATIO <= length) else {
        let most = format!("{length} gzipped bytes cannot hold that much");
        return Err(wrong(differs(&sizes, promised, &most)));
    };
    if count > MOST_UNPACKED {
        let gigabytes = count as f64 / 1e9;
        return Err(wrong(format!(
            "would take {gigabytes:.1} GB of memory; unpack it with gunzip, and name that file"
        )));
    }
    let mut bytes = Vec::new();
    // One byte more detects surplus bytes, and makes the checksum be compared.
    unpacked.take(count + 1).read_to_end(&mut bytes).map_err(|error| told(path, error))?;
    if bytes.len() as u64 != count {
        let found =
            if bytes.len() as u64 > count { "more follow".into() } else { format!("{} follow", bytes.len()) };
        return Err(wrong(differs(&sizes, promised, &found)));
    }
    Ok(Values { sizes, bytes: Bytes::Memory(bytes), start: 0 })
}

fn header<const N: usize>(file: &mut impl Read, what: &str) -> io::Result<[u32; N]> {
    let mut magic = [0; 4];
    let found = read_up_to(file, &mut magic)?;
    if magic != [0, 0, 8, N as u8] {
        let bytes: Vec<String> = magic[..found].iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "expected an IDX file of {what}, which begins with the bytes 00 00 08 {N:02x}, found {}; download it \
                 again",
                if bytes.is_empty() { "an empty file".into() } else { bytes.join(" ") }
            ),
        ));
    }
    let mut sizes = [0; N];
    for size in &mut sizes {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes)?;
        *size = u32::from_be_bytes(bytes);
    }
    Ok(sizes)
}

/// Reads into `out` until it is full or the file ends; returns the number of bytes.
fn read_up_to(file: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read(&mut out[done..]) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The number of values in a header.
fn values(sizes: &[u32]) -> Option<u64> {
    sizes.iter().try_fold(1u64, |count, &size| count.checked_mul(size.into()))
}

fn differs(sizes: &[u32], promised: Option<u64>, found: &str) -> String {
    let sizes = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(" x ");
    let promised = promised.map_or("more than any file has".into(), |count| format!("{count} bytes"));
    format!(
        "its header promises {sizes} values ({promised}), but {found}: it is cut short or damaged; download it again"
    )
}

/// The error message of a failed read.
fn told(path: &Path, error: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof, Unsupported};
    match error.kind() {
        Unsupported => Error::file(path, error.to_string()),
        UnexpectedEof => Error::file(path, "is cut short; download it again"),
        InvalidData | InvalidInput => {
            Error::file(path, format!("cannot be unpacked ({error}): it is damaged; download it again"))
        }
        _ => Error::io("read", path)(error),
    }
}
