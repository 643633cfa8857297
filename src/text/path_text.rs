//! Paths as text. Outputs are UTF-8 and file names are any bytes: a name that is not UTF-8 is
//! written reversibly.
//!
//! In such a name each byte that belongs to no character becomes `\xHH` (lower-case hex), and each
//! `\` becomes `\\`. A UTF-8 name is kept, unless it contains `\x` and two such digits itself: then
//! its `\` are doubled too. So a text is escaped if, and only if, it contains `\xHH`, and no two
//! paths have the same text.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// A path, or a part of one, as all messages and outputs spell it.
pub fn path_text<P: AsRef<OsStr> + ?Sized>(path: &P) -> Cow<'_, str> {
    let path = path.as_ref();
    match path.to_str() {
        Some(text) if !holds_byte(text) => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(path.as_bytes())),
    }
}

/// The path of a text that contains `\xHH`; `None` for a text that is the path itself.
pub fn path_of_text(text: &str) -> Option<PathBuf> {
    if !holds_byte(text) {
        return None;
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, length) = match behind {
            [b'\\', ..] if first == b'\\' => (b'\\', 2),
            _ => byte(rest).map_or((first, 1), |byte| (byte, 4)),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    Some(OsString::from_vec(bytes).into())
}

/// The path that an argument means: as [`located`], from the working directory.
pub fn typed(path: &Path) -> PathBuf {
    located(Path::new(""), path.as_os_str().as_bytes())
}

/// The path that a line of a list means, below `folder`: as written if that exists; else without
/// surrounding blanks, with `/` for Windows' back-slashes, or with the bytes of its `\xHH`,
/// whichever exists.
pub fn located(folder: &Path, written: &[u8]) -> PathBuf {
    let written_path = folder.join(OsStr::from_bytes(written));
    let there = |path: &PathBuf| path.symlink_metadata().is_ok();
    if there(&written_path) {
        return written_path;
    }
    let trimmed = written.trim_ascii();
    let slashes: Vec<u8> = trimmed.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    let bytes = std::str::from_utf8(trimmed).ok().and_then(path_of_text);
    let others =
        [Some(PathBuf::from(OsStr::from_bytes(trimmed))), bytes, Some(OsString::from_vec(slashes).into())];
    others.into_iter().flatten().map(|path| folder.join(path)).find(there).unwrap_or(written_path)
}

/// Serializes a path, or none, as [`path_text`], for serde's `serialize_with`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<'a, S: Serializer>(
    path: impl Into<Option<&'a PathBuf>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.into().map(path_text).serialize(serializer)
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

fn holds_byte(text: &str) -> bool {
    memchr::memmem::find_iter(text.as_bytes(), b"\\x").any(|at| byte(&text.as_bytes()[at..]).is_some())
}

/// The byte of a `\xHH` at the start of `text`.
fn byte(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match *text {
        [b'\\', b'x', high, low, ..] => Some(16 * digit(high)? + digit(low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(bytes: &[u8]) -> String {
        let path = OsStr::from_bytes(bytes);
        let text = path_text(path).into_owned();
        assert_eq!(path_of_text(&text).unwrap_or_else(|| text.clone().into()).as_os_str(), path, "{text}");
        text
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in
            ["a.jpg", "ä/漢字.png", r"a\b.png", r"C:\x.png", r"a\xzz", r"a\\b", r"\xFF.png", "new\nline", ""]
        {
            assert_eq!(there_and_back(name.as_bytes()), name);
        }
    }

    #[test]
    fn bytes_that_are_no_text_can_be_read_back() {
        assert_eq!(there_and_back(b"\xff.png"), r"\xff.png");
        assert_eq!(there_and_back(b"\xfe.png"), r"\xfe.png");
        assert_eq!(there_and_back(b"caf\xe9\\1/\xc3\xa4.png"), "caf\\xe9\\\\1/ä.png");
        // Cut off within a character.
        assert_eq!(there_and_back(b"\xe6\xbc.png"), r"\xe6\xbc.png");
    }

    /// A name that equals the text of another name gets a different text.
    #[test]
    fn no_two_names_have_one_text() {
        let names: [&[u8]; 7] =
            [b"\xff", br"\xff", br"\\xff", br"\\\xff", b"\\\xff", b"\\\\\xff", b"x\xff\\xff"];
        let texts: std::collections::BTreeSet<String> =
            names.iter().map(|name| there_and_back(name)).collect();
        assert_eq!(texts.len(), names.len(), "{texts:?}");
    }

    #[test]
    fn a_line_means_what_is_there() {
        let d = tempfile::tempdir().unwrap();
        std::fs::create_dir(d.path().join("a")).unwrap();
        let names: [&[u8]; 4] = [b"a/1.png", b"\xff.png", br"b\2.png", b" c.png"];
        for name in names {
            std::fs::write(d.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let is = |written: &[u8], name: &[u8]| {
            assert_eq!(located(d.path(), written), d.path().join(OsStr::from_bytes(name)), "{written:?}");
        };
        names.into_iter().for_each(|name| is(name, name));
        is(br"a\1.png", b"a/1.png");
        is(b" a/1.png ", b"a/1.png");
        is(br"\xff.png", b"\xff.png");
        is(br"a\none.png", br"a\none.png");
        let there = |typed_path: &[u8]| typed(&d.path().join(OsStr::from_bytes(typed_path))).is_file();
        assert!(there(b"\xff.png") && there(br"\xff.png") && !there(br"\xfe.png"));
    }
}
