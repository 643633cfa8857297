//! WebP: the colours of the still image or of the first frame, alpha left out.
//!
//! The container is walked here, and the decoder gets the one chunk that holds the colours: alpha
//! is not needed, and neither is blending, because nothing lies under a first frame.

mod lossless;
mod prefix;

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::RgbImage;
use super::decode::{DecodeLimits, buffer};
use super::orientation::Orientation;

pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let length = bytes.get(4..8).map_or(0, |length| u32_le(length) as usize);
    let body = bytes.get(12..length.saturating_add(8)).ok_or(TRUNCATED)?;
    let mut canvas = None;
    let (mut exif, mut xmp) = (None, None);
    let mut frame: Option<Frame<'_>> = None;
    let mut complete = true;
    for chunk in Chunks(body) {
        let Chunk { name, data, whole } = chunk;
        complete &= whole;
        match name {
            b"VP8X" => {
                let size = data.get(4..10).ok_or(TRUNCATED)?;
                canvas = Some((u24_le(&size[..3]) + 1, u24_le(&size[3..]) + 1));
            }
            b"ANMF" if frame.is_none() => {
                let place = data.get(..16).ok_or(TRUNCATED)?;
                let image = Chunks(&data[16..]).find(Chunk::has_colors).ok_or(TRUNCATED)?;
                // The offsets are stored halved.
                let (left, top) = (u24_le(&place[..3]) * 2, u24_le(&place[3..6]) * 2);
                frame = Some(Frame { left, top, image });
            }
            _ if frame.is_none() && chunk.has_colors() => {
                frame = Some(Frame { left: 0, top: 0, image: chunk })
            }
            b"EXIF" => exif = Some(data),
            b"XMP " => xmp = Some(data),
            _ => {}
        }
    }
    if !complete {
        return Err(TRUNCATED.to_string());
    }
    let frame = frame.ok_or("the WebP file holds no image")?;
    if let Some((width, height)) = canvas {
        limits.check(width, height)?;
    }
    let image = frame.decode(limits)?;
    let (width, height) = canvas.unwrap_or((image.width, image.height));
    let image = if (frame.left, frame.top, width, height) == (0, 0, image.width, image.height) {
        image
    } else {
        on_canvas(&image, (frame.left, frame.top), (width, height))?
    };
    Ok((image, Orientation::find(exif, xmp)))
}

const TRUNCATED: &str = "the WebP file is truncated; copy or download it again";

/// The image on a black canvas.
fn on_canvas(
    image: &RgbImage,
    (left, top): (u32, u32),
    (width, height): (u32, u32),
) -> Result<RgbImage, String> {
    let fits = |start: u32, size: u32, whole: u32| start.checked_add(size).is_some_and(|end| end <= whole);
    if !fits(left, image.width, width) || !fits(top, image.height, height) {
        return Err("the WebP file is damaged: its frame lies outside its canvas".to_string());
    }
    let mut data = buffer(width, height, 3)?;
    let rows = data.chunks_exact_mut(width as usize * 3).skip(top as usize);
    let length = image.width as usize * 3;
    for (to, from) in rows.zip(image.data.chunks_exact(length)) {
        to[left as usize * 3..][..length].copy_from_slice(from);
    }
    Ok(RgbImage { width, height, data })
}

/// The first frame: where it lies on the canvas, and its colours.
struct Frame<'a> {
    left: u32,
    top: u32,
    image: Chunk<'a>,
}

impl Frame<'_> {
    fn decode(&self, limits: DecodeLimits) -> Result<RgbImage, String> {
        let damaged = |error: image_webp::DecodingError| match error {
            image_webp::DecodingError::IoError(_) => TRUNCATED.to_string(),
            error => format!("the WebP file is damaged: {error}"),
        };
        let mut file = Vec::with_capacity(self.image.data.len() + 21);
        let length = u32::try_from(self.image.data.len()).map_err(|_| "the WebP file is too long")?;
        let padding = length % 2;
        file.extend_from_slice(b"RIFF");
        file.extend_from_slice(&length.saturating_add(12 + padding).to_le_bytes());
        file.extend_from_slice(b"WEBP");
        file.extend_from_slice(self.image.name);
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(self.image.data);
        file.resize(file.len() + padding as usize, 0);

        let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        limits.check(width, height)?;
        if self.image.name == b"VP8L" {
            lossless::check_tables(self.image.data)?;
        }
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        let mut samples = buffer(width, height, channels)?;
        decoder.read_image(&mut samples).map_err(damaged)?;
        if channels == 4 {
            return super::decode::to_rgb((width, height), &samples, 4, |rgba| [rgba[0], rgba[1], rgba[2]]);
        }
        Ok(RgbImage { width, height, data: samples })
    }
}

/// A RIFF chunk; `whole` says whether all of its data is there.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    name: &'a [u8],
    data: &'a [u8],
    whole: bool,
}

impl Chunk<'_> {
    fn has_colors(&self) -> bool {
        matches!(self.name, b"VP8 " | b"VP8L")
    }
}

struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (header, rest) = self.0.split_at_checked(8)?;
        let length = u32_le(&header[4..]) as usize;
        let whole = length <= rest.len();
        let data = &rest[..length.min(rest.len())];
        self.0 = rest.get(length.saturating_add(length % 2)..).unwrap_or_default();
        Some(Chunk { name: &header[..4], data, whole })
    }
}

fn u24_le(bytes: &[u8]) -> u32 {
    bytes.iter().take(3).rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn u32_le(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}
