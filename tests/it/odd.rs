//! Imperfect data: shared and duplicate images, one image in a class, meaningless labels.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;
use transferkit::weights::checkpoint::{RawTensor, read_checkpoint};
use transferkit::weights::write_tensors;

use crate::digits::{Lab, images};
use crate::program::{Run, repository};

const METHODS: [&str; 5] = ["linear", "stages", "partial", "full", "scratch"];

/// A picture of `side` × `side` pixels of noise.
fn noise(seed: u64, side: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut file = format!("P6\n{side} {side}\n255\n").into_bytes();
    for _ in 0..side * side * 3 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.push((state >> 32) as u8);
    }
    file
}

/// `count` pictures of each class, all different.
fn classes(lab: &Lab, folder: &str, counts: &[(&str, usize)], side: usize) {
    for (number, (class, count)) in counts.iter().enumerate() {
        fs::create_dir_all(lab.path(folder).join(class)).unwrap();
        for image in 0..*count {
            let seed = (number * 100_000 + image) as u64;
            lab.write(&format!("{folder}/{class}/{image:04}.ppm"), noise(seed, side));
        }
    }
}

/// One short run of a method on a folder.
fn try_on(lab: &Lab, method: &str, folder: &str, sets: &[&str]) -> Run {
    let (data, epochs) = (format!("data={{ train: {folder}, val: 0.2 }}"), "train.epochs=1".to_string());
    let mut all = vec![data.as_str(), "train.clip_grad_norm=1"];
    all.extend((!matches!(method, "linear" | "stages")).then_some(epochs.as_str()));
    all.extend(sets);
    lab.finetune(&format!("runs/{folder}-{method}"), &all).run()
}

fn notes(report: &Value) -> String {
    report["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_string() + "\n").collect()
}

/// Digits under other names: validation images are found by content and not trained on.
#[test]
fn images_that_are_measured_on_are_not_trained_on() {
    let lab = Lab::of("linear", 4);
    for (number, (path, class)) in images("train", 0, 8).iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        let part = if number % 8 < 5 { "train" } else { "val" };
        lab.write(&format!("{part}/{class}/{number}.png"), &bytes);
        if number % 40 == 7 {
            lab.write(&format!("train/{class}/again-{number}.png"), &bytes);
        }
        if number == 3 {
            lab.write(&format!("test/{class}/new.png"), &bytes);
        }
    }
    let sets = ["data={ train: train, val: val, test: test }"];
    lab.finetuned("run", &sets).says(&["49 training images"]);
    let report = lab.json("run/report.json");
    assert_eq!((&report["train"]["images"], &report["val"]["images"]), (&49.into(), &30.into()));
    // The plan is what happens.
    let args = [&["plan", "r.yaml"][..], &["--set", sets[0]]].concat();
    let plan = lab.tl(&args).run().expect(0);
    insta::assert_snapshot!(plan.notes(), @"
    note: test: 9 classes have no image here: 1, 2, 3, 4, 5 and 4 more
    note: 2 training images are in `data.val` too, compared by content (0/again-7.png, 5/again-47.png): left out of training, so that the model is measured on images that are new to it
    note: 1 training image is in `data.test` too, compared by content (0/3.png): left out of training, so that the model is measured on images that are new to it
    note: `augment.flip` is not used by `method: linear`
    note: `augment.ratio` is not used by `method: linear`
    note: `augment.scale` is not used by `method: linear`
    ");
    assert!(plan.stdout.contains("train_images: 49"), "{}", plan.stdout);
    for method in ["full", "partial"] {
        let method_is = format!("strategy.method={method}");
        let sets = [sets[0], "train.epochs=1", &method_is];
        let run = lab.finetuned(method, &sets);
        insta::allow_duplicates! {
            insta::assert_snapshot!(run.message("are in `data.val` too"), @"note: 2 training images are in `data.val` too, compared by content (0/again-7.png, 5/again-47.png): left out of training, so that the model is measured on images that are new to it");
            insta::assert_snapshot!(run.message("is in `data.test` too"), @"note: 1 training image is in `data.test` too, compared by content (0/3.png): left out of training, so that the model is measured on images that are new to it");
        }
        assert_eq!(lab.json(&format!("{method}/report.json"))["train"]["images"], 49);
    }
    // A listing that stays the same goes on, and one that does not is another run.
    fs::remove_file(lab.path("run/report.json")).unwrap();
    lab.finetune("run", &sets).arg("--resume").run().expect(0);
    fs::remove_file(lab.path("run/report.json")).unwrap();
    lab.write("train/0/again-7.png", noise(1, 8));
    insta::assert_snapshot!(lab.finetune("run", &sets).arg("--resume").run().expect(2).told(), @"error: cannot resume run: the recipe means another run (the images are not the same). Undo the change, or start afresh with `--overwrite` or another `--out`");
}

#[test]
fn copies_stay_on_one_side_of_a_split() {
    let lab = Lab::of("linear", 4);
    classes(&lab, "photos", &[("a", 20), ("b", 20)], 8);
    for image in 0..6 {
        let bytes = lab.read(&format!("photos/a/{image:04}.ppm"));
        lab.write(&format!("photos/a/copy-{image}.ppm"), bytes);
    }
    lab.write("photos/b/0000.ppm", lab.read("photos/a/0019.ppm"));
    let listed = |seed: &str| {
        let run = try_on(&lab, "linear", "photos", &[seed, "strategy.method=linear"]).expect(0);
        fs::remove_dir_all(lab.path("runs")).unwrap();
        run
    };
    for seed in ["seed=1", "seed=2"] {
        let run = listed(seed);
        insta::allow_duplicates! {
            insta::assert_snapshot!(run.message("are copies of another one there"), @"note: 6 images of `data.train` are copies of another one there, compared by content (a/copy-0.ppm = a/0000.ppm, a/copy-1.ppm = a/0001.ppm, a/copy-2.ppm = a/0002.ppm, a/copy-3.ppm = a/0003.ppm, a/copy-4.ppm = a/0004.ppm and 1 more): copies stay on one side, in training or in validation");
            insta::assert_snapshot!(run.message("in more than one class"), @"note: 1 picture is in more than one class, compared by content: a/0019.ppm (a, b); at most one of the labels is right, please look at them");
        }
    }
}

/// The only images that a class can be learnt from stay, with a note.
#[test]
fn a_class_keeps_the_images_that_it_has() {
    let lab = Lab::of("linear", 2);
    let run = lab.finetuned("same", &["data={ train: train.csv, val: train.csv }"]);
    insta::assert_snapshot!(run.message("trained on too"), @"note: 20 of the 20 images of `data.val` are trained on too: its accuracy will be too good to be true. The training images of 10 classes (0, 1, 2, 3, 4 and 5 more) are all such, and could not be left out: name other images, or write `val: 0.2` to hold a fifth of `data.train` back");
    assert_eq!(lab.json("same/report.json")["train"]["images"], 20);
    let run = lab.finetuned("test", &["data={ train: train.csv, val: test.csv, test: test.csv }"]);
    insta::assert_snapshot!(run.message("are in `data.val` too"), @"note: 40 of the 40 images of `data.test` are in `data.val` too ([REPO]/data/digits/test/0/1002.png, [REPO]/data/digits/test/0/1025.png, [REPO]/data/digits/test/0/1029.png, [REPO]/data/digits/test/0/1039.png, [REPO]/data/digits/test/1/1000.png and 35 more): the model is chosen by such, so that the test accuracy will be a little too good");
}

#[test]
fn odd_classes_have_a_plan_or_a_refusal_with_every_method() {
    for method in METHODS {
        let lab = Lab::of(method, 2);
        classes(&lab, "lonely", &[("a", 1), ("b", 10)], 8);
        let run = try_on(&lab, method, "lonely", &[]).expect(0);
        insta::allow_duplicates! {
            insta::assert_snapshot!(run.message("one image alone"), @"note: 1 class has one image alone, used for training, so not validated: a");
            insta::assert_snapshot!(run.message("all validation images"), @"note: all validation images (2 images) are of one class, `b`: their accuracy says nothing about the other classes");
        }

        classes(&lab, "single", &[("a", 4)], 8);
        let run = try_on(&lab, method, "single", &[]).expect(2);
        insta::allow_duplicates!(insta::assert_snapshot!(run.told(), @"
        error: r.yaml: 1 mistake
          --set data={ train: single, val: 0.2 }: data.train: expected at least 2 classes, found only `a` in single: a classifier needs something to tell apart
        "));

        classes(&lab, "three", &[("a", 2), ("b", 1)], 8);
        try_on(&lab, method, "three", &[]).expect(0).says(&["2 training images in 2 classes (1 a class)"]);

        classes(&lab, "each", &[("a", 1), ("b", 1), ("c", 1)], 8);
        let run = try_on(&lab, method, "each", &[]).expect(2);
        insta::allow_duplicates!(insta::assert_snapshot!(run.told(), @"
        error: r.yaml: 1 mistake
          --set data={ train: each, val: 0.2 }: data.val: nothing is left to measure on: no class has two images, and one of each must stay to be trained on. Add images, or name a folder of others as `data.val`
        "));

        classes(&lab, "hollow", &[("a", 5), ("b", 5), ("void", 0)], 8);
        let run = try_on(&lab, method, "hollow", &[]).expect(0).says(&["2 classes"]);
        insta::allow_duplicates!(
            insta::assert_snapshot!(run.message("holds no image"), @"note: hollow: 1 folder holds no image and is no class: void")
        );

        classes(&lab, "dots", &[("a", 5), ("b", 5)], 1);
        try_on(&lab, method, "dots", &[]).expect(0).says(&["val accuracy "]);

        for number in 0..6 {
            lab.write(&format!("broken/{}/{number}.jpg", number % 2), format!("no image {number}"));
        }
        let run = try_on(&lab, method, "broken", &[]).expect(1);
        insta::allow_duplicates!(insta::assert_snapshot!(run.notes(), @"
        error: 6 of 6 images cannot be used:
          broken/0/0.jpg: is a text file, not an image
          broken/0/2.jpg: is a text file, not an image
          broken/1/1.jpg: is a text file, not an image
          broken/1/3.jpg: is a text file, not an image
          broken/0/4.jpg: is a text file, not an image
          broken/1/5.jpg: is a text file, not an image
        so there is nothing to learn from. Does an image viewer open them? JPEG, JPEG 2000, PNG, GIF, WebP, BMP, TIFF and PNM files are read
        "));
        assert!(!lab.path("runs").join(format!("broken-{method}/model.safetensors")).exists());
    }
}

#[test]
fn uneven_classes_are_told_with_numbers() {
    for method in METHODS {
        let lab = Lab::of(method, 2);
        classes(&lab, "uneven", &[("a", 1), ("b", 300)], 8);
        let told = "`b` has 240 training images, `a` has 1; if rare classes matter as much";
        let run = try_on(&lab, method, "uneven", &["train.batch_size=64"]).expect(0);
        insta::allow_duplicates!(
            insta::assert_snapshot!(run.message(told), @"note: the classes are uneven: `b` has 240 training images, `a` has 1; if rare classes matter as much as frequent ones, `train: { class_weights: balanced }` gives all the same weight")
        );
        let report = lab.json(&format!("runs/uneven-{method}/report.json"));
        assert!(notes(&report).contains(told), "{report}");
    }
    let lab = Lab::of("linear", 2);
    classes(&lab, "uneven", &[("a", 1), ("b", 300)], 8);
    let run = try_on(&lab, "linear", "uneven", &["train.class_weights=balanced"]).expect(0);
    assert!(!run.stderr.contains("uneven:"), "{}", run.stderr);
}

/// Classes that are noise: no method finds structure, and none claims to.
#[test]
fn labels_that_mean_nothing_are_learnt_no_better_than_guessing() {
    for method in METHODS {
        let lab = Lab::of(method, 2);
        let names: Vec<String> = (0..5).map(|class| class.to_string()).collect();
        let counts: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 24)).collect();
        classes(&lab, "noise", &counts, 8);
        let run = try_on(&lab, method, "noise", &[]).expect(0);
        let report = lab.json(&format!("runs/noise-{method}/report.json"));
        let accuracy = report["val"]["accuracy"].as_f64().unwrap();
        assert!(accuracy < 0.45, "{method}: {accuracy}");
        let said = format!("the validation accuracy {accuracy:.4} on 25 images is no better than guessing");
        assert!(notes(&report).contains(&said), "{method}: {}", notes(&report));
        run.says(&[&said]);
    }
}

/// 40 images determine an accuracy to within a tenth: the figures tell so.
#[test]
fn accuracies_come_with_what_they_are_worth() {
    let lab = Lab::of("linear", 6);
    let run = lab.finetuned("run", &[]);
    let report = lab.json("run/report.json");
    let last = |part: &str| {
        let accuracy = report[part]["accuracy"].as_f64().unwrap();
        let bounds: Vec<f64> = serde_json::from_value(report[part]["interval"].clone()).unwrap();
        assert!(bounds[0] < accuracy && accuracy < bounds[1], "{bounds:?}");
        // Wilson's own equation: the ends are where the share lies 1.96 standard errors away.
        for end in &bounds {
            let away = (accuracy - end).abs() / (end * (1. - end) / 40.).sqrt();
            assert!((away - 1.959_963_984_540_054).abs() < 1e-9, "{away}");
        }
        format!("{part} accuracy {accuracy:.4} ({:.2} to {:.2})", bounds[0], bounds[1])
    };
    run.says(&[&format!("{}, {}", last("val"), last("test"))]);
    let page = String::from_utf8(lab.read("run/report.html")).unwrap();
    assert_eq!(page.matches("(95 % sure)").count(), 2);
    assert!(!notes(&report).contains("guessing"));
}

/// Folders whose names are not UTF-8 hold recipes and runs like others, and their printed names can
/// be opened again.
#[test]
fn names_that_are_no_text_come_back() {
    let lab = Lab::of("linear", 2);
    let odd = |name: &[u8]| OsStr::from_bytes(name).to_os_string();
    fs::create_dir(lab.path("").join(odd(b"caf\xe9"))).unwrap();
    for name in ["r.yaml", "train.csv", "val.csv", "test.csv"] {
        fs::rename(lab.path(name), lab.path("").join(odd(b"caf\xe9")).join(name)).unwrap();
    }
    let run =
        lab.tl(&["finetune"]).arg("--out").arg(odd(b"run\xe8")).arg(odd(b"caf\xe9/r.yaml")).run().expect(0);
    run.says(&[r"model   run\xe8/model.safetensors", r"next    tl predict --model 'run\xe8' PATH"]);
    let predict = |list: &str| lab.tl(&["predict", "--model", r"run\xe8", "--out", "p.csv", list]).run();
    lab.write("list.txt", "caf\\xe9/none.png\n");
    insta::assert_snapshot!(predict("list.txt").expect(1).told(), @"
    1 row in p.csv
    1 of 1 image could not be read: see `error` in its row
    ");
    // A PATH is taken as the tables spell it, too.
    fs::copy(repository("data/samples/eight.png"), lab.path("").join(odd(b"im\xff.png"))).unwrap();
    predict(r"im\xff.png").expect(0);
    assert!(String::from_utf8(lab.read("p.csv")).unwrap().contains(r"im\xff.png,"));
    let set = r"data.train=caf\xe9/train.csv";
    fs::rename(lab.path("").join(odd(b"caf\xe9/r.yaml")), lab.path("r.yaml")).unwrap();
    let others = ["data.val=0.2", "data.test=caf\\xe9/test.csv"].map(|set| ["--set", set]).concat();
    let plan = lab.tl(&["plan", "r.yaml", "--set", set]).args(others).run().expect(0);
    assert!(plan.stdout.contains(r"train: caf\xe9/train.csv"), "{}", plan.stdout);
}

/// Finite but absurd weights: a negative variance.
#[test]
fn an_image_without_finite_numbers_is_a_row_with_an_error() {
    let lab = Lab::new(1);
    let checkpoint = read_checkpoint(&repository("data/shufflenet_v2_x0_5-letters.safetensors")).unwrap();
    let mut tensors: Vec<(String, RawTensor)> = checkpoint.tensors.into_iter().collect();
    let (_, variance) = tensors.iter_mut().find(|(key, _)| key == "conv1.1.running_var").unwrap();
    variance.bytes = variance.bytes.chunks_exact(4).flat_map(|_| (-1f32).to_le_bytes()).collect();
    write_tensors(&lab.path("absurd.safetensors"), &tensors, checkpoint.metadata.into_iter().collect())
        .unwrap();
    let said = "the network gives numbers for it that are not finite";
    let samples = repository("data/samples/eight.png");
    let args = ["--model", "absurd.safetensors", samples.to_str().unwrap()];
    lab.tl(&["predict", "--out", "p.csv"]).args(args).run().expect(1);
    let rows = String::from_utf8(lab.read("p.csv")).unwrap();
    assert!(rows.contains(said) && !rows.contains("NaN"), "{rows}");
    lab.tl(&["extract", "--out", "f.csv"]).args(args).run().expect(1);
    assert_eq!(String::from_utf8(lab.read("f.csv")).unwrap().lines().count(), 1);
    assert!(String::from_utf8(lab.read("f.csv.errors.csv")).unwrap().contains(said));
}
