//! `tl eval` as a program: figures, files, images that trained the model, labels, bad input.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::digits::{Lab, images, names};
use crate::extract::write_png;
use crate::program::repository;

/// A lab with a model in `run`, of 60 digits, and class folders `new` of others.
fn lab() -> Lab {
    let lab = Lab::of("linear", 6);
    lab.finetuned("run", &["data.test=test.csv"]);
    copy(&lab, "new", images("test", 10, 3));
    lab
}

/// Copies images into class folders, under new names.
fn copy(lab: &Lab, folder: &str, images: Vec<(PathBuf, String)>) {
    for (path, class) in images {
        let there = lab.path(&format!("{folder}/{class}"));
        let number = fs::read_dir(there).map_or(0, Iterator::count);
        lab.write(&format!("{folder}/{class}/{number}.png"), fs::read(path).unwrap());
    }
}

/// The rows of a CSV by their first field, and its header.
fn table(lab: &Lab, name: &str) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let bytes = lab.read(name);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&bytes[..]);
    let mut rows = reader.records().map(|row| row.unwrap().iter().map(String::from).collect::<Vec<_>>());
    let header = rows.next().unwrap();
    (header, rows.map(|row| (row[0].clone(), row)).collect())
}

#[test]
fn a_model_is_measured_as_it_predicts() {
    let lab = lab();
    let run = lab.tl(&["eval", "run", "test.csv", "--out", "e", "--probabilities"]).run().expect(0);
    assert_eq!(run.told(), "report  e/report.html");
    assert_eq!(names(&lab.path("e")), ["predictions.csv", "report.html", "report.json"]);
    lab.tl(&["predict", "--model", "run", "test.csv", "--top-k", "10", "--out", "p.csv"]).run().expect(0);

    let (header, rows) = table(&lab, "e/predictions.csv");
    let classes = (0..10).map(|class| format!("p_{class}"));
    let columns = ["path", "true", "label", "confidence", "left_out"].map(String::from);
    assert_eq!(header, columns.into_iter().chain(classes).chain(["error".to_string()]).collect::<Vec<_>>());
    let (_, predicted) = table(&lab, "p.csv");
    assert_eq!(rows.len(), 40);
    for (path, row) in &rows {
        assert_eq!(row[2..4], predicted[path][1..3], "{path}");
        // The second label's probability is in its own column.
        let second: usize = predicted[path][3].parse().unwrap();
        assert_eq!(row[5 + second], predicted[path][4], "{path}");
    }

    // Of the same images the run's own report says the same, but for the size of batches.
    let report = lab.json("e/report.json");
    let (model, test) = (&report["models"][0], &lab.json("run/report.json")["test"]);
    assert_eq!((&model["accuracy"], &model["confusion"]), (&test["accuracy"], &test["confusion"]));
    for figure in ["log_loss", "brier", "auc", "macro_f1", "balanced_accuracy", "average_precision"] {
        let (here, there) = (model[figure].as_f64().unwrap(), test[figure].as_f64().unwrap());
        assert!((here - there).abs() < 1e-4, "{figure}: {here} {there}");
    }
    let right = rows.values().filter(|row| row[1] == row[2]).count();
    assert_eq!(model["accuracy"].as_f64().unwrap(), right as f64 / 40.);
    assert!(
        run.stdout.starts_with("run on 40 images of 10 classes: test.csv\n\naccuracy "),
        "{}",
        run.stdout
    );
    let page = String::from_utf8(lab.read("e/report.html")).unwrap();
    assert!(page.contains("Of 100 new images like these") && page.contains("Classes, worst first"));
}

#[test]
fn images_that_trained_the_model_are_left_out() {
    let lab = lab();
    copy(&lab, "mixed", images("test", 20, 2));
    // The first two of each class were trained on, and the first of val have chosen the model.
    copy(&lab, "mixed", images("train", 0, 1).into_iter().chain(images("train", 20, 1)).collect());
    let run = lab.tl(&["eval", "run", "mixed", "--out", "e"]).run().expect(0);
    insta::assert_snapshot!(run.told(), @"
    note: run has learnt from 20 of 40 images, or was chosen by them; they are left out, unless `--include-training` is given: mixed/0/2.png, mixed/0/3.png, mixed/1/2.png, mixed/1/3.png, mixed/2/2.png and 15 more
    report  e/report.html
    ");
    let (_, rows) = table(&lab, "e/predictions.csv");
    let left_out = rows.values().filter(|row| row[4] == "learnt_from" && row[2].is_empty()).count();
    assert_eq!((rows.len(), left_out), (40, 20));
    let report = lab.json("e/report.json");
    assert_eq!(
        (&report["models"][0]["images"], &report["left_out"]["learnt_from"]),
        (&20.into(), &20.into())
    );

    let run = lab.tl(&["eval", "run", "mixed", "--include-training"]).run().expect(0);
    insta::assert_snapshot!(run.told(), @"note: run has learnt from 20 of 40 images, or was chosen by them: the figures are better than on new images");
    assert!(run.stdout.starts_with("run on 40 images"));
    insta::assert_snapshot!(lab.tl(&["eval", "run", "train.csv"]).run().expect(2).told(), @"error: run has learnt from 60 of 60 images, or was chosen by them: nothing is left to measure on; `--include-training` measures on them all the same");
    // A model that goes on from this one has learnt from its images too.
    let sets = ["model=run", "weights=DEFAULT", "data.train=new", "data.val=test.csv", "data.test=val.csv"];
    lab.finetuned("second", &sets);
    insta::assert_snapshot!(lab.tl(&["eval", "second", "train.csv"]).run().expect(2).told(), @"error: second has learnt from 60 of 60 images, or was chosen by them: nothing is left to measure on; `--include-training` measures on them all the same");
    // The shipped file was written before models knew their images.
    let letters = repository(crate::extract::LETTERS);
    lab.write("letters/lower_b/1.png", fs::read(&images("test", 0, 1)[0].0).unwrap());
    let run = lab.tl(&["eval"]).arg(&letters).arg("letters").run().expect(0);
    insta::assert_snapshot!(run.told(), @"
    note: [REPO]/data/shufflenet_v2_x0_5-letters.safetensors does not say which images it has learnt from (an earlier version of tl wrote it, or they were more than 200000): are these new to it?
    note: all images (1 image) are of one class, `lower_b`: their accuracy says nothing about the other classes
    note: the area under the ROC curve is not defined: it needs images of at least two classes
    ");
}

#[test]
fn labels_that_the_model_does_not_have_are_left_out() {
    let lab = lab();
    copy(&lab, "odd", images("test", 10, 2));
    fs::rename(lab.path("odd/9"), lab.path("odd/nine")).unwrap();
    copy(&lab, "odd", vec![(images("test", 30, 1)[0].0.clone(), "10".into())]);
    let run = lab.tl(&["eval", "run", "odd", "--out", "e"]).run().expect(0);
    insta::assert_snapshot!(run.told(), @"
    note: 2 labels are no classes of run, and 3 images are left out: 10 (1 image; did you mean 0?), nine (2 images)
    report  e/report.html
    ");
    let report = lab.json("e/report.json");
    assert_eq!(report["left_out"]["unknown_labels"], serde_json::json!({ "10": 1, "nine": 2 }));
    let model = &report["models"][0];
    assert_eq!((&model["images"], &model["recall"]["9"]), (&18.into(), &Value::Null));
    let (_, rows) = table(&lab, "e/predictions.csv");
    assert_eq!(rows.values().filter(|row| row[4] == "unknown_label").count(), 3);

    copy(&lab, "none", vec![(images("test", 30, 1)[0].0.clone(), "cat".into())]);
    insta::assert_snapshot!(lab.tl(&["eval", "run", "none"]).run().expect(2).told(), @"error: run has none of the labels of none: found cat; its classes are 0, 1, 2, 3, 4 and 5 more");
}

#[test]
fn one_class_and_one_image_are_told() {
    let lab = lab();
    let one = images("test", 10, 1)[0].0.clone();
    copy(&lab, "one", vec![(one, "0".into())]);
    let run = lab.tl(&["eval", "run", "one", "--out", "e"]).run().expect(0);
    insta::assert_snapshot!(run.told(), @"
    note: all images (1 image) are of one class, `0`: their accuracy says nothing about the other classes
    note: the area under the ROC curve is not defined: it needs images of at least two classes
    report  e/report.html
    ");
    let model = &lab.json("e/report.json")["models"][0];
    assert_eq!((&model["auc"], &model["per_class"][1]["f1"]), (&Value::Null, &Value::Null));
    assert_eq!(model["images"], 1);
}

#[test]
fn unreadable_images_are_told_and_the_rest_is_measured() {
    let lab = lab();
    lab.write("new/0/bad.png", "no image");
    let run = lab.tl(&["eval", "run", "new", "--out", "e"]).run().expect(1);
    insta::assert_snapshot!(run.told(), @"
    report  e/report.html
    1 of 31 images could not be read:
      new/0/bad.png: is a text file, not an image
    ");
    let (_, rows) = table(&lab, "e/predictions.csv");
    let row = &rows["new/0/bad.png"];
    assert_eq!((row[1].as_str(), row[2].as_str(), row.last().unwrap().is_empty()), ("0", "", false));
    assert_eq!(lab.json("e/report.json")["models"][0]["images"], 30);
    lab.write("bad/0/bad.png", "no image");
    insta::assert_snapshot!(lab.tl(&["eval", "run", "bad"]).run().expect(1).told(), @"
    error: no image could be read (1 image):
      bad/0/bad.png: is a text file, not an image
    ");
}

#[test]
fn two_models_are_compared() {
    let lab = lab();
    lab.finetuned("small", &["train.c=1e-4"]);
    let run = lab.tl(&["eval", "run", "small", "test.csv", "--out", "e"]).run().expect(0);
    assert_eq!(names(&lab.path("e")), ["predictions-2.csv", "predictions.csv", "report.html", "report.json"]);
    let report = lab.json("e/report.json");
    let accuracy = |model: usize| report["models"][model]["accuracy"].as_f64().unwrap();
    let compared = &report["compared"][0];
    assert_eq!((&compared["first"], &compared["second"]), (&"run".into(), &"small".into()));
    assert!((compared["difference"].as_f64().unwrap() - (accuracy(1) - accuracy(0))).abs() < 1e-12);
    let [first, second] = ["", "-2"].map(|it| table(&lab, &format!("e/predictions{it}.csv")).1);
    let alone = first.iter().filter(|(path, row)| row[1] == row[2] && second[*path][1] != second[*path][2]);
    assert_eq!(compared["only_first"], alone.count());
    assert!(run.stdout.contains("McNemar's p = "), "{}", run.stdout);
    // A measurement of one model leaves nothing of the second.
    lab.tl(&["eval", "run", "test.csv", "--out", "e", "--overwrite"]).run().expect(0);
    assert_eq!(names(&lab.path("e")), ["predictions.csv", "report.html", "report.json"]);
}

#[test]
fn nothing_is_replaced_unasked() {
    let lab = lab();
    lab.tl(&["eval", "run", "test.csv", "--out", "e"]).run().expect(0);
    let told = |args: &[&str]| lab.tl(&["eval", "run", "test.csv"]).args(args).run().expect(2).told();
    insta::assert_snapshot!(told(&["--out", "e"]), @"error: e holds a measurement already: choose another `--out`, or replace it with `--overwrite`");
    insta::assert_snapshot!(told(&["--out", "run", "--overwrite"]), @"error: run is a run folder, whose report would be replaced: choose another `--out`");
    insta::assert_snapshot!(told(&["--out", "test.csv"]), @"error: test.csv is a file: choose another `--out`");
}

#[test]
fn parts_of_a_dataset_are_told_apart() {
    let lab = lab();
    for (part, skip) in [("train", 30), ("test", 40)] {
        copy(&lab, &format!("all/{part}"), images("test", skip, 1));
    }
    insta::assert_snapshot!(lab.tl(&["eval", "run", "all"]).run().expect(1).told(), @"error: all: holds the parts of a dataset: name the one to measure on (all/train, all/test)");
    let parts = ["train", "val", "test", "test"];
    let rows = images("test", 50, 1).into_iter().zip(parts.iter().cycle());
    let rows = rows.map(|((path, class), part)| format!("{},{class},{part}\n", path.display()));
    lab.write("split.csv", format!("path,label,split\n{}", rows.collect::<String>()));
    let run = lab.tl(&["eval", "run", "split.csv"]).run().expect(0);
    let told = run.message("divides the images");
    insta::assert_snapshot!(told, @"note: split.csv: its column `split` divides the images: the 4 rows to test on are measured");
}

/// A named network knows ImageNet's classes.
#[test]
fn a_named_network_is_measured_on_folders_named_as_its_classes() {
    let lab = Lab::new(1);
    write_png(&lab.path("photos/goldfish/1.png"), [250, 120, 10]);
    write_png(&lab.path("photos/tench/1.png"), [60, 90, 40]);
    let args = ["eval", "squeezenet1_1", "photos", "--weights", "none", "--out", "e"];
    let run = lab.tl(&args).run().expect(0);
    assert!(run.stdout.starts_with("squeezenet1_1 on 2 images of 2 classes: photos\n"), "{}", run.stdout);
    assert!(run.stdout.contains("\ntop-5 accuracy "), "{}", run.stdout);
    let model = &lab.json("e/report.json")["models"][0];
    assert_eq!(model["per_class"].as_array().unwrap().len(), 1000);
    assert!(model.get("confusion").is_none());
}
