//! YAML text -> a tree in which each value knows its line, within fixed limits.
//!
//! The events come from `saphyr-parser`. The tree has only what a recipe needs (mappings with text
//! keys, lists, scalars, anchors and aliases), and everything is limited: nesting, and the weight
//! of the tree after alias expansion, so that a file of a few lines cannot fill the memory.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use crate::text::words::shown;

/// Deeper nesting is refused; a recipe has three levels.
const DEEPEST: usize = 16;
/// A heavier tree, aliases expanded, is refused. A value weighs 1, plus 1 for every 100 bytes of
/// text; a recipe weighs about fifty, and the largest tree takes a few megabytes.
const HEAVIEST: usize = 20_000;

/// A value and the line that it starts on, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub line: usize,
}

/// A scalar by YAML 1.2's core schema, or a collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `~`, `null`, or nothing after the colon.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; wider than any key allows, so that a range check sees the typed value.
    Int(i128),
    /// A number with a point or an exponent, `.inf` or `.nan`.
    Float(f64),
    /// Anything else, or anything in quotes.
    Text(String),
    /// `[a, b]` or lines that start with `- `.
    List(Vec<Node>),
    /// Pairs in the order of the file, each with the line of its key. Duplicate keys are kept.
    Map(Vec<Entry>),
}

/// A pair of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    /// The line of the key, counted from 1.
    pub line: usize,
    pub node: Node,
}

/// Reads one YAML document. The error is a whole message that starts with the line.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { parser: Parser::new_from_str(text), text, anchors: HashMap::new(), weight: 0, line: 1 };
    let mut root = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if root.is_some() => {
                return Err(format!(
                    "line {}: a second document starts here, expected one document: take out this `---`",
                    reader.line
                ));
            }
            Event::DocumentStart(_) => {
                let event = reader.next()?;
                root = Some(reader.node(event, 0)?);
            }
            _ => {}
        }
    }
    Ok(root.unwrap_or(Node { value: Value::Null, line: 1 }))
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    text: &'a str,
    anchors: HashMap<usize, (Node, usize)>,
    weight: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            None => Ok(Event::StreamEnd),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => Err(plain_words(&error, self.text)),
        }
    }

    /// The value that `event` starts. The recursion is at most [`DEEPEST`] deep.
    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, String> {
        if depth > DEEPEST {
            return Err(format!("line {}: nested more than {DEEPEST} levels deep", self.line));
        }
        let first = self.weight;
        self.weigh(1)?;
        let line = self.line;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.weigh(text.len() / 100)?;
                (self.scalar(&text, style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "seq")?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "map")?;
                (self.map(depth)?, anchor)
            }
            Event::Alias(anchor) => {
                // An alias inside its own anchor is not defined yet, so loops are impossible.
                let Some((_, weight)) = self.anchors.get(&anchor) else {
                    return Err(format!("line {line}: this alias (`*name`) stands inside what it names"));
                };
                self.weigh(*weight)?;
                let (node, _) = &self.anchors[&anchor];
                return Ok(Node { value: node.value.clone(), line });
            }
            _ => (Value::Null, 0),
        };
        let node = Node { value, line };
        if anchor != 0 {
            // The kept copy counts too.
            let weight = self.weight - first;
            self.weigh(weight)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd | Event::StreamEnd => return Ok(Value::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, String> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd | Event::StreamEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, _, _, _) => text.into_owned(),
                _ => {
                    return Err(format!(
                        "line {}: a key must be a word, found a list or a mapping",
                        self.line
                    ));
                }
            };
            self.weigh(key.len() / 100)?;
            let line = self.line;
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            entries.push(Entry { key, line, node });
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(Value::Text(text.into())),
            Some(tag) if tag.is_yaml_core_schema() => Ok(plain_scalar(text)),
            // `!` alone marks text.
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Value::Text(text.into())),
            Some(tag) => Err(self.tag_message(tag)),
            None if style == ScalarStyle::Plain => Ok(plain_scalar(text)),
            None => Ok(Value::Text(text.into())),
        }
    }

    fn refuse_tag(&self, tag: Option<&Tag>, allowed: &str) -> Result<(), String> {
        match tag {
            Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == allowed) => Err(self.tag_message(tag)),
            _ => Ok(()),
        }
    }

    fn tag_message(&self, tag: &Tag) -> String {
        let tag = shown(&format!("{}{}", tag.handle, tag.suffix));
        format!("line {}: the tag {tag} means nothing in a recipe: leave it out", self.line)
    }

    fn weigh(&mut self, more: usize) -> Result<(), String> {
        self.weight = self.weight.saturating_add(more);
        if self.weight > HEAVIEST {
            return Err(format!(
                "line {}: too much for a recipe: {HEAVIEST} values or 2 MB of text, aliases counted as what \
                 they stand for",
                self.line
            ));
        }
        Ok(())
    }
}

/// The core schema of YAML 1.2 (section 10.3.2): `yes`, `on` and `1_000` are text. So is `007`, as
/// in serde_yaml, because one program's seven is another's octal.
pub(super) fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Value::Float(sign * f64::INFINITY);
    }
    let radix = |digits: &str, radix: u32| {
        let ok = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        ok.then(|| i128::from_str_radix(digits, radix).unwrap_or(i128::MAX))
    };
    if let Some(number) = text.strip_prefix("0x").and_then(|digits| radix(digits, 16)) {
        return Value::Int(number);
    }
    if let Some(number) = text.strip_prefix("0o").and_then(|digits| radix(digits, 8)) {
        return Value::Int(number);
    }
    if let Some(size) = radix(unsigned, 10) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Value::Text(text.into());
        }
        return Value::Int(if text.starts_with('-') { -size } else { size });
    }
    // A number now starts with a digit or a point and contains a digit; Rust would also accept
    // `inf`.
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if numeric => Value::Float(number),
        _ => Value::Text(text.into()),
    }
}

/// The parser's message with its position, and the most likely cause.
fn plain_words(error: &ScanError, text: &str) -> String {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    // An indentation error is noticed up to a line late, and a tab at the end of the line before.
    let typed = |line: usize| line.checked_sub(1).and_then(|i| text.lines().nth(i)).unwrap_or("");
    let indented_by_tab = |line: &usize| {
        let typed = typed(*line);
        typed[..typed.len() - typed.trim_start().len()].contains('\t')
    };
    if let Some(line) = [line, line + 1, line.saturating_sub(1)].iter().find(|line| indented_by_tab(line)) {
        return format!("line {line}: a tab cannot indent YAML: use spaces");
    }
    let info = error.info();
    if info.contains("recursion") {
        return format!("line {line}: nested more than {DEEPEST} levels deep");
    }
    let hint = if let Some(line) = [line, line.saturating_sub(1)].iter().find(|line| no_space(typed(**line)))
    {
        format!("; line {line} has no space after its colon: write `key: value`")
    } else if info.contains("escape") {
        "; between double quotes a backslash starts an escape: use single quotes, or `/` in paths".into()
    } else if info.contains("end of stream") {
        "; a quotation mark or a bracket is not closed".into()
    } else if info.contains("anchor") {
        "; `*` and `&` have a meaning in YAML: put the value in quotes".into()
    } else if info.contains("unexpected character") || info.contains("simple key") || info.contains("tag") {
        "; a value that holds `: `, or starts with one of @ ` % ! * & [ {, needs quotes".into()
    } else if info.contains("expected key") || info.contains("indentation") || info.contains("'-'") {
        "; the keys of one section start in the same column".into()
    } else {
        String::new()
    };
    format!("line {line}, column {column}: not valid YAML: {info}{hint}")
}

/// Whether a line reads `key:value`, which YAML takes for one word.
pub(super) fn no_space(line: &str) -> bool {
    line.trim_start().split_once(':').is_some_and(|(key, rest)| {
        !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && rest.starts_with(|c: char| !c.is_whitespace() && c != '\\' && c != ':')
            && !rest.starts_with("//")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(value: &Value) -> String {
        match value {
            Value::Map(entries) => {
                let all: Vec<_> = entries
                    .iter()
                    .map(|e| format!("{}@{}={}", e.key, e.line, text_of(&e.node.value)))
                    .collect();
                format!("{{{}}}", all.join(" "))
            }
            Value::List(items) => {
                format!("[{}]", items.iter().map(|i| text_of(&i.value)).collect::<Vec<_>>().join(" "))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn lines_and_values() {
        let node = parse("# a comment\na: 1\nb:\n  c: [1.5, 'x']\n\n  d: ~\n").unwrap();
        assert_eq!(text_of(&node.value), "{a@2=Int(1) b@3={c@4=[Float(1.5) Text(\"x\")] d@6=Null}}");
        assert_eq!(parse("").unwrap().value, Value::Null);
        assert_eq!(parse("# nothing\n").unwrap().value, Value::Null);
        assert_eq!(
            text_of(&parse("\u{feff}a: b\r\nc: d\r\n").unwrap().value),
            "{a@1=Text(\"b\") c@2=Text(\"d\")}"
        );
    }

    /// The user's YAML library decides what a scalar is.
    #[test]
    fn scalars_mean_what_serde_yaml_says() {
        for typed in [
            "",
            "~",
            "null",
            "true",
            "True",
            "yes",
            "on",
            "1",
            "-1",
            "+1",
            "0",
            "007",
            "1_000",
            "0x1F",
            "0o17",
            "1.5",
            "1e-3",
            "5e-4",
            "1E5",
            ".5",
            "5.",
            "-.5",
            ".inf",
            "-.inf",
            ".nan",
            "inf",
            "nan",
            "e5",
            ".",
            "-1.5e+3",
            "00.5",
            "-007",
            "+0",
            "cuda:1",
            "18446744073709551615",
            "1.2.3",
            "2024-01-01",
            "0x",
            "1e",
            "x1",
        ] {
            let ours = plain_scalar(typed);
            let theirs: serde_yaml::Value = serde_yaml::from_str(&format!("k: {typed}"))
                .map(|v: serde_yaml::Value| v["k"].clone())
                .unwrap();
            let same = match (&ours, &theirs) {
                (Value::Null, serde_yaml::Value::Null) => true,
                (Value::Bool(a), serde_yaml::Value::Bool(b)) => a == b,
                (Value::Int(a), serde_yaml::Value::Number(b)) if !b.is_f64() => {
                    a.to_string() == b.to_string()
                }
                (Value::Float(a), serde_yaml::Value::Number(b)) if b.is_f64() => {
                    b.as_f64().is_some_and(|b| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
                }
                (Value::Text(a), serde_yaml::Value::String(b)) => a == b,
                _ => false,
            };
            assert!(same, "{typed:?}: {ours:?} but serde_yaml says {theirs:?}");
        }
    }

    #[test]
    fn aliases_stand_for_what_they_name() {
        let node = parse("a: &x [1, 2]\nb: *x\n").unwrap();
        assert_eq!(text_of(&node.value), "{a@1=[Int(1) Int(2)] b@2=[Int(1) Int(2)]}");
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..20 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        let message = parse(&text).unwrap_err();
        insta::assert_snapshot!(message, @"line 4: too much for a recipe: 20000 values or 2 MB of text, aliases counted as what they stand for");
        // Few values, but each of them large.
        let large = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(10_000));
        insta::assert_snapshot!(parse(&large).unwrap_err(), @"line 2: too much for a recipe: 20000 values or 2 MB of text, aliases counted as what they stand for");
        let text = format!("a: '{}'\n", "x".repeat(1 << 20));
        assert!(parse(&text).is_ok());
        assert!(parse("a: &a [*a]\n").unwrap_err().starts_with("line 1"));
    }

    #[test]
    fn hostile_text_is_one_message() {
        let n = 1 << 19;
        for (what, text) in [
            ("brackets", "[".repeat(n)),
            ("braces", "{".repeat(n)),
            ("dashes", "- ".repeat(n)),
            ("question marks", "? ".repeat(n)),
            ("keys", (0..600).map(|i| format!("{}a:\n", " ".repeat(i))).collect()),
            ("commas", format!("[{}]", "a,".repeat(n))),
            ("open quote", format!("a: \"{}", "x".repeat(n))),
            ("unknown alias", "a: *b".into()),
            ("tag", "a: !!python/object/apply:os.system [ls]".into()),
            ("control", "a: \u{1}\u{0}".into()),
            ("bangs", "!".repeat(n)),
            ("anchors", "&a ".repeat(n)),
            ("colons", ": ".repeat(n)),
            ("percent", "%".repeat(n)),
            ("pipes", "|".repeat(n)),
            ("two documents", "a: 1\n---\nb: 2\n".into()),
            ("list key", "[a]: b".into()),
        ] {
            let message = parse(&text).expect_err(what);
            assert!(message.starts_with("line "), "{what}: {message}");
            assert!(message.len() < 400, "{what}: {message}");
        }
    }

    #[test]
    fn a_tab_and_a_missing_space_are_named() {
        assert_eq!(parse("a:\n\tb: 1\n").unwrap_err(), "line 2: a tab cannot indent YAML: use spaces");
        let message = parse("model:resnet18\ndata: x\n").unwrap_err();
        insta::assert_snapshot!(message, @"line 2, column 5: not valid YAML: mapping values are not allowed in this context; line 1 has no space after its colon: write `key: value`");
        let message = parse("a: \"C:\\photos\"\n").unwrap_err();
        insta::assert_snapshot!(message, @"line 1, column 4: not valid YAML: while parsing a quoted scalar, found unknown escape character; between double quotes a backslash starts an escape: use single quotes, or `/` in paths");
    }
}
