//! A network layer by layer, as it runs on one image.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::Network;
use super::layers::trace::{Traced, traced};
use crate::error::Result;

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its stage, or the head.
    pub stage: String,
    /// Its path in the state dict; empty for a layer without parameters.
    pub key: String,
    /// Its type, such as `Conv2d 3×3`.
    pub kind: String,
    /// The shape of its output for one image, such as `[64, 112, 112]`.
    pub output: Vec<i64>,
    /// Number of parameters other than biases.
    pub weights: usize,
    /// Number of biases.
    pub biases: usize,
    /// Its multiply-adds.
    pub multiply_adds: u64,
}

impl Row {
    /// Weights and biases.
    pub fn parameters(&self) -> usize {
        self.weights + self.biases
    }

    /// Numbers in its output.
    pub fn activations(&self) -> i64 {
        self.output.iter().product()
    }
}

/// The layers of `network` in execution order, for an image of `side` × `side` pixels.
pub fn inspect(network: &Network, side: u32) -> Result<Vec<Row>> {
    let side = i64::from(side);
    let image = Tensor::f_zeros([1, 3, side, side], (Kind::Float, network.device()))?;
    // A weight's address gives its key, and the key the other parameters of its layer.
    let mut keys = HashMap::new();
    let mut parameters: HashMap<&str, [usize; 2]> = HashMap::new();
    for var in network.vars().iter().filter(|var| var.role.is_parameter()) {
        let layer = var.key.rsplit_once('.').map_or(var.key.as_str(), |(layer, _)| layer);
        keys.insert(var.tensor.data_ptr() as usize, layer);
        let [weights, biases] = parameters.entry(layer).or_default();
        *(if var.key.ends_with("bias") { biases } else { weights }) += var.tensor.numel();
    }
    let mut rows = Vec::new();
    let mut add = |stage: &str, layers: Vec<Traced>| {
        for Traced { kind, weight, output, multiply_adds } in layers {
            let key = weight.and_then(|weight| keys.get(&weight).copied()).unwrap_or_default();
            // Counted once if a layer runs twice.
            let [weights, biases] = parameters.remove(key).unwrap_or_default();
            rows.push(Row {
                stage: stage.to_string(),
                key: key.to_string(),
                kind,
                output: output[1..].to_vec(),
                weights,
                biases,
                multiply_adds,
            });
        }
    };
    let mut outputs = vec![image];
    for (index, stage) in network.stage_names().enumerate() {
        let (out, layers) = traced(|| network.stage(index, &outputs[index]));
        add(stage, layers);
        outputs.push(out?);
    }
    let (out, layers) = traced(|| network.head(&outputs[1..]));
    add("head", layers);
    out.map(|_| rows)
}
