//! A CSV of `path,label`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::csv_text::{LABELS, PATHS, column, delimiter, in_utf8, line_of_zero, reader, separator};
use super::{Image, Named, divided};
use crate::error::{Error, Result};
use crate::text::look_alikes::hint_beside;
use crate::text::path_text::{located, path_text};
use crate::text::words::{counted, first_few, shown};

/// A larger file is refused: an unclosed quotation mark makes a single field of the rest of it.
const LARGEST: u64 = 512 << 20;
/// This many faults are shown; the others are counted.
const SHOWN: usize = 5;

/// Reads a CSV whose first row names a column of paths and one of labels among others, or that has
/// these two columns and no header. Paths are relative to the CSV's folder. Columns such as `split`
/// tell the part of an image.
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
    let bytes = in_utf8(bytes).map_err(|message| Error::file(csv, message))?;
    if let Some(line) = line_of_zero(&bytes) {
        return Err(Error::file(csv, format!("line {line}: found a zero byte: this is no text")));
    }
    let delimiter = delimiter(&bytes, |first| matches!(Columns::of(first), Ok((_, true))));
    let mut reader = reader(delimiter, &bytes);
    let mut rows = Rows { separator: separator(delimiter), ..Rows::default() };
    let mut record = ByteRecord::new();
    let mut columns: Option<Columns> = None;
    while reader.read_byte_record(&mut record).map_err(|error| unreadable(csv, error))? {
        let line = record.position().map_or(0, csv::Position::line);
        match &columns {
            Some(columns) => rows.add(folder, columns, &record, line),
            None => {
                let (first, is_header) = Columns::of(&record).map_err(|message| Error::file(csv, message))?;
                match is_header {
                    true => rows.divided = divided::Columns::of(&record),
                    false => {
                        let fields: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
                        rows.no_header = Some(first_few(&fields));
                        rows.add(folder, &first, &record, line);
                    }
                }
                columns = Some(first);
            }
        }
    }
    rows.finish(csv)
}

fn unreadable(csv: &Path, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io("read", csv)(source),
        other => Error::file(csv, format!("not a CSV: {other:?}")),
    }
}

/// Indices of the two columns, and the number of all.
struct Columns {
    path: usize,
    label: usize,
    count: usize,
}

impl Columns {
    /// From the first row, and whether that row is a header.
    fn of(first: &ByteRecord) -> Result<(Columns, bool), String> {
        let [path, label] = [("path", &PATHS[..]), ("label", &LABELS)].map(|(what, names)| {
            column(first, names).map_err(|found| {
                format!("line 1: the columns {} could all be the {what}: let one of them be called {what}, and no other", first_few(&found))
            })
        });
        let count = first.len();
        match (path?, label?, count) {
            (Some(path), Some(label), _) => Ok((Columns { path, label, count }, true)),
            (_, _, 2) => Ok((Columns { path: 0, label: 1, count }, false)),
            (path, label, _) => {
                let lacks: Vec<String> = [("path", &PATHS[1..4], path), ("label", &LABELS[1..4], label)]
                    .into_iter()
                    .filter(|(.., place)| place.is_none())
                    .map(|(name, others, _)| format!("call one of them {name} (or {}, …)", others.join(", ")))
                    .collect();
                let fields: Vec<_> = first.iter().map(String::from_utf8_lossy).collect();
                Err(format!(
                    "line 1: expected the columns path,label, or a header that names these two among others, found {} ({}): {}",
                    counted(count, "column", "columns"),
                    first_few(&fields),
                    lacks.join(", and ")
                ))
            }
        }
    }
}

#[derive(Default)]
struct Rows {
    named: Named,
    /// The contents of the first row, if it is not a header.
    no_header: Option<String>,
    /// Its name.
    separator: &'static str,
    /// Index and line by path.
    seen: HashMap<PathBuf, (usize, u64)>,
    faults: Vec<String>,
    more_faults: usize,
    missing: Vec<(u64, String)>,
    /// A path found instead of the first missing one.
    hint: Option<String>,
    repeated: usize,
    divided: divided::Columns,
}

impl Rows {
    fn fault(&mut self, line: u64, message: String) {
        if self.faults.len() < SHOWN {
            self.faults.push(format!("line {line}: {message}"));
        } else {
            self.more_faults += 1;
        }
    }

    /// Help on a first row that is invalid.
    fn first_row(&self) -> Option<String> {
        let found = self.no_header.as_ref()?;
        Some(format!("; if the first row ({found}) is a header, call its columns path,label"))
    }

    fn add(&mut self, folder: &Path, columns: &Columns, record: &ByteRecord, line: u64) {
        if record.len() != columns.count {
            let found = counted(record.len(), "column", "columns");
            let hint = match record.len() > columns.count {
                true => format!("; a {} inside a field needs quotes", self.separator),
                false => String::new(),
            };
            return self.fault(line, format!("expected {} columns, found {found}{hint}", columns.count));
        }
        let (path, label) = (&record[columns.path], record[columns.label].trim_ascii());
        if path.trim_ascii().is_empty() || label.is_empty() {
            let what = if path.trim_ascii().is_empty() { "path" } else { "label" };
            return self.fault(line, format!("the {what} is empty"));
        }
        let Ok(label) = std::str::from_utf8(label) else {
            return self.fault(line, "expected a label in UTF-8; save the file as UTF-8".into());
        };
        let name = path_text(OsStr::from_bytes(path.trim_ascii())).into_owned();
        let path = located(folder, path);
        if let Some(&(image, first_line)) = self.seen.get(&path) {
            let first = &self.named.images[image].class;
            let differ = match first == label {
                true => self.divided.moved(record, image),
                false => Some(format!("is \"{}\" here and \"{}\"", shown(label), shown(first))),
            };
            return match differ {
                None => self.repeated += 1,
                Some(differ) => {
                    self.fault(line, format!("{} {differ} on line {first_line}; keep one", shown(&name)));
                }
            };
        }
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                let hint = if line == 1 { self.first_row().unwrap_or_default() } else { String::new() };
                return self.fault(line, format!("{} is no file{hint}", shown(&name)));
            }
            Err(_) => {
                if self.missing.is_empty() {
                    self.hint = hint_beside(&path);
                }
                self.missing.push((line, name.clone()));
            }
        }
        self.seen.insert(path.clone(), (self.named.images.len(), line));
        self.divided.add(record);
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
            let first_row = self.first_row().filter(|_| matches!(self.missing[..], [(1, _)]));
            let hint = first_row.unwrap_or("; paths are relative to the folder of the CSV".into());
            let what = counted(self.missing.len(), "file is", "files are");
            let beside = self.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            told.push(format!("{what} not there: {}{more}{hint}{beside}", names.join(", ")));
        }
        self.named.divided = std::mem::take(&mut self.divided).finish(&mut told);
        if !told.is_empty() {
            return Err(Error::file(csv, told.join("\n  ")));
        }
        if self.named.images.is_empty() {
            return Err(Error::file(csv, "expected rows of path,label, found none"));
        }
        if self.repeated > 0 {
            let what =
                counted(self.repeated, "row repeats an image and was", "rows repeat an image and were");
            self.named.notes.push(format!("{}: {what} left out", path_text(csv)));
        }
        Ok(self.named)
    }
}
