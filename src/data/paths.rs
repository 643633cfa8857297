//! A list of paths in a file or on standard input: a path a line, or a column of a CSV.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, stdin};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::csv_text::{LABELS, PATHS, column, delimiter, in_utf8, line_of_zero, reader};
use crate::error::{Error, Result};
use crate::text::path_text::{located, path_text};
use crate::text::words::{counted, first_few, shown};
use crate::util::digest::Hasher;

/// A larger list is refused: lists are held in memory.
const LARGEST: u64 = 512 << 20;
/// This many faults are shown; the others are counted.
const SHOWN: usize = 5;
/// The endings of lists.
const ENDINGS: [&str; 2] = ["txt", "csv"];

/// The word for standard input.
pub(super) const STDIN: &str = "-";

/// A list, read.
pub(super) struct List {
    /// As given.
    pub(super) path: PathBuf,
    /// The folder that its relative paths start from.
    pub(super) base: PathBuf,
    /// sha256 of its bytes, in hexadecimal digits.
    pub(super) digest: String,
    /// Paths and labels, concatenated.
    text: Vec<u8>,
    /// The ends of each line's path and label in `text`.
    ends: Vec<(usize, usize)>,
}

/// Whether a file is a list, by its ending.
pub(super) fn is_list(path: &Path) -> bool {
    ENDINGS.iter().any(|known| has_ending(path, known))
}

fn has_ending(path: &Path, known: &str) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(known))
}

impl List {
    /// Reads a list; `-` is standard input, with a path a line.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Usage`] for a file that is not a list of paths.
    pub(super) fn read(path: &Path) -> Result<List> {
        let (mut bytes, base) = (Vec::new(), path.parent().unwrap_or(Path::new("")).to_path_buf());
        let read = match path == Path::new(STDIN) {
            true => stdin().take(LARGEST + 1).read_to_end(&mut bytes),
            false => File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)),
        };
        let name =
            if path == Path::new(STDIN) { "standard input".into() } else { path_text(path).into_owned() };
        read.map_err(Error::io("read", &name))?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        let digest = hasher.hex();
        let mut list = List { path: path.into(), base, digest, text: Vec::new(), ends: Vec::new() };
        let wrong = |message: String| Error::usage(format!("{name}: {message}"));
        list.parse(bytes).map_err(wrong)?;
        Ok(list)
    }

    /// Number of lines.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The path of a line, as written, and its label, if the list has labels.
    pub(super) fn line(&self, index: usize) -> Option<(&Path, &str)> {
        let &(path, label) = self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |ends| ends.1);
        let label = std::str::from_utf8(&self.text[path..label]).unwrap_or_default();
        Some((Path::new(OsStr::from_bytes(&self.text[start..path])), label))
    }

    fn push(&mut self, path: &[u8], label: &str) {
        self.text.extend_from_slice(path);
        let end = self.text.len();
        self.text.extend_from_slice(label.as_bytes());
        self.ends.push((end, self.text.len()));
    }

    fn parse(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        if bytes.len() as u64 > LARGEST {
            return Err(format!("expected a list of at most {} MiB; cut it into pieces", LARGEST >> 20));
        }
        let bytes = in_utf8(bytes)?;
        if let Some(line) = line_of_zero(&bytes) {
            return Err(format!("line {line}: expected a list of paths, found a zero byte: this is no text"));
        }
        let mut faults = Vec::new();
        match has_ending(&self.path, "csv") {
            true => self.table(&bytes, &mut faults)?,
            false => self.lines(&bytes, &mut faults),
        }
        if !faults.is_empty() {
            let more = faults.len().saturating_sub(SHOWN);
            faults.truncate(SHOWN);
            if more > 0 {
                faults.push(format!("and {more} more"));
            }
            return Err(faults.join("\n  "));
        }
        match self.ends.is_empty() {
            true => Err("expected a path a line, found none".into()),
            false => Ok(()),
        }
    }

    /// Reads a path a line; blank lines are left out.
    fn lines(&mut self, bytes: &[u8], faults: &mut Vec<String>) {
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.trim_ascii().is_empty() {
                self.add(line, "", index as u64 + 1, faults);
            }
        }
    }

    /// Reads the columns of paths and labels of a CSV if the first row names them, else the first
    /// column.
    fn table(&mut self, bytes: &[u8], faults: &mut Vec<String>) -> Result<(), String> {
        let delimiter = delimiter(bytes, |first| matches!(column(first, &PATHS), Ok(Some(_))));
        let mut reader = reader(delimiter, bytes);
        let (mut record, mut columns) = (ByteRecord::new(), None);
        while reader.read_byte_record(&mut record).map_err(|error| format!("not a CSV: {error}"))? {
            let line = record.position().map_or(0, csv::Position::line);
            let (path, label) = match columns {
                Some(columns) => columns,
                None => {
                    let header = self.header(&record, &second(delimiter, bytes))?;
                    let first = header.unwrap_or((0, None));
                    columns = Some(first);
                    match header {
                        Some(_) => continue,
                        None => first,
                    }
                }
            };
            let label = label.and_then(|label| record.get(label)).unwrap_or_default();
            match record.get(path).filter(|path| !path.trim_ascii().is_empty()) {
                Some(path) => self.add(path, &String::from_utf8_lossy(label), line, faults),
                None => faults.push(format!("line {line}: expected a path, found none")),
            }
        }
        Ok(())
    }

    /// The columns of paths and labels, if the first row is a header: if it names the paths, or labels
    /// alone and files follow.
    fn header(
        &self,
        first: &ByteRecord,
        second: &ByteRecord,
    ) -> Result<Option<(usize, Option<usize>)>, String> {
        let path = column(first, &PATHS).map_err(|found| {
            let found = first_few(&found);
            format!("line 1: the columns {found} could all be the path: let one of them be called path, and no other")
        })?;
        // If several columns could be the label, none is used.
        let label = column(first, &LABELS).unwrap_or(None);
        let is_folder = |place: usize| {
            first.get(place).is_some_and(|field| self.base.join(OsStr::from_bytes(field)).is_dir())
        };
        Ok(match (path, label) {
            // A folder in the first row is an input, unless files follow.
            (Some(path), _) if !is_folder(path) || self.is_file(second, path) => Some((path, label)),
            (None, Some(named)) => {
                let path = usize::from(named == 0);
                (!self.is_file(first, path) && self.is_file(second, path)).then_some((path, label))
            }
            _ => None,
        })
    }

    /// Whether a row names a file in this column.
    fn is_file(&self, row: &ByteRecord, column: usize) -> bool {
        row.get(column).is_some_and(|field| located(&self.base, field).is_file())
    }

    fn add(&mut self, path: &[u8], label: &str, line: u64, faults: &mut Vec<String>) {
        if is_list(Path::new(OsStr::from_bytes(path))) {
            let path = String::from_utf8_lossy(path);
            let path = shown(&path);
            faults.push(format!("line {line}: {path} is a list itself; give it as a PATH of its own"));
        } else {
            self.push(path, label);
        }
    }

    /// Identifies the list in the job of an output.
    pub(super) fn describe(&self) -> String {
        let lines = counted(self.len(), "path", "paths");
        format!("{} of {lines} (sha256 {})", path_text(&self.path), &self.digest[..16])
    }
}

/// The second row of a CSV; empty if there is none.
fn second(delimiter: u8, bytes: &[u8]) -> ByteRecord {
    let mut records = reader(delimiter, bytes).into_byte_records();
    records.nth(1).and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let list = List::read(&path).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string().replace(&folder.path().display().to_string(), "D")
        })?;
        assert_eq!(list.base, folder.path());
        let line =
            |index| list.line(index).map(|(path, label)| (path.display().to_string(), label.to_string()));
        assert_eq!(line(list.len()), None);
        Ok((0..list.len()).filter_map(line).collect())
    }

    fn paths(name: &str, bytes: &[u8]) -> Vec<String> {
        read(name, bytes).unwrap().into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_path_a_line_in_the_order_of_the_list() {
        assert_eq!(paths("l.txt", b"b.png\na.png\nb.png"), ["b.png", "a.png", "b.png"]);
        assert_eq!(paths("l.txt", b"\xEF\xBB\xBFa b,c.png\r\n\r\n \r\n#.png\r\n"), ["a b,c.png", "#.png"]);
    }

    #[test]
    fn a_csv_has_a_column_of_paths_or_begins_with_one() {
        let rows = read("l.CSV", b"\xEF\xBB\xBFlabel,Path\r\ncat,\"a,1.png\"\r\n,b.png\r\n").unwrap();
        assert_eq!(rows, [("a,1.png".into(), "cat".into()), ("b.png".into(), String::new())]);
        assert_eq!(paths("l.csv", b"a.png,1\nb.png\n"), ["a.png", "b.png"]);
    }

    #[test]
    fn lists_are_read_as_other_programs_write_them() {
        let utf16 = |text: &str| -> Vec<u8> {
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            b"\xFF\xFE".iter().copied().chain(units).collect()
        };
        assert_eq!(paths("l.txt", &utf16("b.png\r\nä.png\r\n")), ["b.png", "ä.png"]);
        let rows = [("a, 1.png".to_string(), "cat".to_string())];
        assert_eq!(read("l.csv", b"label;path\ncat;a, 1.png\n").unwrap(), rows);
        assert_eq!(read("l.csv", b"class\tFilename\ncat\ta, 1.png\n").unwrap(), rows);
        assert_eq!(read("l.csv", b"label, path\ncat, \"a, 1.png\"\n").unwrap(), rows);
        assert_eq!(read("l.csv", &utf16("path;label\na, 1.png;cat\n")).unwrap(), rows);
        // All rows, of any part.
        assert_eq!(paths("l.csv", b"path,label,split\na,x,train\nb,x,test\n"), ["a", "b"]);
    }

    #[test]
    fn what_is_no_list_is_told() {
        for (name, bytes, expected) in [
            ("l.txt", &b""[..], "D/l.txt: expected a path a line, found none"),
            ("l.txt", b"\xEF\xBB\xBF\n \r\n", "D/l.txt: expected a path a line, found none"),
            ("l.csv", b"path,label\n", "D/l.csv: expected a path a line, found none"),
            ("l.txt", b"\xFF\xFE\0\0a\0\0\0", "D/l.txt: is text in UTF-32; save it as UTF-8"),
            (
                "l.txt",
                b"a.png\nb\0",
                "D/l.txt: line 2: expected a list of paths, found a zero byte: this is no text",
            ),
            (
                "l.txt",
                b"a.png\nmore.txt\nt.CSV\n",
                "D/l.txt: line 2: more.txt is a list itself; give it as a PATH of its own\n  line 3: t.CSV is a list \
                 itself; give it as a PATH of its own",
            ),
            ("l.csv", b"path,label\na.png,x\n,y\n", "D/l.csv: line 3: expected a path, found none"),
            (
                "l.csv",
                b"file,image\na.png,x\n",
                "D/l.csv: line 1: the columns file, image could all be the path: let one of them be called path, and no other",
            ),
        ] {
            assert_eq!(read(name, bytes).unwrap_err(), expected);
        }
        let many = read("l.txt", "x.txt\n".repeat(9).as_bytes()).unwrap_err();
        assert!(many.ends_with("\n  and 4 more"), "{many}");
    }
}
