//! Duplicate images: validation and test images are not trained on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::data::{Dataset, Sample, first_of_each_content};
use crate::error::Result;
use crate::preprocess::ImageAt;
use crate::text::words::{are, counted, first_few};

/// The images as listed, before any are set aside for validation.
pub(super) struct Parts {
    /// `data.train`.
    pub listed: Dataset,
    /// `data.val`, if it is a path.
    pub val: Option<Vec<Sample>>,
    /// `data.test`.
    pub test: Option<Vec<Sample>>,
}

/// Result of [`keep_apart`].
pub(super) struct Apart {
    /// For each remaining training image the index of the first one with the same bytes.
    pub contents: Vec<usize>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Removes training images that are also in `data.val` or `data.test`, comparing files by their
/// bytes. A class that would lose all of its images keeps them: then only a note can help.
pub(super) fn keep_apart(parts: &mut Parts, threads: usize) -> Result<Apart> {
    let all: Vec<&Sample> = samples(parts).collect();
    let images: Vec<ImageAt> = all.iter().map(|sample| sample.image()).collect();
    let first = first_of_each_content(&images, threads)?;
    let mut notes = Vec::new();
    notes.extend(several_classes(&all, &first, &parts.listed.classes));

    let train = parts.listed.samples.len();
    let val = parts.val.as_ref().map_or(0, Vec::len);
    let (trained, measured) = first.split_at(train);
    let (in_val, in_test) = measured.split_at(val);
    notes.extend(test_in_val(parts, in_val, in_test));

    let mut gone = HashSet::new();
    for (key, part) in [("data.val", in_val), ("data.test", in_test)] {
        let held: HashSet<usize> = part.iter().copied().collect();
        let shared: Vec<usize> =
            (0..train).filter(|&i| held.contains(&trained[i]) && !gone.contains(&i)).collect();
        let bereft = bereft(&parts.listed, &gone, &shared);
        let (stay, go): (Vec<usize>, Vec<usize>) =
            shared.into_iter().partition(|&i| bereft.contains(&parts.listed.samples[i].label));
        notes.extend(taken_out(&parts.listed, key, &go));
        gone.extend(go);
        let stay: Vec<(usize, usize)> =
            stay.iter().map(|&i| (parts.listed.samples[i].label, trained[i])).collect();
        notes.extend(trained_on(&parts.listed.classes, key, &stay, part));
    }

    let mut place = HashMap::new();
    let left = (0..train).filter(|i| !gone.contains(i));
    let contents: Vec<usize> =
        left.enumerate().map(|(new, old)| *place.entry(trained[old]).or_insert(new)).collect();
    let mut index = 0..;
    parts.listed.samples.retain(|_| index.next().is_some_and(|i: usize| !gone.contains(&i)));
    notes.extend(copies_in_train(&parts.listed, &contents, parts.val.is_none()));
    Ok(Apart { contents, notes })
}

fn samples(parts: &Parts) -> impl Iterator<Item = &Sample> {
    parts.listed.samples.iter().chain(parts.val.iter().flatten()).chain(parts.test.iter().flatten())
}

/// A note on pictures with several labels, which cannot be learnt: at most one label is right.
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
            "{} in `data.val` too ({}): the model is chosen by such, so that the test accuracy will be a little too good",
            some_of(names.len(), in_test.len(), "data.test"),
            first_few(&names)
        )
    })
}

/// `1 of the 7 images of `data.test` is`.
fn some_of(some: usize, all: usize, key: &str) -> String {
    let images = counted(all, "image", "images");
    format!("{some} of the {images} of `{key}` {}", are(some))
}

/// The classes that would have no training image without `shared`.
fn bereft(listed: &Dataset, gone: &HashSet<usize>, shared: &[usize]) -> HashSet<usize> {
    let shared: HashSet<usize> = shared.iter().copied().collect();
    let mut left: HashSet<usize> = (0..listed.classes.len()).collect();
    for (index, sample) in listed.samples.iter().enumerate() {
        if !gone.contains(&index) && !shared.contains(&index) {
            left.remove(&sample.label);
        }
    }
    left
}

fn taken_out(listed: &Dataset, key: &str, images: &[usize]) -> Option<String> {
    let names: Vec<&str> = images.iter().map(|&i| listed.samples[i].name.as_str()).collect();
    let what = counted(images.len(), "training image is", "training images are");
    (!images.is_empty()).then(|| {
        format!(
            "{what} in `{key}` too, compared by content ({}): left out of training, so that the model is measured \
             on images that are new to it",
            first_few(&names)
        )
    })
}

/// A note on images of `part` that are trained on. `stay` are label and content of the training
/// images that `part` contains too.
fn trained_on(classes: &[String], key: &str, stay: &[(usize, usize)], part: &[usize]) -> Option<String> {
    let contents: HashSet<usize> = stay.iter().map(|&(_, content)| content).collect();
    let both = part.iter().filter(|content| contents.contains(content)).count();
    let labels: BTreeSet<usize> = stay.iter().map(|&(label, _)| label).collect();
    let names: Vec<&String> = labels.iter().map(|&label| &classes[label]).collect();
    let what = counted(names.len(), "class", "classes");
    let remedy = match key {
        "data.val" => "name other images, or write `val: 0.2` to hold a fifth of `data.train` back",
        _ => "name other images to test on",
    };
    (both > 0).then(|| {
        format!(
            "{} trained on too: its accuracy will be too good to be true. The training images of {what} ({}) are all such, and \
             could not be left out: {remedy}",
            some_of(both, part.len(), key),
            first_few(&names)
        )
    })
}

/// A note on copies, which count more than once: this may be intended or a mistake.
fn copies_in_train(listed: &Dataset, contents: &[usize], split: bool) -> Option<String> {
    // Within their class: pictures in several classes have their own note.
    let mut original = HashMap::new();
    let mut names = Vec::new();
    for (index, (sample, &content)) in listed.samples.iter().zip(contents).enumerate() {
        let first = *original.entry((content, sample.label)).or_insert(index);
        if first != index {
            names.push(format!("{} = {}", sample.name, listed.samples[first].name));
        }
    }
    let what = counted(names.len(), "image of `data.train` is a copy", "images of `data.train` are copies");
    let then = match split {
        true => "copies stay on one side, in training or in validation",
        false => "each is trained on",
    };
    (!names.is_empty())
        .then(|| format!("{what} of another one there, compared by content ({}): {then}", first_few(&names)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_is_and_several_are() {
        assert_eq!(some_of(1, 1, "data.val"), "1 of the 1 image of `data.val` is");
        assert_eq!(some_of(1, 7, "data.test"), "1 of the 7 images of `data.test` is");
        assert_eq!(some_of(2, 7, "data.test"), "2 of the 7 images of `data.test` are");
        let classes = ["cat".to_string()];
        let told = trained_on(&classes, "data.val", &[(0, 5)], &[5, 6]).unwrap();
        insta::assert_snapshot!(told, @"1 of the 2 images of `data.val` is trained on too: its accuracy will be too good to be true. The training images of 1 class (cat) are all such, and could not be left out: name other images, or write `val: 0.2` to hold a fifth of `data.train` back");
    }
}
