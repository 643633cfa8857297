//! EXIF orientation, found and undone as Pillow's `ImageOps.exif_transpose` does.

use super::RgbImage;

/// The orientation tag's value, 1 to 8; 1 is upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation(u8);

impl Orientation {
    pub(super) const UPRIGHT: Orientation = Orientation(1);

    /// From an EXIF block (a TIFF structure, with or without a leading `Exif\0\0`) and an XMP
    /// packet.
    ///
    /// XMP counts only without EXIF orientation. Malformed data are ignored: a picture with a
    /// broken thumbnail directory is still a picture.
    pub(super) fn find(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        let value = exif.and_then(from_exif).or_else(|| xmp.and_then(from_xmp));
        Orientation::from_value(value.unwrap_or(1))
    }

    /// From the tag's value; an invalid value is upright.
    pub(super) fn from_value(value: u32) -> Self {
        match value {
            2..=8 => Orientation(value as u8),
            _ => Orientation::UPRIGHT,
        }
    }

    /// Whether the columns of the file, and its lines, are mirrored.
    pub(super) fn mirrors(self) -> (bool, bool) {
        (matches!(self.0, 2 | 3 | 7 | 8), matches!(self.0, 3 | 4 | 6 | 7))
    }

    /// Whether, after undoing the mirroring, lines of the file are columns of the upright image.
    pub(super) fn transposes(self) -> bool {
        self.0 >= 5
    }

    /// The upright image's columns and rows, given the file's.
    pub(super) fn upright(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.transposes() { (height, width) } else { (width, height) }
    }

    /// The image upright.
    pub(super) fn apply(self, mut image: RgbImage) -> RgbImage {
        let (columns, lines) = self.mirrors();
        if columns {
            image.flip_horizontally();
        }
        if lines {
            image.flip_vertically();
        }
        if self.transposes() { image.transposed() } else { image }
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

impl RgbImage {
    /// Rows become columns. In tiles, so that both sides stay in the cache.
    pub(super) fn transposed(&self) -> RgbImage {
        const TILE: usize = 32;
        let (width, height) = (self.width as usize, self.height as usize);
        let mut out = RgbImage::black(self.height, self.width);
        for top in (0..height).step_by(TILE) {
            for left in (0..width).step_by(TILE) {
                for y in top..(top + TILE).min(height) {
                    for x in left..(left + TILE).min(width) {
                        let (from, to) = ((y * width + x) * 3, (x * height + y) * 3);
                        out.data[to..to + 3].copy_from_slice(&self.data[from..from + 3]);
                    }
                }
            }
        }
        out
    }
}
