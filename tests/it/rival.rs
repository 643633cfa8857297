//! Where images are different, `auto` trains two methods and keeps the better.

use std::collections::HashMap;
use std::time::Duration;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::digits::{Lab, names, recipe};
use crate::resume::{assert_same_result, stop_after};

/// `auto` on images that are said to be few and different, with short training.
const SETS: [&str; 4] =
    ["strategy.size=little", "strategy.similarity=different", "train.epochs=4", "train.batch_size=16"];

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
        // Without a rate to speak of.
        ("stages", "full", &["train.lr=1e-9", "strategy.read=[stage2.3]"]),
        // Features of the first stage tell little.
        (
            "full",
            "stages",
            &["train.lr=0.02", "train.head_lr=0.05", "train.epochs=8", "strategy.read=[conv1]"],
        ),
    ];
    for (winner, other, more) in cases {
        let sets = set(more);
        let out = format!("auto-{winner}");
        let run = lab.finetuned(&out, &sets);
        run.says(&[
            "rival       full: trained too",
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
    let sets = set(&["train.lr=1e-9"]);
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

/// A run that was killed when the winner's model stood in its place already, and the report did not.
#[test]
fn a_contest_that_was_killed_at_its_end_is_decided_again() {
    let lab = lab(6);
    let sets = set(&["train.lr=1e-9"]);
    lab.finetuned("whole", &sets);
    lab.finetuned("cut", &sets);
    let beaten = lab.path("cut/checkpoint/race/beaten.safetensors");
    std::fs::create_dir_all(beaten.parent().unwrap()).unwrap();
    // Some model of `full`: it is measured again, and beaten again.
    lab.finetuned("full", &set(&["train.lr=1e-9", "strategy.method=full"]));
    std::fs::rename(lab.path("full/model.safetensors"), &beaten).unwrap();
    std::fs::remove_file(lab.path("cut/report.json")).unwrap();
    lab.finetune("cut", &sets).arg("--resume").run().expect(0);
    assert_eq!(tensors(&lab, "cut"), tensors(&lab, "whole"));
    assert_eq!(lab.json("cut/report.json")["test"], lab.json("whole/report.json")["test"]);
    assert!(!beaten.exists());
}
