//! Names from files of others, which would command a terminal: none reaches it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use transferkit::weights::checkpoint::read_checkpoint;
use transferkit::weights::write_tensors;

use super::program::{Run, Tl, repository};

/// Clears the screen, sets the title, and begins a sequence with one byte of C1.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m";

/// The shipped network, with its metadata's text and its tensors' names changed.
fn model(path: &Path, text: impl Fn(String) -> String, name: impl Fn(String) -> String) {
    let shipped = read_checkpoint(&repository("data/shufflenet_v2_x0_5-letters.safetensors")).unwrap();
    let metadata: HashMap<String, String> =
        shipped.metadata.into_iter().map(|(key, value)| (key, text(value))).collect();
    let tensors: Vec<_> = shipped.tensors.into_iter().map(|(key, tensor)| (name(key), tensor)).collect();
    write_tensors(path, &tensors, metadata).unwrap();
}

/// In JSON.
fn escaped() -> String {
    serde_json::to_string(HOSTILE).unwrap().trim_matches('"').to_string()
}

#[track_caller]
fn is_harmless(run: &Run) {
    for text in [&run.stdout, &run.stderr] {
        let letters = text.chars().find(|letter| letter.is_control() && !"\n\t".contains(*letter));
        assert_eq!(letters, None, "{text:?}");
    }
    let both = format!("{}{}", run.stdout, run.stderr);
    assert!(both.contains("owned"), "the name is not shown: {both}");
}

#[test]
fn names_in_a_model_command_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let image = repository("data/samples/eight.png");
    let path = |name: &str| folder.path().join(name);
    let call = |model: &str| {
        Tl::new(["predict", "--threads", "1", "--model", model]).arg(&image).cwd(folder.path()).run()
    };
    let same = |text: String| text;
    model(&path("architecture.safetensors"), |text| text.replace("shufflenet_v2_x0_5", &escaped()), same);
    is_harmless(&call("architecture.safetensors").expect(2));
    model(&path("tensors.safetensors"), same, |name| name.replace("conv1.0.weight", HOSTILE));
    is_harmless(&call("tensors.safetensors").expect(1));
    model(
        &path("classes.safetensors"),
        |text| text.replace("lower_", &escaped()).replace("upper_", &escaped()),
        same,
    );
    is_harmless(&call("classes.safetensors").expect(0));
}

#[test]
fn names_of_folders_and_arguments_command_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["a", HOSTILE] {
        let class = folder.path().join("images").join(class);
        fs::create_dir_all(&class).unwrap();
        for (index, name) in ["one", "two", "three"].iter().enumerate() {
            fs::copy(repository(&format!("data/samples/{name}.png")), class.join(format!("{index}.png")))
                .unwrap();
        }
        fs::write(class.join(format!("broken-{HOSTILE}.png")), "no image").unwrap();
    }
    let model = repository("data/shufflenet_v2_x0_5-letters.safetensors");
    let recipe = format!(
        "model: {}\ndata: {{train: images, val: 0.3}}\nstrategy: {{method: linear}}\ntrain: {{epochs: 1}}\n",
        model.display()
    );
    fs::write(folder.path().join("r.yaml"), recipe).unwrap();
    let call = |args: &[&str]| Tl::new(args).args(["--threads", "1"]).cwd(folder.path()).run();
    let hostile = format!("train.{HOSTILE}=1");
    is_harmless(&call(&["plan", "r.yaml"]).expect(0));
    is_harmless(&call(&["plan", "r.yaml", "--set", &hostile]).expect(2));
    is_harmless(&call(&["plan", HOSTILE]).expect(2));
    is_harmless(&call(&["models", HOSTILE]).expect(2));
    is_harmless(&call(&["finetune", "r.yaml", "--out", "run"]).expect(0));
    let model = model.to_str().unwrap();
    is_harmless(
        &call(&["extract", "--model", model, "--stage", HOSTILE, "--out", "f.csv", "images"]).expect(2),
    );
    is_harmless(
        &call(&["predict", "--model", "run", "--out", &format!("{HOSTILE}.csv"), "images"]).expect(1),
    );
    is_harmless(&call(&["inspect", HOSTILE]).expect(2));
}
