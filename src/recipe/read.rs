//! The recipe file -> its text, or a message about the file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::text::path_text::path_text;
use crate::text::words::{for_shell, near};

/// A larger file is no recipe: a typical one has 1 KB.
const LARGEST: u64 = 1 << 20;
/// Entries of a folder that are searched for a recipe to suggest.
const MOST_ENTRIES: usize = 10_000;

/// The text of a recipe file, at most 1 MiB of UTF-8.
///
/// # Errors
/// [`Error::Usage`] for a missing file or a folder, [`Error::Recipe`] for a file that is not text,
/// [`Error::Io`] if the system refuses it.
pub(super) fn text(path: &Path) -> Result<String> {
    if path.is_dir() {
        let hint = match suggestion(path, None) {
            Some(name) => format!("; did you mean {}?", path_text(&path.join(name))),
            None => format!("; `tl init {}` writes one for a folder of images", for_shell(&path_text(path))),
        };
        return Err(Error::usage(format!(
            "{} is a folder, expected a recipe, a YAML file{hint}",
            path_text(path)
        )));
    }
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(path),
        _ => Error::io("read the recipe", path)(source),
    })?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read the recipe", path))?;
    let wrong = |message: String| Error::Recipe { path: path.to_path_buf(), mistakes: vec![message] };
    if bytes.len() as u64 > LARGEST {
        return Err(wrong(
            "expected a recipe, found a file of more than 1 MiB; is this the right file?".into(),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count() + 1;
        wrong(format!("line {line}: expected text in UTF-8, found other bytes; save the file as UTF-8"))
    })
}

fn missing(path: &Path) -> Error {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Error::usage(format!(
            "cannot read the recipe {}: there is no folder {}",
            path_text(path),
            path_text(folder)
        ));
    }
    let typed = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let hint = match suggestion(folder, typed.as_deref()) {
        Some(name) => format!("; did you mean {}?", path_text(&path.with_file_name(name))),
        None => String::new(),
    };
    Error::usage(format!("cannot read the recipe {}: there is no such file{hint}", path_text(path)))
}

/// The YAML file of a folder with the name nearest to `typed`, or the only one.
fn suggestion(folder: &Path, typed: Option<&str>) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .take(MOST_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_yaml(name))
        .collect();
    names.sort();
    // Extensions are compared only if the bare names do not decide.
    let near = typed.and_then(|typed| {
        names
            .iter()
            .find(|name| stem(name) == stem(typed))
            .cloned()
            .or_else(|| near(typed, names.iter().map(String::as_str)).map(str::to_string))
    });
    near.or_else(|| (names.len() == 1).then(|| names.remove(0)))
}

fn is_yaml(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".yaml") || name.ends_with(".yml")
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
