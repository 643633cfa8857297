//! A disk as a crash of the machine leaves it: which bytes and which names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Deserialize;

/// A line of the record.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Operation {
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

pub fn read_record(path: &Path) -> Vec<Operation> {
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
pub struct Disk {
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
pub type Layout = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Disk {
    /// A disk with these files below `root`, all synced.
    pub fn of(layout: &Layout, root: &Path) -> Disk {
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

/// All states of the disk that crashes leave during a recorded run on `disk`, each once, in a random order:
/// those after a sync or a change of names, where something has just become true, come first.
pub fn layouts(mut disk: Disk, operations: &[Operation], root: &Path) -> Vec<Layout> {
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
    println!("{} operations, {} states of the disk", operations.len(), seen.len());
    let mut all = Vec::new();
    for mut states in [first, others] {
        while !states.is_empty() {
            all.push(states.swap_remove(below(&mut random, states.len())));
        }
    }
    all
}

/// Makes these files below `root`, which is new.
pub fn lay_out(layout: &Layout, root: &Path) {
    fs::create_dir(root).unwrap();
    for (name, contents) in layout {
        let path = root.join(name);
        match contents {
            None => fs::create_dir(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
    }
}

/// What to show where a state of the disk is not gone on from.
pub fn shown(layout: &Layout) -> String {
    let line = |(name, contents): (&PathBuf, &Option<Vec<u8>>)| match contents {
        None => format!("{}/\n", name.display()),
        Some(bytes) if name.ends_with("journal.jsonl") => {
            format!("{}: {}\n", name.display(), String::from_utf8_lossy(bytes))
        }
        Some(bytes) => format!("{}: {} bytes\n", name.display(), bytes.len()),
    };
    layout.iter().map(line).collect()
}
