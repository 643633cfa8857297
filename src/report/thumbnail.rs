//! Small pictures that lie inside the page, as data URIs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jpeg_encoder::{ColorType, Encoder};

use crate::error::{Error, Result};
use crate::preprocess::DecodeLimits;
use crate::preprocess::{Fit, ImageAt, Interpolation, Preprocessing, RgbImage};

/// The side of a small picture, in pixels.
pub const SIDE: u32 = 96;
/// Of 100: some 3 KB a picture.
const QUALITY: u8 = 70;

/// A small picture, as the text of an `img`'s `src`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail(String);

impl Thumbnail {
    /// The centre of a picture, [`SIDE`] × [`SIDE`].
    ///
    /// # Errors
    /// If the encoder refuses it, which no square of pixels makes it do.
    pub fn of(image: &RgbImage) -> Result<Self> {
        let small = preset().eval_pixels(image);
        let mut jpeg = Vec::new();
        let side = SIDE as u16;
        Encoder::new(&mut jpeg, QUALITY)
            .encode(&small.data, side, side, ColorType::Rgb)
            .map_err(|error| Error::run(format!("cannot make a small picture: {error}")))?;
        Ok(Thumbnail(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg))))
    }

    /// Of a stored image, as the network sees it, but for the last step of size.
    ///
    /// # Errors
    /// If the image cannot be read.
    pub fn read(image: ImageAt<'_>, preprocessing: &Preprocessing, limits: DecodeLimits) -> Result<Self> {
        Self::of(&preprocessing.read_eval(image, limits)?)
    }

    /// The data URI.
    pub fn uri(&self) -> &str {
        &self.0
    }
}

fn preset() -> Preprocessing {
    Preprocessing {
        resize_size: SIDE,
        crop_size: SIDE,
        interpolation: Interpolation::Bilinear,
        mean: [0.; 3],
        std: [1.; 3],
        fit: Fit::Crop,
        pad_color: None,
        white_level: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::decode_bytes;

    #[test]
    fn a_small_picture_is_a_jpeg_of_the_centre() {
        let mut image = RgbImage::black(300, 200);
        for (at, pixel) in image.data.chunks_exact_mut(3).enumerate() {
            // Red in the middle square, blue at the sides, which are cut off.
            let column = at % 300;
            pixel.copy_from_slice(if (50..250).contains(&column) { &[200, 10, 10] } else { &[0, 0, 255] });
        }
        let picture = Thumbnail::of(&image).unwrap();
        let jpeg = STANDARD.decode(picture.uri().strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
        assert!(jpeg.len() < 3000, "{} bytes", jpeg.len());
        let seen = decode_bytes(&jpeg, DecodeLimits::default()).unwrap();
        assert_eq!((seen.width, seen.height), (SIDE, SIDE));
        for pixel in seen.data.chunks_exact(3) {
            assert!(pixel[0] > 180 && pixel[2] < 40, "{pixel:?}");
        }
    }
}
