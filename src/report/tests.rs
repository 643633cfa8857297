//! The page, beside a snapshot of it.

use super::*;
use crate::stats::metrics::Confusion;
use crate::strategy::Size;

/// Two classes whose names are hostile, two epochs, a head fitted before them.
fn report() -> Report {
    let classes = vec!["cat & <script>alert(1)</script>".to_string(), "\"dog\"".to_string()];
    let mut confusion = Confusion::new(2);
    [(0, 0), (0, 0), (0, 1), (1, 1)].into_iter().for_each(|(truth, guess)| confusion.add(truth, guess));
    let evaluation = Evaluation { loss: 0.5, accuracy: 0.75, confusion, losses: vec![0.5; 4], scores: None };
    let epoch = |epoch: usize, loss: f64| EpochRow {
        epoch,
        train_loss: loss,
        train_accuracy: 0.5,
        val_loss: loss + 0.1,
        val_accuracy: 0.75,
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

#[test]
fn the_page_is_as_it_was() {
    let page = report().to_html();
    assert!(!page.contains("<script>") && !page.contains("<b>markup"), "names must be escaped");
    insta::assert_snapshot!(page.replace("><", ">\n<"));
}

#[test]
fn an_interval_is_two_numbers_everywhere() {
    let json = serde_json::to_value(report()).unwrap();
    let ends = json["val"]["interval"].as_array().unwrap();
    assert!(ends.len() == 2 && ends.iter().all(serde_json::Value::is_number), "{ends:?}");
}
