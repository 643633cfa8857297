//! Decodes a file's bytes to RGB pixels: the checks common to all formats, then the format's
//! decoder.

use std::any::Any;
use std::fs::{self, File};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};

use serde::{Deserialize, Serialize};

use super::orientation::Orientation;
use super::resize::{Target, resize};
use super::sniff::{self, Format};
use super::{ImageAt, Preprocessing, RgbImage, bmp, gif, jpeg, jpeg2000, png, pnm, tiff, webp};

/// Maximum size of an image file, in bytes.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// Maximum pixels on one side, as in libpng. It keeps the resize tables of a one-pixel-high strip
/// small.
const MAX_SIDE: u32 = 1_000_000;

/// The endings that select files in a folder; content decides how they are decoded.
const ENDINGS: [&str; 22] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "bmp", "dib", "tif", "tiff", "jp2", "jpx",
    "j2k", "j2c", "jpc", "jpf", "pbm", "pgm", "ppm", "pnm",
];

/// Size at which a JPEG is decoded if the network sees a smaller image. Other formats are decoded
/// whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// Every pixel, as Pillow does.
    #[default]
    Exact,
    /// At 1/2, 1/4 or 1/8 of its size, the least that leaves two pixels for each of the resized
    /// image along both sides; the resize does the rest. Pixels differ a little from
    /// [`Decode::Exact`]: see docs/decoding.md.
    Fast,
}

impl Decode {
    /// For metadata that omit the default.
    pub fn is_exact(&self) -> bool {
        *self == Decode::Exact
    }
}

impl FromStr for Decode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "exact" => Ok(Decode::Exact),
            "fast" => Ok(Decode::Fast),
            _ => Err("expected exact or fast"),
        }
    }
}

/// Limits and settings of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The maximum number of pixels (width × height), checked against the header before anything is
    /// decoded. It counts the pixels of the file, even if fewer are decoded: reading takes as long,
    /// and a progressive JPEG as much memory.
    pub max_pixels: u64,
    /// Whether a JPEG may be decoded at a smaller size.
    pub decode: Decode,
    /// The value that is white in an image of 16 bits a sample, like all above it; 65535 where
    /// absent.
    pub white_level: Option<u16>,
}

impl Default for DecodeLimits {
    /// Pillow's limit: twice a quarter of a gigabyte at three bytes a pixel.
    fn default() -> Self {
        DecodeLimits { max_pixels: 178_956_970, decode: Decode::Exact, white_level: None }
    }
}

impl DecodeLimits {
    /// With the settings that belong to the image's network.
    pub(super) fn of(self, preprocessing: &Preprocessing) -> Self {
        DecodeLimits { white_level: preprocessing.white_level, ..self }
    }

    /// Refuses a size that is zero or over the limit.
    pub(super) fn check(&self, width: u32, height: u32) -> Result<(), String> {
        if width == 0 || height == 0 {
            return Err(format!("the image is empty: {width}x{height} pixels"));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(format!(
                "is {width}x{height} = {} megapixels, over the limit of {}; raise it (`--max-pixels`, a recipe's \
                 `data.max_pixels`) if the size is meant",
                megapixels(pixels),
                megapixels(self.max_pixels)
            ));
        }
        if width.max(height) > MAX_SIDE {
            return Err(format!(
                "is {width}x{height} pixels, and a side may have at most {MAX_SIDE}; cut it into pieces"
            ));
        }
        Ok(())
    }
}

/// Megapixels, with enough digits to tell two sizes apart.
fn megapixels(pixels: u64) -> String {
    let millions = pixels as f64 / 1e6;
    if millions < 10.0 { format!("{millions:.3}") } else { format!("{millions:.0}") }
}

/// Whether the name has the ending of a supported format (any case).
///
/// `jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff jp2 jpx j2k j2c jpc jpf pbm pgm ppm pnm`.
pub fn is_image_name(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Decodes a stored image; the file's content, not its name, determines the format.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::File`] if it is not an image, damaged,
/// truncated or over the limits.
pub fn decode_file<'a>(image: impl Into<ImageAt<'a>>, limits: DecodeLimits) -> Result<RgbImage> {
    match image.into() {
        ImageAt::File(path) => {
            decode_bytes(&read_image(path)?, limits).map_err(|message| Error::file(path, message))
        }
        ImageAt::Record(record) => record.image(limits),
    }
}

/// Reads a stored image for the targets that `plan` returns for an upright image of these columns
/// and rows. The result is that of [`resize`] on the decoded image, decoding no more than needed.
///
/// # Errors
/// Those of [`decode_file`].
pub(super) fn read_targets(
    image: ImageAt,
    limits: DecodeLimits,
    plan: impl FnOnce(u32, u32) -> Vec<Target>,
) -> Result<Vec<RgbImage>> {
    match image {
        ImageAt::File(path) => {
            decode_targets(&read_image(path)?, limits, plan).map_err(|message| Error::file(path, message))
        }
        ImageAt::Record(record) => Ok(targets(&record.image(limits)?, plan)),
    }
}

/// The bytes of a file that begins like an image.
fn read_image(path: &Path) -> Result<Vec<u8>> {
    // Checked before opening, which would block on a pipe.
    let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "expected an image file, found a folder or a device"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        let gigabytes = metadata.len() as f64 / 1e9;
        let message =
            format!("has {gigabytes:.1} GB, too much for an image file (at most {MAX_FILE_BYTES} bytes)");
        return Err(Error::file(path, message));
    }
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut bytes = Vec::with_capacity(metadata.len().min(sniff::ENOUGH) as usize);
    file.by_ref().take(sniff::ENOUGH).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    sniff::format(&bytes).map_err(|message| Error::file(path, message))?;
    // The limit applies here too: a file may grow while it is read.
    bytes.reserve_exact(metadata.len().saturating_sub(bytes.len() as u64) as usize);
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Decodes an image in memory to 8-bit RGB, upright as its EXIF orientation says.
///
/// # Errors
/// A message without the file's name.
pub fn decode_bytes(bytes: &[u8], limits: DecodeLimits) -> Result<RgbImage, String> {
    let format = sniff::format(bytes)?;
    let (image, orientation) = guarded(format, || decode_as(format, bytes, limits))?;
    Ok(orientation.apply(image))
}

/// As [`read_targets`], of bytes in memory.
pub(super) fn decode_targets(
    bytes: &[u8],
    limits: DecodeLimits,
    plan: impl FnOnce(u32, u32) -> Vec<Target>,
) -> Result<Vec<RgbImage>, String> {
    let format = sniff::format(bytes)?;
    if format == Format::Jpeg {
        return guarded(format, || jpeg::targets(bytes, limits, plan));
    }
    Ok(targets(&decode_bytes(bytes, limits)?, plan))
}

fn targets(image: &RgbImage, plan: impl FnOnce(u32, u32) -> Vec<Target>) -> Vec<RgbImage> {
    plan(image.width, image.height).iter().map(|target| resize(image, target)).collect()
}

fn decode_as(format: Format, bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    match format {
        Format::Jpeg => jpeg::decode(bytes, limits),
        Format::Png => png::decode(bytes, limits),
        Format::Gif => gif::decode(bytes, limits),
        Format::WebP => webp::decode(bytes, limits),
        Format::Bmp => bmp::decode(bytes, limits),
        Format::Tiff => tiff::decode(bytes, limits),
        Format::Jpeg2000 => jpeg2000::decode(bytes, limits),
        Format::Pnm => pnm::decode(bytes, limits),
    }
}

/// libjpeg reports errors by unwinding. The other decoders should never panic; if one does on a
/// hostile file, only that file is lost.
fn guarded<T>(format: Format, decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|payload| Err(format!("cannot be decoded as {}: {}", format.name(), words(payload))))
}

/// The message of a panic: libjpeg's, or nothing useful to a user.
fn words(payload: Box<dyn Any + Send>) -> String {
    let words =
        payload.downcast_ref::<String>().and_then(|words| words.strip_prefix("libjpeg fatal error: "));
    words.unwrap_or("the decoder failed").to_string()
}

/// A zeroed buffer for `width` × `height` pixels of `bytes_per_pixel`.
pub(super) fn buffer(width: u32, height: u32, bytes_per_pixel: usize) -> Result<Vec<u8>, String> {
    let pixels = (width as usize).checked_mul(height as usize);
    let length = pixels.and_then(|pixels| pixels.checked_mul(bytes_per_pixel));
    let too_big = || format!("not enough memory for {width}x{height} pixels");
    let length = length.ok_or_else(too_big)?;
    // `vec!` gets zeroed memory from the system for free, but aborts if there is none: ask first.
    Vec::<u8>::new().try_reserve_exact(length).map_err(|_| too_big())?;
    Ok(vec![0; length])
}

/// An RGB image from samples, converted by a function, `channels` samples at a time.
pub(super) fn to_rgb(
    (width, height): (u32, u32),
    samples: &[u8],
    channels: usize,
    pixel: impl Fn(&[u8]) -> [u8; 3],
) -> Result<RgbImage, String> {
    let mut data = buffer(width, height, 3)?;
    for (to, from) in data.chunks_exact_mut(3).zip(samples.chunks_exact(channels)) {
        to.copy_from_slice(&pixel(from));
    }
    Ok(RgbImage { width, height, data })
}

/// Pillow's `cmyk2rgb`: 0 is no ink, 255 is full.
pub(super) fn cmyk_to_rgb(cmyk: &[u8]) -> [u8; 3] {
    let light = 255 - i32::from(cmyk[3]);
    std::array::from_fn(|channel| {
        let product = i32::from(cmyk[channel]) * light + 128;
        (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}
