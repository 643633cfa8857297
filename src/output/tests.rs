//! Every format, written and read back. `tests/oracle/check_outputs.py` reads the same files with
//! numpy, pyarrow and safetensors: set `TL_TEST_OUTPUTS` to a folder to keep them for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

use super::*;

const DIM: usize = 5;

/// Paths and labels that need quoting, are not ASCII, or are empty.
const NAMES: [(&str, &str); 6] = [
    ("photos/cat/a.jpg", "cat"),
    ("photos/dog, big/b \"the best\".jpg", "dog, big"),
    ("photos/ä/日本.png", "ä"),
    ("line\nend.png", ""),
    ("back\\slash.png", "x\ty"),
    ("lossy-\u{fffd}.png", "cat"),
];

/// Values that a careless format or cast would change.
fn features(row: usize) -> [f32; DIM] {
    let odd = [0.1, -0.0, 1e-42, f32::MAX, f32::MIN_POSITIVE, 16_777_217.0, 1.0 / 3.0, 1e-7];
    [row as f32, odd[row % 8], odd[(row + 1) % 8], -odd[(row + 2) % 8], (row as f32).sqrt()]
}

/// A file of features from its first row on.
fn create(path: impl AsRef<Path>, dim: usize) -> Result<FeatureWriter> {
    FeatureWriter::open(&path, dim, begin(path.as_ref(), false)?)
}

/// The remaining part of an output.
fn begin(path: &Path, resume: bool) -> Result<Box<Partial>> {
    match Partial::begin(path, &JobIdentity::new("test"), resume)? {
        Begun::Partial(partial) => Ok(partial),
        Begun::Complete(_) => Err(Error::run("it is complete")),
    }
}

fn done(images: u64) -> Done {
    Done { images, fingerprint: format!("the first {images}") }
}

fn write_features(folder: &Path, file: &str, rows: usize) -> PathBuf {
    let path = folder.join(file);
    let mut writer = create(&path, DIM).unwrap();
    for row in 0..rows {
        let (name, label) = NAMES[row % NAMES.len()];
        writer.write_row(name, label, &features(row)).unwrap();
    }
    let progress = writer.finish(done(rows as u64)).unwrap();
    assert_eq!((progress.rows, progress.failures), (rows as u64, 0));
    path
}

fn predictions() -> Vec<PredictionRow> {
    let row = |path: &str, ranks: &[(&str, f32)], error: Option<&str>| PredictionRow {
        path: path.into(),
        answer: Answer {
            ranks: ranks.iter().map(|(label, confidence)| (label.to_string(), *confidence)).collect(),
            ..Answer::default()
        },
        error: error.map(Into::into),
    };
    vec![
        row("a.jpg", &[("cat", 0.7), ("dog, big", 0.1), ("ä", 1e-9), ("beyond", 0.0)], None),
        row("b \"x\".jpg", &[], Some("cannot decode, \"really\"")),
        row("c.jpg", &[("dog, big", 1.0)], None),
        // A failure wins over ranks.
        row("d.jpg", &[("cat", 0.5)], Some("half")),
    ]
}

fn write_predictions(folder: &Path, file: &str, top_k: usize) -> PathBuf {
    write_rows(folder, file, PredictionColumns { top_k, unknown: false }, &predictions())
}

fn write_rows(folder: &Path, file: &str, columns: PredictionColumns, rows: &[PredictionRow]) -> PathBuf {
    let path = folder.join(file);
    let mut writer = PredictionWriter::open(&path, columns, begin(&path, false).unwrap()).unwrap();
    rows.iter().for_each(|row| writer.write_row(row).unwrap());
    writer.finish(done(0)).unwrap();
    path
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // The record of a finished run.
        .filter(|name| !(name.starts_with('.') && name.ends_with(".job")))
        .collect();
    names.sort();
    names
}

fn read_csv(path: &Path) -> Vec<Vec<String>> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
    reader.records().map(|row| row.unwrap().iter().map(Into::into).collect()).collect()
}

fn read_parquet(path: &Path) -> (usize, Vec<RecordBatch>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let groups = builder.metadata().num_row_groups();
    (groups, builder.build().unwrap().map(Result::unwrap).collect())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn assert_values(found: &[f32], rows: usize) {
    let expected: Vec<u32> = (0..rows).flat_map(features).map(f32::to_bits).collect();
    assert_eq!(found.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), expected);
}

#[test]
fn every_format_for_other_readers() {
    let (keep, scratch) = (std::env::var_os("TL_TEST_OUTPUTS"), tempfile::tempdir().unwrap());
    let folder = keep.map_or_else(|| scratch.path().to_path_buf(), PathBuf::from);
    for ending in ["npy", "parquet", "safetensors", "csv"] {
        write_features(&folder, &format!("features.{ending}"), 100);
        write_features(&folder, &format!("empty.{ending}"), 0);
    }
    let mut writer = create(folder.join("failures.npy"), DIM).unwrap();
    writer.write_failure("bad, file.jpg", "cannot decode \"it\"").unwrap();
    writer.finish(done(0)).unwrap();
    for ending in ["csv", "jsonl", "parquet"] {
        write_predictions(&folder, &format!("predictions.{ending}"), 3);
    }
    assert_eq!(names(&folder).len(), 8 + 2 + 3 + 3);
}

#[test]
fn npy_is_read_back_with_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_features(folder.path(), "x.npy", 100);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let header = std::str::from_utf8(&bytes[10..128]).unwrap();
    let expected = "{'descr': '<f4', 'fortran_order': False, 'shape': (100, 5), }";
    assert!(header.starts_with(expected) && header.ends_with(" \n"), "{header}");
    assert_values(&floats(&bytes[128..]), 100);
    let index = read_csv(&folder.path().join("x.npy.index.csv"));
    assert_eq!(index[0], ["path", "label"]);
    assert_eq!(index.len(), 101);
    for (row, (name, label)) in index[1..].iter().zip(NAMES.iter().cycle()) {
        assert_eq!(row, &[*name, *label]);
    }
    assert_eq!(names(folder.path()), ["x.npy", "x.npy.index.csv"]);
}

#[test]
fn csv_features_read_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let rows = read_csv(&write_features(folder.path(), "x.csv", 100));
    assert_eq!(rows[0], ["path", "label", "f0", "f1", "f2", "f3", "f4"]);
    assert_eq!(rows[1][..4], ["photos/cat/a.jpg", "cat", "0.0", "0.1"]);
    let values: Vec<f32> =
        rows[1..].iter().flat_map(|row| &row[2..]).map(|text| text.parse().unwrap()).collect();
    assert_values(&values, 100);
}

#[test]
fn safetensors_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(write_features(folder.path(), "x.safetensors", 100)).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(length % 8, 0);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensor = &header["features"];
    assert_eq!(tensor["dtype"], "F32");
    assert_eq!(tensor["shape"], serde_json::json!([100, 5]));
    assert_eq!(tensor["data_offsets"], serde_json::json!([0, 2000]));
    assert_values(&floats(&bytes[8 + length..]), 100);
    let list = |key: &str| -> Vec<String> {
        serde_json::from_str(header["__metadata__"][key].as_str().unwrap()).unwrap()
    };
    assert!(list("paths").iter().zip(NAMES.iter().cycle()).all(|(found, (name, _))| found == name));
    assert!(list("labels").iter().zip(NAMES.iter().cycle()).all(|(found, (_, label))| found == label));
    assert_eq!(list("paths").len(), 100);
}

#[test]
fn parquet_features_are_read_back_from_several_row_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let (dim, rows) = (2048, 5000);
    let mut writer = create(&path, dim).unwrap();
    for row in 0..rows {
        let values: Vec<f32> = (0..dim).map(|i| (row * dim + i) as f32).collect();
        writer.write_row(&format!("{row}.jpg"), NAMES[row % 6].1, &values).unwrap();
        if row % 10 == 9 {
            writer.batch_done(done(row as u64 + 1)).unwrap();
        }
    }
    writer.finish(done(0)).unwrap();
    let (groups, batches) = read_parquet(&path);
    // 41 MB of values in groups of 8 MB.
    assert_eq!(groups, 5);
    let mut row = 0;
    for batch in batches {
        assert!(matches!(batch.schema().field(2).data_type(), DataType::FixedSizeList(_, 2048)));
        let (paths, labels) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let features = batch.column(2).as_fixed_size_list();
        for i in 0..batch.num_rows() {
            assert_eq!((paths.value(i), labels.value(i)), (&*format!("{row}.jpg"), NAMES[row % 6].1));
            let values = features.value(i);
            let values = values.as_primitive::<Float32Type>().values();
            assert!(values.iter().enumerate().all(|(i, value)| *value == (row * dim + i) as f32));
            row += 1;
        }
    }
    assert_eq!(row, rows);
}

#[test]
fn predictions_have_the_promised_columns() {
    let folder = tempfile::tempdir().unwrap();
    let rows = read_csv(&write_predictions(folder.path(), "p.csv", 3));
    let columns =
        ["path", "label", "confidence", "label_2", "confidence_2", "label_3", "confidence_3", "error"];
    assert_eq!(rows[0], columns);
    assert_eq!(rows[1], ["a.jpg", "cat", "0.7", "dog, big", "0.1", "ä", "1e-9", ""]);
    assert_eq!(rows[2], ["b \"x\".jpg", "", "", "", "", "", "", "cannot decode, \"really\""]);
    assert_eq!(rows[3], ["c.jpg", "dog, big", "1.0", "", "", "", "", ""]);
    assert_eq!(rows[4], ["d.jpg", "", "", "", "", "", "", "half"]);
    let one = read_csv(&write_predictions(folder.path(), "one.csv", 1));
    assert_eq!(one[0], ["path", "label", "confidence", "error"]);

    let text = fs::read_to_string(write_predictions(folder.path(), "p.jsonl", 2)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[0],
        r#"{"path":"a.jpg","label":"cat","confidence":0.7,"label_2":"dog, big","confidence_2":0.1,"error":null}"#
    );
    assert_eq!(
        lines[3],
        r#"{"path":"d.jpg","label":null,"confidence":null,"label_2":null,"confidence_2":null,"error":"half"}"#
    );

    let (_, batches) = read_parquet(&write_predictions(folder.path(), "p.parquet", 3));
    let batch = &batches[0];
    assert_eq!(
        batch.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
        columns
    );
    assert_eq!(batch.column(3).as_string::<i32>().value(0), "dog, big");
    assert_eq!(batch.column(2).as_primitive::<Float32Type>().value(0), 0.7);
    let nulls: Vec<_> = batch.columns().iter().map(|column| column.null_count()).collect();
    assert_eq!(nulls, [0, 2, 2, 3, 3, 3, 3, 2]);
}

#[test]
fn strangers_have_a_column_before_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = predictions();
    (rows[0].answer.unknown, rows[0].answer.rejected) = (Some(0.975), true);
    rows[2].answer.unknown = Some(0.5);
    let columns = PredictionColumns { top_k: 2, unknown: true };
    let write = |file| write_rows(folder.path(), file, columns, &rows);
    let expected = [
        ["path", "label", "confidence", "label_2", "confidence_2", "unknown", "error"],
        ["a.jpg", "unknown", "", "cat", "0.7", "0.975", ""],
        ["b \"x\".jpg", "", "", "", "", "", "cannot decode, \"really\""],
        ["c.jpg", "dog, big", "1.0", "", "", "0.5", ""],
        ["d.jpg", "", "", "", "", "", "half"],
    ];
    assert_eq!(read_csv(&write("p.csv")), expected);
    let text = fs::read_to_string(write("p.jsonl")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"path":"a.jpg","label":"unknown","confidence":null,"label_2":"cat","confidence_2":0.7,"unknown":0.975,"error":null}"#
    );
    assert!(lines[1].contains(r#""unknown":null,"error":"cannot"#), "{}", lines[1]);
    let (_, batches) = read_parquet(&write("p.parquet"));
    let batch = &batches[0];
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, expected[0]);
    assert_eq!(batch.column(1).as_string::<i32>().value(0), "unknown");
    let unknown = batch.column(5).as_primitive::<Float32Type>();
    assert_eq!((unknown.value(0), unknown.value(2)), (0.975, 0.5));
    let nulls: Vec<_> = batch.columns().iter().map(|column| column.null_count()).collect();
    assert_eq!(nulls, [0, 2, 3, 3, 3, 2, 2]);
}

#[test]
fn endings_choose_and_unknown_ones_list_the_known() {
    assert_eq!(FeatureFormat::of("a/X.NPY").unwrap().ending, "npy");
    assert_eq!(PredictionFormat::of("p.jsonl").unwrap().ending, "jsonl");
    assert_eq!(FeatureFormat::endings(), ".npy, .parquet, .safetensors or .csv");
    assert_eq!(PredictionFormat::endings(), ".csv, .jsonl or .parquet");
    let error = FeatureFormat::of("x.csv.gz").err().unwrap();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(
        error.to_string(),
        "cannot tell the format of x.csv.gz by its name: expected one that ends in .npy, .parquet, .safetensors, \
         .csv for features, found the ending .gz"
    );
    assert!(PredictionFormat::of("x").err().unwrap().to_string().ends_with("found no ending"));
    assert!(PredictionFormat::of("x.npy").is_err());
}

#[test]
fn failures_are_listed_and_a_stale_list_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    let mut writer = create(&path, 1).unwrap();
    writer.write_failure("bad, file.jpg", "cannot decode \"it\"").unwrap();
    writer.write_row("good.jpg", "", &[1.0]).unwrap();
    let progress = writer.finish(done(2)).unwrap();
    assert_eq!((progress.rows, progress.failures), (1, 1));
    assert_eq!(names(folder.path()), ["x.csv", "x.csv.errors.csv"]);
    let errors = read_csv(&folder.path().join("x.csv.errors.csv"));
    assert_eq!(errors, [["path", "error"], ["bad, file.jpg", "cannot decode \"it\""]]);

    // Not before the new output is complete.
    let writer = create(&path, 1).unwrap();
    assert!(folder.path().join("x.csv.errors.csv").exists());
    writer.finish(done(0)).unwrap();
    assert_eq!(names(folder.path()), ["x.csv"]);
}

/// More than fits into a buffer, and what does.
#[test]
fn a_complete_output_is_known_in_every_format() {
    for (ending, dim) in
        ["npy", "parquet", "safetensors", "csv"].into_iter().flat_map(|it| [(it, 3), (it, 3000)])
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("x.{ending}"));
        let mut writer = create(&path, dim).unwrap();
        for row in 0..100 {
            writer.write_row(NAMES[row % 6].0, "", &vec![row as f32 / 7.; dim]).unwrap();
        }
        writer.write_failure("c", "d").unwrap();
        writer.finish(done(101)).unwrap();
        let begun = begin(&path, true).map(drop).unwrap_err().to_string();
        assert_eq!(begun, "it is complete", "{ending} of {dim}");
    }
}

#[test]
fn an_unfinished_output_leaves_the_old_one() {
    for ending in ["npy", "parquet", "safetensors", "csv"] {
        let folder = tempfile::tempdir().unwrap();
        let path = write_features(folder.path(), &format!("x.{ending}"), 10);
        let before = (names(folder.path()), fs::read(&path).unwrap());
        let mut writer = create(&path, 3).unwrap();
        writer.write_row("a", "b", &[1.0, 2.0, 3.0]).unwrap();
        writer.write_failure("c", "d").unwrap();
        let message = writer.write_row("a", "b", &[1.0]).unwrap_err().to_string();
        assert!(message.contains("expected 3 feature values, found 1"), "{message}");
        drop(writer);
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), before);
    }
}

#[test]
fn an_output_that_cannot_be_written_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    for ending in ["npy", "parquet", "safetensors", "csv"] {
        let path = folder.path().join(format!("file/x.{ending}"));
        let message = create(&path, 3).map(drop).unwrap_err().to_string();
        assert!(message.starts_with("cannot write") && message.contains(ending), "{message}");
    }
}

#[test]
fn too_many_paths_for_a_header_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = create(folder.path().join("x.safetensors"), 1).unwrap();
    let long = "p".repeat(30 << 20);
    for _ in 0..3 {
        writer.write_row(&long, "", &[0.0]).unwrap();
    }
    let message = writer.write_row(&long, "", &[0.0]).unwrap_err().to_string();
    assert!(message.contains("100 MB") && message.contains(".parquet"), "{message}");
    drop(writer);
    assert!(names(folder.path()).is_empty());
}

/// Writes rows and failures `from..to`, in batches of `batch`.
fn write_on(writer: &mut FeatureWriter, rows: std::ops::Range<usize>, batch: usize, commit: bool) {
    for row in rows {
        let (name, label) = NAMES[row % NAMES.len()];
        match row % 13 {
            12 => writer.write_failure(name, "broken, \"quite\"").unwrap(),
            _ => writer.write_row(&format!("{row}/{name}"), label, &wide(row)).unwrap(),
        }
        if row % batch == batch - 1 {
            writer.batch_done(done(row as u64 + 1)).unwrap();
            if commit && row % 100 == 99 {
                writer.commit(done(row as u64 + 1)).unwrap();
            }
        }
    }
}

fn wide(row: usize) -> Vec<f32> {
    (0..WIDE).map(|i| ((row * WIDE + i) as f32).sin()).collect()
}

const WIDE: usize = 4096;

/// Leaks a writer as if its process were killed: nothing is flushed or removed.
fn kill<T>(writer: T) {
    std::mem::forget(writer);
}

#[test]
fn what_goes_on_ends_with_the_same_bytes() {
    let rows = 2600;
    for ending in ["npy", "parquet", "safetensors", "csv"] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(format!("{name}.{ending}"));
        let mut whole = create(at("whole"), WIDE).unwrap();
        write_on(&mut whole, 0..rows, 10, false);
        whole.finish(done(rows as u64)).unwrap();

        // The system would release a killed process's lock, but this process lives on.
        let moved = |from: &str, to: &str| {
            let hidden = |name: &str| folder.path().join(format!(".{name}.{ending}.partial"));
            fs::rename(hidden(from), hidden(to)).unwrap();
            fs::remove_file(hidden(to).join("lock")).unwrap();
        };
        // After the first row group, and then once more.
        let mut first = create(at("first"), WIDE).unwrap();
        write_on(&mut first, 0..1300, 10, true);
        write_on(&mut first, 1300..1307, 1000, false);
        kill(first);
        moved("first", "second");
        let partial = begin(&at("second"), true).unwrap();
        assert_eq!(
            (partial.progress().images, partial.progress().fingerprint.as_str()),
            (1300, "the first 1300")
        );
        let mut second = FeatureWriter::open(at("second"), WIDE, partial).unwrap();
        write_on(&mut second, 1300..1800, 10, true);
        write_on(&mut second, 1800..1805, 1000, false);
        kill(second);
        moved("second", "third");
        // An incomplete line.
        let journal = folder.path().join(format!(".third.{ending}.partial/journal.jsonl"));
        let mut bytes = fs::read(&journal).unwrap();
        bytes.extend(b"{\"images\":1805,\"listi");
        fs::write(&journal, bytes).unwrap();
        let partial = begin(&at("third"), true).unwrap();
        assert_eq!(partial.progress().images, 1800);
        let mut third = FeatureWriter::open(at("third"), WIDE, partial).unwrap();
        write_on(&mut third, 1800..rows, 10, false);
        let progress = third.finish(done(rows as u64)).unwrap();
        assert_eq!((progress.rows, progress.failures), (2400, 200));
        for companion in ["", ".index.csv", ".errors.csv"] {
            let read = |name: &str| fs::read(format!("{}{companion}", at(name).display())).ok();
            assert!(read("whole") == read("third"), "{ending}{companion}");
        }
        if ending == "parquet" {
            let (groups, batches) = read_parquet(&at("third"));
            assert_eq!(groups, 5);
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2400);
        }
    }
}

#[test]
fn predictions_that_go_on_end_with_the_same_bytes() {
    let row = |number: usize| PredictionRow {
        path: format!("{}/{}", "long ".repeat(200), number),
        answer: Answer {
            ranks: vec![(format!("class {}", number % 7), number as f32 / 9.), ("other".into(), f32::NAN)],
            unknown: (number % 5 != 3).then_some(number as f32 / 36_000.),
            rejected: number % 13 == 12,
        },
        error: (number % 11 == 10).then(|| "broken".into()),
    };
    let write = |writer: &mut PredictionWriter, rows: std::ops::Range<usize>| {
        for number in rows {
            writer.write_row(&row(number)).unwrap();
            if number % 5 == 4 {
                writer.batch_done(done(number as u64 + 1)).unwrap();
            }
        }
    };
    for ending in ["csv", "jsonl", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(format!("{name}.{ending}"));
        let rows = 36_000;
        let open = |name: &str, resume| {
            let columns = PredictionColumns { top_k: 3, unknown: true };
            PredictionWriter::open(at(name), columns, begin(&at(name), resume).unwrap()).unwrap()
        };
        let mut whole = open("whole", false);
        write(&mut whole, 0..rows);
        whole.finish(done(rows as u64)).unwrap();
        let mut cut = open("cut", false);
        write(&mut cut, 0..20_000);
        cut.commit(done(20_000)).unwrap();
        write(&mut cut, 20_000..20_003);
        drop(cut);
        let mut cut = open("cut", true);
        write(&mut cut, 20_000..rows);
        let progress = cut.finish(done(rows as u64)).unwrap();
        assert_eq!(progress.rows, rows as u64);
        assert_eq!(progress.failures, (0..rows).filter(|number| number % 11 == 10).count() as u64);
        assert!(fs::read(at("whole")).unwrap() == fs::read(at("cut")).unwrap(), "{ending}");
        if ending == "parquet" {
            let (groups, batches) = read_parquet(&at("cut"));
            assert!(groups > 1, "{groups}");
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
        }
    }
}

#[test]
fn a_finished_output_is_left_alone_and_another_job_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let begin = |job: &JobIdentity| Partial::begin(&path, job, true);
    let job = JobIdentity::new("test").with("stage", "a");
    let Begun::Partial(partial) = begin(&job).unwrap() else { panic!("nothing is there") };
    let mut writer = FeatureWriter::open(&path, 1, partial).unwrap();
    writer.write_row("a", "", &[1.]).unwrap();
    writer.commit(done(1)).unwrap();
    // Held by the writer.
    let message = begin(&job).map(drop).unwrap_err().to_string();
    let holder = format!("another process (pid {}) is writing it: wait for its end", std::process::id());
    assert!(message.contains(&holder), "{message}");
    drop(writer);
    let other = JobIdentity::new("test").with("stage", "b");
    let refused = |message: &str| {
        let error = begin(&other).map(drop).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(message), "{error}");
    };
    refused("the stage was a, is b");
    let Begun::Partial(partial) = begin(&job).unwrap() else { panic!("it is not complete") };
    FeatureWriter::open(&path, 1, partial).unwrap().finish(done(1)).unwrap();
    assert_eq!(names(folder.path()), ["x.npy", "x.npy.index.csv"]);
    let Begun::Complete(progress) = begin(&job).unwrap() else { panic!("it is complete") };
    assert_eq!((progress.images, progress.rows), (1, 1));
    refused("the stage was a, is b");
    fs::write(&path, "something else").unwrap();
    refused("x.npy has changed since tl wrote it");
}

/// Stopped with some files in place, and others not.
#[test]
fn a_run_that_was_stopped_between_two_renames_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let mut writer = create(&path, 1).unwrap();
    writer.write_row("a", "", &[1.]).unwrap();
    writer.commit(done(1)).unwrap();
    // The index cannot be put in place.
    fs::create_dir(folder.path().join("x.npy.index.csv")).unwrap();
    assert!(writer.finish(done(1)).is_err());
    assert!(!path.exists());
    fs::remove_dir(folder.path().join("x.npy.index.csv")).unwrap();
    let Begun::Complete(progress) = Partial::begin(&path, &JobIdentity::new("test"), true).unwrap() else {
        panic!("all rows were there")
    };
    assert_eq!(progress.rows, 1);
    assert_eq!(names(folder.path()), ["x.npy", "x.npy.index.csv"]);
}
