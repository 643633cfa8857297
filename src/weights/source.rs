//! Resolves `--model` and `--weights` (a recipe's `model:` and `weights:`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tch::{Device, Tensor};

use super::card::{self, Card};
use super::checkpoint::{Checkpoint, read_checkpoint};
use super::{Head, check, copy, copy_auxiliaries, download, installed, positions};
use crate::error::{Error, Result};
use crate::models::{self, Architecture, Classifier, Fill, Keys, Network, Origin, WeightEntry};
use crate::preprocess::Preprocessing;
use crate::text::path_text::path_text;
use crate::text::suggest;

/// Outputs of torchvision's weights.
const IMAGENET_CLASSES: usize = 1000;

/// The model file in a run folder.
pub const MODEL_FILE: &str = "model.safetensors";

/// Source of a network's initial values.
#[derive(Clone, Debug)]
pub enum Weights {
    /// torchvision's initial distributions.
    None,
    /// A published entry, from the cache or the network.
    Entry(&'static WeightEntry),
    /// A file of weights.
    File(PathBuf),
    /// A model file that `tl` wrote, given as the model: its classes are used too.
    Model(PathBuf),
}

/// A model and its weights, named but not yet read.
#[derive(Clone)]
pub struct Source {
    /// The network to build.
    pub architecture: &'static Architecture,
    /// Its weights.
    pub weights: Weights,
}

/// A source whose file, if any, has been read.
pub struct Opened {
    /// The network to build.
    pub architecture: &'static Architecture,
    /// The file and its tensors; `None` for `weights: none`.
    pub file: Option<(PathBuf, Checkpoint)>,
    /// The file's card, if `tl` wrote it.
    pub card: Option<Card>,
    /// The preprocessing that the weights expect.
    pub preprocessing: Preprocessing,
    /// Whether the file has no valid classifier.
    features_only: bool,
}

impl Source {
    /// Resolves names; `locate` turns a path as typed into one that can be opened. The error is one
    /// message for the user.
    pub fn resolve(
        model: &str,
        weights: Option<&str>,
        locate: impl Fn(&Path) -> PathBuf,
    ) -> Result<Self, String> {
        let Some(architecture) = models::find(model) else {
            return Self::from_model_file(model, weights, &locate(Path::new(model)));
        };
        let weights =
            match weights.unwrap_or(if architecture.weights().is_empty() { "none" } else { "DEFAULT" }) {
                "none" => Weights::None,
                name => match architecture.entry(name) {
                    Some(entry) => Weights::Entry(entry),
                    None => Weights::File(weights_file(architecture, name, &locate(Path::new(name)))?),
                },
            };
        Ok(Source { architecture, weights })
    }

    fn from_model_file(model: &str, weights: Option<&str>, path: &Path) -> Result<Self, String> {
        let folder = path.is_dir();
        let path = if folder { path.join(MODEL_FILE) } else { path.to_path_buf() };
        if folder && !path.is_file() {
            return Err(format!(
                "{model} is a folder without {MODEL_FILE}: if it is a run folder, its run has not saved a model yet"
            ));
        }
        if !path.is_file() {
            // A name that does not look like a path is a typo in a model's name.
            let looks_like_path = model.contains('/') || model.contains('.');
            return Err(match looks_like_path {
                true => format!("there is no model file at {}", path_text(&path)),
                false => models::unknown(model),
            });
        }
        let card = card::read_card(&path).map_err(|error| error.to_string())?.ok_or_else(|| {
            format!(
                "{} is not a model that `tl` wrote: if it holds weights, name the network that they are of as the \
                 model (`tl models` lists the names), and the file as the weights",
                path_text(&path)
            )
        })?;
        if weights.is_some_and(|weights| weights != "DEFAULT") {
            return Err(format!("{model} brings its own weights: leave the weights out"));
        }
        let architecture = models::find(&card.architecture).ok_or_else(|| {
            format!(
                "{} is a `{}`, which this version of tl does not know",
                path_text(&path),
                card.architecture
            )
        })?;
        Ok(Source { architecture, weights: Weights::Model(path) })
    }

    /// Reads the file, downloading it first if necessary.
    pub fn open(&self, progress: &dyn download::DownloadProgress) -> Result<Opened> {
        let path = match &self.weights {
            Weights::None => None,
            Weights::Entry(entry) => Some(match entry.origin {
                Origin::Torchvision => download::fetch(entry.file, progress)?,
                _ => installed::find(self.architecture, entry)?,
            }),
            Weights::File(path) | Weights::Model(path) => Some(path.clone()),
        };
        let file = match path {
            None => None,
            Some(path) => {
                let mut checkpoint = read_checkpoint(&path)?;
                let keys = Keys::of(self.architecture)?;
                checkpoint.rename(|key| keys.current(key));
                Some((path, checkpoint))
            }
        };
        let card = match &file {
            Some((path, checkpoint)) => card::card_in(path, &checkpoint.metadata)?,
            None => None,
        };
        let preprocessing = match (&card, &self.weights, &file) {
            (Some(card), ..) => card.preprocessing.clone(),
            (None, Weights::Entry(entry), _) => entry.preprocessing.clone(),
            (None, _, Some((_, checkpoint))) => self.preprocessing_of(&checkpoint.sha256),
            (None, _, None) => self.architecture.preprocessing(),
        };
        Ok(Opened {
            architecture: self.architecture,
            file,
            card,
            preprocessing,
            features_only: self.features_only(),
        })
    }

    /// A bare file may be a renamed torchvision file: its digest tells.
    fn preprocessing_of(&self, sha256: &str) -> Preprocessing {
        let known = self.architecture.weights().iter().find(|entry| sha256.starts_with(entry.digits()));
        known.map_or_else(|| self.architecture.preprocessing(), |entry| entry.preprocessing.clone())
    }

    /// Whether the weights have no valid classifier (see [`WeightEntry::features_only`]).
    pub fn features_only(&self) -> bool {
        matches!(self.weights, Weights::Entry(entry) if entry.features_only())
    }

    /// [`Opened::note`] before the file is there: for torchvision's weights, whose size is known.
    pub fn note(&self, side: u32) -> Option<String> {
        self.architecture.positions?;
        let Weights::Entry(entry) = self.weights else { return None };
        positions::note(self.architecture, entry.preprocessing.crop_size / self.architecture.multiple, side)
    }

    /// The error message for weights without a classifier.
    pub fn features_only_refusal(&self) -> String {
        format!(
            "{} have no classifier (torchvision's file holds NaN there): they serve `tl extract` with a `--stage` \
             before it",
            self.describe()
        )
    }

    /// The source of the weights, in words.
    pub fn describe(&self) -> String {
        match &self.weights {
            Weights::None => "none: torchvision's initial distributions".into(),
            Weights::Entry(entry) => {
                format!("{}.{} ({})", self.architecture.weights_enum(), entry.tag, entry.file)
            }
            Weights::File(path) | Weights::Model(path) => path_text(path).into_owned(),
        }
    }
}

/// The preprocessing of the weights with this tag.
pub fn preprocessing_by_tag(architecture: &Architecture, tag: &str) -> Result<Preprocessing, String> {
    let entry = architecture.entry(tag).ok_or_else(|| unknown_tag(architecture, tag))?;
    Ok(entry.preprocessing.clone())
}

fn unknown_tag(architecture: &Architecture, name: &str) -> String {
    if architecture.weights().is_empty() {
        return format!(
            "nobody publishes weights of {}: write `weights: none`, and train it with `method: scratch`",
            architecture.name
        );
    }
    let tags: Vec<&str> = architecture.weights().iter().map(|entry| entry.tag).collect();
    // Of names that are equally near it is the default.
    let first = std::iter::once(architecture.default_tag());
    let nearest = match suggest::nearest(name, first.chain(tags.iter().copied())) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => ".".into(),
    };
    let default = match tags.len() {
        1 => String::new(),
        _ => format!(", of which `{}` is DEFAULT", architecture.default_tag()),
    };
    format!(
        "{} has no weights named `{name}`{nearest} It has {}{default}; a file needs an ending such as .pth or a \
         folder before it",
        architecture.name,
        suggest::quoted(&tags),
    )
}

fn weights_file(architecture: &Architecture, name: &str, path: &Path) -> Result<PathBuf, String> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    if path.is_dir() {
        let model = path.join(MODEL_FILE);
        return match model.is_file() {
            true => Ok(model),
            false => Err(format!("the weights {} are a folder without {MODEL_FILE}", path_text(path))),
        };
    }
    let endings = [".pth", ".pt", ".safetensors", ".bin", ".ckpt"];
    if name.contains('/') || endings.iter().any(|ending| name.ends_with(ending)) {
        return Err(format!("there is no weights file at {}", path_text(path)));
    }
    let owner = models::architectures().find(|other| name.starts_with(&format!("{}.", other.weights_enum())));
    match owner {
        Some(owner) if owner.name != architecture.name => {
            Err(format!("`{name}` are the weights of {}, not of {}", owner.name, architecture.name))
        }
        _ => Err(unknown_tag(architecture, name)),
    }
}

impl Opened {
    /// The network with the file's own head, for inference on images of `side` pixels, and the
    /// names of its classes.
    pub fn into_classifier(self, side: u32, device: Device, seed: u64) -> Result<(Network, Vec<String>)> {
        let classes = match &self.card {
            Some(card) => card.classes.clone(),
            None => models::imagenet_classes(),
        };
        let head = if self.features_only { Head::Absent } else { Head::Load };
        let network = self.build(classes.len(), side, device, head, Fill::Initial { seed })?;
        Ok((network, classes))
    }

    /// The network with a new head for `classes`, to be trained.
    pub fn with_new_head(&self, classes: usize, side: u32, device: Device, seed: u64) -> Result<Network> {
        self.build(classes, side, device, Head::Replace, Fill::Initial { seed })
    }

    /// For each of `classes`, the row of the file's head with the same name; all `None` if the file
    /// names no classes.
    pub fn head_rows(&self, classes: &[String]) -> Vec<Option<usize>> {
        let known: HashMap<&str, usize> = match &self.card {
            Some(card) => card.classes.iter().enumerate().map(|(row, name)| (name.as_str(), row)).collect(),
            None => HashMap::new(),
        };
        classes.iter().map(|class| known.get(class.as_str()).copied()).collect()
    }

    /// Copies into the head of `network`, which is for `classes`, the file's rows of the classes
    /// with the same names; the others stay unchanged.
    ///
    /// # Errors
    /// [`Error::File`] for a head that is not the network's, or has non-finite values.
    pub fn load_head_rows(&self, network: &Network, classes: &[String]) -> Result<()> {
        let Some((path, checkpoint)) = &self.file else { return Ok(()) };
        let (to, from): (Vec<i64>, Vec<i64>) = self
            .head_rows(classes)
            .into_iter()
            .enumerate()
            .filter_map(|(to, from)| Some((to as i64, from? as i64)))
            .unzip();
        let (to, from) = (Tensor::f_from_slice(&to)?, Tensor::f_from_slice(&from)?);
        for var in network.vars().iter().filter(|var| network.is_head(&var.key)) {
            let Some((_, raw)) = checkpoint.tensors.iter().find(|(key, _)| *key == var.key) else { continue };
            if !raw.is_finite() {
                let message = format!(
                    "holds NaN or infinite values in `{}`: take another file, or fit a new head with \
                     `linear_head_first: true`",
                    var.key
                );
                return Err(Error::file(path, message));
            }
            let rows = super::values(var, raw, path)?.f_index_select(0, &from)?;
            let device = network.device();
            let copy = || {
                var.tensor.shallow_clone().f_index_copy_(
                    0,
                    &to.f_to_device(device)?,
                    &rows.f_to_device(device)?,
                )
            };
            let _ = tch::no_grad(copy).map_err(Error::torch(format!("load rows of `{}`", var.key)))?;
        }
        Ok(())
    }

    /// The network with the file's head, whatever its classes are: the source's view of images.
    pub fn with_own_head(&self, side: u32, device: Device, seed: u64) -> Result<Network> {
        let shapes = self.network(1, side, Device::Cpu, Fill::Shapes)?;
        let weight = format!("{}.weight", shapes.head_key());
        let found = self.file.iter().flat_map(|(_, checkpoint)| &checkpoint.tensors);
        let found =
            found.filter(|(key, _)| *key == weight).find_map(|(_, tensor)| tensor.shape.first().copied());
        let head = if self.features_only { Head::Absent } else { Head::Load };
        self.build(found.unwrap_or(IMAGENET_CLASSES), side, device, head, Fill::Initial { seed })
    }

    /// Copies the file's values into the auxiliary classifiers of `network`, where present and
    /// fitting.
    pub fn load_auxiliaries(&self, network: &Network) -> Result<()> {
        match &self.file {
            Some((path, checkpoint)) => copy_auxiliaries(network, path, checkpoint),
            None => Ok(()),
        }
    }

    /// Whether `tl` trained these weights from random ones: they have seen thousands of images,
    /// published ones a million.
    pub fn begun_at_random(&self) -> bool {
        self.card.as_ref().is_some_and(|card| {
            let typed = |pointer: &str| card.recipe.pointer(pointer).and_then(serde_json::Value::as_str);
            typed("/weights") == Some("none") || typed("/strategy/method") == Some("scratch")
        })
    }

    /// Warnings about a file that was read, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let Some((path, checkpoint)) = &self.file else { return Vec::new() };
        checkpoint.warnings.iter().map(|warning| format!("{}: {warning}", path_text(path))).collect()
    }

    /// A note if the file is one model of an ensemble and is read alone: a sentence.
    pub fn note_of_two(&self) -> Option<String> {
        let (path, _) = self.file.as_ref()?;
        let partner = self.card.as_ref()?.partner.as_ref()?;
        Some(format!(
            "{} is one of two models that are averaged; it is used alone here, and {} in its folder is the other one",
            path_text(path),
            partner.file
        ))
    }

    /// A note on values that change for images of `side` pixels: a sentence.
    pub fn note(&self, side: u32) -> Option<String> {
        let key = self.architecture.positions?;
        let (_, checkpoint) = self.file.as_ref()?;
        let (_, raw) = checkpoint.tensors.iter().find(|(name, _)| name == key)?;
        positions::note(self.architecture, positions::grid_of(&raw.shape)?, side)
    }

    /// Whether [`Opened::with_new_head`] would succeed, without the memory and time of a network.
    ///
    /// # Errors
    /// [`Error::File`] with all mismatches.
    pub fn check(&self, head: Head, side: u32) -> Result<()> {
        let Some((path, checkpoint)) = &self.file else { return Ok(()) };
        let mut classes = 1;
        if let Some(card) = &self.card {
            if card.architecture != self.architecture.name {
                let message = format!(
                    "is for {0}, not for {1}: use `model: {0}` (`--model {0}`)",
                    card.architecture, self.architecture.name
                );
                return Err(Error::file(path, message));
            }
            classes = card.classes.len();
        } else if head != Head::Replace {
            classes = IMAGENET_CLASSES;
        }
        let shapes = self.network(classes, side, Device::Cpu, Fill::Shapes)?;
        check(&shapes, path, checkpoint, head)
    }

    /// The file's network, with initial values by `fill`: a head on several stages shortens the
    /// chain.
    pub fn network(&self, classes: usize, side: u32, device: Device, fill: Fill) -> Result<Network> {
        let mut network = Network::sized(self.architecture, classes, side.into(), device, fill)?;
        let reads = self.card.as_ref().map_or(&[][..], |card| &card.reads[..]);
        if let (Some((path, checkpoint)), false) = (&self.file, reads.is_empty()) {
            let taps = reads.iter().map(|name| network.tap(name)).collect::<Result<Vec<_>>>();
            let taps = taps.map_err(|error| Error::file(path, format!("its `tl` metadata: {error}")))?;
            let weight = format!("{}.weight", models::STAGES_HEAD);
            let found = checkpoint.tensors.iter().find(|(key, _)| *key == weight);
            let width = found.and_then(|(_, tensor)| tensor.shape.get(1).copied()).unwrap_or_default();
            network.read_stages(&taps, width, classes, fill)?;
        }
        Ok(network)
    }

    fn build(&self, classes: usize, side: u32, device: Device, head: Head, initial: Fill) -> Result<Network> {
        self.check(head, side)?;
        // A new head on pretrained weights starts at zero, so that the features decide first (BiT,
        // Kolesnikov et al. 2020). Not SqueezeNet's: the ReLU behind it has gradient 0 at 0 for
        // ever.
        let shapes = self.network(classes, side, Device::Cpu, Fill::Shapes)?;
        let linear = matches!(shapes.classifier(), Classifier::Linear(_));
        let fill = if self.file.is_some() && linear { Fill::Zeros } else { initial };
        let mut network = self.network(classes, side, device, fill)?;
        if let Some((path, checkpoint)) = &self.file {
            // A file that `tl` wrote may have been trained without it; any other is taken for
            // torchvision's.
            let wanted = self.card.as_ref().is_none_or(|card| card.transform_input);
            network.set_transform_input(wanted && self.architecture.transform_input)?;
            copy(&network, path, checkpoint, head)?;
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_head_go_to_the_classes_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let architecture = models::find("squeezenet1_1").unwrap();
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let network = Network::new(architecture, 3, Device::Cpu, Fill::Initial { seed: 1 }).unwrap();
        let card = Card {
            architecture: "squeezenet1_1".into(),
            partner: None,
            classes: names(&["a", "b", "c"]),
            decode: Default::default(),
            format: card::FORMAT,
            learnt_from: None,
            preprocessing: architecture.preprocessing(),
            reads: Vec::new(),
            recipe: serde_json::json!({}),
            temperature: None,
            transform_input: false,
            unknown: None,
        };
        super::super::write_model(&path, &network, &card).unwrap();
        let opened = Source { architecture, weights: Weights::Model(path) }.open(&download::Silent).unwrap();
        let classes = names(&["d", "c", "a"]);
        assert_eq!(opened.head_rows(&classes), [None, Some(2), Some(0)]);
        let learner = opened.with_new_head(3, 64, Device::Cpu, 2).unwrap();
        let row = |network: &Network, row| {
            let classifier = network.classifier();
            let weight = classifier.weight().select(0, row).flatten(0, -1);
            let bias = classifier.bias().unwrap().select(0, row).unsqueeze(0);
            Vec::<f32>::try_from(Tensor::cat(&[weight, bias], 0)).unwrap()
        };
        let new = row(&learner, 0);
        opened.load_head_rows(&learner, &classes).unwrap();
        assert_eq!(row(&learner, 0), new);
        assert_eq!(row(&learner, 1), row(&network, 2));
        assert_eq!(row(&learner, 2), row(&network, 0));
    }

    #[test]
    fn a_file_of_torchvisions_under_another_name_is_known_by_its_digest() {
        let source = Source { architecture: models::find("resnet50").unwrap(), weights: Weights::None };
        let [first, second] = source.architecture.weights() else { panic!("two entries") };
        assert_ne!(first.preprocessing, second.preprocessing);
        let renamed = format!("{}{}", second.digits(), "0".repeat(56));
        assert_eq!(source.preprocessing_of(&renamed), second.preprocessing);
        assert_eq!(source.preprocessing_of(&"0".repeat(64)), first.preprocessing);
        for architecture in models::architectures() {
            // An entry without digits would match every file.
            assert!(
                architecture.weights().iter().all(|entry| entry.digits().len() >= 8),
                "{}",
                architecture.name
            );
        }
    }
}
