//! Models as the command line names them.

use super::args::{self, ReadArgs};
use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::models::{Fill, Network};
use crate::output::JobIdentity;
use crate::plan::fits;
use crate::preprocess::{Decode, DecodeLimits, Fit, Preprocessing};
use crate::text::path_text::{self, path_text};
use crate::unknown::Unknown;
use crate::util::signal::Signals;
use crate::weights::Head;
use crate::weights::download::Silent;
use crate::weights::seen::SeenImages;
use crate::weights::source::{Opened, Source, Weights, preprocessing_by_tag};

/// A requested model, found but not yet opened.
pub(super) struct Named<'a> {
    /// As typed.
    pub(super) name: &'a str,
    pub(super) source: Source,
    /// `--preprocess`
    pub(super) tagged: Option<Preprocessing>,
    /// `--fit`
    pub(super) fit: Option<Fit>,
    /// `--white-level`
    pub(super) white_level: Option<u16>,
}

/// A network ready for inference, with what it needs to read images.
pub(super) struct Classifier {
    pub(super) network: Network,
    pub(super) classes: Vec<String>,
    pub(super) preprocessing: Preprocessing,
    /// Size at which JPEGs were decoded in its training.
    pub(super) decode: Decode,
    /// The sha256 of the weights' file, or `none`.
    pub(super) weights: String,
    /// The second of two models that were kept together.
    pub(super) partner: Option<PartnerNetwork>,
    /// The temperature of their probabilities, if one was fitted to what is used here.
    pub(super) temperature: Option<f64>,
    /// What tells how strange an image is to the network.
    pub(super) unknown: Option<Unknown>,
    /// The images that it has learnt from.
    pub(super) seen: Seen,
}

/// Whether it is known which images a model has learnt from.
pub(super) enum Seen {
    /// Those of its file.
    Images(SeenImages),
    /// A file that `tl` wrote does not say.
    Untold,
    /// Others have trained it.
    Elsewhere,
}

/// A network that is averaged with another one.
pub(super) struct PartnerNetwork {
    pub(super) network: Network,
    /// The sha256 of its file.
    pub(super) weights: String,
    /// Its weight.
    pub(super) weight: f64,
}

/// Limits of decoding: as given on the command line, else fast if all of `classifiers` were trained
/// so.
pub(super) fn limits(read: &ReadArgs, classifiers: &[Classifier]) -> DecodeLimits {
    let fast = classifiers.iter().all(|classifier| classifier.decode == Decode::Fast);
    let trained = if fast { Decode::Fast } else { Decode::Exact };
    DecodeLimits { max_pixels: read.max_pixels, decode: read.decode.unwrap_or(trained), white_level: None }
}

impl<'a> Named<'a> {
    /// Finds a model. `check` examines a network without values, so that a wrong stage is reported
    /// before any download.
    pub(super) fn find(
        name: &'a str,
        weights: &args::WeightArgs,
        check: impl FnOnce(&Network, &Source) -> Result<()>,
    ) -> Result<Self> {
        let source =
            Source::resolve(name, weights.weights.as_deref(), path_text::typed).map_err(Error::usage)?;
        let architecture = source.architecture;
        check(&Network::new(architecture, 2, tch::Device::Cpu, Fill::Shapes)?, &source)?;
        let tagged = match &weights.preprocess {
            None => None,
            Some(tag) => Some(preprocessing_by_tag(architecture, tag).map_err(Error::usage)?),
        };
        Ok(Named { name, source, tagged, fit: weights.fit, white_level: weights.white_level })
    }

    /// Its preprocessing, if known without opening a file.
    pub(super) fn preprocessing(&self) -> Option<Preprocessing> {
        match (&self.tagged, &self.source.weights) {
            (Some(_), _) => Some(self.fitted(None)),
            (None, Weights::Entry(entry)) => Some(self.fitted(Some(&entry.preprocessing))),
            _ => None,
        }
    }

    /// The preprocessing of its weights, `own`, with the changes of the command line.
    pub(super) fn fitted(&self, own: Option<&Preprocessing>) -> Preprocessing {
        let preset = || self.source.architecture.preprocessing();
        let mut named = self.tagged.as_ref().or(own).cloned().unwrap_or_else(preset);
        named.white_level = self.white_level.or(named.white_level);
        self.fit.map_or(named.clone(), |fit| named.with_fit(fit))
    }

    /// Reads its weights, after downloading them if necessary. `both`: with its partner, if two
    /// models are averaged.
    pub(super) fn open(
        &self,
        device: tch::Device,
        terminal: Terminal,
        signals: &Signals,
        both: bool,
    ) -> Result<Classifier> {
        if matches!(self.source.weights, Weights::None) {
            terminal
                .say("note: `--weights none`: the network has random values, and its answers mean nothing");
        }
        let opened = self.source.open(&terminal.downloads(signals))?;
        opened.warnings().iter().for_each(|warning| terminal.say(format!("warning: {warning}")));
        let preprocessing = self.fitted(Some(&opened.preprocessing));
        let trained = opened.card.as_ref().map_or(&preprocessing, |card| &card.preprocessing);
        let different = |key: &str, trained: String, now: String| {
            if trained != now {
                let name = self.name;
                let note =
                    format!("{name} was trained with `{key}: {trained}`, and is shown images with `{now}`");
                terminal.say(format!("note: {note}"));
            }
        };
        different("fit", trained.fit.name().into(), preprocessing.fit.name().into());
        different("white_level", trained.white().to_string(), preprocessing.white().to_string());
        fits(self.source.architecture, &preprocessing).map_err(Error::run)?;
        if let Some(note) = opened.note(preprocessing.crop_size) {
            terminal.say(format!("note: {note}"));
        }
        let seen = match &opened.card {
            None => Seen::Elsewhere,
            Some(card) => card.learnt_from.clone().map_or(Seen::Untold, Seen::Images),
        };
        let decode = opened.card.as_ref().map_or(Decode::Exact, |card| card.decode);
        let weights = opened.file.as_ref().map_or("none".into(), |(_, checkpoint)| checkpoint.sha256.clone());
        if let Some(note) = opened.note_of_two().filter(|_| !both) {
            terminal.say(format!("note: {note}"));
        }
        let partner = if both { self.second(&opened, &preprocessing, device, terminal)? } else { None };
        let card = opened.card.as_ref();
        let unknown = card.and_then(|card| card.unknown.clone());
        // One of two models has another temperature than their mean.
        let whole = card.is_some_and(|card| card.partner.is_some() == partner.is_some());
        let temperature = card.and_then(|card| card.temperature).filter(|_| whole);
        let path = opened.file.as_ref().map(|(path, _)| path.clone()).unwrap_or_default();
        let (network, classes) = opened.into_classifier(preprocessing.crop_size, device, 0)?;
        match &unknown {
            Some(known) if known.width() != network.feature_length() => Err(Error::file(
                path,
                format!(
                    "its `tl` metadata is wrong: unknown.width: expected {}, found {}",
                    network.feature_length(),
                    known.width()
                ),
            )),
            _ => Ok(Classifier {
                network,
                classes,
                preprocessing,
                decode,
                weights,
                partner,
                temperature,
                unknown,
                seen,
            }),
        }
    }

    /// The partner of this model, if `tl finetune` has kept two.
    pub(super) fn second(
        &self,
        opened: &Opened,
        preprocessing: &Preprocessing,
        device: tch::Device,
        terminal: Terminal,
    ) -> Result<Option<PartnerNetwork>> {
        let partner = opened.card.as_ref().and_then(|card| card.partner.as_ref());
        let (Some(partner), Weights::Model(path) | Weights::File(path)) = (partner, &self.source.weights)
        else {
            return Ok(None);
        };
        let file = path.with_file_name(&partner.file);
        if !file.is_file() {
            terminal.say(format!(
                "warning: {} is averaged with {}, which is not in its folder: its answers are its own alone, and not those \
                 that the report measured",
                path_text(path),
                partner.file
            ));
            return Ok(None);
        }
        let second = Source { architecture: self.source.architecture, weights: Weights::Model(file.clone()) };
        let second = second.open(&Silent)?;
        let of_both = opened.card.as_ref().map(|card| &card.classes);
        if second.card.as_ref().map(|card| &card.classes) != of_both {
            let message =
                format!("belongs to another model than {}: its classes are others", path_text(path));
            return Err(Error::file(&file, message));
        }
        second.check(Head::Load, preprocessing.crop_size)?;
        let weights = second.file.as_ref().map_or(String::new(), |(_, checkpoint)| checkpoint.sha256.clone());
        let (network, _) = second.into_classifier(preprocessing.crop_size, device, 0)?;
        Ok(Some(PartnerNetwork { network, weights, weight: partner.weight }))
    }
}

impl Classifier {
    /// Adds everything that the network's answers depend on to a [`JobIdentity`].
    pub(super) fn describe(&self, job: JobIdentity, number: usize) -> JobIdentity {
        let name =
            |what: &str| if number == 0 { what.into() } else { format!("{what} of model {}", number + 1) };
        job.with(&name("model"), self.network.architecture.name)
            .with(&name("weights' sha256"), self.both())
            .with(&name("preprocessing"), serde_json::to_string(&self.preprocessing).unwrap_or_default())
    }
}

impl Classifier {
    /// Identifies its values.
    pub(super) fn both(&self) -> String {
        match &self.partner {
            None => self.weights.clone(),
            Some(PartnerNetwork { weights, weight, .. }) => {
                format!("{} and {weights}, which counts {weight}", self.weights)
            }
        }
    }
}
