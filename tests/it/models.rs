//! The networks against torchvision's (`tests/oracle/models.py`).

use std::collections::HashMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};
use tl::models::layers::Mode;
use tl::models::{Fill, LOGITS, Network, Reading, Role, architectures, find};
use tl::weights::checkpoint::read_checkpoint;
use tl::weights::to_tensor;

use crate::filled;

/// What the oracle says of each model of a family: its facts, and its outputs by `MODEL.features` and
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

/// Models with more parameters than this run with `TL_LARGE=1` only: they take seconds and gigabytes each.
const LARGE: u64 = 150_000_000;

fn is_left_out(facts: &serde_json::Value) -> bool {
    std::env::var_os("TL_LARGE").is_none() && facts["parameters"].as_u64().unwrap() > LARGE
}

/// ‖a − b‖ / ‖b‖
fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
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
            for (reading, what) in [(Reading::Features, "features"), (Reading::Logits, LOGITS)] {
                let expected = &outputs[&format!("{name}.{what}")];
                let found = network.read(&images, reading).unwrap();
                assert_eq!(found.size(), expected.size(), "{name} {what}");
                let error = relative_error(&found, expected);
                assert!(error < tolerance, "{name} {what}: relative error {error:e}");
            }
        }
    }
}

#[test]
fn the_state_dict_lists_torchvisions_keys_shapes_and_types_in_its_order() {
    let facts: HashMap<_, _> = families().into_iter().flat_map(|family| family.facts).collect();
    assert_eq!(facts.len(), architectures().filter(|it| !it.weights.is_empty()).count());
    for architecture in architectures().filter(|it| !it.weights.is_empty()) {
        let network = Network::new(architecture, 1000, tch::Device::Cpu, Fill::Shapes).unwrap();
        let mut sha = Sha256::new();
        let mut parameters = 0;
        for var in network.vars() {
            let dtype = if var.tensor.kind() == Kind::Int64 { "int64" } else { "float32" };
            sha.update(format!("{} {:?} {dtype}\n", var.key, var.tensor.size()));
            parameters += if var.role.is_parameter() { var.tensor.numel() as u64 } else { 0 };
        }
        let listing: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = &facts[architecture.name];
        assert_eq!(listing, expected["listing"].as_str().unwrap(), "{}", architecture.name);
        assert_eq!(parameters, expected["parameters"].as_u64().unwrap(), "{}", architecture.name);
        // A position embedding has a parameter for each place of the entry's own size.
        let entry = &architecture.weights[0];
        let side = i64::from(entry.preprocessing.crop_size);
        let sized = Network::sized(architecture, 1000, side, tch::Device::Cpu, Fill::Shapes).unwrap();
        let trained = sized.vars().iter().filter(|var| var.role.is_parameter());
        let count: usize = trained.map(|var| var.tensor.numel()).sum();
        assert_eq!(count as u64, entry.parameters, "{}", architecture.name);
    }
}

#[test]
fn a_training_step_has_torchvisions_loss_gradient_and_statistics() {
    for (name, facts) in families().into_iter().flat_map(|family| family.facts) {
        let Some(step) = facts.get("step") else { continue };
        let mut network = filled::network(&name);
        network.freeze(0).unwrap();
        let labels = Tensor::arange(4, (Kind::Int64, tch::Device::Cpu)) * 7;
        let mode = Mode { dropout: false, batch_statistics: true };
        let logits = network.forward(&filled::inputs(4, facts["side"].as_i64().unwrap()), mode).unwrap();
        let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, 0.1);
        loss.backward();
        let square =
            |tensor: &Tensor| tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
        let gradient: f64 = network.trained().map(|(var, _)| square(&var.tensor.grad())).sum::<f64>().sqrt();
        let statistics: f64 = network
            .vars()
            .iter()
            .filter(|var| var.role == Role::RunningStatistic)
            .map(|var| square(&var.tensor))
            .sum::<f64>()
            .sqrt();
        let found =
            [("loss", loss.double_value(&[])), ("gradient_norm", gradient), ("statistics_norm", statistics)];
        for (what, value) in found {
            let expected = step[what].as_f64().unwrap();
            let error = (value - expected).abs() / expected.abs().max(1e-12);
            assert!(
                error < 1e-4 || (value - expected).abs() < 1e-12,
                "{name} {what}: {value} for {expected}"
            );
        }
        let counted = network.vars().iter().filter(|var| var.role == Role::BatchCount);
        counted.for_each(|var| assert_eq!(var.tensor.int64_value(&[]), 1, "{}", var.key));
    }
}

/// The heart of transfer: what is frozen must not move, running statistics included.
#[test]
fn no_frozen_weight_or_statistic_moves_in_training() {
    for (name, frozen) in [("resnet18", 5), ("shufflenet_v2_x0_5", 9), ("alexnet", 3)] {
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

#[test]
fn a_stage_is_found_by_its_name_or_its_group() {
    let network = Network::new(find("resnet50").unwrap(), 10, tch::Device::Cpu, Fill::Shapes).unwrap();
    assert_eq!(network.stages_named("layer4").unwrap(), 14..17);
    assert_eq!(network.stages_named("layer4.1").unwrap(), 15..16);
    assert_eq!(network.reading("layer1").unwrap(), Reading::Stage(3));
    assert_eq!(network.classes(), 10);
    let error = network.reading("layer44").unwrap_err().to_string();
    assert!(error.contains("no stage named `layer44`") && error.contains("layer4.2"), "{error}");
}

/// A variable's first values depend on the seed and its key alone.
#[test]
fn initial_values_depend_on_seed_and_key_alone() {
    let build = |classes, seed| {
        Network::new(find("shufflenet_v2_x0_5").unwrap(), classes, tch::Device::Cpu, Fill::Initial { seed })
            .unwrap()
    };
    let (a, b, c) = (build(10, 1), build(20, 1), build(10, 2));
    let conv = |network: &Network| network.vars()[0].tensor.copy();
    assert_eq!(conv(&a), conv(&b));
    assert_ne!(conv(&a), conv(&c));
    // nn.Conv2d's default: uniform in ±1/√27.
    let greatest = conv(&a).abs().max().double_value(&[]);
    assert!(greatest <= 27f64.sqrt().recip() && greatest > 0.95 * 27f64.sqrt().recip(), "{greatest}");
}
