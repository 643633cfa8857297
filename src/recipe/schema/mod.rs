//! The table of all keys of a recipe: one row, one key.
//!
//! Validation, the "did you mean" hints, `--set`, the notes on keys that a method does not use, the
//! tables of `docs/recipe.md` and `recipes/reference.yaml` are all derived from it (`make
//! reference` writes the last two, and a test compares them). A new key needs a row in the file of
//! its section, a field in `sections.rs`, and code that uses it.

mod augment;
mod data;
mod in_steps;
mod source;
mod strategy;
mod training;
mod whole;

use super::Method;
pub use super::kind::{Kind, Limits};

/// One key of the recipe.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The full path of the key, with dots: `train.epochs`.
    pub path: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Its default, as worded in the reference.
    pub default: &'static str,
    /// Its meaning, as worded in the reference.
    pub meaning: &'static str,
    /// A YAML value for the annotated recipe; empty for a section.
    pub example: &'static str,
    /// The remark after the example; may be empty.
    pub remark: &'static str,
    /// Whether the example is commented out, because it would exclude another key.
    pub commented: bool,
    /// The methods that use it.
    pub users: Users,
    /// Names of this key in other tools; they get a hint, and are not accepted.
    pub(super) also: &'static [&'static str],
}

/// The methods that use a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Users {
    /// All of them.
    All,
    /// Those with a training loop.
    FineTuning,
    /// These; `auto` and `race` stand for themselves, whatever they choose.
    These(&'static [Method]),
}

impl Users {
    /// Whether `method` uses the key, or `asked`, what the recipe names.
    pub fn include(self, method: Method, asked: Method) -> bool {
        match self {
            Users::All => true,
            Users::FineTuning => method.is_by_gradient(),
            Users::These(methods) => methods.contains(&method) || methods.contains(&asked),
        }
    }
}

impl Key {
    /// The last part of the path: `epochs` of `train.epochs`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the key's section; empty at the top.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    const fn example(mut self, example: &'static str, remark: &'static str) -> Self {
        (self.example, self.remark) = (example, remark);
        self
    }

    const fn hint(mut self, example: &'static str, remark: &'static str) -> Self {
        self.commented = true;
        self.example(example, remark)
    }

    const fn only(mut self, users: Users) -> Self {
        self.users = users;
        self
    }

    const fn also(mut self, also: &'static [&'static str]) -> Self {
        self.also = also;
        self
    }
}

/// The row of a path, if the key exists.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The keys directly in a section (`""`: at the top of the recipe).
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section() == section)
}

const fn key(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        meaning,
        example: "",
        remark: "",
        commented: false,
        users: Users::All,
        also: &[],
    }
}

/// Image sides in pixels: the maximum is ten times the input of any published network.
const SIDE: Kind = Kind::Whole(1, 4096);

/// The rows of each file, in the order of the reference.
const PARTS: [&[Key]; 7] =
    [source::KEYS, data::KEYS, strategy::KEYS, training::KEYS, in_steps::KEYS, augment::KEYS, whole::KEYS];

/// Every key, in the order of the reference.
pub const KEYS: &[Key] = &joined::<{ count() }>();

// `concat` is not for constants: by hand.
const fn count() -> usize {
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
}

const fn joined<const COUNT: usize>() -> [Key; COUNT] {
    let mut keys = [PARTS[0][0]; COUNT];
    let (mut place, mut part, mut row) = (0, 0, 0);
    while place < COUNT {
        if row == PARTS[part].len() {
            (part, row) = (part + 1, 0);
        }
        keys[place] = PARTS[part][row];
        (place, row) = (place + 1, row + 1);
    }
    keys
}
