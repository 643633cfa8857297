//! Training and validation images out of one set.

use super::Dataset;
use crate::wording::{counted, first_few};

/// Which samples train and which validate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Indices into [`Dataset::samples`], rising.
    pub train: Vec<usize>,
    /// Indices into [`Dataset::samples`], rising. Empty when every class has one image alone.
    pub val: Vec<usize>,
    /// What looks odd, a sentence each, to be said once.
    pub notes: Vec<String>,
}

/// Sets the share `fraction` (between 0 and 1) of each class aside for validation.
///
/// A class of `n` images gives `fraction * n`, rounded, but one at least and `n - 1` at most, so that each
/// class is trained and, if it has two images, measured. Which ones is a function of the seed and of each
/// image's name alone: equal on every machine, and an image that is added moves few others.
pub fn split(dataset: &Dataset, fraction: f64, seed: u64) -> Split {
    let mut by_class: Vec<Vec<(u64, usize)>> = vec![Vec::new(); dataset.classes.len()];
    for (i, sample) in dataset.samples.iter().enumerate() {
        by_class[sample.label].push((draw(seed, &sample.name), i));
    }
    let mut split = Split::default();
    let mut single = Vec::new();
    for (class, mut drawn) in dataset.classes.iter().zip(by_class) {
        drawn.sort_unstable();
        let n = drawn.len();
        let aside = ((fraction * n as f64).round() as usize).max(1).min(n.saturating_sub(1));
        if n == 1 {
            single.push(class);
        }
        split.val.extend(drawn[..aside].iter().map(|&(_, i)| i));
        split.train.extend(drawn[aside..].iter().map(|&(_, i)| i));
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
    split
}

/// A number that looks random and depends on the seed and the name: FNV-1a over the name, then splitmix64's
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
