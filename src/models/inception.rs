//! Inception v3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
//! 2016; torchvision `models/inception.py`).

use super::googlenet::{basic_conv, behind, linear_init};
use super::prelude::*;
use super::{Auxiliaries, Auxiliary};

pub(super) const TABLE: &[Architecture] = &[Architecture {
    auxiliaries: Auxiliaries {
        weight: 0.4,
        // Below that, fewer than five pixels reach a last convolution that needs five.
        min_size: 299,
        classifiers: &[Auxiliary { key: "AuxLogits", after: "Mixed_6e", build: auxiliary }],
    },
    transform_input: true,
    ..Architecture::family("Inception v3", "Mixed_7a").min_size(75).builder("inception_v3", build)
}];

/// Name, whether a pooling precedes it, input and output channels, convolution.
const STEM: [(&str, bool, i64, i64, ConvConfig); 5] = [
    ("Conv2d_1a_3x3", false, 3, 32, shrinking(2)),
    ("Conv2d_2a_3x3", false, 32, 32, shrinking(1)),
    ("Conv2d_2b_3x3", false, 32, 64, square(3)),
    ("Conv2d_3b_1x1", true, 64, 80, square(1)),
    ("Conv2d_4a_3x3", false, 80, 192, shrinking(1)),
];

/// Name, input channels, module.
const MODULES: [(&str, i64, Module); 11] = [
    ("Mixed_5b", 192, Module::A { projected: 32 }),
    ("Mixed_5c", 256, Module::A { projected: 64 }),
    ("Mixed_5d", 288, Module::A { projected: 64 }),
    ("Mixed_6a", 288, Module::B),
    ("Mixed_6b", 768, Module::C { width: 128 }),
    ("Mixed_6c", 768, Module::C { width: 160 }),
    ("Mixed_6d", 768, Module::C { width: 160 }),
    ("Mixed_6e", 768, Module::C { width: 192 }),
    ("Mixed_7a", 768, Module::D),
    ("Mixed_7b", 1280, Module::E),
    ("Mixed_7c", 2048, Module::E),
];
const FEATURES: i64 = 2048;
const DROPOUT: f64 = 0.5;
/// Standard deviation of the initial weights, of convolutions and of the classifier.
const DEVIATION: f64 = 0.1;

/// The five modules, by torchvision's letters.
#[derive(Clone, Copy)]
enum Module {
    /// The paper's figure 5; `projected`: channels behind the pooling.
    A { projected: i64 },
    /// Halves the resolution behind the modules of kind A.
    B,
    /// Figure 6, with factorised 7×7 convolutions; `width`: channels between them.
    C { width: i64 },
    /// Halves the resolution behind the modules of kind C.
    D,
    /// Figure 7, with branches that split again.
    E,
}

/// Poolings belong to the stage they feed, so that a stage's output is that of torchvision's module
/// of the same name.
fn build(chain: &mut Chain) -> Result<()> {
    for (name, pooled, inputs, outputs, config) in STEM {
        chain.stage(name, |root| {
            Ok(behind(pooled.then(halved), basic_conv(&(root / name), inputs, outputs, config)?))
        })?;
    }
    for (name, inputs, module) in MODULES {
        chain.stage(name, |root| {
            let branches = branches(&Branch { path: root / name, inputs }, module)?;
            Ok(behind((name == "Mixed_5b").then(halved), Branches(branches)))
        })?;
    }
    let neck = Sequential(vec![adaptive_avg_pool2d_flat(1), dropout(DROPOUT)]);
    chain.head_with("fc", Box::new(neck), FEATURES, linear_init(FEATURES, DEVIATION))
}

fn auxiliary(path: &Path, classes: i64) -> Result<Box<dyn Layer>> {
    const CHANNELS: i64 = 768;
    let init = linear_init(CHANNELS, 0.001);
    Ok(Box::new(Sequential(vec![
        avg_pool2d(5, 3, 0),
        Box::new(basic_conv(&(path / "conv0"), CHANNELS, 128, square(1))?),
        Box::new(basic_conv(&(path / "conv1"), 128, CHANNELS, square(5).padding(0))?),
        adaptive_avg_pool2d_flat(1),
        Box::new(linear(&(path / "fc"), CHANNELS, classes, init)?),
    ])))
}

/// A pooling that halves the resolution.
fn halved() -> Box<dyn Layer> {
    max_pool2d(3, 2, 0)
}

const fn square(kernel: i64) -> ConvConfig {
    rectangle(kernel, kernel)
}

const fn rectangle(height: i64, width: i64) -> ConvConfig {
    ConvConfig::rectangle(height, width).init(ConvInit::TruncatedNormal(DEVIATION))
}

/// A 3×3 convolution without padding.
const fn shrinking(stride: i64) -> ConvConfig {
    square(3).stride(stride).padding(0)
}

fn branches(module: &Branch, kind: Module) -> Result<Vec<Box<dyn Layer>>> {
    Ok(match kind {
        Module::A { projected } => vec![
            module.of(&[("branch1x1", 64, square(1))])?,
            module.of(&[("branch5x5_1", 48, square(1)), ("branch5x5_2", 64, square(5))])?,
            module.of(&[
                ("branch3x3dbl_1", 64, square(1)),
                ("branch3x3dbl_2", 96, square(3)),
                ("branch3x3dbl_3", 96, square(3)),
            ])?,
            module.averaged(projected)?,
        ],
        Module::B => vec![
            module.of(&[("branch3x3", 384, shrinking(2))])?,
            module.of(&[
                ("branch3x3dbl_1", 64, square(1)),
                ("branch3x3dbl_2", 96, square(3)),
                ("branch3x3dbl_3", 96, shrinking(2)),
            ])?,
            halved(),
        ],
        Module::C { width } => vec![
            module.of(&[("branch1x1", 192, square(1))])?,
            module.of(&[
                ("branch7x7_1", width, square(1)),
                ("branch7x7_2", width, rectangle(1, 7)),
                ("branch7x7_3", 192, rectangle(7, 1)),
            ])?,
            module.of(&[
                ("branch7x7dbl_1", width, square(1)),
                ("branch7x7dbl_2", width, rectangle(7, 1)),
                ("branch7x7dbl_3", width, rectangle(1, 7)),
                ("branch7x7dbl_4", width, rectangle(7, 1)),
                ("branch7x7dbl_5", 192, rectangle(1, 7)),
            ])?,
            module.averaged(192)?,
        ],
        Module::D => vec![
            module.of(&[("branch3x3_1", 192, square(1)), ("branch3x3_2", 320, shrinking(2))])?,
            module.of(&[
                ("branch7x7x3_1", 192, square(1)),
                ("branch7x7x3_2", 192, rectangle(1, 7)),
                ("branch7x7x3_3", 192, rectangle(7, 1)),
                ("branch7x7x3_4", 192, shrinking(2)),
            ])?,
            halved(),
        ],
        Module::E => vec![
            module.of(&[("branch1x1", 320, square(1))])?,
            module.split(&[("branch3x3_1", 384, square(1))], ["branch3x3_2a", "branch3x3_2b"])?,
            module.split(
                &[("branch3x3dbl_1", 448, square(1)), ("branch3x3dbl_2", 384, square(3))],
                ["branch3x3dbl_3a", "branch3x3dbl_3b"],
            )?,
            module.averaged(192)?,
        ],
    })
}

/// Start of a branch: its module's path, and the input channels.
struct Branch<'a> {
    path: Path<'a>,
    inputs: i64,
}

impl Branch<'_> {
    /// Convolutions in sequence: key, output channels, configuration.
    fn of(&self, convolutions: &[(&str, i64, ConvConfig)]) -> Result<Box<dyn Layer>> {
        let mut inputs = self.inputs;
        let mut layers: Vec<Box<dyn Layer>> = Vec::new();
        for &(key, outputs, config) in convolutions {
            layers.push(Box::new(basic_conv(&(&self.path / key), inputs, outputs, config)?));
            inputs = outputs;
        }
        Ok(Box::new(Sequential(layers)))
    }

    /// The same, then a 1×3 and a 3×1 convolution side by side with equal channels.
    fn split(&self, convolutions: &[(&str, i64, ConvConfig)], keys: [&str; 2]) -> Result<Box<dyn Layer>> {
        let stem = self.of(convolutions)?;
        let inputs = convolutions.last().map_or(self.inputs, |&(_, outputs, _)| outputs);
        let behind = Branch { path: self.path.clone(), inputs };
        let sides = Branches(vec![
            behind.of(&[(keys[0], inputs, rectangle(1, 3))])?,
            behind.of(&[(keys[1], inputs, rectangle(3, 1))])?,
        ]);
        Ok(Box::new(Sequential(vec![stem, Box::new(sides)])))
    }

    /// A mean over 3×3, then a 1×1 convolution.
    fn averaged(&self, outputs: i64) -> Result<Box<dyn Layer>> {
        Ok(Box::new(Sequential(vec![avg_pool2d(3, 1, 1), self.of(&[("branch_pool", outputs, square(1))])?])))
    }
}
