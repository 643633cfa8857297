//! Splits one set into training and validation images.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dataset, Sample};
use crate::text::words::{counted, first_few};

/// Training and validation samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Indices into [`Dataset::samples`], ascending.
    pub train: Vec<usize>,
    /// Indices into [`Dataset::samples`], ascending. Empty if every class has a single image.
    pub val: Vec<usize>,
    /// Notes on what looks odd, a sentence each, to be shown once.
    pub notes: Vec<String>,
}

/// Sets the share `fraction` (between 0 and 1) of each class aside for validation.
///
/// A class of `n` images gives `fraction * n`, rounded, but at least one and at most `n - 1`, so
/// that each class is trained and, if it has two images, measured. The choice is a function of the
/// seed and each image's name alone: equal on every machine, and an added image moves few others.
///
/// `contents` gives each sample the index of the first one with the same bytes
/// ([`first_of_each_content`](super::first_of_each_content)). Copies stay on one side: a model is
/// not measured on what it has seen. A picture that lies in several classes is trained on, because
/// it can measure nothing. Only if nothing would be left to measure on are copies split like other
/// images, with a note.
pub fn split(dataset: &Dataset, contents: &[usize], fraction: f64, seed: u64) -> Split {
    let apart = split_groups(dataset, contents, fraction, seed);
    let alone: Vec<usize> = (0..dataset.samples.len()).collect();
    if !apart.val.is_empty() || contents == alone {
        return apart;
    }
    let mut split = split_groups(dataset, &alone, fraction, seed);
    if !split.val.is_empty() {
        split.notes.push(
            "every class is made of copies of one picture, or shares its pictures with other classes: the \
             validation images are copies of training images, and their accuracy says nothing about new ones"
                .into(),
        );
    }
    split
}

/// The images of one content in one class.
struct Group {
    draw: u64,
    images: Vec<usize>,
}

fn split_groups(dataset: &Dataset, contents: &[usize], fraction: f64, seed: u64) -> Split {
    let ambiguous = ambiguous(dataset, contents);
    let mut by_class: Vec<BTreeMap<usize, Vec<usize>>> = vec![BTreeMap::new(); dataset.classes.len()];
    for (i, sample) in dataset.samples.iter().enumerate() {
        by_class[sample.label].entry(contents[i]).or_default().push(i);
    }
    let mut split = Split::default();
    let (mut single, mut copies) = (Vec::new(), Vec::new());
    for (class, contents) in dataset.classes.iter().zip(by_class) {
        let n: usize = contents.values().map(Vec::len).sum();
        let aside = ((fraction * n as f64).round() as usize).max(1).min(n.saturating_sub(1));
        match (n, contents.len()) {
            (1, _) => single.push(class),
            (_, 1) => copies.push(class),
            _ => {}
        }
        let (kept, free): (Vec<_>, Vec<_>) =
            contents.into_iter().partition(|(content, _)| ambiguous.contains(content));
        split.train.extend(kept.iter().flat_map(|(_, images)| images));
        let mut groups: Vec<Group> = free
            .into_iter()
            .map(|(_, images)| {
                // By the least name, not the least draw, which more copies would lower.
                let name = images.iter().map(|&i| &dataset.samples[i].name).min();
                Group { draw: draw(seed, name.map_or("", |name| name)), images }
            })
            .collect();
        groups.sort_unstable_by_key(|group| (group.draw, group.images[0]));
        let taken = taken(&groups, aside, kept.is_empty());
        for (group, taken) in groups.into_iter().zip(taken) {
            if taken { split.val.extend(group.images) } else { split.train.extend(group.images) }
        }
    }
    split.train.sort_unstable();
    split.val.sort_unstable();
    if !single.is_empty() {
        let what = counted(single.len(), "class has", "classes have");
        split.notes.push(format!(
            "{what} one image alone, used for training, so not validated: {}",
            first_few(&single)
        ));
    }
    if !copies.is_empty() {
        let what = counted(copies.len(), "class is", "classes are");
        split.notes.push(format!(
            "{what} made of copies of one picture, used for training, so not validated: {}",
            first_few(&copies)
        ));
    }
    split
}

/// The groups that make up the `aside` images to set aside: each that still fits, in the order
/// drawn; the smallest if none does. `all` says that these are all of the class, so that one must
/// stay.
fn taken(groups: &[Group], aside: usize, all: bool) -> Vec<bool> {
    let mut left = aside;
    let mut taken: Vec<bool> = groups
        .iter()
        .map(|group| {
            let fits = group.images.len() <= left;
            left -= if fits { group.images.len() } else { 0 };
            fits
        })
        .collect();
    let enough = if all { 2 } else { 1 };
    if aside > 0 && left == aside && groups.len() >= enough {
        let smallest = (0..groups.len()).min_by_key(|&index| groups[index].images.len());
        smallest.into_iter().for_each(|index| taken[index] = true);
    }
    taken
}

/// The contents that occur in more than one class.
fn ambiguous(dataset: &Dataset, contents: &[usize]) -> BTreeSet<usize> {
    let labels = |(sample, &content): (&Sample, &usize)| {
        (sample.label != dataset.samples[content].label).then_some(content)
    };
    dataset.samples.iter().zip(contents).filter_map(labels).collect()
}

/// A pseudo-random number from the seed and the name: FNV-1a over the name, then splitmix64's
/// finalizer, which makes every bit of both count (Steele, Lea, Flood 2014).
fn draw(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(mix(seed).wrapping_add(hash))
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
