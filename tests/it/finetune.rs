//! `tl finetune` end to end: each method, the run folder, the report, bad data.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::digits::{Lab, images, names};
use crate::model_file::header;

/// What a finished run leaves.
pub const FILES: [&str; 7] = [
    "MODEL_CARD.md",
    "checkpoint",
    "metrics.jsonl",
    "model.safetensors",
    "plan.yaml",
    "report.html",
    "report.json",
];

/// Checks the contract of DESIGN.md on a finished run of any method.
fn check_run(lab: &Lab, out: &str, method: &str, train: usize, at_least: f64) {
    let folder = lab.path(out);
    assert_eq!(names(&folder), FILES);

    let report = lab.json(&format!("{out}/report.json"));
    assert_eq!(report["method"], method);
    assert!(!report["reason"].as_str().unwrap().is_empty());
    assert_eq!(report["model"], "shufflenet_v2_x0_5");
    assert_eq!(report["classes"], serde_json::json!(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]));
    assert_eq!(report["seed"], 7);
    assert_eq!((&report["train"]["images"], &report["val"]["images"]), (&train.into(), &40.into()));
    assert!(report["seconds"].as_object().unwrap().values().all(|seconds| seconds.as_f64().unwrap() >= 0.));
    assert!(report["seconds"].as_object().unwrap().len() >= 3);
    let epochs = report["epochs"].as_array().unwrap();
    for (index, epoch) in epochs.iter().enumerate() {
        assert_eq!(epoch["epoch"], index + 1);
        assert!(epoch["train_loss"].as_f64().unwrap() >= 0. && epoch["val_loss"].as_f64().unwrap() >= 0.);
        assert!((0. ..=1.).contains(&epoch["val_accuracy"].as_f64().unwrap()));
    }
    // Of the last quarter's epochs the one with the highest accuracy is kept, of equals the one
    // with the lowest loss, and its model is the one that is measured at the end.
    let accuracy = |epoch: &Value| epoch["val_accuracy"].as_f64().unwrap();
    let loss = |epoch: &Value| epoch["val_loss"].as_f64().unwrap();
    let last = &epochs[epochs.len() * 3 / 4..];
    let highest = last.iter().map(accuracy).fold(0., f64::max);
    let equals = last.iter().filter(|epoch| accuracy(epoch) == highest);
    let kept = equals.min_by(|a, b| loss(a).total_cmp(&loss(b))).unwrap();
    let first = kept["epoch"].as_u64().unwrap() as usize - 1;
    assert!(!report["best_reason"].as_str().unwrap().is_empty());
    assert_eq!(report["best"], serde_json::json!({ "epoch": first + 1, "val_accuracy": highest }));
    assert_eq!(report["val"]["accuracy"], highest);
    assert!(
        (report["val"]["loss"].as_f64().unwrap() - epochs[first]["val_loss"].as_f64().unwrap()).abs() < 1e-9
    );
    let test = report["test"]["accuracy"].as_f64().unwrap();
    assert!(highest >= at_least && test >= at_least - 0.25 && test <= 1., "val {highest}, test {test}");
    assert_eq!(report["frozen"]["sha256"].as_str().unwrap().len(), 64);

    let metrics = String::from_utf8(lab.read(&format!("{out}/metrics.jsonl"))).unwrap();
    let rows: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&rows, epochs);

    check_model(&lab.read(&format!("{out}/model.safetensors")), lab);
}

/// Torchvision's keys, and one metadata entry without place or time.
fn check_model(bytes: &[u8], lab: &Lab) {
    let header = header(bytes);
    let metadata = header["__metadata__"].as_object().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["tl"]);
    let text = metadata["tl"].as_str().unwrap();
    let card: Value = serde_json::from_str(text).unwrap();
    // `serde_json` sorts keys here, so that equal texts mean sorted keys there.
    assert_eq!(serde_json::to_string(&card).unwrap(), text);
    assert_eq!(card["architecture"], "shufflenet_v2_x0_5");
    assert_eq!(card["format"], 1);
    assert_eq!(card["classes"].as_array().unwrap().len(), 10);
    assert_eq!(card["preprocessing"]["crop_size"], 32);
    assert_eq!(card["recipe"]["seed"], 7);
    assert!(card["recipe"].get("out").is_none());
    for path in [lab.path("").to_str().unwrap(), env!("CARGO_MANIFEST_DIR")] {
        assert!(!text.contains(path), "{text}");
    }
    let keys: BTreeSet<&String> = header.as_object().unwrap().keys().collect();
    for key in ["conv1.0.weight", "conv1.1.num_batches_tracked", "stage4.3.branch2.6.running_var", "fc.bias"]
    {
        assert!(keys.contains(&key.to_string()), "{key} is missing");
    }
    assert_eq!(header["fc.weight"]["shape"], serde_json::json!([10, 1024]));
}

/// The model of a run classifies the images that it was tested on.
fn check_prediction(lab: &Lab, out: &str, at_least: f64) {
    let tests = images("test", 0, 4);
    let paths: Vec<&str> = tests.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    let run = lab.tl(&["predict", "--model", out, "--out", "p.jsonl"]).args(&paths).run().expect(0);
    let text = String::from_utf8(lab.read("p.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), tests.len(), "{run:?}");
    let right = rows
        .iter()
        .filter(|row| {
            let class =
                tests.iter().find(|(path, _)| row["path"] == path.to_str().unwrap()).map(|(_, class)| class);
            row["label"].as_str() == class.map(String::as_str)
        })
        .count();
    let accuracy = right as f64 / tests.len() as f64;
    let test = lab.json(&format!("{out}/report.json"))["test"]["accuracy"].as_f64().unwrap();
    assert!((accuracy - test).abs() < 1e-9, "predict says {accuracy}, the report {test}");
    assert!(accuracy >= at_least, "{accuracy}");
}

#[test]
fn linear_end_to_end() {
    let lab = Lab::of("linear", 6);
    lab.finetuned("run", &[]).says(&["10 classes", "60 training images", "linear head"]);
    check_run(&lab, "run", "linear", 60, 0.4);
    let report = lab.json("run/report.json");
    assert_eq!(report["epochs"].as_array().unwrap().len(), 1);
    assert_eq!(report["linear"]["converged"], true);
    assert!(report["linear"]["c"].as_f64().unwrap() > 0.);
    assert_eq!(report["frozen"]["stages"].as_array().unwrap().len(), 18);
    // Said once, and kept.
    assert_eq!(report["notes"].as_array().unwrap().len(), 3, "{}", report["notes"]);
    check_prediction(&lab, "run", 0.3);
}

#[test]
fn partial_end_to_end() {
    let lab = Lab::of("partial", 6);
    lab.finetuned("run", &[]).says(&["epoch 1/6", "epoch 6/6", "tl predict --model run"]);
    check_run(&lab, "run", "partial", 60, 0.35);
    let report = lab.json("run/report.json");
    let frozen = report["frozen"]["stages"].as_array().unwrap();
    assert!(!frozen.is_empty() && frozen.len() < 18);
    check_prediction(&lab, "run", 0.3);
}

#[test]
fn full_end_to_end() {
    let lab = Lab::of("full", 6);
    lab.finetuned("run", &[]);
    check_run(&lab, "run", "full", 60, 0.45);
    assert!(lab.json("run/report.json")["frozen"]["stages"].as_array().unwrap().is_empty());
    check_prediction(&lab, "run", 0.3);
}

#[test]
fn scratch_end_to_end() {
    // Without pretrained weights there is only this to ask for in a second: that it learns at all.
    let lab = Lab::of("scratch", 6);
    lab.finetuned("run", &[]);
    check_run(&lab, "run", "scratch", 60, 0.05);
    assert_eq!(lab.json("run/report.json")["weights"], "none");
    let losses: Vec<f64> = lab.json("run/report.json")["epochs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|epoch| epoch["train_loss"].as_f64().unwrap())
        .collect();
    assert!(losses[5] < losses[0], "{losses:?}");
}

#[test]
fn equal_runs_give_equal_bytes() {
    for method in ["linear", "full"] {
        let (here, there) = (Lab::of(method, 4), Lab::of(method, 4));
        let sets = ["train.epochs=2"];
        here.finetuned("a", &sets);
        there.finetuned("elsewhere/b", &sets);
        let model = here.read("a/model.safetensors");
        // (The CSVs name the same images: where a recipe stands is no part of a run.)
        assert!(model == there.read("elsewhere/b/model.safetensors"), "{method}: the bytes differ");
        here.finetuned("c", &["train.epochs=2", "seed=8"]);
        assert!(model != here.read("c/model.safetensors"), "{method}: the seed changes nothing");
    }
}

/// Parallel decoding must not change the network's input. libtorch's own sums may differ in the
/// last bits with its number of threads, so the test compares results that depend on order and not
/// on bits.
#[test]
fn the_number_of_threads_does_not_change_the_data() {
    let lab = Lab::of("full", 4);
    let losses = |out: &str, threads: &str| {
        let sets = ["train.epochs=1", "train.schedule=constant", "train.lr=1e-6", "train.head_lr=1e-6"];
        lab.finetune_with(threads, out, &sets).run().expect(0);
        let report = lab.json(&format!("{out}/report.json"));
        let epoch = &report["epochs"][0];
        (epoch["train_loss"].as_f64().unwrap(), epoch["val_loss"].as_f64().unwrap())
    };
    let (one, five) = (losses("one", "1"), losses("five", "5"));
    assert!((one.0 - five.0).abs() < 1e-6 && (one.1 - five.1).abs() < 1e-6, "{one:?} {five:?}");
}

#[test]
fn every_setting_of_the_training_runs() {
    let lab = Lab::of("full", 4);
    let common = ["train.epochs=2", "train.batch_size=13"];
    // 40 images by 13: the last one joins the batch before it, because BatchNorm cannot take it
    // alone.
    for (number, sets) in [
        ["train.class_weights=balanced", "train.label_smoothing=0.1", "train.clip_grad_norm=0.5"],
        ["train.optimizer=adamw", "train.schedule=step", "train.step_epochs=1"],
        ["train.schedule=plateau", "train.patience=1", "train.nesterov=true"],
        ["train.schedule=constant", "train.batch_norm=inference", "train.decay_norm_and_bias=true"],
        ["train.early_stopping=1", "train.warmup_epochs=2", "augment.random_resized_crop=false"],
    ]
    .iter()
    .enumerate()
    {
        let out = format!("run{number}");
        lab.finetuned(&out, &[&common[..], sets].concat());
        let epochs = lab.json(&format!("{out}/report.json"))["epochs"].clone();
        for epoch in epochs.as_array().unwrap() {
            assert!(epoch["train_loss"].as_f64().unwrap().is_finite(), "{sets:?}: {epoch}");
        }
    }
    let rates = |out: &str| -> Vec<f64> {
        let report = lab.json(&format!("{out}/report.json"));
        report["epochs"].as_array().unwrap().iter().map(|epoch| epoch["lr"].as_f64().unwrap()).collect()
    };
    let cut = rates("run1");
    assert!((cut[1] / cut[0] - 0.1).abs() < 1e-9, "{cut:?}");
    let constant = rates("run3");
    assert_eq!(constant, [0.02, 0.02]);
}

#[test]
fn early_stopping_stops_and_keeps_the_best() {
    let lab = Lab::of("full", 4);
    let sets = ["train.epochs=50", "train.early_stopping=2"];
    lab.finetuned("run", &sets);
    let report = lab.json("run/report.json");
    let epochs = report["epochs"].as_array().unwrap().len();
    assert!(epochs < 50, "40 images are learned by then");
    assert_eq!(report["best"]["epoch"], epochs - 2);
}

#[test]
fn the_kept_epoch_is_the_best_by_what_is_monitored() {
    let lab = Lab::of("full", 4);
    for (monitor, figure, sign) in [("loss", "val_loss", -1.), ("macro_f1", "val_macro_f1", 1.)] {
        // With a constant rate all epochs count.
        let sets = [format!("train.monitor={monitor}"), "train.schedule=constant".into()];
        let run = lab.finetuned(monitor, &[&sets[0], &sets[1]]);
        let report = lab.json(&format!("{monitor}/report.json"));
        let epochs = report["epochs"].as_array().unwrap();
        let worth = |epoch: &Value| sign * epoch[figure].as_f64().unwrap();
        let best = epochs.iter().map(worth).fold(f64::NEG_INFINITY, f64::max);
        let kept = report["best"]["epoch"].as_u64().unwrap() as usize;
        assert_eq!(worth(&epochs[kept - 1]), best, "{monitor}");
        let (name, word) = if monitor == "loss" { ("loss", "lowest") } else { ("macro F1", "best") };
        assert!(
            run.stderr.contains(&format!("the epoch with the best validation {name} is kept")),
            "{run:?}"
        );
        assert!(
            report["best_reason"].as_str().unwrap().starts_with(&format!("the {word} validation {name}"))
        );
    }
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_model() {
    let lab = Lab::of("full", 4);
    lab.finetune("at-once", &["train.lr=1e9"]).run().expect(1).says(&[
        "became NaN in epoch 1, step",
        "Lower `train.lr`",
        "there is no model yet",
    ]);
    // Warm-up over two epochs: the first is still harmless with this rate.
    let sets = [
        "train.lr=1e9",
        "train.head_lr=1e9",
        "train.batch_size=40",
        "train.warmup_epochs=4",
        "train.epochs=5",
    ];
    let run = lab.finetune("later", &sets).run().expect(1);
    assert!(run.stderr.contains("the training has diverged"), "{}", run.stderr);
    if lab.path("later/model.safetensors").exists() {
        assert!(
            run.stderr.contains("the best model so far is kept in later/model.safetensors"),
            "{}",
            run.stderr
        );
        header(&lab.read("later/model.safetensors"));
    }
    assert!(!lab.path("later/report.json").exists());
}

/// Class folders with some of the digits, and with files that are not images.
fn folders_with_bad_images(lab: &Lab) {
    for (path, class) in images("train", 0, 4).into_iter().filter(|(_, class)| class.as_str() < "3") {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        lab.write(&format!("photos/{class}/{name}"), fs::read(path).unwrap());
    }
    let jpeg = fs::read(crate::program::repository("data/photos/china.jpg")).unwrap();
    lab.write("photos/0/half.jpg", &jpeg[..jpeg.len() / 2]);
    lab.write("photos/1/text.png", "this is no image");
    lab.write("photos/1/empty.png", "");
    lab.write("photos/2/bomb.png", bomb());
    lab.write("photos/2/.hidden.png", "no image, and nobody looks");
    lab.write("photos/2/notes.txt", "not asked for");
    fs::create_dir(lab.path("photos/nothing")).unwrap();
    fs::create_dir(lab.path("photos/.cache")).unwrap();
}

/// A PNG whose header claims 50,000 by 50,000 pixels.
fn bomb() -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(&body);
        file.extend(crc32fast::hash(&body).to_be_bytes());
    };
    let side = 50_000u32.to_be_bytes();
    chunk(b"IHDR", &[&side[..], &side[..], &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &vec![0; 300_000]);
    chunk(b"IEND", &[]);
    file
}

#[test]
fn bad_images_are_left_out_and_counted() {
    let lab = Lab::of("linear", 4);
    folders_with_bad_images(&lab);
    let sets = ["data={ train: photos, val: 0.25 }"];
    let run = lab.finetune("run", &sets).run().expect(0);
    insta::assert_snapshot!(run.message("cannot be used"), @"
    4 of 16 images cannot be used and are left out:
      photos/1/empty.png: the file is empty; copy or download it again
      photos/1/text.png: is a text file, not an image
      photos/2/bomb.png: is 50000x50000 = 2500 megapixels, over the limit of 179; raise it (`--max-pixels`, a recipe's `data.max_pixels`) if the size is meant
      photos/0/half.jpg: the JPEG is truncated; copy or download it again
    ");
    insta::assert_snapshot!(run.message("holds no image"), @"note: photos: 1 folder holds no image and is no class: nothing");
    let report = lab.json("run/report.json");
    let bad = report["bad_images"].as_array().unwrap();
    let paths: BTreeSet<&str> = bad.iter().map(|image| image["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        BTreeSet::from(["photos/0/half.jpg", "photos/1/empty.png", "photos/1/text.png", "photos/2/bomb.png"])
    );
    let count = |part: &str| report[part]["images"].as_u64().unwrap();
    assert_eq!(count("train") + count("val"), 12);
    assert_eq!(report["classes"], serde_json::json!(["0", "1", "2"]));

    let run = lab.finetune("strict", &[sets[0], "data.bad_images=fail"]).run().expect(1);
    insta::assert_snapshot!(run.notes(), @"
    error: 4 of 16 images cannot be used, and the recipe says `bad_images: fail`:
      photos/1/empty.png: the file is empty; copy or download it again
      photos/1/text.png: is a text file, not an image
      photos/2/bomb.png: is 50000x50000 = 2500 megapixels, over the limit of 179; raise it (`--max-pixels`, a recipe's `data.max_pixels`) if the size is meant
      photos/0/half.jpg: the JPEG is truncated; copy or download it again
    ");
    assert!(!lab.path("strict/model.safetensors").exists());
}

#[test]
fn a_class_without_a_usable_image_ends_the_run() {
    let lab = Lab::of("linear", 4);
    for (path, class) in images("train", 0, 4).into_iter().filter(|(_, class)| class.as_str() < "2") {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        lab.write(&format!("photos/{class}/{name}"), fs::read(path).unwrap());
    }
    for number in 0..3 {
        lab.write(&format!("photos/broken/{number}.jpg"), "no image");
    }
    let run = lab.finetune("run", &["data={ train: photos, val: 0.25 }"]).run().expect(1);
    insta::assert_snapshot!(run.notes(), @"error: no usable training image is left of `broken`: mend its images or remove the class");
    for class in ["0", "1"] {
        fs::remove_dir_all(lab.path("photos").join(class)).unwrap();
        lab.write(&format!("photos/{class}/x.png"), "no image");
        lab.write(&format!("photos/{class}/y.png"), "no image");
    }
    let run = lab.finetune("all", &["data={ train: photos, val: 0.25 }"]).run().expect(1);
    insta::assert_snapshot!(run.notes(), @"
    error: 7 of 7 images cannot be used:
      photos/0/x.png: is a text file, not an image
      photos/1/y.png: is a text file, not an image
      photos/broken/0.jpg: is a text file, not an image
      photos/broken/2.jpg: is a text file, not an image
      photos/0/y.png: is a text file, not an image
      photos/1/x.png: is a text file, not an image
      photos/broken/1.jpg: is a text file, not an image
    so there is nothing to learn from. Does an image viewer open them? JPEG, JPEG 2000, PNG, GIF, WebP, BMP, TIFF and PNM files are read
    ");
}

#[test]
fn few_images_a_class_are_enough_to_run() {
    let lab = Lab::of("linear", 2);
    let data = "data={ train: train.csv, val: 0.5 }";
    lab.finetuned("linear", &[data]);
    assert_eq!(lab.json("linear/report.json")["train"]["images"], 10);
    lab.finetuned("full", &[data, "strategy.method=full", "train.epochs=1"]);
    // An image that is in both parts is worth a word, and no reason to stop.
    let run = lab.finetuned("same", &["data={ train: train.csv, val: train.csv }"]);
    insta::assert_snapshot!(run.message("trained on too"), @"note: 20 of the 20 images of `data.val` are trained on too: its accuracy will be too good to be true. The training images of 10 classes (0, 1, 2, 3, 4 and 5 more) are all such, and could not be left out: name other images, or write `val: 0.2` to hold a fifth of `data.train` back");
}

/// The figures of `eval` are those of `tl predict` with the same views, and the plain ones are
/// unchanged.
#[test]
fn views_are_measured_beside_the_plain_crop() {
    for method in ["linear", "full"] {
        let lab = Lab::of(method, 6);
        let short = ["train.epochs=1"];
        lab.finetuned("plain", &short);
        let eval = ["train.epochs=1", "eval.crops=10", "eval.scales=[36, 40]"];
        lab.finetuned("run", &eval).says(&["\nwith 10 crops at 36 and 40 pixels: val accuracy 0."]);
        let (plain, report) = (lab.json("plain/report.json"), lab.json("run/report.json"));
        assert_eq!((&report["val"], &report["test"]), (&plain["val"], &plain["test"]));
        assert_eq!(report["best"], plain["best"]);
        assert!(plain.get("val_views").is_none() && plain.get("test_views").is_none());
        assert_eq!(report["val_views"]["crops"], 10);
        assert_eq!(report["val_views"]["scales"], serde_json::json!([36, 40]));
        assert_eq!(
            (&report["val_views"]["images"], &report["test_views"]["images"]),
            (&40.into(), &40.into())
        );
        assert_ne!(report["val_views"]["loss"], report["val"]["loss"]);

        let tests = images("test", 0, 4);
        let paths: Vec<&str> = tests.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        let args = ["predict", "--model", "run", "--crops", "10", "--scales", "36,40", "--out", "p.jsonl"];
        lab.tl(&[&args[..], &["--top-k", "10"]].concat()).args(&paths).run().expect(0);
        let text = String::from_utf8(lab.read("p.jsonl")).unwrap();
        let (mut right, mut loss) = (0, 0.);
        for row in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let (_, class) = tests.iter().find(|(path, _)| row["path"] == path.to_str().unwrap()).unwrap();
            right += usize::from(row["label"] == class.as_str());
            let rank = (2..=10).find(|rank| row[format!("label_{rank}")] == class.as_str());
            let key = rank.map_or("confidence".to_string(), |rank| format!("confidence_{rank}"));
            loss -= row[key].as_f64().unwrap().ln() / 40.;
        }
        let views = &report["test_views"];
        assert_eq!(views["accuracy"], right as f64 / 40.);
        assert!((views["loss"].as_f64().unwrap() - loss).abs() < 1e-5, "{} {loss}", views["loss"]);
        let page = String::from_utf8(lab.read("run/report.html")).unwrap();
        assert!(page.contains("With the probabilities of 10 crops at 36 and 40 pixels averaged: "));
        let plan = String::from_utf8(lab.read("run/plan.yaml")).unwrap();
        assert!(plan.contains("eval:\n  crops: 10\n  scales:\n  - 36\n  - 40\n"), "{plan}");
    }
}

#[test]
fn views_that_cannot_be_are_mistakes_of_the_recipe() {
    let lab = Lab::of("linear", 6);
    insta::assert_snapshot!(lab.finetune("run", &["eval.scales=[40, 31]"]).run().expect(2).told(), @"
    error: r.yaml: 1 mistake
      --set eval.scales=[40, 31]: shufflenet_v2_x0_5 sees 32 × 32 pixels of the resized image, so that a scale is at least 32, and one is 31
    ");
    assert!(!lab.path("run").exists());
    // Views that are measured anyway are not measured twice.
    lab.finetuned("run", &["eval.crops=1", "eval.scales=[32]"]);
    assert!(lab.json("run/report.json").get("val_views").is_none());
}
