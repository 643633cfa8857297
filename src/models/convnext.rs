//! ConvNeXt (Liu et al., "A ConvNet for the 2020s", CVPR 2022; torchvision `models/convnext.py`).

use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    CONVNEXT.builder("convnext_tiny", |chain| convnext(chain, 96, 9, 0.1)),
    CONVNEXT.builder("convnext_small", |chain| convnext(chain, 96, 27, 0.4)),
    CONVNEXT.builder("convnext_base", |chain| convnext(chain, 128, 27, 0.5)),
    CONVNEXT.builder("convnext_large", |chain| convnext(chain, 192, 27, 0.5)),
];

/// Common settings of the builders.
const CONVNEXT: Architecture = Architecture::family("ConvNeXt", "stage4").contiguous().min_size(32);

/// Epsilon of all layer normalisations.
const EPS: f64 = 1e-6;
/// Standard deviation of all initial weights; biases start at 0.
const DEVIATION: f64 = 0.02;
/// Initial layer scale of each block's branch.
const LAYER_SCALE: f64 = 1e-6;

/// `channels`: of the first stage; each further one doubles them. The third stage has `third`
/// blocks, the others three. The rate of stochastic depth rises from 0 in the first block to
/// `depth_rate` in the last.
fn convnext(chain: &mut Chain, channels: i64, third: usize, depth_rate: f64) -> Result<()> {
    let blocks = [3, 3, third, 3];
    let last = blocks.iter().sum::<usize>() - 1;
    let mut before = 0;
    let mut inputs = channels;
    chain.stage("stem", |root| {
        let path = root / "features" / 0;
        let conv = conv2d(&(&path / 0), 3, channels, convolution(4).stride(4).padding(0))?;
        Ok(Sequential(vec![Box::new(conv), Box::new(norm2d(&(path / 1), channels)?)]))
    })?;
    for (index, count) in blocks.into_iter().enumerate() {
        let stage = format!("stage{}", index + 1);
        let outputs = channels << index;
        if index > 0 {
            chain.stage(format!("{stage}.downsample"), |root| {
                let path = root / "features" / (2 * index);
                let norm = norm2d(&(&path / 0), inputs)?;
                let conv = conv2d(&(path / 1), inputs, outputs, convolution(2).stride(2).padding(0))?;
                Ok(Sequential(vec![Box::new(norm), Box::new(conv)]))
            })?;
        }
        for number in 0..count {
            let rate = depth_rate * (before + number) as f64 / last as f64;
            chain.stage(format!("{stage}.{number}"), |root| {
                block(&(root / "features" / (2 * index + 1) / number), outputs, rate)
            })?;
        }
        before += count;
        inputs = outputs;
    }
    // The classifier's own normalisation, of 1×1 images: over the channels, as of vectors.
    let norm = layer_norm(&(chain.root() / "classifier" / 0), inputs, EPS)?;
    let neck = Sequential(vec![adaptive_avg_pool2d_flat(1), Box::new(norm)]);
    chain.head_with("classifier.2", Box::new(neck), inputs, init())
}

const fn convolution(kernel: i64) -> ConvConfig {
    ConvConfig::new(kernel).bias().init(ConvInit::TruncatedNormal(DEVIATION))
}

fn init() -> LinearInit {
    LinearInit::weights(Init::TruncatedNormal(DEVIATION))
}

fn norm2d(path: &Path, channels: i64) -> Result<LayerNorm2d> {
    Ok(LayerNorm2d(layer_norm(path, channels, EPS)?))
}

/// torchvision's `CNBlock`: a depthwise convolution, then an MLP on each pixel's channels.
fn block(path: &Path, channels: i64, rate: f64) -> Result<Residual> {
    let scale = path.var("layer_scale", Role::Other, &[channels, 1, 1], Init::Constant(LAYER_SCALE))?;
    let path = path / "block";
    Ok(Residual::plain(vec![
        Box::new(conv2d(&(&path / 0), channels, channels, convolution(7).groups(channels))?),
        Box::new(Func(|xs: &Tensor, _| xs.f_permute([0, 2, 3, 1]))),
        Box::new(layer_norm(&(&path / 2), channels, EPS)?),
        mlp(&path, [3, 5], channels, 4 * channels, |_, _| init())?,
        Box::new(Func(move |xs: &Tensor, _| {
            let out = xs.f_permute([0, 3, 1, 2])?.f_mul(&scale)?;
            trace::note(|| "layer scale".into(), Some(&scale), &out, 0);
            Ok(out)
        })),
        stochastic_depth(rate),
    ]))
}
