//! The stack machine: the opcodes of protocols 0 to 5 (CPython's `Lib/pickletools.py`).

use std::collections::HashMap;

use super::{Object, Pickle, Value};
use crate::weights::checkpoint::{Parsed, cut_short, damaged, slice_at, u16_at, u32_at, u64_at};

/// Limit on objects, stack and marks, each: some hundred times the need of a large training
/// checkpoint, and 100 MB at worst.
const MAX_OBJECTS: usize = 1 << 20;
/// Limit on opcodes, which bounds the memory of lists and dictionaries: another 100 MB.
const MAX_OPCODES: usize = 1 << 22;

/// Reads the one pickle at the start of `input`.
///
/// # Errors
///
/// If `input` ends before the pickle, if its program is malformed, or if it is larger or deeper
/// than any checkpoint.
pub(crate) fn read(input: &[u8]) -> Parsed<Pickle<'_>> {
    let mut machine = Machine { input, ..Machine::default() };
    for _ in 0..MAX_OPCODES {
        if let Some(root) = machine.step()? {
            return Ok(Pickle { objects: machine.objects, root, len: machine.at });
        }
    }
    Err(too_much())
}

fn too_much() -> String {
    format!(
        "nests deeper or holds more objects than any weights file or data set ({MAX_OBJECTS} are the limit): \
         it is damaged or hostile"
    )
}

fn ends_early() -> String {
    cut_short("the description of what it holds (a pickle) ends in the middle")
}

fn malformed() -> String {
    damaged("the description of what it holds (a pickle) makes no sense")
}

#[derive(Default)]
struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Positions of the open marks on the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    objects: Vec<Object<'a>>,
}

impl<'a> Machine<'a> {
    /// Runs one opcode; returns the pickle's value after the last one.
    fn step(&mut self) -> Parsed<Option<Value<'a>>> {
        match self.take(1)?[0] {
            b'.' => return self.pop().map(Some),

            // Small values.
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => self.sized_int(1)?,
            b'M' => self.sized_int(2)?,
            b'J' => {
                let value = self.length(4)? as u32 as i32;
                self.push(Value::Int(value.into()))?;
            }
            b'I' => match self.line()? {
                b"00" => self.push(Value::Bool(false))?,
                b"01" => self.push(Value::Bool(true))?,
                digits => self.decimal(digits)?,
            },
            b'L' => {
                let line = self.line()?;
                self.decimal(line.strip_suffix(b"L").unwrap_or(line))?;
            }
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'F' => {
                self.line()?;
                self.push(Value::Float)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float)?;
            }

            // Strings and bytes. A Python 2 string may be either, so text is tried first.
            b'X' | b'T' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'B' => self.bytes(4)?,
            b'C' => self.bytes(1)?,
            0x8e | 0x96 => self.bytes(8)?,
            b'V' => {
                let line = self.line()?;
                self.unescaped(line)?;
            }
            b'S' => {
                let line = self.line()?;
                let inner = match line {
                    [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
                    _ => return Err(malformed()),
                };
                self.unescaped(inner)?;
            }

            // Containers.
            b'(' => {
                self.marks.push(self.stack.len());
                if self.marks.len() > MAX_OBJECTS {
                    return Err(too_much());
                }
            }
            b']' | 0x8f => self.push_object(Object::List(Vec::new()))?,
            b')' => self.push_object(Object::Tuple(Vec::new()))?,
            b'}' => self.push_object(Object::Dict(Vec::new()))?,
            b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push_object(Object::List(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push_object(Object::Tuple(items))?;
            }
            b'd' => {
                let items = pairs(&self.pop_mark()?)?;
                self.push_object(Object::Dict(items))?;
            }
            count @ 0x85..=0x87 => {
                let mut items = Vec::with_capacity(3);
                for _ in 0x85..=count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push_object(Object::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let items = pairs(&self.pop_mark()?)?;
                self.set_items(items)?;
            }

            // Names, and calls on them.
            b'c' => {
                let module = self.name()?;
                let name = self.name()?;
                self.push_object(Object::Global { module, name })?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Str(module), Value::Str(name)) = (module, name) else { return Err(malformed()) };
                self.push_object(Object::Global { module, name })?;
            }
            b'R' => self.call(false)?,
            0x81 => self.call(true)?,
            0x92 => {
                self.pop()?;
                self.call(true)?;
            }
            b'o' => {
                let mut items = self.pop_mark()?;
                if items.is_empty() {
                    return Err(malformed());
                }
                let callee = items.remove(0);
                self.instance(callee, items)?;
            }
            b'i' => {
                let (module, name) = (self.name()?, self.name()?);
                let callee = self.object(Object::Global { module, name })?;
                let items = self.pop_mark()?;
                self.instance(callee, items)?;
            }
            // An object's attributes: the contents of a numpy array. Nothing else here needs them.
            b'b' => {
                let attributes = self.pop()?;
                self.top()?;
                if let Ok(Object::Call { state, .. }) = self.top_object() {
                    *state = attributes;
                }
            }
            b'P' => {
                let id = self.name()?;
                self.push_object(Object::Persistent(Value::Str(id)))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push_object(Object::Persistent(id))?;
            }

            // The stack and the memo.
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'p' => {
                let key = self.memo_key()?;
                self.remember(key)?;
            }
            b'q' => {
                let key = self.length(1)?;
                self.remember(key)?;
            }
            b'r' => {
                let key = self.length(4)?;
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'g' => {
                let key = self.memo_key()?;
                self.recall(key)?;
            }
            b'h' => {
                let key = self.length(1)?;
                self.recall(key)?;
            }
            b'j' => {
                let key = self.length(4)?;
                self.recall(key)?;
            }

            // The protocol's number, and frames, which only help reading ahead.
            0x80 => {
                self.take(1)?;
            }
            0x95 => {
                self.take(8)?;
            }
            // Extension codes and out-of-band buffers, which need an agreement outside the file.
            _ => return Err(malformed()),
        }
        Ok(None)
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let taken = slice_at(self.input, self.at, count).ok_or_else(ends_early)?;
        self.at += count;
        Ok(taken)
    }

    /// A little-endian number of 1, 2, 4 or 8 bytes.
    fn length(&mut self, size: usize) -> Parsed<u64> {
        let bytes = self.take(size)?;
        let number = match size {
            1 => bytes.first().map(|&byte| byte.into()),
            2 => u16_at(bytes, 0).map(u64::from),
            4 => u32_at(bytes, 0).map(u64::from),
            _ => u64_at(bytes, 0),
        };
        number.ok_or_else(malformed)
    }

    /// Bytes preceded by their count, a number of `size` bytes.
    fn counted(&mut self, size: usize) -> Parsed<&'a [u8]> {
        let count = usize::try_from(self.length(size)?).map_err(|_| ends_early())?;
        self.take(count)
    }

    /// Up to a line feed, which is consumed.
    fn line(&mut self) -> Parsed<&'a [u8]> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(ends_early)?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn name(&mut self) -> Parsed<&'a str> {
        std::str::from_utf8(self.line()?).map_err(|_| malformed())
    }

    fn memo_key(&mut self) -> Parsed<u64> {
        self.name()?.parse().map_err(|_| malformed())
    }

    fn sized_int(&mut self, size: usize) -> Parsed<()> {
        let value = self.length(size)?;
        self.push(Value::Int(value as i64))
    }

    /// A little-endian two's complement number of any length.
    fn long(&mut self, size: usize) -> Parsed<()> {
        let bytes = self.counted(size)?;
        if bytes.len() > 8 {
            return self.push(Value::BigInt(bytes));
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn decimal(&mut self, digits: &'a [u8]) -> Parsed<()> {
        let text = std::str::from_utf8(digits).map_err(|_| malformed())?.trim();
        let whole = text.strip_prefix('-').unwrap_or(text);
        if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        self.push(text.parse().map_or(Value::BigInt(digits), Value::Int))
    }

    fn text(&mut self, size: usize) -> Parsed<()> {
        let bytes = self.counted(size)?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Str))
    }

    fn bytes(&mut self, size: usize) -> Parsed<()> {
        let bytes = self.counted(size)?;
        self.push(Value::Bytes(bytes))
    }

    /// Text of protocol 0. No key of a state dict needs escapes, so text with escapes is never
    /// used.
    fn unescaped(&mut self, bytes: &'a [u8]) -> Parsed<()> {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\\') => self.push(Value::Str(text)),
            _ => self.push(Value::Bytes(bytes)),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Parsed<()> {
        if self.stack.len() >= MAX_OBJECTS {
            return Err(too_much());
        }
        self.stack.push(value);
        Ok(())
    }

    fn object(&mut self, object: Object<'a>) -> Parsed<Value<'a>> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(too_much());
        }
        self.objects.push(object);
        Ok(Value::Object(self.objects.len() as u32 - 1))
    }

    fn push_object(&mut self, object: Object<'a>) -> Parsed<()> {
        let value = self.object(object)?;
        self.push(value)
    }

    fn call(&mut self, instance: bool) -> Parsed<()> {
        let (args, callee) = (self.pop()?, self.pop()?);
        self.push_object(Object::Call { callee, args, instance, items: Vec::new(), state: Value::None })
    }

    fn instance(&mut self, callee: Value<'a>, args: Vec<Value<'a>>) -> Parsed<()> {
        let args = self.object(Object::Tuple(args))?;
        self.push_object(Object::Call { callee, args, instance: true, items: Vec::new(), state: Value::None })
    }

    /// The top of the stack above the last mark.
    fn top(&self) -> Parsed<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[_]>::last).copied().ok_or_else(malformed)
    }

    fn pop(&mut self) -> Parsed<Value<'a>> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Removes and returns everything above the last mark, and the mark.
    fn pop_mark(&mut self) -> Parsed<Vec<Value<'a>>> {
        let floor = self.marks.pop().ok_or_else(malformed)?;
        if floor > self.stack.len() {
            return Err(malformed());
        }
        // Not `split_off`, which would give every tuple the stack's capacity.
        let items = self.stack[floor..].to_vec();
        self.stack.truncate(floor);
        Ok(items)
    }

    /// The object on top of the stack.
    fn top_object(&mut self) -> Parsed<&mut Object<'a>> {
        let Value::Object(index) = self.top()? else { return Err(malformed()) };
        self.objects.get_mut(index as usize).ok_or_else(malformed)
    }

    fn append(&mut self, more: Vec<Value<'a>>) -> Parsed<()> {
        match self.top_object()? {
            Object::List(items) => items.extend(more),
            // A list of some other class, which is not used here.
            Object::Call { .. } => {}
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn set_items(&mut self, more: Vec<(Value<'a>, Value<'a>)>) -> Parsed<()> {
        match self.top_object()? {
            Object::Dict(items) | Object::Call { items, .. } => items.extend(more),
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Parsed<()> {
        let top = self.top()?;
        if self.memo.len() >= MAX_OBJECTS {
            return Err(too_much());
        }
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Parsed<()> {
        let value = self.memo.get(&key).copied().ok_or_else(malformed)?;
        self.push(value)
    }
}

/// Keys and values from alternating stack items.
fn pairs<'a>(flat: &[Value<'a>]) -> Parsed<Vec<(Value<'a>, Value<'a>)>> {
    let (pairs, rest) = flat.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(malformed());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
