//! Strips and tiles of a page as stored in the file, for the codings that the `tiff` crate cannot
//! read.

use std::io::{Read, Seek};

use ::tiff::decoder::{ChunkType, Decoder};
use ::tiff::tags::Tag;

use super::damaged;
use crate::util::budget::Budget;

/// A strip or a tile.
pub(super) struct Chunk<'a> {
    pub(super) left: usize,
    pub(super) top: usize,
    /// Coded columns and rows; a tile may extend beyond the page.
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) data: &'a [u8],
}

/// The byte ranges of the strips or tiles, clipped to a file of this length.
pub(super) fn ranges<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    length: usize,
) -> Result<Vec<(usize, usize)>, String> {
    let (offsets, counts) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let mut numbers = |tag| decoder.get_tag_u64_vec(tag).map_err(damaged);
    let (offsets, counts) = (numbers(offsets)?, numbers(counts)?);
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(length);
    Ok(offsets
        .iter()
        .zip(&counts)
        .map(|(&at, &count)| (place(at), place(at.saturating_add(count))))
        .collect())
}

/// Refuses strips or tiles that share so many bytes that unpacking them has no end. A few writers
/// store white ones once. The slowest bytes are LZW's codes to begin afresh, at 5 MB a second.
pub(super) fn check_shared<R: Read + Seek>(decoder: &mut Decoder<R>, length: usize) -> Result<(), String> {
    let ranges = ranges(decoder, length)?;
    let bytes = ranges.iter().map(|(start, end)| (end - start) as u64).sum();
    let mut budget = Budget::of_file("bytes of strips or tiles", length, 4, 8 << 20);
    budget.spend(bytes).map_err(|message| format!("the TIFF {message}"))
}

/// The bytes that may be copied to make files of JPEG strips or tiles: each has the shared tables,
/// which are often longer than the strip.
pub(super) fn copies(length: usize) -> Budget {
    Budget::of_file("bytes of tables and strips or tiles", length, 16, 64 << 20)
}

/// The strips or tiles of a page of `size` that stores all samples of a pixel together.
pub(super) fn chunks<'a, R: Read + Seek>(
    decoder: &mut Decoder<R>,
    bytes: &'a [u8],
    (width, height): (u32, u32),
) -> Result<Vec<Chunk<'a>>, String> {
    let tiled = decoder.get_chunk_type() == ChunkType::Tile;
    let (across, down) = decoder.chunk_dimensions();
    let ranges = ranges(decoder, bytes.len())?;
    let columns = width.div_ceil(across) as usize;
    if ranges.len() != columns * height.div_ceil(down) as usize {
        return Err(
            "a compressed TIFF with separate planes is not read; save it with the samples of a pixel \
                    together, or as PNG"
                .to_string(),
        );
    }
    let chunk = |(index, &(start, end)): (usize, &(usize, usize))| {
        let (left, top) = (index % columns * across as usize, index / columns * down as usize);
        let rest = height - top as u32;
        let height = if tiled { down } else { down.min(rest) };
        Chunk { left, top, width: across, height, data: &bytes[start..end] }
    };
    Ok(ranges.iter().enumerate().map(chunk).collect())
}

/// Refuses tiles far larger than the page, which only a malicious file has.
pub(super) fn check_tiles<R: Read + Seek>(decoder: &mut Decoder<R>, size: (u32, u32)) -> Result<(), String> {
    if decoder.get_chunk_type() == ChunkType::Strip {
        return Ok(());
    }
    let tile = decoder.chunk_dimensions();
    let covered = |page: u32, tile: u32| u64::from(page.div_ceil(tile)) * u64::from(tile);
    let coded = covered(size.0, tile.0).saturating_mul(covered(size.1, tile.1));
    if coded / 4 > u64::from(size.0) * u64::from(size.1) + (1 << 24) {
        return Err(format!(
            "the TIFF is damaged: tiles of {}x{} for {}x{} pixels",
            tile.0, tile.1, size.0, size.1
        ));
    }
    Ok(())
}

/// Copies the rows of a chunk into the page, without the part beyond its edges. All widths are in
/// bytes.
pub(super) fn place(page: &mut [u8], page_line: usize, rows: &[u8], line: usize, left: usize, top: usize) {
    let used = line.min(page_line.saturating_sub(left));
    for (to, from) in page.chunks_exact_mut(page_line).skip(top).zip(rows.chunks_exact(line)) {
        to[left..left + used].copy_from_slice(&from[..used]);
    }
}
