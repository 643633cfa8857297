//! The reference of a recipe's keys, generated from the schema's rows: the tables of
//! `docs/recipe.md`, and `recipes/reference.yaml`. With `TL_WRITE_REFERENCE` set (`make reference`)
//! the tests write them.

use std::fs;
use std::path::PathBuf;

use super::schema::{KEYS, Key, Kind};

/// Column of the remarks in the annotated recipe, in characters.
const REMARKS: usize = 32;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn row(key: &Key) -> String {
    format!("| `{}` | {} | {} | {} |", key.path, key.kind.expected(), key.default, key.meaning)
}

/// The key of a table row.
fn key_of(line: &str) -> Option<usize> {
    let path = line.strip_prefix("| `")?.split('`').next()?;
    KEYS.iter().position(|key| key.path == path)
}

/// The table of a key: that of its outermost section; empty for a key outside of sections.
fn table_of(key: &Key) -> &'static str {
    match (key.path.split_once('.'), key.kind) {
        (Some((section, _)), _) => section,
        (None, Kind::Section | Kind::NameOrSection) => key.path,
        (None, _) => "",
    }
}

/// `text` with the rows of its tables replaced.
fn with_tables(text: &str) -> String {
    let mut out = String::new();
    let mut table = None;
    for line in text.lines() {
        let own = key_of(line).map(|key| table_of(&KEYS[key]));
        if own.is_some() && own != table {
            let rows = KEYS.iter().filter(|key| Some(table_of(key)) == own);
            rows.for_each(|key| out += &(row(key) + "\n"));
        }
        if own.is_none() {
            out += &(line.to_string() + "\n");
        }
        table = own;
    }
    out
}

/// The annotated recipe.
fn annotated() -> String {
    let mut out = String::from(
        "# Every key of a recipe, with its default or an example, and what it is for. docs/recipe.md has the details.\n\
         # Copy what you need: a recipe that names the model and the training images is complete.\n\n",
    );
    let mut above: Option<&Key> = None;
    for key in KEYS {
        let heads = |key: &Key| key.section().is_empty() && key.example.is_empty();
        if above.is_some_and(|above| heads(key) || key.section().is_empty() && !above.section().is_empty()) {
            out.push('\n');
        }
        let value = if key.example.is_empty() { String::new() } else { format!(" {}", key.example) };
        let comment = if key.commented { "# " } else { "" };
        let indent = "  ".repeat(key.path.matches('.').count());
        let line = format!("{indent}{comment}{}:{value}", key.name());
        let line = match key.remark {
            "" => line,
            remark => format!("{line:<width$}# {remark}", width = REMARKS.max(line.chars().count() + 1)),
        };
        out += &(line + "\n");
        above = Some(key);
    }
    out
}

fn same_or_written(name: &str, expected: &str) {
    let path = file(name);
    if std::env::var_os("TL_WRITE_REFERENCE").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    let lines = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    assert!(expected == found, "{name} is not what the schema says, `make reference` writes it: {lines:#?}");
}

#[test]
fn the_tables_of_the_docs_are_the_schemas_rows() {
    let text = fs::read_to_string(file("docs/recipe.md")).unwrap();
    same_or_written("docs/recipe.md", &with_tables(&text));
}

#[test]
fn the_annotated_recipe_is_the_schemas_rows() {
    same_or_written("recipes/reference.yaml", &annotated());
}

#[test]
fn rows_have_an_example_or_are_sections() {
    for key in KEYS {
        let is_section = matches!(key.kind, Kind::Section | Kind::NameOrSection);
        assert_eq!(key.example.is_empty(), is_section, "{}", key.path);
    }
}
