//! The order of the modules: each may use only those below it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::repository;

/// From the ground up. CONTRIBUTING.md draws the same list.
const ROOMS: [&str; 22] = [
    "text",
    "error",
    "util",
    "preprocess",
    "models",
    "device",
    "stats",
    "optim",
    "linear",
    "unknown",
    "weights",
    "data",
    "inference",
    "output",
    "recipe",
    "strategy",
    "plan",
    "run",
    "trainer",
    "report",
    "methods",
    "commands",
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// The modules that a source names as `crate::ROOM`, including comments and links.
fn named(text: &str) -> BTreeSet<&str> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let after = code.split("crate::").skip(1);
    let names = after.map(|rest| {
        let end = rest.find(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn a_room_uses_those_below_it_alone() {
    let root = repository("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let level = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut imports = 0;
    for file in &files {
        let below = file.strip_prefix(&root).unwrap();
        let room = below.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "main" | "lib") {
            continue;
        }
        let Some(own) = level(room) else { panic!("{} belongs to no room of the list", below.display()) };
        seen.insert(room.to_string());
        let text = fs::read_to_string(file).unwrap();
        for other in named(&text) {
            imports += 1;
            match level(other) {
                Some(other) if other <= own => {}
                Some(_) => wrong.push(format!("{} uses {other}, which lies above {room}", below.display())),
                None => wrong.push(format!("{} uses {other}, which is no room", below.display())),
            }
        }
    }
    assert!(imports > 500, "the test reads `crate::` no more: found {imports}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), ROOMS.len(), "a room of the list is empty: {seen:?}");
}

#[test]
fn the_drawing_has_the_same_rooms() {
    let text = fs::read_to_string(repository("CONTRIBUTING.md")).unwrap();
    let (_, after) = text.split_once("from the ground up:\n\n```text\n").expect("the drawing of the rooms");
    let drawing = after.split_once("```").unwrap().0;
    let drawn: Vec<&str> = drawing.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(drawn, ROOMS);
}
