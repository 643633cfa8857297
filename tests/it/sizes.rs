//! Images of other sizes than the weights were made for (`tests/oracle/sizes.py`).

use std::collections::HashMap;
use std::path::Path;

use tch::{Device, Tensor};
use transferkit::models::{Architecture, Fill, LOGITS, Network, Tap, Var, architectures, find};
use transferkit::weights::card::{Card, FORMAT};
use transferkit::weights::checkpoint::{Checkpoint, Dtype, RawTensor, read_checkpoint};
use transferkit::weights::{Head, load, positions, state_dict, to_tensor};
use transferkit::weights::{write_model, write_tensors};

use crate::filled;
use crate::models::{LARGE, relative_error};
use crate::program::{Run, Tl, repository};

const POSITIONS: &str = "encoder.pos_embedding";

fn expected() -> HashMap<String, Tensor> {
    let file = read_checkpoint(&repository("tests/fixtures/sizes/sizes.safetensors")).unwrap();
    file.tensors.iter().map(|(key, raw)| (key.clone(), to_tensor(raw).unwrap())).collect()
}

#[test]
fn positions_are_interpolated_as_torchvision_does() {
    let expected = expected();
    let mut grids = 0;
    for (name, expected) in expected.iter().filter(|(name, _)| name.starts_with("grid.")) {
        let sides: Vec<u32> = name.split('.').skip(1).map(|side| side.parse().unwrap()).collect();
        let &[old, new] = sides.as_slice() else { panic!("{name}") };
        let shape = [1, i64::from(old * old) + 1, 3];
        let values: Vec<f32> = filled::values(POSITIONS, &shape);
        let embedding = Tensor::from_slice(&values).reshape(shape);
        let found = positions::resample(&embedding, new).unwrap();
        assert_eq!(found.size(), expected.size(), "{name}");
        let error = relative_error(&found, expected);
        assert!(error < 1e-6, "{name}: relative error {error:e}");
        assert_eq!(found.select(1, 0), embedding.select(1, 0), "{name}: the class token");
        grids += 1;
    }
    assert_eq!(grids, 6);
    let crooked = Tensor::zeros([1, 12, 3], (tch::Kind::Float, Device::Cpu));
    assert!(positions::resample(&crooked, 2).unwrap_err().to_string().contains("[1, 12, 3]"));
}

/// Weights made for the usual size, in networks for images of another one.
#[test]
fn networks_at_other_sizes_equal_torchvisions() {
    let expected = expected();
    let mut models = 0;
    for (name, expected) in expected.iter().filter(|(name, _)| !name.starts_with("grid.")) {
        let (name, side) = name.split_once('.').unwrap();
        let side: i64 = side.parse().unwrap();
        let tensors = state_dict(&filled::network(name)).unwrap();
        let file = Checkpoint { tensors, ..Checkpoint::default() };
        let network = Network::sized(find(name).unwrap(), 1000, side, Device::Cpu, Fill::Zeros).unwrap();
        load(&network, Path::new("w"), &file, Head::Load).unwrap();
        let found = network.read(&filled::inputs(1, side), Tap::Logits).unwrap();
        let error = relative_error(&found, expected);
        assert!(error < 1e-4, "{name} at {side}: relative error {error:e}");
        models += 1;
    }
    assert_eq!(models, 8);
}

fn run(folder: &Path, args: &[&str]) -> Run {
    let image = repository("data/samples/one.png");
    Tl::new(args).args(["--device", "cpu", "--threads", "1"]).arg(image).cwd(folder).run()
}

/// A file for 224 pixels used at 384, and a model that `tl` wrote for 64 used at 224.
#[test]
fn files_made_for_another_size_are_adapted_and_that_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    write_tensors(&file, &state_dict(&filled::network("vit_b_16")).unwrap(), HashMap::new()).unwrap();
    let extract = ["extract", "--model", "vit_b_16", "--weights", "w.safetensors", "--out", "x.csv"];
    let extract_larger = [&extract[..], &["--preprocess", "IMAGENET1K_SWAG_E2E_V1"]].concat();
    let larger = run(folder.path(), &extract_larger).expect(0);
    insta::assert_snapshot!(larger.told(), @"
    note: the weights of vit_b_16 know positions of 14×14 patches: interpolated to 24×24, for images of 384×384 pixels
    1 row of 768 numbers (`features` of vit_b_16) in x.csv
    ");
    let same = run(folder.path(), &extract).expect(0);
    assert!(!same.stderr.contains("interpolated"), "{}", same.stderr);

    let images = folder.path().join("images");
    for (index, class) in ["a", "b"].iter().enumerate() {
        for number in 0..5 {
            crate::extract::write_png(&images.join(class).join(format!("{number}.png")), [index as u8, 9, 9]);
        }
    }
    let recipe = "model: vit_b_16\nweights: w.safetensors\ndata: { train: images }\n\
                  strategy: { method: linear }\npreprocess: { crop_size: 384 }\n";
    std::fs::write(folder.path().join("r.yaml"), recipe).unwrap();
    let plan = |args: &[&str]| Tl::new([&["plan", "r.yaml"], args].concat()).cwd(folder.path()).run();
    insta::assert_snapshot!(plan(&[]).expect(0).notes(), @"
    note: 8 images of `data.train` are copies of another one there, compared by content (a/1.png = a/0.png, a/2.png = a/0.png, a/3.png = a/0.png, a/4.png = a/0.png, b/1.png = b/0.png and 3 more): copies stay on one side, in training or in validation
    note: every class is made of copies of one picture, or shares its pictures with other classes: the validation images are copies of training images, and their accuracy says nothing about new ones
    note: the weights of vit_b_16 know positions of 14×14 patches: interpolated to 24×24, for images of 384×384 pixels
    ");
    // Of torchvision's own entries the size is known before there is a file.
    insta::assert_snapshot!(plan(&["--set", "weights=DEFAULT"]).expect(0).notes(), @"
    note: 8 images of `data.train` are copies of another one there, compared by content (a/1.png = a/0.png, a/2.png = a/0.png, a/3.png = a/0.png, a/4.png = a/0.png, b/1.png = b/0.png and 3 more): copies stay on one side, in training or in validation
    note: every class is made of copies of one picture, or shares its pictures with other classes: the validation images are copies of training images, and their accuracy says nothing about new ones
    note: the weights of vit_b_16 know positions of 14×14 patches: interpolated to 24×24, for images of 384×384 pixels
    ");
    let adapted =
        plan(&["--set", "weights=IMAGENET1K_SWAG_E2E_V1", "--set", "preprocess.crop_size=112"]).expect(0);
    insta::assert_snapshot!(adapted.notes(), @"
    note: 8 images of `data.train` are copies of another one there, compared by content (a/1.png = a/0.png, a/2.png = a/0.png, a/3.png = a/0.png, a/4.png = a/0.png, b/1.png = b/0.png and 3 more): copies stay on one side, in training or in validation
    note: every class is made of copies of one picture, or shares its pictures with other classes: the validation images are copies of training images, and their accuracy says nothing about new ones
    note: the weights of vit_b_16 know positions of 24×24 patches: interpolated to 7×7, for images of 112×112 pixels
    ");
    let unchanged = plan(&["--set", "preprocess.crop_size=224"]).expect(0);
    assert!(!unchanged.stderr.contains("interpolated"), "{}", unchanged.stderr);
    insta::assert_snapshot!(plan(&["--set", "preprocess.crop_size=220"]).expect(2).told(), @"
    error: r.yaml: 1 mistake
      line 5: preprocess: vit_b_16 cannot take images of 220×220 pixels: a side needs a multiple of 16, such as 208 or 224
    ");

    // A model that `tl` wrote knows its own size, and is adapted too.
    let small = Network::sized(find("vit_b_16").unwrap(), 2, 64, Device::Cpu, Fill::Zeros).unwrap();
    small.vars().iter().for_each(filled::fill);
    let mut preprocessing = small.architecture.preprocessing();
    preprocessing.crop_size = 64;
    let card = Card {
        temperature: None,
        unknown: None,
        partner: None,
        decode: Default::default(),
        architecture: "vit_b_16".into(),
        classes: vec!["a".into(), "b".into()],
        format: FORMAT,
        learnt_from: None,
        preprocessing,
        reads: Vec::new(),
        recipe: serde_json::json!({}),
        transform_input: false,
    };
    write_model(&file, &small, &card).unwrap();
    let own = run(folder.path(), &["predict", "--model", "w.safetensors"]).expect(0);
    assert!(!own.stderr.contains("interpolated"), "{}", own.stderr);
    let adapted =
        run(folder.path(), &["predict", "--model", "w.safetensors", "--preprocess", "DEFAULT"]).expect(0);
    insta::assert_snapshot!(adapted.told(), @"note: the weights of vit_b_16 know positions of 4×4 patches: interpolated to 14×14, for images of 224×224 pixels");

    // A run from it at yet another size leaves a model of that size.
    let finetune = ["finetune", "r.yaml", "--out", "run", "--threads", "1", "--device", "cpu"];
    let sets = ["--set", "preprocess.crop_size=32", "--set", "train.c=1", "--set", "train.folds=2"];
    let adapted = Tl::new([&finetune[..], &sets].concat()).cwd(folder.path()).run().expect(0);
    insta::assert_snapshot!(adapted.message("interpolated"), @"note: the weights of vit_b_16 know positions of 4×4 patches: interpolated to 2×2, for images of 32×32 pixels");
    let model = read_checkpoint(&folder.path().join("run/model.safetensors")).unwrap();
    let (_, embedding) = model.tensors.iter().find(|(key, _)| key == POSITIONS).unwrap();
    assert_eq!(embedding.shape, [1, 5, 768]);
    let predicted = run(folder.path(), &["predict", "--model", "run"]).expect(0);
    assert!(!predicted.stderr.contains("interpolated"), "{}", predicted.stderr);
}

/// An embedding of another width, or of a non-square number of patches, cannot be adapted.
#[test]
fn positions_of_another_shape_are_refused() {
    let architecture = find("vit_b_16").unwrap();
    let network = Network::new(architecture, 1000, Device::Cpu, Fill::Shapes).unwrap();
    for shape in [[1, 198, 768], [1, 50, 760], [1, 1, 768]] {
        let of = |var: &Var| match var.key == POSITIONS {
            true => shape.to_vec(),
            false => var.tensor.size().iter().map(|&side| side as usize).collect(),
        };
        let raw = |var: &Var| RawTensor { dtype: Dtype::F32, shape: of(var), bytes: Vec::new() };
        let tensors = network.vars().iter().map(|var| (var.key.clone(), raw(var))).collect();
        let file = Checkpoint { tensors, ..Checkpoint::default() };
        let error = load(&network, Path::new("w"), &file, Head::Load).unwrap_err().to_string();
        let expected = format!("`{POSITIONS}` is {shape:?}, expected [1, 197, 768]");
        assert!(error.contains(&expected), "{error}");
    }
}

fn logits(architecture: &'static Architecture, side: i64) -> transferkit::Result<Vec<i64>> {
    let network = Network::sized(architecture, 10, side, Device::Cpu, Fill::Zeros)?;
    Ok(network.read(&filled::inputs(1, side), network.tap(LOGITS)?)?.size())
}

/// The plan checks the smallest size, so that no convolution has to.
#[test]
fn each_network_takes_images_of_its_smallest_size_and_none_smaller() {
    let large = std::env::var_os("TL_LARGE").is_some();
    for architecture in architectures() {
        let Architecture { name, min_size, multiple, .. } = *architecture;
        // Where the smallest is refused wrongly, or a smaller one taken, nothing below would show
        // it.
        architecture.check_side(min_size).unwrap();
        let refusal = architecture.check_side(min_size - 1).unwrap_err();
        assert!(refusal.contains(&min_size.to_string()), "{name}: {refusal}");
        assert!(architecture.check_side(min_size + multiple).is_ok(), "{name}");
        if multiple > 1 {
            architecture.check_side(min_size + 1).unwrap_err();
        }
        if !large && architecture.weights().iter().any(|entry| entry.parameters >= LARGE) {
            continue;
        }
        assert_eq!(logits(architecture, min_size.into()).unwrap(), [1, 10], "{name}");
        // A step below, the network itself has nothing left to compute with. EfficientNetV2 would
        // go on, but torchvision says 33 for it.
        if min_size > multiple && !name.starts_with("efficientnet_v2") {
            logits(architecture, (min_size - multiple).into()).expect_err(name);
        }
        if multiple > 1 {
            logits(architecture, (min_size + 1).into()).expect_err(name);
        }
    }
}

#[test]
fn an_input_of_one_pixel_less_is_said_to_be_too_small() {
    for name in ["googlenet", "inception_v3"] {
        let architecture = find(name).unwrap();
        let error = logits(architecture, i64::from(architecture.min_size) - 1).unwrap_err().to_string();
        assert!(error.contains("too small"), "{name}: {error}");
    }
}
