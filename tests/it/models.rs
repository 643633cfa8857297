//! The networks against torchvision's (`tests/oracle/models.py`).

use std::collections::HashMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};
use transferkit::models::layers::Mode;
use transferkit::models::{
    Fill, Folding, InferenceNetwork, LOGITS, Network, Role, Tap, Var, architectures, channels_last, find,
    is_channels_last,
};
use transferkit::weights::card::{self, Card, FORMAT};
use transferkit::weights::checkpoint::{Dtype, RawTensor, read_checkpoint};
use transferkit::weights::download::Silent;
use transferkit::weights::source::{Source, Weights};
use transferkit::weights::{state_dict, to_tensor};
use transferkit::weights::{write_model, write_tensors};

use crate::dropping::drawing;
use crate::filled;

/// The oracle's facts of each model of a family, and its outputs by `MODEL.features` and
/// `MODEL.logits`.
struct Family {
    facts: serde_json::Map<String, serde_json::Value>,
    outputs: HashMap<String, Tensor>,
}

fn families() -> Vec<Family> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    let read = |path: &std::path::PathBuf| {
        let facts = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let outputs = read_checkpoint(&path.with_extension("safetensors")).unwrap().tensors;
        let outputs = outputs.iter().map(|(key, raw)| (key.clone(), to_tensor(raw).unwrap())).collect();
        Family { facts, outputs }
    };
    files.iter().map(read).collect()
}

/// Larger models, in parameters, run with `TL_LARGE=1` only: they take seconds and gigabytes each.
pub const LARGE: u64 = 150_000_000;

fn is_left_out(facts: &serde_json::Value) -> bool {
    std::env::var_os("TL_LARGE").is_none() && facts["parameters"].as_u64().unwrap() > LARGE
}

/// ‖a − b‖ / ‖b‖
pub fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    (&a - &b).norm().double_value(&[]) / b.norm().double_value(&[])
}

#[test]
fn logits_and_features_equal_torchvisions() {
    for Family { facts, outputs } in families() {
        for (name, facts) in facts.iter().filter(|(_, facts)| !is_left_out(facts)) {
            let network = filled::network(name);
            let images = filled::inputs(facts["images"].as_i64().unwrap(), facts["side"].as_i64().unwrap());
            // Attention sums in another order from one version of a library to the next.
            let tolerance =
                if ["swin", "vit", "maxvit"].iter().any(|f| name.starts_with(f)) { 1e-4 } else { 1e-5 };
            for (tap, what) in [(Tap::Features, "features"), (Tap::Logits, LOGITS)] {
                let expected = &outputs[&format!("{name}.{what}")];
                let found = network.read(&images, tap).unwrap();
                assert_eq!(found.size(), expected.size(), "{name} {what}");
                let error = relative_error(&found, expected);
                assert!(error < tolerance, "{name} {what}: relative error {error:e}");
            }
        }
    }
}

/// The smallest network of each family, as inference runs it: folded, channels-last, by oneDNN.
/// Measured: 3e-7 for most, 2e-6 for transformers.
#[test]
fn a_network_for_inference_equals_the_one_that_is_trained() {
    for Family { facts, .. } in families() {
        let (name, facts) = facts.iter().min_by_key(|(_, facts)| facts["parameters"].as_u64()).unwrap();
        let mut network = filled::network(name);
        network.set_transform_input(name.starts_with("google")).unwrap();
        let images = filled::inputs(facts["images"].as_i64().unwrap(), facts["side"].as_i64().unwrap());
        for folding in [Folding::Folded, Folding::Unfolded] {
            let prepared = InferenceNetwork::of(&network, folding).unwrap().network().unwrap();
            for tap in [Tap::Stage(1), Tap::Features, Tap::Logits] {
                let expected = network.read(&images, tap).unwrap();
                let found = prepared.read(&channels_last(&images).unwrap(), tap).unwrap();
                assert_eq!(found.size(), expected.size(), "{name} {tap:?}");
                let error = relative_error(&found, &expected);
                assert!(error < 1e-5, "{name} {tap:?} {folding:?}: relative error {error:e}");
            }
        }
    }
}

#[test]
fn an_input_is_transformed_as_torchvision_does_where_the_weights_want_it() {
    let families = families();
    for name in ["googlenet", "inception_v3"] {
        let family = families.iter().find(|family| family.facts.contains_key(name)).unwrap();
        let facts = &family.facts[name];
        let images = filled::inputs(facts["images"].as_i64().unwrap(), facts["side"].as_i64().unwrap());
        let kept = images.copy();
        let mut network = filled::network(name);
        network.set_transform_input(true).unwrap();
        assert!(network.transform_input());
        let expected = &family.outputs[&format!("{name}.transform_input.logits")];
        for found in [
            network.read(&images, Tap::Logits).unwrap(),
            tch::no_grad(|| network.forward(&images, Mode::INFERENCE)).unwrap(),
        ] {
            let error = relative_error(&found, expected);
            assert!(error < 1e-5, "{name}: relative error {error:e}");
        }
        assert_eq!(images, kept, "the images themselves stay");
        network.set_transform_input(false).unwrap();
        let error = relative_error(&network.read(&images, Tap::Logits).unwrap(), expected);
        assert!(error > 1e-3, "{name}: relative error {error:e}");
    }
}

/// In the oracle's format.
fn listing<'a>(vars: impl Iterator<Item = &'a Var>) -> String {
    let mut sha = Sha256::new();
    for var in vars {
        let dtype = if var.tensor.kind() == Kind::Int64 { "int64" } else { "float32" };
        sha.update(format!("{} {:?} {dtype}\n", var.key, var.tensor.size()));
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_state_dict_lists_torchvisions_keys_shapes_and_types_in_its_order() {
    let facts: HashMap<_, _> = families().into_iter().flat_map(|family| family.facts).collect();
    assert_eq!(facts.len(), architectures().filter(|it| !it.weights().is_empty()).count());
    for architecture in architectures().filter(|it| !it.weights().is_empty()) {
        let network = Network::new(architecture, 1000, tch::Device::Cpu, Fill::Shapes).unwrap();
        let parameters: u64 = network
            .vars()
            .iter()
            .filter(|var| var.role.is_parameter())
            .map(|var| var.tensor.numel() as u64)
            .sum();
        let expected = &facts[architecture.name];
        assert_eq!(
            listing(network.vars().iter()),
            expected["listing"].as_str().unwrap(),
            "{}",
            architecture.name
        );
        assert_eq!(parameters, expected["parameters"].as_u64().unwrap(), "{}", architecture.name);
        // torchvision counts Inception's auxiliary classifier, and not GoogLeNet's two.
        let auxiliary = if architecture.name == "inception_v3" { 3_326_696 } else { 0 };
        // A position embedding has a parameter for each place of the entry's own size.
        let entry = &architecture.weights()[0];
        let side = i64::from(entry.preprocessing.crop_size);
        let sized = Network::sized(architecture, 1000, side, tch::Device::Cpu, Fill::Shapes).unwrap();
        let trained = sized.vars().iter().filter(|var| var.role.is_parameter());
        let count: usize = trained.map(|var| var.tensor.numel()).sum();
        assert_eq!(count as u64 + auxiliary, entry.parameters, "{}", architecture.name);
    }
}

/// Files written by `tl` have exactly torchvision's entries: an extra batch count, or one of
/// another type, and `load_state_dict(strict=True)` refuses the file. The smallest network of each
/// family.
#[test]
fn a_written_file_has_torchvisions_keys_shapes_and_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for Family { facts, .. } in families() {
        let (name, facts) = facts.iter().min_by_key(|(_, facts)| facts["parameters"].as_u64()).unwrap();
        let network =
            Network::new(find(name).unwrap(), 1000, tch::Device::Cpu, Fill::Initial { seed: 1 }).unwrap();
        let card = Card {
            temperature: None,
            unknown: None,
            partner: None,
            decode: Default::default(),
            architecture: name.clone(),
            classes: transferkit::models::imagenet_classes(),
            format: FORMAT,
            learnt_from: None,
            preprocessing: network.architecture.preprocessing(),
            reads: Vec::new(),
            recipe: serde_json::json!({}),
            transform_input: false,
        };
        write_model(&path, &network, &card).unwrap();
        let file = read_checkpoint(&path).unwrap();
        assert!(file.warnings.is_empty(), "{name}: {:?}", file.warnings);
        assert_eq!(file.tensors.len(), network.vars().len(), "{name}");
        // safetensors lays tensors out in an order of its own; torchvision's is that of the
        // network.
        let mut written: HashMap<_, _> = file.tensors.into_iter().collect();
        let mut sha = Sha256::new();
        for var in network.vars() {
            let raw = written.remove(&var.key).unwrap_or_else(|| panic!("{name} lacks {}", var.key));
            let dtype = match raw.dtype {
                Dtype::F32 => "float32",
                Dtype::I64 => "int64",
                other => panic!("{name}: {} is {}", var.key, other.name()),
            };
            sha.update(format!("{} {:?} {dtype}\n", var.key, raw.shape));
            assert_eq!(to_tensor(&raw).unwrap(), var.tensor, "{name} {}", var.key);
        }
        let found: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, facts["listing"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn a_training_step_has_torchvisions_loss_gradient_and_statistics() {
    for (name, facts) in families().into_iter().flat_map(|family| family.facts) {
        let Some(step) = facts.get("step") else { continue };
        // As a network is made, and as the trainer arranges it. In float64 that is slow where the
        // network is large, and EfficientNet B0 has the layers of the others.
        let large = ["efficientnet_b5", "efficientnet_v2_s"].contains(&name.as_str());
        for &arranged in if large { &[false][..] } else { &[false, true] } {
            let mut network = filled::network(&name);
            let kind = if step["dtype"] == "float64" { Kind::Double } else { Kind::Float };
            network.vars().iter().for_each(|var| convert(var, kind));
            network.freeze(0).unwrap();
            let images = filled::inputs(4, facts["side"].as_i64().unwrap()).to_kind(kind);
            let images = if arranged { channels_last(&images).unwrap() } else { images };
            if arranged {
                network.channels_last().unwrap();
            }
            let logits = network.forward(&images, WITHOUT_DROPOUT).unwrap();
            check_step(&name, &network, &loss(&logits), step, 1e-4);
        }
    }
}

/// Gradients and values have the kernels' memory layout, and the written file is the same.
#[test]
fn channels_last_is_an_order_in_memory_and_nothing_else() {
    for name in ["resnet18", "shufflenet_v2_x0_5", "swin_t"] {
        let mut network = filled::network(name);
        network.freeze(0).unwrap();
        let (before, hash) = (state_dict(&network).unwrap(), network.frozen_hash().unwrap());
        network.channels_last().unwrap();
        let after = state_dict(&network).unwrap();
        assert!(before.iter().zip(&after).all(|(a, b)| a.0 == b.0 && a.1.bytes == b.1.bytes), "{name}");
        assert_eq!(network.frozen_hash().unwrap(), hash);
        let images = channels_last(&filled::inputs(2, 64)).unwrap();
        network.forward(&images, Mode::TRAINING).unwrap().square().mean(Kind::Float).backward();
        let kernels =
            || network.trained().filter(|(var, _)| var.tensor.dim() == 4 && var.tensor.size()[2] > 1);
        assert!(kernels().any(|(var, _)| is_channels_last(&var.tensor)), "{name}");
        for (var, _) in network.trained() {
            // A side of one has no stride to speak of.
            let strides = |tensor: &Tensor| -> Vec<i64> {
                let sides = tensor.stride().into_iter().zip(tensor.size());
                sides.filter(|(_, side)| *side > 1).map(|(stride, _)| stride).collect()
            };
            assert_eq!(strides(&var.tensor.grad()), strides(&var.tensor), "{name} {}", var.key);
        }
    }
}

/// Without dropout, so that the step is the same on both sides.
const WITHOUT_DROPOUT: Mode = Mode { dropout: false, batch_statistics: true };

/// Converts a variable to another type. The layers share the tensor, and so its values.
fn convert(var: &Var, kind: Kind) {
    if var.tensor.kind() != Kind::Int64 {
        let values = var.tensor.to_kind(kind);
        var.tensor.shallow_clone().set_data(&values);
    }
}

fn loss(logits: &Tensor) -> Tensor {
    let labels = Tensor::arange(4, (Kind::Int64, tch::Device::Cpu)) * 7;
    logits.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, 0.1)
}

/// Compares loss, gradient and running statistics of one step with torchvision's.
fn check_step(name: &str, network: &Network, loss: &Tensor, step: &serde_json::Value, tolerance: f64) {
    loss.backward();
    let square = |tensor: &Tensor| tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    let gradient: f64 = network.trained().map(|(var, _)| square(&var.tensor.grad())).sum::<f64>().sqrt();
    let vars = || network.vars().iter().chain(network.auxiliary_vars());
    let statistics = vars().filter(|var| var.role == Role::RunningStatistic);
    let statistics: f64 = statistics.map(|var| square(&var.tensor)).sum::<f64>().sqrt();
    let found =
        [("loss", loss.double_value(&[])), ("gradient_norm", gradient), ("statistics_norm", statistics)];
    for (what, value) in found {
        let expected = step[what].as_f64().unwrap();
        let error = (value - expected).abs() / expected.abs().max(1e-12);
        assert!(
            error < tolerance || (value - expected).abs() < 1e-12,
            "{name} {what}: {value} for {expected}"
        );
    }
    let counted = vars().filter(|var| var.role == Role::BatchCount);
    counted.for_each(|var| assert_eq!(var.tensor.int64_value(&[]), 1, "{}", var.key));
}

/// The steps of GoogLeNet and Inception with auxiliaries, which change torchvision's loss and
/// gradient.
#[test]
fn auxiliary_classifiers_train_as_torchvisions_do_and_are_no_part_of_the_network() {
    let facts = families().into_iter().flat_map(|family| family.facts);
    let with = facts.filter(|(_, facts)| facts.get("auxiliaries").is_some());
    for (name, facts) in with {
        let facts = &facts["auxiliaries"];
        let mut network = filled::network(&name);
        let plain = state_dict(&network).unwrap().len();
        network.freeze(0).unwrap();
        network.add_auxiliaries(Fill::Zeros).unwrap();
        assert_eq!(state_dict(&network).unwrap().len(), plain);
        assert_eq!(listing(network.auxiliary_vars()), facts["listing"].as_str().unwrap(), "{name}");
        assert!(network.auxiliary_vars().all(|var| network.architecture.auxiliaries.own(&var.key)));
        assert!(!network.vars().iter().any(|var| network.architecture.auxiliaries.own(&var.key)));

        for var in network.vars().iter().chain(network.auxiliary_vars()) {
            convert(var, Kind::Double);
        }
        network.auxiliary_vars().for_each(filled::fill);
        let side = facts["side"].as_i64().unwrap();
        let images = filled::inputs(4, side).to_kind(Kind::Double);
        let (logits, auxiliary) = network.forward_with_auxiliaries(&images, WITHOUT_DROPOUT).unwrap();
        let auxiliaries = &network.architecture.auxiliaries;
        assert_eq!(auxiliary.len(), auxiliaries.classifiers.len(), "{name}");
        assert_eq!(auxiliaries.weight, facts["weight"].as_f64().unwrap(), "{name}");
        let loss =
            auxiliary.iter().fold(loss(&logits), |sum, logits| sum + self::loss(logits) * auxiliaries.weight);
        check_step(&name, &network, &loss, &facts["step"], 1e-6);

        // On a frozen stage there is nothing to help.
        let first = network.auxiliaries_from(0)[0].0;
        network.freeze(first + 1).unwrap();
        network.add_auxiliaries(Fill::Zeros).unwrap();
        let rest = network.auxiliaries_from(first + 1).len();
        assert_eq!(rest, auxiliaries.classifiers.len() - 1);
        assert!(auxiliaries.min_size >= 15 && i64::from(auxiliaries.min_size) <= side);
    }
}

/// The core of transfer learning: frozen variables must not change, including running statistics.
#[test]
fn no_frozen_weight_or_statistic_moves_in_training() {
    for (name, frozen) in [
        ("resnet18", 5),
        ("shufflenet_v2_x0_5", 9),
        ("alexnet", 3),
        ("densenet121", 61),
        ("squeezenet1_0", 9),
    ] {
        let mut network = filled::network(name);
        network.freeze(frozen).unwrap();
        let before = network.frozen_hash().unwrap();
        let trained_before: Vec<Tensor> = network.trained().map(|(var, _)| var.tensor.copy()).collect();
        for _ in 0..2 {
            let logits = network.forward(&filled::inputs(2, 96), Mode::TRAINING).unwrap();
            logits.square().mean(Kind::Float).backward();
            tch::no_grad(|| {
                for (var, _) in network.trained() {
                    let mut tensor = var.tensor.shallow_clone();
                    let _ = tensor.g_sub_(&(tensor.grad() * 1e-3));
                    tensor.zero_grad();
                }
            });
        }
        assert_eq!(network.frozen_hash().unwrap(), before, "{name}");
        // The test would prove nothing if nothing had been trained at all.
        let moved =
            network.trained().zip(&trained_before).filter(|((var, _), old)| var.tensor != **old).count();
        assert!(moved > trained_before.len() / 2, "{name}: {moved} of {}", trained_before.len());
        let frozen_vars = network.vars().len()
            - network
                .vars()
                .iter()
                .rev()
                .take_while(|var| network.trained().next().is_some_and(|(first, _)| first.key != var.key))
                .count();
        for var in &network.vars()[..frozen_vars - 1] {
            assert!(!var.tensor.requires_grad(), "{name} {}", var.key);
        }
    }
}

/// A new head begins with zeros, except where a ReLU after it would keep it at zero: its gradient
/// there is 0.
#[test]
fn a_new_head_can_learn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (name, from_zero) in [("shufflenet_v2_x0_5", true), ("squeezenet1_1", false)] {
        write_tensors(&path, &state_dict(&filled::network(name)).unwrap(), HashMap::new()).unwrap();
        let source = Source { architecture: find(name).unwrap(), weights: Weights::File(path.clone()) };
        let mut network = source.open(&Silent).unwrap().with_new_head(10, 64, tch::Device::Cpu, 1).unwrap();
        let greatest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
        assert_eq!(greatest(network.classifier().weight()) == 0., from_zero, "{name}");
        network.freeze(network.stage_count()).unwrap();
        let logits = network.forward(&filled::inputs(4, 64), WITHOUT_DROPOUT).unwrap();
        loss(&logits.constant_pad_nd([0, 12])).backward();
        assert!(greatest(&network.classifier().weight().grad()) > 0., "{name}");
    }
}

/// LeNet-5 has one input channel, but gets three like all networks.
#[test]
fn lenet_reads_the_mean_of_the_channels() {
    let network = Network::new(find("lenet5").unwrap(), 10, tch::Device::Cpu, Fill::Zeros).unwrap();
    network.vars().iter().for_each(filled::fill);
    assert_eq!(network.vars()[0].tensor.size(), [6, 1, 5, 5]);
    let images = filled::inputs(2, 32);
    let grey = images.mean_dim([1i64].as_slice(), true, Kind::Float).expand([2, 3, 32, 32], false);
    let logits = |images: &Tensor| network.read(images, Tap::Logits).unwrap();
    assert!(relative_error(&logits(&grey), &logits(&images)) < 1e-6);
    assert!(
        relative_error(&logits(&images.narrow(1, 0, 1).expand([2, 3, 32, 32], false)), &logits(&images))
            > 0.01
    );
}

#[test]
fn a_stage_is_found_by_its_name_or_its_group() {
    let network = Network::new(find("resnet50").unwrap(), 10, tch::Device::Cpu, Fill::Shapes).unwrap();
    assert_eq!(network.stages_named("layer4").unwrap(), 14..17);
    assert_eq!(network.stages_named("layer4.1").unwrap(), 15..16);
    assert_eq!(network.tap("layer1").unwrap(), Tap::Stage(3));
    assert_eq!(network.classes(), 10);
    let error = network.tap("layer44").unwrap_err().to_string();
    assert!(error.contains("no stage named `layer44`") && error.contains("layer4.2"), "{error}");
}

/// A variable's initial values depend only on the seed and its key.
#[test]
fn initial_values_depend_on_seed_and_key_alone() {
    let build = |classes, seed| {
        Network::new(find("shufflenet_v2_x0_5").unwrap(), classes, tch::Device::Cpu, Fill::Initial { seed })
            .unwrap()
    };
    let (a, b, c) = drawing(|| (build(10, 1), build(20, 1), build(10, 2)));
    let conv = |network: &Network| network.vars()[0].tensor.copy();
    assert_eq!(conv(&a), conv(&b));
    assert_ne!(conv(&a), conv(&c));
    // nn.Conv2d's default: uniform in ±1/√27.
    let greatest = conv(&a).abs().max().double_value(&[]);
    assert!(greatest <= 27f64.sqrt().recip() && greatest > 0.95 * 27f64.sqrt().recip(), "{greatest}");
}

/// PyTorch draws in float32, where one weight in 16 million is ±2 among deviations of 0.02; with
/// this seed one would be.
#[test]
fn truncated_normal_values_have_no_outliers() {
    let fill = Fill::Initial { seed: 3 };
    let network = Network::new(find("convnext_tiny").unwrap(), 1000, tch::Device::Cpu, fill).unwrap();
    let weights = || network.vars().iter().filter(|var| var.role == Role::Weight).map(|var| &var.tensor);
    let greatest = weights().map(|weight| weight.abs().max().double_value(&[])).fold(0., f64::max);
    assert!(greatest > 4.5 * 0.02 && greatest < 7. * 0.02, "{greatest}");
    let largest = weights().max_by_key(|weight| weight.numel()).unwrap();
    let deviation = largest.std(false).double_value(&[]);
    assert!((deviation / 0.02 - 1.).abs() < 0.01, "{deviation}");
}

/// The files of GoogLeNet and Inception contain auxiliary classifiers, and imply `transform_input`,
/// unless `tl` wrote them without.
#[test]
fn auxiliary_classifiers_in_a_file_are_ignored_and_the_input_transformed() {
    let family = families().into_iter().find(|family| family.facts.contains_key("googlenet")).unwrap();
    let facts = &family.facts["googlenet"];
    let images = filled::inputs(facts["images"].as_i64().unwrap(), facts["side"].as_i64().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let network = filled::network("googlenet");
    let open = |weights| {
        let source = Source { architecture: find("googlenet").unwrap(), weights };
        source.open(&Silent).unwrap().into_classifier(224, tch::Device::Cpu, 0)
    };

    let mut state = state_dict(&network).unwrap();
    for key in ["aux1.conv.conv.weight", "aux2.fc2.bias"] {
        state.push((key.into(), RawTensor { dtype: Dtype::F32, shape: vec![1], bytes: vec![0; 4] }));
    }
    write_tensors(&path, &state, HashMap::new()).unwrap();
    let (loaded, _) = open(Weights::File(path.clone())).unwrap();
    let found = loaded.read(&images, Tap::Logits).unwrap();
    let error = relative_error(&found, &family.outputs["googlenet.transform_input.logits"]);
    assert!(error < 1e-5, "relative error {error:e}");
    state.push(("aux3.fc2.bias".into(), RawTensor { dtype: Dtype::F32, shape: vec![1], bytes: vec![0; 4] }));
    write_tensors(&path, &state, HashMap::new()).unwrap();
    let error = open(Weights::File(path)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("1 unexpected: `aux3.fc2.bias`"), "{error}");

    for transform_input in [false, true] {
        let path = folder.path().join("model.safetensors");
        let card = Card {
            temperature: None,
            unknown: None,
            partner: None,
            decode: Default::default(),
            architecture: "googlenet".into(),
            classes: (0..1000).map(|class| class.to_string()).collect(),
            format: FORMAT,
            learnt_from: None,
            preprocessing: network.architecture.weights()[0].preprocessing.clone(),
            reads: Vec::new(),
            recipe: serde_json::json!({}),
            transform_input,
        };
        write_model(&path, &network, &card).unwrap();
        assert_eq!(card::read_card(&path).unwrap().unwrap(), card);
        for weights in [Weights::Model(path.clone()), Weights::File(path)] {
            let (loaded, _) = open(weights).unwrap();
            assert_eq!(loaded.transform_input(), transform_input);
        }
    }
}
