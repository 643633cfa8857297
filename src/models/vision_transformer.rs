//! Vision Transformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; torchvision
//! `models/vision_transformer.py`). torchvision drops nothing in its builders, so there is no
//! dropout here.

use super::prelude::*;

pub(super) const TABLE: &[Architecture] = &[
    VIT.multiple_of(16).builder("vit_b_16", |chain| vit(chain, Size::BASE, 16)),
    VIT.multiple_of(32).builder("vit_b_32", |chain| vit(chain, Size::BASE, 32)),
    VIT.multiple_of(16).partial_from("encoder.20").builder("vit_l_16", |chain| vit(chain, Size::LARGE, 16)),
    VIT.multiple_of(32).partial_from("encoder.20").builder("vit_l_32", |chain| vit(chain, Size::LARGE, 32)),
    VIT.multiple_of(14).partial_from("encoder.28").builder("vit_h_14", |chain| vit(chain, Size::HUGE, 14)),
];

/// Fields shared by the five builders.
const VIT: Architecture = Architecture {
    renames: &[(".mlp.linear_1.", ".mlp.0."), (".mlp.linear_2.", ".mlp.3.")],
    positions: Some("encoder.pos_embedding"),
    ..Architecture::family("Vision Transformer", "encoder.10").contiguous()
};

/// The paper's sizes: "Base", "Large" and "Huge" (its table 1).
#[derive(Clone, Copy)]
struct Size {
    layers: usize,
    heads: i64,
    width: i64,
}

impl Size {
    const BASE: Size = Size { layers: 12, heads: 12, width: 768 };
    const LARGE: Size = Size { layers: 24, heads: 16, width: 1024 };
    const HUGE: Size = Size { layers: 32, heads: 16, width: 1280 };
}

const EPS: f64 = 1e-6;

/// `patch`: the side of a patch in pixels.
fn vit(chain: &mut Chain, size: Size, patch: i64) -> Result<()> {
    let Size { layers, width, .. } = size;
    chain.pooling(Pooling::ClassToken);
    let grid = chain.side() / patch;
    chain.stage("patches", |root| patch_embed(root, width, patch, grid))?;
    for index in 0..layers {
        chain.stage(format!("encoder.{index}"), |root| {
            encoder(&(root / "encoder.layers" / format!("encoder_layer_{index}")), size)
        })?;
    }
    let norm = layer_norm(&(chain.root() / "encoder.ln"), width, EPS)?;
    // The normalisation is per token: only the class token needs it.
    let class_token = Func(|xs: &Tensor, _| xs.f_select(1, 0));
    let neck = Sequential(vec![Box::new(class_token), Box::new(norm)]);
    chain.head_with("heads.head", Box::new(neck), width, LinearInit::weights(Init::Constant(0.)))
}

/// The image as tokens: a class token, then the patches from left to right and top to bottom, each
/// with its position embedding.
struct PatchEmbed {
    class_token: Tensor,
    projection: Conv2d,
    positions: Tensor,
    /// Image side in pixels of the position embedding.
    side: i64,
}

fn patch_embed(root: &Path, width: i64, patch: i64, grid: i64) -> Result<PatchEmbed> {
    let deviation = ((3 * patch * patch) as f64).sqrt().recip();
    let config = ConvConfig::new(patch).stride(patch).padding(0).bias();
    let config = config.init(ConvInit::TruncatedNormal(deviation));
    Ok(PatchEmbed {
        class_token: root.var("class_token", Role::Other, &[1, 1, width], Init::Constant(0.))?,
        projection: conv2d(&(root / "conv_proj"), 3, width, config)?,
        positions: (root / "encoder").var(
            "pos_embedding",
            Role::Other,
            &[1, grid * grid + 1, width],
            Init::Normal(0.02),
        )?,
        side: grid * patch,
    })
}

impl Layer for PatchEmbed {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let (n, _, height, width) = xs.size4()?;
        let side = self.side;
        if (height, width) != (side, side) {
            return Err(Error::run(format!(
                "this network was built for images of {side}×{side} pixels, and was given {height}×{width}"
            )));
        }
        let patch_embed = self.projection.forward(xs, mode)?.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let class_token = self.class_token.f_expand([n, -1, -1], false)?;
        Ok(Tensor::f_cat(&[class_token, patch_embed], 1)?.f_add(&self.positions)?)
    }
}

fn encoder(path: &Path, Size { heads, width, .. }: Size) -> Result<TransformerBlock> {
    let first_norm = layer_norm(&(path / "ln_1"), width, EPS)?;
    let attention = self_attention(&(path / "self_attention"), width, heads)?;
    let second_norm = layer_norm(&(path / "ln_2"), width, EPS)?;
    let init = |inputs, outputs| LinearInit {
        bias: Some(Init::Normal(1e-6)),
        ..LinearInit::xavier(inputs, outputs)
    };
    let mlp = mlp(&(path / "mlp"), [0, 3], width, 4 * width, init)?;
    Ok(TransformerBlock {
        norms: [first_norm, second_norm],
        branches: [Box::new(attention), mlp],
        drop: identity(),
        post_norm: false,
    })
}

/// PyTorch's `nn.MultiheadAttention` of tokens among themselves.
struct SelfAttention {
    projection: Linear,
    out: Linear,
    heads: i64,
}

fn self_attention(path: &Path, width: i64, heads: i64) -> Result<SelfAttention> {
    let bound = (6. / (4 * width) as f64).sqrt();
    // These names have an underscore where a layer's have a dot.
    let weight = path.var("in_proj_weight", Role::Weight, &[3 * width, width], Init::Uniform(bound))?;
    let bias = path.var("in_proj_bias", Role::Bias, &[3 * width], Init::Constant(0.))?;
    let projection = Linear::over(path, weight, Some(bias));
    let init = LinearInit { bias: Some(Init::Constant(0.)), ..LinearInit::default(width) };
    Ok(SelfAttention { projection, out: linear(&(path / "out_proj"), width, width, init)?, heads })
}

impl Layer for SelfAttention {
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let heads = split_heads(&self.projection.forward(xs, mode)?, self.heads)?;
        self.out.forward(&attend(&heads, None, None)?, mode)
    }
}
