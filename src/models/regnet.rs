//! RegNet X and Y (Radosavovic et al., "Designing Network Design Spaces", CVPR 2020; torchvision
//! `models/regnet.py`). Four numbers give the width of every block; Y adds squeeze-and-excitation.

use tch::Tensor;

use super::layers::Activation::{self, Identity, Relu, Sigmoid};
use super::layers::{
    self, ConvConfig, ConvInit, ConvNorm, Layer, LinearInit, Mode, NormConfig, Sequential,
    adaptive_avg_pool2d_flat, squeeze_excitation,
};
use super::network::Chain;
use super::vars::{Init, Path};
use super::{Architecture, BASE, WeightEntry, bicubic, entry, imagenet};
use crate::error::{Error, Result};

pub(super) const TABLE: &[Architecture] = &[
    Architecture {
        name: "regnet_x_400mf",
        weights_enum: "RegNet_X_400MF_Weights",
        weights: &[
            v1("regnet_x_400mf-adf1edd5.pth", 5_495_976, 0.414, [72.834, 90.95]),
            v2("regnet_x_400mf-62229a5f.pth", 5_495_976, 0.414, [74.864, 92.322]),
        ],
        build: |chain| regnet_x(chain, Widths { depth: 22, w_0: 24., w_a: 24.48, w_m: 2.54 }, 16),
        ..REGNET
    },
    Architecture {
        name: "regnet_x_800mf",
        weights_enum: "RegNet_X_800MF_Weights",
        weights: &[
            v1("regnet_x_800mf-ad17e45c.pth", 7_259_656, 0.8, [75.212, 92.348]),
            v2("regnet_x_800mf-94a99ebd.pth", 7_259_656, 0.8, [77.522, 93.826]),
        ],
        build: |chain| regnet_x(chain, Widths { depth: 16, w_0: 56., w_a: 35.73, w_m: 2.28 }, 16),
        ..REGNET
    },
    Architecture {
        name: "regnet_x_1_6gf",
        weights_enum: "RegNet_X_1_6GF_Weights",
        weights: &[
            v1("regnet_x_1_6gf-e3633e7f.pth", 9_190_136, 1.603, [77.04, 93.44]),
            v2("regnet_x_1_6gf-a12f2b72.pth", 9_190_136, 1.603, [79.668, 94.922]),
        ],
        build: |chain| regnet_x(chain, Widths { depth: 18, w_0: 80., w_a: 34.01, w_m: 2.25 }, 24),
        ..REGNET
    },
    Architecture {
        name: "regnet_x_3_2gf",
        weights_enum: "RegNet_X_3_2GF_Weights",
        weights: &[
            v1("regnet_x_3_2gf-f342aeae.pth", 15_296_552, 3.177, [78.364, 93.992]),
            v2("regnet_x_3_2gf-7071aa85.pth", 15_296_552, 3.177, [81.196, 95.43]),
        ],
        build: |chain| regnet_x(chain, Widths { depth: 25, w_0: 88., w_a: 26.31, w_m: 2.25 }, 48),
        ..REGNET
    },
    Architecture {
        name: "regnet_x_8gf",
        weights_enum: "RegNet_X_8GF_Weights",
        weights: &[
            v1("regnet_x_8gf-03ceed89.pth", 39_572_648, 7.995, [79.344, 94.686]),
            v2("regnet_x_8gf-2b70d774.pth", 39_572_648, 7.995, [81.682, 95.678]),
        ],
        build: |chain| regnet_x(chain, Widths { depth: 23, w_0: 80., w_a: 49.56, w_m: 2.88 }, 120),
        ..REGNET
    },
    Architecture {
        name: "regnet_x_16gf",
        weights_enum: "RegNet_X_16GF_Weights",
        weights: &[
            v1("regnet_x_16gf-2007eb11.pth", 54_278_536, 15.941, [80.058, 94.944]),
            v2("regnet_x_16gf-ba3796d7.pth", 54_278_536, 15.941, [82.716, 96.196]),
        ],
        build: |chain| regnet_x(chain, Widths { depth: 22, w_0: 216., w_a: 55.59, w_m: 2.1 }, 128),
        ..REGNET
    },
    Architecture {
        name: "regnet_x_32gf",
        weights_enum: "RegNet_X_32GF_Weights",
        weights: &[
            v1("regnet_x_32gf-9d47f8d0.pth", 107_811_560, 31.736, [80.622, 95.248]),
            v2("regnet_x_32gf-6eb8fdc6.pth", 107_811_560, 31.736, [83.014, 96.288]),
        ],
        build: |chain| regnet_x(chain, Widths { depth: 23, w_0: 320., w_a: 69.86, w_m: 2.0 }, 168),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_400mf",
        weights_enum: "RegNet_Y_400MF_Weights",
        weights: &[
            v1("regnet_y_400mf-c65dace8.pth", 4_344_144, 0.402, [74.046, 91.716]),
            v2("regnet_y_400mf-e6988f5f.pth", 4_344_144, 0.402, [75.804, 92.742]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 16, w_0: 48., w_a: 27.89, w_m: 2.09 }, 8),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_800mf",
        weights_enum: "RegNet_Y_800MF_Weights",
        weights: &[
            v1("regnet_y_800mf-1b27b58c.pth", 6_432_512, 0.834, [76.42, 93.136]),
            v2("regnet_y_800mf-58fc7688.pth", 6_432_512, 0.834, [78.828, 94.502]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 14, w_0: 56., w_a: 38.84, w_m: 2.4 }, 16),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_1_6gf",
        weights_enum: "RegNet_Y_1_6GF_Weights",
        weights: &[
            v1("regnet_y_1_6gf-b11a554e.pth", 11_202_430, 1.612, [77.95, 93.966]),
            v2("regnet_y_1_6gf-0d7bc02a.pth", 11_202_430, 1.612, [80.876, 95.444]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 27, w_0: 48., w_a: 20.71, w_m: 2.65 }, 24),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_3_2gf",
        weights_enum: "RegNet_Y_3_2GF_Weights",
        weights: &[
            v1("regnet_y_3_2gf-b5a9779c.pth", 19_436_338, 3.176, [78.948, 94.576]),
            v2("regnet_y_3_2gf-9180c971.pth", 19_436_338, 3.176, [81.982, 95.972]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 21, w_0: 80., w_a: 42.63, w_m: 2.66 }, 24),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_8gf",
        weights_enum: "RegNet_Y_8GF_Weights",
        weights: &[
            v1("regnet_y_8gf-d0d0e4a8.pth", 39_381_472, 8.473, [80.032, 95.048]),
            v2("regnet_y_8gf-dc2b1b54.pth", 39_381_472, 8.473, [82.828, 96.33]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 17, w_0: 192., w_a: 76.82, w_m: 2.19 }, 56),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_16gf",
        weights_enum: "RegNet_Y_16GF_Weights",
        weights: &[
            v1("regnet_y_16gf-9e6ed7dd.pth", 83_590_140, 15.912, [80.424, 95.24]),
            v2("regnet_y_16gf-3e4a00f9.pth", 83_590_140, 15.912, [82.886, 96.328]),
            swag_e2e("regnet_y_16gf_swag-43afe44d.pth", 83_590_140, 46.735, [86.012, 98.054]),
            swag_linear("regnet_y_16gf_lc_swag-f3ec0043.pth", 83_590_140, 15.912, [83.976, 97.244]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 18, w_0: 200., w_a: 106.23, w_m: 2.48 }, 112),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_32gf",
        weights_enum: "RegNet_Y_32GF_Weights",
        weights: &[
            v1("regnet_y_32gf-4dee3f7a.pth", 145_046_770, 32.28, [80.878, 95.34]),
            v2("regnet_y_32gf-8db6d4b5.pth", 145_046_770, 32.28, [83.368, 96.498]),
            swag_e2e("regnet_y_32gf_swag-04fdfa75.pth", 145_046_770, 94.826, [86.838, 98.362]),
            swag_linear("regnet_y_32gf_lc_swag-e1583746.pth", 145_046_770, 32.28, [84.622, 97.48]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 20, w_0: 232., w_a: 115.89, w_m: 2.53 }, 232),
        ..REGNET
    },
    Architecture {
        name: "regnet_y_128gf",
        weights_enum: "RegNet_Y_128GF_Weights",
        default: "IMAGENET1K_SWAG_E2E_V1",
        weights: &[
            swag_e2e("regnet_y_128gf_swag-c8ce3e52.pth", 644_812_894, 374.57, [88.228, 98.682]),
            swag_linear("regnet_y_128gf_lc_swag-cbe8ce12.pth", 644_812_894, 127.518, [86.068, 97.844]),
        ],
        build: |chain| regnet_y(chain, Widths { depth: 27, w_0: 456., w_a: 160.83, w_m: 2.52 }, 264),
        ..REGNET
    },
];

/// What the builders share.
const REGNET: Architecture =
    Architecture { family: "RegNet", default: "IMAGENET1K_V2", partial_from: "block4", ..BASE };

/// torchvision's first training.
const fn v1(file: &'static str, parameters: u64, gflops: f64, accuracy: [f64; 2]) -> WeightEntry {
    entry("IMAGENET1K_V1", file, parameters, gflops, accuracy, imagenet(256, 224))
}

/// torchvision's second training, by its newer recipe.
const fn v2(file: &'static str, parameters: u64, gflops: f64, accuracy: [f64; 2]) -> WeightEntry {
    entry("IMAGENET1K_V2", file, parameters, gflops, accuracy, imagenet(232, 224))
}

/// Weights learnt from hashtags (SWAG; Singh et al., CVPR 2022), then fine-tuned end to end.
const fn swag_e2e(file: &'static str, parameters: u64, gflops: f64, accuracy: [f64; 2]) -> WeightEntry {
    entry("IMAGENET1K_SWAG_E2E_V1", file, parameters, gflops, accuracy, bicubic(imagenet(384, 384)))
}

/// SWAG's weights as they are, with a linear classifier.
const fn swag_linear(file: &'static str, parameters: u64, gflops: f64, accuracy: [f64; 2]) -> WeightEntry {
    entry("IMAGENET1K_SWAG_LINEAR_V1", file, parameters, gflops, accuracy, bicubic(imagenet(224, 224)))
}

/// Output channels of the stem.
const STEM: i64 = 32;
/// Channels between the two layers of a squeeze-and-excitation, for each input channel of the block.
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

impl Widths {
    /// Width and number of blocks of each stage, for groups of `group_width` channels.
    fn stages(self, group_width: i64) -> Vec<(i64, usize)> {
        let Widths { depth, w_0, w_a, w_m } = self;
        let mut stages: Vec<(i64, usize)> = Vec::new();
        for block in 0..depth {
            // The linear width, moved to the nearest power of w_m in units of w_0, then to a multiple of 8.
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

/// The multiple of `group` that is nearest to `width`, but not more than a tenth below it.
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
    chain.stage("stem", |root| conv_norm(&(root / "stem"), 3, STEM, convolution(3).stride(2), Relu))?;
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
fn conv_norm(
    path: &Path,
    inputs: i64,
    outputs: i64,
    config: ConvConfig,
    activation: Activation,
) -> Result<ConvNorm> {
    layers::conv_norm([&(path / 0), &(path / 1)], inputs, outputs, config, NormConfig::DEFAULT, activation)
}

/// The shape of one block.
#[derive(Clone, Copy)]
struct Shape {
    inputs: i64,
    outputs: i64,
    stride: i64,
    groups: i64,
    /// Channels between the two layers of the squeeze-and-excitation, if there is one.
    squeezed: Option<i64>,
}

/// A residual block of 1×1, 3×3 (grouped) and 1×1 convolutions of the same width.
struct Block {
    shortcut: Option<ConvNorm>,
    main: Sequential,
}

fn block(path: &Path, shape: Shape) -> Result<Block> {
    let Shape { inputs, outputs, stride, groups, squeezed } = shape;
    let shortcut = match inputs != outputs || stride != 1 {
        true => Some(conv_norm(&(path / "proj"), inputs, outputs, convolution(1).stride(stride), Identity)?),
        false => None,
    };
    let path = path / "f";
    let grouped = convolution(3).stride(stride).groups(groups);
    let mut main: Vec<Box<dyn Layer>> = vec![
        Box::new(conv_norm(&(&path / "a"), inputs, outputs, convolution(1), Relu)?),
        Box::new(conv_norm(&(&path / "b"), outputs, outputs, grouped, Relu)?),
    ];
    if let Some(squeezed) = squeezed {
        // torchvision leaves the biases of these two convolutions, the only ones, at PyTorch's own values.
        let init = ConvInit::KaimingFanOutDefaultBias;
        let gate = squeeze_excitation(&(&path / "se"), outputs, squeezed, [Relu, Sigmoid], init)?;
        main.push(Box::new(gate));
    }
    main.push(Box::new(conv_norm(&(&path / "c"), outputs, outputs, convolution(1), Identity)?));
    Ok(Block { shortcut, main: Sequential(main) })
}

impl Layer for Block {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut out = self.main.forward(xs, mode)?;
        let sum = match &self.shortcut {
            Some(shortcut) => out.f_add_(&shortcut.forward(xs, mode)?),
            None => out.f_add_(xs),
        };
        sum.and_then(|mut sum| sum.f_relu_()).map_err(Error::torch("add a residual"))
    }
}
