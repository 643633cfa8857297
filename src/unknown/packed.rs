//! Numbers of 16 bits as text, for a model's metadata.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers that are stored as float16, little-endian, in base64.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed(Vec<f32>);

impl Packed {
    /// The numbers, rounded to float16.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        Packed(values.into_iter().map(|value| f16::from_f64(value).to_f32()).collect())
    }

    /// The rounded numbers.
    pub fn values(&self) -> &[f32] {
        &self.0
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        match bytes.as_chunks() {
            (pairs, []) => Ok(Packed(pairs.iter().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect())),
            _ => Err(D::Error::custom("half a number at the end of base64")),
        }
    }
}
