//! JPEG through mozjpeg's decoder, which is libjpeg-turbo's: slow integer DCT and smooth chroma upsampling,
//! Pillow's settings.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use mozjpeg::{ColorSpace, Decompress, Marker};

use super::RgbImage;
use super::decode::{DecodeLimits, buffer, cmyk_to_rgb, to_rgb};
use super::orientation::Orientation;

/// The most scans. Real files have at most a dozen or so; a small file with thousands of scans over a large
/// image would decode for hours.
const MAX_SCANS: usize = 500;

/// Decodes a JPEG. libjpeg's own errors unwind with a `String`.
pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    if scans(bytes) > MAX_SCANS {
        return Err(format!("the JPEG has more than {MAX_SCANS} scans, as only a malicious file does"));
    }
    let ended = Cell::new(false);
    let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        read(Source { rest: bytes, ended: &ended }, limits)
    }));
    match decoded {
        Ok(Ok(decoded)) => Ok(decoded),
        _ if ended.get() => Err("the JPEG is truncated; copy or download it again".to_string()),
        Ok(Err(message)) => Err(message),
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

fn read(source: Source<'_>, limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let damaged = |error: io::Error| format!("the JPEG is damaged: {error}");
    let jpeg = Decompress::with_markers(&[Marker::APP(1)]).from_reader(source).map_err(damaged)?;
    let (width, height) = (side(jpeg.width())?, side(jpeg.height())?);
    limits.check(width, height)?;
    let orientation = orientation(&jpeg);
    let (space, channels) = match jpeg.color_space() {
        ColorSpace::JCS_GRAYSCALE => (ColorSpace::JCS_GRAYSCALE, 1),
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => (ColorSpace::JCS_CMYK, 4),
        _ => (ColorSpace::JCS_RGB, 3),
    };
    let mut started = jpeg.to_colorspace(space).map_err(damaged)?;
    let mut samples = buffer(width, height, channels)?;
    started.read_scanlines_into(&mut samples).map_err(damaged)?;
    // Pillow does not look for the end marker either: every pixel is there.
    drop(started);
    let image = match channels {
        1 => to_rgb((width, height), &samples, 1, |grey| [grey[0]; 3])?,
        // Adobe stores ink inverted, and nobody else writes CMYK.
        4 => to_rgb((width, height), &samples, 4, |ink| {
            cmyk_to_rgb(&[255 - ink[0], 255 - ink[1], 255 - ink[2], 255 - ink[3]])
        })?,
        _ => RgbImage { width, height, data: samples },
    };
    Ok((image, orientation))
}

fn side(pixels: usize) -> Result<u32, String> {
    u32::try_from(pixels).map_err(|_| format!("the JPEG claims a side of {pixels} pixels"))
}

/// EXIF blocks are joined, as a long one is split over markers; the last XMP packet counts.
fn orientation<R>(jpeg: &Decompress<R>) -> Orientation {
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    let mut exif: Option<Vec<u8>> = None;
    let mut xmp = None;
    for marker in jpeg.markers() {
        if let Some(block) = marker.data.strip_prefix(b"Exif\0\0") {
            exif.get_or_insert_default().extend_from_slice(block);
        } else if let Some(packet) = marker.data.strip_prefix(XMP) {
            xmp = Some(packet);
        }
    }
    Orientation::find(exif.as_deref(), xmp)
}

/// Counts the scans up to the end marker, or a few more than are allowed.
fn scans(bytes: &[u8]) -> usize {
    let mut count = 0;
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[at + 1..];
        let [marker, following @ ..] = rest else { break };
        match marker {
            // A fill byte, a stuffed zero, a marker without a body.
            0xFF => continue,
            0x00 | 0x01 | 0xD0..=0xD8 => rest = following,
            0xD9 => break,
            _ => {
                count += usize::from(*marker == 0xDA);
                if count > MAX_SCANS {
                    break;
                }
                let length = match following {
                    [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
                    _ => break,
                };
                rest = following.get(length..).unwrap_or_default();
            }
        }
    }
    count
}

/// The bytes as libjpeg asks for them. Their end is an error, where libjpeg would go on with grey pixels.
struct Source<'a> {
    rest: &'a [u8],
    ended: &'a Cell<bool>,
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ended.set(true);
            return Err(io::Error::other("the data ends too early"));
        }
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest = self.rest.get(amount..).unwrap_or_default();
    }
}

impl Read for Source<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(to)?;
        self.consume(count);
        Ok(count)
    }
}
