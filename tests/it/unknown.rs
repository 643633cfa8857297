//! Calibrated confidences, and images that are like none of the classes.

use std::collections::HashMap;

use serde_json::Value;

use crate::digits::Lab;
use crate::model_file::{card, with_card};
use crate::program::{Run, repository};

/// Two photographs: no digits.
const PHOTOS: &str = "data/photos";

impl Lab {
    /// Predicts the test images and the photographs, in that order.
    fn predicted(&self, model: &str, out: &str, more: &[&str]) -> Run {
        let args = ["predict", "--model", model, "--out", out, "test.csv"];
        self.tl(&args).arg(repository(PHOTOS)).args(more).run()
    }

    fn rows(&self, file: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"))
}

/// The confidences of all ten classes of a row.
fn confidences(row: &Value) -> HashMap<String, f64> {
    let of = |place: usize| {
        let name = |key: &str| if place == 1 { key.to_string() } else { format!("{key}_{place}") };
        (row[name("label")].as_str().unwrap().to_string(), number(row, &name("confidence")))
    };
    (1..=10).map(of).collect()
}

#[test]
fn confidences_have_the_temperature_of_the_validation_images() {
    for method in ["linear", "partial"] {
        let lab = Lab::of(method, 10);
        lab.finetuned("run", &[]);
        lab.finetuned("again", &[]);
        assert!(lab.read("run/model.safetensors") == lab.read("again/model.safetensors"), "{method}");
        let report = lab.json("run/report.json");
        let temperature = number(&report["calibration"], "temperature");
        assert_eq!(card(&lab.read("run/model.safetensors"))["temperature"], temperature);
        for (part, images) in [("val", 40), ("test", 40)] {
            let found = &report["calibration"][part];
            assert_eq!(found["images"], images);
            assert_eq!(found["after"]["ece"], report[part]["ece"], "{method} {part}");
            assert_eq!(found["after"]["log_loss"], report[part]["log_loss"]);
            let before = number(&found["before"], "log_loss");
            assert!((before - number(&report[part], "loss")).abs() < 1e-5, "{before} {report}");
        }
        let val = &report["calibration"]["val"];
        assert!(number(&val["after"], "log_loss") <= number(&val["before"], "log_loss"));

        lab.predicted("run", "p.jsonl", &["--top-k", "10"]).expect(0);
        lab.predicted("run", "raw.jsonl", &["--top-k", "10", "--raw"]).expect(0);
        let mut moved = 0f64;
        for (row, raw) in lab.rows("p.jsonl").iter().zip(lab.rows("raw.jsonl")) {
            assert_eq!((&row["label"], &row["unknown"]), (&raw["label"], &raw["unknown"]));
            let (found, raw) = (confidences(row), confidences(&raw));
            let total: f64 = raw.values().map(|p| p.powf(1. / temperature)).sum();
            for (class, p) in &raw {
                let expected = p.powf(1. / temperature) / total;
                assert!((found[class] - expected).abs() < 1e-5, "{class}: {expected} {row}");
                moved = moved.max((found[class] - p).abs());
            }
        }
        assert!(moved > 1e-4, "{method}: a temperature of {temperature} moves nothing");
    }
}

#[test]
fn raw_confidences_are_the_softmax_of_the_logits() {
    let lab = Lab::of("linear", 5);
    lab.finetuned("run", &[]);
    lab.predicted("run", "raw.jsonl", &["--raw"]).expect(0);
    let args = ["extract", "--model", "run", "--stage", "logits", "--out", "logits.csv", "test.csv"];
    lab.tl(&args).run().expect(0);
    let text = String::from_utf8(lab.read("logits.csv")).unwrap();
    for (line, row) in text.lines().skip(1).zip(lab.rows("raw.jsonl")) {
        let logits: Vec<f64> = line.split(',').skip(2).map(|logit| logit.parse().unwrap()).collect();
        let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|logit| (logit - greatest).exp()).sum();
        assert!((1. / total - number(&row, "confidence")).abs() < 1e-5, "{line} {row}");
    }
}

#[test]
fn strangers_are_labelled_where_that_is_asked_for() {
    for method in ["linear", "stages", "full"] {
        let lab = Lab::of(method, 10);
        lab.finetuned("run", &[]);
        lab.predicted("run", "p.csv", &["--top-k", "2", "--reject"]).expect(0);
        let mut reader = csv::Reader::from_path(lab.path("p.csv")).unwrap();
        let columns = "path,label,confidence,label_2,confidence_2,unknown,error";
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>().join(","), columns);
        let rows: Vec<Vec<String>> =
            reader.records().map(|row| row.unwrap().iter().map(Into::into).collect()).collect();
        let (digits, photographs) = rows.split_at(40);
        assert_eq!(photographs.len(), 2);
        let strange = |row: &Vec<String>| row[5].parse::<f64>().unwrap();
        for row in &rows {
            assert!((0. ..=1.).contains(&strange(row)) && row[6].is_empty(), "{row:?}");
            assert_eq!(row[1] == "unknown", strange(row) > 0.95, "{row:?}");
            assert_eq!(row[1] == "unknown", row[2].is_empty(), "{row:?}");
            assert!(!row[3].is_empty() && row[4].parse::<f64>().is_ok(), "{row:?}");
        }
        // A hundred images teach the other methods too little to know both photographs.
        if method == "stages" {
            assert!(photographs.iter().all(|row| row[1] == "unknown"), "{method}: {photographs:?}");
        }
        let kept = digits.iter().filter(|row| row[1] != "unknown").count();
        assert!(kept >= 30, "{method}: {kept} of 40 digits are kept");

        // The same without `--reject`, but for the labels; views are averaged.
        lab.predicted("run", "plain.jsonl", &[]).expect(0);
        for (row, rejected) in lab.rows("plain.jsonl").iter().zip(&rows) {
            assert!((number(row, "unknown") - strange(rejected)).abs() < 1e-6);
            let label = if rejected[1] == "unknown" { &rejected[3] } else { &rejected[1] };
            assert_eq!(row["label"], label.as_str());
        }
        lab.predicted("run", "views.jsonl", &["--crops", "10", "--scales", "40"]).expect(0);
        let views = lab.rows("views.jsonl");
        assert!(views.iter().all(|row| (0. ..=1.).contains(&number(row, "unknown"))), "{method}");
        if method == "stages" {
            assert!(views[40..].iter().all(|row| number(row, "unknown") > 0.95), "{views:?}");
        }
    }
}

#[test]
fn a_model_of_an_earlier_version_works_without_what_it_lacks() {
    let lab = Lab::of("linear", 5);
    lab.finetuned("run", &[]);
    let new = lab.read("run/model.safetensors");
    let old = with_card(&new, |card| {
        let card = card.as_object_mut().unwrap();
        assert!(card.remove("temperature").is_some() && card.remove("unknown").is_some());
    });
    lab.write("old.safetensors", old);
    lab.predicted("run", "raw.jsonl", &["--raw"]).expect(0);
    lab.predicted("old.safetensors", "old.jsonl", &[]).expect(0);
    for (row, old) in lab.rows("raw.jsonl").iter().zip(lab.rows("old.jsonl")) {
        assert_eq!((&row["label"], &row["confidence"]), (&old["label"], &old["confidence"]));
        assert_eq!(
            old.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["confidence", "error", "label", "path"]
        );
    }
    let refused = lab.predicted("old.safetensors", "p.csv", &["--reject"]).expect(2);
    insta::assert_snapshot!(refused.told(), @"error: `old.safetensors` cannot tell which images are unknown: only a model that `tl finetune` of this version trained can, and that had validation images enough; train it again, or leave `--reject` out");
    // A second model that can tell is enough.
    lab.predicted("old.safetensors", "p.jsonl", &["--reject", "--model", "run"]).expect(0);
    for row in lab.rows("p.jsonl") {
        assert_eq!(row["label"] == "unknown", number(&row, "unknown") > 0.95, "{row}");
    }
}

#[test]
fn a_class_may_be_called_unknown() {
    let lab = Lab::of("linear", 5);
    for file in ["train.csv", "val.csv", "test.csv"] {
        let text = String::from_utf8(lab.read(file)).unwrap();
        lab.write(file, text.replace(",7\n", ",unknown\n"));
    }
    lab.finetuned("run", &[]);
    lab.predicted("run", "p.jsonl", &[]).expect(0);
    let refused = lab.predicted("run", "p.jsonl", &["--reject"]).expect(2);
    insta::assert_snapshot!(refused.told(), @"error: the model has a class `unknown` of its own, and with `--reject` that label would mean two things: leave it out, and read the column `unknown`, which is above 0.95 for what would be rejected");
}

#[test]
fn metadata_that_is_wrong_is_told() {
    let lab = Lab::of("linear", 5);
    lab.finetuned("run", &[]);
    let new = lab.read("run/model.safetensors");
    let told = |code: i32, change: &dyn Fn(&mut Value)| {
        lab.write("bad.safetensors", with_card(&new, change));
        lab.predicted("bad.safetensors", "p.csv", &[]).expect(code).told()
    };
    let texts = [
        told(2, &|card| card["temperature"] = 0.into()),
        told(2, &|card| card["unknown"]["images"] = 1.into()),
        told(1, &|card| card["unknown"]["width"] = 512.into()),
    ];
    insta::assert_snapshot!(texts.join("\n"), @"
    error: bad.safetensors: its `tl` metadata is wrong: temperature: expected a positive number, found 0
    error: bad.safetensors: its `tl` metadata is wrong: unknown.images: expected 2 to 1000000
    error: bad.safetensors: its `tl` metadata is wrong: unknown.width: expected 1024, found 512
    ");
    let half = told(2, &|card| card["unknown"]["classes"] = "AAAA".into());
    assert!(half.contains("bad.safetensors: its `tl` metadata cannot be read: half a number"), "{half}");
}

#[test]
fn a_validation_image_is_too_little_to_tell_strangers() {
    let lab = Lab::of("linear", 5);
    let text = String::from_utf8(lab.read("val.csv")).unwrap();
    let two: Vec<&str> = text.lines().take(2).collect();
    lab.write("val.csv", two.join("\n") + "\n");
    let run = lab.finetuned("run", &[]);
    insta::assert_snapshot!(run.message("cannot tell"), @"note: the model cannot tell images that are like none of its classes (`unknown` in predict): its validation images are too few, or all the same to it");
    lab.predicted("run", "p.jsonl", &[]).expect(0);
    assert!(lab.rows("p.jsonl")[0].get("unknown").is_none());
    // The temperature is near 1: one image says little.
    let temperature = number(&lab.json("run/report.json")["calibration"], "temperature");
    assert!((0.7..1.4).contains(&temperature), "{temperature}");
}
