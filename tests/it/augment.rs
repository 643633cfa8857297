//! Runs with augmented images, mixed batches and averaged weights.

use std::collections::HashMap;
use std::time::Duration;

use safetensors::SafeTensors;

use crate::digits::Lab;
use crate::program::answers;
use crate::resume::{assert_same_result, stop_after};

/// All changes at once, and no warm-up, so that the average begins at once.
const ALL: [&str; 8] = [
    "augment.vertical_flip=0.5",
    "augment.policy=randaugment",
    "augment.color_jitter={brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1}",
    "augment.pca_color=0.1",
    "train.mixup=0.2",
    "train.cutmix=1",
    "train.ema=0.9",
    "train.warmup_epochs=0",
];

#[test]
fn a_run_with_mixed_images_and_averaged_weights_goes_on_as_if_nothing_had_been() {
    for (method, name, code, more) in [
        ("full", "INT", 130, &["train.class_weights=balanced", "train.label_smoothing=0.1"][..]),
        ("partial", "TERM", 143, &["augment.policy=trivialaugment", "train.warmup_epochs=2"]),
        ("scratch", "INT", 130, &["augment.policy=autoaugment", "model=googlenet"]),
    ] {
        let lab = Lab::of(method, 4);
        let sets = [&ALL, more, &["train.epochs=4", "train.batch_size=9"]].concat();
        lab.finetuned("whole", &sets);
        let child = lab.finetune("cut", &sets).spawn();
        stop_after(child, "epoch 2/4", Duration::from_millis(40), name).expect(code);
        lab.finetune("cut", &sets).arg("--resume").run().expect(0);
        assert_same_result(&lab, "whole", "cut");
    }
}

/// Every float of a model file, by key.
fn weights(lab: &Lab, out: &str) -> HashMap<String, Vec<f32>> {
    let bytes = lab.read(&format!("{out}/model.safetensors"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32)
        .map(|(key, view)| {
            let floats = view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
            (key.to_string(), floats.collect())
        })
        .collect()
}

fn distance(a: &HashMap<String, Vec<f32>>, b: &HashMap<String, Vec<f32>>) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences =
        a.iter().flat_map(|(key, values)| values.iter().zip(&b[key]).map(|(x, y)| (x - y).abs()));
    differences.fold(0.0, f32::max)
}

/// One epoch of few steps with a constant rate: the average lies between the start and the end, and
/// equals the end with a tiny decay.
#[test]
fn the_model_that_is_kept_is_the_average() {
    let lab = Lab::of("full", 4);
    let common =
        ["train.epochs=1", "train.schedule=constant", "train.warmup_epochs=0", "train.batch_norm=train"];
    let run = |out: &str, sets: &[&str]| {
        lab.finetuned(out, &[&common[..], sets].concat());
        weights(&lab, out)
    };
    let end = run("end", &[]);
    let barely = run("barely", &["train.ema=1e-7"]);
    let half = run("half", &["train.ema=0.5"]);
    let slow = run("slow", &["train.ema=0.9"]);
    assert!(distance(&end, &barely) < 1e-5, "{}", distance(&end, &barely));
    let (near, far) = (distance(&end, &half), distance(&end, &slow));
    assert!(1e-3 < near && near < far, "{near} {far}");
    // Running statistics too.
    let key = end.keys().find(|key| key.ends_with("running_mean")).unwrap();
    assert!(end[key] != slow[key]);
    // During the warm-up it follows the weights.
    let warm = run("warm", &["train.ema=0.9", "train.warmup_epochs=1"]);
    let warm_end = run("warm_end", &["train.warmup_epochs=1"]);
    assert!(warm == warm_end);
}

#[test]
fn averaging_moves_nothing_that_is_frozen() {
    let lab = Lab::of("partial", 4);
    lab.finetuned("one", &["train.epochs=1", "train.ema=0.7"]);
    lab.finetuned("two", &["train.epochs=2", "train.ema=0.999"]);
    let (one, two) = (weights(&lab, "one"), weights(&lab, "two"));
    let still = |key: &str| key.starts_with("conv1") || key.starts_with("stage2");
    assert!(one.keys().filter(|key| still(key)).count() > 20);
    assert!(one.iter().filter(|(key, _)| still(key)).all(|(key, values)| *values == two[key]));
    assert!(one["fc.weight"] != two["fc.weight"]);
}

/// Each of the changes alone has an effect, which the seed determines.
#[test]
fn every_change_trains_and_equal_seeds_give_equal_runs() {
    let lab = Lab::of("full", 4);
    let common = ["train.epochs=1", "train.batch_size=16"];
    let model = |out: &str, sets: &[&str]| {
        lab.finetuned(out, &[&common[..], sets].concat());
        weights(&lab, out)
    };
    let plain = model("plain", &[]);
    for (number, set) in [
        "augment.scale_jitter=[32, 48]",
        "augment.vertical_flip=0.5",
        "augment.policy=autoaugment",
        "augment.policy=randaugment",
        "augment.policy=trivialaugment",
        "augment.color_jitter={contrast: 0.4}",
        "augment.pca_color=0.1",
        "train.mixup=0.4",
        "train.cutmix=1",
    ]
    .iter()
    .enumerate()
    {
        let first = model(&format!("first{number}"), &[set]);
        assert!(first != plain, "{set} changes nothing");
        assert!(
            first == model(&format!("again{number}"), &[set]),
            "{set} has another result the second time"
        );
    }
    let off = ["augment.vertical_flip=0", "augment.pca_color=0", "augment.policy=none", "train.mixup=0"];
    assert!(plain == model("off", &off));
}

#[test]
fn what_the_plan_says_of_them() {
    let lab = Lab::of("full", 2);
    let sets = ["augment.scale_jitter=[40, 50]", "augment.policy=randaugment", "augment.magnitude=5"];
    let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let run = lab.tl(&[&["plan", "r.yaml"], &args[..]].concat()).run().expect(0);
    let plan: serde_yaml::Value = serde_yaml::from_str(&run.stdout).unwrap();
    let augment = &plan["augment"];
    assert_eq!(augment["random_resized_crop"], false);
    assert_eq!(augment["policy"]["name"], "randaugment");
    assert_eq!(
        (augment["policy"]["num_ops"].as_u64(), augment["policy"]["magnitude"].as_u64()),
        (Some(2), Some(5))
    );
    // Lab's recipe gives `scale` and `ratio`.
    insta::assert_snapshot!(run.notes(), @"
    note: `augment.ratio` is not used by `scale_jitter`
    note: `augment.scale` is not used by `scale_jitter`
    ");
    let unused = |sets: &[&str], method: &str, notes: &[&str]| {
        let method = format!("strategy.method={method}");
        let args: Vec<&str> = sets.iter().chain([&method.as_str()]).flat_map(|set| ["--set", set]).collect();
        let run = lab.tl(&[&["plan", "r.yaml"], &args[..]].concat()).run().expect(0);
        for note in notes {
            assert_eq!(run.stderr.matches(note).count(), 1, "{note}:\n{}", run.stderr);
        }
    };
    unused(
        &["augment.num_ops=3", "augment.policy=trivialaugment"],
        "full",
        &["`augment.num_ops` is not used by `policy: trivialaugment`"],
    );
    unused(&["augment.magnitude=3"], "full", &["`augment.magnitude` is not used by `policy: none`"]);
    unused(
        &["augment.color_jitter={hue: 0.1}", "train.ema=0.9", "augment.scale_jitter=[1, 2]"],
        "linear",
        &[
            "`augment.color_jitter.hue` is not used by `method: linear`",
            "`train.ema` is not used by `method: linear`",
            "`augment.scale_jitter` is not used by `method: linear`",
        ],
    );
}

#[test]
fn what_is_wrong_with_them_is_told() {
    let lab = Lab::of("full", 2);
    let sets = [
        "augment={scale_jitter: [40, 50], random_resized_crop: true}",
        "augment.scale_jitter=[20, 50]",
        "augment.scale_jitter=[50, 40]",
        "augment.scale_jitter=[40.5, 50]",
        "augment.scale_jitter=[40]",
        "augment.color_jitter.hue=0.6",
        "augment.color_jitter.colour=0.6",
        "augment.color_jitter=0.4",
        "augment.policy=rand_augment",
        "augment.magnitude=31",
        "augment.num_ops=0",
        "train.ema=1",
        "train.mixup=-1",
    ];
    let calls = sets.map(|set| ["plan", "r.yaml", "--set", set]);
    let answers = answers(&calls, |args| lab.tl(args).run().expect(2));
    insta::assert_snapshot!(answers, @r#"
    $ plan r.yaml --set augment={scale_jitter: [40, 50], random_resized_crop: true}
    error: r.yaml: 1 mistake
      --set augment={scale_jitter: [40, 50], random_resized_crop: true}: augment.scale_jitter: is another way to choose a part of the image than `random_resized_crop`: keep one of the two

    $ plan r.yaml --set augment.scale_jitter=[20, 50]
    error: r.yaml: 1 mistake
      --set augment.scale_jitter=[20, 50]: expected [least, greatest] from the crop size, 32 pixels, to 4096, found [20, 50]

    $ plan r.yaml --set augment.scale_jitter=[50, 40]
    error: r.yaml: 1 mistake
      --set augment.scale_jitter=[50, 40]: expected `[low, high]`, two whole numbers from 1 to 4096, found [50, 40]; the lower one comes first

    $ plan r.yaml --set augment.scale_jitter=[40.5, 50]
    error: r.yaml: 1 mistake
      --set augment.scale_jitter=[40.5, 50]: expected `[low, high]`, two whole numbers from 1 to 4096, found [40.5, 50]

    $ plan r.yaml --set augment.scale_jitter=[40]
    error: r.yaml: 1 mistake
      --set augment.scale_jitter=[40]: expected `[low, high]`, two whole numbers from 1 to 4096, found [40]

    $ plan r.yaml --set augment.color_jitter.hue=0.6
    error: r.yaml: 1 mistake
      --set augment.color_jitter.hue=0.6: expected a number from 0 to 0.5, found 0.6

    $ plan r.yaml --set augment.color_jitter.colour=0.6
    error: --set augment.color_jitter.colour=0.6: unknown key augment.color_jitter.colour; known in augment.color_jitter: brightness, contrast, saturation, hue

    $ plan r.yaml --set augment.color_jitter=0.4
    error: r.yaml: 1 mistake
      --set augment.color_jitter=0.4: expected a section (`key: value` lines), found 0.4

    $ plan r.yaml --set augment.policy=rand_augment
    error: r.yaml: 1 mistake
      --set augment.policy=rand_augment: expected one of none, autoaugment, randaugment, trivialaugment, found the text "rand_augment"; did you mean randaugment?

    $ plan r.yaml --set augment.magnitude=31
    error: r.yaml: 1 mistake
      --set augment.magnitude=31: expected a whole number from 0 to 30, found 31

    $ plan r.yaml --set augment.num_ops=0
    error: r.yaml: 1 mistake
      --set augment.num_ops=0: expected a whole number from 1 to 16, found 0

    $ plan r.yaml --set train.ema=1
    error: r.yaml: 1 mistake
      --set train.ema=1: expected a number between 0 and 1 (both excluded), found 1

    $ plan r.yaml --set train.mixup=-1
    error: r.yaml: 1 mistake
      --set train.mixup=-1: expected a number from 0 up, found -1
    "#);
}
