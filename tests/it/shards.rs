//! `--shard`: every image in one part, names of the parts, and environment variables.

use std::fs;
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::extract::{LETTERS, LISTED, pictures, with_letters};
use crate::program::{Run, Tl, answers, repository};

fn paths(text: &str) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap()[0].to_string()).collect()
}

/// The same path and label, and the same numbers to 1e-5: one or two images alone go through the
/// network unfolded.
fn alike(a: &str, b: &str) -> bool {
    let fields = |line: &str| line.split(',').map(str::to_string).collect::<Vec<_>>();
    let (a, b) = (fields(a), fields(b));
    let near = |a: &String, b: &String| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= 1e-5 * (1. + x.abs()),
        _ => a == b,
    };
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| near(a, b))
}

#[test]
fn the_parts_are_the_whole() {
    let folder = pictures();
    let at = |name: &str| folder.path().join(name);
    with_letters("extract", folder.path(), &["images", "--out", "whole.csv", "--batch-size", "1"]).expect(0);
    let whole = fs::read_to_string(at("whole.csv")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for count in [1, 2, 3, 7] {
        let mut found = vec![None; LISTED.len()];
        for index in 0..count {
            let shard = format!("{index}/{count}");
            let args = ["images", "--out", "f.csv", "--batch-size", "1", "--shard", &shard];
            let part = format!("f-{index:05}-of-{count:05}.csv");
            with_letters("extract", folder.path(), &args).expect(0).says(&[&format!("in {part}\n")]);
            let text = fs::read_to_string(at(&part)).unwrap();
            assert_eq!(text.lines().next(), Some(lines[0]));
            for (number, line) in text.lines().skip(1).enumerate() {
                // Every `count`-th image from `index` on.
                let row = index + number * count;
                assert!(alike(line, lines[row + 1]), "part {shard}: {line}");
                found[row] = Some(index);
            }
        }
        assert!(found.iter().all(Option::is_some), "{found:?}");
    }
    assert!(!at("f.csv").exists());
}

#[test]
fn each_part_has_its_companions_and_an_empty_one_is_a_file() {
    let folder = pictures();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("images/b/11.png"), "no image").unwrap();
    // 6 images: the bad one is the third, and part 6 of 7 has none.
    let run = |args: &[&str], code| {
        with_letters("extract", folder.path(), &[&["images"], args].concat()).expect(code)
    };
    insta::assert_snapshot!(run(&["--out", "x.npy", "--shard", "2/7"], 1).told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    0 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x-00002-of-00007.npy
    1 of 1 image could not be read: see x-00002-of-00007.npy.errors.csv
    ");
    assert!(at("x-00002-of-00007.npy.errors.csv").exists());
    run(&["--out", "x.npy", "--shard", "1/7"], 0);
    let index = fs::read_to_string(at("x-00001-of-00007.npy.index.csv")).unwrap();
    assert_eq!(paths(&index), [LISTED[1].0]);
    for ending in ["npy", "parquet", "safetensors", "csv"] {
        run(&["--out", &format!("x.{ending}"), "--shard", "6/7"], 0).says(&["0 rows of 1024 numbers"]);
        assert!(at(&format!("x-00006-of-00007.{ending}")).exists());
    }
    run(&["--out", "x.parquet", "--shard", "0/7"], 0);
    let schema = |part: &str| {
        let file = fs::File::open(at(part)).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        (builder.schema().clone(), builder.metadata().file_metadata().num_rows())
    };
    let (one, none) = (schema("x-00000-of-00007.parquet"), schema("x-00006-of-00007.parquet"));
    assert_eq!((one.1, none.1), (1, 0));
    assert_eq!(one.0, none.0);
    let header = fs::read(at("x-00006-of-00007.npy")).unwrap();
    assert!(String::from_utf8_lossy(&header).contains("'shape': (0, 1024)"));

    let predict = |shard: &str| {
        with_letters("predict", folder.path(), &["images", "--out", "p.csv", "--shard", shard, "--resume"])
    };
    predict("2/4").expect(1);
    insta::assert_snapshot!(predict("2/4").expect(1).told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    p-00002-of-00004.csv is complete: nothing to do
    1 of 1 image could not be read: see `error` in its row
    ");
    let text = fs::read_to_string(at("p-00002-of-00004.csv")).unwrap();
    assert_eq!(paths(&text), ["images/b/11.png"]);
}

fn with_environment(folder: &Path, shard: &str, set: &[(&str, &str)]) -> Run {
    let mut call =
        Tl::new(["predict", "--device", "cpu", "--threads", "1", "images", "--out", "p.csv", "--model"])
            .arg(repository(LETTERS))
            .args(["--shard", shard])
            .cwd(folder);
    for name in ["RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "JOB_COMPLETION_INDEX"] {
        let value = set.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        // A variable that is set to nothing counts as one that is not set.
        call = call.env(name, value.unwrap_or_default());
    }
    call.run()
}

#[test]
fn launchers_are_asked_on_request_alone() {
    let folder = pictures();
    let torchrun = [("RANK", "1"), ("WORLD_SIZE", "3")];
    let run = with_environment(folder.path(), "auto", &torchrun).expect(0);
    insta::assert_snapshot!(run.told(), @"
    note: shard 1/3, by RANK and WORLD_SIZE (torchrun)
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    2 rows in p-00001-of-00003.csv
    ");
    let slurm = [("SLURM_PROCID", "2"), ("SLURM_NTASKS", "3")];
    insta::assert_snapshot!(with_environment(folder.path(), "auto", &slurm).expect(0).told(), @"
    note: shard 2/3, by SLURM_PROCID and SLURM_NTASKS (Slurm)
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    1 row in p-00002-of-00003.csv
    ");
    let job = [("JOB_COMPLETION_INDEX", "0")];
    insta::assert_snapshot!(with_environment(folder.path(), "auto/3", &job).expect(0).told(), @"
    note: shard 0/3, by JOB_COMPLETION_INDEX
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    2 rows in p-00000-of-00003.csv
    ");
    // Asked for by number, the environment does not count.
    insta::assert_snapshot!(with_environment(folder.path(), "0/2", &torchrun).expect(0).told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    3 rows in p-00000-of-00002.csv
    ");

    insta::assert_snapshot!(with_environment(folder.path(), "auto", &job).expect(2).told(), @r#"error: `--shard auto` needs RANK and WORLD_SIZE (torchrun) or SLURM_PROCID and SLURM_NTASKS (Slurm): RANK is not set, WORLD_SIZE is not set, SLURM_PROCID is not set, SLURM_NTASKS is not set; in an indexed Kubernetes Job of N, write auto/N (JOB_COMPLETION_INDEX is "0")"#);
    insta::assert_snapshot!(with_environment(folder.path(), "auto/3", &torchrun).expect(2).told(), @"error: `--shard auto/3` needs the index of an indexed Kubernetes Job, a number in JOB_COMPLETION_INDEX, and JOB_COMPLETION_INDEX is not set");
    let shards = ["16/16", "0/0", "a/b"].map(|shard| [shard]);
    let answers = answers(&shards, |shard| with_environment(folder.path(), shard[0], &[]).expect(2));
    insta::assert_snapshot!(answers, @"
    $ 16/16
    error: invalid value '16/16' for '--shard <I/N|auto|auto/N>': there is no part 16 of 16: parts are counted from 0, so that the last one is 15/16

    For more information, try '--help'.

    $ 0/0
    error: invalid value '0/0' for '--shard <I/N|auto|auto/N>': there are 0 parts: expected I/N with N at least 1

    For more information, try '--help'.

    $ a/b
    error: invalid value 'a/b' for '--shard <I/N|auto|auto/N>': expected I/N (part I of N, from 0), auto or auto/N

    For more information, try '--help'.
    ");
}
