//! Swin Transformer (Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted
//! Windows", ICCV 2021) and its second version (Liu et al., "Swin Transformer V2", CVPR 2022);
//! torchvision `models/swin_transformer.py`. Between stages images are `[N, H, W, C]`.

use tch::{Device, Kind};

use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    SWIN.builder("swin_t", |chain| swin(chain, Version::V1, 96, 6, 0.2)),
    SWIN.builder("swin_s", |chain| swin(chain, Version::V1, 96, 18, 0.3)),
    SWIN.builder("swin_b", |chain| swin(chain, Version::V1, 128, 18, 0.5)),
    SWIN.builder("swin_v2_t", |chain| swin(chain, Version::V2, 96, 6, 0.2)),
    SWIN.builder("swin_v2_s", |chain| swin(chain, Version::V2, 96, 18, 0.3)),
    SWIN.builder("swin_v2_b", |chain| swin(chain, Version::V2, 128, 18, 0.5)),
];

/// Common settings of the six builders.
const SWIN: Architecture = Architecture::family("Swin Transformer", "stage4").contiguous().min_size(4);

/// The two papers: they differ in position biases, in how queries and keys are compared, and in
/// where branches are normalised.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// The side of a window, in patches.
    fn window(self) -> i64 {
        match self {
            Version::V1 => 7,
            Version::V2 => 8,
        }
    }
}

const PATCH: i64 = 4;
const EPS: f64 = 1e-5;
/// The channels of an attention head, in all stages of all builders.
const HEAD_WIDTH: i64 = 32;

/// `width`: channels of the first stage, doubled by each that follows; `third`: blocks in the third
/// stage, where the builders differ; `drop_rate`: stochastic depth of the last block, less before
/// it.
fn swin(chain: &mut Chain, version: Version, width: i64, third: usize, drop_rate: f64) -> Result<()> {
    chain.pooling(Pooling::ChannelsLast);
    chain.stage("patches", |root| {
        let path = root / "features.0";
        let conv = conv2d(&(&path / 0), 3, width, ConvConfig::new(PATCH).stride(PATCH).padding(0).bias())?;
        let channels_last = Func(|xs: &Tensor, _| xs.f_permute([0, 2, 3, 1]));
        let norm = layer_norm(&(&path / 2), width, EPS)?;
        Ok(Sequential(vec![Box::new(conv), Box::new(channels_last), Box::new(norm)]))
    })?;
    let blocks = [2, 2, third, 2];
    let last = blocks.iter().sum::<usize>() - 1;
    let mut before = 0;
    for (index, count) in blocks.into_iter().enumerate() {
        let width = width << index;
        for number in 0..count {
            chain.stage(format!("stage{}.{number}", index + 1), |root| {
                let mut layers: Vec<Box<dyn Layer>> = Vec::new();
                if index > 0 && number == 0 {
                    layers.push(Box::new(patch_merging(
                        &(root / "features" / (2 * index)),
                        version,
                        width / 2,
                    )?));
                }
                let path = root / "features" / (2 * index + 1) / number;
                // Every second block uses windows shifted by half their side.
                let shift = if number % 2 == 1 { version.window() / 2 } else { 0 };
                let drop = stochastic_depth(drop_rate * (before + number) as f64 / last as f64);
                layers.push(Box::new(block(&path, version, width, shift, drop)?));
                Ok(Sequential(layers))
            })?;
        }
        before += count;
    }
    let width = width << 3;
    let norm = layer_norm(&(chain.root() / "norm"), width, EPS)?;
    let mean = Func(|xs: &Tensor, _| xs.f_mean_dim([1i64, 2].as_slice(), false, None));
    let neck = Sequential(vec![Box::new(norm), Box::new(mean)]);
    chain.head_with("head", Box::new(neck), width, INIT)
}

/// Initial values of every linear layer.
const INIT: LinearInit = LinearInit { weight: Init::TruncatedNormal(0.02), bias: Some(Init::Constant(0.)) };

/// Half the resolution: each 2×2 patches are joined, and their `4 · width` channels reduced to
/// half.
struct PatchMerging {
    reduction: Linear,
    norm: LayerNorm,
    version: Version,
}

fn patch_merging(path: &Path, version: Version, width: i64) -> Result<PatchMerging> {
    let reduction = linear(&(path / "reduction"), 4 * width, 2 * width, INIT.without_bias())?;
    let normed = if version == Version::V1 { 4 * width } else { 2 * width };
    Ok(PatchMerging { reduction, norm: layer_norm(&(path / "norm"), normed, EPS)?, version })
}

impl Layer for PatchMerging {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let (_, height, width, _) = xs.size4()?;
        let xs = xs.f_constant_pad_nd([0, 0, 0, width % 2, 0, height % 2])?;
        let (n, height, width, channels) = xs.size4()?;
        // Columns before rows: the weights' order of the four patches.
        let xs = xs.f_reshape([n, height / 2, 2, width / 2, 2, channels])?.f_permute([0, 1, 3, 4, 2, 5])?;
        let xs = xs.f_reshape([n, height / 2, width / 2, 4 * channels])?;
        match self.version {
            Version::V1 => self.reduction.forward(&self.norm.forward(&xs, mode)?, mode),
            Version::V2 => self.norm.forward(&self.reduction.forward(&xs, mode)?, mode),
        }
    }
}

fn block(
    path: &Path,
    version: Version,
    width: i64,
    shift: i64,
    drop: Box<dyn Layer>,
) -> Result<TransformerBlock> {
    let first_norm = layer_norm(&(path / "norm1"), width, EPS)?;
    let attention = window_attention(&(path / "attn"), version, width, shift)?;
    let second_norm = layer_norm(&(path / "norm2"), width, EPS)?;
    let mlp = mlp(&(path / "mlp"), [0, 3], width, 4 * width, |_, _| INIT)?;
    Ok(TransformerBlock {
        norms: [first_norm, second_norm],
        branches: [Box::new(attention), mlp],
        drop,
        post_norm: version == Version::V2,
    })
}

/// Attention among the patches of a window, with a bias for each offset between two of them.
struct WindowAttention {
    positions: Positions,
    /// A row for each pair of patches in a window: see [`relative_position_index`].
    index: Tensor,
    qkv: Linear,
    out: Linear,
    heads: i64,
    window: i64,
    shift: i64,
}

/// Source of an offset's bias.
enum Positions {
    /// Learned for each offset and head.
    Table(Tensor),
    /// A function of the offset's logarithm; queries and keys are compared by their cosine, with a
    /// learned scale.
    Continuous { logit_scale: Tensor, offsets: Tensor, mlp: [Linear; 2] },
}

fn window_attention(path: &Path, version: Version, width: i64, shift: i64) -> Result<WindowAttention> {
    let (window, heads) = (version.window(), width / HEAD_WIDTH);
    let index = |path: &Path| -> Result<Tensor> {
        path.constant("relative_position_index", &relative_position_index(window)?.f_flatten(0, 1)?)
    };
    let projections = |path: &Path| -> Result<[Linear; 2]> {
        Ok([linear(&(path / "qkv"), width, 3 * width, INIT)?, linear(&(path / "proj"), width, width, INIT)?])
    };
    let (positions, index, [qkv, out]) = match version {
        Version::V1 => {
            let shape = [(2 * window - 1).pow(2), heads];
            let init = Init::TruncatedNormal(0.02);
            let table = path.var("relative_position_bias_table", Role::Other, &shape, init)?;
            (Positions::Table(table), index(path)?, projections(path)?)
        }
        Version::V2 => {
            let init = Init::Constant(10f64.ln());
            let logit_scale = path.var("logit_scale", Role::Other, &[heads, 1, 1], init)?;
            let offsets = path.constant("relative_coords_table", &log_offsets(window)?)?;
            let (index, projections) = (index(path)?, projections(path)?);
            let mlp = [
                linear(&(path / "cpb_mlp" / 0), 2, 512, INIT)?,
                linear(&(path / "cpb_mlp" / 2), 512, heads, INIT.without_bias())?,
            ];
            (Positions::Continuous { logit_scale, offsets, mlp }, index, projections)
        }
    };
    Ok(WindowAttention { positions, index, qkv, out, heads, window, shift })
}

/// The offsets of a window in rows and columns, `[1, 2 · window - 1, 2 · window - 1, 2]`: `±log2(1
/// + 8 · d) / 3` for the share `d` of the greatest.
fn log_offsets(window: i64) -> Result<Tensor> {
    let greatest = window - 1;
    let steps = Tensor::f_arange_start(-greatest, window, (Kind::Float, Device::Cpu))?;
    let scaled = steps.f_div_scalar(greatest)?.f_mul_scalar(8)?;
    let log = scaled.f_abs()?.f_add_scalar(1)?.f_log2()?.f_mul(&scaled.f_sign()?)?.f_div_scalar(3)?;
    let side = 2 * window - 1;
    let rows = log.f_view([side, 1])?.f_expand([side, side], false)?;
    let columns = log.f_view([1, side])?.f_expand([side, side], false)?;
    Ok(Tensor::f_stack(&[rows, columns], -1)?.f_unsqueeze(0)?)
}

impl Positions {
    /// The rows of biases, one for each offset, `[offsets, heads]`.
    fn table(&self, mode: Mode) -> Result<Tensor> {
        match self {
            Positions::Table(table) => Ok(table.shallow_clone()),
            Positions::Continuous { offsets, mlp: [first, second], .. } => {
                let hidden = first.forward(offsets, mode)?.f_relu()?;
                let rows = second.forward(&hidden, mode)?.f_flatten(0, 2)?;
                Ok(rows.f_sigmoid()?.f_mul_scalar(16)?)
            }
        }
    }
}

impl WindowAttention {
    /// Attention in each window of `xs`, `[N, windows, patches, C]`; `mask` is `[windows, 1,
    /// patches, patches]`.
    fn attend(&self, xs: &Tensor, mask: Option<Tensor>, mode: Mode) -> Result<Tensor> {
        let bias = position_bias(&self.positions.table(mode)?, &self.index, self.window * self.window)?;
        let bias = match mask {
            Some(mask) => mask.f_add(&bias)?,
            None => bias,
        };
        let out = match &self.positions {
            Positions::Table(_) => {
                attend(&split_heads(&self.qkv.forward(xs, mode)?, self.heads)?, Some(&bias), None)?
            }
            Positions::Continuous { logit_scale, .. } => {
                let [q, k, v] = split_heads(&self.cosine_projection(xs)?, self.heads)?;
                let scale = logit_scale.f_clamp_max(100f64.ln())?.f_exp()?;
                attend(&[normalize(&q)?.f_mul(&scale)?, normalize(&k)?, v], Some(&bias), Some(1.))?
            }
        };
        self.out.forward(&out, mode)
    }

    /// The projection, with the keys' bias zeroed: only their direction counts, though the state
    /// dict has a place for it.
    fn cosine_projection(&self, xs: &Tensor) -> Result<Tensor> {
        let bias = match &self.qkv.bias {
            Some(bias) => {
                let width = self.heads * HEAD_WIDTH;
                let (q, v) = (bias.f_narrow(0, 0, width)?, bias.f_narrow(0, 2 * width, width)?);
                Some(Tensor::f_cat(&[&q, &q.f_zeros_like()?, &v], 0)?)
            }
            None => None,
        };
        self.qkv.with_bias(xs, bias.as_ref())
    }
}

/// `xs` with length 1 in its last dimension (`F.normalize`).
fn normalize(xs: &Tensor) -> Result<Tensor> {
    let length = xs.f_norm_scalaropt_dim(2, [-1i64].as_slice(), true)?;
    Ok(xs.f_div(&length.f_clamp_min(1e-12)?)?)
}

impl Layer for WindowAttention {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let (_, height, width, _) = xs.size4()?;
        let window = self.window;
        let [padded_height, padded_width] = [height, width].map(|side| (side + window - 1) / window * window);
        let xs = xs.f_constant_pad_nd([0, 0, 0, padded_width - width, 0, padded_height - height])?;
        // A single window covers everything: no shift along that side.
        let shifts = [padded_height, padded_width].map(|side| if side > window { self.shift } else { 0 });
        let padded = [padded_height, padded_width];
        let [down, right] = shifts;
        let xs = if shifts == [0, 0] {
            join_windows(&self.attend(&windows(&xs, window)?, None, mode)?, window, padded)?
        } else {
            let xs = windows(&xs.f_roll([-down, -right], [1, 2])?, window)?;
            let mask = shift_mask(padded, window, shifts, xs.device())?;
            let xs = self.attend(&xs, Some(mask), mode)?;
            join_windows(&xs, window, padded)?.f_roll([down, right], [1, 2])?
        };
        Ok(xs.f_narrow(1, 0, height)?.f_narrow(2, 0, width)?)
    }
}

/// Mask that separates, in the windows of a rolled image, patches that were not neighbours:
/// `[windows, 1, patches, patches]`, added before the softmax.
fn shift_mask([height, width]: [i64; 2], window: i64, shifts: [i64; 2], device: Device) -> Result<Tensor> {
    // Along each side a region number: whole windows, before the seam, behind the seam.
    let regions = |side: i64, shift: i64| -> Result<Tensor, tch::TchError> {
        let parts = [(0, side - window), (1, window - shift), (2, shift)];
        let parts: Result<Vec<_>, _> = parts
            .into_iter()
            .map(|(number, length)| Tensor::f_full([length], number, (Kind::Float, device)))
            .collect();
        Tensor::f_cat(&parts?, 0)
    };
    let rows = regions(height, shifts[0])?.f_mul_scalar(3)?.f_view([1, height, 1, 1])?;
    let regions = rows.f_add(&regions(width, shifts[1])?.f_view([1, 1, width, 1])?)?;
    let regions = windows(&regions, window)?.f_view([-1, window * window])?;
    let differ = regions.f_unsqueeze(1)?.f_ne_tensor(&regions.f_unsqueeze(2)?)?;
    Ok(differ.f_to_kind(Kind::Float)?.f_mul_scalar(-100)?.f_unsqueeze(1)?)
}
