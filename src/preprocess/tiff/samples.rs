//! Converts samples of any type to 8 bits.

use ::tiff::decoder::DecodingResult;

use crate::preprocess::bit_depth::narrow;

/// 8-bit samples: unsigned 16-bit samples are [narrowed](narrow), as in the other formats; signed,
/// wider and fractional numbers are levels, truncated to integers as in Pillow.
///
/// # Errors
/// If such numbers are outside 0 to 255, or are fractions that would all become black.
pub(super) fn to_bytes(samples: DecodingResult, white_level: Option<u16>) -> Result<Vec<u8>, String> {
    match samples {
        DecodingResult::U8(samples) => Ok(samples),
        DecodingResult::U16(samples) => {
            Ok(samples.into_iter().map(|sample| narrow(sample, white_level)).collect())
        }
        DecodingResult::U32(samples) => levels(&samples, |sample| sample.into(), false),
        DecodingResult::U64(samples) => levels(&samples, |sample| sample as f64, false),
        DecodingResult::I8(samples) => levels(&samples, |sample| sample.into(), false),
        DecodingResult::I16(samples) => levels(&samples, |sample| sample.into(), false),
        DecodingResult::I32(samples) => levels(&samples, |sample| sample.into(), false),
        DecodingResult::I64(samples) => levels(&samples, |sample| sample as f64, false),
        DecodingResult::F16(samples) => levels(&samples, |sample| sample.into(), true),
        DecodingResult::F32(samples) => levels(&samples, |sample| sample.into(), true),
        DecodingResult::F64(samples) => levels(&samples, |sample| sample, true),
    }
}

fn levels<T: Copy>(samples: &[T], number: impl Fn(T) -> f64, fractional: bool) -> Result<Vec<u8>, String> {
    const SAVE: &str = "save it with 8 or 16 bits a sample";
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for sample in samples.iter().map(|&sample| number(sample)) {
        if !sample.is_finite() {
            return Err(format!(
                "the TIFF has samples that are no numbers ({sample}); replace them, and {SAVE}"
            ));
        }
        (least, most) = (least.min(sample), most.max(sample));
    }
    // `f32` shows enough digits to read.
    let (shown_least, shown_most) = (least as f32, most as f32);
    if least < 0. || most > 255. {
        return Err(format!(
            "the TIFF's samples reach from {shown_least} to {shown_most}, and signed, 32-bit and fractional ones \
             are read as levels of 0 to 255; scale them, or {SAVE}"
        ));
    }
    if fractional && most > 0. && most <= 1. {
        return Err(format!(
            "the TIFF's samples are fractions from {shown_least} to {shown_most}, and as levels of 0 to 255 they \
             would be black; multiply them by 255, or {SAVE}"
        ));
    }
    Ok(samples.iter().map(|&sample| number(sample) as u8).collect())
}
