//! EXIF orientation, found and undone as Pillow's `ImageOps.exif_transpose` does.

use super::RgbImage;

/// The orientation tag's value, 1 to 8; 1 is upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub(super) const UPRIGHT: Orientation = Orientation(1);

    /// From an EXIF block (a TIFF structure, with or without the `Exif\0\0` before it) and an XMP packet.
    ///
    /// XMP counts only where EXIF is silent. What is malformed is ignored: a picture with a broken
    /// thumbnail directory is still a picture.
    pub(super) fn find(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        let value = exif.and_then(from_exif).or_else(|| xmp.and_then(from_xmp));
        Orientation::from_value(value.unwrap_or(1))
    }

    /// From the tag's value; what is no orientation is upright.
    pub(super) fn from_value(value: u32) -> Self {
        match value {
            2..=8 => Orientation(value as u8),
            _ => Orientation::UPRIGHT,
        }
    }

    /// The image upright.
    pub(super) fn apply(self, mut image: RgbImage) -> RgbImage {
        match self.0 {
            2 => {
                image.flip_horizontally();
                image
            }
            3 => {
                flip_vertically(&mut image);
                image.flip_horizontally();
                image
            }
            4 => {
                flip_vertically(&mut image);
                image
            }
            5 => transpose(&image),
            6 => {
                flip_vertically(&mut image);
                transpose(&image)
            }
            7 => {
                flip_vertically(&mut image);
                image.flip_horizontally();
                transpose(&image)
            }
            8 => {
                image.flip_horizontally();
                transpose(&image)
            }
            _ => image,
        }
    }
}

/// The value in the first directory, if it is a single number.
fn from_exif(block: &[u8]) -> Option<u32> {
    let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    let parsed = match reader.read_raw(block.to_vec()) {
        Ok(parsed) => parsed,
        Err(error) => error.distill_partial_result(|_| ()).ok()?,
    };
    let field = parsed.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?;
    field.value.get_uint(0).filter(|_| field.value.get_uint(1).is_none())
}

/// Pillow's pattern: `tiff:Orientation(="|>)([0-9])`.
fn from_xmp(packet: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    packet.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(|(at, _)| {
        let rest = &packet[at + NAME.len()..];
        let digit = *rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
        digit.is_ascii_digit().then(|| u32::from(digit - b'0'))
    })
}

fn flip_vertically(image: &mut RgbImage) {
    let stride = image.width as usize * 3;
    if stride == 0 {
        return;
    }
    let mut rows = image.data.chunks_exact_mut(stride);
    while let (Some(upper), Some(lower)) = (rows.next(), rows.next_back()) {
        upper.swap_with_slice(lower);
    }
}

/// Rows become columns. In tiles, so that both sides stay in the cache.
fn transpose(image: &RgbImage) -> RgbImage {
    const TILE: usize = 32;
    let (width, height) = (image.width as usize, image.height as usize);
    let mut out = RgbImage::black(image.height, image.width);
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            for y in top..(top + TILE).min(height) {
                for x in left..(left + TILE).min(width) {
                    let (from, to) = ((y * width + x) * 3, (x * height + y) * 3);
                    out.data[to..to + 3].copy_from_slice(&image.data[from..from + 3]);
                }
            }
        }
    }
    out
}
