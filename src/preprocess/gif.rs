//! GIF: the first frame on its canvas, as Pillow shows it.

use std::borrow::Cow;
use std::num::NonZeroU64;

use ::gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::RgbImage;
use super::decode::{DecodeLimits, buffer};
use super::orientation::Orientation;

pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let damaged = |error: ::gif::DecodingError| match error {
        ::gif::DecodingError::Io(_) | ::gif::DecodingError::UnexpectedEof => {
            "the GIF is truncated; copy or download it again".to_string()
        }
        error => format!("the GIF is damaged: {error}"),
    };
    let bytes = with_palette(bytes);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options
        .set_memory_limit(MemoryLimit::Bytes(NonZeroU64::new(limits.max_pixels).unwrap_or(NonZeroU64::MIN)));
    let mut decoder = options.read_info(bytes.as_ref()).map_err(damaged)?;
    let screen = (u32::from(decoder.width()), u32::from(decoder.height()));
    let frame = decoder.next_frame_info().map_err(damaged)?.ok_or("the GIF has no frame")?;
    let (left, top) = (u32::from(frame.left), u32::from(frame.top));
    let (frame_width, frame_height) = (u32::from(frame.width), u32::from(frame.height));
    let transparent = frame.transparent;
    // A frame that exceeds the screen widens it.
    let width = screen.0.max(left + frame_width);
    let height = screen.1.max(top + frame_height);
    limits.check(width, height)?;
    limits.check(frame_width, frame_height)?;
    let mut indices = buffer(frame_width, frame_height, 1)?;
    decoder.read_into_buffer(&mut indices).map_err(damaged)?;

    let mut colors = [[0; 3]; 256];
    for (color, entry) in colors.iter_mut().zip(decoder.palette().map_err(damaged)?.chunks_exact(3)) {
        color.copy_from_slice(entry);
    }
    // The frame is surrounded by the transparent colour, else the first; the background colour is
    // not used.
    let around = colors[usize::from(transparent.unwrap_or(0))];
    let mut data = buffer(width, height, 3)?;
    if (frame_width, frame_height) != (width, height) {
        data.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&around));
    }
    let rows = data.chunks_exact_mut(width as usize * 3).skip(top as usize);
    for (to, from) in rows.zip(indices.chunks_exact(frame_width as usize)) {
        for (pixel, &index) in to[left as usize * 3..].chunks_exact_mut(3).zip(from) {
            pixel.copy_from_slice(&colors[usize::from(index)]);
        }
    }
    Ok((RgbImage { width, height, data }, Orientation::UPRIGHT))
}

/// Adds a grey palette to a GIF without one.
fn with_palette(bytes: &[u8]) -> Cow<'_, [u8]> {
    const HEADER: usize = 13;
    const HAS_PALETTE: u8 = 0x80;
    match bytes.get(10) {
        Some(flags) if flags & HAS_PALETTE == 0 && bytes.len() >= HEADER => {
            let mut with = Vec::with_capacity(bytes.len() + 768);
            with.extend_from_slice(&bytes[..HEADER]);
            with[10] |= HAS_PALETTE | 7;
            with.extend((0..=255u8).flat_map(|grey| [grey; 3]));
            with.extend_from_slice(&bytes[HEADER..]);
            Cow::Owned(with)
        }
        _ => Cow::Borrowed(bytes),
    }
}
