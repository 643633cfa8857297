//! A network is a chain of named stages, then a head.
//!
//! Transfer learning is expressed in terms of the chain: freezing is "the first k stages", features
//! are read after a stage, and a frozen prefix computes the same in every epoch.

mod groups;
mod layout;
mod prefix;

use std::ops::Range;

use tch::{Device, Tensor};

use super::chain::{Chain, Stage};
use super::head::{Classifier, Head, Pooling};
use super::layers::{Layer, Mode};
use super::vars::{self, Fill, Role, Var, Vars};
use super::{Architecture, Auxiliary, suggest_stage};
use crate::error::{Error, Result};

pub use groups::StageGroup;
pub use layout::{channels_last, is_channels_last};
pub use prefix::Activations;

/// Tap name of the classifier's input, in every network.
pub const FEATURES: &str = "features";
/// The output of the final classifier layer.
pub const LOGITS: &str = "logits";

/// Default side of a network's images, in pixels.
pub const DEFAULT_SIDE: i64 = 224;

/// A classifier on an inner stage, during training.
struct AuxiliaryClassifier {
    /// Index of the stage it reads.
    stage: usize,
    body: Box<dyn Layer>,
    vars: Vec<Var>,
}

/// A point in the chain at which a vector can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// After the stage of this index, averaged over height and width if spatial.
    Stage(usize),
    /// The input of the final classifier layer, averaged over height and width if that is a
    /// convolution.
    Features,
    /// The maximum over height and width of each input channel of a convolutional classifier; the
    /// features for a linear one.
    Peaks,
    /// The output of the final classifier layer.
    Logits,
}

/// A torchvision network: an ordered chain of named stages, then a head.
pub struct Network {
    /// Its builder.
    pub architecture: &'static Architecture,
    pub(super) stages: Vec<Stage>,
    pub(super) head: Head,
    pub(super) vars: Vec<Var>,
    pub(super) frozen: usize,
    pub(super) device: Device,
    pub(super) pooling: Pooling,
    side: i64,
    /// In the order of the stages they read, all of which are trained.
    auxiliaries: Vec<AuxiliaryClassifier>,
    /// Scale and shift of the images' channels, if the weights need them.
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

    /// The same for images of `side` pixels a side: a few networks have shapes that depend on it,
    /// such as a vision transformer with its position embedding.
    pub fn sized(
        architecture: &'static Architecture,
        classes: usize,
        side: i64,
        device: Device,
        fill: Fill,
    ) -> Result<Self> {
        let vars = Vars::new(device, fill);
        let mut chain = Chain::new(&vars, classes as i64, side);
        (architecture.build)(&mut chain)?;
        let (stages, head, pooling) = chain.finish();
        Network::of_parts(architecture, stages, head, pooling, vars, side)
    }

    /// Assembles a network from the parts of a chain.
    pub(super) fn of_parts(
        architecture: &'static Architecture,
        stages: Vec<Stage>,
        head: Option<Head>,
        pooling: Pooling,
        vars: Vars,
        side: i64,
    ) -> Result<Self> {
        let head = head.ok_or_else(|| Error::run(format!("{} has no head", architecture.name)))?;
        Ok(Network {
            architecture,
            stages,
            head,
            device: vars.device(),
            vars: vars.into_inner(),
            frozen: 0,
            pooling,
            side,
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

    /// The side in pixels of the images it was built for.
    pub fn side(&self) -> i64 {
        self.side
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

    /// Whether it has BatchNorm layers, whose running statistics describe their training data.
    pub fn has_running_statistics(&self) -> bool {
        self.vars.iter().any(|var| var.role == Role::RunningStatistic)
    }

    /// Whether the classifier is a linear layer.
    pub fn holds_linear(&self) -> bool {
        matches!(self.head.classifier, Classifier::Linear(_))
    }

    /// All of it as a span of stages: `conv1 to fc`.
    pub fn whole_name(&self) -> String {
        self.stage_names()
            .next()
            .map_or(self.head.key.into(), |first| format!("{first} to {}", self.head.key))
    }

    /// The classifier's path in the state dict, such as `fc`.
    pub fn head_key(&self) -> &'static str {
        self.head.key
    }

    /// Whether `key` belongs to the classifier, which depends on the number of classes.
    pub fn is_head(&self, key: &str) -> bool {
        key.strip_prefix(self.head.key).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The stages of a name: one stage (`layer4.1`) or a group of them (`layer4`).
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

    /// Whether the vector at `tap` depends on a variable whose key begins with `prefix`.
    pub fn reads(&self, tap: Tap, prefix: &str) -> bool {
        let end = match tap {
            Tap::Stage(index) => self.stages[index].vars.end,
            _ => self.vars.len(),
        };
        self.vars[..end].iter().any(|var| var.key.starts_with(prefix))
    }

    /// The tap of `--stage name`.
    pub fn tap(&self, name: &str) -> Result<Tap> {
        match name {
            LOGITS => Ok(Tap::Logits),
            name => self.tap_or(name, &[FEATURES, LOGITS]),
        }
    }

    /// The tap of a name in a recipe's `strategy.read`, which a head can be fitted to.
    pub fn tap_before_head(&self, name: &str) -> Result<Tap> {
        match name {
            LOGITS => Err(Error::usage("`logits` are behind the head: read `features`")),
            name => self.tap_or(name, &[FEATURES]),
        }
    }

    /// The tap of a stage or of the features; the error suggests `taps` too.
    fn tap_or(&self, name: &str, taps: &[&'static str]) -> Result<Tap> {
        match (name, self.stages_named(name)) {
            (FEATURES, _) => Ok(Tap::Features),
            (_, Ok(stages)) => Ok(Tap::Stage(stages.end - 1)),
            (_, Err(_)) => Err(suggest_stage(self, name, taps)),
        }
    }

    /// Whether to convert images from ImageNet's mean and deviation to a mean and a deviation of
    /// 0.5 before the first stage (torchvision's `transform_input`): the weights ported from
    /// TensorFlow were trained that way, and their presets normalise as all others do. Off by
    /// default.
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

    /// Freezes the first `stages` stages: they run without gradients and with BatchNorm in
    /// inference mode, whatever the mode of the rest, and everything behind them is trained.
    /// Auxiliary classifiers are removed.
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

    /// Builds the auxiliary classifiers on trained stages; call it after [`Network::freeze`]. On a
    /// frozen stage one would have nothing to train.
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

    /// The architecture's auxiliary classifiers on stage `first` or later, with their stages.
    pub fn auxiliaries_from(&self, first: usize) -> Vec<(usize, &'static Auxiliary)> {
        let stage_of = |after: &str| self.stages.iter().position(|stage| stage.name == after);
        let with_stage = |auxiliary: &'static Auxiliary| Some((stage_of(auxiliary.after)?, auxiliary));
        let classifiers = self.architecture.auxiliaries.classifiers.iter();
        classifiers.filter_map(with_stage).filter(|&(stage, _)| stage >= first).collect()
    }

    /// Parameters and buffers of the built auxiliary classifiers; [`Network::vars`] excludes them.
    pub fn auxiliary_vars(&self) -> impl Iterator<Item = &Var> {
        self.auxiliaries.iter().flat_map(|auxiliary| &auxiliary.vars)
    }

    /// Number of frozen stages.
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    fn first_trained_var(&self) -> usize {
        self.stages.get(self.frozen).map_or(self.head.vars.start, |stage| stage.vars.start)
    }

    /// The parameters that training updates, each with whether it belongs to the head or to an
    /// auxiliary classifier.
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

    /// sha256 over every parameter and buffer of the frozen stages: equal before and after
    /// training.
    pub fn frozen_hash(&self) -> Result<String> {
        vars::hash(&self.vars, 0..self.first_trained_var())
    }

    /// Logits `[N, K]` for images `[N, 3, H, W]` in training: the frozen prefix without gradients
    /// and in inference mode, the rest in `mode`. Auxiliary classifiers are not run.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let prefix = self.prefix(images)?;
        let values = self.run(self.frozen..self.stages.len(), &prefix.values, mode)?;
        self.head.classifier.forward(&self.head.neck.forward(&values, mode)?, mode)
    }

    /// The same, and the logits of each built auxiliary classifier.
    pub fn forward_with_auxiliaries(&self, images: &Tensor, mode: Mode) -> Result<(Tensor, Vec<Tensor>)> {
        self.forward_from(&self.enter(images)?, self.frozen, mode)
    }

    /// The vectors `[N, D]` at `tap` for images `[N, 3, H, W]`, in inference mode and without
    /// gradients. Stages behind the tap are not run.
    pub fn read(&self, images: &Tensor, tap: Tap) -> Result<Tensor> {
        self.read_from(&self.enter(images)?, tap)
    }

    /// The output of this stage for the previous one's output, in inference mode.
    pub(super) fn stage(&self, index: usize, xs: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.run(index..index + 1, xs, Mode::INFERENCE))
    }

    /// The logits for the outputs of all stages, in inference mode.
    pub(super) fn head(&self, outputs: &[Tensor]) -> Result<Tensor> {
        let last = outputs.last().ok_or_else(|| Error::run("a network without stages"))?;
        tch::no_grad(|| {
            if self.head.reads.is_empty() {
                return self.head.read(last, Tap::Logits, Mode::INFERENCE);
            }
            let vector = |&tap: &Tap| match tap {
                Tap::Stage(index) => self.pooling.pool(&outputs[index]),
                _ => self.head.read(last, tap, Mode::INFERENCE),
            };
            let vectors = self.head.reads.iter().map(vector).collect::<Result<Vec<_>>>()?;
            self.classify(&vectors, Mode::INFERENCE)
        })
    }

    pub(super) fn transformed(&self, images: &Tensor) -> Result<Tensor> {
        match &self.transform {
            Some([scale, shift]) => Ok(images.f_mul(scale)?.f_add_(shift)?),
            None => Ok(images.shallow_clone()),
        }
    }

    pub(super) fn run(&self, stages: Range<usize>, xs: &Tensor, mode: Mode) -> Result<Tensor> {
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
