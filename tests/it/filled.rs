//! Networks and inputs filled from a hash, as `tests/oracle/models.py` fills torchvision's.

use tch::{Device, Tensor};
use transferkit::models::{Fill, Network, Role, Var, find};
use transferkit::weights::assign;

/// `count` numbers in [0, 1): the upper 24 bits of splitmix64 seeded by FNV-1a of `name`.
pub fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    (1..=count as u64).map(move |index| {
        let z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / (1 << 24) as f64
    })
}

/// The network of this name with 1,000 classes.
pub fn network(name: &str) -> Network {
    let network = Network::new(find(name).unwrap(), 1000, Device::Cpu, Fill::Zeros).unwrap();
    network.vars().iter().for_each(fill);
    network
}

/// The last normalisation of residual branches whose trunks would grow beyond float32, as in the
/// oracle.
const BRANCH_ENDS: [&str; 6] = [
    ".f.c.1.weight",
    ".block.1.1.weight",
    ".block.2.1.weight",
    ".block.3.1.weight",
    ".conv.3.weight",
    ".layers.7.weight",
];

/// Sets a variable to the oracle's values.
pub fn fill(var: &Var) {
    if !matches!(var.role, Role::BatchCount | Role::Constant) {
        let shape = var.tensor.size();
        let values = values(&var.key, &shape);
        assign(var, &Tensor::from_slice(&values).reshape(shape)).unwrap();
    }
}

/// The oracle's values for a key, row-major.
pub fn values(key: &str, shape: &[i64]) -> Vec<f32> {
    // MaxViT's convolutions on a residual path would feed on themselves: see the oracle.
    let gain = if key.ends_with("conv_c.weight") { 0.1 } else { 1. };
    let scale = gain * (6. / shape[1..].iter().product::<i64>() as f64).sqrt();
    let one_dimensional = shape.len() == 1;
    let positive = key.ends_with("running_var") || (key.ends_with("weight") && one_dimensional);
    // EfficientNet-Lite's is called as ResNet's, which is well as it is.
    let ends_branch = BRANCH_ENDS.iter().any(|end| key.ends_with(end))
        || key.starts_with("blocks.") && key.ends_with(".bn3.weight");
    let branch = if ends_branch { 0.25 } else { 1. };
    uniform(key, shape.iter().product::<i64>() as usize)
        .map(|u| match (positive, one_dimensional) {
            (true, _) => (0.5 + u) * branch,
            (_, true) => 0.2 * (u - 0.5),
            _ => (2. * u - 1.) * scale,
        })
        .map(|value| value as f32)
        .collect()
}

/// `[images, 3, side, side]` in [-2, 2).
pub fn inputs(images: i64, side: i64) -> Tensor {
    let count = (images * 3 * side * side) as usize;
    let values: Vec<f32> = uniform("input", count).map(|u| ((2. * u - 1.) * 2.) as f32).collect();
    Tensor::from_slice(&values).reshape([images, 3, side, side])
}
