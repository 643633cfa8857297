//! From a recipe to a plan.

use std::path::{Path, PathBuf};

use tch::Device;

use super::augment::augmentation;
use super::candidate::{Candidate, Training};
use super::data::Data;
use super::defaults;
use super::method::{
    TrainingFacts, auxiliary_weight, frozen, linear, normalises, read, single_images, small_batches, train,
};
use super::network::{check_weights, open, preprocessing, source};
use super::notes::{unused_keys, warnings};
use super::race;
use super::strategy::{Decided, Decision, Watch};
use super::{DataSettings, PLAN_FILE, Plan, Settings, SourceHead, file, fine_tuning, fit};
use crate::device::DeviceChoice;
use crate::device::{self, choose};
use crate::error::Result;
use crate::models::{DEFAULT_SIDE, Fill, Network};
use crate::preprocess::{Preprocessing, Views};
use crate::recipe::{BadImages, DatasetSize, Method, Mistake, Recipe, ValChoice};
use crate::text::path_text::path_text;
use crate::weights::source::{Opened, Source, Weights};

/// Command-line options that override a recipe.
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

/// Images a class on which heads that rival fine-tuning are compared; they are then fitted to all.
const COMPARE_ON: usize = 100;

/// Pillow refuses more than twice its warning limit of 89,478,485 pixels as a decompression bomb.
const MAX_PIXELS: u64 = 178_956_970;

impl Plan {
    /// Reads the recipe at `path` with `sets`, and resolves it. All mistakes are in one error.
    ///
    /// If the method is open, the similarity of the images to the source data is measured, which
    /// may download the weights.
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
        let mut notes = Vec::new();
        let asked = recipe.strategy.method.unwrap_or(Method::Auto);
        let mut begun = Beginning::of(&recipe, asked, &mut mistakes);
        let machine = Machine::of(&recipe, overrides, &mut notes, &mut mistakes)?;
        let data = Data::list(&recipe, machine.seed, machine.threads, &mut mistakes, &mut notes);
        // Nothing is downloaded or measured for a recipe that must be corrected first.
        let decided = match mistakes.is_empty() {
            true => begun.decide(&recipe, asked, &data, &machine, watch)?,
            false => None,
        };
        let mut probe = begun.probe()?;
        let eval = begun.views(&recipe, &mut mistakes);
        let method = match (&decided, asked) {
            (Some(decided), _) => decided.choice.method,
            (None, Method::Auto) => Method::Linear,
            (None, asked) => asked,
        };
        let methods =
            methods(&recipe, method, decided.as_ref(), &begun, probe.as_ref(), &data, &mut mistakes);
        let head = begun.opened.as_ref().and_then(|opened| source_head(opened, &data.classes));
        // A race holds training images out, which this head may have learnt from.
        let begun_with = head.filter(|_| method != Method::Race);
        let young = begun.opened.as_ref().is_some_and(Opened::begun_at_random);
        let lots = decided.as_ref().is_some_and(|it| it.strategy.size.verdict == DatasetSize::Lots);
        let mut candidates = Vec::new();
        for &method in &methods {
            let resolving = Resolving { recipe: &recipe, method, data: &data, young, lots, head: begun_with };
            let (preprocessing, probe) = (begun.preprocessing.as_ref(), probe.as_mut());
            candidates.push(resolving.candidate(probe, preprocessing, &mut notes, &mut mistakes)?);
        }
        if method.is_by_gradient() {
            compare_on_some(&mut candidates);
        }
        recipe.refuse(each_once(mistakes))?;
        let Some(decided) = decided else { return Err(incomplete()) };
        let typed_threads = recipe.threads.filter(|_| overrides.threads.is_none());
        let draft =
            Draft { recipe, asked, method, methods, begun, machine, data, decided, head, eval, notes };
        draft.finish(candidates, typed_threads)
    }
}

/// A plan without mistakes, before its notes and settings are put together.
struct Draft {
    recipe: Recipe,
    asked: Method,
    method: Method,
    /// The method, and what is resolved beside it.
    methods: Vec<Method>,
    begun: Beginning,
    machine: Machine,
    data: Data,
    decided: Decided,
    head: Option<SourceHead>,
    eval: Option<Views>,
    notes: Vec<String>,
}

impl Draft {
    fn finish(self, mut candidates: Vec<Candidate>, typed_threads: Option<usize>) -> Result<Plan> {
        let Draft { recipe, asked, method, methods, begun, machine, data, decided, head, eval, mut notes } =
            self;
        let Beginning { source: Some(source), opened, preprocessing: Some(preprocessing) } = begun else {
            return Err(incomplete());
        };
        notes.extend(source_notes(&source, opened.as_ref(), method, preprocessing.crop_size));
        // The command has already reported on `--threads`.
        notes.extend(typed_threads.and_then(device::too_many_threads));
        notes.extend(data.imbalance().filter(|_| recipe.train.class_weights.is_none()));
        notes.extend(fit::note(&data, &preprocessing));
        notes.extend(fit::too_dark(&data, &preprocessing, data_settings(&recipe, &data).limits()));
        let taken = method != Method::Race && head.is_some_and(|head| head.is_the_same());
        notes.extend(unused_keys(&recipe, &methods, asked, taken));
        notes.extend(fit::unused_keys(&recipe, &preprocessing));
        notes.extend(head.and_then(|_| drawn_anew(&recipe, &source, &data)));
        notes.extend(methods.iter().flat_map(|&method| warnings(&recipe, &source, method)));
        if method == Method::Race {
            let race = race::settings(&recipe, candidates, &data, &mut notes);
            let (frozen_stages, trained_stages) = (Vec::new(), Vec::new());
            let training = Training::Race { race };
            candidates = vec![Candidate { method, frozen_stages, trained_stages, training }];
        }
        let mut candidates = candidates.into_iter();
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
            candidate: candidates.next().ok_or_else(incomplete)?,
            rival: candidates.next(),
            average: asked == Method::Auto && recipe.strategy.average.unwrap_or(true),
            eval,
            tensorboard: recipe.train.tensorboard.unwrap_or(false),
            seed: machine.seed,
            device: machine.device,
            threads: machine.threads,
            out: machine.out,
        };
        // Methods of a race may have the same notes.
        let notes = each_once(notes);
        Ok(Plan { settings, source, opened, data, notes, recipe, head, rate: decided.rate })
    }
}

/// A missing part has left a mistake, and mistakes are refused before.
fn incomplete() -> crate::Error {
    crate::Error::run("the plan is incomplete though no mistake was found")
}

fn each_once<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut once = Vec::new();
    for item in items {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    once
}

/// The methods to resolve: those of a race, or the trained one and its rival.
fn methods(
    recipe: &Recipe,
    method: Method,
    decided: Option<&Decided>,
    begun: &Beginning,
    probe: Option<&Network>,
    data: &Data,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Method> {
    if method == Method::Race {
        return race::methods(recipe, begun.source.as_ref(), probe, data, mistakes);
    }
    let rival = decided.and_then(|decided| decided.choice.rival);
    // A model made by `stages` has its stages chosen.
    let chosen = probe.is_some_and(|probe| !probe.head_taps().is_empty());
    std::iter::once(method).chain(rival.filter(|_| !chosen)).collect()
}

/// Lets heads beside fine-tuning be compared on [`COMPARE_ON`] images a class: with many images,
/// cross-validation on all would take as long as the fine-tuning.
fn compare_on_some(candidates: &mut [Candidate]) {
    for candidate in candidates.iter_mut().skip(1) {
        match &mut candidate.training {
            Training::Heads { linear } if !linear.stages.is_empty() => {
                linear.compare_on.get_or_insert(COMPARE_ON);
            }
            _ => {}
        }
    }
}

/// Notes on a run's initial weights.
fn source_notes(source: &Source, opened: Option<&Opened>, method: Method, side: u32) -> Vec<String> {
    let mut notes: Vec<String> = opened.iter().flat_map(|opened| opened.warnings()).collect();
    notes.extend(opened.and_then(Opened::note_of_two));
    if !method.is_from_random() {
        notes.extend(opened.map_or_else(|| source.note(side), |opened| opened.note(side)));
    }
    notes
}

/// The initial network of a run, as far as the recipe is right.
struct Beginning {
    source: Option<Source>,
    opened: Option<Opened>,
    preprocessing: Option<Preprocessing>,
}

impl Beginning {
    fn of(recipe: &Recipe, asked: Method, mistakes: &mut Vec<Mistake>) -> Self {
        let source = source(recipe, asked, mistakes);
        let opened = source.as_ref().and_then(|source| open(recipe, source, mistakes));
        let preprocessing =
            source.as_ref().and_then(|source| preprocessing(recipe, source, opened.as_ref(), mistakes));
        if let (Some(source), Some(opened), Some(preprocessing)) = (&source, &opened, &preprocessing) {
            check_weights(recipe, source, opened, preprocessing, mistakes);
        }
        Beginning { source, opened, preprocessing }
    }

    /// Chooses the method, if there is a network; this may open its file.
    fn decide(
        &mut self,
        recipe: &Recipe,
        asked: Method,
        data: &Data,
        machine: &Machine,
        watch: &Watch,
    ) -> Result<Option<Decided>> {
        let (Some(source), Some(preprocessing)) = (&self.source, &self.preprocessing) else {
            return Ok(None);
        };
        let decision = Decision {
            recipe,
            source,
            preprocessing,
            data,
            limits: data_settings(recipe, data).limits(),
            seed: machine.seed,
            device: machine.device,
            threads: machine.threads,
            earlier: machine.earlier.as_deref(),
        };
        decision.make(asked, &mut self.opened, watch).map(Some)
    }

    /// The network without values, to look up its stages.
    fn probe(&self) -> Result<Option<Network>> {
        match (&self.source, &self.opened) {
            (_, Some(opened)) => opened.network(2, DEFAULT_SIDE as u32, Device::Cpu, Fill::Shapes).map(Some),
            (Some(source), None) => Network::new(source.architecture, 2, Device::Cpu, Fill::Shapes).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn views(&self, recipe: &Recipe, mistakes: &mut Vec<Mistake>) -> Option<Views> {
        let name = self.source.as_ref().map_or("the network", |source| source.architecture.name);
        views(recipe, name, self.preprocessing.as_ref()?, mistakes)
    }
}

/// Where a run takes place.
struct Machine {
    seed: u64,
    device: DeviceChoice,
    threads: usize,
    out: PathBuf,
    /// The plan of the run to resume, if there is one.
    earlier: Option<PathBuf>,
}

impl Machine {
    fn of(
        recipe: &Recipe,
        overrides: &Overrides,
        notes: &mut Vec<String>,
        mistakes: &mut Vec<Mistake>,
    ) -> Result<Self> {
        let device = device(recipe, overrides, mistakes)?;
        notes.extend(device::fallen_back(overrides.device.or(recipe.device).unwrap_or_default()));
        if device == DeviceChoice::Cpu {
            notes.extend(recipe.train.precision.and_then(|precision| precision.note(Device::Cpu)));
        }
        let out = overrides.out.clone().unwrap_or_else(|| recipe.out_folder());
        Ok(Machine {
            seed: recipe.seed.unwrap_or(0),
            device,
            threads: overrides.threads.or(recipe.threads).unwrap_or_else(device::default_threads),
            earlier: overrides.resume.then(|| out.join(PLAN_FILE)),
            out,
        })
    }
}

/// A method to be resolved.
struct Resolving<'a> {
    recipe: &'a Recipe,
    method: Method,
    /// Whether the weights are [`Opened::begun_at_random`].
    young: bool,
    /// Whether there is lots of data.
    lots: bool,
    /// Which of the classes the source's own head knows.
    head: Option<SourceHead>,
    data: &'a Data,
}

impl Resolving<'_> {
    /// All settings of the method, for the network with `probe`'s shape.
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
        let trained = TrainingFacts {
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

/// Which of these classes the head of a model trained by `tl` knows, if any.
fn source_head(opened: &Opened, classes: &[String]) -> Option<SourceHead> {
    let of = opened.card.as_ref()?.classes.len();
    let known = opened.head_rows(classes).iter().flatten().count();
    (known > 0).then_some(SourceHead { known, new: classes.len() - known, of })
}

/// A note that a model for these classes may have learnt from images of this run's validation or
/// test, unless its own run had the same parts.
fn drawn_anew(recipe: &Recipe, source: &Source, data: &Data) -> Option<String> {
    let (Weights::Model(path) | Weights::File(path)) = &source.weights else { return None };
    if matches!(recipe.data.val, Some(ValChoice::Path(_))) || data.val_column.is_some() {
        return None;
    }
    // A folder of models without a plan, or with another file of this name, says nothing.
    let plan: serde_yaml::Value =
        file::read(&path.with_file_name(PLAN_FILE)).ok().flatten().unwrap_or_default();
    let fingerprint = plan.get("data").and_then(|data| data.get("listing")).and_then(|it| it.as_str());
    (fingerprint != Some(&data.fingerprint())).then(|| {
        "the validation images are drawn from `data.train` by lot, and the model to begin with may have learnt from some of \
         them, for which val accuracy would be too good: give `data.val` a folder or a .csv that it has not seen"
            .into()
    })
}

/// The available device; an unavailable one in a recipe is a mistake of the recipe.
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

/// The views of the last measurement, unless they are the default one.
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
        _ if method.is_from_random() => "none".into(),
        // As typed: an absolute path would make the same run a different one elsewhere.
        Weights::File(_) => recipe.weights.clone().unwrap_or_default(),
        Weights::Model(_) => recipe.model.clone().unwrap_or_default(),
        _ => source.describe(),
    }
}

fn data_settings(recipe: &Recipe, data: &Data) -> DataSettings {
    let typed = &recipe.data;
    // A published set has its own, and a CSV may.
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
