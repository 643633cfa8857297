//! The pages: their links lead somewhere, the README is short, and what it shows and says to type is true.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Run, repository, tl};

/// The README may have so many words, as `wc -w` counts them.
const WORDS: usize = 1500;
/// A picture may have so many bytes.
const PICTURE: u64 = 150_000;

fn read(page: &Path) -> String {
    fs::read_to_string(repository("").join(page))
        .unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// The pages below `folder`, relative to the root.
fn below(folder: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(repository(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            below(&path, into);
        } else if path.ends_with(".md") {
            into.push(path.into());
        }
    }
}

fn pages() -> Vec<PathBuf> {
    let alone = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "data/README.md",
        "fuzz/README.md",
        "scripts/experiment/README.md",
    ];
    let mut pages: Vec<PathBuf> = alone.iter().map(PathBuf::from).collect();
    below("docs", &mut pages);
    pages
}

/// `text` without fenced blocks.
fn unfenced(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        if !inside && !fence {
            kept += line;
        }
        kept += "\n";
        inside ^= fence;
    }
    assert!(!inside, "a fenced block has no end");
    kept
}

/// `text` without the code inside its lines, which ends within its paragraph.
fn uncoded(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|text| text.split('`').step_by(2).collect::<Vec<_>>().join(""));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Where `text` leads to.
fn links(text: &str) -> Vec<String> {
    let text = uncoded(&unfenced(text));
    text.split("](")
        .skip(1)
        .map(|rest| rest[..rest.find(')').expect("the end of a link")].to_string())
        .collect()
}

/// The names of a page's headings, as GitHub and mdbook make them.
fn anchors(text: &str) -> HashSet<String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    let text = unfenced(text);
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' '));
    let names = headings.map(|heading| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let kept: String = heading.trim().to_lowercase().chars().filter(kept).collect();
        kept.replace(' ', "-")
    });
    let names = names.map(|name| {
        let before = times.entry(name.clone()).or_default();
        *before += 1;
        if *before == 1 { name } else { format!("{name}-{}", *before - 1) }
    });
    names.collect()
}

#[test]
fn links_lead_somewhere() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let pages = pages();
    let known: HashSet<PathBuf> =
        pages.iter().map(|page| repository("").join(page).canonicalize().unwrap()).collect();
    for page in &pages {
        for target in links(&read(page)) {
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let there = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let file = repository("").join(&there);
            if !file.is_file() {
                wrong.push(format!("{}: {target} is not there", page.display()));
            } else if target.contains(".md") && !known.contains(&file.canonicalize().unwrap()) {
                wrong.push(format!("{}: {target} is no page that is looked at", page.display()));
            } else if !anchor.is_empty() && !anchors(&read(&there)).contains(anchor) {
                wrong.push(format!("{}: {target} names no heading of that page", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 80, "the test reads links no more: found {seen}");
}

/// `make docs` builds its site of what the index lists.
#[test]
fn the_index_lists_every_page() {
    let index = Path::new("docs/README.md");
    let listed: HashSet<PathBuf> = links(&read(index))
        .iter()
        .map(|target| match target.strip_prefix("../") {
            Some(outside) => outside.into(),
            None => Path::new("docs").join(target),
        })
        .collect();
    let missing: Vec<PathBuf> = pages().into_iter().filter(|page| !listed.contains(page)).collect();
    assert_eq!(missing, [PathBuf::from("README.md"), index.into()]);
}

#[test]
fn the_readme_is_short_and_so_are_its_pictures() {
    let text = read(Path::new("README.md"));
    let words = text.split_whitespace().count();
    assert!(words <= WORDS, "README.md has {words} words; what is more than {WORDS} belongs into docs/");
    let pictures: Vec<String> =
        links(&text).into_iter().filter(|link| link.starts_with("docs/pictures/")).collect();
    assert!(pictures.len() >= 8, "{pictures:?}");
    for picture in pictures {
        let bytes = fs::metadata(repository(&picture)).unwrap().len();
        assert!(bytes <= PICTURE, "{picture} has {bytes} bytes");
    }
}

/// Every time beside a bar is one of docs/performance.md, and the badges are Cargo.toml's.
#[test]
fn the_pictures_show_what_is_true() {
    let measured = read(Path::new("docs/performance.md"));
    let bars = read(Path::new("docs/pictures/speed.svg"));
    let mut before: Vec<&str> = bars.split(" s</text>").collect();
    before.pop();
    assert_eq!(before.len(), 24, "three bars in each of eight cases");
    for time in before.iter().map(|text| text.rsplit('>').next().unwrap()) {
        assert!(
            measured.contains(&format!("| {time} (")),
            "{time} s is in no row of docs/performance.md: make pictures"
        );
    }
    let manifest = read(Path::new("Cargo.toml"));
    for (badge, key) in [("version", "version"), ("rust", "rust-version"), ("licence", "license")] {
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{key} = \""))).unwrap();
        let value = line.trim_end_matches('"').replace(" OR ", " or ");
        let picture = read(Path::new(&format!("docs/pictures/badge-{badge}.svg")));
        assert!(picture.contains(&value), "badge-{badge}.svg does not say {value}: make pictures");
    }
}

/// The README repeats rows of docs/strategy.md and times of docs/performance.md.
#[test]
fn the_readmes_numbers_are_those_of_the_pages() {
    let readme = read(Path::new("README.md"));
    let strategy = read(Path::new("docs/strategy.md")).replace("**", "");
    let corners =
        readme.split("| corner |").nth(1).unwrap().lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for corner in corners {
        let cells: Vec<&str> = corner.split(" | ").collect();
        let (images, accuracies) = (cells[1], cells[3..].join(" | "));
        let row = format!("` | {images} | {}", accuracies.trim_end_matches(" |"));
        assert!(strategy.contains(&row), "docs/strategy.md has no row with {row}");
        assert!(strategy.contains(cells[2]), "docs/strategy.md has no distance {}", cells[2]);
        seen += 1;
    }
    assert_eq!(seen, 4);
    let measured = read(Path::new("docs/performance.md"));
    let tools = readme.split("## Beside other tools").nth(1).unwrap().split("## ").next().unwrap();
    let times = tools.lines().filter(|line| line.contains("not measured")).flat_map(|line| line.split(' '));
    let times: Vec<&str> = times.filter(|word| word.parse::<f64>().is_ok()).collect();
    assert_eq!(times.len(), 6, "{times:?}");
    for time in times.iter().filter(|time| **time != "512") {
        assert!(measured.contains(&format!("| {time} (")), "docs/performance.md has no time {time}");
    }
}

/// A fenced block of commands.
struct Block {
    /// The reason why it is not run, from the comment above it.
    not_run: Option<String>,
    /// Each command, with the lines that are shown below it.
    commands: Vec<(String, Vec<String>)>,
}

/// The blocks of `sh`, a command a line, and of `console`, where commands have a `$` before them.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut lines, mut above) = (text.lines(), "");
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let reason = above.strip_prefix("<!-- not run: ").and_then(|text| text.strip_suffix(" -->"));
            let mut block = Block { not_run: reason.map(String::from), commands: Vec::new() };
            for line in lines.by_ref().take_while(|line| *line != "```") {
                match (language, line.strip_prefix("$ ")) {
                    ("sh", _) => block.commands.push((line.to_string(), Vec::new())),
                    ("console", Some(command)) => block.commands.push((command.to_string(), Vec::new())),
                    ("console", None) => {
                        block.commands.last_mut().expect("a command").1.push(line.to_string())
                    }
                    _ => {}
                }
            }
            if !block.commands.is_empty() {
                blocks.push(block);
            }
        }
        above = line;
    }
    blocks
}

/// Whether `line` is `shown`, in which `…` stands for anything.
fn is_shown(shown: &str, line: &str) -> bool {
    let mut rest = line;
    let mut parts = shown.split('…');
    let start = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(start) else { return false };
    rest = after;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty() || shown.ends_with('…')
}

/// Each command of the README in order, by a shell, in a folder with the shipped recipes and data:
/// it succeeds, and says what is shown below it. One thread takes seconds on a busy machine too.
#[test]
fn the_readmes_commands_run_as_they_are_typed() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for name in ["recipes", "data"] {
        symlink(repository(name), place(name)).unwrap();
    }
    fs::create_dir(place("bin")).unwrap();
    let program = format!("#!/bin/sh\nexec '{}' \"$@\" --threads 1\n", env!("CARGO_BIN_EXE_tl"));
    fs::write(place("bin/tl"), program).unwrap();
    fs::set_permissions(place("bin/tl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", place("bin").display(), std::env::var("PATH").unwrap());

    let (mut ran, mut left) = (0, Vec::new());
    for block in blocks(&read(Path::new("README.md"))) {
        if let Some(reason) = block.not_run {
            left.push(format!("{} not run: {reason}", block.commands.len()));
            continue;
        }
        for (command, shown) in block.commands {
            assert!(
                command.starts_with("tl "),
                "a block of other commands says why it is not run: {command}"
            );
            let mut shell = Command::new("sh");
            shell.args(["-c", &command]).env("PATH", &path).current_dir(folder.path());
            let run = Run::from(shell.output().unwrap()).expect(0);
            let told = format!("{}{}", run.stdout, run.stderr);
            for shown in shown {
                assert!(
                    told.lines().any(|line| is_shown(&shown, line)),
                    "{command} does not say\n{shown}\nbut\n{told}"
                );
            }
            ran += 1;
        }
    }
    println!("README.md: {ran} commands ran, {}", left.join(", "));
    assert!(ran >= 9 && left.len() <= 3, "{ran} commands ran; {left:?}");
}

/// The text of the fenced blocks, where a line that ends with a back-slash goes on in the next.
fn fenced(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            kept += line.strip_suffix('\\').unwrap_or(line);
            kept += if line.ends_with('\\') { " " } else { "\n" };
        }
    }
    kept
}

/// What all pages say to type: the command is there, and has the options.
#[test]
fn the_pages_name_options_that_there_are() {
    let mut helps: HashMap<String, String> = HashMap::new();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        for line in fenced(&read(&page)).lines().flat_map(|line| line.split(" | ")) {
            let words: Vec<&str> = line
                .split_whitespace()
                .take_while(|word| *word != "#")
                .map(|word| word.trim_matches('\''))
                .collect();
            let Some(at) = words.iter().position(|word| *word == "tl" || word.ends_with("/tl")) else {
                continue;
            };
            let Some(command) = words.get(at + 1).filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            else {
                continue;
            };
            let help = helps
                .entry(command.to_string())
                .or_insert_with(|| tl(&[command, "--help"]).expect(0).stdout.replace([',', '\n'], " "));
            for option in words[at + 2..].iter().filter(|word| word.starts_with("--")) {
                seen += 1;
                let name = option.split('=').next().unwrap();
                if !help.split(' ').any(|word| word == name) {
                    wrong.push(format!("{}: tl {command} has no {name}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "the test reads commands no more: found {seen} options");
}

#[test]
fn every_command_is_in_the_table_of_commands() {
    let help = tl(&["--help"]).expect(0).stdout;
    let listed = help.split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let names: Vec<&str> =
        listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(names.len() >= 9, "{names:?}");
    let page = read(Path::new("docs/commands.md"));
    let missing: Vec<&&str> =
        names.iter().filter(|name| !page.contains(&format!("\n| `tl {name}"))).collect();
    assert!(missing.is_empty(), "docs/commands.md has no row of {missing:?}");
}
