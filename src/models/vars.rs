//! The variables of a network: every parameter and buffer under its torchvision state-dict key.
//!
//! tch's own `VarStore` is not used: it broadcasts shapes when it loads, loses the order of the
//! state dict, and has one training flag for all (DESIGN, "tch 0.24"). Here a variable knows its
//! role, so that weight decay, freezing and checkpoints can tell a weight from a running statistic.

use std::cell::RefCell;
use std::ops::{Div, Range};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::prepared::Prepared;
use crate::error::{Error, Result};
use crate::util::random::seed_of;

/// Role of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The weight of a convolution or a linear layer.
    Weight,
    /// The bias of a convolution or a linear layer.
    Bias,
    /// The scale or the shift of a normalisation layer.
    Norm,
    /// Another parameter: a class token, a position embedding, a layer scale, a position bias.
    Other,
    /// A running mean or variance: a float buffer, never trained.
    RunningStatistic,
    /// BatchNorm's `num_batches_tracked`: an int64 buffer of no dimensions.
    BatchCount,
    /// A buffer that follows from the architecture alone, such as a table of relative positions.
    Constant,
}

impl Role {
    /// Whether an optimizer may update it.
    pub fn is_parameter(self) -> bool {
        matches!(self, Role::Weight | Role::Bias | Role::Norm | Role::Other)
    }
}

/// One parameter or buffer.
#[derive(Debug)]
pub struct Var {
    /// torchvision's state-dict key, such as `layer1.0.conv1.weight`.
    pub key: String,
    /// The values; shared with the layer that uses them.
    pub tensor: Tensor,
    /// Its role.
    pub role: Role,
}

/// Initialisation of a new variable.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// torchvision's initial distributions; each variable's values depend only on the seed and its
    /// key.
    Initial {
        /// The recipe's seed.
        seed: u64,
    },
    /// Zeros, for a network whose weights are about to be loaded.
    Zeros,
    /// Shapes without memory, to compare a file's keys with an architecture's. Not for computation.
    Shapes,
}

/// The distribution of a parameter's initial values.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// All the same value.
    Constant(f64),
    /// Uniform in ±`bound`.
    Uniform(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Normal with mean 0 and this standard deviation, redrawn outside ±2 (`trunc_normal_`'s
    /// bounds, which do not scale with the deviation).
    TruncatedNormal(f64),
}

/// All variables of one network, in the order of torchvision's state dict.
#[derive(Debug)]
pub struct Vars {
    vars: RefCell<Vec<Var>>,
    device: Device,
    fill: Fill,
    /// The values of an inference copy of a network.
    prepared: Option<Rc<Prepared>>,
}

impl Vars {
    /// No variables yet.
    pub fn new(device: Device, fill: Fill) -> Self {
        Vars { vars: RefCell::new(Vec::new()), device, fill, prepared: None }
    }

    /// No variables yet; registered ones share the `prepared` values. A variable missing there has
    /// only a shape: it belongs to a part of the network that was cut off.
    pub(super) fn over(prepared: Rc<Prepared>, device: Device) -> Self {
        Vars { vars: RefCell::new(Vec::new()), device, fill: Fill::Shapes, prepared: Some(prepared) }
    }

    /// The device of the variables.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The root of the state dict: keys without a prefix.
    pub fn root(&self) -> Path<'_> {
        Path { vars: self, prefix: String::new() }
    }

    /// Number of variables so far.
    pub fn count(&self) -> usize {
        self.vars.borrow().len()
    }

    /// The finished list.
    pub fn into_inner(self) -> Vec<Var> {
        self.vars.into_inner()
    }
}

/// A place in the state dict; `path / "layer1" / 0` is the prefix `layer1.0`.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    vars: &'a Vars,
    prefix: String,
}

impl<'a, T: std::fmt::Display> Div<T> for &Path<'a> {
    type Output = Path<'a>;

    fn div(self, name: T) -> Path<'a> {
        let prefix =
            if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Path { vars: self.vars, prefix }
    }
}

impl<'a, T: std::fmt::Display> Div<T> for Path<'a> {
    type Output = Path<'a>;

    fn div(self, name: T) -> Path<'a> {
        &self / name
    }
}

impl Path<'_> {
    /// Registers the parameter or buffer `name` below this path and returns it.
    pub fn var(&self, name: &str, role: Role, shape: &[i64], init: Init) -> Result<Tensor> {
        let key = (self / name).prefix;
        if let Some(tensor) = self.prepared().and_then(|prepared| prepared.get(&key)) {
            return Ok(self.register(key, tensor, role));
        }
        let kind = if role == Role::BatchCount { Kind::Int64 } else { Kind::Float };
        let tensor = fill(&key, kind, shape, init, self.vars.fill)
            .and_then(|tensor| tensor.f_to_device(self.vars.device))
            .map_err(Error::torch(format!("make room for `{key}` of shape {shape:?}")))?;
        Ok(self.register(key, tensor, role))
    }

    /// Registers the buffer `name`, with values determined by the architecture, and returns it.
    pub fn constant(&self, name: &str, values: &Tensor) -> Result<Tensor> {
        let key = (self / name).prefix;
        if let Some(tensor) = self.prepared().and_then(|prepared| prepared.get(&key)) {
            return Ok(self.register(key, tensor, Role::Constant));
        }
        let tensor =
            values.f_to_device(self.vars.device).map_err(Error::torch(format!("make room for `{key}`")))?;
        Ok(self.register(key, tensor, Role::Constant))
    }

    /// The prepared values of an inference network.
    pub(super) fn prepared(&self) -> Option<&Prepared> {
        self.vars.prepared.as_deref()
    }

    /// The key of `name` below this path.
    pub(super) fn key(&self, name: &str) -> String {
        (self / name).prefix
    }

    fn register(&self, key: String, tensor: Tensor, role: Role) -> Tensor {
        let shared = tensor.shallow_clone();
        self.vars.vars.borrow_mut().push(Var { key, tensor, role });
        shared
    }
}

/// Held between seeding libtorch's generator and drawing: two networks may be built at once.
static GENERATOR: Mutex<()> = Mutex::new(());

fn fill(key: &str, kind: Kind, shape: &[i64], init: Init, fill: Fill) -> Result<Tensor, tch::TchError> {
    let options = (kind, Device::Cpu);
    match fill {
        Fill::Shapes => Tensor::f_zeros([0i64; 0], options)?.f_expand(shape, false),
        Fill::Zeros => Tensor::f_zeros(shape, options),
        Fill::Initial { seed } => {
            // The generator is reseeded for each key, so that a variable's initial values do not
            // depend on earlier draws. It is global to the process.
            let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
            tch::manual_seed(seed_of(seed, key));
            let mut tensor = Tensor::f_zeros(shape, options)?;
            match init {
                Init::Constant(value) => tensor.f_fill_(value),
                Init::Uniform(bound) => tensor.f_uniform_(-bound, bound),
                Init::Normal(deviation) => tensor.f_normal_(0., deviation),
                Init::TruncatedNormal(deviation) => truncated_normal(tensor, deviation),
            }
        }
    }
}

/// By the inverse of the distribution function, as in `torch.nn.init.trunc_normal_`, but in
/// float64: in float32 one draw in 16 million is the end of the interval and becomes ±2, a hundred
/// deviations out.
fn truncated_normal(tensor: Tensor, deviation: f64) -> Result<Tensor, tch::TchError> {
    const BOUND: f64 = 2.;
    // erf(x) for the share of the normal distribution within the bounds.
    let share = Tensor::from(BOUND / deviation / 2f64.sqrt()).f_erf()?.f_double_value(&[])?;
    let mut draws = tensor.f_to_kind(Kind::Double)?.f_uniform_(-share, share)?;
    let _ = draws.f_erfinv_()?.f_mul_scalar_(deviation * 2f64.sqrt())?;
    draws.f_clamp_(-BOUND, BOUND)?.f_to_kind(Kind::Float)
}

/// sha256, in hexadecimal digits, over keys and bytes of the variables in `range`.
pub(super) fn hash(vars: &[Var], range: Range<usize>) -> Result<String> {
    let mut sha = Sha256::new();
    for var in &vars[range] {
        sha.update(var.key.as_bytes());
        sha.update(bytes_of(&var.tensor)?);
    }
    Ok(sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The values of a tensor as contiguous little-endian bytes, row-major.
pub fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let read = || -> Result<Vec<u8>, tch::TchError> {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * tensor.f_kind()?.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    };
    read().map_err(Error::torch("read a tensor's values"))
}
