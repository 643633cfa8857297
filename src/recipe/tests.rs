//! Messages are compared in full: they are what a user sees.

use std::path::{Path, PathBuf};

use super::*;
use crate::preprocess::{Crops, Fit};

const SMALL: &str = "model: resnet18\ndata: { train: photos/train }\n";

fn read(text: &str, sets: &[&str]) -> Result<Recipe> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photos.yaml");
    std::fs::write(&path, text).unwrap();
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    Recipe::read(&path, &sets)
}

fn mistakes(text: &str, sets: &[&str]) -> Vec<String> {
    match read(text, sets) {
        Err(Error::Recipe { mistakes, .. }) => mistakes,
        other => panic!("expected mistakes, found {other:?}"),
    }
}

#[test]
fn all_keys_arrive_typed() {
    let text = "
model: resnet50
weights: IMAGENET1K_V2
preprocess: { resize_size: 232, crop_size: 224, interpolation: bicubic, mean: [0.5, 0.5, 1], std: [1, 1, 0.5],
  fit: pad, pad_color: [0, 128, 255], white_level: 4095 }
data: { train: a/b, val: 0.25, test: t.csv, bad_images: fail, max_pixels: 1000000, decode: fast }
strategy: { size: little, similarity: different, method: partial, train_from: layer3, read: [layer2, features],
  little_below: 10, similar_below: 0.1, similar_above: 0.5, rival: false, average: false, compare_on: 9,
  race: { methods: [linear, full], folds: 5, epochs: 2 } }
train:
  { epochs: 3, batch_size: 16, micro_batch: 4, precision: bf16, optimizer: adamw, lr: 1e-3, head_lr: 0.1, momentum: 0, nesterov: true,
    weight_decay: 5e-4, decay_norm_and_bias: true, schedule: plateau, warmup_epochs: 0, step_epochs: 2, gamma: 0.5,
    patience: 4, label_smoothing: 0.1, aux_weight: 0.3, class_weights: balanced, clip_grad_norm: 5, early_stopping: 7,
     monitor: macro_f1, batch_norm: inference, mixup: 0.2, cutmix: 1, ema: 0.99, tensorboard: true, linear_head_first: true, layer_decay: 0.75,
    unfreeze_epochs: 2, keep: never, keep_memory: 100, keep_disk: 0, kept_views: 4, c: 2, folds: 3 }
augment:
  { random_resized_crop: false, scale: [0.5, 1], ratio: [1, 1], scale_jitter: [256, 512], flip: 0, vertical_flip: 0.5,
    policy: randaugment, num_ops: 3, magnitude: 7, pca_color: 0.1,
    color_jitter: { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 } }
eval: { crops: 10, scales: [224, 256] }
seed: 18446744073709551615
device: cuda:1
threads: 2
out: somewhere
";
    let recipe = read(text, &[]).unwrap();
    // Every row of the table, so that this test notices a key without a field.
    assert_eq!(recipe.given().count(), KEYS.len());
    assert_eq!(recipe.seed, Some(u64::MAX));
    assert_eq!(recipe.device, Some(DeviceChoice::Cuda(1)));
    assert_eq!(recipe.data.val, Some(ValChoice::Fraction(0.25)));
    assert_eq!(recipe.strategy.method, Some(Method::Partial));
    assert_eq!(recipe.strategy.race.methods, Some(vec![Method::Linear, Method::Full]));
    assert_eq!(recipe.train.optimizer, Some(OptimizerChoice::AdamW));
    assert_eq!(recipe.train.lr, Some(0.001));
    assert_eq!(recipe.train.clip_grad_norm, Some(5.0));
    assert_eq!(recipe.train.keep, Some(KeepChoice::Never));
    assert_eq!((recipe.train.unfreeze_epochs, recipe.train.kept_views), (Some(2), Some(4)));
    assert_eq!(recipe.augment.ratio, Some([1.0, 1.0]));
    assert_eq!((recipe.eval.crops, &recipe.eval.scales), (Some(Crops::Ten), &Some(vec![224, 256])));
    assert_eq!(recipe.augment.scale_jitter, Some([256, 512]));
    assert_eq!(recipe.augment.policy, Some(PolicyChoice::RandAugment));
    assert_eq!(recipe.augment.color_jitter.hue, Some(0.1));
    let Some(PreprocessChoice::Changes(preprocess)) = &recipe.preprocess else { panic!("{recipe:?}") };
    assert_eq!(preprocess.std, Some([1.0, 1.0, 0.5]));
    assert_eq!((preprocess.fit, preprocess.pad_color), (Some(Fit::Pad), Some([0, 128, 255])));
    assert_eq!(preprocess.white_level, Some(4095));
    assert_eq!(recipe.out_folder(), Path::new("somewhere"));
}

#[test]
fn what_was_not_given_is_none() {
    let recipe = read(SMALL, &[]).unwrap();
    assert_eq!(recipe.model.as_deref(), Some("resnet18"));
    assert_eq!(recipe.data.train.as_deref(), Some(Path::new("photos/train")));
    assert_eq!((recipe.weights.as_ref(), recipe.seed, recipe.device), (None, None, None));
    assert_eq!(recipe.train, TrainSection::default());
    assert_eq!(recipe.given().collect::<Vec<_>>(), ["data", "data.train", "model"]);
    assert_eq!(recipe.out_folder(), Path::new("runs/photos"));
    // A section with all lines commented out.
    assert_eq!(read(&format!("{SMALL}train:\n  # epochs: 3\n"), &[]).unwrap().train, TrainSection::default());
}

#[test]
fn every_word_of_the_table_is_a_choice_and_the_other_way_round() {
    for key in KEYS {
        let Kind::Choice(words) = key.kind else { continue };
        for word in words {
            let recipe = read(SMALL, &[&format!("{}={word}", key.path)]).unwrap();
            let json = recipe.to_json();
            assert_eq!(json[key.section()][key.name()], *word, "{}", key.path);
        }
    }
}

#[test]
fn all_mistakes_come_at_once_with_their_lines() {
    let text = "modle: resnet18
data:
  train: photos/train
  val: 1.5
  bad_images: skp
strategy: { method: partal }
train:
  epochs: ten
  batch_size: 0
  batch_size: 8
  optimiser: sgd
  learning_rate: 0.1
  nesterov: yes
  lr: -1
epochs: 3
colour: red
augment:
  scale: [1, 0.1]
  flip: [1]
device: gpu
seed: -1
out: 2024
";
    let expected = [
        "line 1: modle: unknown key; did you mean model?",
        "line 4: data.val: expected a fraction between 0 and 1 (both excluded), or a path, found 1.5",
        "line 5: data.bad_images: expected one of skip, fail, found the text \"skp\"; did you mean skip?",
        "line 6: strategy.method: expected one of auto, linear, stages, partial, full, scratch, race, found the text \"partal\"; did you mean partial?",
        "line 8: train.epochs: expected a whole number from 1 up, found the text \"ten\"",
        "line 9: train.batch_size: expected a whole number from 1 to 65536, found 0",
        "line 10: train.batch_size: given twice, first on line 9; keep one",
        "line 11: train.optimiser: unknown key; did you mean train.optimizer?",
        "line 12: train.learning_rate: unknown key; did you mean train.lr?",
        "line 13: train.nesterov: expected true or false, found the text \"yes\"; did you mean true?",
        "line 14: train.lr: expected a number above 0, found -1",
        "line 15: epochs: unknown key; did you mean train.epochs? it belongs under `train:`",
        "line 16: colour: unknown key; known at the top: model, weights, preprocess, data, strategy, train, augment, eval, seed, device, threads, out",
        "line 18: augment.scale: expected `[low, high]`, two numbers above 0, up to 1, found [1, 0.1]; the lower one comes first",
        "line 19: augment.flip: expected a number from 0 to 1, found [1]",
        "line 20: device: expected one of auto, cpu, cuda, cuda:N (cuda:0 is the first GPU), found the text \"gpu\"; did you mean cpu?",
        "line 21: seed: expected a whole number from 0 up, found -1",
        "line 22: out: expected a path, found 2024; if that is the name, put it in quotes",
        "model: missing; write, for example, `model: resnet18`",
    ];
    assert_eq!(mistakes(text, &[]), expected);
}

#[test]
fn views_are_one_or_ten_crops_and_a_list_of_scales() {
    let text = format!("{SMALL}eval:\n  crops: 5\n  scales: 256\n");
    assert_eq!(
        mistakes(&text, &[]),
        [
            "line 4: eval.crops: expected 1 or 10, found 5",
            "line 5: eval.scales: expected a list of whole numbers from 1 to 4096, found 256; a list of one is [256]",
        ]
    );
    for (set, found) in [
        ("eval.scales=[0]", "found [0]"),
        ("eval.scales=[]", "found []"),
        ("eval.scales=[256, 1.5]", "found [256, 1.5]"),
        ("eval.crops=ten", "expected 1 or 10, found the text \"ten\""),
        ("eval.scale=[9]", "did you mean eval.scales?"),
    ] {
        let error = read(SMALL, &[set]).unwrap_err().to_string();
        assert!(error.contains(found), "{set}: {error}");
    }
    assert_eq!(
        mistakes(&format!("{SMALL}tta: {{ crops: 10 }}\n"), &[]),
        ["line 3: tta: unknown key; did you mean eval?"]
    );
    let recipe = read(SMALL, &["eval.crops=10"]).unwrap();
    assert_eq!(recipe.to_json()["eval"], serde_json::json!({ "crops": 10 }));
}

#[test]
fn what_is_no_recipe_is_told_in_plain_words() {
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &[
                "line 1: expected `key: value` lines, found an empty file; a recipe starts with a line such as `model: resnet18`",
                "model: missing; write, for example, `model: resnet18`",
                "data.train: missing; write, for example, `data: { train: photos/train }`",
            ],
        ),
        (
            "model: a\ndata: [a, b]\n",
            &["line 2: data: expected a section (`key: value` lines), found [\"a\", \"b\"]"],
        ),
        ("model: a\ndata:\n  train:\n", &["line 3: data.train: expected a path, found nothing"]),
        ("model: a\ndata:\n  train: ''\n", &["line 3: data.train: expected a path, found an empty text"]),
        (
            "model: a\ndata:\n  train: ~/photos\n",
            &[
                "line 3: data.train: expected a path, found the text \"~/photos\"; only the shell knows `~`: write the whole path",
            ],
        ),
        (
            "model: a\ndata: { train: b, val: '0.2' }\n",
            &[
                "line 2: data.val: expected a fraction between 0 and 1 (both excluded), or a path, found the text \"0.2\"; a fraction has no quotes, and a path of that name is written ./0.2",
            ],
        ),
        (
            "model: a\ndata: { train: b }\ntrain: { lr: '0,1', epochs: 1_000, batch_size: '8', weight_decay: .inf }\n",
            &[
                "line 3: train.lr: expected a number above 0, found the text \"0,1\"; write a point for decimals, and no separators",
                "line 3: train.epochs: expected a whole number from 1 up, found the text \"1_000\"; write digits only",
                "line 3: train.batch_size: expected a whole number from 1 to 65536, found the text \"8\"; a number has no quotes",
                "line 3: train.weight_decay: expected a number from 0 up, found a number without end",
            ],
        ),
        (
            "model: a\ndata: { train: b }\nweights:\n",
            &["line 3: weights: expected a name, found nothing; leave the key out for its default"],
        ),
        (
            "model: a\ndata: { train: b }\n? [x]\n: y\n",
            &["line 3: a key must be a word, found a list or a mapping"],
        ),
        ("model: a\n\tdata: b\n", &["line 2: a tab cannot indent YAML: use spaces"]),
    ];
    for (text, expected) in cases {
        assert_eq!(mistakes(text, &[]), *expected, "{text:?}");
    }
    assert!(mistakes("model:resnet18\n", &[])[0].ends_with("; put a space after the colon"));
    let syntax = mistakes("model: a\ndata: { train: [b }\n", &[]);
    assert!(syntax.len() == 1 && syntax[0].starts_with("line 2, column 19: not valid YAML: "), "{syntax:?}");
}

#[test]
fn very_many_mistakes_are_cut_short() {
    let text: String = (0..5000).map(|i| format!("key{i}: {}\n", "x".repeat(100))).collect();
    let told = mistakes(&text, &[]);
    assert_eq!(told.len(), 51);
    assert_eq!(told[50], "and 4952 more");
}

#[test]
fn set_comes_before_the_check_and_is_cited() {
    let recipe = read(
        "model: a\ndata: { train: b }\ntrain: { epochs: wrong }\npreprocess: IMAGENET1K_V1\n",
        &[
            "train.epochs=5",
            "data.val=0.5",
            "preprocess.crop_size=64",
            "augment={flip: 0, scale: [0.5, 1]}",
            "augment.flip=1",
            "train.lr=1",
            "train.lr=2",
        ],
    )
    .unwrap();
    assert_eq!(recipe.train.epochs, Some(5));
    assert_eq!(recipe.train.lr, Some(2.0));
    assert_eq!(recipe.data.val, Some(ValChoice::Fraction(0.5)));
    assert_eq!(
        recipe.augment,
        AugmentSection { flip: Some(1.0), scale: Some([0.5, 1.0]), ..Default::default() }
    );
    assert!(matches!(recipe.preprocess, Some(PreprocessChoice::Changes(_))));
    assert_eq!(recipe.mistake("train.epochs", "too many").to_string(), "--set train.epochs=5: too many");

    assert_eq!(
        mistakes(
            SMALL,
            &["train.epochs=ten", "train={lr: 0, foo: 1}", "augment.flip=2", "out=@x", "data.test="]
        ),
        [
            "--set out=@x: column 1: not valid YAML: unexpected character: `@'; a value that holds `: `, or starts with one of @ ` % ! * & [ {, needs quotes (quote the value for the shell and for YAML: 'out=\"…\"')",
            "--set data.test=: expected a path, found nothing; leave the key out for its default",
            "--set train={lr: 0, foo: 1}: train.lr: expected a number above 0, found 0",
            "--set train={lr: 0, foo: 1}: train.foo: unknown key; known in train: epochs, batch_size, micro_batch, precision, optimizer, lr, head_lr, momentum, nesterov, weight_decay, decay_norm_and_bias, schedule, warmup_epochs, step_epochs, gamma, patience, label_smoothing, aux_weight, class_weights, clip_grad_norm, early_stopping, monitor, batch_norm, mixup, cutmix, ema, tensorboard, linear_head_first, layer_decay, unfreeze_epochs, keep, keep_memory, keep_disk, kept_views, c, folds",
            "--set augment.flip=2: expected a number from 0 to 1, found 2",
        ]
    );
    // All of a recipe can come from the command line.
    assert!(read("", &["model=a", "data.train=b"]).is_ok());
}

#[test]
fn an_unknown_key_of_set_is_a_wrong_command_line() {
    let error = read(SMALL, &["train.epoch=3", "epochs=3", "nonsense", "data.train.x=1"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(matches!(error, Error::Usage(_)));
    let told = error.to_string();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "--set train.epoch=3: unknown key train.epoch; did you mean train.epochs?");
    assert_eq!(
        lines[1],
        "--set epochs=3: unknown key epochs; did you mean train.epochs? it belongs under `train:`"
    );
    assert_eq!(lines[2], "--set nonsense: expected key.path=VALUE, such as train.epochs=5");
    assert!(lines[3].starts_with("--set data.train.x=1: unknown key data.train.x"), "{}", lines[3]);
}

#[test]
fn lenient_reading_keeps_what_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yaml");
    std::fs::write(&path, "model: a\ndata:\n  train: gone\ntrain:\n  epochs: ten\n  lr: 0.5\n").unwrap();
    let (recipe, mut mistakes) = Recipe::read_leniently(&path, &[]).unwrap();
    assert_eq!(recipe.train, TrainSection { lr: Some(0.5), ..Default::default() });
    mistakes.push(recipe.mistake("data.train", "there is no folder gone"));
    mistakes.push(recipe.mistake("seed", "odd"));
    let Error::Recipe { mistakes, .. } = recipe.refuse(mistakes).unwrap_err() else { panic!() };
    assert_eq!(
        mistakes,
        [
            "line 3: data.train: there is no folder gone",
            "line 5: train.epochs: expected a whole number from 1 up, found the text \"ten\"",
            "seed: odd",
        ]
    );
}

#[test]
fn files_that_are_no_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let told = |path: &Path| {
        let error = Recipe::read(path, &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string().replace(&folder.path().display().to_string(), "D")
    };
    assert_eq!(told(&at("photos.yml")), "cannot read the recipe D/photos.yml: there is no such file");
    std::fs::write(at("photos.yaml"), SMALL).unwrap();
    std::fs::write(at("other.yaml"), SMALL).unwrap();
    assert_eq!(
        told(&at("photos.yml")),
        "cannot read the recipe D/photos.yml: there is no such file; did you mean D/photos.yaml?"
    );
    assert!(told(&at("photos")).ends_with("did you mean D/photos.yaml?"));
    assert!(told(&at("fotos.yaml")).ends_with("did you mean D/photos.yaml?"));
    assert_eq!(
        told(&at("none/photos.yaml")),
        "cannot read the recipe D/none/photos.yaml: there is no folder D/none"
    );
    assert_eq!(
        told(folder.path()),
        "D is a folder, expected a recipe, a YAML file; `tl init D` writes one for a folder of images"
    );
    std::fs::write(at("latin1"), b"model: a\ndata: caf\xe9\n").unwrap();
    assert_eq!(
        told(&at("latin1")),
        "D/latin1: 1 mistake\n  line 2: expected text in UTF-8, found other bytes; save the file as UTF-8"
    );
    std::fs::write(at("big"), vec![b'#'; (1 << 20) + 1]).unwrap();
    insta::assert_snapshot!(told(&at("big")), @"
    D/big: 1 mistake
      expected a recipe, found a file of more than 1 MiB; is this the right file?
    ");
}

#[test]
fn paths_start_at_the_recipe() {
    let recipe =
        Recipe { source: Source { path: "a/b/r.yaml".into(), ..Default::default() }, ..Default::default() };
    assert_eq!(recipe.resolve(Path::new("x/y")), Path::new("a/b/x/y"));
    assert_eq!(recipe.resolve(Path::new("/x")), Path::new("/x"));
    let recipe =
        Recipe { source: Source { path: "r.yaml".into(), ..Default::default() }, ..Default::default() };
    assert_eq!(recipe.resolve(Path::new("x")), Path::new("x"));
}

#[test]
fn what_is_written_back_says_the_same() {
    let text = "
seed: 3
out: /tmp/somewhere
model: resnet50
train: { lr: 0.1, epochs: 3 }
data: { val: /home/me/val, train: photos/train }
device: cuda
weights: /home/me/weights.pth
preprocess: IMAGENET1K_V2
augment:
";
    let recipe = read(text, &[]).unwrap();
    assert_eq!(
        recipe.to_json().to_string(),
        r#"{"data":{"train":"photos/train","val":"val"},"device":"cuda:0","model":"resnet50","preprocess":"IMAGENET1K_V2","seed":3,"train":{"epochs":3,"lr":0.1},"weights":"weights.pth"}"#
    );
    let again = read(&recipe.to_yaml(), &[]).unwrap();
    assert_eq!(again.to_yaml(), recipe.to_yaml());
    assert_eq!(
        again,
        Recipe { out: None, weights: again.weights.clone(), data: again.data.clone(), ..recipe }
    );
}

#[test]
fn devices() {
    for (typed, device) in [
        ("auto", DeviceChoice::Auto),
        ("cpu", DeviceChoice::Cpu),
        ("cuda", DeviceChoice::Cuda(0)),
        ("cuda:7", DeviceChoice::Cuda(7)),
    ] {
        assert_eq!(typed.parse(), Ok(device));
    }
    for typed in ["", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda:99999999999999999999"] {
        assert!(typed.parse::<DeviceChoice>().is_err(), "{typed}");
    }
}

/// Cutting a recipe anywhere, or changing any byte, gives a recipe or a message.
#[test]
fn damaged_recipes_never_panic() {
    let text = "model: &m resnet18\ndata: {train: 'a', val: 0.2}\ntrain:\n  epochs: 3 # c\n  lr: 1e-3\naugment: {scale: [0.1, 1]}\nweights: *m\nout: |\n  x\n";
    let path = Path::new("r.yaml");
    for end in 0..text.len() {
        let _ = Recipe::from_text(&text[..end], path, &[]);
        for c in ["\t", ":", "[", "}", "\"", "&", "*", "!", "\n", "-", "?", "|", "%", "\u{0}", "é", "#", ","]
        {
            let changed = format!("{}{c}{}", &text[..end], &text[end + 1..]);
            let _ = Recipe::from_text(&changed, path, &[]);
        }
    }
}

fn reference() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/recipe.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_reference_has_a_row_for_every_key() {
    let reference = reference();
    let rows: Vec<&str> = reference.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = KEYS
        .iter()
        .map(|key| {
            format!("| `{}` | {} | {} | {} |", key.path, key.kind.expected(), key.default, key.meaning)
        })
        .collect();
    let wrong: Vec<_> = expected.iter().filter(|row| !rows.contains(&row.as_str())).collect();
    assert!(wrong.is_empty(), "docs/recipe.md lacks these rows:\n{wrong:#?}");
    assert_eq!(rows.len(), expected.len(), "docs/recipe.md has rows of keys that are not in the table");
}

#[test]
fn the_examples_of_the_reference_are_recipes() {
    let reference = reference();
    let examples: Vec<&str> =
        reference.split("```yaml\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        read(example, &[]).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}
