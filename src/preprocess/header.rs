//! The size of an image, from the head of its file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::jpeg2000::Head;
use super::sniff::{self, Format};

/// Bytes of a file to look at; in JPEG and JPEG 2000 the size comes after metadata.
const HEAD: u64 = 1 << 18;

/// Columns and rows of the image at `path` as stored, before any rotation; `None` if its head does
/// not tell. Nothing is decoded, and the rest of the file is not checked.
pub fn image_size(path: &Path) -> Option<(u32, u32)> {
    let mut head = head(path)?;
    let format = sniff::format(&head).ok()?;
    if format == Format::Tiff {
        // Its directory may be anywhere.
        return tiff::decoder::Decoder::new(BufReader::new(File::open(path).ok()?)).ok()?.dimensions().ok();
    }
    match size_in(format, &head) {
        None if matches!(format, Format::Jpeg | Format::Jpeg2000) => {
            head.clear();
            File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
            size_in(format, &head)
        }
        size => size,
    }
}

/// Whether the head of the file at `path` declares 16 bits a sample.
pub(super) fn has_16_bits(path: &Path) -> bool {
    head_tells_16_bits(path).unwrap_or(false)
}

fn head_tells_16_bits(path: &Path) -> Option<bool> {
    let head = head(path)?;
    match sniff::format(&head).ok()? {
        Format::Png => head.get(24).map(|depth| *depth == 16),
        Format::Tiff => {
            let mut decoder = tiff::decoder::Decoder::new(BufReader::new(File::open(path).ok()?)).ok()?;
            Some(decoder.colortype().ok()?.bit_depth() == 16)
        }
        Format::Pnm => pnm_numbers(&head)[2].map(|most| most > 255),
        Format::Jpeg2000 => Head::find(&head).map(|head| u32::from(head.depth) == u16::BITS),
        _ => None,
    }
}

/// The first bytes of a file.
fn head(path: &Path) -> Option<Vec<u8>> {
    // Opening a pipe would block.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    File::open(path).ok()?.take(sniff::ENOUGH).read_to_end(&mut head).ok()?;
    Some(head)
}

fn size_in(format: Format, head: &[u8]) -> Option<(u32, u32)> {
    let bytes = |at: usize, count: usize| head.get(at..at + count);
    let little = |at, count| bytes(at, count).map(|it| it.iter().rev().fold(0, push));
    let big = |at, count| bytes(at, count).map(|it| it.iter().fold(0, push));
    match format {
        Format::Jpeg => jpeg(head),
        Format::Png => Some((big(16, 4)?, big(20, 4)?)),
        Format::Gif => Some((little(6, 2)?, little(8, 2)?)),
        Format::Bmp if little(14, 4)? == 12 => Some((little(18, 2)?, little(20, 2)?)),
        // A negative height means lines from the top.
        Format::Bmp => Some((little(18, 4)?, (little(22, 4)? as i32).unsigned_abs())),
        Format::WebP => match bytes(12, 4)? {
            b"VP8X" => Some((little(24, 3)? + 1, little(27, 3)? + 1)),
            b"VP8 " => Some((little(26, 2)? & 0x3FFF, little(28, 2)? & 0x3FFF)),
            b"VP8L" => {
                let bits = little(21, 4)?;
                Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
            }
            _ => None,
        },
        Format::Pnm => {
            let [width, height, _] = pnm_numbers(head);
            Some((width?, height?))
        }
        Format::Jpeg2000 => Head::find(head).map(|head| (head.width, head.height)),
        Format::Tiff => None,
    }
}

fn push(number: u32, byte: &u8) -> u32 {
    number << 8 | u32::from(*byte)
}

/// The size in the frame header, after any number of other segments.
fn jpeg(head: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        let [0xFF, marker] = *head.get(at..at + 2)? else { return None };
        let length = head.get(at + 2..at + 4)?.iter().fold(0, push) as usize;
        match marker {
            0xFF => at += 1,
            0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                let side = |from: usize| head.get(from..from + 2).map(|it| it.iter().fold(0, push));
                return Some((side(at + 7)?, side(at + 5)?));
            }
            0xD9 | 0xDA => return None,
            _ => at += 2 + length,
        }
    }
}

/// The numbers after the magic, between comments: columns, rows, and the largest value.
fn pnm_numbers(head: &[u8]) -> [Option<u32>; 3] {
    let lines = head.get(2..).unwrap_or_default().split(|byte| *byte == b'\n');
    let text: Vec<u8> = lines
        .flat_map(|line| line.split(|byte| *byte == b'#').next().unwrap_or_default().iter().chain(b"\n"))
        .copied()
        .collect();
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    std::array::from_fn(|_| std::str::from_utf8(words.next()?).ok()?.parse().ok())
}
