//! TIFF: the first page, in the kinds used by photographs, scans, faxes and microscopes.
//!
//! The `tiff` crate reads the directory and unpacks most codings; JPEG goes through libjpeg, as
//! elsewhere.

mod chunks;
mod fax;
mod samples;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Cursor;

use ::tiff::ColorType;
use ::tiff::TiffError;
use ::tiff::decoder::{BufferLayoutPreference, ChunkType, Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;

use super::RgbImage;
use super::decode::{DecodeLimits, buffer, cmyk_to_rgb, to_rgb};
use super::jpeg;
use super::orientation::Orientation;
use super::png::from_indices;
use chunks::{check_shared, check_tiles, chunks, copies, place, ranges};
use fax::Coding;

type Page<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let bytes = highest_bit_first(bytes)?;
    let mut page = open(&bytes)?;
    let size = page.dimensions().map_err(damaged)?;
    limits.check(size.0, size.1)?;
    check_tiles(&mut page, size)?;
    let coding = number(&mut page, Tag::Compression, 1);
    // Of uncompressed ones, no more is read than there are pixels.
    if coding != 1 {
        check_shared(&mut page, bytes.len())?;
    }
    let orientation = Orientation::from_value(number(&mut page, Tag::Orientation, 1));
    let image = match coding {
        2..=4 => bilevel(&mut page, &bytes, size, coding)?,
        7 => from_jpegs(&mut page, &bytes, size)?,
        // Uncompressed, LZW, deflate with either of its numbers, PackBits.
        1 | 5 | 8 | 32946 | 32773 => unpacked(&bytes, size, limits.white_level)?,
        coding => {
            return Err(format!(
                "a TIFF that is compressed with {} is not read; save it with LZW or deflate, or as PNG",
                compression(coding)
            ));
        }
    };
    Ok((image, orientation))
}

fn open(bytes: &[u8]) -> Result<Page<'_>, String> {
    Decoder::new(Cursor::new(bytes)).map_err(damaged)
}

fn number(page: &mut Page, tag: Tag, default: u32) -> u32 {
    page.find_tag_unsigned(tag).ok().flatten().unwrap_or(default)
}

fn compression(coding: u32) -> String {
    match coding {
        6 => "JPEG in its old form".to_string(),
        32771 => "CCITT runs in words".to_string(),
        33003..=33005 | 34712 => "JPEG 2000".to_string(),
        34887 => "LERC".to_string(),
        34925 => "LZMA".to_string(),
        50000 => "Zstandard".to_string(),
        50001 => "WebP".to_string(),
        50002 => "JPEG XL".to_string(),
        coding => format!("method {coding}"),
    }
}

/// The file with the highest bit of its data first, where `FillOrder` says the opposite, as in
/// faxes.
fn highest_bit_first(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let mut page = open(bytes)?;
    let coding = number(&mut page, Tag::Compression, 1);
    if number(&mut page, Tag::FillOrder, 1) != 2 || coding == 7 {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut ranges = ranges(&mut page, bytes.len())?;
    ranges.sort_unstable();
    let mut bytes = bytes.to_vec();
    let mut done = 0;
    for (start, end) in ranges {
        // Strips may share bytes.
        bytes[start.max(done).min(end)..end].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        done = done.max(end);
    }
    Ok(Cow::Owned(bytes))
}

/// Reads a page in one of the fax codings.
fn bilevel(page: &mut Page, bytes: &[u8], size: (u32, u32), coding: u32) -> Result<RgbImage, String> {
    let (depth, samples) = (number(page, Tag::BitsPerSample, 1), number(page, Tag::SamplesPerPixel, 1));
    if (depth, samples) != (1, 1) {
        return Err(format!("the TIFF is damaged: a fax coding with {samples} samples of {depth} bits"));
    }
    let coding = match coding {
        2 => Coding::Runs,
        3 => Coding::Group3 { two_dimensional: number(page, Tag::Unknown(T4_OPTIONS), 0) & 1 == 1 },
        _ => Coding::Group4,
    };
    let colors = match number(page, Tag::PhotometricInterpretation, 0) {
        0 => vec![[255; 3], [0; 3]],
        PALETTE => colors(&page.get_tag_u16_vec(Tag::ColorMap).map_err(damaged)?),
        _ => vec![[0; 3], [255; 3]],
    };
    let line = size.0.div_ceil(8) as usize;
    let mut packed = buffer(line as u32, size.1, 1)?;
    for chunk in chunks(page, bytes, size)? {
        let chunk_line = chunk.width.div_ceil(8) as usize;
        let mut rows = buffer(chunk_line as u32, chunk.height, 1)?;
        fax::unpack(chunk.data, coding, chunk.width, &mut rows)?;
        place(&mut packed, line, &rows, chunk_line, chunk.left / 8, chunk.top);
    }
    Ok(from_indices(size, &packed, line, 1, &colors))
}

/// `T4Options`, which the crate does not name.
const T4_OPTIONS: u16 = 292;

/// Reads a page whose strips or tiles are JPEGs.
fn from_jpegs(page: &mut Page, bytes: &[u8], size: (u32, u32)) -> Result<RgbImage, String> {
    let tables = page.find_tag(Tag::JPEGTables).map_err(damaged)?;
    let tables = tables.map(|tables| tables.into_u8_vec()).transpose().map_err(damaged)?.unwrap_or_default();
    let converted = number(page, Tag::PhotometricInterpretation, 0) == YCBCR;
    let line = size.0 as usize * 3;
    let mut image = RgbImage { width: size.0, height: size.1, data: buffer(size.0, size.1, 3)? };
    // Every part is copied, with the tables that all share.
    let mut copied = copies(bytes.len());
    for chunk in chunks(page, bytes, size)? {
        let length = (tables.len() + chunk.data.len()) as u64;
        copied.spend(length).map_err(|message| format!("the TIFF {message}"))?;
        let file = jpeg_file(&tables, chunk.data, converted);
        let most = DecodeLimits {
            max_pixels: u64::from(chunk.width) * u64::from(chunk.height),
            ..DecodeLimits::default()
        };
        let part = jpeg::decode_plain_ink(&file, most)?;
        if (part.width, part.height) != (chunk.width, chunk.height) {
            return Err(format!(
                "the TIFF is damaged: a part of {}x{} pixels has {}x{}",
                chunk.width, chunk.height, part.width, part.height
            ));
        }
        place(&mut image.data, line, &part.data, part.width as usize * 3, chunk.left * 3, chunk.top);
    }
    Ok(image)
}

/// A strip as a JPEG file of its own: with the shared tables, and a marker that defines its
/// components.
fn jpeg_file(tables: &[u8], data: &[u8], converted: bool) -> Vec<u8> {
    const START: [u8; 2] = [0xFF, 0xD8];
    let mut file = Vec::with_capacity(tables.len() + data.len() + 18);
    file.extend_from_slice(&START);
    file.extend_from_slice(b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0");
    file.push(u8::from(converted));
    let tables = tables.strip_prefix(&START).unwrap_or(tables);
    file.extend_from_slice(tables.strip_suffix(&[0xFF, 0xD9]).unwrap_or(tables));
    file.extend_from_slice(data.strip_prefix(&START).unwrap_or(data));
    file
}

/// Reads a page that the crate unpacks.
fn unpacked(
    bytes: &[u8],
    size @ (width, height): (u32, u32),
    white_level: Option<u16>,
) -> Result<RgbImage, String> {
    let indexed = photometric(bytes).filter(|(_, value)| u32::from(*value) == PALETTE);
    let bytes = match indexed {
        Some((at, _)) => Cow::Owned(as_grey(bytes, at)),
        None => Cow::Borrowed(bytes),
    };
    let mut page = open(&bytes)?;
    refuse(&mut page)?;
    // Four samples of 32 bits, whatever the default limit.
    let mut allowed = Limits::default();
    let most = (u64::from(width) * u64::from(height)).saturating_mul(16).saturating_add(1 << 20);
    allowed.decoding_buffer_size = usize::try_from(most).unwrap_or(usize::MAX);
    allowed.intermediate_buffer_size = allowed.decoding_buffer_size;
    let mut page = page.with_limits(allowed);
    let color = page.colortype().map_err(damaged)?;
    let palette = match indexed {
        Some(_) => Some(page.get_tag_u16_vec(Tag::ColorMap).map_err(damaged)?),
        None => None,
    };
    let extra = page.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten().unwrap_or_default();
    let premultiplied = extra.first() == Some(&1);
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = page.read_image_to_buffer(&mut samples).map_err(damaged)?;
    let samples = interleaved(samples::to_bytes(samples, white_level)?, &layout, color)?;
    let image = match (color, palette) {
        (ColorType::Gray(bits @ (1 | 2 | 4 | 8)), Some(palette)) => {
            let line = (width as usize * usize::from(bits)).div_ceil(8);
            from_indices(size, &samples, line, bits, &colors(&palette))
        }
        (ColorType::Multiband { bit_depth: 8, num_samples }, Some(palette)) => {
            let indices: Vec<u8> = samples.into_iter().step_by(usize::from(num_samples.max(1))).collect();
            from_indices(size, &indices, width as usize, 8, &colors(&palette))
        }
        (ColorType::Gray(bits @ (1 | 2 | 4)), None) => {
            let most = (1u16 << bits) - 1;
            let greys: Vec<[u8; 3]> = (0..=most).map(|value| [(value * 255 / most) as u8; 3]).collect();
            from_indices(size, &samples, (width as usize * usize::from(bits)).div_ceil(8), bits, &greys)
        }
        (ColorType::Gray(_), None) => to_rgb(size, &samples, 1, |grey| [grey[0]; 3])?,
        (ColorType::GrayA(_), None) => to_rgb(size, &samples, 2, |grey| [grey[0]; 3])?,
        (ColorType::Multiband { num_samples, .. }, None) if color.bit_depth() >= 8 => {
            to_rgb(size, &samples, usize::from(num_samples.max(1)), |bands| [bands[0]; 3])?
        }
        (ColorType::RGB(_), None) => RgbImage { width, height, data: samples },
        (ColorType::RGBA(_), None) if premultiplied => to_rgb(size, &samples, 4, divide_by_alpha)?,
        (ColorType::RGBA(_), None) => to_rgb(size, &samples, 4, |rgba| [rgba[0], rgba[1], rgba[2]])?,
        (ColorType::CMYK(_), None) => to_rgb(size, &samples, 4, cmyk_to_rgb)?,
        (ColorType::YCbCr(8), None) => to_rgb(size, &samples, 3, ycbcr_to_rgb)?,
        (color, _) => return Err(format!("a TIFF with {color:?} pixels {UNREAD}")),
    };
    if image.data.len() != width as usize * height as usize * 3 {
        return Err("the TIFF is damaged: it has too few pixels".to_string());
    }
    Ok(image)
}

/// Refuses pages that the crate cannot read, with clearer messages.
fn refuse(page: &mut Page) -> Result<(), String> {
    let depth = page.find_tag_unsigned_vec::<u32>(Tag::BitsPerSample).ok().flatten().unwrap_or_default();
    if let Some(depth) = depth.first().filter(|depth| !matches!(depth, 1 | 2 | 4 | 8 | 16 | 32 | 64)) {
        return Err(format!("a TIFF with {depth} bits a sample is not read; save it with 8 or 16"));
    }
    if matches!(number(page, Tag::PhotometricInterpretation, 0), 8..=10) {
        return Err("a TIFF in CIE Lab colours is not read; save it as RGB".to_string());
    }
    // The crate counts tiles wrongly in this case.
    if page.get_chunk_type() == ChunkType::Tile
        && number(page, Tag::PlanarConfiguration, 1) == 2
        && number(page, Tag::SamplesPerPixel, 1) > 1
    {
        return Err(
            "a TIFF of tiles in separate planes is not read; save it in strips, or with the samples of a \
                    pixel together"
                .to_string(),
        );
    }
    Ok(())
}

const UNREAD: &str = "is not read; save it as 8-bit RGB or as PNG";

fn damaged(error: TiffError) -> String {
    match error {
        TiffError::IoError(_) => "the TIFF is truncated; copy or download it again".to_string(),
        TiffError::UnsupportedError(kind) => format!("a TIFF of this kind {UNREAD} ({kind})"),
        error => format!("the TIFF is damaged: {error}"),
    }
}

/// `PhotometricInterpretation` of an image of palette indices, and of one of luma and chroma.
const PALETTE: u32 = 3;
const YCBCR: u32 = 6;

/// Offset and value of the first page's `PhotometricInterpretation`.
fn photometric(bytes: &[u8]) -> Option<(usize, u16)> {
    const TAG: u64 = 262;
    let little = bytes.starts_with(b"II");
    let big = bytes.starts_with(b"II+") || bytes.starts_with(b"MM\0+");
    let read = |at: usize, count: usize| {
        let field = bytes.get(at..at.checked_add(count)?)?.iter();
        let push = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if little { field.rev().fold(0, push) } else { field.fold(0, push) })
    };
    // BigTIFF has wider offsets, counts and entries.
    let (place, wide, head, entry) = if big { (8, 8, 8, 20) } else { (4, 4, 2, 12) };
    let directory = usize::try_from(read(place, wide)?).ok()?;
    let count = usize::try_from(read(directory, head)?).ok()?.min(bytes.len());
    let first = directory.checked_add(head)?;
    let at = (0..count).map(|index| first + index * entry).find(|&at| read(at, 2) == Some(TAG))?;
    let at = at + entry - wide;
    Some((at, read(at, 2)? as u16))
}

/// The file with its indices declared as grey: the decoder does not support palettes, but it
/// unpacks indices.
fn as_grey(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut grey = bytes.to_vec();
    let black_is_zero = if bytes.starts_with(b"II") { [1, 0] } else { [0, 1] };
    if let Some(field) = grey.get_mut(at..at + 2) {
        field.copy_from_slice(&black_is_zero);
    }
    grey
}

/// The palette's colours: all reds, all greens, all blues, in 16 bits.
fn colors(palette: &[u16]) -> Vec<[u8; 3]> {
    let count = palette.len() / 3;
    let channel = |index: usize| (palette[index] >> 8) as u8;
    (0..count).map(|index| [channel(index), channel(count + index), channel(2 * count + index)]).collect()
}

/// Samples pixel by pixel, whether stored so or plane by plane.
fn interleaved(
    samples: Vec<u8>,
    layout: &BufferLayoutPreference,
    color: ColorType,
) -> Result<Vec<u8>, String> {
    if layout.planes <= 1 {
        return Ok(samples);
    }
    let wide = usize::from(color.bit_depth()) / 8;
    let stride = layout.plane_stride.and_then(|stride| stride.get().checked_div(wide)).unwrap_or(0);
    if stride == 0 || samples.len() < stride * layout.planes {
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

/// Pillow's own conversion, with 6 fractional bits; libjpeg's differs by a level.
fn ycbcr_to_rgb(ycbcr: &[u8]) -> [u8; 3] {
    let [y, cb, cr] = [0, 1, 2].map(|index| i32::from(ycbcr[index]));
    let part = |factor: f64, chroma: i32| (factor * f64::from(chroma - 128) * 64. + 0.5) as i32;
    let red = y + (part(1.402, cr) >> 6);
    let green = y + ((part(-0.34414, cb) + part(-0.71414, cr)) >> 6);
    let blue = y + (part(1.772, cb) >> 6);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}
