//! With little data `auto` averages: the heads of all stages, and the heads with `full`; and it tries BatchNorm's statistics of
//! the training images.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::digits::{Lab, names, recipe};
use crate::resume::{assert_same_result, stop_after};

/// Heads and `full` come close on so few images.
const BOTH: [&str; 8] = [
    "strategy.size=little",
    "strategy.similarity=different",
    "strategy.adapt=false",
    "strategy.read=[conv1]",
    "train.epochs=8",
    "train.batch_size=16",
    "train.lr=0.02",
    "train.head_lr=0.05",
];

fn lab(method: &str) -> Lab {
    let lab = Lab::new(if method == "auto" { 8 } else { 5 });
    lab.write("r.yaml", recipe(method));
    lab
}

fn tensors(lab: &Lab, file: &str) -> HashMap<String, Vec<f32>> {
    let bytes = lab.read(file);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let floats =
        |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    tensors.iter().map(|(key, view)| (key.to_string(), floats(view.data()))).collect()
}

/// The probabilities of each test image by class, and how many of them are right.
fn predicted(lab: &Lab, model: &str) -> (Vec<HashMap<String, f64>>, usize, String) {
    let paths = String::from_utf8(lab.read("test.csv")).unwrap();
    let images: Vec<(&str, &str)> =
        paths.lines().skip(1).map(|line| line.rsplit_once(',').unwrap()).collect();
    let mut args = vec!["predict", "--model", model, "--top-k", "10", "--out", "p.jsonl"];
    args.extend(images.iter().map(|(path, _)| path));
    let run = lab.tl(&args).run().expect(0);
    let rows = String::from_utf8(lab.read("p.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let truth: HashMap<&str, &str> = images.into_iter().collect();
    let right = |row: &&Value| row["label"] == truth[row["path"].as_str().unwrap()];
    let classes = |row: &Value| {
        let name = |key: &str, place: usize| if place == 1 { key.into() } else { format!("{key}_{place}") };
        let of = |place| {
            (
                row[name("label", place)].as_str().unwrap().to_string(),
                row[name("confidence", place)].as_f64().unwrap(),
            )
        };
        (1..=10).map(of).collect()
    };
    (rows.iter().map(classes).collect(), rows.iter().filter(right).count(), run.stderr)
}

#[test]
fn heads_and_full_are_both_kept_where_neither_is_clearly_ahead() {
    let lab = lab("auto");
    let run = lab.finetuned("run", &BOTH);
    run.says(&[": both are kept and averaged, and count 0.", "model.safetensors with beside.safetensors"]);
    let report = lab.json("run/report.json");
    let shares: Vec<f64> =
        report["contest"]["shares"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).collect();
    assert!(
        shares[0] >= shares[1] && shares[1] > 0.1 && (shares[0] + shares[1] - 1.).abs() < 1e-9,
        "{shares:?}"
    );
    assert_eq!(report["contest"]["methods"][0]["method"], report["method"]);
    assert_eq!(report["stages"].as_array().unwrap().len(), 1);

    // What the report measured is what `predict` does with the run folder.
    let (both, right, said) = predicted(&lab, "run");
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(report["test"]["accuracy"].as_f64().unwrap(), right as f64 / 40.);
    // Each of the two alone.
    fs::create_dir(lab.path("alone")).unwrap();
    fs::copy(lab.path("run/model.safetensors"), lab.path("alone/model.safetensors")).unwrap();
    let (first, _, said) = predicted(&lab, "alone");
    assert!(said.contains("is averaged with beside.safetensors, which is not in its folder"), "{said}");
    let (second, _, said) = predicted(&lab, "run/beside.safetensors");
    assert!(!said.contains("warning"), "{said}");
    for ((both, first), second) in both.iter().zip(&first).zip(&second) {
        // ε is a hundredth over the number of classes.
        let pooled = |class: &String| {
            (shares[0] * (first[class] + 1e-3).ln() + shares[1] * (second[class] + 1e-3).ln()).exp()
        };
        let total: f64 = both.keys().map(pooled).sum();
        for (class, share) in both {
            assert!((pooled(class) / total - share).abs() < 1e-5, "{class}: {share}");
        }
    }
    let page = String::from_utf8(lab.read("run/report.html")).unwrap();
    assert!(page.contains("Both are kept, and their answers averaged"), "{page}");

    // Nothing of the second model is left where one is kept.
    let one = [&BOTH[..], &["strategy.average=false"]].concat();
    lab.finetune("run", &one).arg("--overwrite").run().expect(0);
    assert!(!lab.path("run/beside.safetensors").exists());
    assert_eq!(lab.json("run/report.json")["contest"]["shares"][0], 1.);
}

#[test]
fn a_run_that_keeps_both_goes_on_where_it_was_stopped() {
    let lab = lab("auto");
    lab.finetuned("whole", &BOTH);
    for (text, name, code) in [("trying  stages", "INT", 130), ("epoch 2/8", "TERM", 143)] {
        let child = lab.finetune("cut", &BOTH).arg("--resume").spawn();
        stop_after(child, text, Duration::from_millis(5), name).expect(code);
    }
    lab.finetune("cut", &BOTH).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "cut");
    assert!(lab.read("whole/beside.safetensors") == lab.read("cut/beside.safetensors"));
    // Killed before the report was written.
    fs::remove_file(lab.path("cut/report.json")).unwrap();
    lab.finetune("cut", &BOTH).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "cut");
    assert!(lab.read("whole/beside.safetensors") == lab.read("cut/beside.safetensors"));
}

#[test]
fn the_mean_of_all_heads_is_one_head_on_all_stages() {
    let lab = lab("stages");
    lab.finetuned("run", &["strategy.average=true"]).says(&["the mean of the 6", "<- kept"]);
    let report = lab.json("run/report.json");
    let rows = report["stages"].as_array().unwrap();
    let shares: Vec<f64> = rows.iter().map(|row| row["share"].as_f64().unwrap()).collect();
    assert!((shares.iter().sum::<f64>() - 1.).abs() < 1e-9);
    // The best by cross-validation counts most.
    let most = (0..6).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap();
    assert_eq!(rows[most]["chosen"], true);
    assert!(report["heads"]["cv_accuracy"].as_f64().unwrap() > 0.3);
    let model = tensors(&lab, "run/model.safetensors");
    let features: u64 = rows[..5].iter().map(|row| row["features"].as_u64().unwrap()).sum();
    assert_eq!(model["tl_head.weight"].len() as u64, 10 * features);
    let (_, right, _) = predicted(&lab, "run");
    assert_eq!(report["test"]["accuracy"].as_f64().unwrap(), right as f64 / 40.);
}

/// Inputs of another scale than the network was trained with: its statistics are what is wrong, and nothing else.
#[test]
fn statistics_of_the_training_images_replace_the_sources_where_heads_do_better_with_them() {
    let lab = lab("stages");
    let sets = |more: &[&'static str]| {
        [&["preprocess={resize_size: 64, crop_size: 64, std: [8, 8, 8]}", "strategy.read=[features]"], more]
            .concat()
    };
    lab.finetuned("source", &sets(&[]));
    let run = lab.finetuned("adapted", &sets(&["strategy.adapt=true"]));
    run.says(&["with BatchNorm's statistics of 50 training images instead of the source's", "they are kept"]);
    let [source, adapted] = ["source", "adapted"].map(|out| lab.json(&format!("{out}/report.json")));
    let accuracy = |report: &Value| report["test"]["accuracy"].as_f64().unwrap();
    assert!(accuracy(&adapted) > accuracy(&source) + 0.1, "{} {}", accuracy(&adapted), accuracy(&source));
    let note = adapted["notes"].to_string();
    assert!(note.contains("BatchNorm's running statistics are those of 50 training images"), "{note}");
    assert_eq!(adapted["passes"][0]["times"], 2);
    let [was, is] = ["source", "adapted"].map(|out| tensors(&lab, &format!("{out}/model.safetensors")));
    for (key, values) in &was {
        let moved = key.contains("running_") || key.starts_with("tl_head.");
        assert_eq!(*values != is[key], moved, "{key}");
    }
    let (_, right, _) = predicted(&lab, "adapted");
    assert_eq!(accuracy(&adapted), right as f64 / 40.);
    // Nothing is left of what was tried.
    assert!(names(&lab.path("adapted/checkpoint")).is_empty());

    // Where they do not help, the network is what it was.
    let plain = ["strategy.read=[features]", "preprocess.mean=[-2, -2, -2]"];
    lab.finetuned("plain", &plain);
    let run = lab.finetuned("kept", &[&plain[..], &["strategy.adapt=true"]].concat());
    run.says(&["not clearly more"]);
    assert_eq!(tensors(&lab, "plain/model.safetensors"), tensors(&lab, "kept/model.safetensors"));
}

/// Images that are measured as similar, and a head that says otherwise.
#[test]
fn similar_images_have_a_rival_too_where_their_head_is_often_wrong() {
    let lab = Lab::new(5);
    lab.write("r.yaml", recipe("auto"));
    let similar =
        ["strategy.similar_below=10", "train.epochs=4", "train.batch_size=16", "strategy.size=little"];
    let run = lab.finetuned("little", &similar);
    run.says(&[
        "rival       full: trained too, unless the linear classifier leaves too little to gain",
        "trying  linear",
        "trying  full",
    ]);
    let methods = lab.json("little/report.json")["contest"]["methods"].as_array().unwrap().len();
    assert_eq!(methods, 2);
    // Whoever says that they are similar is believed.
    let told = ["strategy.size=little", "strategy.similarity=similar"];
    let run = lab.finetuned("told", &told);
    assert!(!run.stderr.contains("rival"), "{}", run.stderr);
    assert_eq!(lab.json("told/report.json")["method"], "linear");
}

#[test]
fn lots_of_similar_images_are_trained_in_full_where_the_top_features_do_not_fit() {
    let lab = Lab::new(45);
    lab.write("r.yaml", recipe("auto"));
    let lots = ["strategy.similar_below=10", "train.epochs=1", "train.batch_size=32"];
    let look = "a look at linear: heads on 200 of 410 training images are right on ";
    let cases: [(&str, &[&str]); 2] = [
        ("partial", &["preprocess={resize_size: 64, crop_size: 64}"]),
        ("full", &["preprocess.std=[4, 4, 4]"]),
    ];
    for (method, more) in cases {
        let run = lab.finetuned(method, &[&lots[..], more].concat());
        run.says(&[
            "rival       full: trained instead, unless",
            look,
            &format!("trying  {method}"),
            &format!("method  {method}: "),
        ]);
        let report = lab.json(&format!("{method}/report.json"));
        assert_eq!(
            (&report["method"], &report["contest"]["look"]["method"]),
            (&method.into(), &"linear".into())
        );
        assert_eq!(report["contest"]["shares"], serde_json::json!([1.]));
        lab.finetuned("alone", &[&lots[..], more, &[&format!("strategy.method={method}")]].concat());
        assert_eq!(
            tensors(&lab, &format!("{method}/model.safetensors")),
            tensors(&lab, "alone/model.safetensors")
        );
        fs::remove_dir_all(lab.path("alone")).unwrap();
    }
}
