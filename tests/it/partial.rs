//! Fine-tuning in steps: the frozen prefix computed once, the head fitted first, rates that
//! decrease down the chain, gradual unfreezing of stages.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::digits::Lab;
use crate::model_file::tensors;
use crate::program::{answer, repository};

const STILL: &str = "augment={ random_resized_crop: false, flip: 0 }";

/// The greatest distance of two sets of tensors, relative to the norm of each tensor, or to 0.1 if
/// that is smaller: a tensor without gradient except for rounding (a bias before a BatchNorm) has
/// no size either.
fn distance(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f64 {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let relative = |key: &String| {
        let differences = &mut a[key].iter().zip(&b[key]).map(|(&x, &y)| f64::from(x) - f64::from(y));
        norm(differences) / norm(&mut a[key].iter().map(|&x| f64::from(x))).max(0.1)
    };
    a.keys().map(relative).fold(0., f64::max)
}

fn passes(report: &Value) -> Vec<(String, String, u64, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let rows = report["passes"].as_array().unwrap().iter();
    rows.map(|row| {
        let (images, times) = (row["images"].as_u64().unwrap(), row["times"].as_u64().unwrap());
        (text(&row["part"]), text(&row["stages"]), images, times)
    })
    .collect()
}

fn rows(expected: &[(&str, &str, u64, u64)]) -> Vec<(String, String, u64, u64)> {
    expected
        .iter()
        .map(|&(part, stages, images, times)| (part.into(), stages.into(), images, times))
        .collect()
}

#[test]
fn a_kept_prefix_gives_the_same_weights() {
    let lab = Lab::of("partial", 6);
    for (name, sets) in [("still", &[STILL, "train.batch_size=13"][..]), ("views", &["train.kept_views=2"])] {
        let run = |out: &str, more: &[&str]| {
            let out = format!("{name}-{out}");
            // As the networks are trained: folded, both are others in the last digits, which
            // training makes more of.
            lab.finetune(&out, &[sets, more].concat()).env("TL_UNFOLDED", "1").run().expect(0);
            tensors(&lab.path(&format!("{out}/checkpoint/last.safetensors")), "network.")
        };
        let never = run("never", &["train.keep=never"]);
        let memory = run("memory", &[]);
        // All of it in the file.
        let file = run("file", &["train.keep_memory=0"]);
        assert!(memory == file, "{name}: the file changes a bit");
        let found = distance(&never, &memory);
        println!("{name}: kept against not kept, relative distance {found:.2e}");
        assert!(found < 1e-5, "{name}: {found}");
        // It has been trained: this is no comparison of what does not move.
        let start = tensors(&repository("data/shufflenet_v2_x0_5-letters.safetensors"), "");
        let moved = |key: &str| never[key] != start[key];
        assert!(moved("stage4.0.branch2.0.weight") && !moved("stage3.0.branch2.0.weight"));
        // Nothing is left behind.
        assert_eq!(crate::digits::names(&lab.path(&format!("{name}-file/checkpoint"))), ["last.safetensors"]);
    }
}

#[test]
fn the_report_says_how_often_images_went_through_which_stages() {
    let lab = Lab::of("partial", 6);
    let (prefix, rest, all) = ("conv1 to stage3.7", "stage4.0 to fc", "conv1 to fc");
    lab.finetuned("still", &[STILL, "train.epochs=3"]);
    let expected = rows(&[
        ("train", prefix, 60, 1),
        ("train", rest, 60, 4),
        ("val", prefix, 40, 1),
        ("val", rest, 40, 5),
        ("test", all, 40, 1),
        // Once more at the end, for the temperature and what tells strangers.
        ("train", all, 60, 1),
        ("val", all, 40, 1),
    ]);
    assert_eq!(passes(&lab.json("still/report.json")), expected);
    let page = String::from_utf8(lab.read("still/report.html")).unwrap();
    assert!(page.contains("<td>conv1 to stage3.7</td><td>60 train</td><td>1</td>"), "{page}");

    lab.finetuned("views", &["train.epochs=3", "train.kept_views=2"]);
    let expected = rows(&[("train", prefix, 120, 1), ("train", rest, 60, 3), ("train", all, 60, 1)]);
    assert_eq!(passes(&lab.json("views/report.json"))[..3], expected);

    // As many views as epochs: keeping them would save nothing.
    let run = lab.finetuned("many", &["train.epochs=3", "train.kept_views=3"]);
    insta::assert_snapshot!(run.message("kept_views: 3"), @"note: `kept_views: 3` is not below `epochs: 3`: each epoch sees new views, and none is kept");
    assert_eq!(passes(&lab.json("many/report.json"))[0], rows(&[("train", all, 60, 4)])[0]);

    let sets = [STILL, "train.epochs=3", "train.keep_memory=0", "train.keep_disk=0"];
    insta::assert_snapshot!(lab.finetuned("no-room", &sets).message("would take"), @"note: the output of the frozen stages for the training images would take 0.00 GB, more than `train.keep_memory` and `train.keep_disk` allow: it is computed anew in each epoch");
    assert_eq!(passes(&lab.json("no-room/report.json"))[0], rows(&[("train", all, 60, 4)])[0]);
}

#[test]
fn the_head_that_partial_begins_with_is_that_of_linear() {
    let lab = Lab::of("partial", 6);
    lab.finetuned("linear", &["strategy.method=linear"]);
    lab.finetuned("partial", &["train.epochs=2"]).says(&["linear head: C = "]);
    lab.finetuned("full", &["strategy.method=full", "train.epochs=2", "train.linear_head_first=true"]);
    let linear = lab.json("linear/report.json");
    for out in ["partial", "full"] {
        let head = &lab.json(&format!("{out}/report.json"))["linear_head"];
        assert_eq!(head["c"], linear["linear"]["c"], "{out}");
        assert_eq!(head["val_accuracy"], linear["val"]["accuracy"], "{out}");
        let (found, expected) = (head["val_loss"].as_f64().unwrap(), linear["val"]["loss"].as_f64().unwrap());
        assert!((found - expected).abs() < 1e-5 * expected, "{out}: {found} {expected}");
    }
    // With a rate of next to nothing the head stays what it was, and the best epoch is no better.
    let sets = ["train.lr=1e-9", "train.head_lr=1e-9", "train.epochs=2", "train.batch_norm=inference"];
    let run = lab.finetuned("still", &sets);
    run.says(&["no epoch of fine-tuning has beaten the fitted head"]);
    let report = lab.json("still/report.json");
    assert_eq!(report["linear_head"]["val_accuracy"], report["best"]["val_accuracy"]);
    let (linear, still) = (lab.path("linear/model.safetensors"), lab.path("still/model.safetensors"));
    assert!(distance(&tensors(&linear, "fc."), &tensors(&still, "fc.")) < 1e-5);

    lab.finetuned("without", &["train.epochs=1", "train.linear_head_first=false"]);
    assert!(lab.json("without/report.json").get("linear_head").is_none());
}

#[test]
fn rates_follow_from_the_head_and_the_method() {
    let lab = Lab::of("partial", 2);
    let plan = |sets: &[&str]| -> serde_yaml::Value {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let run = lab.tl(&["plan", "r.yaml", "--set", "train={ lr: 0.01 }"]).args(sets).run().expect(0);
        serde_yaml::from_str(&run.stdout).unwrap()
    };
    let head_lr = |sets: &[&str]| plan(sets)["train"]["head_lr"].as_f64().unwrap();
    assert_eq!(head_lr(&[]), 0.01);
    assert_eq!(head_lr(&["train.linear_head_first=false"]), 0.1);
    assert_eq!(head_lr(&["strategy.method=full"]), 0.01);
    assert_eq!(head_lr(&["strategy.method=full", "train.linear_head_first=false"]), 0.1);
    assert_eq!(head_lr(&["strategy.method=full", "train.batch_norm=train"]), 0.1);
    let batch_norm = |sets: &[&str]| plan(sets)["train"]["batch_norm"].as_str().unwrap().to_string();
    assert_eq!(batch_norm(&["strategy.method=full"]), "inference");
    assert_eq!(batch_norm(&["strategy.method=scratch"]), "train");
    let clip = |sets: &[&str]| plan(sets)["train"]["clip_grad_norm"].as_f64();
    assert_eq!(clip(&[]), Some(1.));
    assert_eq!(clip(&["train.clip_grad_norm=3"]), Some(3.));
    assert_eq!(clip(&["train.linear_head_first=false"]), None);
    let groups = |sets: &[&str]| serde_json::to_value(&plan(sets)["train"]["groups"]).unwrap();
    let full = ["strategy.method=full", "train.layer_decay=0.5", "train.unfreeze_epochs=2"];
    let group =
        |stages: &str, lr: f64, from: usize| json!({ "stages": stages, "lr": lr, "from_epoch": from });
    let expected = json!([
        group("conv1", 0.000625, 9),
        group("stage2", 0.00125, 7),
        group("stage3", 0.0025, 5),
        group("stage4", 0.005, 3),
        group("conv5", 0.01, 1)
    ]);
    assert_eq!(groups(&full), expected);
    assert_eq!(
        groups(&["train.unfreeze_epochs=3"]),
        json!([group("stage4", 0.01, 4), group("conv5", 0.01, 1)])
    );
    let run = lab.tl(&["plan", "r.yaml", "--set", "train.unfreeze_epochs=9"]).run().expect(0);
    insta::assert_snapshot!(run.notes(), @"note: `unfreeze_epochs: 9` leaves no epoch for `stage4` and what is before it: they would join in epoch 10 of 6");
    // A head that is no linear layer cannot be fitted.
    let run = lab
        .tl(&["plan", "r.yaml", "--set", "model=squeezenet1_1", "--set", "weights=none"])
        .args(["--set", "train.linear_head_first=true"])
        .run();
    insta::assert_snapshot!(run.expect(0).notes(), @"
    note: `train.linear_head_first` needs a last layer that is linear, which that of squeezenet1_1 is not: the head starts from random values
    note: `weights: none` with a method that freezes stages: they keep random values, and what they see carries little; `method: scratch` trains them all
    ");
    let sets = [
        "train={ keep: never, keep_disk: 5 }",
        "train={ linear_head_first: false, c: 5 }",
        "strategy.method=scratch",
        "strategy.method=full",
    ];
    let mut answers = String::new();
    for set in sets {
        let both = ["--set", "train={ layer_decay: 0.5, kept_views: 1 }", "--set", set];
        let run = lab.tl(&["plan", "r.yaml"]).args(both).run().expect(0);
        answers += &answer("$", set, &run.notes());
    }
    insta::assert_snapshot!(answers, @"
    $ train={ keep: never, keep_disk: 5 }
    note: `train.keep_disk` is not used by `keep: never`

    $ train={ linear_head_first: false, c: 5 }
    note: `train.c` is not used by `linear_head_first: false`

    $ strategy.method=scratch
    note: `train.kept_views` is not used by `method: scratch`
    note: `train.layer_decay` is not used by `method: scratch`
    note: `method: scratch` starts from random values: only the preprocessing of `weights` is used

    $ strategy.method=full
    note: `train.kept_views` is not used by `method: full`
    ");
}

/// One step of plain gradient descent, with and without the rates of `layer_decay`.
#[test]
fn each_group_moves_by_its_own_rate() {
    let lab = Lab::of("full", 2);
    let start = tensors(&repository("data/shufflenet_v2_x0_5-letters.safetensors"), "");
    let moved = |decay: &str| {
        let train = format!(
            "train={{ epochs: 1, batch_size: 20, lr: 0.01, momentum: 0, weight_decay: 0, warmup_epochs: 0, \
             schedule: constant, batch_norm: inference, clip_grad_norm: 1e9, linear_head_first: true, layer_decay: {decay} }}"
        );
        lab.finetuned(&format!("run-{decay}"), &[&train, STILL]);
        tensors(&lab.path(&format!("run-{decay}/model.safetensors")), "")
    };
    let (whole, half) = (moved("1"), moved("0.5"));
    let groups = [("conv1.", 4), ("stage2.", 3), ("stage3.", 2), ("stage4.", 1), ("conv5.", 0)];
    for (group, depth) in groups {
        let (mut one, mut other) = (0., 0.);
        for key in start.keys().filter(|key| key.starts_with(group)) {
            for ((start, whole), half) in start[key].iter().zip(&whole[key]).zip(&half[key]) {
                one += f64::from(whole - start).powi(2);
                other += f64::from(half - start).powi(2);
            }
        }
        let ratio = (other / one).sqrt();
        let expected = 0.5f64.powi(depth);
        // The differences are of floats that are much larger than they.
        assert!((ratio / expected - 1.).abs() < 0.01, "{group}: {ratio}, expected {expected}");
    }
}

#[test]
fn stages_join_one_group_after_the_other() {
    let lab = Lab::of("full", 4);
    let start = tensors(&repository("data/shufflenet_v2_x0_5-letters.safetensors"), "");
    let moved = |head_first: bool, epochs: usize| -> Vec<&'static str> {
        let out = format!("run-{head_first}-{epochs}");
        let epochs = format!("train.epochs={epochs}");
        let head = format!("train.linear_head_first={head_first}");
        let sets =
            [&head, &epochs, "train.unfreeze_epochs=1", "train.batch_norm=train", "train.warmup_epochs=0"];
        lab.finetuned(&out, &sets);
        let end = tensors(&lab.path(&format!("{out}/checkpoint/last.safetensors")), "network.");
        let groups = ["conv1.", "stage2.", "stage3.", "stage4.", "conv5."];
        let keys = |group: &str| start.keys().filter(move |key| key.starts_with(group)).collect::<Vec<_>>();
        // Running statistics are among the tensors: they must not move before their group's turn
        // either.
        groups.into_iter().filter(|group| keys(group).into_iter().any(|key| start[key] != end[key])).collect()
    };
    assert_eq!(moved(true, 1), ["conv5."]);
    assert_eq!(moved(true, 2), ["stage4.", "conv5."]);
    // A head that comes from random values has the first epoch to itself.
    assert_eq!(moved(false, 1), [""; 0]);
    assert_eq!(moved(false, 2), ["conv5."]);
}
