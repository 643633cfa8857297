//! Images that are there more than once: what is measured on is not trained on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use crate::dataset::{Dataset, Sample, first_of_each_content};
use crate::error::Result;
use crate::wording::{counted, first_few};

/// The images as listed, before any are set aside for validation.
pub(super) struct Parts {
    /// `data.train`.
    pub listed: Dataset,
    /// `data.val`, where it is a path.
    pub val: Option<Vec<Sample>>,
    /// `data.test`.
    pub test: Option<Vec<Sample>>,
}

/// What [`keep_apart`] has found.
pub(super) struct Apart {
    /// For each training image that is left the index of the first one with the same bytes.
    pub contents: Vec<usize>,
    /// Worth knowing.
    pub notes: Vec<String>,
    /// Keys of the recipe, and what is wrong with them.
    pub mistakes: Vec<(&'static str, String)>,
}

/// Takes the images that `data.val` or `data.test` holds too out of the training images, files being the same
/// if their bytes are.
pub(super) fn keep_apart(parts: &mut Parts, threads: usize) -> Result<Apart> {
    let all: Vec<&Sample> = samples(parts).collect();
    let paths: Vec<&Path> = all.iter().map(|sample| sample.path.as_path()).collect();
    let first = first_of_each_content(&paths, threads)?;
    let (mut notes, mut mistakes) = (Vec::new(), Vec::new());
    notes.extend(several_classes(&all, &first, &parts.listed.classes));

    let train = parts.listed.samples.len();
    let val = parts.val.as_ref().map_or(0, Vec::len);
    let (trained, measured) = first.split_at(train);
    let (in_val, in_test) = measured.split_at(val);
    notes.extend(test_in_val(parts, in_val, in_test));

    let mut gone = HashSet::new();
    for (key, part) in [("data.val", in_val), ("data.test", in_test)] {
        let part: HashSet<usize> = part.iter().copied().collect();
        let shared: Vec<usize> =
            (0..train).filter(|&i| part.contains(&trained[i]) && !gone.contains(&i)).collect();
        if shared.is_empty() {
            continue;
        }
        let names: Vec<&str> = shared.iter().map(|&i| parts.listed.samples[i].name.as_str()).collect();
        let what = counted(shared.len(), "training image is", "training images are");
        notes.push(format!(
            "{what} in `{key}` too ({}), compared by content: not trained on, so that the model is measured on \
             images that are new to it",
            first_few(&names)
        ));
        gone.extend(shared);
        if let Some(message) = bereft(&parts.listed, &gone, key) {
            mistakes.push((key, message));
            break;
        }
    }

    // Where the first of a kind was taken out, all of the kind were.
    let left: Vec<usize> = (0..train).filter(|i| !gone.contains(i)).collect();
    let place: HashMap<usize, usize> = left.iter().enumerate().map(|(new, &old)| (old, new)).collect();
    let contents: Vec<usize> =
        left.iter().enumerate().map(|(new, &old)| place.get(&trained[old]).copied().unwrap_or(new)).collect();
    let mut index = 0..;
    parts.listed.samples.retain(|_| index.next().is_some_and(|i: usize| !gone.contains(&i)));
    notes.extend(copies_in_train(&parts.listed, &contents, parts.val.is_none()));
    Ok(Apart { contents, notes, mistakes })
}

fn samples(parts: &Parts) -> impl Iterator<Item = &Sample> {
    parts.listed.samples.iter().chain(parts.val.iter().flatten()).chain(parts.test.iter().flatten())
}

/// One picture under several labels cannot be learnt: at most one of them is right.
fn several_classes(all: &[&Sample], first: &[usize], classes: &[String]) -> Option<String> {
    let mut labels: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (sample, &content) in all.iter().zip(first) {
        labels.entry(content).or_default().insert(sample.label);
    }
    let names: Vec<String> = labels
        .iter()
        .filter(|(_, labels)| labels.len() > 1)
        .map(|(&content, labels)| {
            let labels: Vec<&str> = labels.iter().map(|&label| classes[label].as_str()).collect();
            format!("{} ({})", all[content].name, labels.join(", "))
        })
        .collect();
    let what = counted(names.len(), "picture is", "pictures are");
    (!names.is_empty()).then(|| {
        format!(
            "{what} in more than one class, compared by content: {}; at most one of the labels is right, please \
             look at them",
            first_few(&names)
        )
    })
}

fn test_in_val(parts: &Parts, in_val: &[usize], in_test: &[usize]) -> Option<String> {
    let val: HashSet<usize> = in_val.iter().copied().collect();
    let test = parts.test.iter().flatten();
    let names: Vec<&str> = test
        .zip(in_test)
        .filter(|(_, content)| val.contains(content))
        .map(|(sample, _)| sample.name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} of the {} images of `data.test` are in `data.val` too ({}): the model is chosen by them, so that the \
             test accuracy will be a little too good",
            names.len(),
            in_test.len(),
            first_few(&names)
        )
    })
}

/// What to say when classes are left without a training image.
fn bereft(listed: &Dataset, gone: &HashSet<usize>, key: &str) -> Option<String> {
    let mut left = vec![0; listed.classes.len()];
    for (index, sample) in listed.samples.iter().enumerate() {
        left[sample.label] += usize::from(!gone.contains(&index));
    }
    let classes: Vec<&String> =
        listed.classes.iter().zip(left).filter(|(_, left)| *left == 0).map(|(class, _)| class).collect();
    let remedy = match key {
        "data.val" => "name other images, or write `val: 0.2`, which holds a fifth of `data.train` back",
        _ => "name other images to test on, or leave `data.test` out",
    };
    let what = counted(classes.len(), "class", "classes");
    (!classes.is_empty()).then(|| {
        format!(
            "an image is either trained on or measured on, and here are all the training images of {what} ({}): \
             {remedy}",
            first_few(&classes)
        )
    })
}

/// Copies count more than once, which may be meant and may be a slip.
fn copies_in_train(listed: &Dataset, contents: &[usize], split: bool) -> Option<String> {
    let names: Vec<String> = contents
        .iter()
        .enumerate()
        .filter(|&(index, &first)| index != first)
        .map(|(index, &first)| format!("{} = {}", listed.samples[index].name, listed.samples[first].name))
        .collect();
    let what = counted(names.len(), "image of `data.train` is a copy", "images of `data.train` are copies");
    let then = match split {
        true => "copies stay on one side, in training or in validation",
        false => "each is trained on",
    };
    (!names.is_empty())
        .then(|| format!("{what} of another one there, compared by content ({}): {then}", first_few(&names)))
}
