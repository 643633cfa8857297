//! `--set key.path=VALUE`: overrides a recipe from the command line.

use std::collections::BTreeMap;

use super::check::unknown_hint;
use super::schema;
use super::yaml::{self, Entry, Node, Value};
use super::{Mistake, Place};
use crate::error::{Error, Result};
use crate::text::words::shown;

/// The keys set, and the mistakes in them.
#[derive(Default)]
pub(super) struct Applied {
    /// The keys set, with their place to cite.
    pub places: BTreeMap<String, Place>,
    /// Values that are not YAML.
    pub mistakes: Vec<Mistake>,
}

/// Puts each `key.path=VALUE` into the tree, in order, so that the last one of a key wins.
///
/// # Errors
/// [`Error::Usage`] for all settings without `=` or with an unknown key.
pub(super) fn apply(root: &mut Node, sets: &[String]) -> Result<Applied> {
    let mut wrong = Vec::new();
    let mut applied = Applied::default();
    for typed in sets {
        let Some((path, value)) = typed.split_once('=') else {
            wrong.push(format!("--set {}: expected key.path=VALUE, such as train.epochs=5", shown(typed)));
            continue;
        };
        let path = path.trim();
        if path.is_empty() {
            wrong.push(format!("--set {}: expected key.path=VALUE, such as train.epochs=5", shown(typed)));
            continue;
        }
        if schema::find(path).is_none() {
            let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
            let section = if schema::keys_of(section).next().is_some() { section } else { "" };
            let hint = unknown_hint(section, name);
            wrong.push(format!("--set {}: unknown key {}{hint}", shown(typed), shown(path)));
            continue;
        }
        let place = Place::Set(typed.clone());
        // Earlier settings of this key or below it are void.
        applied.places.retain(|set, _| !is_at_or_below(set, path));
        match yaml::parse(value) {
            Ok(node) => put(root, path, node),
            Err(message) => {
                let message = message.strip_prefix("line 1, ").unwrap_or(&message);
                let message =
                    format!("{message} (quote the value for the shell and for YAML: '{path}=\"…\"')");
                applied.mistakes.push(Mistake { place: place.clone(), key: path.into(), message });
            }
        }
        applied.places.insert(path.into(), place);
    }
    if wrong.is_empty() { Ok(applied) } else { Err(Error::usage(wrong.join("\n"))) }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Puts a value at the path; anything in the place of a section is replaced.
fn put(node: &mut Node, path: &str, value: Node) {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    // A file without any mapping stays as it is, to be reported.
    if let Value::Null = node.value {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut node.value else { return };
    let Some(rest) = rest else {
        entries.retain(|entry| entry.key != name);
        entries.push(Entry { key: name.into(), line: value.line, node: value });
        return;
    };
    let at = entries.iter().position(|entry| entry.key == name).unwrap_or_else(|| {
        let node = Node { value: Value::Null, line: 1 };
        entries.push(Entry { key: name.into(), line: 1, node });
        entries.len() - 1
    });
    let inner = &mut entries[at].node;
    if !matches!(inner.value, Value::Map(_)) {
        inner.value = Value::Null;
    }
    put(inner, rest, value);
}
