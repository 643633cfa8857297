//! Checks the tree against the table: valid values become plain ones, the others mistakes.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value as Plain};

use super::kind::MANY;
use super::schema::{self, Key, Kind, Limits};
use super::yaml::{self, Entry, Node, Value};
use super::{Mistake, Place};
use crate::device::DeviceChoice;
use crate::text::words::{did_you_mean, near, shown};

/// Result of a check.
pub(super) struct Checked {
    /// The valid values, ready for serde.
    pub value: Plain,
    /// The mistakes, in the order of the file.
    pub mistakes: Vec<Mistake>,
    /// The place of each given key.
    pub places: BTreeMap<String, Place>,
}

/// Checks a whole recipe. `places` has the keys given by `--set`; their values cite it, not a line.
pub(super) fn check(root: &Node, places: BTreeMap<String, Place>) -> Checked {
    let mut checker = Checker { mistakes: Vec::new(), places };
    let value = match &root.value {
        Value::Map(entries) => Plain::Mapping(checker.section("", entries)),
        other => {
            checker.root_is_no_mapping(root, other);
            Plain::Mapping(Mapping::new())
        }
    };
    checker.missing();
    Checked { value, mistakes: checker.mistakes, places: checker.places }
}

struct Checker {
    mistakes: Vec<Mistake>,
    places: BTreeMap<String, Place>,
}

impl Checker {
    fn root_is_no_mapping(&mut self, root: &Node, value: &Value) {
        let hint = match value {
            Value::Text(text) if text.lines().any(yaml::no_space) => "; put a space after the colon",
            _ => "; a recipe starts with a line such as `model: resnet18`",
        };
        let found = if *value == Value::Null { "an empty file".into() } else { found(value) };
        let message = format!("expected `key: value` lines, found {found}{hint}");
        self.mistakes.push(Mistake { place: Place::Line(root.line), key: String::new(), message });
    }

    fn missing(&mut self) {
        for key in schema::KEYS.iter().filter(|key| key.default == "required") {
            // A missing section is reported once, by its required key.
            let told = key.kind == Kind::Section
                || self.places.contains_key(key.path)
                || self.mistakes.iter().any(|m| m.key == key.section() && !m.key.is_empty());
            if !told {
                let example =
                    if key.path == "model" { "model: resnet18" } else { "data: { train: photos/train }" };
                self.mistakes.push(Mistake {
                    place: Place::Nowhere,
                    key: key.path.into(),
                    message: format!("missing; write, for example, `{example}`"),
                });
            }
        }
    }

    fn section(&mut self, section: &str, entries: &[Entry]) -> Mapping {
        let mut map = Mapping::new();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in entries {
            let path = join(section, &entry.key);
            let place = self.place_of(&path, entry.line);
            if let Some(first) = seen.insert(&entry.key, entry.line) {
                let message = format!("given twice, first on line {first}; keep one");
                seen.insert(&entry.key, first);
                self.mistakes.push(Mistake { place, key: shown(&path), message });
                continue;
            }
            let Some(key) = schema::find(&path).filter(|key| key.name() == entry.key) else {
                let hint = unknown_hint(section, &entry.key);
                let message = format!("unknown key{hint}");
                self.mistakes.push(Mistake { place, key: shown(&path), message });
                continue;
            };
            self.places.entry(path.clone()).or_insert_with(|| place.clone());
            match self.value(key, &entry.node) {
                Ok(value) => {
                    map.insert(Plain::String(entry.key.clone()), value);
                }
                Err(message) => self.mistakes.push(Mistake { place, key: path, message }),
            }
        }
        map
    }

    /// The `--set` that gave the key or a section around it, else the line.
    fn place_of(&self, path: &str, line: usize) -> Place {
        let mut prefix = path;
        loop {
            if let Some(place @ Place::Set(_)) = self.places.get(prefix) {
                return place.clone();
            }
            match prefix.rsplit_once('.') {
                Some((shorter, _)) => prefix = shorter,
                None => return Place::Line(line),
            }
        }
    }

    fn value(&mut self, key: &'static Key, node: &Node) -> Result<Plain, String> {
        if key.kind.is_section() {
            match &node.value {
                Value::Map(entries) => return Ok(Plain::Mapping(self.section(key.path, entries))),
                // A section whose lines are all commented out.
                Value::Null if key.kind == Kind::Section => return Ok(Plain::Mapping(Mapping::new())),
                _ => {}
            }
        }
        scalar(key, &node.value)
    }
}

/// Checks a scalar against its row.
fn scalar(key: &Key, value: &Value) -> Result<Plain, String> {
    fit(key, value).map_err(|hint| format!("expected {}, found {}{hint}", key.kind.expected(), found(value)))
}

/// The value, if valid; else a hint to follow "expected …, found …", or nothing.
fn fit(key: &Key, value: &Value) -> Result<Plain, String> {
    let nothing = String::new();
    match (key.kind, value) {
        (_, Value::Null) if key.default != "required" => Err("; leave the key out for its default".into()),
        (Kind::Section, Value::Text(text)) if yaml::no_space(text) => {
            Err("; put a space after the colon".into())
        }
        (Kind::FractionOrPath, Value::Text(text)) if is_number(text) => {
            Err(format!("; a fraction has no quotes, and a path of that name is written ./{text}"))
        }
        (Kind::Name | Kind::NameOrSection | Kind::Path | Kind::FractionOrPath, Value::Text(text)) => {
            name(text)
        }
        (Kind::Name | Kind::NameOrSection | Kind::Path, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
            Err("; if that is the name, put it in quotes".into())
        }
        (Kind::Names, Value::List(items)) if !items.is_empty() => {
            let one = |item: &Node| match &item.value {
                Value::Text(text) => name(text),
                _ => Err("; a name that is no text needs quotes".into()),
            };
            items.iter().map(one).collect::<Result<Vec<_>, _>>().map(Plain::from)
        }
        (Kind::Names, Value::Text(text)) => Err(format!("; write [{text}]")),
        (Kind::Choices(names), Value::List(items)) if !items.is_empty() => {
            let one = |item: &Node| match &item.value {
                Value::Text(text) if names.contains(&text.as_str()) => Ok(text.clone()),
                Value::Text(text) => {
                    Err(format!(" with \"{}\"{}", shown(text), did_you_mean(text, names.iter().copied())))
                }
                _ => Err(nothing.clone()),
            };
            items.iter().map(one).collect::<Result<Vec<_>, _>>().map(Plain::from)
        }
        (Kind::Choices(_), Value::Text(text)) => Err(format!("; write [{}]", shown(text))),
        (Kind::Choice(names), Value::Text(text)) if names.contains(&text.as_str()) => {
            Ok(text.as_str().into())
        }
        (Kind::Choice(names), Value::Text(text)) => Err(did_you_mean(text, names.iter().copied())),
        (Kind::Bool, Value::Bool(yes)) => Ok((*yes).into()),
        (Kind::Bool, Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Err("; did you mean true?".into()),
            "no" | "off" | "n" => Err("; did you mean false?".into()),
            _ => Err(did_you_mean(text, ["true", "false"])),
        },
        (Kind::Whole(low, high), Value::Int(number)) => {
            let inside = u64::try_from(*number).ok().filter(|number| (low..=high).contains(number));
            // What is expected names the limit, unless it is one that nobody reaches.
            let too_large = high >= MANY && *number > i128::from(high);
            inside.map(Plain::from).ok_or(if too_large { format!("; {high} at most") } else { nothing })
        }
        (Kind::WholeOf(known), Value::Int(number)) => {
            let fitting = known.iter().find(|known| i128::from(**known) == *number);
            fitting.map(|number| Plain::from(*number)).ok_or(nothing)
        }
        (Kind::Wholes(low, high), Value::List(items)) => {
            let whole = |item: &Node| match item.value {
                Value::Int(number) => {
                    u64::try_from(number).ok().filter(|number| (low..=high).contains(number))
                }
                _ => None,
            };
            let numbers: Option<Vec<u64>> = items.iter().map(whole).collect();
            numbers.filter(|numbers| !numbers.is_empty()).map(Plain::from).ok_or(nothing)
        }
        (Kind::Wholes(..), Value::Int(number)) => Err(format!("; a list of one is [{number}]")),
        (Kind::Number(limits), _) if is_numeric(value) => {
            number(value, limits).map(Plain::from).ok_or(nothing)
        }
        (Kind::FractionOrPath, _) if is_numeric(value) => {
            number(value, Limits::Inside).map(Plain::from).ok_or(nothing)
        }
        (Kind::Whole(..) | Kind::WholeOf(_) | Kind::Number(_), Value::Text(text)) => {
            Err(number_hint(text).into())
        }
        (Kind::Numbers(count, limits), Value::List(items)) => {
            numbers(items, count, limits).map(Plain::from).ok_or(nothing)
        }
        (Kind::Range(limits), Value::List(items)) => match numbers(items, 2, limits) {
            Some(pair) if pair[0] <= pair[1] => Ok(pair.into()),
            Some(_) => Err("; the lower one comes first".into()),
            None => Err(nothing),
        },
        (Kind::WholeRange(low, high), Value::List(items)) => match whole_numbers(items, low, high)[..] {
            [from, to] if from <= to => Ok(vec![from, to].into()),
            [_, _] => Err("; the lower one comes first".into()),
            _ => Err(nothing),
        },
        (Kind::Color, Value::List(items)) => match &whole_numbers(items, 0, 255)[..] {
            color @ [_, _, _] => Ok(color.to_vec().into()),
            _ => Err(nothing),
        },
        (Kind::Device, Value::Text(text)) => match text.parse::<DeviceChoice>() {
            Ok(_) => Ok(text.as_str().into()),
            Err(_) => Err(did_you_mean(text, ["auto", "cpu", "cuda"])),
        },
        _ => Err(nothing),
    }
}

/// A name or a path; the error is a hint.
fn name(text: &str) -> Result<Plain, String> {
    if text.trim().is_empty() {
        Err(String::new())
    } else if text.contains(char::is_control) {
        Err("; names and paths hold no control characters or line breaks".into())
    } else if text == "~" || text.starts_with("~/") {
        Err("; only the shell knows `~`: write the whole path".into())
    } else {
        Ok(text.into())
    }
}

fn is_numeric(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

/// Whether a text would be a number without quotes.
fn is_number(text: &str) -> bool {
    is_numeric(&yaml::plain_scalar(text))
}

fn number(value: &Value, limits: Limits) -> Option<f64> {
    let number = match value {
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        _ => return None,
    };
    limits.hold(number).then_some(number)
}

fn numbers(items: &[Node], count: usize, limits: Limits) -> Option<Vec<f64>> {
    let numbers: Option<Vec<f64>> = items.iter().map(|item| number(&item.value, limits)).collect();
    numbers.filter(|numbers| numbers.len() == count)
}

/// The items, or nothing if one of them is not a whole number within the limits.
fn whole_numbers(items: &[Node], low: u64, high: u64) -> Vec<u64> {
    let whole = |item: &Node| match item.value {
        Value::Int(number) => u64::try_from(number).ok().filter(|number| (low..=high).contains(number)),
        _ => None,
    };
    items.iter().map(whole).collect::<Option<_>>().unwrap_or_default()
}

fn number_hint(text: &str) -> &'static str {
    let bare: String = text.chars().filter(|c| !matches!(c, '_' | ',' | '%' | ' ')).collect();
    let numeric =
        bare.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) && bare.parse::<f64>().is_ok();
    match numeric {
        true if bare == text => "; a number has no quotes",
        true if text.contains(',') => "; write a point for decimals, and no separators",
        true => "; write digits only",
        false => "",
    }
}

/// `the text "ten"`, `the number 0.5`, `a list of 2`.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(yes) => yes.to_string(),
        // A number beyond 128 bits is shown by its bound, not as typed.
        Value::Int(i128::MAX) => "a number far too large".into(),
        Value::Int(number) if *number == -i128::MAX => "a number far too small".into(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) if number.is_nan() => ".nan".into(),
        Value::Float(number) if number.is_infinite() => "a number without end".into(),
        Value::Float(number) => shown(&format!("{number:?}")),
        Value::Text(text) if text.is_empty() => "an empty text".into(),
        Value::Text(text) => format!("the text \"{}\"", shown(text)),
        Value::List(items) if items.len() <= 3 && items.iter().all(|item| is_scalar(&item.value)) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| match &item.value {
                    Value::Text(text) => format!("\"{}\"", shown(text)),
                    other => found(other),
                })
                .collect();
            format!("[{}]", items.join(", "))
        }
        Value::List(items) => format!("a list of {}", items.len()),
        Value::Map(entries) if entries.is_empty() => "an empty section".into(),
        Value::Map(entries) => format!("a section with the key {}", shown(&entries[0].key)),
    }
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::List(_) | Value::Map(_))
}

/// Suggests a key for an unknown one: another word for a key of this section, the same word in
/// another section, a typo, another word or a typo from elsewhere.
pub(super) fn unknown_hint(section: &str, name: &str) -> String {
    let other_word = |key: &&Key| key.also.iter().any(|word| word.eq_ignore_ascii_case(name));
    if let Some(key) = schema::keys_of(section).find(other_word) {
        return format!("; did you mean {}?", key.path);
    }
    let elsewhere = |key: &Key| match key.section() {
        "" => format!("; did you mean {}, at the top of the recipe?", key.path),
        section => format!("; did you mean {}? it belongs under `{section}:`", key.path),
    };
    // `epochs` more likely belongs to `train` than to a deeper section.
    let depth = |key: &&Key| key.path.matches('.').count();
    if let Some(key) = schema::KEYS.iter().filter(|key| key.name() == name).min_by_key(depth) {
        return elsewhere(key);
    }
    if let Some(near) = near(name, schema::keys_of(section).map(Key::name)) {
        return format!("; did you mean {}?", join(section, near));
    }
    if let Some(key) = schema::KEYS.iter().find(other_word) {
        return elsewhere(key);
    }
    if let Some(near) = near(name, schema::KEYS.iter().map(Key::name))
        && let Some(key) = schema::KEYS.iter().filter(|key| key.name() == near).min_by_key(depth)
    {
        return format!("; did you mean {}?", key.path);
    }
    if name == "<<" {
        return "; recipes have no merge keys: write the values out".into();
    }
    let known: Vec<_> = schema::keys_of(section).map(Key::name).collect();
    match (known.is_empty(), section) {
        (true, _) => String::new(),
        (false, "") => format!("; known at the top: {}", known.join(", ")),
        (false, _) => format!("; known in {section}: {}", known.join(", ")),
    }
}

pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_string() } else { format!("{section}.{name}") }
}
