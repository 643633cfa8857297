//! PBM, PGM and PPM (Netpbm), which torchvision's `ImageFolder` accepts too.

use std::io::Cursor;

use image::codecs::pnm::PnmDecoder;
use image::{DynamicImage, ImageDecoder, ImageError};

use super::RgbImage;
use super::bit_depth::narrow;
use super::decode::{DecodeLimits, to_rgb};
use super::orientation::Orientation;

pub(super) fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), String> {
    let decoder = PnmDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    // The densest form has eight pixels a byte: a larger size in the header is false.
    if u64::from(width) * u64::from(height) > bytes.len() as u64 * 8 {
        return Err(truncated());
    }
    let size = (width, height);
    let image = match DynamicImage::from_decoder(decoder).map_err(damaged)? {
        DynamicImage::ImageLuma8(grey) => to_rgb(size, &grey, 1, |v| [v[0]; 3]),
        DynamicImage::ImageRgb8(rgb) => Ok(RgbImage { width, height, data: rgb.into_raw() }),
        other => {
            // Pillow rounds the samples of this format, but keeps the high byte in others.
            let rgb = other.into_rgb16();
            let rounded = |sample: u16| ((u32::from(sample) + 128) / 257) as u8;
            let byte = |&sample: &u16| match limits.white_level {
                None => rounded(sample),
                white_level => narrow(sample, white_level),
            };
            let data = rgb.iter().map(byte).collect();
            Ok(RgbImage { width, height, data })
        }
    }?;
    Ok((image, Orientation::UPRIGHT))
}

fn damaged(error: ImageError) -> String {
    match error {
        ImageError::IoError(_) => truncated(),
        error => format!("the PNM is damaged: {error}"),
    }
}

fn truncated() -> String {
    "the PNM is truncated; copy or download it again".to_string()
}
