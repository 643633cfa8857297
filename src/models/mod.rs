//! The networks: torchvision's architectures, their weight entries, and the chain of stages they share.
//!
//! One file a family, each with a table of its builders (a row per builder, as in torchvision's
//! `models/*.py`). To add a family, write its file, and add its table to [`architectures`].

mod alexnet;
mod auxiliary;
mod classics;
mod convnext;
mod densenet;
mod efficientnet;
mod googlenet;
mod inception;
mod inspect;
pub mod layers;
mod maxvit;
mod mnasnet;
mod mobilenetv2;
mod mobilenetv3;
mod network;
mod regnet;
mod resnet;
mod shufflenetv2;
mod squeezenet;
mod swin_transformer;
mod vars;
mod vgg;
mod vision_transformer;

pub use auxiliary::{Auxiliaries, Auxiliary};
pub use inspect::{Row, inspect};
pub use network::{
    Activations, Chain, Classifier, DEFAULT_SIDE, FEATURES, LOGITS, Network, Pooling, Reading, StageGroup,
};
pub(crate) use vars::seed_of;
pub use vars::{Fill, Init, Path, Role, Var, bytes_of};

use crate::error::{Error, Result};
use crate::preprocess::{Interpolation, Preprocessing};
use crate::suggest;

/// One builder of torchvision: `torchvision.models.NAME`.
pub struct Architecture {
    /// The builder's name, such as `resnet18`.
    pub name: &'static str,
    /// The family's name for people.
    pub family: &'static str,
    /// torchvision's enum class, such as `ResNet18_Weights`.
    pub weights_enum: &'static str,
    /// The tag that `DEFAULT` stands for.
    pub default: &'static str,
    /// The pretrained weights that torchvision publishes, in its order.
    pub weights: &'static [WeightEntry],
    /// How images are prepared where there are no weights.
    pub preset: Preprocessing,
    /// The smallest side of an input that the network can take.
    pub min_size: u32,
    /// What the side of an input must be a multiple of.
    pub multiple: u32,
    /// The first stage, or group of stages, that `method: partial` trains unless told otherwise.
    pub partial_from: &'static str,
    /// Classifiers that help in training. torchvision's files hold them; what does not train leaves them out.
    pub auxiliaries: Auxiliaries,
    /// Whether torchvision's weights want the network itself to move images from ImageNet's mean and
    /// deviation to 0.5 and 0.5 ([`Network::set_transform_input`]).
    pub transform_input: bool,
    /// Parts of keys in older files, with what they are called now.
    pub renames: &'static [(&'static str, &'static str)],
    /// Appends the stages and the head.
    pub build: fn(&mut Chain) -> Result<()>,
}

/// One entry of a torchvision weights enum.
#[derive(Debug)]
pub struct WeightEntry {
    /// Its name in the enum, such as `IMAGENET1K_V1`.
    pub tag: &'static str,
    /// The file name below the download address; its last `-` is followed by the first digits of the
    /// file's sha256.
    pub file: &'static str,
    /// Number of parameters, with the entry's 1,000 classes.
    pub parameters: u64,
    /// Multiply-adds for one image at the entry's size, in 10⁹ (torchvision's `_ops`).
    pub gflops: f64,
    /// Top-1 accuracy on ImageNet's validation set, in percent.
    pub top1: f64,
    /// Top-5 accuracy on ImageNet's validation set, in percent.
    pub top5: f64,
    /// How its images are prepared (`weights.transforms()`).
    pub preprocessing: Preprocessing,
}

impl WeightEntry {
    /// Whether the file has no valid classifier and serves features only, as VGG16's `IMAGENET1K_FEATURES`:
    /// it holds NaN there, and torchvision gives no accuracy.
    pub fn features_only(&self) -> bool {
        self.top1.is_nan()
    }

    /// The first digits of the file's sha256, from its name.
    pub fn digits(&self) -> &'static str {
        let stem = self.file.rsplit_once('.').map_or(self.file, |(stem, _)| stem);
        stem.rsplit_once('-').map_or("", |(_, digits)| digits)
    }
}

impl Architecture {
    /// How images are prepared where no weights say otherwise: as the first entry's.
    pub fn preprocessing(&self) -> Preprocessing {
        self.weights.first().map_or_else(|| self.preset.clone(), |entry| entry.preprocessing.clone())
    }

    /// The key of today for one in a file, which may be older.
    pub fn current_key(&self, key: &str) -> String {
        self.renames.iter().fold(key.to_string(), |key, (old, new)| key.replace(old, new))
    }

    /// The entry of this tag; `DEFAULT` and the enum's full name (`ResNet18_Weights.IMAGENET1K_V1`) too.
    pub fn entry(&self, tag: &str) -> Option<&'static WeightEntry> {
        let tag = tag.strip_prefix(self.weights_enum).and_then(|rest| rest.strip_prefix('.')).unwrap_or(tag);
        let tag = if tag == "DEFAULT" { self.default } else { tag };
        self.weights.iter().find(|entry| entry.tag == tag)
    }
}

/// A row of a family's table: tag, file, parameters, GFLOPs, top-1 and top-5, preprocessing.
const fn entry(
    tag: &'static str,
    file: &'static str,
    parameters: u64,
    gflops: f64,
    [top1, top5]: [f64; 2],
    preprocessing: Preprocessing,
) -> WeightEntry {
    WeightEntry { tag, file, parameters, gflops, top1, top5, preprocessing }
}

/// What builders have in common; each row of a table replaces what is its own.
const BASE: Architecture = Architecture {
    name: "",
    family: "",
    weights_enum: "",
    default: "IMAGENET1K_V1",
    weights: &[],
    preset: imagenet(256, 224),
    min_size: 1,
    multiple: 1,
    partial_from: "",
    auxiliaries: Auxiliaries::NONE,
    transform_input: false,
    renames: &[],
    build: |_| Ok(()),
};

/// torchvision's `ImageClassification` preset with ImageNet's mean and deviation.
const fn imagenet(resize_size: u32, crop_size: u32) -> Preprocessing {
    Preprocessing {
        resize_size,
        crop_size,
        interpolation: Interpolation::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

/// The same with a bicubic resize.
const fn bicubic(preprocessing: Preprocessing) -> Preprocessing {
    Preprocessing { interpolation: Interpolation::Bicubic, ..preprocessing }
}

/// All architectures, family by family.
pub fn architectures() -> impl Iterator<Item = &'static Architecture> {
    [
        alexnet::TABLE,
        classics::TABLE,
        convnext::TABLE,
        densenet::TABLE,
        efficientnet::TABLE,
        googlenet::TABLE,
        inception::TABLE,
        maxvit::TABLE,
        mnasnet::TABLE,
        mobilenetv2::TABLE,
        mobilenetv3::TABLE,
        regnet::TABLE,
        resnet::TABLE,
        shufflenetv2::TABLE,
        squeezenet::TABLE,
        swin_transformer::TABLE,
        vgg::TABLE,
        vision_transformer::TABLE,
    ]
    .into_iter()
    .flatten()
}

/// The architecture of this name.
pub fn find(name: &str) -> Option<&'static Architecture> {
    architectures().find(|architecture| architecture.name == name)
}

/// What to say of a name that no architecture has.
pub fn unknown(name: &str) -> String {
    let names: Vec<_> = architectures().map(|architecture| architecture.name).collect();
    let nearest = suggest::nearest_few(name, names.iter().copied(), 3);
    match nearest.is_empty() {
        true => format!("there is no model named `{name}`; `tl models` lists those there are"),
        false => format!(
            "there is no model named `{name}`; the nearest are {}; `tl models` lists all",
            suggest::quoted(&nearest)
        ),
    }
}

/// ImageNet's 1,000 class names, in the order of torchvision's weights (`_IMAGENET_CATEGORIES`).
pub fn imagenet_classes() -> Vec<String> {
    include_str!("../../data/imagenet_classes.txt").lines().map(str::to_string).collect()
}

/// What to say of a stage that the network does not have; `readings` are names that would do besides stages.
fn suggest_stage(network: &Network, name: &str, readings: &[&'static str]) -> Error {
    let stages: Vec<&str> = network.stage_names().collect();
    // A deep network has fifty blocks: their groups are enough to find one's way.
    let mut groups: Vec<&str> = stages.iter().map(|stage| stage.split('.').next().unwrap_or(stage)).collect();
    groups.dedup();
    groups.extend(readings);
    let hint = match suggest::nearest(name, groups.iter().chain(&stages).copied()) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => ".".into(),
    };
    let block = match stages.iter().rfind(|stage| stage.contains('.')) {
        Some(block) => format!("; a part of one has a name such as {block}"),
        None => String::new(),
    };
    Error::usage(format!(
        "{} has no stage named `{name}`{hint} It has {}{block}",
        network.architecture.name,
        groups.join(", ")
    ))
}
