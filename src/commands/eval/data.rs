//! The labelled images, and which of them are measured on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::super::named::{Classifier, Named, Seen};
use crate::data::{Dataset, content_hashes, read_to_measure};
use crate::error::{Error, Result};
use crate::preprocess::ImageAt;
use crate::text::path_text::path_text;
use crate::text::words::{counted, did_you_mean, first_few, shown};
use crate::util::signal::Signals;
use crate::weights::seen::SeenImages;

/// Labelled images.
pub struct Labelled {
    /// As it can be opened.
    pub path: PathBuf,
    /// The images; their labels are indices into its own classes.
    pub dataset: Dataset,
    /// What was left out in reading, or looks odd.
    pub notes: Vec<String>,
}

/// The images that are measured on.
pub struct Chosen {
    /// Indices of the images, ascending.
    pub images: Vec<usize>,
    /// For each model the labels of these images, as indices into its classes.
    pub labels: Vec<Vec<usize>>,
    /// Indices of the images that are left out because a model has learnt from them.
    pub learnt: Vec<usize>,
    /// Labels that a model does not have, and their images.
    pub unknown: BTreeMap<String, usize>,
    /// Sentences for the user.
    pub notes: Vec<String>,
}

impl Labelled {
    /// Reads the list of images.
    pub fn read(path: &Path) -> Result<Self> {
        let mut dataset = read_to_measure(path)?;
        let notes = std::mem::take(&mut dataset.notes);
        Ok(Labelled { path: path.into(), dataset, notes })
    }

    /// The name of an image as outputs spell it.
    pub fn name(&self, image: usize) -> String {
        path_text(&self.dataset.samples[image].path).into_owned()
    }

    /// The label of an image.
    pub fn label(&self, image: usize) -> &str {
        &self.dataset.classes[self.dataset.samples[image].label]
    }

    /// The images whose label every model has, and from which none has learnt, unless `all`.
    pub fn choose(
        &self,
        named: &[Named],
        classifiers: &[Classifier],
        all: bool,
        threads: usize,
        signals: &Signals,
    ) -> Result<Chosen> {
        let mut notes = Vec::new();
        let places: Vec<Vec<Option<usize>>> = classifiers.iter().map(|it| self.places(&it.classes)).collect();
        for ((model, classifier), places) in named.iter().zip(classifiers).zip(&places) {
            notes.extend(self.note_unknown(model.name, &classifier.classes, places)?);
        }
        let samples = &self.dataset.samples;
        let known = |image: &usize| places.iter().all(|places| places[samples[*image].label].is_some());
        let (known, strange): (Vec<usize>, Vec<usize>) = (0..samples.len()).partition(known);
        if known.is_empty() {
            return Err(Error::usage(format!(
                "no image of {} has a label that all the models have",
                path_text(&self.path)
            )));
        }
        let mut unknown = BTreeMap::new();
        strange.iter().for_each(|&image| *unknown.entry(self.label(image).to_string()).or_default() += 1);
        let untold = named.iter().zip(classifiers).filter(|(_, it)| matches!(it.seen, Seen::Untold));
        notes.extend(untold.map(|(model, _)| untold_note(model.name)));
        let learnt = self.learnt(&known, classifiers, threads, signals)?;
        notes.extend(self.note_learnt(&learnt, known.len(), named, all)?);
        let learnt = if all { Vec::new() } else { learnt };
        let is_new = |image: &usize| learnt.binary_search(image).is_err();
        let images: Vec<usize> = known.into_iter().filter(is_new).collect();
        let labels = places.iter().map(|places| {
            // `known` images have a place in each.
            images.iter().filter_map(|&image| places[samples[image].label]).collect()
        });
        Ok(Chosen { labels: labels.collect(), images, learnt, unknown, notes })
    }

    /// For each label its index among a model's classes, the first one of that name.
    fn places(&self, classes: &[String]) -> Vec<Option<usize>> {
        let mut first = HashMap::new();
        classes.iter().enumerate().for_each(|(place, class)| {
            first.entry(class.as_str()).or_insert(place);
        });
        self.dataset.classes.iter().map(|label| first.get(label.as_str()).copied()).collect()
    }

    /// A note on the labels that a model does not have.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has none of them.
    fn note_unknown(
        &self,
        model: &str,
        classes: &[String],
        places: &[Option<usize>],
    ) -> Result<Option<String>> {
        let counts = self.dataset.counts();
        let labels = &self.dataset.classes;
        let missing: Vec<usize> = (0..labels.len()).filter(|&label| places[label].is_none()).collect();
        if missing.len() == labels.len() {
            let names: Vec<&String> = labels.iter().collect();
            return Err(Error::usage(format!(
                "{model} has none of the labels of {}: found {}; its classes are {}",
                path_text(&self.path),
                first_few(&names),
                first_few(classes)
            )));
        }
        let images: usize = missing.iter().map(|&label| counts[label]).sum();
        let told = |&label: &usize| {
            let near = did_you_mean(&labels[label], classes.iter().map(String::as_str));
            format!("{} ({}{near})", shown(&labels[label]), counted(counts[label], "image", "images"))
        };
        let told: Vec<String> = missing.iter().map(told).collect();
        let lacks = counted(missing.len(), "label is no class", "labels are no classes");
        let left = counted(images, "image is", "images are");
        Ok((images > 0).then(|| format!("{lacks} of {model}, and {left} left out: {}", first_few(&told))))
    }

    /// The images of `images` that some model has learnt from.
    fn learnt(
        &self,
        images: &[usize],
        classifiers: &[Classifier],
        threads: usize,
        signals: &Signals,
    ) -> Result<Vec<usize>> {
        let told = classifiers.iter().filter_map(|classifier| match &classifier.seen {
            Seen::Images(seen) => Some(seen),
            Seen::Untold | Seen::Elsewhere => None,
        });
        let told: Vec<&SeenImages> = told.collect();
        if told.is_empty() {
            return Ok(Vec::new());
        }
        let at = |&image: &usize| self.dataset.samples[image].image();
        let files: Vec<ImageAt> = images.iter().map(at).collect();
        let check = || signals.check("stopped before the first image: nothing was written");
        let hashes = content_hashes(&files, threads, check)?;
        let is_learnt = |hash: u64| told.iter().any(|seen| seen.contains(hash));
        let learnt = images.iter().zip(hashes).filter(|(_, hash)| hash.is_some_and(is_learnt));
        Ok(learnt.map(|(&image, _)| image).collect())
    }

    /// A note on `learnt`, among `images` of them. `all`: they are measured on.
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing is left.
    fn note_learnt(
        &self,
        learnt: &[usize],
        images: usize,
        named: &[Named],
        all: bool,
    ) -> Result<Option<String>> {
        if learnt.is_empty() {
            return Ok(None);
        }
        let whose = if named.len() == 1 { named[0].name } else { "one of the models" };
        let of = format!("{} of {}", learnt.len(), counted(images, "image", "images"));
        let has = format!("{whose} has learnt from {of}, or was chosen by them");
        let names: Vec<String> = learnt.iter().map(|&image| self.name(image)).collect();
        match all {
            true => Ok(Some(format!("{has}: the figures are better than on new images"))),
            false if learnt.len() == images => Err(Error::usage(format!(
                "{has}: nothing is left to measure on; `--include-training` measures on them all the same"
            ))),
            false => Ok(Some(format!(
                "{has}; they are left out, unless `--include-training` is given: {}",
                first_few(&names)
            ))),
        }
    }
}

fn untold_note(model: &str) -> String {
    format!(
        "{model} does not say which images it has learnt from (an earlier version of tl wrote it, or they were more than \
         {}): are these new to it?",
        SeenImages::MOST
    )
}
