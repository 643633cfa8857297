//! Crashes of the machine, simulated: what `finetune`, `extract` and `predict` do to files is recorded
//! (`TL_RECORD_FILES`), what a crash at any point could have left on the disk is laid out, and
//! `--resume` must end with the bytes of the undisturbed run.
//!
//! A crash keeps what was synced: the bytes of a file by a sync of the file, its name by a sync of
//! its folder. Of the rest it keeps all (then it is `kill -9`), nothing, the lengths with zeros in the
//! place of bytes, the first bytes up to a block, or any blocks; and the first of the names, or none.
//!
//! `TL_CRASHES=N` lays out N states of each run instead of a few dozen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Deserialize;

use crate::digits::Lab;
use crate::extract::LETTERS;
use crate::large::crowd;
use crate::program::{Run, Tl, repository};
use crate::resume::assert_same_result;

/// A line of the record.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
enum Operation {
    Create { file: u64, path: PathBuf },
    Open { file: u64, path: PathBuf },
    Write { file: u64, at: u64, hex: String },
    Cut { file: u64, length: u64 },
    Sync { file: u64 },
    CreateFolder { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    RemoveFolder { path: PathBuf },
    SyncFolder { path: PathBuf },
}

fn read_record(path: &Path) -> Vec<Operation> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

/// A change of a file's contents.
#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, new) => {
                if bytes.len() < at + new.len() {
                    bytes.resize(at + new.len(), 0);
                }
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            Change::Cut(length) => bytes.resize(*length, 0),
        }
    }
}

/// The contents of a file: on the disk, and as the system shows them.
#[derive(Clone, Default)]
struct Contents {
    synced: Vec<u8>,
    shown: Vec<u8>,
    unsynced: Vec<Change>,
}

/// A change of names: `from` goes, `to` comes.
#[derive(Clone)]
struct Naming {
    from: Option<PathBuf>,
    to: Option<(PathBuf, Node)>,
    synced: bool,
}

impl Naming {
    fn touches(&self, folder: &Path) -> bool {
        let is_in = |path: &Path| path.parent() == Some(folder);
        self.from.as_deref().is_some_and(is_in) || self.to.as_ref().is_some_and(|(path, _)| is_in(path))
    }
}

/// A disk with all that is not on it yet.
#[derive(Clone, Default)]
struct Disk {
    files: Vec<Contents>,
    open: BTreeMap<u64, usize>,
    names: BTreeMap<PathBuf, Node>,
    namings: Vec<Naming>,
}

/// What a crash keeps of the names that are not synced.
#[derive(Clone, Copy)]
enum Names {
    All,
    None,
    /// The first of them.
    Some,
}

/// What a crash keeps of the bytes that are not synced.
#[derive(Clone, Copy)]
enum Bytes {
    All,
    None,
    /// The lengths alone.
    Zeros,
    /// The first ones, up to a block of so many.
    UpTo(usize),
    /// Any blocks of so many, and zeros or the old bytes elsewhere.
    Any(usize),
}

const CRASHES: [(Names, Bytes); 9] = [
    (Names::All, Bytes::All),
    (Names::All, Bytes::None),
    (Names::All, Bytes::Zeros),
    (Names::All, Bytes::UpTo(512)),
    (Names::All, Bytes::UpTo(4096)),
    (Names::All, Bytes::Any(512)),
    (Names::None, Bytes::All),
    (Names::None, Bytes::None),
    (Names::Some, Bytes::Any(4096)),
];

/// The files that are found after a crash; `None` for a folder.
type Layout = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Disk {
    /// A disk with these files below `root`, all synced.
    fn of(layout: &Layout, root: &Path) -> Disk {
        let mut disk = Disk::default();
        disk.name(None, Some((root.to_path_buf(), Node::Folder)));
        for (name, contents) in layout {
            let node = contents.as_ref().map_or(Node::Folder, |_| Node::File(disk.files.len()));
            disk.name(None, Some((root.join(name), node)));
            if let Some(bytes) = contents {
                let (synced, shown) = (bytes.clone(), bytes.clone());
                disk.files.push(Contents { synced, shown, unsynced: Vec::new() });
            }
        }
        disk.namings.iter_mut().for_each(|naming| naming.synced = true);
        disk
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { file, path } => {
                self.open.insert(*file, self.files.len());
                self.name(None, Some((path.clone(), Node::File(self.files.len()))));
                self.files.push(Contents::default());
            }
            Operation::Open { file, path } => {
                let Some(Node::File(index)) = self.names.get(path) else { panic!("{path:?} is not known") };
                self.open.insert(*file, *index);
            }
            Operation::Write { file, at, hex } => {
                self.change(*file, Change::Write(*at as usize, bytes_of(hex)));
            }
            Operation::Cut { file, length } => self.change(*file, Change::Cut(*length as usize)),
            Operation::Sync { file } => {
                let contents = &mut self.files[self.open[file]];
                contents.synced = contents.shown.clone();
                contents.unsynced.clear();
            }
            Operation::CreateFolder { path } => self.name(None, Some((path.clone(), Node::Folder))),
            Operation::Rename { from, to } => {
                let node = self.names[from];
                self.name(Some(from.clone()), Some((to.clone(), node)));
            }
            Operation::Remove { path } => self.name(Some(path.clone()), None),
            Operation::RemoveFolder { path } => {
                // What is in it goes first.
                let within: Vec<PathBuf> =
                    self.names.keys().rev().filter(|name| name.starts_with(path)).cloned().collect();
                within.into_iter().for_each(|name| self.name(Some(name), None));
            }
            Operation::SyncFolder { path } => {
                self.namings.iter_mut().filter(|naming| naming.touches(path)).for_each(|it| it.synced = true);
            }
        }
    }

    fn change(&mut self, file: u64, change: Change) {
        let contents = &mut self.files[self.open[&file]];
        change.apply(&mut contents.shown);
        contents.unsynced.push(change);
    }

    fn name(&mut self, from: Option<PathBuf>, to: Option<(PathBuf, Node)>) {
        let naming = Naming { from, to, synced: false };
        apply_naming(&mut self.names, &naming);
        self.namings.push(naming);
    }

    /// What a crash leaves below `root`.
    fn crash(&self, root: &Path, names: Names, bytes: Bytes, random: &mut ChaCha8Rng) -> Layout {
        let unsynced = self.namings.iter().filter(|naming| !naming.synced).count();
        let mut kept = match names {
            Names::All => unsynced,
            Names::None => 0,
            Names::Some => below(random, unsynced + 1),
        };
        let mut found = BTreeMap::new();
        for naming in &self.namings {
            let keeps = naming.synced || kept > 0;
            kept -= usize::from(!naming.synced && kept > 0);
            if keeps {
                apply_naming(&mut found, naming);
            }
        }
        let is_there = |path: &Path| {
            let mut above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
            above.all(|folder| found.get(folder) == Some(&Node::Folder))
        };
        let there = found.iter().filter(|(path, _)| path.starts_with(root) && is_there(path));
        there
            .filter(|(path, _)| *path != root)
            .map(|(path, node)| {
                let contents = match node {
                    Node::Folder => None,
                    Node::File(index) => Some(self.files[*index].after(bytes, random)),
                };
                (path.strip_prefix(root).unwrap().to_path_buf(), contents)
            })
            .collect()
    }
}

fn apply_naming(names: &mut BTreeMap<PathBuf, Node>, naming: &Naming) {
    if let Some(from) = &naming.from {
        names.remove(from);
    }
    if let Some((to, node)) = &naming.to {
        names.insert(to.clone(), *node);
    }
}

fn below(random: &mut ChaCha8Rng, end: usize) -> usize {
    random.next_u32() as usize % end
}

impl Contents {
    fn after(&self, bytes: Bytes, random: &mut ChaCha8Rng) -> Vec<u8> {
        if self.unsynced.is_empty() {
            return self.shown.clone();
        }
        match bytes {
            Bytes::All => self.shown.clone(),
            Bytes::None => self.synced.clone(),
            Bytes::Zeros => self.blocks(1, |_| false),
            Bytes::UpTo(block) => {
                let mut found = self.synced.clone();
                let last = below(random, self.unsynced.len());
                self.unsynced[..last].iter().for_each(|change| change.apply(&mut found));
                if let Change::Write(at, new) = &self.unsynced[last] {
                    let end = (at + below(random, new.len() + 1)) / block * block;
                    Change::Write(*at, new[..end.saturating_sub(*at)].to_vec()).apply(&mut found);
                }
                found
            }
            Bytes::Any(block) => {
                let seed = random.next_u32();
                self.blocks(block, |number| {
                    ChaCha8Rng::seed_from_u64(u64::from(seed) ^ (number as u64) << 32).next_u32() % 2 == 0
                })
            }
        }
    }

    /// The length that is shown, and the unsynced bytes of the blocks that `keeps` chooses.
    fn blocks(&self, block: usize, keeps: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut found = self.synced.clone();
        found.resize(self.shown.len(), 0);
        for change in &self.unsynced {
            let Change::Write(at, new) = change else { continue };
            for place in *at..(at + new.len()).min(found.len()) {
                if keeps(place / block) {
                    found[place] = self.shown[place];
                }
            }
        }
        found
    }
}

/// States of the disk that crashes leave during a recorded run on `disk`, each once. All, or so many of them:
/// those after a sync or a change of names, where something has just become true, come first.
fn layouts(mut disk: Disk, operations: &[Operation], root: &Path, most: usize) -> Vec<Layout> {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let (mut seen, mut first, mut others) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (number, operation) in operations.iter().enumerate() {
        disk.apply(operation);
        let is_write = |operation: Option<&Operation>| {
            operation.is_none_or(|it| matches!(it, Operation::Write { .. } | Operation::Cut { .. }))
        };
        let plain = is_write(Some(operation)) && is_write(operations.get(number + 1));
        for (names, bytes) in CRASHES {
            let layout = disk.crash(root, names, bytes, &mut random);
            if seen.insert(layout.clone()) {
                if plain { &mut others } else { &mut first }.push(layout);
            }
        }
    }
    let mut chosen = Vec::new();
    for mut states in [first, others] {
        while chosen.len() < most && !states.is_empty() {
            chosen.push(states.swap_remove(below(&mut random, states.len())));
        }
    }
    println!(
        "{} operations, {} states of the disk, {} of them tried",
        operations.len(),
        seen.len(),
        chosen.len()
    );
    chosen
}

fn lay_out(layout: &Layout, root: &Path) {
    fs::create_dir(root).unwrap();
    for (name, contents) in layout {
        let path = root.join(name);
        match contents {
            None => fs::create_dir(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
    }
}

fn most(few: usize) -> usize {
    std::env::var("TL_CRASHES").ok().and_then(|most| most.parse().ok()).unwrap_or(few)
}

/// What to show where a state of the disk is not gone on from.
fn shown(layout: &Layout) -> String {
    let line = |(name, contents): (&PathBuf, &Option<Vec<u8>>)| match contents {
        None => format!("{}/\n", name.display()),
        Some(bytes) if name.ends_with("journal.jsonl") => {
            format!("{}: {}\n", name.display(), String::from_utf8_lossy(bytes))
        }
        Some(bytes) => format!("{}: {} bytes\n", name.display(), bytes.len()),
    };
    layout.iter().map(line).collect()
}

/// All files of a folder but the hidden ones.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), path));
    named
        .filter(|(name, _)| !name.starts_with('.'))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

/// Crashes of a run that writes `out`, and of one that goes on after a crash: from each the same files
/// come out, with the same exit code.
fn crash_outputs(command: &str, out: &str, few: usize) {
    let folder = crowd(150);
    let call = |root: &str| {
        let call = Tl::new([command, "--device", "cpu", "--threads", "1", "--batch-size", "7", "--model"]);
        let out = format!("{root}/{out}");
        call.arg(repository(LETTERS)).args(["images", "--resume", "--out", &out]).cwd(folder.path())
    };
    let recorded = |root: &str| {
        let record = folder.path().join(format!("{root}.record"));
        call(root).env("TL_RECORD_FILES", &record).run().expect(1);
        let root = folder.path().join(root);
        (read_record(&record), fs::canonicalize(&root).unwrap(), files(&root))
    };
    // From each state to the end; the states that had rows to go on with.
    let try_all = |layouts: Vec<Layout>, whole: &BTreeMap<String, Vec<u8>>| {
        let mut with_rows = Vec::new();
        for layout in layouts {
            let crashed = folder.path().join("crashed");
            lay_out(&layout, &crashed);
            let run: Run = call("crashed").run();
            let same = run.code == Some(1) && files(&crashed) == *whole;
            assert!(same, "{}\nafter a crash that has left\n{}", run.stderr, shown(&layout));
            assert!(!crashed.join(format!(".{out}.partial")).exists(), "{}", shown(&layout));
            fs::remove_dir_all(&crashed).unwrap();
            if run.stderr.contains("going on after") {
                with_rows.push(layout);
            }
        }
        with_rows
    };
    let (operations, root, whole) = recorded("whole");
    let with_rows = try_all(layouts(Disk::default(), &operations, &root, most(few)), &whole);
    let start = with_rows.first().expect("no state had anything to go on from");
    lay_out(start, &folder.path().join("again"));
    let (operations, root, again) = recorded("again");
    assert!(again == whole);
    try_all(layouts(Disk::of(start, &root), &operations, &root, most(few / 2)), &whole);
}

#[test]
fn extract_goes_on_after_any_crash() {
    crash_outputs("extract", "x.npy", 36);
    crash_outputs("extract", "x.parquet", 28);
}

#[test]
fn predict_goes_on_after_any_crash() {
    crash_outputs("predict", "p.csv", 28);
    crash_outputs("predict", "p.jsonl", 20);
}

#[test]
fn finetune_goes_on_after_any_crash() {
    for (method, sets, few) in [("linear", &[][..], 20), ("full", &["train.epochs=2"][..], 24)] {
        let lab = Lab::of(method, 2);
        let record = lab.path("record");
        lab.finetune_with("1", "whole", sets).env("TL_RECORD_FILES", &record).run().expect(0);
        let operations = read_record(&record);
        let root = fs::canonicalize(lab.path("whole")).unwrap();
        for layout in layouts(Disk::default(), &operations, &root, most(few)) {
            lay_out(&layout, &lab.path("crashed"));
            let run = lab.finetune_with("1", "crashed", sets).arg("--resume").run();
            assert!(run.code == Some(0), "{}\nafter a crash that has left\n{}", run.stderr, shown(&layout));
            assert_same_result(&lab, "whole", "crashed");
            fs::remove_dir_all(lab.path("crashed")).unwrap();
        }
    }
}

/// Of the same run without a sync of any file, crashes leave states that nothing can be made of: the
/// simulation finds them.
#[test]
fn a_forgotten_sync_is_found() {
    let lab = Lab::of("linear", 2);
    let record = lab.path("record");
    lab.finetune_with("1", "whole", &[]).env("TL_RECORD_FILES", &record).run().expect(0);
    let mut operations = read_record(&record);
    operations.retain(|operation| !matches!(operation, Operation::Sync { .. }));
    let root = fs::canonicalize(lab.path("whole")).unwrap();
    let fails = |layout: &Layout| {
        lay_out(layout, &lab.path("crashed"));
        let run = lab.finetune_with("1", "crashed", &[]).arg("--resume").run();
        fs::remove_dir_all(lab.path("crashed")).unwrap();
        run.code != Some(0)
    };
    assert!(layouts(Disk::default(), &operations, &root, 40).iter().any(fails));
}
