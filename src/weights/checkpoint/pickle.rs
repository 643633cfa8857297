//! A parsed pickle (a checkpoint's, or one of CIFAR's): a flat list of objects that refer to one
//! another by number.
//!
//! Flat, because a hostile pickle nests as deep as it is long: neither reading nor dropping may
//! recurse. Strings are slices of the file. Calls are recorded, never made.

mod machine;

use super::quoted;

pub(crate) use machine::read;

/// PyTorch's magic number 0x1950A86A20F9469CFC6C, which starts the legacy stream, as LONG1's bytes.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same, as protocols 0 and 1 write it.
const MAGIC_AS_TEXT: &[u8] = b"119547037146038801333356";
/// The beginning of a legacy stream of protocol 0 or 1.
pub(crate) const MAGIC_AS_TEXT_OPCODE: &[u8] = b"L119547037146038801333356L\n";

/// A value: a small one inline, or the number of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: little-endian bytes, or decimal digits in protocols 0 and 1.
    BigInt(&'a [u8]),
    /// Never used, so never decoded.
    Float,
    Str(&'a str),
    Bytes(&'a [u8]),
    Object(u32),
}

/// An object. Lists and sets are the same here: nothing needs to tell them apart.
#[derive(Debug)]
pub(crate) enum Object<'a> {
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    /// In the file's order, duplicate keys included.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A class or function by name.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// The result of calling or instantiating something.
    Call {
        callee: Value<'a>,
        args: Value<'a>,
        /// Whether the file requests a new object of a class (rather than a call of any callable).
        instance: bool,
        /// Items set by `object[key] = value`.
        items: Vec<(Value<'a>, Value<'a>)>,
        /// The state its attributes were set from.
        state: Value<'a>,
    },
    /// A storage, which only the container can resolve.
    Persistent(Value<'a>),
}

/// The entries of a dictionary, in the order of the file, duplicate keys included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping<'p, 'a> {
    pickle: &'p Pickle<'a>,
    /// Tuples or lists of two.
    pairs: &'p [Value<'a>],
    /// What follows them.
    items: &'p [(Value<'a>, Value<'a>)],
}

impl<'p, 'a> Mapping<'p, 'a> {
    pub(crate) fn len(&self) -> usize {
        self.pairs.len() + self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> + use<'p, 'a> {
        let pickle = self.pickle;
        let pairs = self.pairs.iter().filter_map(|&pair| match pickle.sequence(pair) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        });
        pairs.chain(self.items.iter().copied())
    }
}

/// A pickle read to its end.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    /// Its value.
    pub(crate) root: Value<'a>,
    /// Its length in bytes.
    pub(crate) len: usize,
}

impl<'a> Pickle<'a> {
    /// The object of a value.
    pub(crate) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index as usize),
            _ => None,
        }
    }

    /// All objects, in order of creation.
    pub(crate) fn objects(&self) -> &[Object<'a>] {
        &self.objects
    }

    /// The elements of a list or a tuple. (`torch.Size` is a tuple too.)
    pub(crate) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::List(items) | Object::Tuple(items) => Some(items),
            Object::Call { callee, args, .. } if self.global(*callee) == Some(("torch", "Size")) => {
                match self.object(self.arguments(*args).first().copied()?)? {
                    Object::List(items) | Object::Tuple(items) => Some(items),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The elements of an argument tuple; empty if it is no tuple.
    pub(crate) fn arguments(&self, value: Value<'a>) -> &[Value<'a>] {
        match self.object(value) {
            Some(Object::Tuple(items)) => items,
            _ => &[],
        }
    }

    /// Module and name of a global.
    pub(crate) fn global(&self, value: Value<'a>) -> Option<(&'a str, &'a str)> {
        match self.object(value)? {
            Object::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// The entries of any kind of dictionary. Nothing is copied: a pickle may refer to one
    /// dictionary from everywhere.
    pub(crate) fn mapping(&self, value: Value<'a>) -> Option<Mapping<'_, 'a>> {
        match self.object(value)? {
            Object::Dict(items) => Some(Mapping { pickle: self, pairs: &[], items }),
            Object::Call { callee, args, items, .. } => {
                let dictionary = [
                    ("collections", "OrderedDict"),
                    ("collections", "defaultdict"),
                    ("builtins", "dict"),
                    ("__builtin__", "dict"),
                ];
                if !dictionary.contains(&self.global(*callee)?) {
                    return None;
                }
                // Python 2 passed an OrderedDict's entries as an argument: a list of pairs. No
                // dictionary takes two such lists, and defaultdict has its factory before it.
                let args = self.arguments(*args);
                let pairs = match args {
                    [] => &[],
                    [first] | [_, first] => self.sequence(*first).unwrap_or_default(),
                    _ => return None,
                };
                let is_pair = |pair: &Value<'a>| matches!(self.sequence(*pair), Some([_, _]));
                pairs.iter().all(is_pair).then_some(Mapping { pickle: self, pairs, items })
            }
            _ => None,
        }
    }

    /// A description of a value, for a message.
    pub(crate) fn describe(&self, value: Value<'a>) -> String {
        let Value::Object(_) = value else {
            let word = match value {
                Value::None => "None",
                Value::Bool(_) => "a truth value",
                Value::Str(_) => "a string",
                Value::Bytes(_) => "bytes",
                _ => "a number",
            };
            return word.into();
        };
        match self.object(value) {
            Some(Object::Dict(_)) => "a dictionary".into(),
            _ if self.mapping(value).is_some() => "a dictionary".into(),
            Some(Object::List(_)) => "a list".into(),
            Some(Object::Tuple(_)) => "a tuple".into(),
            Some(Object::Call { callee, .. }) => format!("an object of {}", quoted(&self.callee(*callee))),
            Some(Object::Global { module, name }) => {
                format!("the Python name {}", quoted(&dotted(module, name)))
            }
            _ => "an object".into(),
        }
    }

    /// The dotted name of a call's target.
    pub(crate) fn callee(&self, callee: Value<'a>) -> String {
        match self.object(callee) {
            Some(Object::Global { module, name }) => dotted(module, name),
            // Whole modules of the legacy stream keep their class's source: ('module', class, ..).
            Some(Object::Persistent(id)) => match self.sequence(*id) {
                Some([_, class, ..]) => match self.global(*class) {
                    Some((module, name)) => dotted(module, name),
                    None => "an unnamed class".into(),
                },
                _ => "an unnamed class".into(),
            },
            _ => "an unnamed class".into(),
        }
    }

    /// The calls of functions that run programs or code, by name, each once. None was made.
    pub(crate) fn dangerous_calls(&self) -> Vec<String> {
        let mut names = Vec::new();
        for object in &self.objects {
            let Object::Call { callee, .. } = object else { continue };
            let Some((module, name)) = self.global(*callee) else { continue };
            if names.len() == 10 {
                break;
            }
            if is_dangerous(module, name) {
                let name = dotted(module, name);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }
}

/// A dotted name. A longer one is cut: a file may have a thousand calls of one name of a megabyte.
fn dotted(module: &str, name: &str) -> String {
    const LONGEST: usize = 200;
    let cut = |text: &'_ str| text.floor_char_boundary(LONGEST);
    format!("{}.{}", &module[..cut(module)], &name[..cut(name)])
}

/// Whether no honest checkpoint calls this. Only the wording depends on it: nothing is ever called.
pub(crate) fn is_dangerous(module: &str, name: &str) -> bool {
    // The longest of these packages has ten letters.
    let beginning = &module[..module.floor_char_boundary(16)];
    let package = beginning.split('.').next().unwrap_or(beginning);
    match package {
        "builtins" | "__builtin__" => {
            matches!(
                name,
                "eval" | "exec" | "execfile" | "compile" | "open" | "__import__" | "apply" | "input"
            )
        }
        _ => matches!(
            package,
            "os" | "posix"
                | "nt"
                | "subprocess"
                | "sys"
                | "shutil"
                | "runpy"
                | "pty"
                | "socket"
                | "importlib"
                | "webbrowser"
                | "commands"
                | "popen2"
                | "ctypes"
                | "marshal"
                | "code"
                | "pip"
                | "pdb"
                | "bdb"
                | "timeit"
                | "cProfile"
                | "urllib"
                | "requests"
        ),
    }
}

/// Whether a value is the magic number of PyTorch's legacy stream.
pub(crate) fn is_magic(value: Value) -> bool {
    matches!(value, Value::BigInt(digits) if digits == MAGIC || digits == MAGIC_AS_TEXT)
}
