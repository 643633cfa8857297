//! Windows and OS/2 bitmaps, read as Pillow reads them: 16-bit colours are widened by truncating
//! division, and pixels that a run-length file skips get the palette's first colour.

use super::RgbImage;
use super::decode::{DecodeLimits, buffer};
use super::orientation::Orientation;
use super::png::from_indices;

/// Size of the file header, before the bitmap header.
const FILE_HEADER: usize = 14;

const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;
const ALPHA_BITFIELDS: u32 = 6;

pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let header = Header::read(bytes)?;
    limits.check(header.width, header.height)?;
    let mut image = match header.bits {
        1 | 4 | 8 => header.indexed(bytes)?,
        _ => header.direct(bytes)?,
    };
    if !header.top_down {
        image = Orientation::from_value(4).apply(image);
    }
    Ok((image, Orientation::UPRIGHT))
}

struct Header {
    /// Bytes of the bitmap header.
    size: usize,
    width: u32,
    height: u32,
    top_down: bool,
    bits: u16,
    compression: u32,
    /// Colours in the palette.
    colors: usize,
    /// Bytes of a palette entry.
    entry: usize,
    /// Offset of the pixels in the file.
    pixels: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let size = u32_at(bytes, FILE_HEADER)? as usize;
        let offset = u32_at(bytes, 10)? as usize;
        let mut header = match size {
            12 => Header {
                size,
                width: u32::from(u16_at(bytes, 18)?),
                height: u32::from(u16_at(bytes, 20)?),
                top_down: false,
                bits: u16_at(bytes, 24)?,
                compression: 0,
                colors: 0,
                entry: 3,
                pixels: offset,
            },
            40 | 52 | 56 | 64 | 108 | 124 => {
                let height = u32_at(bytes, 22)? as i32;
                Header {
                    size,
                    width: u32_at(bytes, 18)?,
                    height: height.unsigned_abs(),
                    top_down: height < 0,
                    bits: u16_at(bytes, 28)?,
                    compression: u32_at(bytes, 30)?,
                    colors: u32_at(bytes, 46)? as usize,
                    entry: 4,
                    pixels: offset,
                }
            }
            other => return Err(format!("the BMP's header has {other} bytes, which no known kind has")),
        };
        let known = matches!(
            (header.bits, header.compression),
            (1 | 4 | 8 | 16 | 24 | 32, 0)
                | (8, RLE8)
                | (4, RLE4)
                | (16 | 24 | 32, BITFIELDS)
                | (16 | 32, ALPHA_BITFIELDS)
        );
        if !known {
            let (bits, compression) = (header.bits, header.compression);
            return Err(format!(
                "a BMP with {bits} bits a pixel and compression {compression} is not read; save it as PNG"
            ));
        }
        header.settle_palette()?;
        Ok(header)
    }

    /// The number of colours, and where the pixels begin, if the file leaves them open.
    fn settle_palette(&mut self) -> Result<(), String> {
        let header = self;
        if header.bits <= 8 {
            if header.colors == 0 {
                header.colors = 1 << header.bits;
            }
            if header.colors > 65536 {
                return Err(format!("the BMP is damaged: a palette of {} colours", header.colors));
            }
            // Some writers forget the palette in this offset.
            if header.pixels == FILE_HEADER + header.size {
                header.pixels += header.entry * header.colors;
            }
        }
        if header.pixels == 0 {
            let masks = if header.compression == BITFIELDS && header.size == 40 { 12 } else { 0 };
            let palette = if header.bits <= 8 { header.entry * header.colors } else { 0 };
            header.pixels = FILE_HEADER + header.size + masks + palette;
        }
        Ok(())
    }

    /// Bytes of a row of uncompressed pixels: a multiple of four.
    fn stride(&self) -> usize {
        (self.width as usize * usize::from(self.bits)).div_ceil(32) * 4
    }

    /// The uncompressed pixels.
    fn rows<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let length = self.stride().checked_mul(self.height as usize).ok_or(TRUNCATED)?;
        let pixels = bytes.get(self.pixels..).ok_or(TRUNCATED)?;
        // Some writers omit the last row's padding.
        let padding = self.stride() - (self.width as usize * usize::from(self.bits)).div_ceil(8);
        if pixels.len() < length - padding {
            return Err(TRUNCATED.to_string());
        }
        Ok(&pixels[..length.min(pixels.len())])
    }

    fn indexed(&self, bytes: &[u8]) -> Result<RgbImage, String> {
        let start = FILE_HEADER + self.size;
        let palette = bytes.get(start..start + self.entry * self.colors).ok_or(TRUNCATED)?;
        let colors: Vec<[u8; 3]> =
            palette.chunks_exact(self.entry).map(|color| [color[2], color[1], color[0]]).collect();
        let size = (self.width, self.height);
        if self.compression == 0 {
            return Ok(from_indices(size, self.rows(bytes)?, self.stride(), self.bits as u8, &colors));
        }
        let indices = self.unpack_runs(bytes)?;
        Ok(from_indices(size, &indices, self.width as usize, 8, &colors))
    }

    /// Unpacks run-length data to one byte an index, in the file's row order.
    fn unpack_runs(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let width = self.width as usize;
        let mut indices = buffer(self.width, self.height, 1)?;
        let half = self.compression == RLE4;
        let nibble = |bytes: &[u8], position: usize| match (half, position % 2) {
            (false, _) => bytes[position],
            (true, 0) => bytes[position / 2] >> 4,
            (true, _) => bytes[position / 2] & 15,
        };
        let (mut from, mut to) = (self.pixels, 0);
        // The column; after a filled row it stays at the right edge until the row's end is marked.
        let mut x = 0;
        // Each iteration takes two bytes or more, so the file's length bounds the work.
        while to < indices.len() {
            let [count, value] = *bytes.get(from..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
            from += 2;
            match (count, value) {
                (0, 0) => {
                    to = to.next_multiple_of(width);
                    x = 0;
                }
                (0, 1) => break,
                (0, 2) => {
                    let [right, up] = *bytes.get(from..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
                    from += 2;
                    to = (to + usize::from(right) + usize::from(up) * width).min(indices.len());
                    x = to % width;
                }
                (0, count) => {
                    let count = usize::from(count).min(indices.len() - to);
                    let length = if half { count.div_ceil(2) } else { count };
                    let literal = bytes.get(from..from + length).ok_or(TRUNCATED)?;
                    for position in 0..count {
                        indices[to + position] = nibble(literal, position);
                    }
                    to += count;
                    x += count;
                    // Literals end at a 16-bit boundary of the file.
                    from = (from + length).next_multiple_of(2);
                }
                (count, value) => {
                    // A run does not cross rows.
                    let count = usize::from(count).min(width.saturating_sub(x)).min(indices.len() - to);
                    let pair = [value, value];
                    for position in 0..count {
                        indices[to + position] = nibble(&pair, position % 2);
                    }
                    to += count;
                    x += count;
                }
            }
        }
        Ok(indices)
    }

    fn direct(&self, bytes: &[u8]) -> Result<RgbImage, String> {
        let masks = self.masks(bytes)?;
        let per_pixel = usize::from(self.bits / 8);
        let channels = masks.map(Channel::new);
        let mut data = buffer(self.width, self.height, 3)?;
        let rows = self.rows(bytes)?.chunks(self.stride());
        for (to, from) in data.chunks_exact_mut(self.width as usize * 3).zip(rows) {
            for (pixel, packed) in to.chunks_exact_mut(3).zip(from.chunks_exact(per_pixel)) {
                let packed = packed.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
                for (value, channel) in pixel.iter_mut().zip(&channels) {
                    *value = channel.of(packed);
                }
            }
        }
        Ok(RgbImage { width: self.width, height: self.height, data })
    }

    /// The bit masks of red, green and blue.
    fn masks(&self, bytes: &[u8]) -> Result<[u32; 3], String> {
        let usual = if self.bits == 16 { [0x7C00, 0x3E0, 0x1F] } else { [0xFF_0000, 0xFF00, 0xFF] };
        if !matches!(self.compression, BITFIELDS | ALPHA_BITFIELDS) {
            return Ok(usual);
        }
        let start = FILE_HEADER + 40;
        let masks = [u32_at(bytes, start)?, u32_at(bytes, start + 4)?, u32_at(bytes, start + 8)?];
        Ok(if masks == [0; 3] { usual } else { masks })
    }
}

/// Position of a channel in a packed pixel.
struct Channel {
    shift: u32,
    most: u64,
}

impl Channel {
    fn new(mask: u32) -> Self {
        let shift = if mask == 0 { 0 } else { mask.trailing_zeros() };
        Channel { shift, most: u64::from(mask >> shift) }
    }

    /// Scaled to 255, truncated.
    fn of(&self, packed: u32) -> u8 {
        if self.most == 255 {
            return (packed >> self.shift) as u8;
        }
        let value = u64::from(packed >> self.shift) & self.most;
        (value * 255).checked_div(self.most).unwrap_or(0) as u8
    }
}

const TRUNCATED: &str = "the BMP is truncated; copy or download it again";

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
    Ok(u16::from_le_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(TRUNCATED)?;
    Ok(u32::from_le_bytes(*field))
}
