//! Where images are different, `auto` trains two methods and keeps the better.

use std::collections::HashMap;
use std::time::Duration;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::digits::{Lab, names, recipe};
use crate::resume::{assert_same_result, stop_after};

/// `auto` on images that are said to be few and different, with short training.
/// One of the two is kept, which is what it is alone; `little.rs` has the others.
const SETS: [&str; 6] = [
    "strategy.size=little",
    "strategy.similarity=different",
    "train.epochs=4",
    "train.batch_size=16",
    "strategy.average=false",
    "strategy.adapt=false",
];

fn lab(train: usize) -> Lab {
    let lab = Lab::new(train);
    lab.write("r.yaml", recipe("auto"));
    lab
}

fn tensors(lab: &Lab, out: &str) -> HashMap<String, Vec<u8>> {
    let bytes = lab.read(&format!("{out}/model.safetensors"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.iter().map(|(key, view)| (key.to_string(), view.data().to_vec())).collect()
}

fn set<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SETS[..], more].concat()
}

#[test]
fn the_better_of_the_two_is_what_it_is_alone() {
    let lab = lab(6);
    let cases: [(&str, &str, &[&str]); 2] = [
        // A rate that underflows: all weights stay as they are.
        ("stages", "full", &["train.lr=1e-45", "strategy.read=[stage4.3]"]),
        // Features of the first stage tell little.
        (
            "full",
            "stages",
            &["train.lr=0.02", "train.head_lr=0.05", "train.epochs=15", "strategy.read=[conv1]"],
        ),
    ];
    for (winner, other, more) in cases {
        let sets = set(more);
        let out = format!("auto-{winner}");
        let run = lab.finetuned(&out, &sets);
        run.says(&[
            "rival       full: trained too, unless the heads leave too little to gain",
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
        lab.finetuned("alone", &[&sets[..], &[&named]].concat());
        assert_eq!(tensors(&lab, &out), tensors(&lab, "alone"), "{winner}");
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
        assert!(page.contains("<h2>Two methods</h2>"));
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

#[test]
fn a_contest_that_was_stopped_goes_on_where_it_was() {
    let lab = lab(6);
    let sets = set(&["train.lr=1e-45", "strategy.read=[stage4.3]"]);
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
fn a_full_training_that_diverges_leaves_the_heads() {
    let lab = lab(6);
    let sets = set(&["train.lr=1e30", "train.head_lr=1e30", "strategy.read=[stage4.3]"]);
    lab.finetuned("run", &sets).says(&["trying  full", "note: full is given up: ", "`full` diverged"]);
    let report = lab.json("run/report.json");
    assert_eq!(report["method"], "stages");
    assert_eq!(report["contest"]["methods"].as_array().unwrap().len(), 1);
    lab.finetuned("alone", &set(&["strategy.method=stages", "strategy.read=[stage4.3]"]));
    assert_eq!(tensors(&lab, "run"), tensors(&lab, "alone"));
}

/// With lots of images, heads are fitted to a part of them first.
#[test]
fn a_look_tells_whether_stages_are_worth_fitting_to_all_images() {
    let lab = lab(45);
    let sets = |more: &[&'static str]| [&["strategy.size=lots"], &SETS[1..], more].concat();
    let look = "a look at stages: heads on 200 of 410 training images are right on ";

    // Features of the first stage tell little, and `full` learns.
    let weak = sets(&["strategy.read=[conv1]", "train.lr=0.02", "train.head_lr=0.05"]);
    let run = lab.finetuned("full", &weak);
    let run = run.says(&["rival       stages: ", look, "trying  full", "method  full: "]);
    assert!(!run.stderr.contains("trying  stages"), "{}", run.stderr);
    let report = lab.json("full/report.json");
    let contest = &report["contest"];
    assert_eq!((&report["method"], contest["methods"].as_array().unwrap().len()), (&"full".into(), 1));
    let (accuracy, at_best) = (contest["look"]["accuracy"].as_f64(), contest["look"]["at_best"].as_f64());
    assert_eq!(contest["look"]["fitted_to"], 200);
    assert!(accuracy < at_best && at_best < contest["compared_by"][0].as_f64(), "{contest}");
    let page = String::from_utf8(lab.read("full/report.html")).unwrap();
    assert!(page.contains("stages, fitted to 200 of the training images alone, was right on"), "{page}");
    lab.finetuned("alone", &[&weak[..], &["strategy.method=full"]].concat());
    assert_eq!(tensors(&lab, "full"), tensors(&lab, "alone"));

    // `full` learns nothing: the heads are worth fitting to all images, and are compared on 20 of each class.
    let run = lab.finetuned("stages", &sets(&["train.lr=1e-45", "strategy.read=[stage4.3]"]));
    run.says(&[look, "trying  full", "trying  stages", "method  stages: "]);
    let report = lab.json("stages/report.json");
    assert_eq!(report["contest"]["methods"].as_array().unwrap().len(), 2);
    assert_eq!(report["contest"]["look"]["fitted_to"], 200);
    let compared =
        "the stages and C were compared on 200 of 410 training images; the head is fitted to all of them";
    assert!(report["notes"].as_array().unwrap().contains(&compared.into()), "{}", report["notes"]);
    let alone = ["strategy.method=stages", "strategy.read=[stage4.3]", "strategy.compare_on=20"];
    lab.finetuned("alone-stages", &[&alone[..], &["train.batch_size=16"]].concat());
    assert_eq!(tensors(&lab, "stages"), tensors(&lab, "alone-stages"));
}

/// A run that was killed when the winner's model stood in its place already, and the report did not.
#[test]
fn a_contest_that_was_killed_at_its_end_is_decided_again() {
    let lab = lab(6);
    let sets = set(&["train.lr=1e-45", "strategy.read=[stage4.3]"]);
    lab.finetuned("whole", &sets);
    lab.finetuned("cut", &sets);
    let beaten = lab.path("cut/checkpoint/race/beaten.safetensors");
    std::fs::create_dir_all(beaten.parent().unwrap()).unwrap();
    // Some model of `full`: it is measured again, and beaten again.
    lab.finetuned("full", &set(&["train.lr=1e-45", "strategy.method=full"]));
    std::fs::rename(lab.path("full/model.safetensors"), &beaten).unwrap();
    std::fs::remove_file(lab.path("cut/report.json")).unwrap();
    lab.finetune("cut", &sets).arg("--resume").run().expect(0);
    assert_eq!(tensors(&lab, "cut"), tensors(&lab, "whole"));
    assert_eq!(lab.json("cut/report.json")["test"], lab.json("whole/report.json")["test"]);
    assert!(!beaten.exists());
}
