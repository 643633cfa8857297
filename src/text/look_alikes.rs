//! Names that look alike but differ: how to match them, and how to show the difference.

use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use crate::text::words::shown;

/// Code points of a difference that are shown at most.
const SHOWN: usize = 6;
/// Larger folders are not searched for a similar name.
const ENTRIES: usize = 100_000;

/// Letters of other scripts that look like a Latin one, with that one.
const LOOKS: &[(char, &str)] = &[
    ('A', "АΑ"),
    ('B', "ВΒ"),
    ('C', "С"),
    ('E', "ЕΕ"),
    ('H', "НΗ"),
    ('I', "ІΙ"),
    ('J', "Ј"),
    ('K', "КΚ"),
    ('M', "МΜ"),
    ('N', "Ν"),
    ('O', "ОΟ"),
    ('P', "РΡ"),
    ('S', "Ѕ"),
    ('T', "ТΤ"),
    ('X', "ХΧ"),
    ('Y', "УΥ"),
    ('Z', "Ζ"),
    ('a', "а"),
    ('c', "с"),
    ('d', "ԁ"),
    ('e', "е"),
    ('h', "һ"),
    ('i', "іı"),
    ('j', "ј"),
    ('l', "ӏ"),
    ('o', "оο"),
    ('p', "рρ"),
    ('q', "ԛ"),
    ('s', "ѕ"),
    ('v', "ν"),
    ('w', "ԝ"),
    ('x', "х"),
    ('y', "у"),
    ('\'', "‘’ʼ`"),
    ('"', "“”„"),
    (' ', "_-‐‑‒–—−"),
];

/// A key that look-alike names share. It ignores case, composed or decomposed accents, blanks at
/// the ends, widths, invisible characters, `_` or `-` for a blank, and look-alike letters of other
/// scripts.
pub fn looks(name: &str) -> String {
    let seen = name.nfkc().filter(|&letter| !is_invisible(letter)).map(|letter| {
        LOOKS.iter().find(|(_, others)| others.contains(letter)).map_or(letter, |&(look, _)| look)
    });
    let text: String = seen.flat_map(char::to_lowercase).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The invisible difference of two names, as the code points of each where they differ; `None` if a
/// person can see it.
pub fn unseen(a: &str, b: &str) -> Option<(String, String)> {
    let (a_chars, b_chars): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let before = a_chars.iter().zip(&b_chars).take_while(|(a, b)| a == b).count();
    let (a_rest, b_rest) = (&a_chars[before..], &b_chars[before..]);
    let behind = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let a_span = &a_rest[..a_rest.len() - behind];
    let b_span = &b_rest[..b_rest.len() - behind];
    // A blank is visible only between letters.
    let within = before > 0 && behind > 0;
    let plain = |span: &[char]| match span {
        [] => false,
        [' '] => within,
        _ => span.iter().all(char::is_ascii_graphic),
    };
    let lower = |span: &[char]| span.iter().flat_map(|c| c.to_lowercase()).collect::<String>();
    if plain(a_span) && plain(b_span) || !a_span.is_empty() && lower(a_span) == lower(b_span) {
        return None;
    }
    let same_letters = a.nfc().eq(b.nfc());
    let told = |name: &str, span: &[char]| {
        let form = match () {
            () if !same_letters => "",
            () if name.nfc().eq(name.chars()) => " (NFC)",
            () if name.nfd().eq(name.chars()) => " (NFD)",
            () => "",
        };
        format!("{}{form}", code_points(span))
    };
    Some((told(a, a_span), told(b, b_span)))
}

/// The first of `names` that looks like `name` without being equal, and their difference if it is
/// invisible.
pub fn alike<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = looks(name);
    names.into_iter().find(|other| *other != name && looks(other) == wanted)
}

/// A hint about a missing path: an entry of its folder whose name looks the same.
pub fn hint_beside(path: &Path) -> Option<String> {
    // The first part that is missing.
    let parts = path.ancestors().take_while(|part| !part.as_os_str().is_empty());
    let missing = parts.take_while(|part| std::fs::symlink_metadata(part).is_err()).last()?;
    let (name, folder) = (missing.file_name()?.to_str()?, missing.parent()?);
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(folder).ok()?.flatten().take(ENTRIES);
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let found = alike(name, names.iter().map(String::as_str))?;
    Some(match unseen(name, found) {
        Some((here, there)) => {
            format!("\"{}\" is there, which has {there} where this has {here}", shown(found))
        }
        None => format!("\"{}\" is there: did you mean that?", shown(found)),
    })
}

/// Invisible characters: joiners, direction marks, soft hyphens, byte-order marks, variation
/// selectors.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || letter.is_control() && !letter.is_whitespace()
}

fn code_points(span: &[char]) -> String {
    if span.is_empty() {
        return "nothing".into();
    }
    let more = if span.len() > SHOWN { " …" } else { "" };
    let points: Vec<String> =
        span.iter().take(SHOWN).map(|letter| format!("U+{:04X}", u32::from(*letter))).collect();
    points.join(" ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_cannot_tell_apart_looks_alike() {
        let pairs = [
            ("Caf\u{e9}", "Cafe\u{301}"),
            ("cat", "CAT "),
            ("cat", "c\u{200b}at"),
            ("cat", "\u{feff}cat"),
            ("cat", "\u{441}\u{430}t"),
            ("big dog", "big_dog"),
            ("big dog", "big\u{a0}dog"),
            ("big dog", "big  dog"),
            ("cat", "\u{ff43}at"),
            ("file", "\u{fb01}le"),
            ("dog's", "dog\u{2019}s"),
            ("A\u{308}pfel", "\u{e4}pfel"),
        ];
        for (a, b) in pairs {
            assert_eq!(looks(a), looks(b), "{a:?} {b:?}");
        }
        for (a, b) in
            [("cat", "cut"), ("Cafe", "Caf\u{e9}"), ("1", "l"), ("ресторан", "restoran"), ("a b", "ab")]
        {
            assert_ne!(looks(a), looks(b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn only_what_cannot_be_seen_is_spelled_out() {
        let told = |a, b| unseen(a, b).map(|(a, b)| format!("{a} / {b}"));
        assert_eq!(told("Caf\u{e9}", "Cafe\u{301}").unwrap(), "U+00E9 (NFC) / U+0065 U+0301 (NFD)");
        assert_eq!(told("cat", "cat ").unwrap(), "nothing / U+0020");
        assert_eq!(told("c\u{200b}at", "cat").unwrap(), "U+200B / nothing");
        assert_eq!(told("cat", "c\u{430}t").unwrap(), "U+0061 / U+0430");
        assert_eq!(told("big dog", "big  dog").unwrap(), "nothing / U+0020");
        for (a, b) in [("cat", "Cat"), ("big dog", "big_dog"), ("Äpfel", "äpfel"), ("a-b", "a_b")] {
            assert_eq!(told(a, b), None, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_found_beside_it() {
        let d = tempfile::tempdir().unwrap();
        std::fs::create_dir(d.path().join("Cafe\u{301}")).unwrap();
        let hint = hint_beside(&d.path().join("Caf\u{e9}/1.jpg")).unwrap();
        assert!(
            hint.ends_with("is there, which has U+0065 U+0301 (NFD) where this has U+00E9 (NFC)"),
            "{hint}"
        );
        assert_eq!(hint_beside(&d.path().join("Coffee/1.jpg")), None);
        assert_eq!(hint_beside(d.path()), None);
    }
}
