//! Against PyTorch's results (`tests/oracle/optim.py`).

use serde_json::Value;
use tch::{Kind, Tensor};

use super::*;

const SHAPES: [(&str, &[i64]); 3] = [("early.weight", &[4, 3]), ("early.bias", &[4]), ("late.weight", &[5])];
const LRS: [f64; 2] = [0.05, 0.2];
const LATE_FROM: u64 = 3;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/optim/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The oracle's hash: splitmix64, top 24 bits, in [-0.5, 0.5).
fn uniform(stream: u64, index: u64) -> f32 {
    let z = stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = z.wrapping_add((index + 1).wrapping_mul(0xD1B5_4A32_D192_ED03));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let z = z ^ (z >> 31);
    (z >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

fn filled(stream: u64, shape: &[i64]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<i64>() as u64).map(|i| uniform(stream, i)).collect();
    Tensor::from_slice(&values).reshape(shape)
}

fn params() -> Vec<(String, Tensor)> {
    let param = |(i, (name, shape)): (usize, &(&str, &[i64]))| {
        (name.to_string(), filled(i as u64, shape).set_requires_grad(true))
    };
    SHAPES.iter().enumerate().map(param).collect()
}

fn shared(params: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    params.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

fn optimizer(config: OptimizerConfig, weight_decay: f64, params: &[(String, Tensor)]) -> Optimizer {
    let early = ParamGroup { params: shared(&params[..2]), lr: LRS[0], weight_decay };
    let late = ParamGroup { params: shared(&params[2..]), lr: LRS[1], weight_decay: 0.0 };
    Optimizer::new(config, vec![early, late])
}

/// Gives every parameter in use a gradient, through a product with it.
fn backward(params: &[(String, Tensor)], stream: u64, late: bool) {
    for (i, (name, param)) in params.iter().enumerate() {
        if late || !name.starts_with("late") {
            (param * filled(stream + i as u64, &param.size())).sum(Kind::Float).backward();
        }
    }
}

fn train(optimizer: &mut Optimizer, params: &[(String, Tensor)], step: u64) {
    optimizer.zero_grad().unwrap();
    backward(params, 100 + 10 * step, step >= LATE_FROM);
    optimizer.step(1.0 - 0.03 * step as f64).unwrap();
}

fn config(case: &Value) -> OptimizerConfig {
    let number = |key: &str| case[key].as_f64().unwrap();
    if case["rule"] == "sgd" {
        OptimizerConfig::Sgd(Sgd {
            momentum: number("momentum"),
            nesterov: case["nesterov"].as_bool().unwrap(),
        })
    } else {
        OptimizerConfig::AdamW(AdamW { beta1: number("beta1"), beta2: number("beta2"), eps: number("eps") })
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance, "{what}: {f} is not {e}");
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().flatten(0, -1).to_kind(Kind::Double)).unwrap()
}

#[test]
fn updates_equal_pytorch() {
    let fixture = fixture("updates");
    for case in fixture["updates"].as_array().unwrap() {
        let params = params();
        let mut optimizer = optimizer(config(case), case["weight_decay"].as_f64().unwrap(), &params);
        let mut kept = case["after"].as_array().unwrap().iter();
        for step in 0..20 {
            train(&mut optimizer, &params, step);
            if [1, 2, 5, 20].contains(&(step + 1)) {
                let expected = kept.next().unwrap();
                for (name, param) in &params {
                    // Numbers near 1, a rounding or two a step.
                    let what = format!("{name} after step {step} of {case}");
                    assert_close(&values(param), &numbers(&expected[name]), 1e-6, &what);
                }
            }
        }
        assert!(kept.next().is_none());
    }
}

type State = Vec<(String, Tensor)>;

fn every_rule() -> Vec<OptimizerConfig> {
    vec![
        OptimizerConfig::Sgd(Sgd { momentum: 0.0, nesterov: false }),
        OptimizerConfig::Sgd(Sgd { momentum: 0.9, nesterov: true }),
        OptimizerConfig::AdamW(AdamW::default()),
    ]
}

fn deep_copy(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect()
}

#[test]
fn a_restored_optimizer_goes_on_to_the_same_bits() {
    for config in every_rule() {
        // Stopped once before `late.weight` has had a gradient, and once after.
        for stop in [2, 6] {
            let straight = params();
            let mut one = optimizer(config, 0.01, &straight);
            (0..10).for_each(|step| train(&mut one, &straight, step));

            let before = params();
            let mut two = optimizer(config, 0.01, &before);
            (0..stop).for_each(|step| train(&mut two, &before, step));
            let (weights, state) = (deep_copy(&before), deep_copy(&two.state()));
            let after: Vec<_> =
                weights.into_iter().map(|(name, t)| (name, t.set_requires_grad(true))).collect();
            let mut three = optimizer(config, 0.01, &after);
            three.load_state(&state).unwrap();
            (stop..10).for_each(|step| train(&mut three, &after, step));

            for ((name, a), (_, b)) in straight.iter().zip(&after) {
                assert_eq!(a, b, "{name} of {config:?}");
            }
            assert_eq!(one.state().len(), three.state().len());
        }
    }
}

#[test]
fn state_names_its_buffers() {
    let params = params();
    let mut adamw = optimizer(OptimizerConfig::AdamW(AdamW::default()), 0.0, &params);
    assert!(adamw.state().is_empty());
    train(&mut adamw, &params, 0);
    let names: Vec<_> = adamw.state().into_iter().map(|(name, _)| name).collect();
    let expected = ["exp_avg.early.weight", "exp_avg_sq.early.weight", "step.early.weight"];
    assert_eq!(names[..3], expected);
    assert_eq!(names.len(), 6, "`late.weight` has had no gradient: {names:?}");
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    let params = params();
    let mut adamw = optimizer(OptimizerConfig::AdamW(AdamW::default()), 0.0, &params);
    train(&mut adamw, &params, 0);
    let good = deep_copy(&adamw.state());
    let changed = |change: &dyn Fn(&mut State)| {
        let mut state = deep_copy(&good);
        change(&mut state);
        state
    };
    let cases: [(&str, State); 6] = [
        ("fits no parameter", changed(&|s| s.push(("exp_avg.other".into(), s[0].1.copy())))),
        ("fits no parameter", changed(&|s| s.push(("momentum.early.bias".into(), s[3].1.copy())))),
        ("is incomplete", changed(&|s| drop(s.remove(1)))),
        ("twice", changed(&|s| s.push((s[0].0.clone(), s[0].1.copy())))),
        ("expected [4, 3]", changed(&|s| s[0].1 = s[0].1.reshape([3, 4]))),
        ("positive integer", changed(&|s| s[2].1 = Tensor::from(-1i64))),
    ];
    for (words, state) in cases {
        let message = adamw.load_state(&state).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    for ((name, before), (_, after)) in good.iter().zip(adamw.state()) {
        assert_eq!(*before, after, "{name}");
    }
}

#[test]
fn clipping_equals_pytorch() {
    for case in fixture("updates")["clips"].as_array().unwrap() {
        let params = params();
        for (i, (_, param)) in params[..2].iter().enumerate() {
            (param * filled(500 + i as u64, &param.size())).sum(Kind::Float).backward();
        }
        let norm = clip_grad_norm(params.iter().map(|(_, p)| p), case["max_norm"].as_f64().unwrap()).unwrap();
        assert_close(&[norm], &[case["norm"].as_f64().unwrap()], 1e-6, "norm");
        for (i, (name, param)) in params[..2].iter().enumerate() {
            assert_close(&values(&param.grad()), &numbers(&case["grads"][i]), 1e-7, name);
        }
    }
}

#[test]
fn clipping_leaves_gradients_that_are_not_finite_alone() {
    let param = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
    (&param * Tensor::from_slice(&[f32::INFINITY, 1.0])).sum(Kind::Float).backward();
    assert!(!clip_grad_norm([&param], 1.0).unwrap().is_finite());
    assert_eq!(values(&param.grad())[1], 1.0);
    assert_eq!(clip_grad_norm([], 1.0).unwrap(), 0.0);
}

#[test]
fn schedules_equal_pytorch() {
    for case in fixture("schedules").as_array().unwrap() {
        let whole = |key: &str| case[key].as_u64().unwrap();
        let gamma = case["gamma"].as_f64().unwrap_or(0.0);
        let decay = match case["decay"].as_str().unwrap() {
            "constant" => Decay::Constant,
            "cosine" => Decay::Cosine,
            "step" => Decay::Step { epochs: whole("step_epochs"), gamma },
            _ => Decay::Plateau { patience: whole("patience"), gamma },
        };
        let schedule = Schedule {
            decay,
            warmup_steps: whole("warmup_steps"),
            steps_per_epoch: whole("steps_per_epoch"),
            epochs: whole("epochs"),
        };
        let history = case.get("history").map(numbers).unwrap_or_default();
        for (step, expected) in numbers(&case["factors"]).into_iter().enumerate() {
            // The whole history at every step: values after the step's epoch must not be read.
            let factor = schedule.factor(step as u64, &history);
            assert!(
                (factor - expected).abs() < 1e-12,
                "step {step} of {schedule:?}: {factor}, not {expected}"
            );
        }
    }
}

#[test]
fn a_schedule_bears_any_numbers() {
    let extremes = [0, 1, u64::MAX];
    for warmup_steps in extremes {
        for steps_per_epoch in extremes {
            for epochs in extremes {
                for decay in [
                    Decay::Constant,
                    Decay::Cosine,
                    Decay::Step { epochs, gamma: 0.1 },
                    Decay::Plateau { patience: epochs, gamma: 0.1 },
                ] {
                    let schedule = Schedule { decay, warmup_steps, steps_per_epoch, epochs };
                    for step in [0, 5, u64::MAX] {
                        let factor = schedule.factor(step, &[0.5, f64::NAN]);
                        assert!((0.0..=1.0).contains(&factor), "step {step} of {schedule:?}: {factor}");
                    }
                }
            }
        }
    }
}
