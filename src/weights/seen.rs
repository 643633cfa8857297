//! The images that a model has learnt from, by their contents: names change.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Digits of an image.
const DIGITS: usize = 16;

/// Images that a model has learnt from or was chosen by: the first 64 bits of the sha256 of the
/// bytes of each file, sorted. As text, 16 hexadecimal digits each. Among a million images against
/// 200,000, two different ones are taken for the same with a probability of 1e-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenImages(Vec<u64>);

impl SeenImages {
    /// With more images than this a model file keeps none: 3 MB of text.
    pub const MOST: usize = 200_000;

    /// Images of these hashes, with those that `earlier` has; `None` if they are too many.
    pub fn of(hashes: impl IntoIterator<Item = u64>, earlier: Option<&SeenImages>) -> Option<Self> {
        let mut all: Vec<u64> = hashes.into_iter().collect();
        all.extend(earlier.iter().flat_map(|seen| &seen.0));
        all.sort_unstable();
        all.dedup();
        (all.len() <= SeenImages::MOST).then_some(SeenImages(all))
    }

    /// Whether an image is among them.
    pub fn contains(&self, hash: u64) -> bool {
        self.0.binary_search(&hash).is_ok()
    }
}

impl Serialize for SeenImages {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.iter().map(|hash| format!("{hash:016x}")).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for SeenImages {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let hash = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (all, rest) = text.as_bytes().as_chunks::<DIGITS>();
        let hashes: Option<Vec<u64>> = all.iter().map(|digits| hash(digits)).collect();
        match hashes {
            Some(hashes) if rest.is_empty() && hashes.is_sorted() => Ok(SeenImages(hashes)),
            _ => Err(de::Error::custom("expected sorted groups of 16 hexadecimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_again_after_writing() {
        let earlier = SeenImages::of([7], None).unwrap();
        let seen = SeenImages::of([u64::MAX, 3, 3], Some(&earlier)).unwrap();
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(text, "\"00000000000000030000000000000007ffffffffffffffff\"");
        let read: SeenImages = serde_json::from_str(&text).unwrap();
        assert_eq!(read, seen);
        assert_eq!([0, 3, 7, u64::MAX].map(|hash| read.contains(hash)), [false, true, true, true]);
        for wrong in ["00000000000000", "000000000000000g", "00000000000000070000000000000003"] {
            let read: Result<SeenImages, _> = serde_json::from_str(&format!("\"{wrong}\""));
            assert!(read.is_err(), "{wrong}");
        }
    }

    #[test]
    fn too_many_are_none() {
        assert!(SeenImages::of(0..SeenImages::MOST as u64, None).is_some());
        assert!(SeenImages::of(0..=SeenImages::MOST as u64, None).is_none());
    }
}
