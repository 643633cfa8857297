//! PNG, every kind, expanded as in Pillow: alpha and transparent colours are ignored, palette
//! indices become colours, 16 bits keep their high byte.

use std::borrow::Cow;
use std::io::Cursor;

use ::png::{BitDepth, ColorType, DecodeOptions, Decoder, Encoder, Info, Limits, Transformations};

use super::RgbImage;
use super::bit_depth::narrow;
use super::decode::{DecodeLimits, buffer, to_rgb};
use super::orientation::Orientation;
use crate::error::Error;

/// Maximum bytes that the decoder may allocate for itself (rows and metadata, not pixels).
const METADATA_BYTES: usize = 64 << 20;

/// An image as a PNG, 8-bit RGB.
///
/// # Errors
/// [`Error::Run`] for an image without pixels.
pub fn encode_png(image: &RgbImage) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, image.width, image.height);
    encoder.set_color(ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&image.data));
    written.map_err(|error| Error::run(format!("cannot make a PNG: {error}")))?;
    Ok(bytes)
}

/// Decodes a PNG. Like Pillow, it accepts a missing end or a wrong checksum of the pixels if all
/// compressed pixels are present: they have a checksum of their own.
pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    // The inner checksum costs a pass over the pixels; those of the file cover them otherwise.
    let options = DecodeOptions::default();
    read(bytes, limits, options.clone()).or_else(|error| match mended(bytes) {
        Some(mended) => {
            let mut options = options;
            options.set_ignore_adler32(false);
            read(&mended, limits, options).map_err(|_| error)
        }
        None => Err(error),
    })
}

/// The file with corrected checksums of its pixels, and with an end; `None` if it has both, or if a
/// chunk is cut.
fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    const SIGNATURE: usize = 8;
    const END: [u8; 12] = *b"\0\0\0\0IEND\xAE\x42\x60\x82";
    let mut mended = bytes.to_vec();
    let mut at = SIGNATURE;
    let mut changed = false;
    // Length, name, data, checksum.
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
        let sum = (at + 8).checked_add(length)?;
        let found = bytes.get(sum..sum + 4);
        if &head[4..] == b"IEND" {
            match found {
                Some(_) => return changed.then_some(mended),
                None => break,
            }
        }
        let found = found?;
        if &head[4..] == b"IDAT" {
            let right = crc32fast::hash(&bytes[at + 4..sum]).to_be_bytes();
            changed |= found != right;
            mended[sum..sum + 4].copy_from_slice(&right);
        }
        at = sum + 4;
    }
    mended.truncate(at);
    mended.extend(END);
    Some(mended)
}

fn read(
    bytes: &[u8],
    limits: DecodeLimits,
    options: DecodeOptions,
) -> Result<(RgbImage, Orientation), String> {
    let damaged = |error: ::png::DecodingError| match error {
        ::png::DecodingError::IoError(_) => "the PNG is truncated; copy or download it again".to_string(),
        error => {
            let words = error.to_string();
            format!("the PNG is damaged: {}", words.split(" while decoding").next().unwrap_or(&words))
        }
    };
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(Limits { bytes: METADATA_BYTES });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_iccp_chunk(true);
    let (width, height) = decoder.read_header_info().map_err(damaged)?.size();
    limits.check(width, height)?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let line = reader.output_line_size(width).ok_or("the PNG's lines are too long")?;
    let (color, depth) = reader.output_color_type();
    let mut samples = buffer(u32::try_from(line).map_err(|_| "the PNG's lines are too long")?, height, 1)?;
    reader.next_frame(&mut samples).map_err(damaged)?;
    // Chunks after the pixels may hold the orientation; if they are damaged, the pixels are still
    // good.
    let _ = reader.finish();
    let info = reader.info();
    if depth == BitDepth::Sixteen {
        // In place: a sample has two bytes.
        for at in 0..samples.len() / 2 {
            let sample = u16::from_be_bytes([samples[2 * at], samples[2 * at + 1]]);
            samples[at] = narrow(sample, limits.white_level);
        }
        samples.truncate(samples.len() / 2);
    }
    let image = expand((width, height), samples, line, color, depth, info.palette.as_deref())?;
    Ok((image, orientation(info)))
}

fn expand(
    size: (u32, u32),
    samples: Vec<u8>,
    line: usize,
    color: ColorType,
    depth: BitDepth,
    palette: Option<&[u8]>,
) -> Result<RgbImage, String> {
    match (color, depth) {
        (ColorType::Rgb, _) => Ok(RgbImage { width: size.0, height: size.1, data: samples }),
        (ColorType::Rgba, _) => to_rgb(size, &samples, 4, |rgba| [rgba[0], rgba[1], rgba[2]]),
        (ColorType::GrayscaleAlpha, _) => to_rgb(size, &samples, 2, |grey| [grey[0]; 3]),
        (ColorType::Grayscale, BitDepth::Sixteen) => to_rgb(size, &samples, 1, |grey| [grey[0]; 3]),
        (ColorType::Grayscale, depth) => {
            let most = (1u16 << depth as u8) - 1;
            let colors: Vec<[u8; 3]> = (0..=most).map(|value| [(value * 255 / most) as u8; 3]).collect();
            Ok(from_indices(size, &samples, line, depth as u8, &colors))
        }
        (ColorType::Indexed, depth) => {
            let palette = palette.ok_or("the PNG's palette is missing")?;
            let colors: Vec<[u8; 3]> =
                palette.chunks_exact(3).map(|color| [color[0], color[1], color[2]]).collect();
            Ok(from_indices(size, &samples, line, depth as u8, &colors))
        }
    }
}

/// An image from indices of `bits` bits, packed from the high bits down, with rows of `line` bytes.
/// An index without a colour is black. The last row may lack its padding.
pub(super) fn from_indices(
    (width, height): (u32, u32),
    indices: &[u8],
    line: usize,
    bits: u8,
    colors: &[[u8; 3]],
) -> RgbImage {
    let mut image = RgbImage::black(width, height);
    let per_byte = usize::from(8 / bits);
    let mask = (1u16 << bits) - 1;
    let mut table = [[0; 3]; 256];
    for (entry, color) in table.iter_mut().zip(colors) {
        *entry = *color;
    }
    for (to, from) in image.data.chunks_exact_mut(width as usize * 3).zip(indices.chunks(line)) {
        for (pixels, &byte) in to.chunks_mut(per_byte * 3).zip(from) {
            for (position, pixel) in pixels.chunks_exact_mut(3).enumerate() {
                let shift = 8 - usize::from(bits) * (position + 1);
                let index = (u16::from(byte) >> shift) & mask;
                pixel.copy_from_slice(&table[usize::from(index)]);
            }
        }
    }
    image
}

/// From the eXIf chunk, ImageMagick's hexadecimal text, or XMP.
fn orientation(info: &Info<'_>) -> Orientation {
    let exif = info.exif_metadata.clone().or_else(|| raw_profile(info).map(Cow::Owned));
    let xmp = info.utf8_text.iter().find(|text| text.keyword == "XML:com.adobe.xmp");
    let xmp = xmp.and_then(|text| text.get_text().ok());
    Orientation::find(exif.as_deref(), xmp.as_deref().map(str::as_bytes))
}

/// The text `Raw profile type exif`: three lines of heading, then hexadecimal digits.
fn raw_profile(info: &Info<'_>) -> Option<Vec<u8>> {
    const KEYWORD: &str = "Raw profile type exif";
    let plain = info.uncompressed_latin1_text.iter().find(|text| text.keyword == KEYWORD);
    let text = match plain {
        Some(text) => text.text.clone(),
        None => info.compressed_latin1_text.iter().find(|text| text.keyword == KEYWORD)?.get_text().ok()?,
    };
    let digits: Vec<u8> =
        text.split('\n').skip(3).flat_map(str::bytes).filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
    Some(digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect())
}
