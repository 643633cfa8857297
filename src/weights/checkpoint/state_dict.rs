//! Finds the state dict in a pickle: at the top, or under a wrapper's key.

use std::collections::HashSet;

use super::pickle::{self, Mapping, Object, Pickle, Value};
use super::rebuild::{self, Budgets, Storages};
use super::tensor::RawTensor;
use super::{Checkpoint, Parsed, listed, quoted};

/// Training scripts' keys of the state dict, the most specific first.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];
/// `{"model": {"state_dict": ..}}` exists; deeper nesting does not.
const MAX_WRAPPERS: usize = 2;
/// DataParallel's prefix of every key.
const DATA_PARALLEL: &str = "module.";

const REMEDY: &str = "in Python: torch.save(model.state_dict(), ...)";

/// The tensors of a pickle's state dict, without wrappers.
///
/// # Errors
///
/// If the pickle holds something else, a key occurs twice, or a tensor is not inside its storage.
pub(super) fn read<'a>(
    pickle: &Pickle<'a>,
    storages: &impl Storages<'a>,
    mut budgets: Budgets,
) -> Parsed<Checkpoint> {
    let entries = find(pickle, storages)?;
    let mut warnings = Vec::new();
    let mut seen = HashSet::new();
    let mut tensors = Vec::new();
    for (key, value) in entries.iter() {
        let Value::Str(key) = key else {
            return Err(format!(
                "has {} as a key of its state dict, where names are expected",
                pickle.describe(key)
            ));
        };
        if !seen.insert(key) {
            return Err(duplicate(key));
        }
        if !rebuild::is_tensor(pickle, storages, value) {
            // A module's own state (`get_extra_state`); no tensor, and not for us to read.
            if key.ends_with("_extra_state") && call_of(pickle, value).is_none_or(|call| !call.dangerous) {
                warnings.push(format!("the entry {} is not a tensor and was left out", quoted(key)));
                continue;
            }
            return Err(not_a_tensor(pickle, key, value));
        }
        let tensor = rebuild::view(pickle, storages, value, &mut budgets)
            .and_then(|view| rebuild::materialise(&view, &mut budgets))
            .map_err(|problem| format!("the tensor {} {problem}", quoted(key)))?;
        tensors.push((key.to_owned(), tensor));
    }
    // Reached only if no call is in a tensor's place.
    for name in pickle.dangerous_calls() {
        warnings.push(format!(
            "besides its tensors the file asks Python to run {}; that was ignored here, but torch.load may obey it",
            quoted(&name)
        ));
    }
    strip_data_parallel(&mut tensors);
    Ok(Checkpoint { tensors, warnings, ..Checkpoint::default() })
}

/// Removes `module.`, if every key has it.
pub(super) fn strip_data_parallel(tensors: &mut [(String, RawTensor)]) {
    if tensors.iter().all(|(key, _)| key.len() > DATA_PARALLEL.len() && key.starts_with(DATA_PARALLEL)) {
        for (key, _) in tensors {
            key.drain(..DATA_PARALLEL.len());
        }
    }
}

/// The error for a key that occurs twice.
pub(super) fn duplicate(key: &str) -> String {
    format!("holds the key {} twice: it is damaged or hostile", quoted(key))
}

/// The entries of the dictionary that holds the tensors.
fn find<'p, 'a>(pickle: &'p Pickle<'a>, storages: &impl Storages<'a>) -> Parsed<Mapping<'p, 'a>> {
    let Some(mut entries) = pickle.mapping(pickle.root) else {
        return Err(not_a_dict(pickle, pickle.root, None));
    };
    for _ in 0..MAX_WRAPPERS {
        match wrapped(pickle, storages, entries)? {
            Some(inner) => entries = inner,
            None => break,
        }
    }
    if entries.iter().any(|(_, value)| rebuild::is_tensor(pickle, storages, value)) {
        return Ok(entries);
    }
    if entries.is_empty() {
        return Err(format!("holds an empty dictionary, not a state dict; {REMEDY}"));
    }
    // A hostile call is worth naming, wherever it is.
    if let Some((_, value)) =
        entries.iter().find(|(_, value)| call_of(pickle, *value).is_some_and(|c| c.dangerous))
    {
        return Err(not_a_dict(pickle, value, None));
    }
    let keys: Vec<_> = entries
        .iter()
        .map(|(key, _)| match key {
            Value::Str(key) => key,
            _ => "(not a name)",
        })
        .collect();
    Err(format!(
        "holds no tensors at its top, nor under `state_dict`, `model_state_dict` or `model`: its keys are {}; \
         save the weights alone, {REMEDY}",
        listed(keys.into_iter())
    ))
}

/// The dictionary under a wrapper's key. With a tensor or a plain value under it, it is no wrapper.
fn wrapped<'p, 'a>(
    pickle: &'p Pickle<'a>,
    storages: &impl Storages<'a>,
    entries: Mapping<'p, 'a>,
) -> Parsed<Option<Mapping<'p, 'a>>> {
    let mut object = None;
    for name in WRAPPERS {
        let mut values = entries.iter().filter(|(key, _)| *key == Value::Str(name)).map(|(_, value)| value);
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(duplicate(name));
        }
        if let Some(inner) = pickle.mapping(value) {
            return Ok(Some(inner));
        }
        if call_of(pickle, value).is_some() && !rebuild::is_tensor(pickle, storages, value) {
            object = object.or(Some((name, value)));
        }
    }
    match object {
        Some((name, value)) => Err(not_a_dict(pickle, value, Some(name))),
        None => Ok(None),
    }
}

struct Call {
    name: String,
    dangerous: bool,
    /// Whether it calls a function of an unknown package, rather than creating an object.
    foreign_function: bool,
}

fn call_of<'a>(pickle: &Pickle<'a>, value: Value<'a>) -> Option<Call> {
    let Some(Object::Call { callee, instance, .. }) = pickle.object(value) else { return None };
    let name = pickle.callee(*callee);
    let (module, function) = name.rsplit_once('.').unwrap_or(("", &name));
    let dangerous = pickle::is_dangerous(module, function);
    let package = module.split('.').next().unwrap_or_default();
    let known = matches!(package, "torch" | "torchvision" | "numpy" | "copyreg" | "copy_reg" | "collections");
    let is_class = function.starts_with(|c: char| c.is_uppercase());
    Some(Call { dangerous, foreign_function: !instance && !known && !is_class, name })
}

/// The error for a call that no weights file needs; `place` follows the function's name.
pub(super) fn attack<'a>(pickle: &Pickle<'a>, value: Value<'a>, place: &str) -> Option<String> {
    let call = call_of(pickle, value).filter(|call| call.dangerous || call.foreign_function)?;
    Some(format!(
        "asks to run {}{place}: this is not a weights file, and may be an attack",
        quoted(&call.name)
    ))
}

/// The error for a value that should be a dictionary: the top, or the value under a wrapper's key.
fn not_a_dict<'a>(pickle: &Pickle<'a>, value: Value<'a>, under: Option<&str>) -> String {
    let place = under.map(|key| format!(" under {}", quoted(key))).unwrap_or_default();
    attack(pickle, value, &place).unwrap_or_else(|| match call_of(pickle, value) {
        Some(Call { name, .. }) => {
            format!(
                "holds a whole Python object (class {}){place}, not a state dict; {REMEDY}",
                quoted(&name)
            )
        }
        None => format!("holds {}{place}, not a state dict; {REMEDY}", pickle.describe(value)),
    })
}

/// The error for an entry of a state dict that is no tensor.
fn not_a_tensor<'a>(pickle: &Pickle<'a>, key: &str, value: Value<'a>) -> String {
    let key = quoted(key);
    attack(pickle, value, &format!(" where the tensor {key} is expected")).unwrap_or_else(|| {
        let what = pickle.describe(value);
        format!("has {what} under {key}, where a tensor is expected; save the weights alone, {REMEDY}")
    })
}
