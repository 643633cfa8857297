//! Heat maps: against PyTorch's hooks (`tests/oracle/explain.py`), and `tl explain` as a program.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use tch::Tensor;
use transferkit::device::back_off::BackOff;
use transferkit::device::precision::Precision;
use transferkit::inference::explain::{Explaining, Explanation, Method};
use transferkit::models::{Fill, Folding, InferenceNetwork, Network, Role, Tap};
use transferkit::preprocess::{DecodeLimits, decode_file};
use transferkit::weights::checkpoint::read_checkpoint;
use transferkit::weights::to_tensor;

use crate::digits::Lab;
use crate::extract::{LETTERS, write_png};
use crate::filled;
use crate::program::{Run, Tl, answers, repository};

fn explained(
    network: &Network,
    images: &Tensor,
    stage: usize,
    method: Method,
    class: Option<usize>,
) -> Vec<Explanation> {
    let parts = BackOff::new(network.device());
    let precision = Precision::Fp32;
    let explaining = Explaining { stage, method, class, temperature: None, precision, parts: &parts };
    explaining.run(network, images).unwrap()
}

fn values(explanations: &[Explanation]) -> Vec<f32> {
    explanations.iter().flat_map(|explanation| explanation.map.values.clone()).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0., f32::max)
}

/// The side of the images and their number, as `SIZES` in `tests/oracle/models.py`.
fn size(name: &str) -> (i64, i64) {
    match name {
        "inception_v3" => (128, 2),
        "maxvit_t" | "vit_b_16" => (224, 2),
        _ => (96, 2),
    }
}

/// Of numbers in [0, 1].
const TOLERANCE: f32 = 1e-4;

#[test]
fn maps_equal_those_of_pytorchs_hooks() {
    let made = read_checkpoint(&repository("tests/fixtures/explain/maps.safetensors")).unwrap();
    let mut networks: HashMap<String, Network> = HashMap::new();
    for (key, raw) in &made.tensors {
        let [name, stage, class, method] = key.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (side, images) = size(name);
        let network = networks.entry(name.into()).or_insert_with(|| filled::network(name));
        let given = |text: &str| (text != "-").then(|| text.to_string());
        let stage = network.map_stage(given(stage).as_deref(), side as u32).unwrap();
        let class = given(class).map(|class| class.parse().unwrap());
        let found = explained(network, &filled::inputs(images, side), stage, method.parse().unwrap(), class);
        let expected = to_tensor(raw).unwrap();
        let [_, height, width] = expected.size()[..] else { panic!("{key}") };
        assert!(found.iter().all(|one| (one.map.height, one.map.width) == (height as usize, width as usize)));
        let expected = Vec::<f32>::try_from(expected.reshape([-1])).unwrap();
        let error = furthest(&values(&found), &expected);
        assert!(error < TOLERANCE, "{key}: differs by {error:e}");
    }
    assert_eq!(networks.len(), 19, "a family is missing");
}

/// As a fine-tuned network is: all of its parameters require gradients.
#[test]
fn no_weight_gets_a_gradient_and_a_copy_for_inference_gives_the_same() {
    let mut network = filled::network("shufflenet_v2_x0_5");
    network.freeze(0).unwrap();
    let images = filled::inputs(2, 96);
    let stage = network.map_stage(None, 96).unwrap();
    let own = explained(&network, &images, stage, Method::GradCam, None);
    assert!(network.vars().iter().all(|var| !var.tensor.grad().defined()));
    assert!(network.vars().iter().any(|var| var.tensor.requires_grad()));
    let copy = InferenceNetwork::of(&network, Folding::Plain).unwrap().network().unwrap();
    let copied = explained(&copy, &images, stage, Method::GradCam, None);
    assert_eq!(copied[0].class, own[0].class);
    assert!(furthest(&values(&copied), &values(&own)) < TOLERANCE);
    // As under `predict`.
    let logits = network.read(&images, Tap::Logits).unwrap();
    let probabilities = logits.softmax(1, tch::Kind::Float);
    let (confidences, classes) = probabilities.max_dim(1, false);
    for (index, explanation) in own.iter().enumerate() {
        let index = index as i64;
        assert_eq!(explanation.class as i64, classes.int64_value(&[index]));
        assert!((f64::from(explanation.confidence) - confidences.double_value(&[index])).abs() < 1e-6);
    }
}

/// A linear head on a mean of the last stage makes Grad-CAM the class activation map: the class's
/// own weights (Zhou et al., CVPR 2016), also where the head reads another stage beside it.
#[test]
fn a_head_on_several_stages_is_explained_by_its_own_weights() {
    let mut network = filled::network("shufflenet_v2_x0_5");
    let images = filled::inputs(2, 96);
    let last = network.stage_count() - 1;
    let width = |network: &Network, tap| network.read(&images, tap).unwrap().size()[1] as usize;
    let (inner, features) = (width(&network, Tap::Stage(1)), width(&network, Tap::Features));
    network.read_stages(&[Tap::Stage(1), Tap::Features], inner + features, 5, Fill::Zeros).unwrap();
    network
        .vars()
        .iter()
        .filter(|var| var.role == Role::Weight && var.key.starts_with("tl_head"))
        .for_each(filled::fill);
    let class = 3;
    let found = explained(&network, &images, last, Method::GradCam, Some(class));
    let outputs = tch::no_grad(|| {
        let whole = filled::network("shufflenet_v2_x0_5");
        whole.watch(&images, last).unwrap().gradient(&Tensor::from_slice(&[0i64, 0])).unwrap()[0].copy()
    });
    let weights = network.classifier().weight().select(0, class as i64);
    let weights = weights.narrow(0, inner as i64, features as i64).reshape([1, -1, 1, 1]);
    let maps = (outputs * weights).sum_dim_intlist(1, false, tch::Kind::Float).relu();
    let maps = &maps / maps.amax([1, 2], true);
    let expected = Vec::<f32>::try_from(maps.reshape([-1])).unwrap();
    assert!(furthest(&values(&found), &expected) < TOLERANCE);
    // The stage that it reads directly has its share.
    let inner = explained(&network, &images, 1, Method::LayerCam, Some(class));
    assert!(values(&inner).contains(&1.));
}

fn explain(folder: &Path, args: &[&str]) -> Run {
    let call = Tl::new(["explain"]).arg(repository(LETTERS)).cwd(folder);
    call.args(["--device", "cpu", "--threads", "2"]).args(args).run()
}

/// The rows of `index.csv`, without its header.
fn rows(path: &Path) -> Vec<csv::StringRecord> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    assert_eq!(
        reader.headers().unwrap(),
        ["path", "label", "confidence", "picture", "map", "error"].as_slice()
    );
    reader.records().map(Result::unwrap).collect()
}

/// Shape and numbers of an `.npy` file.
fn npy(path: &Path) -> (String, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let header = std::str::from_utf8(&bytes[10..128]).unwrap().trim_end().to_string();
    (header, bytes[128..].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect())
}

#[test]
fn each_image_gets_a_picture_and_a_map_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, sample) in
        [("a/x.png", "two"), ("b/x.png", "three"), ("c/x\u{1b}[2J;.png", "eight"), ("d.png", "one")]
    {
        fs::create_dir_all(at("images").join(name).parent().unwrap()).unwrap();
        fs::copy(repository(&format!("data/samples/{sample}.png")), at("images").join(name)).unwrap();
    }
    fs::write(at("images/broken.png"), "no image").unwrap();
    let run = explain(folder.path(), &["images", "--out", "maps"]).expect(1);
    insta::assert_snapshot!(run.told(), @"
    4 heat maps of 5 images in maps: gradcam at `conv5` of shufflenet_v2_x0_5
    1 of 5 images could not be read: see `error` in maps/index.csv
    ");
    assert_eq!(run.stdout, "");
    let found = rows(&at("maps/index.csv"));
    assert_eq!(found.len(), 5);
    let mut names = HashSet::new();
    for row in &found {
        let [path, label, confidence, picture, map, error] =
            row.iter().collect::<Vec<_>>().try_into().unwrap();
        if path == "images/broken.png" {
            assert_eq!([label, confidence, picture, map], [""; 4]);
            assert!(error.contains("not an image"), "{error}");
            continue;
        }
        assert_eq!(error, "");
        assert!(confidence.parse::<f32>().unwrap() > 0. && !label.is_empty());
        for name in [picture, map] {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{name}");
            assert!(names.insert(name.to_string()), "two images share {name}");
        }
        let (header, values) = npy(&at("maps").join(map));
        let picture = decode_file(&at("maps").join(picture), DecodeLimits::default()).unwrap();
        let (width, height) = (picture.width as usize, picture.height as usize);
        assert!(header.contains(&format!("'shape': ({height}, {width})")), "{header}");
        assert_eq!(values.len(), width * height);
        assert!(values.iter().all(|value| (0. ..=1.).contains(value)));
        assert!(values.iter().any(|&value| value > 0.5), "{path}: the map is cold");
    }
    assert_eq!(fs::read_dir(at("maps")).unwrap().count(), 2 * 4 + 1, "no temporaries are left");

    // Alone, through the original network: the same numbers. The folder keeps the others' files.
    let map = at("maps").join(&found.iter().find(|row| &row[0] == "images/a/x.png").unwrap()[4]);
    let before = npy(&map).1;
    explain(folder.path(), &["images/a/x.png", "--out", "maps", "--quiet"]).expect(0);
    assert_eq!(rows(&at("maps/index.csv")).len(), 1);
    assert!(furthest(&npy(&map).1, &before) < TOLERANCE);
    assert_eq!(fs::read_dir(at("maps")).unwrap().count(), 2 * 4 + 1, "the same image, the same files");
    explain(folder.path(), &["images", "--out", "maps", "--quiet", "--batch-size", "1"]).expect(1);
    assert!(furthest(&npy(&map).1, &before) < TOLERANCE);
}

/// The label and the confidence of an image, also where the model has a temperature.
#[test]
fn confidences_are_those_of_predict() {
    let lab = Lab::of("linear", 8);
    lab.finetuned("run", &[]);
    let image = repository("data/samples/eight.png");
    let image = image.to_str().unwrap();
    lab.tl(&["explain", "run", "--out", "maps", image]).run().expect(0);
    lab.tl(&["predict", "--model", "run", "--out", "p.csv", image]).run().expect(0);
    let predicted = csv::Reader::from_path(lab.path("p.csv")).unwrap().records().next().unwrap().unwrap();
    let explained = &rows(&lab.path("maps/index.csv"))[0];
    assert_eq!(explained[1], predicted[1]);
    let [explained, predicted] = [&explained[2], &predicted[2]].map(|text| text.parse::<f32>().unwrap());
    assert!((explained - predicted).abs() < 1e-5, "explain {explained}, predict {predicted}");
}

#[test]
fn another_class_stage_or_method_gives_another_map() {
    let folder = tempfile::tempdir().unwrap();
    let image = repository("data/samples/eight.png");
    let map = |out: &str, args: &[&str]| {
        let run =
            explain(folder.path(), &[&[image.to_str().unwrap(), "--out", out], args].concat()).expect(0);
        let row = rows(&folder.path().join(out).join("index.csv"))[0].clone();
        (run.told(), row[1].to_string(), npy(&folder.path().join(out).join(&row[4])).1)
    };
    let (told, _, usual) = map("usual", &[]);
    insta::assert_snapshot!(told, @"1 heat map of 1 image in usual: gradcam at `conv5` of shufflenet_v2_x0_5");
    let (_, label, other) = map("class", &["--class", "lower_a"]);
    assert_eq!(label, "lower_a");
    let (told, _, early) = map("stage", &["--stage", "stage3", "--method", "layercam"]);
    insta::assert_snapshot!(told, @"1 heat map of 1 image in stage: layercam at `stage3.7` of shufflenet_v2_x0_5");
    for map in [&other, &early] {
        assert!(furthest(map, &usual) > 0.05);
    }
}

#[test]
fn wrong_command_lines_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    write_png(&images.join("a/1.png"), [1, 2, 3]);
    fs::write(folder.path().join("file"), "").unwrap();
    let calls: [&[&str]; 9] = [
        &["images", "--out", "file"],
        &["images", "--out", "images"],
        &["images", "--out", "images/a/new/maps"],
        &["images/a", ".", "--out", "maps"],
        &["images", "--out", "maps", "--class", "lower_aa"],
        &["images", "--out", "maps", "--class", "zebra crossing"],
        &["images", "--out", "maps", "--stage", "stage9"],
        &["images", "--out", "maps", "--method", "rollout"],
        &["images"],
    ];
    insta::assert_snapshot!(answers(&calls, |args| explain(folder.path(), args).expect(2)), @"
    $ images --out file
    error: file is a file: `--out` names a folder

    $ images --out images
    error: the pictures in images would be among the images of the PATH images: choose a folder outside it for `--out`

    $ images --out images/a/new/maps
    error: the pictures in images/a/new/maps would be among the images of the PATH images: choose a folder outside it for `--out`

    $ images/a . --out maps
    error: the pictures in maps would be among the images of the PATH .: choose a folder outside it for `--out`

    $ images --out maps --class lower_aa
    error: the model has no class named `lower_aa`; the nearest are `lower_a`, `lower_b` and `lower_c`

    $ images --out maps --class zebra crossing
    error: the model has no class named `zebra crossing`: it has lower_a, lower_b, lower_c, lower_d, lower_e and 47 more

    $ images --out maps --stage stage9
    error: shufflenet_v2_x0_5 has no stage named `stage9`; did you mean `stage2`? It has conv1, stage2, stage3, stage4, conv5; a part of one has a name such as stage4.3

    $ images --out maps --method rollout
    error: invalid value 'rollout' for '--method <gradcam|layercam>': expected gradcam or layercam

    For more information, try '--help'.

    $ images
    error: the following required arguments were not provided:
      --out <FOLDER>

    Usage: tl explain --out <FOLDER> --device <DEVICE> --threads <N> <MODEL> <PATH>...

    For more information, try '--help'.
    ");
    assert!(!folder.path().join("maps").exists());
    let behind =
        ["explain", "mobilenet_v3_small", "images", "--out", "maps", "--weights", "none", "--stage", "fc"];
    let run = Tl::new(behind).args(["--device", "cpu", "--threads", "1"]).cwd(folder.path()).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    note: `--weights none`: the network has random values, and its answers mean nothing
    error: no heat map can be made behind the stage `fc` of mobilenet_v3_small, which looks at the whole image at once: the last stage with places is `last`
    ");
}

#[test]
fn behind_the_last_attention_no_patch_counts() {
    let network = filled::network("vit_b_32");
    let error = network.map_stage(Some("encoder.11"), 224).unwrap_err();
    insta::assert_snapshot!(error.to_string(), @"no heat map can be made behind the stage `encoder.11` of vit_b_32, since the class token alone is read there: the last stage with places is `encoder.10`");
    assert_eq!(network.map_stage(None, 224).unwrap(), network.map_stage(Some("encoder.10"), 224).unwrap());
}
