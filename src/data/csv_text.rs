//! CSVs and lists from other programs: other encodings, separators and column names.

use std::io::{self, Read};

use csv::{ByteRecord, ReaderBuilder};

use crate::text::look_alikes::looks;

/// Names of the column of paths, as [`looks`] normalises them; the first takes precedence.
pub(super) const PATHS: [&str; 16] = [
    "path",
    "file",
    "filename",
    "file name",
    "filenames",
    "filepath",
    "file path",
    "filepaths",
    "image",
    "images",
    "img",
    "photo",
    "image path",
    "image name",
    "img path",
    "paths",
];
/// Names of the column of labels, as [`looks`] normalises them; the first takes precedence.
pub(super) const LABELS: [&str; 8] =
    ["label", "class", "category", "target", "class name", "species", "y", "labels"];

/// Columns that are searched for a name: tables of measurements have thousands.
const MOST_COLUMNS: usize = 100_000;

/// The index of the column that has one of these names; the error lists the candidates if there are
/// several.
pub(super) fn column(first: &ByteRecord, names: &[&str]) -> Result<Option<usize>, Vec<String>> {
    let called = |names: &[&str]| -> Vec<(usize, String)> {
        let text = |field: &[u8]| String::from_utf8_lossy(field.trim_ascii()).into_owned();
        let fields = first.iter().take(MOST_COLUMNS).map(text).enumerate();
        fields.filter(|(_, field)| names.contains(&looks(field).as_str())).collect()
    };
    let proper = called(&names[..1]);
    match &(if proper.is_empty() { called(names) } else { proper })[..] {
        [] => Ok(None),
        [(place, _)] => Ok(Some(*place)),
        several => Err(several.iter().map(|(_, name)| name.clone()).collect()),
    }
}

/// Text in UTF-8 without a byte-order mark. UTF-16, as written by Excel and PowerShell, is
/// recognised by its mark or by the zero bytes of Latin letters; any other text is unchanged.
pub(super) fn in_utf8(mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let unit: fn([u8; 2]) -> u16 = match bytes[..] {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] | [1..=255, 0, 0, 0, ..] | [0, 0, 0, 1..=255, ..] => {
            return Err("is text in UTF-32; save it as UTF-8".into());
        }
        [0xFE, 0xFF, ..] | [0, 1..=255, ..] => u16::from_be_bytes,
        [0xFF, 0xFE, ..] | [1..=255, 0, ..] => u16::from_le_bytes,
        [0xEF, 0xBB, 0xBF, ..] => {
            bytes.drain(..3);
            return Ok(bytes);
        }
        _ => return Ok(bytes),
    };
    if !bytes.len().is_multiple_of(2) {
        return Err("is text in UTF-16 that ends within a character; copy or save it again".into());
    }
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    let text = String::from_utf16(&units)
        .map_err(|_| "begins as text in UTF-16 does, and is none; save it as UTF-8".to_string())?;
    Ok(text.trim_start_matches('\u{feff}').as_bytes().to_vec())
}

/// The line of the first zero byte, from 1: such a file is no text.
pub(super) fn line_of_zero(bytes: &[u8]) -> Option<usize> {
    let zero = bytes.iter().position(|&byte| byte == 0)?;
    Some(bytes[..zero].iter().filter(|&&byte| byte == b'\n').count() + 1)
}

/// The rows of a CSV.
pub(super) fn reader(delimiter: u8, bytes: &[u8]) -> csv::Reader<Unblanked<'_>> {
    let bytes = Unblanked { bytes, delimiter, at: At::Start };
    ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes)
}

/// The separator of the first row: the one that makes it a header, else the one that makes any
/// columns, a comma first.
pub(super) fn delimiter(bytes: &[u8], is_header: impl Fn(&ByteRecord) -> bool) -> u8 {
    let first = |delimiter| {
        let mut record = ByteRecord::new();
        let read = reader(delimiter, bytes).read_byte_record(&mut record);
        if matches!(read, Ok(true)) { record } else { ByteRecord::new() }
    };
    let firsts = [b',', b';', b'\t'].map(|delimiter| (delimiter, first(delimiter)));
    let named = firsts.iter().find(|(_, first)| is_header(first));
    named
        .or_else(|| firsts.iter().find(|(_, first)| first.len() > 1))
        .map_or(b',', |&(delimiter, _)| delimiter)
}

/// Name of a separator.
pub(super) fn separator(delimiter: u8) -> &'static str {
    match delimiter {
        b';' => "semicolon",
        b'\t' => "tab",
        _ => "comma",
    }
}

/// The bytes of a CSV without the blanks between a separator and a quotation mark: they would make
/// the mark text.
pub(super) struct Unblanked<'a> {
    bytes: &'a [u8],
    delimiter: u8,
    at: At,
}

/// Where the next byte is in a field.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// After a quotation mark in quotes: their end, or the first of two.
    Mark,
}

impl Read for Unblanked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < buffer.len() {
            if self.at == At::Start {
                let is_blank = |&&byte: &&u8| matches!(byte, b' ' | b'\t') && byte != self.delimiter;
                let blanks = self.bytes.iter().take_while(is_blank).count();
                if self.bytes.get(blanks) == Some(&b'"') {
                    self.bytes = &self.bytes[blanks..];
                }
            }
            let Some((&byte, rest)) = self.bytes.split_first() else { break };
            self.at = match (self.at, byte) {
                (At::Start | At::Mark, b'"') => At::Quoted,
                (At::Quoted, b'"') => At::Mark,
                (At::Quoted, _) => At::Quoted,
                (_, b'\n' | b'\r') => At::Start,
                (_, byte) if byte == self.delimiter => At::Start,
                _ => At::Plain,
            };
            (buffer[written], self.bytes) = (byte, rest);
            written += 1;
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for record in reader(b',', text.as_bytes()).byte_records() {
            rows.push(record.unwrap().iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect());
        }
        rows
    }

    #[test]
    fn blanks_before_quotes_make_no_columns() {
        assert_eq!(rows("a.jpg, \"x, y\"\n \"b, c\",\t\"d\"\n"), [["a.jpg", "x, y"], ["b, c", "d"]]);
        // Quoted text is kept, and a mark within a field is text.
        assert_eq!(rows("\"a, \"\"b\"\", \"\"\",\"\n \"\"c\"\n"), [["a, \"b\", \"", "\n \"c"]]);
        assert_eq!(rows("a b \"c\", d \"e\n"), [["a b \"c\"", " d \"e"]]);
    }

    #[test]
    fn text_in_utf_32_is_called_so() {
        let units = |text: &str, unit: fn(u32) -> [u8; 4]| -> Vec<u8> {
            text.chars().flat_map(|letter| unit(letter.into())).collect()
        };
        for text in ["\u{feff}path,label\n", "path,label\n"] {
            for unit in [u32::to_le_bytes, u32::to_be_bytes] {
                let told = in_utf8(units(text, unit)).unwrap_err();
                assert_eq!(told, "is text in UTF-32; save it as UTF-8");
            }
        }
        insta::assert_snapshot!(in_utf8(b"\xFF\xFE\x00\xD8a\0".to_vec()).unwrap_err(), @"begins as text in UTF-16 does, and is none; save it as UTF-8");
        insta::assert_snapshot!(in_utf8(b"\xFF\xFEa\0b".to_vec()).unwrap_err(), @"is text in UTF-16 that ends within a character; copy or save it again");
        assert_eq!(in_utf8(b"\xEF\xBB\xBFa".to_vec()).unwrap(), b"a");
    }

    #[test]
    fn a_column_has_its_own_name_or_the_only_other_one() {
        let of = |header: &str| column(&ByteRecord::from(header.split(',').collect::<Vec<_>>()), &LABELS);
        assert_eq!(of("class,label,target"), Ok(Some(1)));
        assert_eq!(of("id, Species ,x"), Ok(Some(1)));
        assert_eq!(of("id,CLASS_NAME"), Ok(Some(1)));
        assert_eq!(of("id,x"), Ok(None));
        assert_eq!(of("class,category"), Err(vec!["class".into(), "category".into()]));
        assert_eq!(of("label,Label"), Err(vec!["label".into(), "Label".into()]));
    }

    #[test]
    fn names_are_searched_in_many_columns_but_not_in_all() {
        let behind = |columns: usize| {
            let all = std::iter::repeat_n("x", columns).chain(["label"]);
            column(&ByteRecord::from(all.collect::<Vec<_>>()), &LABELS)
        };
        assert_eq!(behind(MOST_COLUMNS - 1), Ok(Some(MOST_COLUMNS - 1)));
        assert_eq!(behind(MOST_COLUMNS), Ok(None));
    }
}
