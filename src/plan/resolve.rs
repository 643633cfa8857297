//! From a recipe to a plan.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tch::Device;

use super::augment::augmentation;
use super::candidate::{Candidate, Training};
use super::data::Data;
use super::defaults;
use super::method::{
    Trained, auxiliary_weight, frozen, linear, normalises, read, single_images, small_batches, train,
};
use super::network::{check_weights, open, preprocessing, source};
use super::notes::{unused_keys, warnings};
use super::race;
use super::strategy::{Decision, Watch};
use super::{DataSettings, PLAN_FILE, Plan, Settings, SourceHead, fine_tuning, fit};
use crate::device::DeviceChoice;
use crate::device::{self, choose};
use crate::error::Result;
use crate::models::{DEFAULT_SIDE, Fill, Network};
use crate::preprocess::{Preprocessing, Views};
use crate::recipe::{BadImages, DatasetSize, Method, Mistake, Recipe, ValChoice};
use crate::text::path_text::path_text;
use crate::weights::source::{Opened, Source, Weights};

/// What the command line adds to a recipe.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--out`
    pub out: Option<PathBuf>,
    /// `--device`
    pub device: Option<crate::device::DeviceChoice>,
    /// `--threads`
    pub threads: Option<usize>,
    /// `--resume`
    pub resume: bool,
}

/// On so many training images of each class the heads are compared that are fitted beside fine-tuning; they are then fitted to
/// all.
const COMPARE_ON: usize = 100;

/// Pillow refuses more than twice its warning limit of 89,478,485 pixels as a decompression bomb.
const MAX_PIXELS: u64 = 178_956_970;

impl Plan {
    /// Reads the recipe at `path` with `sets`, and resolves it. All mistakes come in one error.
    ///
    /// Where the method is open, the similarity of the images to the source data is measured, which may download
    /// the weights.
    pub fn read(path: &Path, sets: &[String], overrides: &Overrides, watch: &Watch) -> Result<Plan> {
        let (recipe, mistakes) = Recipe::read_leniently(path, sets)?;
        Plan::resolve(recipe, mistakes, overrides, watch)
    }

    fn resolve(
        recipe: Recipe,
        mut mistakes: Vec<Mistake>,
        overrides: &Overrides,
        watch: &Watch,
    ) -> Result<Plan> {
        let seed = recipe.seed.unwrap_or(0);
        let mut notes = Vec::new();
        let asked = recipe.strategy.method.unwrap_or(Method::Auto);
        let source = source(&recipe, asked, &mut mistakes);
        let mut opened = source.as_ref().and_then(|source| open(&recipe, source, &mut mistakes));
        let preprocessing =
            source.as_ref().and_then(|source| preprocessing(&recipe, source, opened.as_ref(), &mut mistakes));
        if let (Some(source), Some(opened), Some(preprocessing)) = (&source, &opened, &preprocessing) {
            check_weights(&recipe, source, opened, preprocessing, &mut mistakes);
        }
        let device = device(&recipe, overrides, &mut mistakes)?;
        notes.extend(device::fallen_back(overrides.device.or(recipe.device).unwrap_or_default()));
        if device == DeviceChoice::Cpu {
            notes.extend(recipe.train.precision.and_then(|precision| precision.note(Device::Cpu)));
        }
        let threads = overrides.threads.or(recipe.threads).unwrap_or_else(device::default_threads);
        let out = overrides.out.clone().unwrap_or_else(|| recipe.out_folder());
        let data = Data::list(&recipe, seed, threads, &mut mistakes, &mut notes);
        // Nothing is downloaded or measured for a recipe that has to be mended first.
        let mut decided = None;
        if let (Some(source), Some(preprocessing), true) = (&source, &preprocessing, mistakes.is_empty()) {
            let earlier = overrides.resume.then(|| out.join(PLAN_FILE));
            let decision = Decision {
                recipe: &recipe,
                source,
                preprocessing,
                data: &data,
                limits: data_settings(&recipe, &data).limits(),
                seed,
                device,
                threads,
                earlier: earlier.as_deref(),
            };
            decided = Some(decision.make(asked, &mut opened, watch)?);
        }
        let method = match (&decided, asked) {
            (Some(decided), _) => decided.choice.method,
            (None, Method::Auto) => Method::Linear,
            (None, asked) => asked,
        };
        let mut probe = match (&source, &opened) {
            (_, Some(opened)) => Some(opened.network(2, DEFAULT_SIDE as u32, Device::Cpu, Fill::Shapes)?),
            (Some(source), None) => Some(Network::new(source.architecture, 2, Device::Cpu, Fill::Shapes)?),
            (None, None) => None,
        };
        let eval = preprocessing.as_ref().and_then(|preprocessing| {
            let name = source.as_ref().map_or("the network", |source| source.architecture.name);
            views(&recipe, name, preprocessing, &mut mistakes)
        });
        let methods = match method {
            Method::Race => race::methods(&recipe, source.as_ref(), probe.as_ref(), &data, &mut mistakes),
            method => {
                let rival = decided.as_ref().and_then(|decided| decided.choice.rival);
                // A model that `stages` made has its stages chosen.
                let chosen = probe.as_ref().is_some_and(|probe| !probe.head_taps().is_empty());
                std::iter::once(method).chain(rival.filter(|_| !chosen)).collect()
            }
        };
        let average = asked == Method::Auto && recipe.strategy.average.unwrap_or(true);
        let lots = decided.as_ref().is_some_and(|it| it.strategy.size.verdict == DatasetSize::Lots);
        let young = opened.as_ref().is_some_and(Opened::begun_at_random);
        let head = opened.as_ref().and_then(|opened| source_head(opened, &data.classes));
        // A race holds training images out, which this head may have learnt from.
        let begun_with = head.filter(|_| method != Method::Race);
        let mut candidates = Vec::new();
        for &method in &methods {
            let (said, wrong) = (&mut notes, &mut mistakes);
            let resolving = Resolving { recipe: &recipe, method, data: &data, young, lots, head: begun_with };
            candidates.push(resolving.candidate(probe.as_mut(), preprocessing.as_ref(), said, wrong)?);
        }
        // Where fine-tuning is the table's choice there are many images, and cross-validation on all would take as long as it.
        if method.is_by_gradient() {
            let heads = candidates.iter_mut().skip(1).filter_map(|it| match &mut it.training {
                Training::Heads { linear } => Some(linear),
                _ => None,
            });
            heads.filter(|linear| !linear.stages.is_empty()).for_each(|linear| {
                linear.compare_on.get_or_insert(COMPARE_ON);
            });
        }
        let mut told: Vec<Mistake> = Vec::new();
        mistakes.retain(|mistake| {
            let new = !told.contains(mistake);
            told.extend(new.then(|| mistake.clone()));
            new
        });
        recipe.refuse(mistakes)?;
        let (Some(source), Some(preprocessing), Some(probe), Some(decided)) =
            (source, preprocessing, probe, decided)
        else {
            // Whatever is missing here has left a mistake behind, and mistakes have been refused.
            return Err(crate::Error::run("the plan is incomplete though no mistake was found"));
        };

        notes.extend(opened.iter().flat_map(Opened::warnings));
        notes.extend(opened.as_ref().and_then(Opened::note_of_two));
        if method != Method::Scratch {
            let side = preprocessing.crop_size;
            notes.extend(opened.as_ref().map_or_else(|| source.note(side), |opened| opened.note(side)));
        }
        // Of `--threads` the command has spoken.
        let typed = recipe.threads.filter(|_| overrides.threads.is_none());
        notes.extend(typed.and_then(device::too_many_threads));
        notes.extend(data.imbalance().filter(|_| recipe.train.class_weights.is_none()));
        notes.extend(fit::note(&data, &preprocessing));
        let limits = data_settings(&recipe, &data).limits();
        notes.extend(fit::too_dark(&data, &preprocessing, limits));
        let taken = begun_with.is_some_and(|head| head.is_the_same());
        notes.extend(unused_keys(&recipe, &methods, asked, taken));
        notes.extend(fit::unused_keys(&recipe, &preprocessing));
        notes.extend(head.and_then(|_| drawn_anew(&recipe, &source, &data)));
        notes.extend(methods.iter().flat_map(|&method| warnings(&recipe, &source, method)));
        // The methods of a race may say the same.
        let mut said = HashSet::new();
        notes.retain(|note| said.insert(note.clone()));
        let mut candidates = match method {
            Method::Race => {
                let race = race::settings(&recipe, candidates, &data, &mut notes);
                let stages = Vec::new;
                let training = Training::Race { race };
                vec![Candidate { method, frozen_stages: stages(), trained_stages: stages(), training }]
            }
            _ => candidates,
        }
        .into_iter();
        let Some(candidate) = candidates.next() else {
            return Err(crate::Error::run("the plan has no method"));
        };
        drop(probe);
        let settings = Settings {
            model: source.architecture.name.into(),
            weights: describe(&recipe, &source, method),
            preprocessing,
            data: data_settings(&recipe, &data),
            strategy: decided.strategy,
            reason: match method {
                Method::Race => "the methods are measured before one is trained".into(),
                _ => decided.choice.reason,
            },
            candidate,
            rival: candidates.next(),
            average,
            eval,
            seed,
            device,
            threads,
            out,
        };
        Ok(Plan { settings, source, opened, data, notes, recipe, head, rate: decided.rate })
    }
}

/// A method that is about to be resolved.
struct Resolving<'a> {
    recipe: &'a Recipe,
    method: Method,
    /// Whether the weights are [`Opened::begun_at_random`].
    young: bool,
    /// Whether there is lots of data.
    lots: bool,
    /// What the source's own head knows of the classes.
    head: Option<SourceHead>,
    data: &'a Data,
}

impl Resolving<'_> {
    /// All that the method decides, for the network that `probe` has the shape of.
    fn candidate(
        &self,
        mut probe: Option<&mut Network>,
        preprocessing: Option<&Preprocessing>,
        notes: &mut Vec<String>,
        mistakes: &mut Vec<Mistake>,
    ) -> Result<Candidate> {
        let Resolving { recipe, method, data, young, lots, head } = *self;
        let frozen = probe.as_ref().map_or(0, |probe| frozen(recipe, probe, method, mistakes));
        let read = probe.as_ref().map_or_else(Vec::new, |probe| read(recipe, probe, method, mistakes));
        let trained = Trained {
            holds_linear: probe.as_ref().is_some_and(|probe| probe.holds_linear()),
            head,
            rate: defaults::rate(probe.as_ref().is_some_and(|probe| normalises(probe)), young, lots),
            images: data.train.len(),
        };
        let training = if method.is_by_gradient() {
            let augment = augmentation(recipe, preprocessing, mistakes);
            let mut train = train(recipe, method, &trained);
            if let Some(probe) = &mut probe {
                probe.freeze(frozen)?;
                fine_tuning::resolve(recipe, method, !augment.is_none(), probe, &mut train, notes);
                mistakes.extend(single_images(recipe, &train, probe));
                notes.extend(small_batches(&train, probe));
                if let Some(preprocessing) = preprocessing {
                    let crop_size = preprocessing.crop_size;
                    train.aux_weight = auxiliary_weight(recipe, probe, frozen, crop_size, notes, mistakes);
                }
            }
            Training::Gradient { train: Box::new(train), augment }
        } else {
            Training::Heads { linear: linear(recipe, read) }
        };
        let stages: Vec<String> =
            probe.iter().flat_map(|probe| probe.stage_names()).map(str::to_string).collect();
        Ok(Candidate {
            method,
            frozen_stages: stages[..frozen].to_vec(),
            trained_stages: stages[frozen..].to_vec(),
            training,
        })
    }
}

/// What the head of a model that `tl` has trained knows of these classes, if it knows any.
fn source_head(opened: &Opened, classes: &[String]) -> Option<SourceHead> {
    let of = opened.card.as_ref()?.classes.len();
    let known = opened.head_rows(classes).iter().flatten().count();
    (known > 0).then_some(SourceHead { known, new: classes.len() - known, of })
}

/// That a model for these classes may have learnt from the images that this run measures on, unless its own run had the same parts.
fn drawn_anew(recipe: &Recipe, source: &Source, data: &Data) -> Option<String> {
    let (Weights::Model(path) | Weights::File(path)) = &source.weights else { return None };
    if matches!(recipe.data.val, Some(ValChoice::Path(_))) || data.val_column.is_some() {
        return None;
    }
    let plan = std::fs::read_to_string(path.with_file_name(PLAN_FILE)).unwrap_or_default();
    let plan: serde_yaml::Value = serde_yaml::from_str(&plan).unwrap_or_default();
    let fingerprint = plan.get("data").and_then(|data| data.get("listing")).and_then(|it| it.as_str());
    (fingerprint != Some(&data.fingerprint())).then(|| {
        "the validation images are drawn from `data.train` by lot, and the model to begin with may have learnt from some of \
         them, for which val accuracy would be too good: give `data.val` a folder or a .csv that it has not seen"
            .into()
    })
}

/// The device that is there; a recipe's that is not is a mistake of the recipe.
fn device(recipe: &Recipe, overrides: &Overrides, mistakes: &mut Vec<Mistake>) -> Result<DeviceChoice> {
    let chosen = choose(overrides.device.or(recipe.device).unwrap_or_default());
    match chosen {
        Ok(Device::Cuda(index)) => Ok(DeviceChoice::Cuda(index)),
        Ok(_) => Ok(DeviceChoice::Cpu),
        Err(error) if overrides.device.is_some() => Err(error),
        Err(error) => {
            mistakes.push(recipe.mistake("device", error.to_string()));
            Ok(DeviceChoice::Cpu)
        }
    }
}

/// The views of the last measurement, unless they are the one that is measured anyhow.
fn views(
    recipe: &Recipe,
    network: &str,
    preprocessing: &Preprocessing,
    mistakes: &mut Vec<Mistake>,
) -> Option<Views> {
    let typed = &recipe.eval;
    let views =
        Views { crops: typed.crops.unwrap_or_default(), scales: typed.scales.clone().unwrap_or_default() };
    if let Some(message) = views.mistake(network, preprocessing) {
        let key = if typed.scales.is_some() { "eval.scales" } else { "eval.crops" };
        mistakes.push(recipe.mistake(key, message));
    }
    (!views.is_plain(preprocessing)).then(|| views.resolved(preprocessing))
}

fn describe(recipe: &Recipe, source: &Source, method: Method) -> String {
    match &source.weights {
        _ if method == Method::Scratch => "none".into(),
        // As typed: an absolute path would make the same run another one elsewhere.
        Weights::File(_) => recipe.weights.clone().unwrap_or_default(),
        Weights::Model(_) => recipe.model.clone().unwrap_or_default(),
        _ => source.describe(),
    }
}

fn data_settings(recipe: &Recipe, data: &Data) -> DataSettings {
    let typed = &recipe.data;
    // A published set brings its own, and a CSV may.
    let test = typed.test.as_deref().or(typed.train.as_deref().filter(|_| data.test.is_some()));
    DataSettings {
        train: typed.train.as_deref().map(|path| recipe.resolve(path)).unwrap_or_default(),
        train_images: data.train.len(),
        val: match (&typed.val, &data.val_column) {
            (_, Some(column)) => format!("column {column} of train"),
            (Some(ValChoice::Path(path)), _) => path_text(path).into_owned(),
            (Some(ValChoice::Fraction(fraction)), _) => format!("{fraction} of train"),
            (None, None) => "0.2 of train".into(),
        },
        val_images: data.val.len(),
        test: test.map(|path| recipe.resolve(path)),
        test_images: data.test.as_ref().map(Vec::len),
        classes: data.classes.len(),
        bad_images: typed.bad_images.unwrap_or(BadImages::Skip),
        max_pixels: typed.max_pixels.unwrap_or(MAX_PIXELS),
        decode: typed.decode.unwrap_or_default(),
        fingerprint: data.fingerprint(),
    }
}
