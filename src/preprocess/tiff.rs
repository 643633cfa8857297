//! TIFF: the first page, in the kinds that photographs and scans come in.

use std::borrow::Cow;
use std::io::Cursor;

use ::tiff::ColorType;
use ::tiff::TiffError;
use ::tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;

use super::RgbImage;
use super::bit_depth::narrow;
use super::decode::{DecodeLimits, cmyk_to_rgb, to_rgb};
use super::orientation::Orientation;
use super::png::from_indices;

pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let indexed = photometric(bytes).filter(|(_, value)| *value == PALETTE);
    let bytes = match indexed {
        Some((at, _)) => Cow::Owned(as_grey(bytes, at)),
        None => Cow::Borrowed(bytes),
    };
    let mut decoder = Decoder::new(Cursor::new(bytes.as_ref())).map_err(damaged)?;
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    limits.check(width, height)?;
    // Four samples of 16 bits, whatever the default would allow.
    let mut allowed = Limits::default();
    let most = (u64::from(width) * u64::from(height)).saturating_mul(8).saturating_add(1 << 20);
    allowed.decoding_buffer_size = usize::try_from(most).unwrap_or(usize::MAX);
    allowed.intermediate_buffer_size = allowed.decoding_buffer_size;
    let mut decoder = decoder.with_limits(allowed);

    let orientation = decoder.find_tag_unsigned::<u32>(Tag::Orientation).ok().flatten();
    let orientation = Orientation::from_value(orientation.unwrap_or(1));
    let color = decoder.colortype().map_err(damaged)?;
    let palette = match indexed {
        Some(_) => Some(decoder.get_tag_u16_vec(Tag::ColorMap).map_err(damaged)?),
        None => None,
    };
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten().unwrap_or_default();
    let premultiplied = extra.first() == Some(&1);
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(damaged)?;
    let samples = match samples {
        DecodingResult::U8(samples) => samples,
        DecodingResult::U16(samples) => {
            samples.into_iter().map(|sample| narrow(sample, limits.white_level)).collect()
        }
        _ => {
            return Err(format!(
                "a TIFF with {color:?} samples that are signed, wide or fractional {UNREAD}"
            ));
        }
    };
    let wide = if color.bit_depth() == 16 { 2 } else { 1 };
    let samples = interleaved(samples, &layout, color, wide)?;
    let size = (width, height);
    let image = match (color, palette) {
        (ColorType::Gray(bits @ (1 | 2 | 4 | 8)), Some(palette)) => {
            let line = (width as usize * usize::from(bits)).div_ceil(8);
            from_indices(size, &samples, line, bits, &colors(&palette))
        }
        (ColorType::Gray(bits @ (1 | 2 | 4)), None) => {
            let most = (1u16 << bits) - 1;
            let greys: Vec<[u8; 3]> = (0..=most).map(|value| [(value * 255 / most) as u8; 3]).collect();
            from_indices(size, &samples, (width as usize * usize::from(bits)).div_ceil(8), bits, &greys)
        }
        (ColorType::Gray(8 | 16), None) => to_rgb(size, &samples, 1, |grey| [grey[0]; 3])?,
        (ColorType::GrayA(8 | 16), None) => to_rgb(size, &samples, 2, |grey| [grey[0]; 3])?,
        (ColorType::Multiband { bit_depth: 8 | 16, num_samples }, None) => {
            to_rgb(size, &samples, usize::from(num_samples.max(1)), |bands| [bands[0]; 3])?
        }
        (ColorType::RGB(8 | 16), None) => RgbImage { width, height, data: samples },
        (ColorType::RGBA(8 | 16), None) if premultiplied => to_rgb(size, &samples, 4, divide_by_alpha)?,
        (ColorType::RGBA(8 | 16), None) => to_rgb(size, &samples, 4, |rgba| [rgba[0], rgba[1], rgba[2]])?,
        (ColorType::CMYK(8 | 16), None) => to_rgb(size, &samples, 4, cmyk_to_rgb)?,
        (ColorType::YCbCr(8), None) => to_rgb(size, &samples, 3, ycbcr_to_rgb)?,
        (color, _) => return Err(format!("a TIFF with {color:?} pixels {UNREAD}")),
    };
    if image.data.len() != width as usize * height as usize * 3 {
        return Err("the TIFF is damaged: it has too few pixels".to_string());
    }
    Ok((image, orientation))
}

const UNREAD: &str = "is not read; save it as 8-bit RGB or as PNG";

fn damaged(error: TiffError) -> String {
    match error {
        TiffError::IoError(_) => "the TIFF is truncated; copy or download it again".to_string(),
        TiffError::UnsupportedError(kind) => format!("a TIFF of this kind {UNREAD} ({kind})"),
        error => format!("the TIFF is damaged: {error}"),
    }
}

/// `PhotometricInterpretation` of an image whose samples are indices into a palette.
const PALETTE: u16 = 3;

/// Where the first page's `PhotometricInterpretation` stands, and its value. Classic TIFF only.
fn photometric(bytes: &[u8]) -> Option<(usize, u16)> {
    const TAG: u16 = 262;
    let little = bytes.starts_with(b"II*\0");
    if !little && !bytes.starts_with(b"MM\0*") {
        return None;
    }
    let u16_at = |at: usize| {
        let field = *bytes.get(at..)?.first_chunk()?;
        Some(if little { u16::from_le_bytes(field) } else { u16::from_be_bytes(field) })
    };
    let directory = *bytes.get(4..)?.first_chunk()?;
    let directory =
        if little { u32::from_le_bytes(directory) } else { u32::from_be_bytes(directory) } as usize;
    let count = usize::from(u16_at(directory)?);
    let at = (0..count).map(|index| directory + 2 + index * 12).find(|&at| u16_at(at) == Some(TAG))?;
    Some((at + 8, u16_at(at + 8)?))
}

/// The file with its indices declared as grey: the decoder does not read palettes, but it unpacks indices.
fn as_grey(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut grey = bytes.to_vec();
    let black_is_zero = if bytes.starts_with(b"II") { [1, 0] } else { [0, 1] };
    if let Some(field) = grey.get_mut(at..at + 2) {
        field.copy_from_slice(&black_is_zero);
    }
    grey
}

/// The palette: all reds, all greens, all blues, in 16 bits.
fn colors(palette: &[u16]) -> Vec<[u8; 3]> {
    let count = palette.len() / 3;
    let channel = |index: usize| (palette[index] >> 8) as u8;
    (0..count).map(|index| [channel(index), channel(count + index), channel(2 * count + index)]).collect()
}

/// Samples pixel by pixel, whether the file has them so or plane by plane. `wide` is the bytes of a sample.
fn interleaved(
    samples: Vec<u8>,
    layout: &BufferLayoutPreference,
    color: ColorType,
    wide: usize,
) -> Result<Vec<u8>, String> {
    if layout.planes <= 1 {
        return Ok(samples);
    }
    let stride = layout.plane_stride.map_or(0, |stride| stride.get()) / wide;
    if color.bit_depth() < 8 || stride == 0 || samples.len() < stride * layout.planes {
        return Err(format!("a TIFF with separate planes of {color:?} {UNREAD}"));
    }
    let mut out = Vec::with_capacity(samples.len());
    for index in 0..stride {
        out.extend((0..layout.planes).map(|plane| samples[plane * stride + index]));
    }
    Ok(out)
}

/// Pillow's `unpackRGBa`.
fn divide_by_alpha(rgba: &[u8]) -> [u8; 3] {
    let alpha = u32::from(rgba[3]);
    std::array::from_fn(|channel| {
        (u32::from(rgba[channel]) * 255).checked_div(alpha).map_or(0, |value| value.min(255) as u8)
    })
}

/// libjpeg's conversion, in 16-bit fixed point.
fn ycbcr_to_rgb(ycbcr: &[u8]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let [y, cb, cr] = [i32::from(ycbcr[0]), i32::from(ycbcr[1]) - 128, i32::from(ycbcr[2]) - 128];
    let red = y + ((91881 * cr + HALF) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + HALF) >> 16);
    let blue = y + ((116130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}
