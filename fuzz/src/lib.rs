//! The readers of files from outside, as functions of a file's bytes.
//!
//! `fuzz_targets/` gives them to libFuzzer, and `tests/it/fuzz.rs`, which includes this file, damaged
//! fixtures. A target must not panic, abort, or take long; what it returns does not matter.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use transferkit::data::{list_images, read_labelled};
use transferkit::output::{JobIdentity, Partial};
use transferkit::preprocess::{DecodeLimits, Fit, Interpolation, Preprocessing, decode_bytes, image_size};
use transferkit::recipe::Recipe;
use transferkit::weights::card::read_card;
use transferkit::weights::checkpoint::read_checkpoint;

/// A reader of files.
pub struct Target {
    /// As `cargo fuzz run` knows it.
    pub name: &'static str,
    /// Reads a file with these bytes.
    pub read: fn(&[u8]),
    /// Endings of the project's own files that it reads, to start from.
    pub endings: &'static [&'static str],
    /// Other files to start from.
    pub samples: &'static [&'static str],
}

/// All targets. An image's is named as its format; other bytes are left alone, so that a corpus
/// stays with its format.
pub const TARGETS: &[Target] = &[
    Target { name: "weights", read: weights, endings: &["pth", "pt", "safetensors"], samples: &[] },
    Target { name: "card", read: card, endings: &[], samples: &[CARD] },
    picture("jpeg", |bytes| image(bytes, bytes.starts_with(b"\xFF\xD8")), &["jpg"]),
    picture("png", |bytes| image(bytes, bytes.starts_with(b"\x89PNG")), &["png"]),
    picture("gif", |bytes| image(bytes, bytes.starts_with(b"GIF8")), &["gif"]),
    picture("webp", |bytes| image(bytes, bytes.starts_with(b"RIFF")), &["webp"]),
    picture("bmp", |bytes| image(bytes, bytes.starts_with(b"BM")), &["bmp"]),
    picture("tiff", |bytes| image(bytes, bytes.starts_with(b"II") || bytes.starts_with(b"MM")), &["tif"]),
    picture("pnm", |bytes| image(bytes, bytes.starts_with(b"P")), &["pbm", "pgm", "ppm"]),
    picture("jpeg2000", |bytes| image(bytes, is_jpeg2000(bytes)), &["jp2", "j2k"]),
    Target { name: "recipe", read: recipe, endings: &["yaml"], samples: &["model: a\ndata: {train: [b]}\n"] },
    Target { name: "csv", read: csv, endings: &[], samples: CSVS },
    Target {
        name: "list",
        read: list,
        endings: &[],
        samples: &["a.pgm\nb.pgm\n", "path;label\n\"a.pgm\";b\n"],
    },
    Target { name: "published", read: published, endings: CIFAR, samples: &[IDX] },
    Target { name: "journal", read: journal, endings: &[], samples: &[JOURNAL] },
];

const fn picture(name: &'static str, read: fn(&[u8]), endings: &'static [&'static str]) -> Target {
    Target { name, read, endings, samples: &[] }
}

const CARD: &str = r#"{"architecture":"lenet","classes":["a","b"],"format":1,"preprocessing":{"crop_size":64,"interpolation":"bilinear","mean":[0.5,0.5,0.5],"resize_size":64,"std":[0.2,0.2,0.2]},"beside":{"file":"b.safetensors","share":0.5}}"#;
const CSVS: &[&str] = &["path,label\na.pgm,x\n", "label;path;split\n\"x\"\"y\";a.pgm;val\n"];
const CIFAR: &[&str] = &["python2", "python3-2", "python3-4", "python3-5"];
/// After the byte that chooses it: one image of one pixel.
const IDX: &str = "\u{2}\0\0\u{8}\u{3}\0\0\0\u{1}\0\0\0\u{1}\0\0\0\u{1}\0";
/// Without the checksums of the lines.
const JOURNAL: &str = r#"{"job":[["command","predict"]]}
{"images":1,"listing":"","rows":1,"failures":0,"files":{"rows.csv":{"length":11,"crc32":538352708}}}
{"images":1,"listing":"","rows":1,"failures":0,"files":{},"places":{"put":[{"name":"rows.csv","ending":"","bytes":11,"sha256":""}],"remove":[".index.csv"]}}
"#;

/// Files to start from, for a target: the project's own below `repository`, and samples.
pub fn seeds(target: &Target, repository: &Path) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = target.samples.iter().map(|text| text.as_bytes().to_vec()).collect();
    let mut folders: Vec<PathBuf> =
        ["tests/fixtures", "data/samples", "recipes"].map(|it| repository.join(it)).into();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder of the project");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            let ending =
                |ending: &&str| path.extension().or(path.file_name()).is_some_and(|it| it == *ending);
            if path.is_dir() {
                folders.push(path);
            } else if target.endings.iter().any(ending) {
                let bytes = fs::read(&path).expect("a file of the project");
                // CIFAR's: after the byte that chooses them.
                seeds.push(if target.name == "published" { [&[0], &bytes[..]].concat() } else { bytes });
            }
        }
    }
    seeds
}

/// Reads `bytes` as the target of this name does.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    (target.read)(bytes);
}

fn is_jpeg2000(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0\0\0\x0c") || bytes.starts_with(b"\xFF\x4F")
}

/// Pixels that a hostile header may ask for: the promise is about the file's size.
const MAX_PIXELS: u64 = 1 << 22;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// A file of this name with these bytes, in a folder of this thread's own.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    FOLDER.with(|folder| {
        let memory = Path::new("/dev/shm");
        let new = || if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.get_or_init(|| new().expect("a temporary folder"));
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a temporary file");
        path
    })
}

fn weights(bytes: &[u8]) {
    let path = file("weights.pth", bytes);
    let _ = read_card(&path);
    let Ok(checkpoint) = read_checkpoint(&path) else { return };
    for (_, tensor) in &checkpoint.tensors {
        let _ = (tensor.is_finite(), tensor.to_f32());
    }
}

/// The bytes as the metadata of a model.
fn card(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let header = format!("{{\"__metadata__\":{{\"tl\":{}}}}}", quoted(&text));
    let mut content = (header.len() as u64).to_le_bytes().to_vec();
    content.extend_from_slice(header.as_bytes());
    let _ = read_card(&file("model.safetensors", &content));
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '"' | '\\' => format!("\\{letter}"),
        letter if u32::from(letter) < 0x20 => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn image(bytes: &[u8], wanted: bool) {
    if !wanted {
        return;
    }
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, ..DecodeLimits::default() };
    if let Err(message) = decode_bytes(bytes, limits) {
        // What the decoder's guard says of a panic.
        assert!(!message.ends_with("the decoder failed"), "{message}");
    }
    let path = file("image", bytes);
    let _ = image_size(&path);
    let preprocessing = Preprocessing {
        resize_size: 32,
        crop_size: 24,
        interpolation: Interpolation::Bilinear,
        mean: [0.5; 3],
        std: [0.25; 3],
        fit: Fit::Crop,
        pad_color: None,
        white_level: None,
    };
    let _ = preprocessing.read_eval(path.as_path(), limits);
}

fn recipe(bytes: &[u8]) {
    if let Ok((recipe, _)) = Recipe::read_leniently(&file("recipe.yaml", bytes), &[]) {
        let _ = (recipe.to_yaml(), recipe.to_json());
    }
}

/// A picture of one pixel, for the data files to name.
const PIXEL: &[u8] = b"P5 1 1 255\n\x80";

fn csv(bytes: &[u8]) {
    file("a.pgm", PIXEL);
    let _ = read_labelled(&file("data.csv", bytes));
}

fn list(bytes: &[u8]) {
    // A line may name any folder, and then all images below it are listed: not those of this machine.
    let begins = |byte: u8| b"/\\.".contains(&byte);
    let before =
        |byte: u8| begins(byte) || byte.is_ascii_whitespace() || b"\0\";,\xBF\xFE\xFF".contains(&byte);
    if bytes.first().is_some_and(|&byte| begins(byte))
        || bytes.windows(2).any(|pair| before(pair[0]) && begins(pair[1]))
    {
        return;
    }
    file("a.pgm", PIXEL);
    let _ = list_images(&[file("list.txt", bytes)]);
}

/// The files of CIFAR and MNIST; the first byte chooses.
fn published(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let name = match first % 3 {
        0 => "cifar/data_batch_1",
        1 => "binary/data_batch_1.bin",
        _ => "idx/train-images-idx3-ubyte",
    };
    let path = file(name, bytes);
    let _ = read_labelled(path.parent().expect("a folder"));
}

/// The bytes as the lines of a journal, each with its checksum, which no fuzzer guesses.
fn journal(bytes: &[u8]) {
    let mut content = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let line = line.trim_ascii_end();
        content.extend(format!("{{\"crc32\":\"{:08x}\",\"line\":", crc32fast::hash(line)).into_bytes());
        content.extend([line, b"}\n"].concat());
    }
    let folder = ".rows.csv.partial";
    file(&format!("{folder}/rows.csv"), b"path,label\na.pgm,x\n");
    let journal = file(&format!("{folder}/journal.jsonl"), &content);
    let hidden = journal.parent().expect("a folder");
    let _ = Partial::begin(&hidden.with_file_name("rows.csv"), &JobIdentity::new("predict"), true);
    let _ = fs::remove_dir_all(hidden);
}
