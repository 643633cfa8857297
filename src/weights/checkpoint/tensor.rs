//! A tensor as bytes.

use half::{bf16, f16};

/// Dtypes of a weights file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// Signed 64-bit.
    I64,
    /// Signed 32-bit.
    I32,
    /// Signed 16-bit.
    I16,
    /// Signed 8-bit.
    I8,
    /// Unsigned 8-bit.
    U8,
    /// One byte a boolean.
    Bool,
}

impl Dtype {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// Whether it is a floating-point dtype, which [`RawTensor::to_f32`] converts.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    /// PyTorch's name: `float32`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "float64",
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::I64 => "int64",
            Dtype::I32 => "int32",
            Dtype::I16 => "int16",
            Dtype::I8 => "int8",
            Dtype::U8 => "uint8",
            Dtype::Bool => "bool",
        }
    }
}

/// One tensor, contiguous and row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTensor {
    /// The dtype of its elements.
    pub dtype: Dtype,
    /// Its sizes; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its elements, little-endian: the product of `shape` times the dtype's size.
    pub bytes: Vec<u8>,
}

impl RawTensor {
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The elements as 32-bit floats (float64 is rounded); `None` for integers and booleans.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let bytes = &self.bytes;
        Some(match self.dtype {
            Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => each(bytes, f32::from_le_bytes),
            Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::Bool => return None,
        })
    }
}

impl RawTensor {
    /// Whether every element is finite, also as a 32-bit float.
    pub fn is_finite(&self) -> bool {
        // The exponent bits of a non-finite number are all set.
        const F32: u32 = 0x7f80_0000;
        const F16: u16 = 0x7c00;
        const BF16: u16 = 0x7f80;
        let bytes = &self.bytes;
        match self.dtype {
            Dtype::F64 => !any(bytes, |b| !(f64::from_le_bytes(b) as f32).is_finite()),
            Dtype::F32 => !any(bytes, |b| u32::from_le_bytes(b) & F32 == F32),
            Dtype::F16 => !any(bytes, |b| u16::from_le_bytes(b) & F16 == F16),
            Dtype::BF16 => !any(bytes, |b| u16::from_le_bytes(b) & BF16 == BF16),
            Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::Bool => true,
        }
    }
}

/// Whether `what` holds for at least one element. All are checked, many at a time, as it nearly
/// always holds for none.
fn any<const N: usize>(bytes: &[u8], what: impl Fn([u8; N]) -> bool) -> bool {
    bytes.as_chunks::<N>().0.iter().fold(false, |found, chunk| found | what(*chunk))
}

fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_every_kind_become_f32() {
        let tensor = |dtype, bytes: &[u8]| RawTensor { dtype, shape: vec![1], bytes: bytes.to_vec() };
        assert_eq!(tensor(Dtype::F64, &1.5f64.to_le_bytes()).to_f32(), Some(vec![1.5]));
        assert_eq!(tensor(Dtype::F32, &(-2.25f32).to_le_bytes()).to_f32(), Some(vec![-2.25]));
        assert_eq!(tensor(Dtype::F16, &[0x00, 0x3e]).to_f32(), Some(vec![1.5]));
        assert_eq!(tensor(Dtype::BF16, &[0xc0, 0x3f]).to_f32(), Some(vec![1.5]));
        assert_eq!(tensor(Dtype::I64, &7i64.to_le_bytes()).to_f32(), None);
    }

    #[test]
    fn what_is_no_number_is_found() {
        let tensor = |dtype, bytes: &[u8]| RawTensor { dtype, shape: vec![1], bytes: bytes.to_vec() };
        let (nan, inf, max) = (f32::NAN, f32::INFINITY, f32::MAX);
        for value in [nan, inf, -inf] {
            assert!(!tensor(Dtype::F32, &[1f32.to_le_bytes(), value.to_le_bytes()].concat()).is_finite());
            assert!(!tensor(Dtype::F64, &f64::from(value).to_le_bytes()).is_finite());
            assert!(!tensor(Dtype::F16, &f16::from_f32(value).to_le_bytes()).is_finite());
            assert!(!tensor(Dtype::BF16, &bf16::from_f32(value).to_le_bytes()).is_finite());
        }
        assert!(tensor(Dtype::F32, &[max.to_le_bytes(), (-max).to_le_bytes()].concat()).is_finite());
        assert!(tensor(Dtype::F16, &f16::MAX.to_le_bytes()).is_finite());
        assert!(tensor(Dtype::BF16, &bf16::MAX.to_le_bytes()).is_finite());
        assert!(!tensor(Dtype::F64, &1e39f64.to_le_bytes()).is_finite(), "as a 32-bit float it is infinite");
        assert!(tensor(Dtype::I64, &(-1i64).to_le_bytes()).is_finite());
    }
}
