//! `tl predict` and `tl models` as programs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::extract::{LETTERS, LISTED, pictures, with_letters};
use crate::program::{Run, Tl, repository, tl};

fn predict(folder: &Path, args: &[&str]) -> Run {
    with_letters("predict", folder, args)
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(Into::into).collect()).collect()
}

fn file_rows(path: &Path) -> Vec<Vec<String>> {
    rows(&fs::read_to_string(path).unwrap())
}

#[test]
fn a_table_on_the_terminal_has_a_row_for_each_image() {
    let folder = pictures();
    fs::write(folder.path().join("images/b/11.png"), "no image").unwrap();
    let run = predict(folder.path(), &["images"]).expect(1);
    let lines: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["path", "label", "confidence", "error"]);
    let paths: Vec<&str> = lines[1..].iter().map(|line| line[0]).collect();
    let mut expected: Vec<&str> = LISTED.iter().map(|row| row.0).collect();
    expected.insert(2, "images/b/11.png");
    assert_eq!(paths, expected);
    assert!(lines[3].len() > 3, "the bad image's reason: {:?}", lines[3]);
    run.says(&["1 of 6 images could not be read: see `error` in the table\n"]);
}

#[test]
fn columns_for_top_k_and_the_error_last() {
    let folder = pictures();
    fs::write(folder.path().join("images/b/11.png"), "no image").unwrap();
    let out = folder.path().join("p.csv");
    let run = predict(folder.path(), &["images", "--top-k", "3", "--out", "p.csv"]).expect(1);
    assert_eq!(run.stdout, "");
    run.says(&["6 rows in p.csv\n"]);
    let table = file_rows(&out);
    let columns = "path,label,confidence,label_2,confidence_2,label_3,confidence_3,error";
    assert_eq!(table[0].join(","), columns);
    assert_eq!(table.len(), 7);
    for row in &table[1..] {
        let confidences: Vec<f64> = [2, 4, 6].iter().filter_map(|&column| row[column].parse().ok()).collect();
        if row[0] == "images/b/11.png" {
            assert!(confidences.is_empty() && row[1].is_empty() && !row[7].is_empty(), "{row:?}");
        } else {
            assert_eq!((confidences.len(), row[7].as_str()), (3, ""));
            assert!(confidences.is_sorted_by(|a, b| a >= b) && confidences.iter().sum::<f64>() <= 1.0001);
            assert!(row[1] != row[3] && row[3] != row[5] && row[1] != row[5]);
        }
    }

    predict(folder.path(), &["images", "--top-k", "3", "--out", "p.jsonl", "--quiet"]).expect(1);
    let lines = fs::read_to_string(folder.path().join("p.jsonl")).unwrap();
    for (line, row) in lines.lines().zip(&table[1..]) {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 8);
        assert_eq!(object["path"], row[0].as_str());
        assert_eq!(object["label"].as_str().unwrap_or_default(), row[1]);
        assert_eq!(object["error"].as_str().unwrap_or_default(), row[7]);
    }
    assert_eq!(lines.lines().count(), 6);

    predict(folder.path(), &["images", "--top-k", "3", "--out", "p.parquet"]).expect(1);
    let parquet = fs::File::open(folder.path().join("p.parquet")).unwrap();
    let builder = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap();
    let names: Vec<&str> = builder.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names.join(","), columns);
    assert_eq!(builder.metadata().file_metadata().num_rows(), 6);
}

#[test]
fn more_classes_than_there_are_is_noted() {
    let folder = pictures();
    let run = predict(folder.path(), &["images/top.png", "--top-k", "60", "--out", "p.csv"]).expect(0);
    run.says(&["note: the model has 52 classes, so each row names 52\n"]);
    assert_eq!(file_rows(&folder.path().join("p.csv"))[0].len(), 1 + 2 * 52 + 1);
    predict(folder.path(), &["images", "--top-k", "0"])
        .expect(2)
        .says(&["expected a whole number from 1 to"]);
}

#[test]
fn the_order_and_the_labels_do_not_depend_on_threads_or_batches() {
    let folder = pictures();
    let mut seen = Vec::new();
    for (threads, batch) in [("1", "1"), ("2", "2"), ("5", "32")] {
        let args = ["images", "--threads", threads, "--batch-size", batch, "--out", "p.csv", "--quiet"];
        let run = predict(folder.path(), &args).expect(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
        let table = file_rows(&folder.path().join("p.csv"));
        seen.push(table[1..].iter().map(|row| (row[0].clone(), row[1].clone())).collect::<Vec<_>>());
    }
    assert!(seen[0].iter().zip(LISTED).all(|(row, (path, _))| row.0 == path), "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

#[test]
fn whoever_stops_reading_has_seen_enough() {
    let mut child = Tl::new(["predict", "--device", "cpu", "--threads", "1", "--model"])
        .arg(repository(LETTERS))
        .arg(repository("data/digits/test"))
        .spawn();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("path"), "{first}");
    let run = Run::from(child.wait_with_output().unwrap()).expect(0);
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("error"), "{}", run.stderr);
}

#[test]
fn a_model_is_a_file_a_run_folder_or_a_name_that_wins() {
    let folder = pictures();
    let letters = repository(LETTERS);
    for name in ["run", "resnet18"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::copy(&letters, folder.path().join(name).join("model.safetensors")).unwrap();
    }
    let with = |model: &str| {
        Tl::new(["predict", "--device", "cpu", "--threads", "1", "--model", model, "images/top.png"])
            .cwd(folder.path())
            .env("TORCH_HOME", folder.path().join("cache"))
            .env("TL_WEIGHTS_URL", "file:///nowhere")
            .run()
    };
    let expected = with(letters.to_str().unwrap()).expect(0).stdout;
    assert!(expected.contains("images/top.png"), "{expected}");
    assert_eq!(with("run").expect(0).stdout, expected);
    assert_eq!(with("run/model.safetensors").expect(0).stdout, expected);
    assert_eq!(with("./resnet18").expect(0).stdout, expected);
    with("resnet18").expect(1).says(&["resnet18-f37072fd.pth"]);
    // As weights of a known name, the file brings its classes too.
    let run = Tl::new([
        "predict",
        "--device",
        "cpu",
        "--model",
        "shufflenet_v2_x0_5",
        "images/top.png",
        "--weights",
    ])
    .arg("run")
    .cwd(folder.path())
    .run();
    assert_eq!(run.expect(0).stdout, expected);
}

#[test]
fn a_model_that_is_none_is_explained() {
    let folder = pictures();
    let with = |model: &str| {
        Tl::new(["predict", "--device", "cpu", "--threads", "1", "--model", model, "images"])
            .cwd(folder.path())
            .run()
            .expect(2)
    };
    assert_eq!(
        with("resnet81").stderr,
        "error: there is no model named `resnet81`; the nearest are `resnet18`, `resnet101` and `resnet34`; \
         `tl models` lists all\n"
    );
    with("qwertz").says(&["error: there is no model named `qwertz`; `tl models` lists those there are\n"]);
    with("runs/gone").says(&["error: there is no model file at runs/gone"]);
    with("images").says(&["error: images is a folder without model.safetensors: if it is a run folder, "]);
    with("images/top.png").says(&["error: images/top.png is not a model that `tl` wrote"]);
    with("").says(&["error: "]);
}

#[test]
fn wrong_command_lines_are_told_what_to_mend() {
    let folder = pictures();
    let wrong = |args: &[&str], message: &str| {
        predict(folder.path(), args).expect(2).says(&[message]);
    };
    wrong(&["images", "--out", "p.npy"], "expected one that ends in .csv, .jsonl, .parquet for predictions");
    wrong(&["images", "--out", "predictions"], "found no ending");
    wrong(&[], "<PATH>...");
    wrong(&["gone", "gone too"], "error: cannot read gone: No such file or directory\n");
    wrong(&["gone", "gone too"], "cannot read gone too: No such file or directory\n");
    wrong(&["images/.hidden/nothing"], "cannot read images/.hidden/nothing");
    wrong(&["images", "--threads", "many"], "expected a whole number from 1 to 1024");
    wrong(&["images", "--device", "cuda:99"], "device cuda:99 was asked for");
    wrong(&["images", "--topk", "3"], "--top-k");
}

#[test]
fn the_models_table_can_be_filtered() {
    let names = |args: &[&str]| -> Vec<String> {
        let table = tl(args).expect(0).stdout;
        table
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with('*'))
            .map(|line| line.split_whitespace().next().unwrap().to_string())
            .collect()
    };
    assert_eq!(names(&["models", "resnet18"]), ["resnet18"]);
    assert_eq!(names(&["models", "wide_*50*"]), ["wide_resnet50_2", "wide_resnet50_2"]);
    assert_eq!(names(&["models", "ALEX"]), ["alexnet", "alexnet_2012"]);
    assert!(names(&["models"]).len() > 20);
    assert!(names(&["models", "resnet*"]).iter().all(|name| name.starts_with("resnet")));
    tl(&["models", "restnet18"])
        .expect(2)
        .says(&["error: no model's name contains `restnet18`", "`resnet18`"]);
    tl(&["models", "q*z"]).expect(2).says(&["error: no model's name fits `q*z`; `tl models` lists all\n"]);
    let table = tl(&["models", "resnet"]).expect(0).stdout;
    let columns: Vec<_> = table.lines().next().unwrap().match_indices("FILE").collect();
    let resnet18 = table.lines().find(|line| line.starts_with("resnet18")).unwrap();
    assert_eq!(resnet18.find("resnet18-f37072fd.pth"), Some(columns[0].0), "{table}");
}

#[test]
fn help_and_version_are_results() {
    let none = tl(&[]).expect(2);
    assert!(none.stderr.contains("Usage: tl") && none.stdout.is_empty());
    let help = tl(&["--help"]).expect(0);
    assert!(help.stdout.contains("Usage: tl") && help.stderr.is_empty());
    for command in ["finetune", "plan", "extract", "predict", "models"] {
        assert!(help.stdout.contains(command));
        assert!(tl(&[command, "--help"]).expect(0).stdout.contains(&format!("Usage: tl {command}")));
    }
    assert_eq!(tl(&["--version"]).expect(0).stdout, concat!("tl ", env!("CARGO_PKG_VERSION"), "\n"));
    tl(&["pedict"]).expect(2).says(&["predict"]);
}
