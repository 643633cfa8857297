//! A CSV of `path,label`.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};

use super::{Image, Named};
use crate::error::{Error, Result};
use crate::util::look_alikes::hint_beside;
use crate::util::path_text::{located, path_text};
use crate::util::text::{counted, first_few, shown};

/// A larger file is refused: one quotation mark left open makes a single field of the rest of it.
const LARGEST: u64 = 512 << 20;
/// As many faults are shown; the others are counted.
const SHOWN: usize = 5;
const FIRST_ROW: &str = "; if the first row is a header, call its columns path,label";

/// Reads a CSV whose first row names the columns `path` and `label` among others, or that has these two
/// columns and no header. Paths are relative to the CSV's folder.
pub(super) fn read(csv: &Path) -> Result<Named> {
    let mut file = File::open(csv).map_err(Error::io("read", csv))?;
    let size = file.metadata().map_err(Error::io("read", csv))?.len();
    if size > LARGEST {
        return Err(Error::file(
            csv,
            format!("expected at most {} MiB, found {}", LARGEST >> 20, size >> 20),
        ));
    }
    let folder = csv.parent().unwrap_or(Path::new(""));
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::io("read", csv))?;
    let bytes = in_utf8(bytes);
    let mut reader = reader(delimiter(&bytes), &bytes);
    let mut rows = Rows::default();
    let mut record = ByteRecord::new();
    let mut columns: Option<Columns> = None;
    while reader.read_byte_record(&mut record).map_err(|error| unreadable(csv, error))? {
        let line = record.position().map_or(0, csv::Position::line);
        match &columns {
            Some(columns) => rows.add(folder, columns, &record, line),
            None => {
                let (first, is_header) = Columns::of(&record).map_err(|message| Error::file(csv, message))?;
                if !is_header {
                    rows.add(folder, &first, &record, line);
                }
                rows.has_header = is_header;
                columns = Some(first);
            }
        }
    }
    rows.finish(csv)
}

fn reader(delimiter: u8, bytes: &[u8]) -> csv::Reader<&[u8]> {
    ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes)
}

/// Text in UTF-16, as Excel and PowerShell write it, with a byte-order mark or with the zero bytes of Latin letters; any other is
/// left as it is.
fn in_utf8(bytes: Vec<u8>) -> Vec<u8> {
    let unit: fn([u8; 2]) -> u16 = match bytes[..] {
        [0xFE, 0xFF, ..] | [0, 1..=255, ..] => u16::from_be_bytes,
        [0xFF, 0xFE, ..] | [1..=255, 0, ..] => u16::from_le_bytes,
        _ => return bytes,
    };
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units).trim_start_matches('\u{feff}').as_bytes().to_vec()
}

/// What stands between the columns of the first row: the one that makes columns `path` and `label` of it, else the one that makes
/// any, a comma before the others.
fn delimiter(bytes: &[u8]) -> u8 {
    let first = |delimiter| {
        let mut record = ByteRecord::new();
        let read = reader(delimiter, bytes).read_byte_record(&mut record);
        if matches!(read, Ok(true)) { record } else { ByteRecord::new() }
    };
    let firsts = [b',', b';', b'\t'].map(|delimiter| (delimiter, first(delimiter)));
    let named = firsts.iter().find(|(_, first)| matches!(Columns::of(first), Ok((_, true))));
    named
        .or_else(|| firsts.iter().find(|(_, first)| first.len() > 1))
        .map_or(b',', |&(delimiter, _)| delimiter)
}

fn unreadable(csv: &Path, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io("read", csv)(source),
        other => Error::file(csv, format!("not a CSV: {other:?}")),
    }
}

/// Where the two columns stand, and how many there are.
struct Columns {
    path: usize,
    label: usize,
    count: usize,
    /// Those that say which part of the data an image belongs to, by their names.
    parts: Vec<(usize, &'static str)>,
}

/// Names of columns that divide a data set.
const DIVIDING: [&str; 14] = [
    "split",
    "data_split",
    "set",
    "subset",
    "partition",
    "usage",
    "phase",
    "is_train",
    "is_val",
    "is_valid",
    "is_test",
    "fold",
    "kfold",
    "part",
];

impl Columns {
    /// From the first row, and whether that row is a header.
    fn of(first: &ByteRecord) -> Result<(Columns, bool), String> {
        let at = |name: &str| -> Vec<usize> {
            let is = |field: &[u8]| field.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
            first.iter().enumerate().filter(|(_, field)| is(field)).map(|(i, _)| i).collect()
        };
        match (at("path").as_slice(), at("label").as_slice(), first.len()) {
            (&[path], &[label], count) => {
                let divides = |name| at(name).into_iter().map(move |place| (place, name));
                let parts = DIVIDING.into_iter().flat_map(divides).collect();
                Ok((Columns { path, label, count, parts }, true))
            }
            ([], _, 2) | (_, [], 2) => {
                Ok((Columns { path: 0, label: 1, count: 2, parts: Vec::new() }, false))
            }
            (_, _, count) => {
                let text: String = first.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
                Err(format!(
                    "line 1: expected the columns path,label, or a first row that names these two once among others, \
                     found {} (\"{}\")",
                    counted(count, "column", "columns"),
                    shown(&text)
                ))
            }
        }
    }
}

#[derive(Default)]
struct Rows {
    named: Named,
    has_header: bool,
    /// Label and line by path.
    seen: HashMap<PathBuf, (String, u64)>,
    faults: Vec<String>,
    more_faults: usize,
    missing: Vec<(u64, String)>,
    /// What is there in the place of the first one.
    hint: Option<String>,
    repeated: usize,
    /// What stands in each dividing column, two of it at most.
    parts: BTreeMap<&'static str, Vec<Vec<u8>>>,
}

impl Rows {
    fn fault(&mut self, line: u64, message: String) {
        if self.faults.len() < SHOWN {
            self.faults.push(format!("line {line}: {message}"));
        } else {
            self.more_faults += 1;
        }
    }

    fn add(&mut self, folder: &Path, columns: &Columns, record: &ByteRecord, line: u64) {
        if record.len() != columns.count {
            let found = counted(record.len(), "column", "columns");
            return self.fault(
                line,
                format!(
                    "expected {} columns, found {found}; a comma inside a field needs quotes",
                    columns.count
                ),
            );
        }
        let (path, label) = (&record[columns.path], record[columns.label].trim_ascii());
        for &(place, name) in &columns.parts {
            let part = record[place].trim_ascii();
            let seen = self.parts.entry(name).or_default();
            if seen.len() < 2 && seen.iter().all(|it| it != part) {
                seen.push(part.to_vec());
            }
        }
        if path.trim_ascii().is_empty() || label.is_empty() {
            let what = if path.trim_ascii().is_empty() { "path" } else { "label" };
            return self.fault(line, format!("the {what} is empty"));
        }
        let Ok(label) = std::str::from_utf8(label) else {
            return self.fault(line, "expected a label in UTF-8; save the file as UTF-8".into());
        };
        let name = path_text(OsStr::from_bytes(path.trim_ascii())).into_owned();
        let path = located(folder, path);
        if let Some((first, first_line)) = self.seen.get(&path) {
            if first == label {
                self.repeated += 1;
                return;
            }
            let message = format!(
                "{} is \"{}\" here and \"{}\" on line {first_line}; keep one",
                shown(&name),
                shown(label),
                shown(first)
            );
            return self.fault(line, message);
        }
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                let hint = if line == 1 && !self.has_header { FIRST_ROW } else { "" };
                return self.fault(line, format!("{} is no file{hint}", shown(&name)));
            }
            Err(_) => {
                if self.missing.is_empty() {
                    self.hint = hint_beside(&path);
                }
                self.missing.push((line, name.clone()));
            }
        }
        self.seen.insert(path.clone(), (label.into(), line));
        self.named.images.push(Image { path, name, class: label.into(), record: None });
    }

    fn finish(mut self, csv: &Path) -> Result<Named> {
        let mut told = std::mem::take(&mut self.faults);
        if self.more_faults > 0 {
            told.push(format!("and {} more", counted(self.more_faults, "such line", "such lines")));
        }
        if !self.missing.is_empty() {
            let names: Vec<String> = self
                .missing
                .iter()
                .take(SHOWN)
                .map(|(line, name)| format!("{} (line {line})", shown(name)))
                .collect();
            let more = self.missing.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let first_row = self.missing.len() == 1 && self.missing[0].0 == 1 && !self.has_header;
            let hint = match first_row {
                true => FIRST_ROW,
                false => "; paths are relative to the folder of the CSV",
            };
            let what = counted(self.missing.len(), "file is", "files are");
            let beside = self.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            told.push(format!("{what} not there: {}{more}{hint}{beside}", names.join(", ")));
        }
        for (name, parts) in self.parts.iter().filter(|(_, parts)| parts.len() > 1) {
            let parts: Vec<String> =
                parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
            told.push(format!(
                "its column `{name}` has {} and others, and is not used: write a .csv of path,label for each part, and name them \
                 as `data: {{ train: …, val: …, test: … }}`",
                first_few(&parts)
            ));
        }
        if !told.is_empty() {
            return Err(Error::file(csv, told.join("\n  ")));
        }
        if self.named.images.is_empty() {
            return Err(Error::file(csv, "expected rows of path,label, found none"));
        }
        if self.repeated > 0 {
            let what =
                counted(self.repeated, "row repeats an image and was", "rows repeat an image and were");
            self.named.notes.push(format!("{}: {what} left out", csv.display()));
        }
        Ok(self.named)
    }
}
