//! The classes of several networks, matched by name.

use std::collections::BTreeMap;

use crate::text::look_alikes::{alike, unseen};
use crate::text::suggest::quoted;
use crate::text::words::{counted, first_few, shown};

/// Matches the classes of a network to those of the first: equal by position (`None`), or by name,
/// as the index of each in `found`. The error says how they differ.
pub fn match_classes(wanted: &[String], found: &[String]) -> Result<Option<Vec<i64>>, String> {
    if wanted == found {
        return Ok(None);
    }
    let places = |names: &[String]| -> BTreeMap<String, i64> { names.iter().cloned().zip(0..).collect() };
    let (first, second) = (places(wanted), places(found));
    let lacks = |names: &[String], others: &BTreeMap<String, i64>| -> Vec<String> {
        names.iter().filter(|name| !others.contains_key(*name)).cloned().collect()
    };
    let (missing, extra) = (lacks(wanted, &second), lacks(found, &first));
    if !missing.is_empty() || !extra.is_empty() {
        let part = |what: &str, names: &[String]| match names.is_empty() {
            true => format!("{what} none"),
            false => format!("{what} {}", first_few(names)),
        };
        return Err(format!(
            "{} and {}; {}, {}{}",
            wanted.len(),
            counted(found.len(), "class", "classes"),
            part("only the first has:", &missing),
            part("only the second has:", &extra),
            looking_alike(&missing, &extra)
        ));
    }
    let twice = |names: &[String], places: &BTreeMap<String, i64>| {
        let again = |(place, name): (i64, &String)| (places.get(name) != Some(&place)).then(|| shown(name));
        (0..).zip(names).find_map(again)
    };
    if let Some(name) = twice(wanted, &first).or_else(|| twice(found, &second)) {
        return Err(format!(
            "the same names in another order, and {} more than once, so that they cannot be matched",
            quoted(&[name])
        ));
    }
    Ok(Some(wanted.iter().filter_map(|name| second.get(name).copied()).collect()))
}

/// That a class that only the first has looks like one that only the second has.
fn looking_alike(missing: &[String], extra: &[String]) -> String {
    let differ = |name: &String| {
        let other = alike(name, extra.iter().map(String::as_str))?;
        let (here, there) = unseen(name, other)?;
        Some(format!("; \"{}\" of the first has {here} where that of the second has {there}", shown(name)))
    };
    missing.iter().find_map(differ).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn classes_are_matched_by_place_or_by_name() {
        assert_eq!(match_classes(&names("a b c"), &names("a b c")), Ok(None));
        assert_eq!(match_classes(&names("a a c"), &names("a a c")), Ok(None));
        assert_eq!(match_classes(&names("a b c"), &names("c a b")), Ok(Some(vec![1, 2, 0])));
        assert_eq!(
            match_classes(&names("a b c"), &names("c a d")).unwrap_err(),
            "3 and 3 classes; only the first has: b, only the second has: d"
        );
        assert_eq!(
            match_classes(&names("a b"), &names("b a c")).unwrap_err(),
            "2 and 3 classes; only the first has: none, only the second has: c"
        );
        assert_eq!(
            match_classes(&names("a Caf\u{e9}"), &names("a Cafe\u{301}")).unwrap_err(),
            "2 and 2 classes; only the first has: Caf\u{e9}, only the second has: Cafe\u{301}; \"Caf\u{e9}\" of the first has \
             U+00E9 (NFC) where that of the second has U+0065 U+0301 (NFD)"
        );
        assert!(match_classes(&names("a b a"), &names("b a a")).unwrap_err().contains("`a` more than once"));
    }
}
