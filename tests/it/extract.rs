//! `tl extract` as a program: rows, labels, formats, failures, and messages about wrong command
//! lines.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use transferkit::weights::checkpoint::{Checkpoint, read_checkpoint};

use crate::program::{Run, Tl, answers, repository};

/// The shipped network of letters: small images, own preprocessing.
pub const LETTERS: &str = "data/shufflenet_v2_x0_5-letters.safetensors";

/// A PNG of one colour.
pub fn write_png(path: &Path, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 20, 16);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&colour.repeat(20 * 16)).unwrap();
}

/// Images in class folders, a hidden one, a broken one, and a file of another kind.
pub fn pictures() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let names =
        ["b/2.png", "b/10.png", "b-c/1.png", "a/deep/er/x.png", "top.png", ".hidden/y.png", "b/.z.png"];
    for (index, name) in names.iter().enumerate() {
        write_png(&images.join(name), [40 * index as u8, 90, 200 - 20 * index as u8]);
    }
    fs::write(images.join("notes.txt"), "no image").unwrap();
    folder
}

/// The contents of `images`, in the order of path components, with labels.
pub const LISTED: [(&str, &str); 5] = [
    ("images/a/deep/er/x.png", "er"),
    ("images/b/10.png", "b"),
    ("images/b/2.png", "b"),
    ("images/b-c/1.png", "b-c"),
    ("images/top.png", ""),
];

fn extract(folder: &Path, args: &[&str]) -> Run {
    with_letters("extract", folder, args)
}

/// `tl COMMAND ARGS` with the network of letters, on the CPU and with one thread unless `args`
/// differ: tests run in parallel, and libtorch's threads spin while they wait.
pub fn with_letters(command: &str, folder: &Path, args: &[&str]) -> Run {
    let mut call = Tl::new([command, "--model"]).arg(repository(LETTERS)).cwd(folder);
    for (option, value) in [("--device", "cpu"), ("--threads", "1")] {
        if !args.contains(&option) {
            call = call.arg(option).arg(value);
        }
    }
    args.iter().fold(call, |call, arg| call.arg(arg)).run()
}

fn csv_rows(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_path(path).unwrap();
    reader.records().map(|row| row.unwrap().iter().map(Into::into).collect()).collect()
}

/// Path and label of each row of a CSV with a header.
fn named(rows: &[Vec<String>]) -> Vec<(&str, &str)> {
    rows[1..].iter().map(|row| (row[0].as_str(), row[1].as_str())).collect()
}

fn npy(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    bytes[128..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn features(checkpoint: &Checkpoint) -> Vec<f32> {
    checkpoint.tensors[0].1.to_f32().unwrap()
}

#[test]
fn four_formats_hold_the_same_rows() {
    let folder = pictures();
    let at = |name: &str| folder.path().join(name);
    let outs = ["x.npy", "x.csv", "x.safetensors", "x.parquet"].map(|out| ["images", "--out", out]);
    let answers = answers(&outs, |args| {
        let run = extract(folder.path(), args).expect(0);
        assert_eq!(run.stdout, "");
        run
    });
    insta::assert_snapshot!(answers, @"
    $ images --out x.npy
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    5 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.npy

    $ images --out x.csv
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    5 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.csv

    $ images --out x.safetensors
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    5 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.safetensors

    $ images --out x.parquet
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    5 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.parquet
    ");
    let values = npy(&at("x.npy"));
    assert_eq!(values.len(), 5 * 1024);
    assert!(values.iter().all(|value| value.is_finite()));
    assert_ne!(values[..1024], values[1024..2048]);
    let index = csv_rows(&at("x.npy.index.csv"));
    assert_eq!(index[0], ["path", "label"]);
    assert_eq!(named(&index), LISTED);

    let rows = csv_rows(&at("x.csv"));
    assert_eq!(rows[0].len(), 2 + 1024);
    assert_eq!(rows[0][..4], ["path", "label", "f0", "f1"]);
    assert_eq!(named(&rows), LISTED);
    let from_csv: Vec<f32> =
        rows[1..].iter().flat_map(|row| &row[2..]).map(|text| text.parse().unwrap()).collect();
    assert_eq!(from_csv, values);

    let file = read_checkpoint(&at("x.safetensors")).unwrap();
    assert_eq!(features(&file), values);
    let paths: Vec<String> = serde_json::from_str(&file.metadata["paths"]).unwrap();
    assert_eq!(paths, LISTED.map(|(path, _)| path));

    let parquet = fs::File::open(at("x.parquet")).unwrap();
    let builder = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap();
    assert_eq!(builder.metadata().file_metadata().num_rows(), 5);
    assert!(!at("x.npy.errors.csv").exists());
}

#[test]
fn rows_do_not_depend_on_threads_or_on_how_paths_are_given() {
    let folder = pictures();
    for threads in ["1", "2", "7"] {
        let args = ["images", "--threads", threads, "--batch-size", "2", "--out", "x.npy", "--quiet"];
        let run = extract(folder.path(), &args).expect(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
        assert_eq!(named(&csv_rows(&folder.path().join("x.npy.index.csv"))), LISTED);
    }
    // Twice the same image is one row; its label is that of the folder it was found in.
    let args = ["images/top.png", "images/b/2.png", "images/b", "images/a", "--out", "y.npy"];
    extract(folder.path(), &args).expect(0);
    let expected = [
        ("images/a/deep/er/x.png", "er"),
        ("images/b/10.png", ""),
        ("images/b/2.png", ""),
        ("images/top.png", ""),
    ];
    assert_eq!(named(&csv_rows(&folder.path().join("y.npy.index.csv"))), expected);
}

#[test]
fn a_stage_is_read_by_its_name_and_a_misspelt_one_gets_the_nearest() {
    let folder = pictures();
    for (stage, length) in
        [("conv1", 24), ("stage2", 48), ("stage4.3", 192), ("features", 1024), ("logits", 52)]
    {
        extract(folder.path(), &["images/top.png", "--out", "x.npy", "--stage", stage]).expect(0);
        assert_eq!(npy(&folder.path().join("x.npy")).len(), length, "{stage}");
    }
    let misspelt =
        |stage: &str| extract(folder.path(), &["images", "--out", "z.npy", "--stage", stage]).expect(2);
    insta::assert_snapshot!(misspelt("stge4").told(), @"error: shufflenet_v2_x0_5 has no stage named `stge4`; did you mean `stage4`? It has conv1, stage2, stage3, stage4, conv5, features, logits; a part of one has a name such as stage4.3");
    insta::assert_snapshot!(misspelt("penultimate").told(), @"error: shufflenet_v2_x0_5 has no stage named `penultimate`. It has conv1, stage2, stage3, stage4, conv5, features, logits; a part of one has a name such as stage4.3");
    assert!(!folder.path().join("z.npy").exists());
}

#[test]
fn a_bad_image_among_good_ones_is_listed() {
    let folder = pictures();
    let at = |name: &str| folder.path().join(name);
    let whole = fs::read(at("images/top.png")).unwrap();
    fs::write(at("images/b/11.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("images/b/12.jpg"), "<html>").unwrap();
    let run = extract(folder.path(), &["images", "--out", "x.npy"]).expect(1);
    insta::assert_snapshot!(run.told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    5 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.npy
    2 of 7 images could not be read: see x.npy.errors.csv
    ");
    assert_eq!(named(&csv_rows(&at("x.npy.index.csv"))), LISTED);
    let errors = csv_rows(&at("x.npy.errors.csv"));
    assert_eq!(errors[0], ["path", "error"]);
    assert_eq!(
        named(&errors).iter().map(|row| row.0).collect::<Vec<_>>(),
        ["images/b/11.png", "images/b/12.jpg"]
    );
    assert!(errors[1..].iter().all(|row| !row[1].is_empty() && !row[1].contains("images/b/1")), "{errors:?}");

    // The same rows as without the bad ones, and the list goes with them.
    let values = npy(&at("x.npy"));
    fs::remove_file(at("images/b/11.png")).unwrap();
    fs::remove_file(at("images/b/12.jpg")).unwrap();
    extract(folder.path(), &["images", "--out", "x.npy"]).expect(0);
    assert_eq!(npy(&at("x.npy")), values);
    assert!(!at("x.npy.errors.csv").exists());

    // Nothing but bad images: an empty output, complete.
    fs::write(at("bad.png"), "no image").unwrap();
    insta::assert_snapshot!(extract(folder.path(), &["bad.png", "--out", "x.csv"]).expect(1).told(), @"
    0 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.csv
    1 of 1 image could not be read: see x.csv.errors.csv
    ");
    assert_eq!(csv_rows(&at("x.csv")).len(), 1);
}

#[test]
fn an_old_output_stays_until_the_new_one_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.npy");
    fs::write(&out, "old").unwrap();
    let child = Tl::new(["extract", "--device", "cpu", "--threads", "1", "--batch-size", "1", "--model"])
        .arg(repository(LETTERS))
        .arg("--out")
        .arg(&out)
        .arg(repository("data/digits"))
        .spawn();
    // A hidden folder beside the output says that it is under way.
    let start = Instant::now();
    while fs::read_dir(folder.path()).unwrap().count() < 2 {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is being written");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(fs::read(&out).unwrap(), b"old");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let run = Run::from(child.wait_with_output().unwrap()).expect(143).says(&["stopped: "]);
    assert_eq!(fs::read(&out).unwrap(), b"old");
    // Finished work is kept, if there is any.
    let kept = run.stderr.contains("`--resume`");
    assert!(kept || run.stderr.contains("nothing was written"), "{}", run.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1 + usize::from(kept));
}

#[test]
fn wrong_command_lines_are_told_what_to_mend() {
    let folder = pictures();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("empty/readme.md"), "").unwrap();
    let calls: [&[&str]; 10] = [
        &["images", "--out", "x.json"],
        &["images"],
        &["--out", "x.npy"],
        &["nowhere", "images", "--out", "x.npy"],
        &["images/.hidden/../a/deep/er/../../../.hidden", "nowhere", "--out", "x.npy"],
        &["images", "--out", "x.npy", "--threads", "0"],
        &["images", "--out", "x.npy", "--batch-size", "0"],
        &["images", "--out", "x.npy", "--device", "gpu"],
        &["images", "--out", "x.npy", "--preprocess", "IMAGENET1K_V7"],
        &["empty", "--out", "x.npy"],
    ];
    let answers = answers(&calls, |args| extract(folder.path(), args).expect(2));
    insta::assert_snapshot!(answers, @"
    $ images --out x.json
    error: cannot tell the format of x.json by its name: expected one that ends in .npy, .parquet, .safetensors, .csv for features, found the ending .json

    $ images
    error: the following required arguments were not provided:
      --out <FILE>

    Usage: tl extract --model <MODEL> --out <FILE> --device <DEVICE> --threads <N> <PATH>...

    For more information, try '--help'.

    $ --out x.npy
    error: the following required arguments were not provided:
      <PATH>...

    Usage: tl extract --model <MODEL> --out <FILE> --device <DEVICE> --threads <N> <PATH>...

    For more information, try '--help'.

    $ nowhere images --out x.npy
    error: cannot read nowhere: No such file or directory

    $ images/.hidden/../a/deep/er/../../../.hidden nowhere --out x.npy
    error: cannot read nowhere: No such file or directory

    $ images --out x.npy --threads 0
    error: invalid value '0' for '--threads <N>': expected a whole number from 1 to 1024

    For more information, try '--help'.

    $ images --out x.npy --batch-size 0
    error: invalid value '0' for '--batch-size <N>': expected a whole number from 1 to 65536

    For more information, try '--help'.

    $ images --out x.npy --device gpu
    error: invalid value 'gpu' for '--device <DEVICE>': expected one of auto, cpu, cuda, cuda:N (cuda:0 is the first GPU)

    For more information, try '--help'.

    $ images --out x.npy --preprocess IMAGENET1K_V7
    error: shufflenet_v2_x0_5 has no weights named `IMAGENET1K_V7`; did you mean `IMAGENET1K_V1`? It has `IMAGENET1K_V1`; a file needs an ending such as .pth or a folder before it

    $ empty --out x.npy
    error: there is no image to read
    empty: left out 1 file whose ending is not an image's (1 .md)
    empty: no images in this folder
    ");
    // Whether there is a GPU, and why not, depends on the machine.
    extract(folder.path(), &["images", "--out", "x.npy", "--device", "cuda:99"])
        .expect(2)
        .says(&["device cuda:99 was asked for"]);
    assert!(!folder.path().join("x.npy").exists());
}

#[test]
fn an_output_that_cannot_be_written_is_one_message() {
    let folder = pictures();
    fs::create_dir(folder.path().join("d.npy")).unwrap();
    insta::assert_snapshot!(extract(folder.path(), &["images", "--out", "d.npy"]).expect(1).told(), @"error: d.npy: is a folder; name a file to write");
    let run = extract(folder.path(), &["images", "--out", "images/top.png/x.npy"]).expect(1);
    insta::assert_snapshot!(run.told(), @"error: cannot write images/top.png/x.npy: Not a directory");
    // A missing folder is made.
    extract(folder.path(), &["images", "--out", "new/er/x.npy"]).expect(0);
}

#[test]
fn preprocessing_is_chosen_by_name() {
    let folder = pictures();
    let with = |model: &str, tag: &str| {
        let args = [
            "extract",
            "--threads",
            "1",
            "--model",
            model,
            "--weights",
            "none",
            "--preprocess",
            tag,
            "--out",
            "x.npy",
        ];
        Tl::new(args).arg("images").cwd(folder.path()).run()
    };
    insta::assert_snapshot!(with("resnet50", "IMAGENET1K_V9").expect(2).told(), @"error: resnet50 has no weights named `IMAGENET1K_V9`; did you mean `IMAGENET1K_V2`? It has `IMAGENET1K_V1` and `IMAGENET1K_V2`, of which `IMAGENET1K_V2` is DEFAULT; a file needs an ending such as .pth or a folder before it");
    with("shufflenet_v2_x0_5", "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1").expect(0);
}

#[test]
fn an_image_with_too_many_pixels_is_left_out_undecoded() {
    let folder = pictures();
    let run = extract(folder.path(), &["images", "--out", "x.npy", "--max-pixels", "100"]).expect(1);
    insta::assert_snapshot!(run.told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    0 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.npy
    5 of 5 images could not be read: see x.npy.errors.csv
    ");
    let errors = csv_rows(&folder.path().join("x.npy.errors.csv"));
    assert!(errors[1][1].starts_with("is 20x16 = ") && errors[1][1].contains("--max-pixels"), "{errors:?}");
}

#[test]
fn names_that_are_not_utf_8_or_need_quoting_survive() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    write_png(&images.join("a, \"b\"\nc/ä.png"), [1, 2, 3]);
    let odd = images.join(std::ffi::OsStr::from_bytes(b"\xff.png"));
    fs::copy(images.join("a, \"b\"\nc/ä.png"), &odd).unwrap();
    extract(folder.path(), &["images", "--out", "x.csv"]).expect(0);
    let rows = csv_rows(&folder.path().join("x.csv"));
    let (first, second) = ("images/a, \"b\"\nc/ä.png", r"images/\xff.png");
    assert_eq!(named(&rows), [(first, "a, \"b\"\nc"), (second, "")]);
    // The paths of an output can be opened again.
    extract(folder.path(), &["x.csv", "--out", "y.csv"]).expect(0);
    let again = csv_rows(&folder.path().join("y.csv"));
    assert_eq!(again, rows);
}

#[test]
fn the_columns_of_logits_are_called_by_class() {
    let folder = tempfile::tempdir().unwrap();
    write_png(&folder.path().join("images/a.png"), [1, 2, 3]);
    extract(folder.path(), &["images", "--stage", "logits", "--out", "x.csv"]).expect(0);
    let header = &csv_rows(&folder.path().join("x.csv"))[0];
    assert_eq!(header[..4], ["path", "label", "lower_a", "lower_b"]);
    assert_eq!(header.len(), 2 + 52);
}
