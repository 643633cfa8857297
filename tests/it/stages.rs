//! `method: stages`, and `linear` for heads that are not a linear layer with biases.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::digits::{Lab, images};
use crate::model_file::header;

/// Checks that the accuracy of `tl predict` on the test images equals the report's.
#[track_caller]
fn predicts_as_reported(lab: &Lab, out: &str, tests: &[(PathBuf, String)]) -> f64 {
    let paths: Vec<&str> = tests.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    lab.tl(&["predict", "--model", out, "--out", "p.jsonl"]).args(&paths).run().expect(0);
    let text = String::from_utf8(lab.read("p.jsonl")).unwrap();
    let label_of = |row: &Value| {
        let of = |(path, _): &&(PathBuf, String)| row["path"] == path.to_str().unwrap();
        tests.iter().find(of).map(|(_, class)| class.clone())
    };
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let right = rows.iter().filter(|row| row["label"].as_str() == label_of(row).as_deref()).count();
    let accuracy = right as f64 / tests.len() as f64;
    let reported = lab.json(&format!("{out}/report.json"))["test"]["accuracy"].as_f64().unwrap();
    assert!((accuracy - reported).abs() < 1e-9, "predict says {accuracy}, the report {reported}");
    accuracy
}

#[test]
fn stages_are_compared_and_the_best_are_kept() {
    let lab = Lab::of("linear", 10);
    let stages = ["strategy.method=stages", "strategy.average=false"];
    lab.finetuned("run", &stages).says(&["stage2.3", "features", "all 5 together", "<- chosen"]);
    let report = lab.json("run/report.json");
    assert_eq!(report["method"], "stages");
    // Each image has been through the network once.
    let passes: Vec<(&str, u64, u64)> = report["passes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (it["part"].as_str().unwrap(), it["images"].as_u64().unwrap(), it["times"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(passes, [("train", 100, 1), ("val", 40, 1), ("test", 40, 1)]);
    let rows = report["stages"].as_array().unwrap();
    let read: Vec<Value> = rows[..5].iter().map(|row| row["stages"][0].clone()).collect();
    assert_eq!(json!(read), json!(["conv1", "stage2.3", "stage3.7", "stage4.3", "features"]));
    assert_eq!(rows[5]["stages"], json!(read));
    let widths: Vec<i64> = rows.iter().map(|row| row["features"].as_i64().unwrap()).collect();
    assert_eq!(widths, [24, 48, 96, 192, 1024, 1384]);
    // The choice is the best by cross-validation, and what is measured is the choice.
    let value = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let chosen: Vec<&Value> = rows.iter().filter(|row| row["chosen"] == true).collect();
    let [chosen] = chosen[..] else { panic!("{rows:?}") };
    assert!(rows.iter().all(|row| value(row, "cv_loss") >= value(chosen, "cv_loss")), "{rows:?}");
    assert_eq!(chosen["val_accuracy"], report["val"]["accuracy"]);
    assert!(predicts_as_reported(&lab, "run", &images("test", 0, 4)) > 0.5);

    // Equal runs, equal bytes.
    lab.finetuned("again", &stages);
    assert!(lab.read("run/model.safetensors") == lab.read("again/model.safetensors"));
}

#[test]
fn stages_behind_the_last_one_read_are_not_stored() {
    let lab = Lab::of("linear", 6);
    lab.finetuned("run", &["strategy.method=stages", "strategy.read=[stage3, conv1]"]);
    let file = header(&lab.read("run/model.safetensors"));
    let card: Value = serde_json::from_str(file["__metadata__"]["tl"].as_str().unwrap()).unwrap();
    let reads = card["reads"].as_array().unwrap();
    assert!(!reads.is_empty() && reads.iter().all(|name| name == "conv1" || name == "stage3.7"), "{reads:?}");
    let keys: Vec<&String> = file.as_object().unwrap().keys().collect();
    assert!(!keys.iter().any(|key| key.starts_with("stage4") || key.starts_with("fc")), "{keys:?}");
    let width: u64 = reads.iter().map(|name| if name == "conv1" { 24 } else { 96 }).sum();
    assert_eq!(file["tl_head.weight"]["shape"], json!([10, width]));
    assert_eq!(file["tl_head.bias"]["shape"], json!([10]));
    predicts_as_reported(&lab, "run", &images("test", 0, 4));
    let frozen = lab.json("run/report.json")["frozen"]["stages"].as_array().unwrap().len();
    assert!(frozen < 18, "{frozen}");
    // Its features are what its head reads, and what it stands on can be looked at.
    let test = images("test", 0, 1)[0].0.clone();
    let test = test.to_str().unwrap();
    lab.tl(&["extract", "--model", "run", "--out", "f.csv", test]).run().expect(0);
    let columns = String::from_utf8(lab.read("f.csv")).unwrap().lines().next().unwrap().matches(",f").count();
    assert_eq!(columns as u64, width);
    let table = lab.tl(&["inspect", "run"]).run().expect(0);
    assert!(table.stdout.contains("tl_head") && !table.stdout.contains("stage4"), "{}", table.stdout);
    // It is a model to start from, but its stages are chosen.
    lab.finetuned("next", &["model=run", "weights=DEFAULT"]);
    predicts_as_reported(&lab, "next", &images("test", 0, 4));
    let run = lab.finetune("no", &["model=run", "weights=DEFAULT", "strategy.method=stages"]).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: r.yaml: 1 mistake
      --set strategy.method=stages: the model was made by `stages`, and its stages are chosen: `linear` fits a new head to them
    ");
}

#[test]
fn stages_that_are_not_there_are_refused_with_those_that_are() {
    let lab = Lab::of("linear", 6);
    let refused = |read: &str| lab.finetune("run", &["strategy.method=stages", read]).run().expect(2);
    insta::assert_snapshot!(refused("strategy.read=[stag3]").told(), @"
    error: r.yaml: 1 mistake
      --set strategy.read=[stag3]: shufflenet_v2_x0_5 has no stage named `stag3`; did you mean `stage3`? It has conv1, stage2, stage3, stage4, conv5, features; a part of one has a name such as stage4.3
    ");
    insta::assert_snapshot!(refused("strategy.read=[logits]").told(), @"
    error: r.yaml: 1 mistake
      --set strategy.read=[logits]: `logits` are behind the head: read `features`
    ");
    insta::assert_snapshot!(refused("strategy.read=stage3").told(), @r#"
    error: r.yaml: 1 mistake
      --set strategy.read=stage3: expected a list of names, found the text "stage3"; write [stage3]
    "#);
}

#[test]
fn linear_fits_heads_without_biases_and_heads_that_are_convolutions() {
    for (model, shape) in [("squeezenet1_1", json!([10, 512, 1, 1])), ("maxvit_t", json!([10, 512]))] {
        let lab = Lab::of("linear", 2);
        // MaxViT takes its time at 224 pixels: an image a class to measure and one to test on.
        let tests = images("test", 0, 1);
        let rows = |images: &[(PathBuf, String)]| -> String {
            images.iter().map(|(path, class)| format!("{},{class}\n", path.display())).collect()
        };
        lab.write("test.csv", rows(&tests));
        lab.write("val.csv", rows(&images("train", 20, 1)));
        let size = if model == "maxvit_t" { 224 } else { 32 };
        lab.finetuned(
            "run",
            &[
                &format!("model={model}"),
                "weights=none",
                &format!("preprocess={{crop_size: {size}}}"),
                "train.c=1",
            ],
        );
        let file = header(&lab.read("run/model.safetensors"));
        let weights = file.as_object().unwrap().iter().find(|(_, tensor)| tensor["shape"] == shape);
        assert!(weights.is_some(), "{model}");
        predicts_as_reported(&lab, "run", &tests);
    }
}
