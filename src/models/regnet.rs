//! RegNet X and Y (Radosavovic et al., "Designing Network Design Spaces", CVPR 2020; torchvision
//! `models/regnet.py`). Four numbers give the width of every block; Y adds squeeze-and-excitation.

use super::layers::Activation::{self, Identity, Relu, Sigmoid};
use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    REGNET.builder("regnet_x_400mf", |chain| regnet_x(chain, widths(22, 24., 24.48, 2.54), 16)),
    REGNET.builder("regnet_x_800mf", |chain| regnet_x(chain, widths(16, 56., 35.73, 2.28), 16)),
    REGNET.builder("regnet_x_1_6gf", |chain| regnet_x(chain, widths(18, 80., 34.01, 2.25), 24)),
    REGNET.builder("regnet_x_3_2gf", |chain| regnet_x(chain, widths(25, 88., 26.31, 2.25), 48)),
    REGNET.builder("regnet_x_8gf", |chain| regnet_x(chain, widths(23, 80., 49.56, 2.88), 120)),
    REGNET.builder("regnet_x_16gf", |chain| regnet_x(chain, widths(22, 216., 55.59, 2.1), 128)),
    REGNET.builder("regnet_x_32gf", |chain| regnet_x(chain, widths(23, 320., 69.86, 2.0), 168)),
    REGNET.builder("regnet_y_400mf", |chain| regnet_y(chain, widths(16, 48., 27.89, 2.09), 8)),
    REGNET.builder("regnet_y_800mf", |chain| regnet_y(chain, widths(14, 56., 38.84, 2.4), 16)),
    REGNET.builder("regnet_y_1_6gf", |chain| regnet_y(chain, widths(27, 48., 20.71, 2.65), 24)),
    REGNET.builder("regnet_y_3_2gf", |chain| regnet_y(chain, widths(21, 80., 42.63, 2.66), 24)),
    REGNET.builder("regnet_y_8gf", |chain| regnet_y(chain, widths(17, 192., 76.82, 2.19), 56)),
    REGNET.builder("regnet_y_16gf", |chain| regnet_y(chain, widths(18, 200., 106.23, 2.48), 112)),
    REGNET.builder("regnet_y_32gf", |chain| regnet_y(chain, widths(20, 232., 115.89, 2.53), 232)),
    REGNET.builder("regnet_y_128gf", |chain| regnet_y(chain, widths(27, 456., 160.83, 2.52), 264)),
];

/// Fields shared by the builders.
const REGNET: Architecture = Architecture::family("RegNet", "block4");

/// Output channels of the stem.
const STEM: i64 = 32;
/// Channels between the two layers of a squeeze-and-excitation, for each input channel of the
/// block.
const SQUEEZED: f64 = 0.25;

/// The paper's parameters of the blocks' widths.
#[derive(Clone, Copy)]
struct Widths {
    /// Number of blocks.
    depth: u32,
    /// Width of the first block.
    w_0: f64,
    /// Growth of the width from block to block, before quantisation.
    w_a: f64,
    /// Ratio of successive stages' widths.
    w_m: f64,
}

const fn widths(depth: u32, w_0: f64, w_a: f64, w_m: f64) -> Widths {
    Widths { depth, w_0, w_a, w_m }
}

impl Widths {
    /// Width and number of blocks of each stage, for groups of `group_width` channels.
    fn stages(self, group_width: i64) -> Vec<(i64, usize)> {
        let Widths { depth, w_0, w_a, w_m } = self;
        let mut stages: Vec<(i64, usize)> = Vec::new();
        for block in 0..depth {
            // The linear width, moved to the nearest power of w_m in units of w_0, then to a
            // multiple of 8.
            let power = ((1. + f64::from(block) * w_a / w_0).ln() / w_m.ln()).round_ties_even();
            let width = (w_0 * w_m.powf(power) / 8.).round_ties_even() as i64 * 8;
            match stages.last_mut() {
                Some((last, blocks)) if *last == width => *blocks += 1,
                _ => stages.push((width, 1)),
            }
        }
        stages.iter().map(|&(width, blocks)| (whole_groups(width, group_width.min(width)), blocks)).collect()
    }
}

/// The multiple of `group` nearest to `width`, but at most a tenth below it.
fn whole_groups(width: i64, group: i64) -> i64 {
    let nearest = group.max((width + group / 2) / group * group);
    if nearest * 10 < width * 9 { nearest + group } else { nearest }
}

fn regnet_x(chain: &mut Chain, widths: Widths, group_width: i64) -> Result<()> {
    regnet(chain, widths, group_width, None)
}

fn regnet_y(chain: &mut Chain, widths: Widths, group_width: i64) -> Result<()> {
    regnet(chain, widths, group_width, Some(SQUEEZED))
}

/// A stem, then stages of blocks, each of which halves the resolution in its first block.
fn regnet(chain: &mut Chain, widths: Widths, group_width: i64, squeezed: Option<f64>) -> Result<()> {
    chain.stage("stem", |root| unit(&(root / "stem"), [3, STEM], convolution(3).stride(2), Relu))?;
    let mut inputs = STEM;
    for ((outputs, blocks), number) in widths.stages(group_width).into_iter().zip(1..) {
        let groups = outputs / group_width.min(outputs);
        for index in 0..blocks {
            let stride = if index == 0 { 2 } else { 1 };
            let squeezed = squeezed.map(|share| (share * inputs as f64).round_ties_even() as i64);
            let shape = Shape { inputs, outputs, stride, groups, squeezed };
            let name = format!("block{number}");
            chain.stage(format!("{name}.{index}"), |root| {
                block(&(root / "trunk_output" / &name / format!("{name}-{index}")), shape)
            })?;
            inputs = outputs;
        }
    }
    let init = LinearInit::weights(Init::Normal(0.01));
    chain.head_with("fc", adaptive_avg_pool2d_flat(1), inputs, init)
}

const fn convolution(kernel: i64) -> ConvConfig {
    ConvConfig::new(kernel).init(ConvInit::KaimingFanOut)
}

/// A convolution at `0` and its normalisation at `1`.
fn unit(path: &Path, channels: [i64; 2], config: ConvConfig, activation: Activation) -> Result<ConvNorm> {
    let [inputs, outputs] = channels;
    conv_norm([path / 0, path / 1], inputs, outputs, config, NormConfig::DEFAULT, activation)
}

/// The shape of one block.
#[derive(Clone, Copy)]
struct Shape {
    inputs: i64,
    outputs: i64,
    stride: i64,
    groups: i64,
    /// Channels between the two layers of the squeeze-and-excitation, if any.
    squeezed: Option<i64>,
}

/// A residual block of 1×1, 3×3 (grouped) and 1×1 convolutions of the same width.
fn block(path: &Path, shape: Shape) -> Result<Residual> {
    let Shape { inputs, outputs, stride, groups, squeezed } = shape;
    let shortcut = (inputs != outputs || stride != 1)
        .then(|| unit(&(path / "proj"), [inputs, outputs], convolution(1).stride(stride), Identity));
    let shortcut = shortcut.transpose()?;
    let path = path / "f";
    let grouped = convolution(3).stride(stride).groups(groups);
    let mut main: Vec<Box<dyn Layer>> = vec![
        Box::new(unit(&(&path / "a"), [inputs, outputs], convolution(1), Relu)?),
        Box::new(unit(&(&path / "b"), [outputs, outputs], grouped, Relu)?),
    ];
    if let Some(squeezed) = squeezed {
        // torchvision leaves the biases of these two convolutions, the only ones, at PyTorch's
        // defaults.
        let init = ConvInit::KaimingFanOutDefaultBias;
        let gate = squeeze_excitation(&(&path / "se"), outputs, squeezed, [Relu, Sigmoid], init)?;
        main.push(Box::new(gate));
    }
    main.push(Box::new(unit(&(&path / "c"), [outputs, outputs], convolution(1), Identity)?));
    Ok(Residual::new(Sequential(main), shortcut, Relu))
}
