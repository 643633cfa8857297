//! JPEG 2000: a codestream alone (`.j2k`, `.j2c`, `.jpc`), or in the boxes of a JP2 or JPX file.
//!
//! Reversible files have Pillow's pixels; irreversible ones differ by a level here and there, as
//! OpenJPEG rounds elsewhere. Samples of more than 8 bits keep the highest 8, as in the other
//! formats.

mod packets;

use std::fmt::Display;

use hayro_jpeg2000::{ComponentData, DecodeSettings, DecoderContext, Image};

use super::RgbImage;
use super::bit_depth::narrow;
use super::decode::{DecodeLimits, buffer, cmyk_to_rgb};
use super::orientation::Orientation;

pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let head = Head::find(bytes).ok_or("the JPEG 2000 file is damaged: it has no size")?;
    limits.check(head.width, head.height)?;
    head.check()?;
    // Even a strict decoder leaves missing tiles grey, so they are counted.
    let found = head.tiles_found();
    if found < head.tiles {
        return Err(damaged(format!("{found} of {} tiles are there", head.tiles)));
    }
    packets::check(head.stream, head.components, bytes.len())?;
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    // The decoder would take another codestream after the first, which has not been checked.
    let image = Image::new(&bytes[..head.end], &settings).map_err(damaged)?;
    if (image.width(), image.height()) != (head.width, head.height) {
        return Err("the JPEG 2000 file is damaged: it has two sizes".to_string());
    }
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(damaged)?;
    Ok((to_rgb(&head, decoded.components(), limits.white_level)?, Orientation::from_value(1)))
}

fn damaged(error: impl Display) -> String {
    format!("the JPEG 2000 file is damaged or truncated ({error}); copy or download it again")
}

/// Contents of a file's head.
pub(super) struct Head<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    components: u16,
    tiles: u64,
    /// Number of samples that the file's palette makes of one.
    mapped: usize,
    is_ink: bool,
    /// Bits of a sample of the first component.
    pub(super) depth: u8,
    stream: &'a [u8],
    /// Offset of the end of the first codestream.
    end: usize,
}

impl<'a> Head<'a> {
    /// Finds the first codestream in `bytes`, which may end early.
    pub(super) fn find(bytes: &'a [u8]) -> Option<Self> {
        const CODESTREAM: &[u8] = b"\xFF\x4F\xFF\x51";
        let (mut mapped, mut is_ink) = (0, false);
        if bytes.starts_with(CODESTREAM) {
            return Head::of(bytes, mapped, is_ink, bytes.len());
        }
        let mut file = Boxes { bytes, at: 0 };
        loop {
            match file.next()? {
                (b"jp2h", content) => {
                    for (kind, content) in (Boxes { bytes: content, at: 0 }) {
                        match kind {
                            b"colr" => is_ink |= matches!(content, [1, _, _, 0, 0, 0, 12 | 13, ..]),
                            b"pclr" => mapped = mapped.max(usize::from(*content.get(2)?)),
                            b"cmap" => mapped = mapped.max(content.len() / 4),
                            _ => (),
                        }
                    }
                }
                (b"jp2c", content) => return Head::of(content, mapped, is_ink, file.at),
                _ => (),
            }
        }
    }

    /// The head of a codestream: its SIZ marker.
    fn of(stream: &'a [u8], mapped: usize, is_ink: bool, end: usize) -> Option<Self> {
        let field = |at, count| field(stream, at, count);
        let components = field(40, 2)?;
        let steps = |axis: usize| {
            let step = |index: u64| field(43 + axis + 3 * index as usize, 1);
            let first = step(0)?;
            let mut rest = (1..components.min(5)).map(step);
            // Only steps that all components share make the image smaller.
            Some(if rest.all(|step| step == Some(first)) { first.max(1) } else { 1 })
        };
        let side = |axis: usize| {
            let (end, start) = (field(8 + 4 * axis, 4)?, field(16 + 4 * axis, 4)?);
            let (tile, origin) = (field(24 + 4 * axis, 4)?, field(32 + 4 * axis, 4)?);
            let pixels = end.checked_sub(start)?;
            Some((pixels, end.checked_sub(origin)?.div_ceil(tile.max(1))))
        };
        let ((width, across), (height, down)) = (side(0)?, side(1)?);
        let shared = (steps(0)?, steps(1)?);
        let number = |side: u64, step: u64| u32::try_from(side.div_ceil(step)).ok();
        Some(Head {
            width: number(width, shared.0)?,
            height: number(height, shared.1)?,
            components: components as u16,
            tiles: across.saturating_mul(down),
            mapped,
            is_ink,
            depth: (field(42, 1)? as u8 & 0x7F) + 1,
            stream,
            end,
        })
    }

    /// Refuses images that would take much memory, or that Pillow gives no meaning.
    fn check(&self) -> Result<(), String> {
        let channels = self.mapped.max(usize::from(self.components));
        if !(1..=4).contains(&channels) {
            return Err(format!("a JPEG 2000 image with {channels} components is not read; save it as RGB"));
        }
        // The standard's limit.
        if self.tiles > 65_535 {
            return Err(format!(
                "the JPEG 2000 file is damaged: it claims {} tiles, and 65535 is the most",
                self.tiles
            ));
        }
        Ok(())
    }

    /// Number of tiles with data: the markers from the first on.
    fn tiles_found(&self) -> u64 {
        let field = |at, count| field(self.stream, at, count);
        let mut found = vec![false; self.tiles as usize];
        let mut at = 2;
        while let Some(marker) = field(at, 2) {
            let length = match marker {
                // The header of a tile part, with the tile's number and the part's length.
                0xFF90 => {
                    let tile = field(at + 4, 2).and_then(|tile| found.get_mut(tile as usize));
                    tile.into_iter().for_each(|tile| *tile = true);
                    field(at + 6, 4).filter(|length| *length > 0)
                }
                0xFF30..=0xFF3F => Some(2),
                0xFFD9 => None,
                _ => field(at + 2, 2).map(|length| length + 2),
            };
            let Some(length) = length else { break };
            at = at.saturating_add(length as usize);
        }
        found.into_iter().filter(|found| *found).count() as u64
    }
}

/// A big-endian number of `count` bytes.
fn field(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// The boxes of a file or of a box: type and content, which is cut off where the bytes end.
struct Boxes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Boxes<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let length = u32::from_be_bytes(*rest.first_chunk()?);
        let kind = rest.get(4..)?.first_chunk()?;
        let (head, length) = match length {
            0 => (8, rest.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(*rest.get(8..)?.first_chunk()?)).ok()?),
            length => (8, length as usize),
        };
        let content = rest.get(head..length.min(rest.len()))?;
        self.at = self.at.saturating_add(length).min(self.bytes.len());
        Some((kind, content))
    }
}

fn to_rgb(head: &Head, components: &[ComponentData], white_level: Option<u16>) -> Result<RgbImage, String> {
    let planes: Vec<Vec<u8>> = components.iter().map(|it| levels(it, white_level)).collect();
    let mut data = buffer(head.width, head.height, 3)?;
    if planes.is_empty() || planes.iter().any(|plane| plane.len() * 3 < data.len()) {
        return Err("the JPEG 2000 file is damaged: it has too few pixels".to_string());
    }
    let pixels = data.chunks_exact_mut(3).enumerate();
    match planes.as_slice() {
        // With or without transparency.
        [grey] | [grey, _] => pixels.for_each(|(at, pixel)| pixel.fill(grey[at])),
        [c, m, y, k] if head.is_ink => {
            pixels.for_each(|(at, pixel)| pixel.copy_from_slice(&cmyk_to_rgb(&[c[at], m[at], y[at], k[at]])));
        }
        [red, green, blue, ..] => {
            pixels.for_each(|(at, pixel)| pixel.copy_from_slice(&[red[at], green[at], blue[at]]));
        }
        [] => (),
    }
    Ok(RgbImage { width: head.width, height: head.height, data })
}

/// A component's samples in 8 bits.
fn levels(component: &ComponentData, white_level: Option<u16>) -> Vec<u8> {
    let depth = u32::from(component.bit_depth());
    component.samples().iter().map(|&sample| level(sample, depth, white_level)).collect()
}

/// The 8 bits of a sample of `depth` bits: the highest, or all of them followed by zeros, as in
/// Pillow.
fn level(sample: f32, depth: u32, white_level: Option<u16>) -> u8 {
    // A cast saturates to the type's range, and converts NaN to 0.
    let whole = ((sample + 0.5) as u64).min((1 << depth) - 1);
    if depth == u16::BITS {
        return narrow(whole as u16, white_level);
    }
    if depth > 8 { (whole >> (depth - 8)) as u8 } else { (whole << (8 - depth)) as u8 }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use crate::preprocess::{Decode, DecodeLimits, decode_bytes, decode_file};

    const LIMITS: DecodeLimits =
        DecodeLimits { max_pixels: 1_000_000, decode: Decode::Exact, white_level: None };

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pixels").join(name)
    }

    /// Checks docs/decoding.md on files whose pixels differ between decoders.
    #[test]
    fn irreversible_files_are_near_pillows_pixels() {
        for (name, most, mean) in
            [("rates", 1, 0.02), ("tiles", 1, 0.02), ("quality", 1, 0.02), ("ycbcr", 2, 0.6)]
        {
            let found = decode_file(&fixture(&format!("near-{name}.jp2")), LIMITS).unwrap();
            let expected = decode_file(&fixture(&format!("near-{name}.jp2.png")), LIMITS).unwrap();
            assert_eq!((found.width, found.height), (expected.width, expected.height));
            let differences = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b));
            assert!(differences.clone().all(|difference| difference <= most), "{name}");
            let sum: f64 = differences.map(f64::from).sum();
            assert!(sum / found.data.len() as f64 <= mean, "{name}: {sum}");
        }
    }

    #[test]
    fn files_that_claim_too_much_are_refused() {
        let refused = |file: &[u8]| decode_bytes(file, LIMITS).expect_err("refused");
        let file = fs::read(fixture("rgb.j2k")).unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = file.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            changed
        };
        let message = refused(&with(8, &[0, 1, 0, 0, 0, 1, 0, 0]));
        insta::assert_snapshot!(message, @"is 65536x65536 = 4295 megapixels, over the limit of 1.000; raise it (`--max-pixels`, a recipe's `data.max_pixels`) if the size is meant");
        let message =
            refused(&with(8, &[0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]));
        insta::assert_snapshot!(message, @"the JPEG 2000 file is damaged: it claims 589824 tiles, and 65535 is the most");
        let message = refused(&with(40, &[0x40, 0]));
        insta::assert_snapshot!(message, @"a JPEG 2000 image with 16384 components is not read; save it as RGB");
        // Data for the first of four tiles, as in a file that few bytes could blow up.
        let message =
            refused(&with(8, &[0, 0, 0, 122, 0, 0, 0, 94, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 61, 0, 0, 0, 47]));
        insta::assert_snapshot!(message, @"the JPEG 2000 file is damaged or truncated (1 of 4 tiles are there); copy or download it again");
        insta::assert_snapshot!(refused(&with(8, &[0; 8])), @"the image is empty: 0x0 pixels");
        // A palette of many columns would take as many planes.
        let mut palette = fs::read(fixture("palette.jp2")).unwrap();
        let at = palette.windows(4).position(|kind| kind == b"pclr").unwrap();
        palette[at + 6] = 200;
        insta::assert_snapshot!(refused(&palette), @"a JPEG 2000 image with 200 components is not read; save it as RGB");
        // A second codestream is ignored.
        let (mut two, whole) = (fs::read(fixture("rgb.jp2")).unwrap(), fs::read(fixture("rgb.jp2")).unwrap());
        two.extend(u32::try_from(8 + file.len()).unwrap().to_be_bytes());
        two.extend(b"jp2c");
        two.extend(with(8, &[0, 1, 0, 0, 0, 1, 0, 0]));
        assert!(decode_bytes(&two, LIMITS).unwrap() == decode_bytes(&whole, LIMITS).unwrap());
    }

    #[test]
    fn wide_samples_keep_their_high_bits_and_narrow_ones_are_shifted() {
        for (depth, expected) in [(12, [0x00, 0x12, 0xFF]), (4, [0x00, 0x40, 0xF0])] {
            let samples = if depth == 12 { [0x00F, 0x123, 0xFFF] } else { [0, 4, 15] };
            let level = |whole: u32| super::level(whole as f32, depth, None);
            assert_eq!(samples.map(level), expected);
        }
        assert_eq!(
            [-3., 254.6, 300., f32::NAN].map(|sample| super::level(sample, 8, None)),
            [0, 255, 255, 0]
        );
    }
}
