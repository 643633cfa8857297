//! JPEG through mozjpeg's decoder, which is libjpeg-turbo's: slow integer DCT and smooth chroma
//! upsampling, Pillow's settings.
//!
//! If a network sees a smaller image, only the pixels that it depends on are decoded: lines above
//! are skipped (their blocks are read, but not transformed), lines below and columns beside are not
//! read. The bytes are the same.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::RgbImage;
use super::decode::{Decode, DecodeLimits, buffer, cmyk_to_rgb};
use super::libjpeg::{Decoder, Lines, MORE_SCANS, Space, TooMuch, Truncated};
use super::orientation::Orientation;
use super::resize::{Resizer, Stored, Target};

/// The sizes, in eighths, at which libjpeg-turbo is faster than at full size: it has vector code
/// for them, or only the blocks' averages to compute.
const EIGHTHS: [u32; 3] = [1, 2, 4];

/// Decodes a JPEG. libjpeg's own errors unwind with a `String`.
pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    decode_with(bytes, limits, adobe_ink, MORE_SCANS)
}

/// As [`decode`], for a part of a TIFF, whose ink is not inverted. There may be thousands of parts:
/// a small one may have no more scans than a large one.
pub(super) fn decode_plain_ink(bytes: &[u8], limits: DecodeLimits) -> Result<RgbImage, String> {
    Ok(decode_with(bytes, limits, cmyk_to_rgb, 0)?.0)
}

fn decode_with(
    bytes: &[u8],
    limits: DecodeLimits,
    ink: Ink,
    more_scans: u64,
) -> Result<(RgbImage, Orientation), String> {
    whole(|| {
        let Opened { jpeg, orientation, .. } = open(bytes, limits)?;
        let (width, height) = jpeg.size();
        let space = output_space(jpeg.space());
        let mut lines = jpeg.start(space, 8, more_scans).map_err(damaged)?;
        let mut data = buffer(width, height, 3)?;
        let stride = width as usize * 3;
        if lines.channels() == 3 {
            for line in data.chunks_exact_mut(stride) {
                lines.read(line).map_err(damaged)?;
            }
        } else {
            each_line(&mut lines, ink, 0..height as usize, |y, line| {
                data[y * stride..(y + 1) * stride].copy_from_slice(line);
            })?;
        }
        // Pillow does not look for the end marker either: every pixel is there.
        Ok((RgbImage { width, height, data }, orientation))
    })
}

/// The targets that `plan` returns for an upright image of these columns and rows.
pub(super) fn targets(
    bytes: &[u8],
    limits: DecodeLimits,
    plan: impl FnOnce(u32, u32) -> Vec<Target>,
) -> Result<Vec<RgbImage>, String> {
    whole(|| {
        let Opened { jpeg, orientation, complete } = open(bytes, limits)?;
        let full = jpeg.size();
        let (width, height) = orientation.upright(full);
        let targets = plan(width, height);
        let eighths = match limits.decode {
            Decode::Exact => 8,
            Decode::Fast => EIGHTHS.into_iter().find(|&eighths| suffices(eighths, &targets)).unwrap_or(8),
        };
        let stored = Stored { full, eighths, orientation };
        let mut resizers: Vec<Resizer> = targets.iter().map(|target| Resizer::new(target, stored)).collect();
        let wanted = |range: fn(&Resizer) -> Range<usize>| {
            let ranges = || resizers.iter().map(range).filter(|range| !range.is_empty());
            let start = ranges().map(|range| range.start).min().unwrap_or(0);
            start..ranges().map(|range| range.end).max().unwrap_or(start)
        };
        let (columns, rows) = (wanted(Resizer::columns), wanted(Resizer::lines));
        let (across, down, usual) = jpeg.blocks();
        let plain = usual && !jpeg.has_many_scans();
        let block = |side: u32| (side * eighths / 8) as usize;
        let space = output_space(jpeg.space());
        let mut lines = jpeg.start(space, eighths, MORE_SCANS).map_err(damaged)?;
        let (width, height) = lines.size();
        let mut first = 0;
        let mut next = 0;
        if plain && columns.len() >= LEAST {
            // Smooth chroma upsampling uses a neighbour: one more block on either side.
            let left = columns.start.saturating_sub(block(across));
            let right = (columns.end + block(across)).min(width);
            if right - left < width {
                first = lines.crop(left..right);
            }
        }
        if plain && rows.len() >= LEAST {
            next = (rows.start / block(down)).saturating_sub(1) * block(down);
            lines.skip(next);
        }
        // A file without an end marker can be found truncated only by reading all of it.
        let end = if complete { rows.end } else { height };
        each_line(&mut lines, adobe_ink, next..end, |y, line| {
            resizers.iter_mut().for_each(|resizer| resizer.push(y, line, first));
        })?;
        Ok(resizers.into_iter().map(Resizer::finish).collect())
    })
}

/// Leaving out fewer columns or lines is not worth it, and libjpeg has special cases for very few.
const LEAST: usize = 64;

/// Whether this many eighths of an image leave two pixels for each pixel of `targets`, along both
/// sides.
fn suffices(eighths: u32, targets: &[Target]) -> bool {
    let leaves = |side: u32, size: u64| u64::from(side) * u64::from(eighths) >= 2 * 8 * size;
    targets.iter().all(|target| {
        leaves(target.region.width, target.size.0) && leaves(target.region.height, target.size.1)
    })
}

/// Converts four samples of ink to RGB.
type Ink = fn(&[u8]) -> [u8; 3];

/// Adobe stores ink inverted, and no other program writes CMYK.
fn adobe_ink(cmyk: &[u8]) -> [u8; 3] {
    cmyk_to_rgb(&[255 - cmyk[0], 255 - cmyk[1], 255 - cmyk[2], 255 - cmyk[3]])
}

/// Reads lines `rows` and passes each on as RGB.
fn each_line(
    lines: &mut Lines<'_>,
    ink: Ink,
    rows: Range<usize>,
    mut each: impl FnMut(usize, &[u8]),
) -> Result<(), String> {
    let (width, channels) = (lines.size().0, lines.channels());
    let mut line = vec![0; width * channels];
    let mut pixels = vec![0; if channels == 4 { width * 3 } else { 0 }];
    for y in rows {
        lines.read(&mut line).map_err(damaged)?;
        if channels == 3 {
            each(y, &line);
            continue;
        }
        for (pixel, cmyk) in pixels.chunks_exact_mut(3).zip(line.chunks_exact(4)) {
            pixel.copy_from_slice(&ink(cmyk));
        }
        each(y, &pixels);
    }
    Ok(())
}

/// A JPEG whose header has been read.
struct Opened<'a> {
    jpeg: Decoder<'a>,
    orientation: Orientation,
    /// Whether its end marker exists.
    complete: bool,
}

fn open(bytes: &[u8], limits: DecodeLimits) -> Result<Opened<'_>, String> {
    let complete = has_end(bytes);
    let jpeg = Decoder::new(bytes).map_err(damaged)?;
    let (width, height) = jpeg.size();
    limits.check(width, height)?;
    let orientation = orientation(&jpeg);
    Ok(Opened { jpeg, orientation, complete })
}

/// libjpeg converts all but ink to RGB.
fn output_space(space: Space) -> Space {
    match space {
        Space::JCS_CMYK | Space::JCS_YCCK => Space::JCS_CMYK,
        _ => Space::JCS_RGB,
    }
}

/// Runs `read`, and turns [`Truncated`] and [`TooMuch`] into messages.
fn whole<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|payload| match payload.downcast::<TooMuch>() {
        Ok(too_much) => Err(too_much.0),
        Err(payload) if payload.is::<Truncated>() => {
            Err("the JPEG is truncated; copy or download it again".to_string())
        }
        Err(payload) => resume_unwind(payload),
    })
}

fn damaged(message: String) -> String {
    format!("the JPEG is damaged: {message}")
}

/// Joins EXIF blocks, as a long one is split over markers; the last XMP packet counts.
fn orientation(jpeg: &Decoder) -> Orientation {
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    let mut exif: Option<Vec<u8>> = None;
    let mut xmp = None;
    for data in jpeg.markers() {
        if let Some(block) = data.strip_prefix(b"Exif\0\0") {
            exif.get_or_insert_default().extend_from_slice(block);
        } else if let Some(packet) = data.strip_prefix(XMP) {
            xmp = Some(packet);
        }
    }
    Orientation::find(exif.as_deref(), xmp)
}

/// Whether there is an end marker after the image.
fn has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(0xFF, rest) {
        rest = &rest[at + 1..];
        let [marker, following @ ..] = rest else { break };
        match marker {
            // A fill byte, a stuffed zero, a marker without a body.
            0xFF => continue,
            0x00 | 0x01 | 0xD0..=0xD8 => rest = following,
            0xD9 => return true,
            _ => {
                let length = match following {
                    [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
                    _ => break,
                };
                rest = following.get(length..).unwrap_or_default();
            }
        }
    }
    false
}
