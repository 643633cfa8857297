//! A network is a chain of named stages, then a head.
//!
//! Everything that transfer learning does is said in terms of the chain: freezing is "the first k
//! stages", features are read after a stage, and a frozen prefix computes the same in every epoch.

mod groups;
mod prefix;

use std::ops::Range;

use tch::{Device, Tensor};

use super::layers::{
    Activation, Conv2d, ConvConfig, ConvInit, Layer, Linear, LinearInit, Mode, conv2d, linear,
};
use super::vars::{self, Fill, Path, Var, Vars};
use super::{Architecture, Auxiliary, suggest_stage};
use crate::error::{Error, Result};

pub use groups::StageGroup;
pub use prefix::Activations;

/// Where `features` and `logits` are read in every network.
pub const FEATURES: &str = "features";
/// The output of the final classifier layer.
pub const LOGITS: &str = "logits";

/// The side of the images in pixels that a network is built for unless told otherwise.
pub const DEFAULT_SIDE: i64 = 224;

/// How a stage's output becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over height and width of images `[N, C, H, W]`; a vector stays.
    Spatial,
    /// The mean over height and width of images `[N, H, W, C]`.
    ChannelsLast,
    /// The first of the tokens `[N, T, D]`: the class token.
    ClassToken,
}

impl Pooling {
    fn pool(self, xs: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Pooling::Spatial if xs.dim() == 4 => xs.f_mean_dim([2i64, 3].as_slice(), false, None)?,
            Pooling::ChannelsLast if xs.dim() == 4 => xs.f_mean_dim([1i64, 2].as_slice(), false, None)?,
            Pooling::ClassToken if xs.dim() == 3 => xs.f_select(1, 0)?,
            _ => xs.shallow_clone(),
        })
    }
}

/// A named part of the chain.
struct Stage {
    name: String,
    body: Box<dyn Layer>,
    vars: Range<usize>,
}

/// The final classifier layer.
pub enum Classifier {
    /// Of the features.
    Linear(Linear),
    /// A 1×1 convolution of images, then ReLU and the mean over height and width (SqueezeNet).
    Convolution(Conv2d),
}

impl Classifier {
    /// `[classes, features]`; of a convolution `[classes, features, 1, 1]`.
    pub fn weight(&self) -> &Tensor {
        match self {
            Classifier::Linear(linear) => &linear.weight,
            Classifier::Convolution(conv) => &conv.weight,
        }
    }

    /// `[classes]`
    pub fn bias(&self) -> Option<&Tensor> {
        match self {
            Classifier::Linear(linear) => linear.bias.as_ref(),
            Classifier::Convolution(conv) => conv.bias.as_ref(),
        }
    }

    /// The logits `[N, K]` for what the neck made.
    fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Classifier::Linear(linear) => linear.forward(xs, mode),
            Classifier::Convolution(conv) => {
                Pooling::Spatial.pool(&Activation::Relu.apply_in_place(conv.forward(xs, mode)?)?)
            }
        }
    }
}

/// The end of the chain: what turns the last stage's output into a vector, and the classifier.
struct Head {
    /// The classifier's path in the state dict, such as `fc` or `classifier.6`.
    key: &'static str,
    /// From the last stage's output to the features, `[N, D]` (or, before a convolution, `[N, D, H, W]`).
    neck: Box<dyn Layer>,
    classifier: Classifier,
    vars: Range<usize>,
}

/// A classifier on an inner stage, while the network is trained.
struct AuxiliaryClassifier {
    /// Index of the stage that it reads.
    stage: usize,
    body: Box<dyn Layer>,
    vars: Vec<Var>,
}

/// A network under construction: stages in order, then the head.
pub struct Chain<'a> {
    vars: &'a Vars,
    classes: i64,
    side: i64,
    stages: Vec<Stage>,
    head: Option<Head>,
    pooling: Pooling,
}

impl<'a> Chain<'a> {
    /// How the stages are read; [`Pooling::Spatial`] unless this is called.
    pub fn pooling(&mut self, pooling: Pooling) {
        self.pooling = pooling;
    }

    /// The side of the images in pixels, for networks whose variables depend on it.
    pub fn side(&self) -> i64 {
        self.side
    }

    /// The root of the state dict, for parameters that stand outside all stages. They belong to the stage
    /// that is built next; those of the neck, which is built after the last stage, are trained with any stage.
    pub fn root(&self) -> Path<'a> {
        self.vars.root()
    }

    /// Number of outputs that the head will have: some families' initial values depend on it.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// Appends a stage; its variables are named from the root of the state dict.
    pub fn stage<L: Layer + 'static>(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce(&Path<'a>) -> Result<L>,
    ) -> Result<()> {
        let start = self.vars.count();
        let body = Box::new(body(&self.vars.root())?);
        self.stages.push(Stage { name: name.into(), body, vars: start..self.vars.count() });
        Ok(())
    }

    /// Ends the chain with a linear classifier of `features` inputs at `key`, behind `neck`, with
    /// `nn.Linear`'s initial values.
    pub fn head(&mut self, key: &'static str, neck: Box<dyn Layer>, features: i64) -> Result<()> {
        self.head_with(key, neck, features, LinearInit::default(features))
    }

    /// The same with other initial values.
    pub fn head_with(
        &mut self,
        key: &'static str,
        neck: Box<dyn Layer>,
        features: i64,
        init: LinearInit,
    ) -> Result<()> {
        self.end(key, neck, |path, classes| Ok(Classifier::Linear(linear(path, features, classes, init)?)))
    }

    /// Ends the chain with a 1×1 convolution as its classifier: see [`Classifier::Convolution`]. What the
    /// `neck` makes of images of `features` channels stays spatial; the features are its mean over height and width.
    pub fn convolution_head(
        &mut self,
        key: &'static str,
        neck: Box<dyn Layer>,
        features: i64,
        init: ConvInit,
    ) -> Result<()> {
        let config = ConvConfig::new(1).bias().init(init);
        self.end(key, neck, |path, classes| {
            Ok(Classifier::Convolution(conv2d(path, features, classes, config)?))
        })
    }

    fn end(
        &mut self,
        key: &'static str,
        neck: Box<dyn Layer>,
        classifier: impl FnOnce(&Path, i64) -> Result<Classifier>,
    ) -> Result<()> {
        let start = self.vars.count();
        let classifier = classifier(&(self.vars.root() / key), self.classes)?;
        self.head = Some(Head { key, neck, classifier, vars: start..self.vars.count() });
        Ok(())
    }
}

/// A point in the chain at which a vector can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// After the stage of this index, averaged over height and width where it is spatial.
    Stage(usize),
    /// The input of the final classifier layer, averaged over height and width where that is a convolution.
    Features,
    /// The output of the final classifier layer.
    Logits,
}

/// A torchvision network: an ordered chain of named stages, then a head.
pub struct Network {
    /// The builder it came from.
    pub architecture: &'static Architecture,
    stages: Vec<Stage>,
    head: Head,
    vars: Vec<Var>,
    frozen: usize,
    device: Device,
    pooling: Pooling,
    /// In the order of the stages that they read, all of which are trained.
    auxiliaries: Vec<AuxiliaryClassifier>,
    /// Scale and shift of the images' channels, where the weights want them.
    transform: Option<[Tensor; 2]>,
}

impl Network {
    /// Builds `architecture` with a head of `classes` outputs for images of [`DEFAULT_SIDE`].
    pub fn new(
        architecture: &'static Architecture,
        classes: usize,
        device: Device,
        fill: Fill,
    ) -> Result<Self> {
        Network::sized(architecture, classes, DEFAULT_SIDE, device, fill)
    }

    /// The same for images of `side` pixels a side: it matters to the shapes of a few networks, such as a
    /// vision transformer with its embedding of positions.
    pub fn sized(
        architecture: &'static Architecture,
        classes: usize,
        side: i64,
        device: Device,
        fill: Fill,
    ) -> Result<Self> {
        let vars = Vars::new(device, fill);
        let mut chain = Chain {
            vars: &vars,
            classes: classes as i64,
            side,
            stages: Vec::new(),
            head: None,
            pooling: Pooling::Spatial,
        };
        (architecture.build)(&mut chain)?;
        let Chain { stages, head, pooling, .. } = chain;
        let head = head.ok_or_else(|| Error::run(format!("{} has no head", architecture.name)))?;
        let vars = vars.into_inner();
        Ok(Network {
            architecture,
            stages,
            head,
            vars,
            frozen: 0,
            device,
            pooling,
            auxiliaries: Vec::new(),
            transform: None,
        })
    }

    /// The names of the stages, first to last.
    pub fn stage_names(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|stage| stage.name.as_str())
    }

    /// Number of stages, the head not counted.
    pub fn stage_count(&self) -> usize {
        self.stages.len()
    }

    /// Number of outputs.
    pub fn classes(&self) -> usize {
        self.head.classifier.weight().size()[0] as usize
    }

    /// Length of a feature vector.
    pub fn feature_length(&self) -> usize {
        self.head.classifier.weight().size()[1] as usize
    }

    /// Where the variables live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All parameters and buffers, in the order of torchvision's state dict.
    pub fn vars(&self) -> &[Var] {
        &self.vars
    }

    /// The final classifier layer.
    pub fn classifier(&self) -> &Classifier {
        &self.head.classifier
    }

    /// Whether the classifier is a linear layer with a bias, which is what a linear probe learns.
    pub fn holds_linear(&self) -> bool {
        matches!(&self.head.classifier, Classifier::Linear(linear) if linear.bias.is_some())
    }

    /// The classifier's path in the state dict, such as `fc`.
    pub fn head_key(&self) -> &'static str {
        self.head.key
    }

    /// Whether `key` belongs to the classifier, which depends on the number of classes.
    pub fn is_head(&self, key: &str) -> bool {
        key.strip_prefix(self.head.key).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The stages that `name` stands for: one stage (`layer4.1`) or a group of them (`layer4`).
    pub fn stages_named(&self, name: &str) -> Result<Range<usize>> {
        let belongs =
            |stage: &str| stage == name || stage.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let first = self.stages.iter().position(|stage| belongs(&stage.name));
        let last = self.stages.iter().rposition(|stage| belongs(&stage.name));
        match (first, last) {
            (Some(first), Some(last)) => Ok(first..last + 1),
            _ => Err(suggest_stage(self, name, &[])),
        }
    }

    /// Whether what is read at `reading` depends on a variable whose key begins with `prefix`.
    pub fn reads(&self, reading: Reading, prefix: &str) -> bool {
        let end = match reading {
            Reading::Stage(index) => self.stages[index].vars.end,
            _ => self.vars.len(),
        };
        self.vars[..end].iter().any(|var| var.key.starts_with(prefix))
    }

    /// Where `--stage name` reads.
    pub fn reading(&self, name: &str) -> Result<Reading> {
        match name {
            FEATURES => Ok(Reading::Features),
            LOGITS => Ok(Reading::Logits),
            name => match self.stages_named(name) {
                Ok(stages) => Ok(Reading::Stage(stages.end - 1)),
                Err(_) => Err(suggest_stage(self, name, &[FEATURES, LOGITS])),
            },
        }
    }

    /// Whether images are moved from ImageNet's mean and deviation to a mean and a deviation of 0.5 before
    /// the first stage (torchvision's `transform_input`): the weights ported from TensorFlow were trained
    /// that way, and their presets normalise as all others do. Off unless this is called.
    pub fn set_transform_input(&mut self, on: bool) -> Result<()> {
        self.transform = match on {
            true => Some(input_transform(self.device).map_err(Error::torch("make the input's transform"))?),
            false => None,
        };
        Ok(())
    }

    /// Whether [`Network::set_transform_input`] is on.
    pub fn transform_input(&self) -> bool {
        self.transform.is_some()
    }

    /// Freezes the first `stages` stages: they run without gradients and with BatchNorm in inference
    /// mode, whatever the mode of the rest, and everything behind them is trained. Auxiliary classifiers go.
    pub fn freeze(&mut self, stages: usize) -> Result<()> {
        self.frozen = stages.min(self.stages.len());
        self.auxiliaries.clear();
        let first = self.first_trained_var();
        for (index, var) in self.vars.iter().enumerate() {
            if var.role.is_parameter() {
                let _ = var.tensor.f_set_requires_grad(index >= first)?;
            }
        }
        Ok(())
    }

    /// Builds the auxiliary classifiers that read stages which are trained; call it after
    /// [`Network::freeze`]. On a frozen stage there is nothing that one could help to train.
    pub fn add_auxiliaries(&mut self, fill: Fill) -> Result<()> {
        self.auxiliaries.clear();
        for (stage, auxiliary) in self.auxiliaries_from(self.frozen) {
            let vars = Vars::new(self.device, fill);
            let body = (auxiliary.build)(&(vars.root() / auxiliary.key), self.classes() as i64)?;
            let vars = vars.into_inner();
            for var in vars.iter().filter(|var| var.role.is_parameter()) {
                let _ = var.tensor.f_set_requires_grad(true)?;
            }
            self.auxiliaries.push(AuxiliaryClassifier { stage, body, vars });
        }
        Ok(())
    }

    /// The architecture's auxiliary classifiers that read the stage `first` or a later one, with their stages.
    pub fn auxiliaries_from(&self, first: usize) -> Vec<(usize, &'static Auxiliary)> {
        let stage_of = |after: &str| self.stages.iter().position(|stage| stage.name == after);
        let with_stage = |auxiliary: &'static Auxiliary| Some((stage_of(auxiliary.after)?, auxiliary));
        let classifiers = self.architecture.auxiliaries.classifiers.iter();
        classifiers.filter_map(with_stage).filter(|&(stage, _)| stage >= first).collect()
    }

    /// Parameters and buffers of the auxiliary classifiers that have been built; [`Network::vars`] is without.
    pub fn auxiliary_vars(&self) -> impl Iterator<Item = &Var> {
        self.auxiliaries.iter().flat_map(|auxiliary| &auxiliary.vars)
    }

    /// How many stages are frozen.
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    fn first_trained_var(&self) -> usize {
        self.stages.get(self.frozen).map_or(self.head.vars.start, |stage| stage.vars.start)
    }

    /// The parameters that training moves, each with whether it belongs to the head or to an auxiliary
    /// classifier.
    pub fn trained(&self) -> impl Iterator<Item = (&Var, bool)> {
        let first = self.first_trained_var();
        let is_parameter = |(_, var): &(usize, &Var)| var.role.is_parameter();
        let head = &self.head.vars;
        self.vars
            .iter()
            .enumerate()
            .skip(first)
            .filter(is_parameter)
            .map(|(index, var)| (var, head.contains(&index)))
            .chain(self.auxiliary_vars().filter(|var| var.role.is_parameter()).map(|var| (var, true)))
    }

    /// sha256 over every parameter and buffer of the frozen stages: equal before and after training.
    pub fn frozen_hash(&self) -> Result<String> {
        vars::hash(&self.vars, 0..self.first_trained_var())
    }

    /// Logits `[N, K]` for images `[N, 3, H, W]` in training: the frozen prefix without gradients and in
    /// inference mode, the rest in `mode`. Auxiliary classifiers are not run.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let prefix = self.prefix(images)?;
        let values = self.run(self.frozen..self.stages.len(), &prefix.values, mode)?;
        self.head.classifier.forward(&self.head.neck.forward(&values, mode)?, mode)
    }

    /// The same, and the logits of each auxiliary classifier that has been built.
    pub fn forward_with_auxiliaries(&self, images: &Tensor, mode: Mode) -> Result<(Tensor, Vec<Tensor>)> {
        self.forward_from(&self.enter(images)?, self.frozen, mode)
    }

    /// The vectors `[N, D]` at `reading` for images `[N, 3, H, W]`, in inference mode and without
    /// gradients. Stages behind the reading are not run.
    pub fn read(&self, images: &Tensor, reading: Reading) -> Result<Tensor> {
        match reading {
            Reading::Stage(index) => tch::no_grad(|| {
                let xs = self.run(0..index + 1, &self.transformed(images)?, Mode::INFERENCE)?;
                self.pooling.pool(&xs)
            }),
            Reading::Features => self.features_from(&self.enter(images)?),
            Reading::Logits => self.logits_from(&self.enter(images)?),
        }
    }

    /// The output of the stage of this index for the output of the one before, in inference mode.
    pub(super) fn stage(&self, index: usize, xs: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.run(index..index + 1, xs, Mode::INFERENCE))
    }

    /// The logits for the last stage's output, in inference mode.
    pub(super) fn head(&self, xs: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| {
            let features = self.head.neck.forward(xs, Mode::INFERENCE)?;
            self.head.classifier.forward(&features, Mode::INFERENCE)
        })
    }

    fn transformed(&self, images: &Tensor) -> Result<Tensor> {
        match &self.transform {
            Some([scale, shift]) => Ok(images.f_mul(scale)?.f_add_(shift)?),
            None => Ok(images.shallow_clone()),
        }
    }

    fn run(&self, stages: Range<usize>, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        self.stages[stages].iter().try_fold(xs.shallow_clone(), |xs, stage| stage.body.forward(&xs, mode))
    }
}

/// Scale and shift, `[3, 1, 1]` each, from ImageNet's mean and deviation to 0.5 and 0.5.
fn input_transform(device: Device) -> Result<[Tensor; 2], tch::TchError> {
    const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
    const STD: [f64; 3] = [0.229, 0.224, 0.225];
    let tensor = |values: [f64; 3]| {
        Tensor::f_from_slice(&values.map(|value| value as f32))?.f_reshape([3, 1, 1])?.f_to_device(device)
    };
    Ok([tensor(STD.map(|std| std / 0.5))?, tensor(MEAN.map(|mean| (mean - 0.5) / 0.5))?])
}
