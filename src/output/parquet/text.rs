//! Text in rows that wait for their row group.

use std::io::{self, Read};

/// Adds text to a waiting row: its length in 4 bytes, then itself. `None` is the length -1 without
/// text.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: Option<&str>) {
    let length = text.map_or(u32::MAX, |text| text.len() as u32);
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.unwrap_or_default().as_bytes());
}

/// The next four bytes; `None` at the end.
pub(super) fn get_word(rows: &mut dyn Read) -> io::Result<Option<[u8; 4]>> {
    let mut word = [0; 4];
    match rows.read_exact(&mut word) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(word)),
    }
}

pub(super) fn get_text(rows: &mut dyn Read, length: [u8; 4]) -> io::Result<Option<String>> {
    let length = u32::from_le_bytes(length);
    if length == u32::MAX {
        return Ok(None);
    }
    let mut text = String::new();
    match rows.take(length.into()).read_to_string(&mut text)? == length as usize {
        true => Ok(Some(text)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub(super) fn next_text(rows: &mut dyn Read) -> io::Result<Option<String>> {
    let length = get_word(rows)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    get_text(rows, length)
}
