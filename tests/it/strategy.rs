//! `method: auto`: the measurements, the chosen method, and the notes.

use serde_json::{Value, json};

use crate::digits::{Lab, images, recipe};
use crate::program::Run;

/// A recipe without a method, at the size that the weights were trained at.
fn lab(train: usize) -> Lab {
    let lab = Lab::new(train);
    lab.write("r.yaml", recipe("auto").replace("preprocess: { resize_size: 32 }\n", ""));
    lab
}

fn plan(lab: &Lab, sets: &[&str]) -> Run {
    lab.tl(&["plan", "r.yaml"]).args(sets.iter().flat_map(|set| ["--set", set])).run()
}

/// The training images inverted and rotated, so that they are unlike anything the network knows.
fn strange(lab: &Lab, count: usize) -> String {
    let mut rows = String::from("path,label\n");
    for (index, (path, class)) in images("train", 0, count).into_iter().enumerate() {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let decoder = png::Decoder::new(file);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let (width, height) = (info.width as usize, info.height as usize);
        let channels = pixels.len() / (width * height);
        // Checks over an inverted image: sharp edges everywhere.
        for (place, value) in pixels.iter_mut().enumerate() {
            let (x, y) = ((place / channels) % width, place / channels / width);
            *value = if (x + y) % 2 == 0 { 255 - *value } else { 255 * u8::from(index % 2 == 0) };
        }
        let name = format!("strange/{index}.png");
        let out = lab.write(&name, []);
        let mut encoder = png::Encoder::new(std::fs::File::create(out).unwrap(), info.width, info.height);
        encoder.set_color(info.color_type);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        rows.push_str(&format!("{name},{class}\n"));
    }
    rows
}

#[test]
fn each_corner_gets_its_method_for_a_stated_reason() {
    let lab = lab(20);
    for (size, similarity, method, words) in [
        ("little", "similar", "linear", "a linear classifier on the top features"),
        ("little", "different", "stages", "the features of several stages"),
        ("lots", "similar", "partial", "the last stages are fine-tuned"),
        ("lots", "different", "full", "all stages are fine-tuned"),
    ] {
        let sets = [format!("strategy.size={size}"), format!("strategy.similarity={similarity}")];
        let run = plan(&lab, &[&sets[0], &sets[1]]).expect(0);
        let yaml: serde_yaml::Value = serde_yaml::from_str(&run.stdout).unwrap();
        assert_eq!(yaml["method"], method);
        assert!(yaml["reason"].as_str().unwrap().contains(words), "{}", run.stdout);
        assert_eq!(yaml["strategy"]["size"]["forced"], true);
        run.says(&["as the recipe says", "training    "]);
    }
}

#[test]
fn size_and_similarity_are_measured() {
    let lab = lab(20);
    let measured = |run: &Run| -> (Value, f64) {
        let yaml: Value = serde_yaml::from_str(&run.stdout).unwrap();
        let strategy = yaml["strategy"].clone();
        let value = strategy["similarity"]["measured"]["value"].as_f64().unwrap();
        (strategy, value)
    };
    let run = plan(&lab, &[]).expect(0).says(&["distance from the source data", "similar, below 0.03"]);
    let (strategy, near) = measured(&run);
    assert_eq!(strategy["size"]["per_class"], json!({ "least": 20, "median": 20, "most": 20 }));
    assert_eq!(strategy["similarity"]["measured"]["images"], 64, "far from the threshold a few are enough");
    assert_eq!(plan(&lab, &[]).expect(0).stdout, run.stdout, "the same images, the same number");

    lab.write("train.csv", strange(&lab, 20));
    let run = plan(&lab, &[]).expect(0).says(&["different, not below 0.03"]);
    let (_, far) = measured(&run);
    assert!(near < 0.02 && far > 0.1, "{near}, {far}");

    // Near it, all of the sample are looked at.
    let bar = format!("strategy.similar_below={}", 1.05 * far);
    let (strategy, _) = measured(&plan(&lab, &[&bar]).expect(0));
    assert_eq!(strategy["similarity"]["measured"]["images"], 200);

    // Every threshold can be set.
    let bar = format!("strategy.similar_below={}", 2. * far);
    plan(&lab, &[&bar, "strategy.little_below=21"])
        .expect(0)
        .says(&["linear: little data (20 images a class)"]);
    plan(&lab, &[&bar, "strategy.little_below=20"]).expect(0).says(&["partial: lots of data"]);
}

#[test]
fn a_run_says_what_it_chose_and_goes_on_with_it() {
    let lab = lab(6);
    let run = lab
        .finetuned("run", &["strategy.rival=false"])
        .says(&["method      linear: little data (6 images a class)"]);
    assert!(run.stderr.contains("logistic regression"), "{}", run.stderr);
    let report = lab.json("run/report.json");
    assert_eq!(report["method"], "linear");
    assert_eq!(report["strategy"]["size"]["verdict"], "little");
    assert!(report["strategy"]["similarity"]["measured"]["value"].as_f64().unwrap() < 0.03);
    // The plan is in the run folder, and what it measured holds: a changed number is not measured
    // again.
    let plan = String::from_utf8(lab.read("run/plan.yaml")).unwrap();
    let (before, rest) = plan.split_once("value: ").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    lab.write("run/plan.yaml", format!("{before}value: 0.0101\n{after}"));
    std::fs::remove_file(lab.path("run/report.json")).unwrap();
    let run = lab.finetune("run", &["strategy.rival=false"]).arg("--resume").run().expect(0);
    run.says(&["distance from the source data 0.010"]);
    assert_eq!(lab.json("run/report.json")["strategy"]["similarity"]["measured"]["value"], 0.0101);
}

#[test]
fn without_weights_there_is_nothing_to_transfer_from() {
    let lab = lab(4);
    let run = plan(&lab, &["weights=none"]).expect(0);
    insta::assert_snapshot!(run.message("method  "), @"method      scratch: there are no pretrained weights to transfer from: all stages are trained");
}

#[test]
fn images_that_cannot_be_read_are_passed_over_unless_none_can() {
    let lab = lab(4);
    let mut rows = String::from_utf8(lab.read("train.csv")).unwrap();
    lab.write("bad.png", "no image");
    rows.push_str("bad.png,3\n");
    lab.write("train.csv", &rows);
    plan(&lab, &[]).expect(0).says(&["on 40 training images"]);
    let unreadable = (0..10).map(|class| {
        lab.write(&format!("{class}.png"), "no image either");
        format!("{class}.png,{class}\n")
    });
    let unreadable: String = unreadable.collect();
    lab.write("train.csv", format!("path,label\n{unreadable}"));
    let refused = plan(&lab, &["data.val=val.csv"]).expect(1);
    insta::assert_snapshot!(refused.told(), @"error: none of 10 training images that were looked at can be read, so that their similarity to the source data cannot be measured; `strategy: { similarity: … }` or `method: …` in the recipe does without");
}

/// Vision transformers have no BatchNorm: their classifier is used.
#[test]
fn a_network_without_batch_norm_is_asked_what_its_classifier_tells() {
    let lab = lab(2);
    let network = transferkit::models::Network::sized(
        transferkit::models::find("vit_b_32").unwrap(),
        1000,
        32,
        tch::Device::Cpu,
        transferkit::models::Fill::Initial { seed: 1 },
    )
    .unwrap();
    let state = transferkit::weights::state_dict(&network).unwrap();
    transferkit::weights::write_tensors(
        &lab.path("vit.safetensors"),
        &state,
        std::collections::HashMap::new(),
    )
    .unwrap();
    drop((network, state));
    let run = plan(&lab, &["model=vit_b_32", "weights=vit.safetensors", "preprocess={resize_size: 32}"]);
    // Random weights tell nothing of anything.
    run.expect(0).says(&["the source's classifier tells 0 %", "stages: little data"]);
}
