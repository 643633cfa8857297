//! Pretrained weights: their sources, and loading into a network.
//!
//! [`source`] resolves `--model` and `--weights`. [`download`] brings torchvision's files into
//! PyTorch's cache, and [`installed`] finds what others put there. [`checkpoint`] reads the containers
//! that PyTorch writes. `kept` is for files to resume from. [`load`] copies a state dict into a [`Network`] or reports every mismatch.

pub mod card;
pub mod checkpoint;
pub mod download;
pub mod installed;
mod kept;
pub mod positions;
pub mod seen;
pub mod source;
mod write;

use std::collections::HashMap;
use std::path::Path;

use tch::{Kind, Tensor};

pub use self::kept::{read_kept, write_kept};
pub use self::write::{write_model, write_tensors};

use self::checkpoint::{Checkpoint, Dtype, RawTensor};
use crate::error::{Error, Result};
use crate::models::{self, Architecture, Fill, Keys, Network, Role, Var};
use crate::text::path_text::path_text;
use crate::text::words::counted;

/// Treatment of the classifier in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Loaded; it must have the network's number of classes.
    Load,
    /// Left out: the network has a new one, for its own classes.
    Replace,
    /// Not valid, and neither is anything else below [`CLASSIFIER`]: the network is for features
    /// only.
    Absent,
}

/// Prefix of the fully connected layers that features-only weights lack.
pub const CLASSIFIER: &str = "classifier.";

/// Whether a file's values for `key` are left out.
fn is_left_out(network: &Network, key: &str, head: Head) -> bool {
    match head {
        Head::Load => false,
        Head::Replace => network.is_head(key),
        Head::Absent => key.starts_with(CLASSIFIER),
    }
}

/// Keys shown for each kind of mismatch; the rest is a number.
const SHOWN: usize = 5;

/// Copies `checkpoint`, which was read from `path`, into `network`. Keys and shapes must match the
/// network's exactly: all mismatches are reported at once, and then nothing is loaded. A position
/// embedding may be for images of another size ([`positions`]).
pub fn load(network: &Network, path: &Path, checkpoint: &Checkpoint, head: Head) -> Result<()> {
    check(network, path, checkpoint, head)?;
    copy(network, path, checkpoint, head)
}

/// [`load`] for a checkpoint that has passed [`check`].
fn copy(network: &Network, path: &Path, checkpoint: &Checkpoint, head: Head) -> Result<()> {
    for (var, raw) in pairs(network, checkpoint, head) {
        assign(var, &fitting_values(network, var, raw, path)?)?;
    }
    Ok(())
}

/// Whether [`load`] would succeed; a network of shapes alone is enough.
pub fn check(network: &Network, path: &Path, checkpoint: &Checkpoint, head: Head) -> Result<()> {
    let tensors: Vec<_> = checkpoint.tensors.iter().map(|(key, raw)| (key.as_str(), raw)).collect();
    let mismatch = Mismatch::between(network, &tensors, head);
    if !mismatch.is_empty() {
        return Err(Error::file(path, mismatch.message(network, checkpoint)));
    }
    let mut not_finite = Vec::new();
    for (var, raw) in pairs(network, checkpoint, head) {
        if var.role != Role::BatchCount && !raw.is_finite() {
            not_finite.push(format!("`{}`", var.key));
        }
    }
    if !not_finite.is_empty() {
        return Err(Error::file(
            path,
            format!(
                "holds NaN or infinite values in {}: a training that diverged? Use another file",
                some_of(&not_finite)
            ),
        ));
    }
    Ok(())
}

/// The variables that a checkpoint has values for, with the values.
fn pairs<'a>(network: &'a Network, checkpoint: &'a Checkpoint, head: Head) -> Vec<(&'a Var, &'a RawTensor)> {
    let found: HashMap<&str, &RawTensor> =
        checkpoint.tensors.iter().map(|(key, tensor)| (key.as_str(), tensor)).collect();
    let loaded = |var: &&Var| !is_left_out(network, &var.key, head);
    let with_values = |var: &'a Var| Some((var, *found.get(var.key.as_str())?));
    network.vars().iter().filter(loaded).filter_map(with_values).collect()
}

/// Copies the values in `checkpoint` for the network's auxiliary classifiers, if present and
/// fitting: they help only in training, and can start from initial values.
fn copy_auxiliaries(network: &Network, path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let found: HashMap<&str, &RawTensor> =
        checkpoint.tensors.iter().map(|(key, tensor)| (key.as_str(), tensor)).collect();
    for var in network.auxiliary_vars() {
        let Some(raw) = found.get(var.key.as_str()) else { continue };
        let values = values(var, raw, path)?;
        if values.size() == var.tensor.size() && (var.role == Role::BatchCount || raw.is_finite()) {
            assign(var, &values)?;
        }
    }
    Ok(())
}

/// A file's values for `var`, resized for the network's image size: see [`positions`].
fn fitting_values(network: &Network, var: &Var, raw: &RawTensor, path: &Path) -> Result<Tensor> {
    let values = values(var, raw, path)?;
    match positions::grid_of(&var.tensor.size()) {
        Some(side) if network.architecture.positions == Some(var.key.as_str()) => {
            positions::resample(&values, side)
        }
        _ => Ok(values),
    }
}

fn values(var: &Var, raw: &RawTensor, path: &Path) -> Result<Tensor> {
    to_tensor(raw).map_err(Error::torch(format!("take `{}` over from {}", var.key, path_text(path))))
}

/// Copies values into a variable in place, because the layers share it.
pub fn assign(var: &Var, values: &Tensor) -> Result<()> {
    tch::no_grad(|| var.tensor.shallow_clone().f_copy_(values))
        .map_err(Error::torch(format!("load `{}`", var.key)))
}

/// The state dict of a network as contiguous bytes, in torchvision's order.
pub fn state_dict(network: &Network) -> Result<Vec<(String, RawTensor)>> {
    network
        .vars()
        .iter()
        .map(|var| {
            let dtype = if var.tensor.f_kind()? == Kind::Int64 { Dtype::I64 } else { Dtype::F32 };
            let shape = var.tensor.size().iter().map(|&side| side as usize).collect();
            let bytes = models::bytes_of(&var.tensor)?;
            Ok((var.key.clone(), RawTensor { dtype, shape, bytes }))
        })
        .collect()
}

/// A tensor on the CPU with the file's values: float32, or int64 for a count.
pub fn to_tensor(raw: &RawTensor) -> Result<Tensor, tch::TchError> {
    let shape: Vec<i64> = raw.shape.iter().map(|&side| side as i64).collect();
    let (kind, target) = match raw.dtype {
        Dtype::F64 => (Kind::Double, Kind::Float),
        Dtype::F32 => (Kind::Float, Kind::Float),
        Dtype::F16 => (Kind::Half, Kind::Float),
        Dtype::BF16 => (Kind::BFloat16, Kind::Float),
        Dtype::I64 => (Kind::Int64, Kind::Int64),
        Dtype::I32 => (Kind::Int, Kind::Int64),
        Dtype::I16 => (Kind::Int16, Kind::Int64),
        Dtype::I8 => (Kind::Int8, Kind::Int64),
        Dtype::U8 => (Kind::Uint8, Kind::Int64),
        Dtype::Bool => (Kind::Bool, Kind::Int64),
    };
    Tensor::f_from_data_size(&raw.bytes, &shape, kind)?.f_to_kind(target)
}

/// All mismatches of a state dict with a network.
struct Mismatch {
    missing: Vec<String>,
    unexpected: Vec<String>,
    misshapen: Vec<String>,
}

impl Mismatch {
    /// `tensors` by the network's keys, in a file's order.
    fn between(network: &Network, tensors: &[(&str, &RawTensor)], head: Head) -> Self {
        let mut mismatch = Mismatch { missing: Vec::new(), unexpected: Vec::new(), misshapen: Vec::new() };
        let mut rest: HashMap<&str, &RawTensor> = tensors.iter().copied().collect();
        for var in network.vars() {
            let expected: Vec<usize> = var.tensor.size().iter().map(|&side| side as usize).collect();
            match rest.remove(var.key.as_str()) {
                // PyTorch before 0.4.1 wrote no counts, and inference does not need them.
                None if var.role == Role::BatchCount => {}
                None if is_left_out(network, &var.key, head) => {}
                None => mismatch.missing.push(format!("`{}`", var.key)),
                Some(raw) => mismatch.compare(network, var, raw, &expected, head),
            }
        }
        // In the file's order, which is the layers' order of execution.
        for (key, _) in tensors {
            if rest.contains_key(key) && !network.architecture.auxiliaries.own(key) {
                mismatch.unexpected.push(format!("`{key}`"));
            }
        }
        mismatch
    }

    fn compare(&mut self, network: &Network, var: &Var, raw: &RawTensor, expected: &[usize], head: Head) {
        let replaced = is_left_out(network, &var.key, head);
        let resampled = || {
            network.architecture.positions == Some(var.key.as_str())
                && positions::can_become(&raw.shape, expected)
        };
        // A head to be replaced may have any number of classes, but not another input size.
        let fits = match replaced {
            true => raw.shape.len() == expected.len() && raw.shape[1..] == expected[1..],
            false => raw.shape == expected || resampled(),
        };
        // A count may have any dtype: casting a whole state dict to half precision casts it too.
        if !fits {
            self.misshapen.push(format!("`{}` is {:?}, expected {expected:?}", var.key, raw.shape));
        } else if !raw.dtype.is_float() && !matches!(var.role, Role::BatchCount | Role::Constant) {
            let found = raw.dtype.name();
            self.misshapen.push(format!("`{}` is {found}, expected floating-point numbers", var.key));
        }
    }

    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }

    fn message(&self, network: &Network, checkpoint: &Checkpoint) -> String {
        let mut text = format!("does not fit {}", network.architecture.name);
        let parts = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("of another shape or type", &self.misshapen),
        ];
        for (what, keys) in parts {
            if !keys.is_empty() {
                text.push_str(&format!("\n  {} {what}: {}", keys.len(), some_of(keys)));
            }
        }
        if let Some(hint) = hint(network, checkpoint) {
            text.push_str("\n  ");
            text.push_str(&hint);
        }
        text
    }
}

/// The first few of a list, and the number of the others.
fn some_of(items: &[String]) -> String {
    let mut text = items[..items.len().min(SHOWN)].join(", ");
    if items.len() > SHOWN {
        text.push_str(&format!(", and {} more", items.len() - SHOWN));
    }
    text
}

/// The architecture that the file belongs to, if it can be told.
fn hint(network: &Network, checkpoint: &Checkpoint) -> Option<String> {
    let own = network.architecture;
    if let Some(classes) = classes_if_fits(own, checkpoint) {
        return Some(format!(
            "the file is for {} with {}, not {}, and does not name them: learn classes of your own \
             from it (`weights:` in a recipe for `tl finetune`), or give a model file that `tl` wrote",
            own.name,
            counted(classes, "class", "classes"),
            network.classes()
        ));
    }
    let other = models::architectures()
        .filter(|other| other.name != own.name)
        .find(|other| classes_if_fits(other, checkpoint).is_some());
    match other {
        Some(Architecture { name, .. }) => {
            Some(format!("the file is for {name}: use `model: {name}` (`--model {name}`)"))
        }
        None => older(network, checkpoint).map(str::to_string),
    }
}

/// Advice on a file for an older network of the same name.
fn older(network: &Network, checkpoint: &Checkpoint) -> Option<&'static str> {
    let older = network.architecture.older?;
    let (_, found) = checkpoint.tensors.iter().find(|(key, _)| key == older.key)?;
    let own = network.vars().iter().find(|var| var.key == older.key)?.tensor.size();
    let is_own = own.iter().map(|&side| side as usize).eq(older.shape.iter().copied());
    (found.shape == older.shape && !is_own).then_some(older.advice)
}

/// The number of classes with which `checkpoint` exactly fits `architecture`.
fn classes_if_fits(architecture: &'static Architecture, checkpoint: &Checkpoint) -> Option<usize> {
    // With this architecture's key renames, which may differ from those of the requested one.
    let keys = Keys::of(architecture).ok()?;
    let tensors: Vec<_> = checkpoint.as_in_file().map(|(key, raw)| (keys.current(key), raw)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(key, raw)| (key.as_str(), *raw)).collect();
    let probe = Network::new(architecture, 1, tch::Device::Cpu, Fill::Shapes).ok()?;
    let bias = format!("{}.bias", probe.head_key());
    let (_, raw) = tensors.iter().find(|(key, _)| *key == bias)?;
    let classes = *raw.shape.first()?;
    let network = Network::new(architecture, classes, tch::Device::Cpu, Fill::Shapes).ok()?;
    Mismatch::between(&network, &tensors, Head::Load).is_empty().then_some(classes)
}
