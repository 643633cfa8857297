//! Shared parts of transformers: attention between tokens (Vaswani et al., "Attention Is All You
//! Need", 2017), windows of an image and their relative positions (Liu et al., "Swin Transformer",
//! ICCV 2021), and the residual block around them.

use tch::{Device, Kind, Tensor};

use super::linear::{LinearInit, linear};
use super::norm::LayerNorm;
use super::{Activation, Layer, Mode, Sequential, trace};
use crate::error::Result;
use crate::models::vars::Path;

/// Attention and an MLP, each with its normalisation, on a residual path.
pub struct TransformerBlock {
    /// The normalisations of the two branches.
    pub norms: [LayerNorm; 2],
    /// The branches: attention, then the MLP.
    pub branches: [Box<dyn Layer>; 2],
    /// Applied to each branch before it is added: [`super::stochastic_depth`] or nothing.
    pub drop: Box<dyn Layer>,
    /// Whether a branch is normalised after it (Swin V2) and not before it.
    pub post_norm: bool,
}

impl Layer for TransformerBlock {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut xs = xs.shallow_clone();
        for (norm, branch) in self.norms.iter().zip(&self.branches) {
            let out = match self.post_norm {
                true => norm.forward(&branch.forward(&xs, mode)?, mode)?,
                false => branch.forward(&norm.forward(&xs, mode)?, mode)?,
            };
            xs = xs.f_add(&self.drop.forward(&out, mode)?)?;
        }
        Ok(xs)
    }
}

/// Two linear layers at `keys` below `path` with a GELU between them: from `channels` to `hidden`
/// and back. `init` takes a layer's inputs and outputs.
pub fn mlp(
    path: &Path,
    keys: [usize; 2],
    channels: i64,
    hidden: i64,
    init: impl Fn(i64, i64) -> LinearInit,
) -> Result<Box<dyn Layer>> {
    let first = linear(&(path / keys[0]), channels, hidden, init(channels, hidden))?;
    let second = linear(&(path / keys[1]), hidden, channels, init(hidden, channels))?;
    Ok(Box::new(Sequential(vec![Box::new(first), Box::new(Activation::Gelu), Box::new(second)])))
}

/// Queries, keys and values `[…, heads, T, D]` of the tokens' joint projection `[…, T, 3 · heads ·
/// D]`.
pub fn split_heads(projection: &Tensor, heads: i64) -> Result<[Tensor; 3]> {
    let width = projection.size().last().copied().unwrap_or_default() / 3 / heads;
    let split = projection.f_unflatten(-1, [3, heads, width])?.f_transpose(-4, -2)?;
    Ok([split.f_select(-3, 0)?, split.f_select(-3, 1)?, split.f_select(-3, 2)?])
}

/// Attention `softmax(q kᵀ · scale + bias) v`, and the heads joined again: `[…, T, heads · D]`. The
/// `scale` is 1/√D if it is not given; a `bias` is broadcast to `[…, heads, T, T]`.
pub fn attend([q, k, v]: &[Tensor; 3], bias: Option<&Tensor>, scale: Option<f64>) -> Result<Tensor> {
    let out = Tensor::f_scaled_dot_product_attention(q, k, v, bias, 0., false, scale, false)?;
    let out = out.f_transpose(-3, -2)?.f_flatten(-2, -1)?;
    // Each output number takes a product with each token's value, and as many for its attention
    // weights.
    let tokens = k.size().iter().rev().nth(1).copied().unwrap_or_default();
    trace::note(|| "attention".into(), None, &out, 2 * tokens);
    Ok(out)
}

/// For each pair of tokens in a window of `side` by `side`, the row of their offset in a table of
/// all `(2 · side - 1)²` offsets: `[side², side²]`.
pub fn relative_position_index(side: i64) -> Result<Tensor> {
    let tokens = Tensor::f_arange(side * side, (Kind::Int64, Device::Cpu))?;
    // On a grid as wide as the table, the difference of two tokens' numbers identifies their
    // offset.
    let (row, column) = (tokens.f_floor_divide_scalar(side)?, tokens.f_remainder(side)?);
    let number = row.f_mul_scalar(2 * side - 1)?.f_add(&column)?;
    let offset = number.f_unsqueeze(1)?.f_sub(&number.f_unsqueeze(0)?)?;
    Ok(offset.f_add_scalar(2 * side * (side - 1))?)
}

/// The bias `[heads, T, T]` from a table of offsets `[_, heads]` and an index of `tokens`² pairs.
pub fn position_bias(table: &Tensor, index: &Tensor, tokens: i64) -> Result<Tensor> {
    let rows = table.f_index_select(0, &index.f_flatten(0, -1)?)?;
    Ok(rows.f_reshape([tokens, tokens, -1])?.f_permute([2, 0, 1])?)
}

/// Images `[N, H, W, C]` cut into windows of `side` by `side`, `[N, windows, side², C]`; both sides
/// of the images are multiples of `side`.
pub fn windows(xs: &Tensor, side: i64) -> Result<Tensor> {
    let (n, height, width, channels) = xs.size4()?;
    let xs = xs.f_reshape([n, height / side, side, width / side, side, channels])?;
    Ok(xs.f_transpose(2, 3)?.f_reshape([n, -1, side * side, channels])?)
}

/// Images of `height` by `width` from their windows: the inverse of [`windows`].
pub fn join_windows(xs: &Tensor, side: i64, [height, width]: [i64; 2]) -> Result<Tensor> {
    let (n, _, _, channels) = xs.size4()?;
    let xs = xs.f_reshape([n, height / side, width / side, side, side, channels])?;
    Ok(xs.f_transpose(2, 3)?.f_reshape([n, height, width, channels])?)
}
