//! The `plan.yaml` of a run folder, read back.
//!
//! The folder may come from elsewhere. A YAML parser takes time in proportion to the square of the
//! nesting, and aliases make much of little, so the events are counted before anything is made of
//! them: a plan has a few levels and no alias.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use saphyr_parser::{Event, Parser};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A larger file is no plan: one with 20,000 classes has a megabyte.
const LARGEST: u64 = 16 << 20;
/// Deeper nesting is refused; a plan has five levels.
const DEEPEST: usize = 32;

/// The plan at `path`, or a part of it; `None` if there is none.
///
/// # Errors
/// [`Error::Io`] if the system refuses the file; [`Error::File`] if it is not what `tl` writes.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let foreign = |what: String| {
        Error::file(path, format!("is not the plan of a run ({what}); `--overwrite` starts afresh"))
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(foreign(format!("it has more than {} MiB", LARGEST >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|_| foreign("it is not text in UTF-8".into()))?;
    check(&text).map_err(foreign)?;
    serde_yaml::from_str(&text).map(Some).map_err(|error| foreign(error.to_string()))
}

/// Refuses what takes long to parse.
fn check(text: &str) -> std::result::Result<(), String> {
    let mut parser = Parser::new_from_str(text);
    let mut depth = 0;
    while let Some(event) = parser.next_event() {
        // The parser has a limit of its own for brackets, which it reads ahead.
        let (event, place) = event.map_err(|error| match error.info().contains("recursion") {
            true => too_deep(error.marker().line()),
            false => error.to_string(),
        })?;
        let line = place.start.line();
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) if depth == DEEPEST => {
                return Err(too_deep(line));
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth -= 1,
            Event::Alias(_) => return Err(format!("line {line}: an alias, which no plan has")),
            _ => (),
        }
    }
    Ok(())
}

fn too_deep(line: usize) -> String {
    format!("line {line}: nested more than {DEEPEST} levels deep")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_yaml::Value;

    use super::*;

    fn refusal(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.yaml");
        fs::write(&path, text).unwrap();
        read::<Value>(&path).unwrap_err().to_string()
    }

    /// A parser alone takes minutes for the first of these.
    #[test]
    fn what_takes_long_to_parse_is_no_plan() {
        for open in ["[", "{a: ", "- ", "? "] {
            let message = refusal(&open.repeat(200_000));
            assert!(message.contains("line 1: nested more than 32 levels deep"), "{open}: {message}");
        }
        let laughs = (1..30).map(|level| format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1));
        let message =
            refusal(&std::iter::once("a0: &a0 [x]\n".to_string()).chain(laughs).collect::<String>());
        assert!(message.contains("line 2: an alias, which no plan has"), "{message}");
        assert!(refusal(&"# x\n".repeat(5 << 20)).contains("it has more than 16 MiB"));
        assert!(refusal("a: [").contains("is not the plan of a run"));
    }

    /// The check reads with another parser than the one that writes and reads plans.
    #[test]
    fn whatever_is_written_is_read() {
        let texts = [
            "",
            " ",
            "a b ",
            "- a",
            "[a",
            "{a}",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a`",
            "|",
            ">",
            "#a",
            "a #b",
            "a: b",
            "a:",
            ":a",
            "?",
            "? a",
            "'",
            "\"",
            "a'b",
            "a\"b",
            "\\",
            "a\nb",
            "a\n\n b\n",
            "\t",
            "a\tb",
            "\u{85}x",
            "\u{2028}",
            "\u{feff}a",
            "é",
            "木",
            "\u{1}",
            "\u{7f}",
            "null",
            "~",
            "true",
            "no",
            "1e3",
            "0x1",
            "---",
            "...",
            "<<",
            "=",
            "=a",
            "-",
            "a,b",
            ",",
            "https://a/b?c=d&e=f#g",
            "n01440764 [tench, Tinca tinca]",
        ];
        let long = "word ".repeat(1000);
        let names: Vec<&str> = texts.into_iter().chain([long.as_str()]).collect();
        let map = serde_yaml::to_value(
            names
                .iter()
                .map(|name| (name.to_string(), name.to_string()))
                .collect::<std::collections::BTreeMap<_, _>>(),
        );
        for value in [serde_yaml::to_value(&names), map] {
            let value = value.unwrap();
            let text = serde_yaml::to_string(&value).unwrap();
            assert_eq!(check(&text), Ok(()), "{text}");
        }
        for name in names {
            let text = serde_yaml::to_string(&[[name]]).unwrap();
            assert_eq!(check(&text), Ok(()), "{text}");
        }
    }
}
