//! The container of PyTorch 1.6 and later: a zip of stored entries below one folder.
//!
//! Our own reader, because it must be stricter than a general one: entries that overlap, lie
//! outside the file or occur twice are refused, and PyTorch's files without checksums are
//! understood. The format is PKWARE's APPNOTE 6.3.

use std::collections::HashMap;

use super::rebuild::{Budgets, Storages};
use super::{
    Checkpoint, Parsed, cut_short, damaged, listed, pickle, quoted, slice_at, state_dict, u16_at, u32_at,
    u64_at,
};

const END: usize = 22;
const END64: usize = 56;
const LOCATOR64: usize = 20;
const CENTRAL: usize = 46;
const LOCAL: usize = 30;
/// A comment's length is a 16-bit number.
const MAX_COMMENT: usize = 0xffff;
/// Flag: checksum and sizes follow the data, and may be 0 in the local header.
const SIZES_FOLLOW: u16 = 1 << 3;
const ENCRYPTED: u16 = 1;
/// The method of uncompressed entries.
const STORED: u16 = 0;

/// Reads PyTorch's zip.
///
/// # Errors
///
/// If it is another zip, cut short, damaged (by the checksums), or holds no state dict.
pub(super) fn read(bytes: &[u8]) -> Parsed<Checkpoint> {
    let archive = Archive::of(bytes)?;
    let folder = archive.torch_folder()?;
    let unchecked = archive.check()?;
    if archive.get(folder, "byteorder").is_some_and(|order| order.trim_ascii() == b"big") {
        return Err(
            "was written on a big-endian machine, which is not supported; load it in PyTorch and save it \
                    again"
                .into(),
        );
    }
    let object = pickle::read(archive.get(folder, "data.pkl").unwrap_or_default())?;
    let storages = Folder { archive: &archive, name: folder };
    let mut checkpoint = state_dict::read(&object, &storages, Budgets::for_file(bytes))?;
    if unchecked {
        checkpoint.warnings.push(
            "the file was saved without checksums (PyTorch's `compute_crc32` was off), so damage cannot be found"
                .into(),
        );
    }
    Ok(checkpoint)
}

/// The folder of PyTorch's files in the archive: it may have any name.
struct Folder<'a, 'b> {
    archive: &'b Archive<'a>,
    name: &'a str,
}

impl<'a> Storages<'a> for Folder<'a, '_> {
    fn storage(&self, key: &str) -> Option<&'a [u8]> {
        self.archive.get(self.name, &format!("data/{key}"))
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    stored: bool,
    crc: u32,
    /// Offset of its local header.
    start: usize,
    data: &'a [u8],
    /// End of its data.
    end: usize,
}

struct Archive<'a> {
    entries: Vec<Entry<'a>>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Archive<'a> {
    fn of(bytes: &'a [u8]) -> Parsed<Self> {
        let directory = Directory::of(bytes)?;
        let mut entries = Vec::new();
        let mut at = directory.start;
        for _ in 0..directory.entries {
            let (entry, next) = central(bytes, at, &directory)?;
            entries.push(entry);
            at = next;
        }
        if at != directory.end {
            return Err(wrong_directory());
        }
        let mut by_name = HashMap::new();
        entries.sort_by_key(|entry| entry.start);
        for (index, entry) in entries.iter().enumerate() {
            if by_name.insert(entry.name, index).is_some() {
                return Err(damaged(format!("its entry {} occurs twice", quoted(entry.name))));
            }
        }
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].end > pair[1].start) {
            let [first, second] = [quoted(pair[0].name), quoted(pair[1].name)];
            return Err(damaged(format!("its entries {first} and {second} overlap")));
        }
        Ok(Archive { entries, by_name })
    }

    fn get(&self, folder: &str, name: &str) -> Option<&'a [u8]> {
        let index = self.by_name.get(format!("{folder}/{name}").as_str())?;
        Some(self.entries.get(*index)?.data)
    }

    /// The folder of `data.pkl`, if this is an archive of `torch.save`.
    fn torch_folder(&self) -> Parsed<&'a str> {
        let folder = self.entries.iter().find_map(|entry| {
            let (folder, _) = entry.name.split_once('/')?;
            self.get(folder, "data.pkl").map(|_| folder)
        });
        let script = self.entries.iter().any(|entry| {
            let inner = entry.name.split_once('/').map_or(entry.name, |(_, inner)| inner);
            inner == "constants.pkl" || inner == "model.json" || inner.starts_with("code/")
        });
        match folder {
            _ if script => Err("is a TorchScript archive (torch.jit.save), not a state dict; in Python: \
                                torch.save(torch.jit.load(path).state_dict(), ...)"
                .into()),
            Some(folder) => Ok(folder),
            None if self.entries.is_empty() => Err("is an empty zip archive".into()),
            None => Err(format!(
                "is a zip archive, but not one of PyTorch (no data.pkl): it holds {}; unpack it if there are \
                 weights in it",
                listed(self.entries.iter().map(|entry| entry.name))
            )),
        }
    }

    /// Verifies all checksums, which requires stored entries. `true` if the archive has none:
    /// PyTorch can leave them out, and then all are 0.
    fn check(&self) -> Parsed<bool> {
        if let Some(entry) = self.entries.iter().find(|entry| !entry.stored) {
            return Err(format!(
                "is a compressed zip archive (its entry {}), which PyTorch does not write; unpack it, and zip it \
                 again without compression",
                quoted(entry.name)
            ));
        }
        let unchecked = self.entries.iter().all(|entry| entry.crc == 0);
        if unchecked {
            return Ok(self.entries.iter().any(|entry| !entry.data.is_empty()));
        }
        match self.entries.iter().find(|entry| crc32fast::hash(entry.data) != entry.crc) {
            Some(entry) => {
                Err(damaged(format!("the checksum of its entry {} does not match", quoted(entry.name))))
            }
            None => Ok(false),
        }
    }
}

fn wrong_directory() -> String {
    damaged("its zip directory contradicts itself")
}

/// Offset of the central directory, and its number of entries.
struct Directory {
    start: usize,
    end: usize,
    entries: u64,
}

impl Directory {
    fn of(bytes: &[u8]) -> Parsed<Self> {
        let at = end_record(bytes).ok_or_else(|| cut_short("the directory at its end is missing"))?;
        let field = |offset| u16_at(bytes, at + offset).ok_or_else(wrong_directory);
        let field32 = |offset| u32_at(bytes, at + offset).ok_or_else(wrong_directory);
        let (disk, directory_disk, here, all) = (field(4)?, field(6)?, field(8)?, field(10)?);
        let (size, start) = (field32(12)?, field32(16)?);

        let locator = at.checked_sub(LOCATOR64).filter(|&at| bytes[at..].starts_with(b"PK\x06\x07"));
        let (start, size, entries, end) = match locator {
            Some(locator) => {
                let end = u64_at(bytes, locator + 8).and_then(|end| usize::try_from(end).ok());
                let end = end.ok_or_else(wrong_directory)?;
                let record = slice_at(bytes, end, END64).ok_or_else(wrong_directory)?;
                if !record.starts_with(b"PK\x06\x06") || end + END64 > locator {
                    return Err(wrong_directory());
                }
                let field64 = |offset| u64_at(record, offset).ok_or_else(wrong_directory);
                // Values that fit into the small record must be equal there.
                let (start64, size64, all64) = (field64(48)?, field64(40)?, field64(32)?);
                let agrees = |small: u64, limit: u64, large: u64| small == limit || small == large;
                if !agrees(start.into(), u32::MAX.into(), start64)
                    || !agrees(size.into(), u32::MAX.into(), size64)
                    || !agrees(all.into(), u16::MAX.into(), all64)
                {
                    return Err(wrong_directory());
                }
                (start64, size64, all64, end)
            }
            None if disk != 0 || directory_disk != 0 || here != all => return Err(wrong_directory()),
            None => (start.into(), size.into(), all.into(), at),
        };
        let start = usize::try_from(start).map_err(|_| wrong_directory())?;
        let fits = usize::try_from(size).ok().and_then(|size| start.checked_add(size)) == Some(end);
        if !fits {
            return Err(wrong_directory());
        }
        Ok(Directory { start, end, entries })
    }
}

/// The position of the end record: its comment fills the rest of the file.
fn end_record(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END)?;
    let first = last.saturating_sub(MAX_COMMENT);
    (first..=last).rev().find(|&at| {
        bytes[at..].starts_with(b"PK\x05\x06")
            && u16_at(bytes, at + 20).is_some_and(|comment| at + END + usize::from(comment) == bytes.len())
    })
}

/// One record of the directory with its data, and the offset of the next record.
fn central<'a>(bytes: &'a [u8], at: usize, directory: &Directory) -> Parsed<(Entry<'a>, usize)> {
    let records = &bytes[..directory.end];
    let header = slice_at(records, at, CENTRAL).ok_or_else(wrong_directory)?;
    if !header.starts_with(b"PK\x01\x02") {
        return Err(wrong_directory());
    }
    let field = |offset| u16_at(header, offset).ok_or_else(wrong_directory);
    let field32 = |offset| u32_at(header, offset).ok_or_else(wrong_directory);
    let (flags, method, crc) = (field(8)?, field(10)?, field32(16)?);
    let [name_len, extra_len, comment_len] = [field(28)?, field(30)?, field(32)?].map(usize::from);
    let name = slice_at(records, at + CENTRAL, name_len).ok_or_else(wrong_directory)?;
    let extra = slice_at(records, at + CENTRAL + name_len, extra_len).ok_or_else(wrong_directory)?;
    let next = at + CENTRAL + name_len + extra_len + comment_len;

    let name = std::str::from_utf8(name).map_err(|_| wrong_directory())?;
    if flags & ENCRYPTED != 0 {
        return Err(format!(
            "is a zip archive with a password (its entry {}), not one of PyTorch",
            quoted(name)
        ));
    }
    let mut wide = extra_field(extra, 1).unwrap_or_default();
    let mut large = |small: u32| -> Parsed<usize> {
        if small != u32::MAX {
            return Ok(small as usize);
        }
        let number = u64_at(wide, 0).ok_or_else(wrong_directory)?;
        wide = &wide[8..];
        usize::try_from(number).map_err(|_| wrong_directory())
    };
    let (size, packed, start) = (large(field32(24)?)?, large(field32(20)?)?, large(field32(42)?)?);
    if method == STORED && size != packed {
        return Err(wrong_directory());
    }

    let misplaced = || damaged(format!("its entry {} is not where the directory says", quoted(name)));
    // An entry lies entirely before the directory.
    let body = &bytes[..directory.start];
    let local = slice_at(body, start, LOCAL).ok_or_else(misplaced)?;
    let local_field = |offset| u16_at(local, offset).ok_or_else(misplaced);
    let local_name = slice_at(body, start + LOCAL, local_field(26)?.into());
    let header_len = LOCAL + usize::from(local_field(26)?) + usize::from(local_field(28)?);
    if !local.starts_with(b"PK\x03\x04") || local_name != Some(name.as_bytes()) || local_field(8)? != method {
        return Err(misplaced());
    }
    if local_field(6)? & SIZES_FOLLOW == 0 && u32_at(local, 14) != Some(crc) {
        return Err(misplaced());
    }
    let data =
        start.checked_add(header_len).and_then(|at| slice_at(body, at, packed)).ok_or_else(misplaced)?;
    Ok((Entry { name, stored: method == STORED, crc, start, data, end: start + header_len + packed }, next))
}

/// The extra field with this tag.
fn extra_field(mut extra: &[u8], tag: u16) -> Option<&[u8]> {
    loop {
        let field = slice_at(extra, 4, u16_at(extra, 2)?.into())?;
        if u16_at(extra, 0)? == tag {
            return Some(field);
        }
        extra = &extra[4 + field.len()..];
    }
}
