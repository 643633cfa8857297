//! What the prefix codes of a lossless image ask for, before it is decoded (RFC 9649, section 3).
//!
//! An image may have 65,536 groups of five codes, and the decoder makes the tables of all before it
//! reads the first pixel: ten bytes of a file can ask for 68 KB. libwebp writes at most 2,600 groups.
//! The stream is read as far as the last code. What is found to be damaged is refused here, so that
//! nobody reads on who understood it otherwise.

use super::prefix::{Bits, Code, Words, damaged};
use crate::util::budget::Budget;

/// Symbols of green besides the colours of the cache: values and lengths of copies.
const GREEN: usize = 256 + 24;
/// Symbols of distances.
const DISTANCES: usize = 40;
/// Bytes of a group without its tables, in a list that doubles when it grows.
const GROUP_BYTES: u64 = 1024;
/// Bytes of tables that any file may have: fifty thousand for each of libwebp's groups.
const SPARE: u64 = 128 << 20;

/// Refuses the data of a `VP8L` chunk if its tables take far more memory than a file of its size needs.
pub(super) fn check_tables(stream: &[u8]) -> Result<(), String> {
    let budget = Budget::of_file("bytes of tables", stream.len(), 16, SPARE);
    take_groups(stream, budget).map(drop)
}

/// Takes the bytes of all tables; returns the number of groups.
fn take_groups(stream: &[u8], mut budget: Budget) -> Result<u32, String> {
    let mut bits = Bits::new(stream);
    // The signature.
    bits.take(8)?;
    let (mut width, height) = (bits.take(14)? + 1, bits.take(14)? + 1);
    // Whether alpha is used, and the version.
    bits.take(4)?;
    let mut found = [false; 4];
    while bits.flag()? {
        let transform = bits.take(2)? as usize;
        if std::mem::replace(&mut found[transform], true) {
            return Err(damaged("it transforms its colors twice"));
        }
        match transform {
            // Predictors, and relations of the colours.
            0 | 1 => drop(of_blocks(&mut bits, width, height)?),
            // Green is subtracted.
            2 => (),
            // A palette; few colours are packed into the bits of one pixel.
            _ => {
                let colors = bits.take(8)? + 1;
                image(&mut bits, colors, 1)?;
                let packed = [2, 4, 16].iter().filter(|most| colors <= **most).count();
                width = width.div_ceil(1 << packed);
            }
        }
    }
    let cache = cache(&mut bits)?;
    let groups = match bits.flag()? {
        true => {
            let group = |pixel: u32| pixel >> 8 & 0xFFFF;
            of_blocks(&mut bits, width, height)?.into_iter().map(group).max().unwrap_or(0) + 1
        }
        false => 1,
    };
    for _ in 0..groups {
        let mut bytes = GROUP_BYTES;
        for symbols in alphabets(cache) {
            bytes += Code::read(&mut bits, symbols)?.table_bytes();
        }
        budget.spend(bytes).map_err(|message| format!("the WebP {message}"))?;
    }
    Ok(groups)
}

/// Symbols of a group's codes: green, red, blue, alpha, distance.
fn alphabets(cache: Option<u32>) -> [usize; 5] {
    [GREEN + cache.map_or(0, |bits| 1 << bits), 256, 256, 256, DISTANCES]
}

/// Bits that index the cache of colours, if there is one.
fn cache(bits: &mut Bits<'_>) -> Result<Option<u32>, String> {
    if !bits.flag()? {
        return Ok(None);
    }
    match bits.take(4)? {
        index @ 1..=11 => Ok(Some(index)),
        _ => Err(damaged("a cache of a size that does not exist")),
    }
}

/// An image with a pixel for each block of another.
fn of_blocks(bits: &mut Bits<'_>, width: u32, height: u32) -> Result<Vec<u32>, String> {
    let side = 1 << (bits.take(3)? + 2);
    image(bits, width.div_ceil(side), height.div_ceil(side))
}

/// The pixels (alpha, red, green, blue from the highest byte) of an image with one group of codes.
fn image(bits: &mut Bits<'_>, width: u32, height: u32) -> Result<Vec<u32>, String> {
    let cache_bits = cache(bits)?;
    let mut codes = Vec::new();
    for symbols in alphabets(cache_bits) {
        codes.push(Words::of(&Code::read(bits, symbols)?));
    }
    let near = near(width as i32);
    let total = width as usize * height as usize;
    let mut pixels: Vec<u32> = Vec::with_capacity(total);
    let mut cache = vec![0; cache_bits.map_or(0, |bits| 1 << bits)];
    while pixels.len() < total {
        let start = pixels.len();
        match usize::from(codes[0].next(bits)?) {
            green @ 0..256 => {
                let mut channel = |code: usize| codes[code].next(bits).map(u32::from);
                let (red, blue, alpha) = (channel(1)?, channel(2)?, channel(3)?);
                pixels.push(alpha << 24 | red << 16 | (green as u32) << 8 | blue);
            }
            symbol @ 256..GREEN => {
                let length = number(bits, symbol as u32 - 256)?;
                let symbol = codes[4].next(bits)?;
                let distance = number(bits, symbol.into())?;
                let distance = near.get(distance - 1).copied().unwrap_or(distance.saturating_sub(near.len()));
                if distance > start || length > total - start {
                    return Err(damaged("it copies pixels from outside of an image"));
                }
                for at in start..start + length {
                    pixels.push(pixels[at - distance]);
                }
            }
            symbol => pixels.push(cache[symbol - GREEN]),
        }
        if let Some(bits) = cache_bits {
            for pixel in &pixels[start..] {
                cache[(pixel.wrapping_mul(0x1E35_A7BD) >> (u32::BITS - bits)) as usize] = *pixel;
            }
        }
    }
    Ok(pixels)
}

/// The length or distance, from 1 on, that begins with this symbol.
fn number(bits: &mut Bits<'_>, symbol: u32) -> Result<usize, String> {
    if symbol < 4 {
        return Ok(symbol as usize + 1);
    }
    let more = (symbol - 2) >> 1;
    Ok((((2 + (symbol & 1)) << more) + bits.take(more)?) as usize + 1)
}

/// Distances of the 120 pixels that are near in the plane and have short codes, the nearest first.
fn near(width: i32) -> Vec<usize> {
    let lines = (0..8).flat_map(|up| (-7..=8).map(move |left| (up, left)));
    let mut places: Vec<(i32, i32)> = lines.filter(|(up, left)| *up > 0 || *left > 0).collect();
    places.sort_by_key(|(up, left)| (up * up + left * left, left.abs(), -left));
    places.iter().map(|(up, left)| (left + up * width).max(1) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_real_file_are_counted() {
        let file = include_bytes!("../../../tests/fixtures/pixels/groups.webp");
        assert_eq!((&file[12..16], &file[20..21]), (&b"VP8L"[..], &b"\x2F"[..]));
        // Five tables take at most 20 KB.
        assert_eq!(take_groups(&file[20..], Budget::new("bytes", 5 * 20_000)), Ok(5));
        // The codes end long before the pixels.
        assert_eq!(take_groups(&file[20..2000], Budget::new("bytes", 5 * 20_000)), Ok(5));
        let message = take_groups(&file[20..200], Budget::new("bytes", 5 * 20_000)).unwrap_err();
        insta::assert_snapshot!(message, @"the WebP file is damaged: it ends within an image");
        let message = take_groups(&file[20..], Budget::new("bytes of tables", 2000)).unwrap_err();
        insta::assert_snapshot!(message, @"the WebP takes more than 2000 bytes of tables to read, far more than a file of its size holds: it is damaged or hostile");
    }

    #[test]
    fn near_pixels_are_in_the_order_of_the_specification() {
        let near = near(1000);
        assert_eq!(near.len(), 120);
        assert_eq!(near[..8], [1000, 1, 1001, 999, 2000, 2, 2001, 1999]);
        assert_eq!(near[92..98], [6005, 5995, 5006, 4994, 8, 7004]);
        assert_eq!(near[116..], [7007, 6993, 6008, 7008]);
    }
}
