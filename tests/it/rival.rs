//! For different images `auto` trains two methods and keeps the better.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::digits::{Lab, names, recipe};
use crate::model_file::tensors;
use crate::resume::{assert_same_result, stop_after};

/// `auto` on images declared few and different, with short training. One of the two is kept, equal
/// to its run alone; `little.rs` tests the others.
const SETS: [&str; 5] = [
    "strategy.size=little",
    "strategy.similarity=different",
    "train.epochs=4",
    "train.batch_size=16",
    "strategy.average=false",
];

/// Fine-tuning that begins with a random head, at a rate that underflows: the weights do not
/// change.
const STILL: [&str; 4] =
    ["train.lr=1e-45", "train.head_lr=1e-45", "train.linear_head_first=false", "strategy.read=[stage4.3]"];

fn lab(train: usize) -> Lab {
    let lab = Lab::new(train);
    lab.write("r.yaml", recipe("auto"));
    lab
}

fn model(lab: &Lab, out: &str) -> BTreeMap<String, Vec<f32>> {
    tensors(&lab.path(&format!("{out}/model.safetensors")), "")
}

fn set<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SETS[..], more].concat()
}

#[test]
fn the_better_of_the_two_is_what_it_is_alone() {
    let lab = lab(6);
    let cases: [(&str, &str, &[&str]); 2] = [
        ("stages", "full", &STILL),
        // Features of the first stage tell little.
        ("full", "stages", &["train.lr=0.02", "train.epochs=15", "strategy.read=[conv1]"]),
    ];
    for (winner, other, more) in cases {
        let sets = set(more);
        let out = format!("auto-{winner}");
        let run = lab.finetuned(&out, &sets);
        run.says(&[
            "rival       full: trained too, unless the heads leave nothing to gain",
            "trying  stages",
            "trying  full",
            &format!("method  {winner}: "),
        ]);
        let report = lab.json(&format!("{out}/report.json"));
        assert_eq!(report["method"], winner);
        let rows = report["contest"]["methods"].as_array().unwrap();
        assert_eq!((&rows[0]["method"], &rows[1]["method"]), (&winner.into(), &other.into()));
        assert_eq!(report["contest"]["images"], report["val"]["images"]);
        assert_eq!(rows[0]["accuracy"], report["val"]["accuracy"]);
        assert_eq!(rows[0]["difference"], Value::Null);
        let difference = rows[1]["accuracy"].as_f64().unwrap() - rows[0]["accuracy"].as_f64().unwrap();
        assert!((rows[1]["difference"]["mean"].as_f64().unwrap() - difference).abs() < 1e-9);
        let named = format!("strategy.method={winner}");
        let alone = [&sets[..], &[&named, "strategy.average=false"]].concat();
        lab.finetuned("alone", &alone);
        assert_eq!(model(&lab, &out), model(&lab, "alone"), "{winner}");
        let alone = lab.json("alone/report.json");
        for key in ["accuracy", "confusion", "images"] {
            assert_eq!(report["test"][key], alone["test"][key]);
        }
        assert_eq!(report["passes"], alone["passes"]);
        assert_eq!(report["epochs"].as_array().unwrap().len(), alone["epochs"].as_array().unwrap().len());
        let metrics = String::from_utf8(lab.read(&format!("{out}/metrics.jsonl"))).unwrap();
        assert_eq!(metrics.lines().count(), report["epochs"].as_array().unwrap().len());
        std::fs::remove_dir_all(lab.path("alone")).unwrap();
        let page = String::from_utf8(lab.read(&format!("{out}/report.html"))).unwrap();
        assert!(page.contains("<h3>Two methods</h3>"));
    }
}

#[test]
fn the_recipe_can_do_without_a_rival() {
    let lab = lab(4);
    let run = lab.finetuned("run", &set(&["strategy.rival=false"]));
    assert!(!run.stderr.contains("rival") && !run.stderr.contains("trying"), "{}", run.stderr);
    let report = lab.json("run/report.json");
    assert_eq!((&report["method"], report.get("contest")), (&"stages".into(), None));
}

/// The training that ended early is not the one that is kept.
#[test]
fn early_stopping_of_the_one_that_is_dropped_is_in_the_report() {
    let lab = lab(6);
    let sets = set(&STILL);
    let sets = [&sets[..], &["train.early_stopping=1"]].concat();
    let said = "stopped early, after epoch 2 of 4";
    lab.finetuned("run", &sets).says(&[said]);
    let report = lab.json("run/report.json");
    assert_eq!(report["method"], "stages");
    assert!(
        report["notes"].to_string().contains(&format!("`full`, which is not kept, {said}")),
        "{}",
        report["notes"]
    );
    let page = String::from_utf8(lab.read("run/report.html")).unwrap();
    assert!(page.contains(said), "{page}");
}

#[test]
fn a_contest_that_was_stopped_goes_on_where_it_was() {
    let lab = lab(6);
    let sets = set(&STILL);
    lab.finetuned("whole", &sets);
    assert_eq!(lab.json("whole/report.json")["method"], "stages");
    for (text, name, code) in [("trying  stages", "INT", 130), ("epoch 2/4", "TERM", 143)] {
        let child = lab.finetune("cut", &sets).arg("--resume").spawn();
        stop_after(child, text, Duration::from_millis(5), name).expect(code);
    }
    lab.finetune("cut", &sets).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "cut");
    let mut left = names(&lab.path("cut/checkpoint"));
    left.retain(|name| name != "last.safetensors");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn fine_tuning_that_diverges_leaves_the_heads() {
    let lab = lab(6);
    let sets = set(&[
        "train.lr=1e30",
        "train.head_lr=1e30",
        "strategy.read=[stage4.3]",
        "train.clip_grad_norm=1e30",
    ]);
    lab.finetuned("run", &sets).says(&[
        "trying  full",
        "note: fine-tuning is given up: ",
        "fine-tuning diverged",
    ]);
    let report = lab.json("run/report.json");
    assert_eq!(report["method"], "stages");
    assert_eq!(report["contest"]["methods"].as_array().unwrap().len(), 1);
    lab.finetuned("alone", &set(&["strategy.method=stages", "strategy.read=[stage4.3]"]));
    assert_eq!(model(&lab, "run"), model(&lab, "alone"));
}

/// With lots of images heads are compared on a part of them, and fitted to all.
#[test]
fn with_lots_of_images_heads_are_fitted_first_too() {
    let lab = lab(45);
    let sets = |more: &[&'static str]| {
        [&["strategy.size=lots", "strategy.compare_on=20"], &SETS[1..], more].concat()
    };
    // Features of the first stage tell little, and `full` learns.
    let weak = sets(&["strategy.read=[conv1]", "train.lr=0.02"]);
    let run = lab.finetuned("full", &weak);
    run.says(&["rival       stages: fitted first", "trying  stages", "trying  full", "method  full: "]);
    lab.finetuned("alone", &[&weak[..], &["strategy.method=full"]].concat());
    assert_eq!(model(&lab, "full"), model(&lab, "alone"));

    // `full` learns nothing.
    let run = lab.finetuned("stages", &sets(&STILL));
    run.says(&["trying  stages", "trying  full", "method  stages: "]);
    let report = lab.json("stages/report.json");
    assert_eq!(report["contest"]["methods"].as_array().unwrap().len(), 2);
    let compared =
        "the stages and C were compared on 200 of 410 training images; the head is fitted to all of them";
    assert!(report["notes"].as_array().unwrap().contains(&compared.into()), "{}", report["notes"]);
    let alone = [&sets(&STILL)[..], &["strategy.method=stages"]].concat();
    lab.finetuned("alone-stages", &alone);
    assert_eq!(model(&lab, "stages"), model(&lab, "alone-stages"));
}

/// A run that was killed after the kept model was put in place, and before the report was.
#[test]
fn a_contest_that_was_killed_at_its_end_is_decided_again() {
    let lab = lab(6);
    let sets = set(&STILL);
    lab.finetuned("whole", &sets);
    lab.finetuned("cut", &sets);
    // The state to resume from until the report is written: the epochs, and their model.
    let tuned = lab.path("cut/checkpoint/race/tuned");
    std::fs::create_dir_all(&tuned).unwrap();
    lab.finetuned("tuned", &set(&[&STILL[..], &["strategy.method=partial"]].concat()));
    std::fs::rename(lab.path("tuned/model.safetensors"), tuned.join("model.safetensors")).unwrap();
    std::fs::remove_file(lab.path("cut/report.json")).unwrap();
    lab.finetune("cut", &sets).arg("--resume").run().expect(0);
    assert_eq!(model(&lab, "cut"), model(&lab, "whole"));
    assert_eq!(lab.json("cut/report.json")["test"], lab.json("whole/report.json")["test"]);
    assert!(!tuned.exists());
}
