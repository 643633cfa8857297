//! `tl models`: the available networks.

use super::Outcome;
use super::args::Common;
use super::terminal::print;
use crate::error::{Error, Result};
use crate::models::{Architecture, WeightEntry, architectures};
use crate::text::suggest;
use crate::weights::installed;

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Part of a name, or a pattern such as 'resnet*'
    pub filter: Option<String>,
    /// The order of the rows
    #[arg(long, value_enum, default_value_t = SortBy::Family)]
    pub sort: SortBy,
}

/// How `tl models` is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SortBy {
    /// By family, as torchvision has them
    Family,
    /// By name
    Name,
    /// By ImageNet accuracy, best first
    Acc,
    /// By number of parameters, least first
    Params,
    /// By multiply-adds, least first
    Gflops,
}

/// Prints a row for each of a network's weights.
pub fn run(args: &Args, _: &Common) -> Result<Outcome> {
    let filter = args.filter.as_deref().unwrap_or("*");
    let mut entries: Vec<Entry> = architectures()
        .filter(|architecture| matches(filter, architecture.name))
        .flat_map(|architecture| {
            let alone = architecture.weights().is_empty().then_some((architecture, None));
            architecture.weights().iter().map(move |entry| (architecture, Some(entry))).chain(alone)
        })
        .collect();
    if entries.is_empty() {
        return Err(Error::usage(none_fits(filter)));
    }
    sort(&mut entries, args.sort);
    let table = table(&entries);
    print(&table)?;
    Ok(Outcome::Done)
}

fn none_fits(filter: &str) -> String {
    if filter.contains('*') {
        return format!("no model's name fits `{filter}`; `tl models` lists all");
    }
    let nearest = suggest::nearest_few(filter, architectures().map(|architecture| architecture.name), 3);
    let nearest = match nearest.is_empty() {
        true => String::new(),
        false => format!("; the nearest are {}", suggest::quoted(&nearest)),
    };
    format!("no model's name contains `{filter}`{nearest}; `tl models` lists all")
}

/// A network with one of its weights, or alone if it has none.
type Entry = (&'static Architecture, Option<&'static WeightEntry>);

fn sort(entries: &mut [Entry], by: SortBy) {
    match by {
        SortBy::Family => {}
        SortBy::Name => entries.sort_by_key(|(architecture, _)| architecture.name),
        SortBy::Acc => sort_by_number(entries, |entry| -entry.top1),
        SortBy::Params => sort_by_number(entries, |entry| entry.parameters as f64),
        SortBy::Gflops => sort_by_number(entries, |entry| entry.gflops),
    }
}

/// Sorts in ascending order; entries without the number come last.
fn sort_by_number(entries: &mut [Entry], number: impl Fn(&WeightEntry) -> f64) {
    let key = |entry: &Entry| entry.1.map(&number).filter(|n| !n.is_nan()).unwrap_or(f64::INFINITY);
    entries.sort_by(|a, b| key(a).total_cmp(&key(b)));
}

fn table(entries: &[Entry]) -> String {
    let mut text = format!(
        "{:<20} {:>9} {:>8} {:>6} {:>6}  {:<27} {:<6} {}\n",
        "MODEL", "PARAMS", "GFLOPS", "TOP-1", "INPUT", "WEIGHTS", "CACHED", "FILE"
    );
    for (architecture, entry) in entries {
        let Some(entry) = entry else {
            let (name, side) = (architecture.name, architecture.preset.crop_size);
            text.push_str(&format!(
                "{name:<20} {:>9} {:>8} {:>6} {side:>6}  none: from scratch\n",
                "", "", ""
            ));
            continue;
        };
        let cached = if installed::at_hand(entry).is_some() { "yes" } else { "no" };
        let tag = match entry.tag == architecture.default_tag() {
            true => format!("{} *", entry.tag),
            false => entry.tag.to_string(),
        };
        // Weights for features have no accuracy of their own: torchvision writes NaN.
        let top1 = if entry.top1.is_nan() { "-".to_string() } else { format!("{:.2}", entry.top1) };
        text.push_str(&format!(
            "{:<20} {:>7.1} M {:>8.2} {top1:>6} {:>6}  {tag:<27} {cached:<6} {}\n",
            architecture.name,
            entry.parameters as f64 / 1e6,
            entry.gflops,
            entry.preprocessing.crop_size,
            entry.file,
        ));
    }
    text.push_str(
        "* what DEFAULT stands for. TOP-1: ImageNet, in percent, as torchvision measured it (EfficientNet-Lite: timm).\n",
    );
    text
}

/// Whether `name` matches a pattern: `*` stands for anything; without one, any part of the name
/// matches.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.to_lowercase();
    if !pattern.contains('*') {
        return name.contains(&pattern);
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_a_shell_and_words_anywhere() {
        assert!(matches("*", "resnet18"));
        assert!(matches("resnet*", "resnet18"));
        assert!(!matches("resnet*", "wide_resnet50_2"));
        assert!(matches("*net*2", "wide_resnet50_2"));
        assert!(!matches("*net*3", "wide_resnet50_2"));
        assert!(matches("resnet", "wide_resnet50_2"));
        assert!(matches("ResNet18", "resnet18"));
        assert!(!matches("vgg", "resnet18"));
    }
}
