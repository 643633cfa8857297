//! `method: race`: the measurements, the final training, and what is left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::digits::{Lab, names, recipe};
use crate::program::Run;
use crate::resume::{assert_same_result, stop_after};

const QUICK: [&str; 2] = ["strategy.race.epochs=2", "train.epochs=3"];

/// A lab whose recipe races, with short training.
fn lab(train: usize) -> Lab {
    let lab = Lab::new(train);
    lab.write("r.yaml", recipe("race").replace("train: {}", "train: { batch_size: 16 }"));
    lab
}

fn heats(lab: &Lab, out: &str) -> Vec<Value> {
    let text = String::from_utf8(lab.read(&format!("{out}/race.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The values of a model file, and its metadata besides the recipe.
fn model(lab: &Lab, out: &str) -> (HashMap<String, Vec<u8>>, Value) {
    let bytes = lab.read(&format!("{out}/model.safetensors"));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut card: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["tl"]).unwrap();
    card.as_object_mut().unwrap().remove("recipe");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    (tensors.iter().map(|(key, view)| (key.to_string(), view.data().to_vec())).collect(), card)
}

#[test]
fn every_image_is_held_out_once_and_the_winner_is_trained_as_if_it_had_been_named() {
    let lab = lab(6);
    for methods in ["[linear, stages]", "[full, partial]"] {
        let race = format!("strategy.race.methods={methods}");
        let sets = [&race, "strategy.race.epochs=2", "train.epochs=3"];
        let run = lab.finetune("run", &sets).arg("--overwrite").run().expect(0);
        let report = lab.json("run/report.json");
        let winner = report["method"].as_str().unwrap();
        run.says(&["fold 3 of 3: ", &format!("method  {winner}: won the race on 60 held-out images")]);

        let heats = heats(&lab, "run");
        assert_eq!(heats.len(), 6);
        let rows = report["race"]["methods"].as_array().unwrap();
        for row in rows {
            let of = heats.iter().filter(|heat| heat["method"] == row["method"]);
            let (mut images, mut right) = (Vec::new(), 0);
            for heat in of {
                images.extend(heat["images"].as_array().unwrap().iter().map(|image| image.as_u64().unwrap()));
                right += heat["right"].as_array().unwrap().iter().filter(|right| **right == true).count();
            }
            images.sort_unstable();
            assert!(images.into_iter().eq(0..60));
            let accuracy = row["accuracy"].as_f64().unwrap();
            assert_eq!(accuracy, right as f64 / 60.);
            assert!(row["interval"][0].as_f64().unwrap() < accuracy && row["seconds"].as_f64().unwrap() > 0.);
        }
        assert_eq!(rows[0]["method"], winner);
        let (first, second) = (rows[0]["accuracy"].as_f64().unwrap(), rows[1]["accuracy"].as_f64().unwrap());
        let difference = &rows[1]["difference"];
        assert!((difference["mean"].as_f64().unwrap() - (second - first)).abs() < 1e-12 && second <= first);
        assert_eq!(rows[0].get("difference"), None);
        assert_eq!(report["race"]["images"], 60);
        let reason = report["reason"].as_str().unwrap();
        let noted =
            report["notes"].as_array().unwrap().iter().any(|it| it.as_str().unwrap().contains("cannot tell"));
        assert_eq!(reason.contains("not told apart"), noted);
        let page = String::from_utf8(lab.read("run/report.html")).unwrap();
        assert!(page.contains("<h3>The race</h3>") && page.contains("<td>race</td><td>"));
        let plan = String::from_utf8(lab.read("run/plan.yaml")).unwrap();
        assert!(plan.contains("\nmethod: race\n"), "{plan}");
        assert!(names(&lab.path("run/checkpoint")).iter().all(|name| name == "last.safetensors"));

        let named = format!("strategy.method={winner}");
        lab.finetune("named", &["train.epochs=3", &named]).arg("--overwrite").run().expect(0);
        assert!(model(&lab, "run") == model(&lab, "named"), "{winner}");
        let named = lab.json("named/report.json");
        for key in ["val", "test", "best", "frozen", "stages", "linear_head", "passes"] {
            assert_eq!(report.get(key), named.get(key), "{key}");
        }
        assert_eq!(named.get("race"), None);
    }
}

#[test]
fn validation_and_test_images_have_no_part_in_it() {
    let lab = lab(4);
    let right = |out: &str| {
        let heats = heats(&lab, out).into_iter();
        heats.map(|heat| json!([heat["method"], heat["images"], heat["right"]])).collect::<Vec<_>>()
    };
    let sets = [&QUICK[..], &["train.ema=0.8", "train.schedule=plateau", "train.early_stopping=1"]].concat();
    lab.finetuned("run", &sets);
    let val = String::from_utf8(lab.read("val.csv")).unwrap();
    let few: Vec<&str> = val.lines().take(9).collect();
    lab.write("val.csv", few.join("\n"));
    lab.write("test.csv", few.join("\n"));
    lab.finetuned("other", &sets);
    assert_eq!(right("run"), right("other"));
}

#[test]
fn a_race_that_was_stopped_goes_on_where_it_was() {
    let lab = lab(4);
    lab.finetuned("whole", &QUICK);
    for (text, name, code) in [("linear, fold 2 of 3", "INT", 130), ("full, fold 1 of 3", "TERM", 143)] {
        let child = lab.finetune("cut", &QUICK).arg("--resume").spawn();
        let run = stop_after(child, text, Duration::from_millis(20), name).expect(code);
        let kept = heats(&lab, "cut").len();
        run.says(&[&format!("stopped in the race; {kept} of its 12 parts are kept: go on with `--resume`")]);
        assert!((1..12).contains(&kept));
    }
    insta::assert_snapshot!(lab.finetune("cut", &QUICK).run().expect(2).told(), @"error: the run folder cut holds a run that has not finished: `--resume` goes on with it, `--overwrite` replaces it, `--out` names another folder");
    let run = lab.finetune("cut", &QUICK).arg("--resume").run().expect(0);
    assert!(!run.stderr.contains("race    linear, fold"), "{}", run.stderr);
    assert_same_result(&lab, "whole", "cut");
    insta::assert_snapshot!(lab.finetune("cut", &QUICK).arg("--resume").run().expect(0).told(), @"cut is finished: nothing to do (a new run with `model: cut` trains its model further)");
}

#[test]
fn a_race_that_was_killed_goes_on_where_it_was() {
    let lab = lab(4);
    let started = Instant::now();
    lab.finetuned("whole", &QUICK);
    let whole = started.elapsed().as_secs_f64();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut killed = 0;
    loop {
        let mut child = lab.finetune("cut", &QUICK).arg("--resume").spawn();
        if killed < 5 {
            let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
            std::thread::sleep(Duration::from_secs_f64(share * whole * 0.7));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            }
        }
        let output = child.wait_with_output().unwrap();
        if output.status.code().is_some() {
            Run::from(output).expect(0);
            break;
        }
    }
    assert!(killed > 0);
    assert_same_result(&lab, "whole", "cut");
    // All that it used to go on from is gone.
    let mut left = names(&lab.path("cut/checkpoint"));
    left.retain(|name| name != "last.safetensors");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_training_that_diverges_counts_as_wrong() {
    let lab = lab(4);
    let sets = ["strategy.race.methods=[linear, full]", "train.lr=1e30", "train.epochs=3"];
    let run = lab.finetuned("run", &sets);
    run.says(&[
        "full, fold 1 of 3: its training diverged, which counts as wrong",
        "method  linear: won the race",
    ]);
    let report = lab.json("run/report.json");
    assert_eq!(report["race"]["methods"][1]["accuracy"], 0.);
    assert!(report["notes"][0].as_str().unwrap().contains("`full` diverged in fold 1 of the race"));
}

#[test]
fn what_cannot_race_is_refused_with_advice() {
    let lab = lab(3);
    let plan =
        |sets: &[&str]| lab.tl(&["plan", "r.yaml"]).args(sets.iter().flat_map(|set| ["--set", set])).run();
    insta::assert_snapshot!(plan(&["strategy.race.methods=[full]"]).expect(2).told(), @"
    error: r.yaml: 1 mistake
      --set strategy.race.methods=[full]: a race takes two methods at least; `strategy: { method: full }` trains this one
    ");
    insta::assert_snapshot!(plan(&["strategy.race.methods=[full, full]"]).expect(2).told(), @"
    error: r.yaml: 1 mistake
      --set strategy.race.methods=[full, full]: a race takes two methods at least; `strategy: { method: full }` trains this one
    ");
    insta::assert_snapshot!(plan(&["strategy.race.methods=[full, lineer]"]).expect(2).told(), @r#"
    error: r.yaml: 1 mistake
      --set strategy.race.methods=[full, lineer]: expected a list out of linear, stages, partial, full, scratch, found ["full", "lineer"] with "lineer"; did you mean linear?
    "#);
    insta::assert_snapshot!(plan(&["strategy.race.methods=full"]).expect(2).told(), @r#"
    error: r.yaml: 1 mistake
      --set strategy.race.methods=full: expected a list out of linear, stages, partial, full, scratch, found the text "full"; write [full]
    "#);
    insta::assert_snapshot!(plan(&["strategy.race.methods=[full, race]"]).expect(2).told(), @r#"
    error: r.yaml: 1 mistake
      --set strategy.race.methods=[full, race]: expected a list out of linear, stages, partial, full, scratch, found ["full", "race"] with "race"
    "#);
    insta::assert_snapshot!(plan(&["strategy.race.folds=1"]).expect(2).told(), @"
    error: r.yaml: 1 mistake
      --set strategy.race.folds=1: expected a whole number from 2 to 100, found 1
    ");
    insta::assert_snapshot!(plan(&["weights=none"]).expect(2).told(), @"
    error: r.yaml: 1 mistake
      line 5: strategy.method: without pretrained weights (`weights: none`) there is nothing to race: the methods that keep stages would keep random ones. Take `method: scratch`
    ");
    insta::assert_snapshot!(plan(&["train.batch_size=1", "train.batch_norm=train"]).expect(2).told(), @"
    error: r.yaml: 1 mistake
      --set train.batch_size=1: BatchNorm cannot learn from one image at a time: take 2 or more, or set `train.batch_norm: inference`
    ");
    insta::assert_snapshot!(plan(&["strategy.method=full", "strategy.race.folds=4"]).expect(0).notes(), @"note: `strategy.race.folds` is not used by `method: full`");
    let run = plan(&["strategy.size=little", "train.momentum=0.8", "strategy.read=[features]"]).expect(0);
    assert!(
        !run.stderr.contains("train.momentum") && !run.stderr.contains("strategy.read"),
        "{}",
        run.stderr
    );
    insta::assert_snapshot!(run.notes(), @"note: `strategy.size` is not used by `method: race`");
    run.says(&["linear, stages, partial, full: each learns from"]);
    let run = plan(&["strategy.race.methods=[linear, stages]", "train.momentum=0.8"]).expect(0);
    insta::assert_snapshot!(run.notes(), @"
    note: `augment.flip` is not used by `method: race`
    note: `augment.ratio` is not used by `method: race`
    note: `augment.scale` is not used by `method: race`
    note: `train.momentum` is not used by `method: race`
    ");

    let rows = String::from_utf8(lab.read("train.csv")).unwrap();
    let singles: Vec<&str> = rows.lines().take(1).chain(rows.lines().skip(1).step_by(3)).collect();
    lab.write("train.csv", singles.join("\n"));
    insta::assert_snapshot!(plan(&[]).expect(2).told(), @"
    error: r.yaml: 1 mistake
      line 5: strategy.method: a race holds images out, and no class has two images to train on: add images, or choose a method (`linear` for so few)
    ");
    // One class of one image is learnt from, and not held out.
    let most: Vec<&str> = rows.lines().take(1).chain(rows.lines().skip(3)).collect();
    lab.write("train.csv", most.join("\n"));
    let run = lab.finetuned("run", &[&QUICK[..], &["strategy.race.methods=[linear, full]"]].concat());
    insta::assert_snapshot!(run.message("one training image alone"), @"note: 1 class has one training image alone, which the race learns from and does not hold out");
    assert_eq!(lab.json("run/report.json")["race"]["images"], 27);
}

/// A model made by `stages` has no stages to choose, and none for `partial` to train.
#[test]
fn a_model_that_stages_made_can_race_too() {
    let lab = lab(4);
    lab.finetuned("first", &["strategy.method=stages", "strategy.read=[stage2.3]"]);
    let text = String::from_utf8(lab.read("r.yaml")).unwrap();
    let weights = text.lines().find(|line| line.starts_with("weights:")).unwrap();
    lab.write("r.yaml", text.replace(weights, "").replace("model: shufflenet_v2_x0_5", "model: first"));
    lab.finetuned("run", &QUICK).says(&["race        linear, full: each learns from", "full, fold 3 of 3"]);
    let run = lab.finetune("named", &["strategy.race.methods=[linear, stages]"]).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: r.yaml: 1 mistake
      line 5: strategy.method: the model was made by `stages`, and its stages are chosen: `linear` fits a new head to them
    ");
}

#[test]
fn bad_images_are_left_out_and_other_images_are_another_race() {
    let lab = lab(3);
    let rows = String::from_utf8(lab.read("train.csv")).unwrap();
    let first = rows.lines().nth(1).unwrap().split(',').next().unwrap().to_string();
    lab.write("own.png", "no image");
    lab.write("train.csv", rows.replace(&first, "own.png"));
    let sets = [&QUICK[..], &["strategy.race.methods=[linear, partial]"]].concat();
    let child = lab.finetune("run", &sets).spawn();
    stop_after(child, "linear, fold 3 of 3", Duration::ZERO, "TERM").expect(143);
    lab.write("own.png", std::fs::read(&first).unwrap());
    let run = lab.finetune("run", &sets).arg("--resume").run().expect(1);
    insta::assert_snapshot!(run.notes(), @"error: run/race.jsonl: was measured on other images: which of them can be read has changed since. Bring them back as they were, or start afresh with `--overwrite`");
    lab.write("own.png", "no image");
    let good = lab.read("run/race.jsonl");
    let changed = String::from_utf8(good.clone()).unwrap().replacen("true", "false", 1).into_bytes();
    for bytes in [&good[..good.len() / 2], &changed, b"{}\n", b"\xff"] {
        lab.write("run/race.jsonl", bytes);
        let run = lab.finetune("run", &sets).arg("--resume").run().expect(1);
        run.says(&[
            "run/race.jsonl: line ",
            ": is damaged, or is not what a race has written; `--overwrite`",
        ]);
    }
    lab.write("run/race.jsonl", &good);
    lab.finetune("run", &sets).arg("--resume").run().expect(0);
    assert_eq!(lab.json("run/report.json")["race"]["images"], 29);
}
