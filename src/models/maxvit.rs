//! MaxViT (Tu et al., "MaxViT: Multi-Axis Vision Transformer", ECCV 2022; torchvision
//! `models/maxvit.py`).

use super::layers::Activation::{Gelu, Identity, Sigmoid, Silu, Tanh};
use super::prelude::*;

pub(super) const TABLE: &[Architecture] =
    &[Architecture::family("MaxViT", "block4").contiguous().multiple_of(MULTIPLE).builder("maxvit_t", build)];

/// Image sides are multiples of this, in pixels: 7 parts at a 32nd of the resolution.
const MULTIPLE: u32 = 224;
/// Channels and layers of the four blocks.
const BLOCKS: [(i64, usize); 4] = [(64, 2), (128, 2), (256, 5), (512, 2)];
const STEM: i64 = 64;
/// The channels of an attention head.
const HEAD_WIDTH: i64 = 32;
/// The side of a window, and the number of positions on each side of the grid.
const PARTITION: i64 = 7;
/// Stochastic depth of the last layer; earlier ones have less.
const DROP_RATE: f64 = 0.2;
const NORM: NormConfig = NormConfig { eps: 1e-3, momentum: 0.01 };
const LAYER_NORM_EPS: f64 = 1e-5;
const DEVIATION: f64 = 0.02;

fn build(chain: &mut Chain) -> Result<()> {
    chain.stage("stem", |root| {
        let path = root / "stem";
        let first = convolution(3).stride(2);
        let first = conv_norm([&path / "0.0", &path / "0.1"], 3, STEM, first, NORM, Gelu)?;
        let second = conv2d(&(&path / "1.0"), STEM, STEM, convolution(3).bias())?;
        Ok(Sequential(vec![Box::new(first), Box::new(second)]))
    })?;
    let last = BLOCKS.iter().map(|(_, count)| count).sum::<usize>() - 1;
    let (mut inputs, mut before) = (STEM, 0);
    for (index, (channels, count)) in BLOCKS.into_iter().enumerate() {
        for number in 0..count {
            let drop_rate = DROP_RATE * (before + number) as f64 / last as f64;
            chain.stage(format!("block{}.{number}", index + 1), |root| {
                let path = root / "blocks" / index / "layers" / number / "layers";
                let stride = if number == 0 { 2 } else { 1 };
                let convolution = mb_conv(&(&path / "MBconv"), inputs, channels, stride, drop_rate)?;
                let window =
                    partition(&(&path / "window_attention"), Partition::Window, channels, drop_rate)?;
                let grid = partition(&(&path / "grid_attention"), Partition::Grid, channels, drop_rate)?;
                Ok(Sequential(vec![Box::new(convolution), Box::new(window), Box::new(grid)]))
            })?;
            inputs = channels;
        }
        before += count;
    }
    chain.stage("pre_logits", |root| {
        let norm = layer_norm(&(root / "classifier.2"), inputs, LAYER_NORM_EPS)?;
        let linear = linear(&(root / "classifier.3"), inputs, inputs, INIT)?;
        let pool = adaptive_avg_pool2d_flat(1);
        Ok(Sequential(vec![pool, Box::new(norm), Box::new(linear), Box::new(Tanh)]))
    })?;
    chain.head_with("classifier.5", identity(), inputs, INIT.without_bias())
}

/// Initial values of every linear layer.
const INIT: LinearInit = LinearInit { weight: Init::Normal(DEVIATION), bias: Some(Init::Constant(0.)) };

const fn convolution(kernel: i64) -> ConvConfig {
    ConvConfig::new(kernel).init(ConvInit::Normal(DEVIATION))
}

/// An inverted bottleneck with squeeze-and-excitation, normalised before it.
fn mb_conv(path: &Path, inputs: i64, outputs: i64, stride: i64, drop_rate: f64) -> Result<Residual> {
    let shortcut = (stride != 1).then(|| -> Result<_> {
        let conv = conv2d(&(path / "proj.1"), inputs, outputs, convolution(1).bias())?;
        Ok(Sequential(vec![avg_pool2d(3, 2, 1), Box::new(conv)]))
    });
    let shortcut = shortcut.transpose()?;
    let wide = 4 * outputs;
    let path = path / "layers";
    let unit = |name: &str, inputs, config| {
        conv_norm([&path / name / 0, &path / name / 1], inputs, wide, config, NORM, Gelu)
    };
    let (squeeze, init) = (&path / "squeeze_excitation", ConvInit::Normal(DEVIATION));
    let main: Vec<Box<dyn Layer>> = vec![
        Box::new(batch_norm2d(&(&path / "pre_norm"), inputs, NORM)?),
        Box::new(unit("conv_a", inputs, convolution(1))?),
        Box::new(unit("conv_b", wide, convolution(3).stride(stride).groups(wide))?),
        Box::new(squeeze_excitation(&squeeze, wide, outputs / 4, [Silu, Sigmoid], init)?),
        Box::new(conv2d(&(&path / "conv_c"), wide, outputs, convolution(1).bias())?),
        stochastic_depth(drop_rate),
    ];
    Ok(Residual::new(Sequential(main), shortcut, Identity))
}

/// Partition of the patches that attend to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Partition {
    /// Windows of 7×7 neighbours.
    Window,
    /// 7×7 patches spread over the whole image, at equal distances.
    Grid,
}

/// A transformer block within the partitions of an image.
struct PartitionAttention {
    partition: Partition,
    block: TransformerBlock,
}

fn partition(path: &Path, partition: Partition, channels: i64, drop_rate: f64) -> Result<PartitionAttention> {
    let (attention, mlp_path) = (path / "attn_layer", path / "mlp_layer");
    let first_norm = layer_norm(&(&attention / 0), channels, LAYER_NORM_EPS)?;
    let attention = relative_attention(&(&attention / 1), channels)?;
    let second_norm = layer_norm(&(&mlp_path / 0), channels, LAYER_NORM_EPS)?;
    let block = TransformerBlock {
        norms: [first_norm, second_norm],
        branches: [Box::new(attention), mlp(&mlp_path, [1, 3], channels, 4 * channels, |_, _| INIT)?],
        drop: stochastic_depth(drop_rate),
        post_norm: false,
    };
    Ok(PartitionAttention { partition, block })
}

impl Layer for PartitionAttention {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let (_, _, height, width) = xs.size4()?;
        if height != width || height % PARTITION != 0 {
            return Err(Error::run(format!(
                "this network attends to {PARTITION}×{PARTITION} parts of an image, and is left with \
                 {height}×{width} places here: give it images whose sides are multiples of {MULTIPLE} pixels"
            )));
        }
        let side = match self.partition {
            Partition::Window => PARTITION,
            Partition::Grid => height / PARTITION,
        };
        let parts = windows(&xs.f_permute([0, 2, 3, 1])?, side)?;
        // The grid's parts are the positions that the windows have in common.
        let parts = match self.partition {
            Partition::Window => self.block.forward(&parts, mode)?,
            Partition::Grid => self.block.forward(&parts.f_transpose(1, 2)?, mode)?.f_transpose(1, 2)?,
        };
        Ok(join_windows(&parts, side, [height, width])?.f_permute([0, 3, 1, 2])?)
    }
}

/// Attention with a learned bias for each offset between two of the 7×7 patches.
struct RelativeAttention {
    table: Tensor,
    index: Tensor,
    qkv: Linear,
    out: Linear,
    channels: i64,
}

fn relative_attention(path: &Path, channels: i64) -> Result<RelativeAttention> {
    let shape = [(2 * PARTITION - 1).pow(2), channels / HEAD_WIDTH];
    let init = Init::TruncatedNormal(DEVIATION);
    Ok(RelativeAttention {
        table: path.var("relative_position_bias_table", Role::Other, &shape, init)?,
        index: path.constant("relative_position_index", &relative_position_index(PARTITION)?)?,
        qkv: linear(&(path / "to_qkv"), channels, 3 * channels, INIT)?,
        out: linear(&(path / "merge"), channels, channels, INIT)?,
        channels,
    })
}

impl Layer for RelativeAttention {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let bias = position_bias(&self.table, &self.index, PARTITION * PARTITION)?;
        let heads = split_heads(&self.qkv.forward(xs, mode)?, self.channels / HEAD_WIDTH)?;
        // By all channels, not by a head's, as in training.
        let scale = (self.channels as f64).sqrt().recip();
        self.out.forward(&attend(&heads, Some(&bias), Some(scale))?, mode)
    }
}
