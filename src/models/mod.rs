//! The networks: torchvision's architectures, their weight entries, and the chain of stages they
//! share.
//!
//! One file a family, each with a table of its builders (a row per builder, as in torchvision's
//! `models/*.py`); `weights.csv` lists their published weights. To add a family, write its file,
//! and add its table to [`architectures`].

mod auxiliary;
mod chain;
mod head;
mod inference;
mod inspect;
mod keys;
pub mod layers;
mod network;
mod prepared;
mod stages_head;
mod vars;
mod watched;
mod weights;

pub use auxiliary::{Auxiliaries, Auxiliary};
pub use chain::Chain;
pub use head::{Classifier, Pooling};
pub use inference::InferenceNetwork;
pub use inspect::{Row, inspect};
pub use keys::Keys;
pub use network::{
    Activations, DEFAULT_SIDE, FEATURES, LOGITS, Network, StageGroup, Tap, channels_last, is_channels_last,
};
pub use prepared::Folding;
pub use stages_head::STAGES_HEAD;
pub use vars::{Fill, Init, Path, Role, Var, bytes_of};
pub use watched::Watched;
pub use weights::{Origin, WeightEntry};

/// Declares the families' files and lists their tables.
macro_rules! families {
    ($($family:ident)*) => {
        $(mod $family;)*
        /// The builders of each family, in the order of `tl models`.
        static FAMILIES: &[&[Architecture]] = &[$($family::TABLE),*];
    };
}

// A new family is its file and a line here.
families! {
    alexnet
    classics
    convnext
    densenet
    efficientnet
    efficientnet_lite
    googlenet
    inception
    maxvit
    mnasnet
    mobilenetv2
    mobilenetv3
    regnet
    resnet
    shufflenetv2
    squeezenet
    swin_transformer
    vgg
    vision_transformer
}

/// Imports of a family's file.
mod prelude {
    pub(super) use tch::Tensor;

    pub(super) use super::layers::*;
    pub(super) use super::{Architecture, Chain, Init, Path, Pooling, Role, is_channels_last};
    pub(super) use crate::error::{Error, Result};
}

use crate::error::{Error, Result};
use crate::preprocess::{Fit, Interpolation, Preprocessing};
use crate::text::suggest;

/// One builder: `torchvision.models.NAME`, or a classic network that torchvision lacks.
pub struct Architecture {
    /// The builder's name, such as `resnet18`.
    pub name: &'static str,
    /// The family's display name.
    pub family: &'static str,
    /// Preprocessing where there are no weights.
    pub preset: Preprocessing,
    /// Smallest side of an input.
    pub min_size: u32,
    /// The side of an input is a multiple of this.
    pub multiple: u32,
    /// The first stage, or group of stages, that `method: partial` trains unless told otherwise.
    pub partial_from: &'static str,
    /// Classifiers that help in training. torchvision's files hold them; they are built only for
    /// training.
    pub auxiliaries: Auxiliaries,
    /// Whether a training step on the CPU is faster with channels-last images and kernels.
    pub channels_last: bool,
    /// Whether torchvision's weights expect the network itself to convert images from ImageNet's
    /// mean and deviation to 0.5 and 0.5 ([`Network::set_transform_input`]).
    pub transform_input: bool,
    /// Parts of keys in older files, with their current names.
    pub renames: &'static [(&'static str, &'static str)],
    /// The same network with the keys of another library, whose files are read too; same order of
    /// variables as in [`Architecture::build`].
    pub also_keyed: Option<fn(&mut Chain) -> Result<()>>,
    /// The key of a position embedding, `[1, 1 + n², D]`: a class token and n × n patches of
    /// `multiple` pixels a side. It is resampled if the file was made for images of another size.
    pub positions: Option<&'static str>,
    /// Recognises files of an older network of the same name by a tensor's shape, with advice.
    pub older: Option<Older>,
    /// Appends the stages and the head.
    pub build: fn(&mut Chain) -> Result<()>,
}

/// How to recognise files of an older version of the network.
#[derive(Clone, Copy, Debug)]
pub struct Older {
    /// The key of a tensor.
    pub key: &'static str,
    /// Its shape in the older network, if different from today's.
    pub shape: &'static [usize],
    /// Description of the file and remedy: a sentence.
    pub advice: &'static str,
}

impl Architecture {
    /// Defaults of most families, to be overridden.
    const fn family(family: &'static str, partial_from: &'static str) -> Self {
        Architecture {
            name: "",
            family,
            preset: imagenet(256, 224),
            min_size: 1,
            multiple: 1,
            partial_from,
            auxiliaries: Auxiliaries::NONE,
            channels_last: true,
            transform_input: false,
            renames: &[],
            also_keyed: None,
            positions: None,
            older: None,
            build: |_| Ok(()),
        }
    }

    /// The same for inputs with sides of at least this many pixels.
    const fn min_size(self, min_size: u32) -> Self {
        Architecture { min_size, ..self }
    }

    /// The same for inputs with sides that are multiples of this many pixels.
    const fn multiple_of(self, multiple: u32) -> Self {
        Architecture { min_size: multiple, multiple, ..self }
    }

    /// The same, trained in the standard memory format, because a step is no faster channels-last:
    /// tokens and layer normalisations have an order of their own, and that of the few convolutions
    /// is undone before it is of use.
    const fn contiguous(self) -> Self {
        Architecture { channels_last: false, ..self }
    }

    /// The same where `method: partial` begins at this stage.
    const fn partial_from(self, partial_from: &'static str) -> Self {
        Architecture { partial_from, ..self }
    }

    /// A row of a family's table.
    const fn builder(self, name: &'static str, build: fn(&mut Chain) -> Result<()>) -> Self {
        Architecture { name, build, ..self }
    }

    /// The same, also reading files with these keys.
    const fn also_keyed(self, build: fn(&mut Chain) -> Result<()>) -> Self {
        Architecture { also_keyed: Some(build), ..self }
    }

    /// The published weights, in torchvision's order.
    pub fn weights(&self) -> &'static [WeightEntry] {
        weights::published(self.name).map_or(&[], |published| &published.entries)
    }

    /// Their enum class in torchvision, such as `ResNet18_Weights`, or one after its pattern; empty
    /// if nothing is published.
    pub fn weights_enum(&self) -> &'static str {
        weights::published(self.name).map_or("", |published| published.name)
    }

    /// The tag of `DEFAULT`; empty if nothing is published.
    pub fn default_tag(&self) -> &'static str {
        weights::published(self.name).map_or("", |published| published.default)
    }

    /// The entry of this tag; also of `DEFAULT` and the enum's full name
    /// (`ResNet18_Weights.IMAGENET1K_V1`).
    pub fn entry(&self, tag: &str) -> Option<&'static WeightEntry> {
        let own =
            tag.strip_prefix(self.weights_enum()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(tag);
        let tag = if own == "DEFAULT" { self.default_tag() } else { own };
        self.weights().iter().find(|entry| entry.tag == tag)
    }

    /// Preprocessing where no weights say otherwise: the first entry's.
    pub fn preprocessing(&self) -> Preprocessing {
        self.weights().first().map_or_else(|| self.preset.clone(), |entry| entry.preprocessing.clone())
    }

    /// Checks that the network can take images of `side` by `side` pixels.
    ///
    /// # Errors
    /// A message for the user that names the nearest possible sizes.
    pub fn check_side(&self, side: u32) -> Result<(), String> {
        let Architecture { name, min_size, multiple, .. } = *self;
        let below = side - side % multiple;
        let possible = match (side >= min_size, multiple) {
            (true, _) if below == side => return Ok(()),
            (true, _) => format!("a multiple of {multiple}, such as {below} or {}", below + multiple),
            (false, 1) => format!("at least {min_size}"),
            (false, _) => format!("a multiple of {multiple}, {min_size} at least"),
        };
        Err(format!("{name} cannot take images of {side}×{side} pixels: a side needs {possible}"))
    }
}

/// torchvision's `ImageClassification` preset with ImageNet's mean and deviation.
const fn imagenet(resize_size: u32, crop_size: u32) -> Preprocessing {
    Preprocessing {
        resize_size,
        crop_size,
        interpolation: Interpolation::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        fit: Fit::Crop,
        pad_color: None,
        white_level: None,
    }
}

/// All architectures, family by family.
pub fn architectures() -> impl Iterator<Item = &'static Architecture> {
    FAMILIES.iter().copied().flatten()
}

/// The architecture of this name.
pub fn find(name: &str) -> Option<&'static Architecture> {
    architectures().find(|architecture| architecture.name == name)
}

/// The error message for an unknown architecture name.
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

/// The error for an unknown stage; `taps` are valid names besides stages.
fn suggest_stage(network: &Network, name: &str, taps: &[&'static str]) -> Error {
    let stages: Vec<&str> = network.stage_names().collect();
    // A deep network has fifty blocks: listing their groups is enough.
    let mut groups: Vec<&str> = stages.iter().map(|stage| stage.split('.').next().unwrap_or(stage)).collect();
    groups.dedup();
    groups.extend(taps);
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
