//! A network is a chain of named stages, then a head.
//!
//! Everything that transfer learning does is said in terms of the chain: freezing is "the first k
//! stages", features are read after a stage, and a frozen prefix computes the same in every epoch.

use std::ops::Range;

use tch::{Device, Tensor};

use super::layers::{Layer, Linear, LinearInit, Mode, linear};
use super::vars::{self, Fill, Path, Var, Vars};
use super::{Architecture, suggest_stage};
use crate::error::{Error, Result};

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

/// The end of the chain: what turns the last stage's output into a vector, and the classifier.
struct Head {
    /// The classifier's path in the state dict, such as `fc` or `classifier.6`.
    key: &'static str,
    /// From the last stage's output to the features, `[N, D]`.
    neck: Box<dyn Layer>,
    classifier: Linear,
    vars: Range<usize>,
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
    /// that is built next.
    pub fn root(&self) -> Path<'a> {
        self.vars.root()
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
        let start = self.vars.count();
        let classifier = linear(&(self.vars.root() / key), features, self.classes, init)?;
        self.head = Some(Head { key, neck, classifier, vars: start..self.vars.count() });
        Ok(())
    }
}

/// A point in the chain at which a vector can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// After the stage of this index, averaged over height and width where it is spatial.
    Stage(usize),
    /// The input of the final classifier layer.
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
        Ok(Network { architecture, stages, head, vars: vars.into_inner(), frozen: 0, device, pooling })
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
        self.head.classifier.weight.size()[0] as usize
    }

    /// Length of a feature vector.
    pub fn feature_length(&self) -> usize {
        self.head.classifier.weight.size()[1] as usize
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
    pub fn classifier(&self) -> &Linear {
        &self.head.classifier
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

    /// Freezes the first `stages` stages: they run without gradients and with BatchNorm in inference
    /// mode, whatever the mode of the rest, and everything behind them is trained.
    pub fn freeze(&mut self, stages: usize) -> Result<()> {
        self.frozen = stages.min(self.stages.len());
        let first = self.first_trained_var();
        for (index, var) in self.vars.iter().enumerate() {
            if var.role.is_parameter() {
                let _ = var.tensor.f_set_requires_grad(index >= first)?;
            }
        }
        Ok(())
    }

    /// How many stages are frozen.
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    fn first_trained_var(&self) -> usize {
        self.stages.get(self.frozen).map_or(self.head.vars.start, |stage| stage.vars.start)
    }

    /// The parameters that training moves, each with whether it belongs to the head.
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
    }

    /// sha256 over every parameter and buffer of the frozen stages: equal before and after training.
    pub fn frozen_hash(&self) -> Result<String> {
        vars::hash(&self.vars, 0..self.first_trained_var())
    }

    /// Logits `[N, K]` for images `[N, 3, H, W]` in training: the frozen prefix without gradients and in
    /// inference mode, the rest in `mode`.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let xs = tch::no_grad(|| self.run(0..self.frozen, images, Mode::INFERENCE))?;
        let xs = self.run(self.frozen..self.stages.len(), &xs, mode)?;
        self.head.classifier.forward(&self.head.neck.forward(&xs, mode)?, mode)
    }

    /// The vectors `[N, D]` at `reading` for images `[N, 3, H, W]`, in inference mode and without
    /// gradients. Stages behind the reading are not run.
    pub fn read(&self, images: &Tensor, reading: Reading) -> Result<Tensor> {
        tch::no_grad(|| {
            let end = match reading {
                Reading::Stage(index) => index + 1,
                _ => self.stages.len(),
            };
            let xs = self.run(0..end, images, Mode::INFERENCE)?;
            match reading {
                Reading::Stage(_) => self.pooling.pool(&xs),
                Reading::Features => self.head.neck.forward(&xs, Mode::INFERENCE),
                Reading::Logits => {
                    let features = self.head.neck.forward(&xs, Mode::INFERENCE)?;
                    self.head.classifier.forward(&features, Mode::INFERENCE)
                }
            }
        })
    }

    fn run(&self, stages: Range<usize>, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        self.stages[stages].iter().try_fold(xs.shallow_clone(), |xs, stage| stage.body.forward(&xs, mode))
    }
}
