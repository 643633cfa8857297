//! Images that are not square, with `preprocess.fit` and `--fit`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::digits::Lab;
use crate::extract::LETTERS;
use crate::model_file::card;
use crate::program::{Run, repository};

const SIDE: usize = 64;

/// A drawing of 192 × 64 pixels, with the same figure at both ends: a square, a ring, a cross or
/// bars. The middle carries no information. `seed` moves and shades the figures.
fn draw(path: &Path, figure: usize, seed: usize) {
    let mut state = ((seed * 4 + figure) as u32).wrapping_mul(2_654_435_769).wrapping_add(1);
    let mut random = |most: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % most
    };
    let (left, top) = (random(8) as i32, random(8) as i32);
    let (ink, paper) = (150 + random(100) as u8, random(60) as u8);
    let mut data = Vec::new();
    for y in 0..SIDE as i32 {
        for x in 0..3 * SIDE as i32 {
            let (column, row) = (x % SIDE as i32 - 4 - left, y - 4 - top);
            let inside = (0..48).contains(&column) && (0..48).contains(&row);
            let far = (column - 24).pow(2) + (row - 24).pow(2);
            let drawn = match figure {
                0 => (8..40).contains(&column) && (8..40).contains(&row),
                1 => (200..576).contains(&far),
                2 => (column - 24).abs() < 7 || (row - 24).abs() < 7,
                _ => row / 12 % 2 == 0,
            };
            let middle = (SIDE as i32..2 * SIDE as i32).contains(&x);
            let value = match middle {
                true => random(256) as u8,
                false if inside && drawn => ink,
                false => paper,
            };
            data.extend([value; 3]);
        }
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, 3 * SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
}

/// Four classes of such drawings, and a recipe that fits a head to them.
fn lab() -> Lab {
    let lab = Lab::new(1);
    for figure in 0..4 {
        for number in 0..20 {
            let part = if number < 10 { "train" } else { "val" };
            draw(&lab.path(&format!("{part}/{figure}/{number:02}.png")), figure, number);
        }
    }
    let weights = repository(LETTERS);
    let recipe = format!(
        "model: shufflenet_v2_x0_5\nweights: {}\npreprocess: {{ resize_size: {SIDE} }}\n\
         data: {{ train: train, val: val }}\nstrategy: {{ method: linear }}\ntrain: {{ c: 1 }}\n",
        weights.display()
    );
    lab.write("r.yaml", recipe);
    lab
}

fn accuracy(lab: &Lab, out: &str) -> f64 {
    lab.json(&format!("{out}/report.json"))["best"]["val_accuracy"].as_f64().unwrap()
}

/// The preprocessing in the model file.
fn preset(lab: &Lab, out: &str) -> Value {
    card(&lab.read(&format!("{out}/model.safetensors")))["preprocessing"].clone()
}

fn predict(lab: &Lab, out: &str, options: &[&str]) -> Run {
    lab.tl(&["predict", "--device", "cpu", "--model", out, "val", "--out", "p.csv"]).args(options).run()
}

const NOTE: &str = "of 40 training images looked at, 40 lose more than a third of the longer side to the centre crop \
                    (`fit: crop`), the worst 67 %";

#[test]
fn what_lies_at_the_ends_is_seen_squashed_or_padded_and_not_cropped() {
    let lab = lab();
    insta::assert_snapshot!(lab.finetuned("crop", &[]).message("lose more than a third"), @"note: of 40 training images looked at, 40 lose more than a third of the longer side to the centre crop (`fit: crop`), the worst 67 %: if what matters may lie there, `preprocess: { fit: squash }` shows all of an image out of proportion, and `fit: pad` all of it in proportion, between margins");
    assert!(lab.json("crop/report.json")["notes"].to_string().contains(NOTE));
    let cropped = accuracy(&lab, "crop");
    assert!(cropped < 0.5, "a quarter by chance, found {cropped}");
    assert!(preset(&lab, "crop").get("fit").is_none() && preset(&lab, "crop").get("pad_color").is_none());
    for fit in ["squash", "pad"] {
        let run = lab.finetuned(fit, &[&format!("preprocess.fit={fit}")]);
        assert!(!run.stderr.contains("longer side"), "{}", run.stderr);
        let seen = accuracy(&lab, fit);
        assert!(seen > 0.7, "{fit}: {seen}");
        assert_eq!(preset(&lab, fit)["fit"], fit);
        // By default as it was trained; the command line may say otherwise, and is told.
        predict(&lab, fit, &[]).expect(0);
        let rows = String::from_utf8(lab.read("p.csv")).unwrap();
        let right = |row: &&str| row.split(',').nth(1) == row.split('/').nth(1);
        let share = rows.lines().skip(1).filter(right).count() as f64 / 40.;
        assert!(
            (share - seen).abs() < 1e-6,
            "{fit}: {share} of the images, and the report says {seen}\n{rows}"
        );
        predict(&lab, fit, &["--fit", fit]).expect(0);
        assert_eq!(String::from_utf8(lab.read("p.csv")).unwrap(), rows);
        let said = format!("note: {fit} was trained with `fit: {fit}`, and is shown images with `crop`");
        predict(&lab, fit, &["--fit", "crop"]).expect(0).says(&[&said]);
        assert_ne!(String::from_utf8(lab.read("p.csv")).unwrap(), rows);
        // Ten crops of an image that is as small as they are would be ten times the same.
        predict(&lab, fit, &["--crops", "10"]).expect(2).says(&["give scales above 64"]);
        predict(&lab, fit, &["--crops", "10", "--scales", "72"]).expect(0);
        // A model that begins at this one sees as it does.
        lab.write(
            "again.yaml",
            format!("model: {fit}\ndata: {{ train: train, val: val }}\nstrategy: {{ method: linear }}\n"),
        );
        let plan = lab.tl(&["plan", "again.yaml"]).run().expect(0);
        assert!(plan.stdout.contains(&format!("fit: {fit}")), "{}{}", plan.stdout, plan.stderr);
    }
    assert_eq!(preset(&lab, "pad")["pad_color"], serde_json::json!([124, 116, 104]));
    // Another fit or another colour is another run.
    for sets in [&["preprocess.fit=squash"][..], &["preprocess.fit=pad", "preprocess.pad_color=[0, 0, 0]"]] {
        let run = lab.finetune("pad", sets).args(["--resume"]).run();
        assert!(run.code != Some(0) && run.stderr.contains("another"), "{}", run.stderr);
    }
    lab.finetune("pad", &["preprocess.fit=pad"]).args(["--resume"]).run().expect(0);
}

#[test]
fn features_depend_on_the_fit() {
    let lab = lab();
    let letters = repository(LETTERS);
    let extract = |out: &str, options: &[&str]| {
        let args = ["extract", "--device", "cpu", "val/1", "--out", out];
        lab.tl(&args).arg("--model").arg(&letters).args(options).run()
    };
    extract("plain.npy", &[]).expect(0);
    extract("crop.npy", &["--fit", "crop"]).expect(0);
    extract("squash.npy", &["--fit", "squash"]).expect(0);
    extract("pad.npy", &["--fit", "pad"]).expect(0);
    assert_eq!(lab.read("plain.npy"), lab.read("crop.npy"));
    let others = [lab.read("squash.npy"), lab.read("pad.npy")];
    assert!(others[0] != others[1] && !others.contains(&lab.read("crop.npy")));
    // Rows of another fit are not gone on with.
    let run = extract("squash.npy", &["--fit", "pad", "--resume"]);
    assert!(run.code != Some(0) && run.stderr.contains("preprocessing"), "{}", run.stderr);
}

#[test]
fn keys_that_the_fit_does_not_use_are_told() {
    let lab = lab();
    let plan = |preprocess: &str| {
        lab.tl(&["plan", "r.yaml", "--set", &format!("preprocess={preprocess}")]).run().expect(0)
    };
    let run = plan("{ crop_size: 64, pad_color: [1, 2, 3] }");
    insta::assert_snapshot!(run.notes(), @"
    note: of 40 training images looked at, 40 lose more than a third of the longer side to the centre crop (`fit: crop`), the worst 67 %: if what matters may lie there, `preprocess: { fit: squash }` shows all of an image out of proportion, and `fit: pad` all of it in proportion, between margins
    note: `preprocess.pad_color` is not used by `fit: crop`
    ");
    let run = plan("{ crop_size: 64, resize_size: 72, fit: squash }");
    assert!(
        run.stderr.contains("squashed to 64 × 64 pixels")
            || run.stdout.contains("squashed to 64 × 64 pixels")
    );
    insta::assert_snapshot!(run.notes(), @"note: `preprocess.resize_size` is not used by `fit: squash`");
    let run = plan("{ crop_size: 64, fit: pad, pad_color: [1, 2, 3] }");
    assert!(run.stdout.contains("pad_color:\n  - 1\n  - 2\n  - 3\n"), "{}", run.stdout);
    assert!(!run.stderr.contains("not used"), "{}", run.stderr);
}
