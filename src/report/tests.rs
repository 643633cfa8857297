//! The page, beside a snapshot of it.

use std::path::PathBuf;
use std::sync::Arc;

use super::gallery::Reader;
use super::thumbnail::SIDE;
use super::*;
use crate::data::Sample;
use crate::preprocess::{DecodeLimits, Interpolation, Preprocessing, RgbImage};
use crate::stats::metrics::Confusion;
use crate::stats::scores::Scores;
use crate::strategy::Size;

/// Four images of two classes, one of them wrong.
fn evaluation() -> Evaluation {
    let (mut confusion, mut scores) = (Confusion::new(2), Scores::new(2));
    for (truth, row) in [(0, [0.9, 0.1]), (0, [0.75, 0.25]), (0, [0.375, 0.625]), (1, [0.125, 0.875])] {
        confusion.add(truth, usize::from(row[1] > row[0]));
        scores.add([truth], &row);
    }
    Evaluation { loss: 0.5, accuracy: 0.75, confusion, losses: vec![0.5; 4], scores: Some(Arc::new(scores)) }
}

/// Two classes whose names are hostile, two epochs, a head fitted before them.
fn report() -> Report {
    let classes = vec!["cat & <script>alert(1)</script>".to_string(), "\"dog\"".to_string()];
    let evaluation = evaluation();
    let epoch = |epoch: usize, loss: f64| EpochRow {
        epoch,
        train_loss: loss,
        train_accuracy: 0.5,
        val_loss: loss + 0.1,
        val_accuracy: 0.75,
        val_balanced_accuracy: None,
        val_macro_f1: None,
        lr: 0.01,
        images_per_second: 100.,
        seconds: 1.,
    };
    Report {
        tl: "0.0.0",
        method: Method::Partial,
        reason: "the recipe says so".into(),
        strategy: Strategy { size: Size::of(&[5, 5], None, 20), similarity: None },
        race: None,
        contest: None,
        model: "resnet18".into(),
        weights: "IMAGENET1K_V1".into(),
        val: Metrics::of(&evaluation, 4, &classes),
        test: None,
        classes,
        seed: 0,
        device: DeviceChoice::Cpu,
        threads: 1,
        decode: Decode::Exact,
        train: ImageCounts { images: 10 },
        val_views: None,
        test_views: None,
        calibration: None,
        epochs: vec![epoch(1, 0.9), epoch(2, 0.6)],
        best: Best { epoch: 2, val_accuracy: 0.75 },
        best_reason: "the best validation accuracy".into(),
        stopped_early: None,
        linear: None,
        stages: Vec::new(),
        heads: None,
        linear_head: None,
        sha256: [("model.safetensors", "0123456789abcdef".repeat(4))].into(),
        passes: vec![ForwardCount { part: "train", stages: "conv1 to fc".into(), images: 10, times: 2 }],
        frozen: Frozen { stages: vec!["conv1".into(), "layer1.0".into()], sha256: "0".into() },
        bad_images: Vec::new(),
        notes: vec!["a note with <b>markup</b>".into()],
        seconds: BTreeMap::from([("plan", 0.5), ("train", 2.)]),
    }
}

/// A name that would be a script, in a page.
const HOSTILE: &str = "<script>alert(1)</script>.png";

/// `count` images in `folder`, of classes in turn.
fn samples(folder: &tempfile::TempDir, count: usize, classes: usize) -> Vec<Sample> {
    let path = folder.path().join("image.ppm");
    std::fs::write(&path, [&b"P6 2 2 255\n"[..], &[90; 12]].concat()).unwrap();
    let sample = |image: usize| Sample {
        path: path.clone(),
        name: format!("a/{image}{HOSTILE}"),
        label: image % classes,
        record: None,
    };
    (0..count).map(sample).collect()
}

fn preprocessing() -> Preprocessing {
    let (interpolation, mean, std) = (Interpolation::Bilinear, [0.; 3], [1.; 3]);
    let (fit, pad_color, white_level) = Default::default();
    Preprocessing { resize_size: 8, crop_size: 8, interpolation, mean, std, fit, pad_color, white_level }
}

/// What the page shows of `evaluation` of `samples`, which are the training images too.
fn shown<'a>(evaluation: &'a Evaluation, samples: &[Sample], classes: &[String]) -> Shown<'a> {
    let preprocessing = preprocessing();
    let reader = Reader { preprocessing: &preprocessing, limits: DecodeLimits::default() };
    let heat = |pixels: &RgbImage, _| Ok(Some(pixels.clone()));
    let scores = evaluation.scores.as_deref().unwrap();
    Shown {
        evaluation,
        trained_on: vec![5; classes.len()],
        mistakes: Mistakes::of(samples, scores, classes, reader, &heat).unwrap(),
        examples: Examples::of(samples, classes, reader, None, 0).unwrap(),
        data: "photos [x](y)".into(),
        command: "tl finetune recipe.yaml --out run".into(),
    }
}

/// The page of `report()`, with its pictures' bytes left out.
fn page() -> String {
    let (evaluation, report, folder) = (evaluation(), report(), tempfile::tempdir().unwrap());
    // The labels of the evaluation: three of the first class, one of the second.
    let mut samples = samples(&folder, 4, 1);
    samples[3].label = 1;
    let page = report.to_html(&shown(&evaluation, &samples, &report.classes));
    let mut parts = page.split("base64,");
    let first = parts.next().unwrap().to_string();
    parts.fold(first, |page, part| page + "base64,…" + &part[part.find('"').unwrap()..])
}

#[test]
fn the_page_is_as_it_was() {
    let page = page();
    assert!(!page.contains("<script>") && !page.contains("<b>markup"), "names must be escaped");
    insta::assert_snapshot!(page.replace("><", ">\n<"));
}

#[test]
fn the_page_of_a_thousand_classes_is_small() {
    let classes: Vec<String> = (0..1000).map(|class| format!("a class with the number {class}")).collect();
    let (mut confusion, mut scores) = (Confusion::new(1000), Scores::new(1000));
    for image in 0..5000 {
        let (truth, guess) = (image % 1000, (image * 7 + image / 1000) % 1000);
        confusion.add(truth, guess);
        let mut row = vec![0.0002; 1000];
        row[guess] = 0.8;
        scores.add([truth], &row);
    }
    let evaluation = Evaluation {
        loss: 1.,
        accuracy: 0.,
        confusion,
        losses: vec![1.; 5000],
        scores: Some(Arc::new(scores)),
    };
    let folder = tempfile::tempdir().unwrap();
    let report =
        Report { val: Metrics::of(&evaluation, 5000, &classes), classes: classes.clone(), ..report() };
    let page = report.to_html(&shown(&evaluation, &samples(&folder, 5000, 1000), &classes));
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    let pictures = page.matches("<img").count();
    assert!((50..=150).contains(&pictures), "{pictures} pictures");
    assert!(page.contains("960 more classes") && page.contains("The 100 classes with the most mistakes"));
    assert_eq!(page.matches(&format!("width=\"{SIDE}\"")).count(), pictures);
}

#[test]
fn what_can_no_longer_be_read_is_shown_without_a_picture() {
    let (evaluation, report, folder) = (evaluation(), report(), tempfile::tempdir().unwrap());
    let mut samples = samples(&folder, 4, 1);
    samples.iter_mut().for_each(|sample| sample.path = PathBuf::from("/nowhere/at/all.png"));
    let page = report.to_html(&shown(&evaluation, &samples, &report.classes));
    assert!(page.contains("no longer readable") && !page.contains("<img"));
}

#[test]
fn the_verdict_says_how_good_what_is_weak_and_what_to_do() {
    let verdict = |rows: &[(usize, [f32; 2])], times: usize, trained_on: [usize; 2]| {
        let (mut confusion, mut scores) = (Confusion::new(2), Scores::new(2));
        for (truth, row) in rows.iter().cycle().take(rows.len() * times) {
            confusion.add(*truth, usize::from(row[1] > row[0]));
            scores.add([*truth], row);
        }
        let accuracy = confusion.accuracy();
        let evaluation =
            Evaluation { loss: 0., accuracy, confusion, losses: Vec::new(), scores: Some(Arc::new(scores)) };
        let classes = ["bolt", "nut"].map(String::from).to_vec();
        let images = rows.len() * times;
        let report = Report { val: Metrics::of(&evaluation, images, &classes), classes, ..report() };
        let folder = tempfile::tempdir().unwrap();
        let samples = samples(&folder, images, 2);
        let shown =
            Shown { trained_on: trained_on.to_vec(), ..shown(&evaluation, &samples, &report.classes) };
        shown.judged(&report).verdict().join("\n")
    };
    let right = [(0, [0.9, 0.1]), (1, [0.2, 0.8])];
    insta::assert_snapshot!(verdict(&right, 2, [5, 5]));
    insta::assert_snapshot!(verdict(&right, 100, [5, 5]));
    // Mistakes that are not surer than usual.
    let unsure = [(0, [0.9, 0.1]), (0, [0.45, 0.55]), (0, [0.9, 0.1]), (1, [0.1, 0.9])];
    insta::assert_snapshot!(verdict(&unsure, 50, [3, 9]));
    insta::assert_snapshot!(verdict(&unsure, 50, [9, 9]));
    let doubted = [(0, [0.9, 0.1]), (0, [0.02, 0.98]), (0, [0.9, 0.1]), (1, [0.1, 0.9])];
    insta::assert_snapshot!(verdict(&doubted, 50, [9, 9]));
}

#[test]
fn the_card_has_the_fields_that_the_hub_reads() {
    let (evaluation, report, folder) = (evaluation(), report(), tempfile::tempdir().unwrap());
    let shown = shown(&evaluation, &samples(&folder, 4, 2), &report.classes);
    let card = report.model_card(&shown.judged(&report), &shown.data);
    let (header, body) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let header: serde_yaml::Value = serde_yaml::from_str(header).unwrap();
    assert_eq!(header["pipeline_tag"], "image-classification");
    assert_eq!(header["model-index"][0]["results"][0]["metrics"][0]["value"], 0.75);
    assert!(!body.contains("<script>") && !body.contains("[x]("), "names must be escaped");
    insta::assert_snapshot!(card);
}

#[test]
fn an_interval_is_two_numbers_everywhere() {
    let json = serde_json::to_value(report()).unwrap();
    let ends = json["val"]["interval"].as_array().unwrap();
    assert!(ends.len() == 2 && ends.iter().all(serde_json::Value::is_number), "{ends:?}");
}
