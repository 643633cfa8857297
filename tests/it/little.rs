//! Averages of `auto`: the heads of all stages, and the heads with fine-tuning.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::digits::{Lab, recipe};
use crate::model_file::tensors;
use crate::resume::{assert_same_result, stop_after};

/// Heads and fine-tuning score similarly on so few images.
const BOTH: [&str; 7] = [
    "strategy.size=little",
    "strategy.similarity=different",
    "strategy.read=[conv1]",
    "train.epochs=8",
    "train.batch_size=16",
    "train.lr=0.02",
    "train.linear_head_first=false",
];

fn lab(method: &str) -> Lab {
    let lab = Lab::new(if method == "auto" { 8 } else { 5 });
    lab.write("r.yaml", recipe(method));
    lab
}

/// The probabilities of each test image by class, the number of correct ones, and the output.
fn predicted(lab: &Lab, model: &str) -> (Vec<HashMap<String, f64>>, usize, String) {
    let paths = String::from_utf8(lab.read("test.csv")).unwrap();
    let images: Vec<(&str, &str)> =
        paths.lines().skip(1).map(|line| line.rsplit_once(',').unwrap()).collect();
    // Without the temperature of the mean, which none of the two has alone.
    let mut args = vec!["predict", "--model", model, "--top-k", "10", "--raw", "--out", "p.jsonl"];
    args.extend(images.iter().map(|(path, _)| path));
    let run = lab.tl(&args).run().expect(0);
    let rows = String::from_utf8(lab.read("p.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let truth: HashMap<&str, &str> = images.into_iter().collect();
    let right = |row: &&Value| row["label"] == truth[row["path"].as_str().unwrap()];
    let classes = |row: &Value| {
        let name = |key: &str, place: usize| if place == 1 { key.into() } else { format!("{key}_{place}") };
        let of = |place| {
            (
                row[name("label", place)].as_str().unwrap().to_string(),
                row[name("confidence", place)].as_f64().unwrap(),
            )
        };
        (1..=10).map(of).collect()
    };
    (rows.iter().map(classes).collect(), rows.iter().filter(right).count(), run.stderr)
}

#[test]
fn heads_and_fine_tuning_are_both_kept_where_neither_is_clearly_ahead() {
    let lab = lab("auto");
    let run = lab.finetuned("run", &BOTH);
    run.says(&[": both are kept and averaged, and count 0.", "model.safetensors with beside.safetensors"]);
    let report = lab.json("run/report.json");
    let shares: Vec<f64> =
        report["contest"]["shares"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect();
    assert!(
        shares[0] >= shares[1] && shares[1] > 0.1 && (shares[0] + shares[1] - 1.).abs() < 1e-9,
        "{shares:?}"
    );
    assert_eq!(report["contest"]["methods"][0]["method"], report["method"]);
    assert_eq!(report["stages"].as_array().unwrap().len(), 1);

    // The report's measurement is that of `predict` with the run folder.
    let (both, right, said) = predicted(&lab, "run");
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(report["test"]["accuracy"].as_f64().unwrap(), right as f64 / 40.);
    // Each of the two alone.
    fs::create_dir(lab.path("alone")).unwrap();
    fs::copy(lab.path("run/model.safetensors"), lab.path("alone/model.safetensors")).unwrap();
    let (first, _, said) = predicted(&lab, "alone");
    assert!(said.contains("is averaged with beside.safetensors, which is not in its folder"), "{said}");
    let (second, _, said) = predicted(&lab, "run/beside.safetensors");
    assert!(!said.contains("warning"), "{said}");
    for ((both, first), second) in both.iter().zip(&first).zip(&second) {
        for (class, share) in both {
            let mixed = shares[0] * first[class] + shares[1] * second[class];
            assert!((mixed - share).abs() < 1e-5, "{class}: {share}");
        }
    }
    let page = String::from_utf8(lab.read("run/report.html")).unwrap();
    assert!(page.contains("Both are kept, and their answers averaged"), "{page}");

    // Nothing of the second model is left where one is kept.
    let one = [&BOTH[..], &["strategy.average=false"]].concat();
    lab.finetune("run", &one).arg("--overwrite").run().expect(0);
    assert!(!lab.path("run/beside.safetensors").exists());
    assert_eq!(lab.json("run/report.json")["contest"]["shares"][0], 1.);
}

#[test]
fn a_run_that_keeps_both_goes_on_where_it_was_stopped() {
    let lab = lab("auto");
    lab.finetuned("whole", &BOTH);
    for (text, name, code) in [("trying  stages", "INT", 130), ("epoch 2/8", "TERM", 143)] {
        let child = lab.finetune("cut", &BOTH).arg("--resume").spawn();
        stop_after(child, text, Duration::from_millis(5), name).expect(code);
    }
    lab.finetune("cut", &BOTH).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "cut");
    assert!(lab.read("whole/beside.safetensors") == lab.read("cut/beside.safetensors"));
    // Killed before the report was written.
    fs::remove_file(lab.path("cut/report.json")).unwrap();
    lab.finetune("cut", &BOTH).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "cut");
    assert!(lab.read("whole/beside.safetensors") == lab.read("cut/beside.safetensors"));
}

#[test]
fn the_mean_of_all_heads_is_one_head_on_all_stages() {
    let lab = lab("stages");
    lab.finetuned("run", &[]).says(&["the mean of the 6", "<- kept"]);
    let report = lab.json("run/report.json");
    let rows = report["stages"].as_array().unwrap();
    let shares: Vec<f64> = rows.iter().map(|row| row["share"].as_f64().unwrap()).collect();
    assert!((shares.iter().sum::<f64>() - 1.).abs() < 1e-9);
    assert_eq!(rows.iter().filter(|row| row["chosen"] == true).count(), 1);
    assert!(report["heads"]["cv_accuracy"].as_f64().unwrap() > 0.3);
    let model = tensors(&lab.path("run/model.safetensors"), "");
    // The joined head reads all stages; without it, those are read that count.
    let counts = |row: &usize| shares[5] > 0. || shares[*row] > 0.;
    let features: u64 = (0..5).filter(counts).map(|row| rows[row]["features"].as_u64().unwrap()).sum();
    assert_eq!(model["tl_head.weight"].len() as u64, 10 * features);
    let (_, right, _) = predicted(&lab, "run");
    assert_eq!(report["test"]["accuracy"].as_f64().unwrap(), right as f64 / 40.);
}

/// Images that are measured as similar, with a head that contradicts it.
#[test]
fn similar_images_have_a_rival_too_where_their_head_is_often_wrong() {
    let lab = Lab::new(5);
    lab.write("r.yaml", recipe("auto"));
    let similar =
        ["strategy.similar_below=10", "train.epochs=4", "train.batch_size=16", "strategy.size=little"];
    let run = lab.finetuned("little", &similar);
    run.says(&[
        "rival       partial: trained too, unless the heads leave nothing to gain",
        "trying  linear",
        "trying  partial",
    ]);
    let methods = lab.json("little/report.json")["contest"]["methods"].as_array().unwrap().len();
    assert_eq!(methods, 2);
    // Whoever says that they are similar is believed.
    let told = ["strategy.size=little", "strategy.similarity=similar"];
    let run = lab.finetuned("told", &told);
    assert!(!run.stderr.contains("rival"), "{}", run.stderr);
    assert_eq!(lab.json("told/report.json")["method"], "linear");
}
