//! Text for messages: hints, untrusted text shown safely, long lists cut short, counts.

use std::borrow::Cow;

use crate::text::suggest::nearest;

/// A longer name is no typo, and comparing it would take its length squared.
const LONGEST_SLIP: usize = 100;

/// `; did you mean x?`, or nothing if no known name is near.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    near(typed, known).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// As [`nearest`], for a name of any length.
pub fn near<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > LONGEST_SLIP { None } else { nearest(typed, known) }
}

/// Text from a user or a file, made safe for a message: one line, no control characters, about 60
/// characters at most.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::new();
    let mut length = 0;
    for c in text.chars() {
        if length >= LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
            length += c.escape_default().count();
        } else {
            out.push(c);
            length += 1;
        }
    }
    out
}

/// A message without what would command a terminal: control characters but line ends and tabs, and
/// marks that reorder letters, as the `\xHH` of their bytes, which a path can be typed with.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |letter: char| {
        letter.is_control() && letter != '\n' && letter != '\t'
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match harmful(letter) {
            true => letter.to_string().bytes().for_each(|byte| out.push_str(&format!("\\x{byte:02x}"))),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// Up to five names, then the count of the others: `a, b, c`, or `a, b, c, d, e and 7 more`.
pub fn first_few<T: AsRef<str>>(names: &[T]) -> String {
    const MANY: usize = 5;
    let text = names.iter().take(MANY).map(|name| shown(name.as_ref())).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MANY) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// `1 file`, `3 files`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The verb for this number.
pub fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// An argument as a shell takes it.
pub fn for_shell(argument: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./=:,+@%".contains(letter);
    match argument.chars().all(plain) {
        true => argument.into(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_meant() {
        assert_eq!(did_you_mean("epcohs", ["lr", "epochs"]), "; did you mean epochs?");
        assert_eq!(did_you_mean("colour", ["lr", "epochs"]), "");
        assert_eq!(did_you_mean(&"epochs".repeat(1 << 18), ["lr", "epochs"]), "");
    }

    #[test]
    fn text_of_others_is_shown_on_one_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), 61);
        assert!(shown(&"\0".repeat(100)).len() < 70);
    }

    #[test]
    fn a_message_commands_no_terminal() {
        assert_eq!(harmless("caf\u{e9}:\n\tno"), "caf\u{e9}:\n\tno");
        assert_eq!(
            harmless("a\u{1b}[2J\r\u{9b}b\u{202e}c\0"),
            "a\\x1b[2J\\x0d\\xc2\\x9bb\\xe2\\x80\\xaec\\x00"
        );
    }

    #[test]
    fn long_lists_are_cut_short() {
        assert_eq!(first_few(&["a", "b"]), "a, b");
        assert_eq!(first_few(&["a"; 12]), "a, a, a, a, a and 7 more");
        assert_eq!(
            (counted(1, "file", "files"), counted(0, "file", "files")),
            ("1 file".into(), "0 files".into())
        );
    }
}
