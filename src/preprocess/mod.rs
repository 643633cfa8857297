//! From an image file to the network's input: decode, orient, resize, crop, normalise, augment.
//!
//! The reference is torchvision's `transforms()` of a weight entry, applied to
//! `ImageOps.exif_transpose(Image.open(path)).convert("RGB")`. Up to normalisation the bytes are
//! the same, with one intended difference: 16-bit grey is scaled to 8 bits by its high byte, as
//! 16-bit colour is (Pillow clips it). The order of the resize's passes is that of Pillow 13, which
//! changed it for tall images. JPEG, also inside a TIFF, is decoded by a member of libjpeg's
//! family, since others differ by a few levels. JPEG 2000 is exact where it is reversible, and a
//! level or two away where it is not. Alpha is dropped, not composited; animations give their first
//! frame.
//!
//! Everything here is a pure function of its arguments. No file can cause a panic: sizes are
//! checked against [`DecodeLimits`] before anything is allocated for the pixels.

mod augment;
mod bit_depth;
mod bmp;
#[cfg(test)]
mod bounds;
mod decode;
mod fit;
mod gif;
mod header;
mod jpeg;
mod jpeg2000;
mod libjpeg;
mod orientation;
mod png;
mod pnm;
mod record;
mod resize;
mod simd;
mod sniff;
mod taps;
#[cfg(test)]
mod tests;
mod tiff;
mod views;
mod webp;

use serde::{Deserialize, Serialize};

use crate::error::Result;

pub use augment::{Augmentation, ColorJitter, CropBox, DrawKey, Policy};
pub use bit_depth::Brightness;
pub use decode::{Decode, DecodeLimits, decode_bytes, decode_file, is_image_name};
pub use fit::Fit;
pub use header::image_size;
pub use png::encode_png;
pub use record::{Bytes, Channels, ImageAt, Packed, Record};
pub use simd::jpeg_simd;
pub use views::{Crops, Picture, Views, Window};

use decode::read_targets;
use resize::resize;

/// An 8-bit RGB image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height` × `width` × 3 bytes: rows from the top, red, green and blue of each pixel together.
    pub data: Vec<u8>,
}

impl RgbImage {
    /// A black image.
    pub fn black(width: u32, height: u32) -> Self {
        RgbImage { width, height, data: vec![0; width as usize * height as usize * 3] }
    }

    /// Mirrors the image left to right.
    pub fn flip_horizontally(&mut self) {
        if self.width == 0 {
            return;
        }
        for row in self.data.chunks_exact_mut(self.width as usize * 3) {
            // Reversing the bytes reverses the pixels and each pixel's channels; the latter is
            // undone.
            row.reverse();
            for pixel in row.chunks_exact_mut(3) {
                pixel.swap(0, 2);
            }
        }
    }

    /// Mirrors the image top to bottom.
    pub fn flip_vertically(&mut self) {
        let (stride, height) = (self.width as usize * 3, self.height as usize);
        let (top, bottom) = self.data.split_at_mut(height / 2 * stride);
        if stride > 0 {
            let below = bottom.chunks_exact_mut(stride).rev();
            top.chunks_exact_mut(stride).zip(below).for_each(|(above, below)| above.swap_with_slice(below));
        }
    }
}

/// An image for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// `crop_size` × `crop_size`.
    pub pixels: RgbImage,
    /// Added to red, green and blue, after scaling to [0, 1] and before the mean is subtracted.
    pub shift: [f32; 3],
}

impl From<RgbImage> for Input {
    fn from(pixels: RgbImage) -> Self {
        Input { pixels, shift: [0.0; 3] }
    }
}

/// The resize filter. Both are antialiased when they shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// A triangle filter.
    Bilinear,
    /// A cubic filter (a = -0.5).
    Bicubic,
}

/// torchvision's `ImageClassification` preset. It belongs to the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// The shorter side after resizing, in pixels.
    pub resize_size: u32,
    /// The side of the central square that the network sees, in pixels.
    pub crop_size: u32,
    /// The resize filter.
    pub interpolation: Interpolation,
    /// Subtracted from each channel (red, green, blue), after scaling to [0, 1].
    pub mean: [f32; 3],
    /// The divisor of each channel.
    pub std: [f32; 3],
    /// Handling of images that are not square.
    #[serde(default, skip_serializing_if = "Fit::is_crop")]
    pub fit: Fit,
    /// Red, green and blue of [`Fit::Pad`]'s margins; the mean where absent
    /// ([`Preprocessing::margin_color`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_color: Option<[u8; 3]>,
    /// The white value of images of 16 bits a sample ([`DecodeLimits::white_level`]); 65535 where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub white_level: Option<u16>,
}

impl Preprocessing {
    /// The value that is white in an image of 16 bits a sample.
    pub fn white(&self) -> u16 {
        self.white_level.unwrap_or(u16::MAX)
    }

    /// The largest `resize_size` or `crop_size` that [`Preprocessing::mistake`] accepts.
    pub const MAX_SIZE: u32 = 4096;

    /// The error in these numbers, if any; for presets from a file.
    pub fn mistake(&self) -> Option<String> {
        for (key, size) in [("resize_size", self.resize_size), ("crop_size", self.crop_size)] {
            if !(1..=Self::MAX_SIZE).contains(&size) {
                return Some(format!("{key}: expected 1 to {} pixels, found {size}", Self::MAX_SIZE));
            }
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return Some(format!("mean: expected finite numbers, found {:?}", self.mean));
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Some(format!("std: expected numbers above 0, found {:?}", self.std));
        }
        None
    }

    /// The pixels of `image` for evaluation, `crop_size` × `crop_size`: with [`Fit::Crop`] the
    /// shorter side resized to `resize_size`, then the centre, with black margins where the resized
    /// image is smaller.
    ///
    /// torchvision's `resize` and `center_crop` on a Pillow image, byte for byte; [`Fit`] names the
    /// references of the others.
    pub fn eval_pixels(&self, image: &RgbImage) -> RgbImage {
        let (target, place) = self.fit_target((image.width, image.height), self.scale());
        self.padded(resize(image, &target), place)
    }

    /// As [`Preprocessing::eval_pixels`], of a stored image, decoding no more than needed.
    ///
    /// # Errors
    /// Those of [`decode_file`].
    pub fn read_eval<'a>(&self, image: impl Into<ImageAt<'a>>, limits: DecodeLimits) -> Result<RgbImage> {
        let mut place = (0, 0);
        let parts = read_targets(image.into(), limits.of(self), |width, height| {
            let (target, its_place) = self.fit_target((width, height), self.scale());
            place = its_place;
            vec![target]
        })?;
        Ok(self.padded(parts.into_iter().next().unwrap_or(RgbImage::black(0, 0)), place))
    }

    /// Writes `input` as the network's input: `3 × height × width` numbers, a plane a channel, each
    /// `(value / 255 + shift - mean) / std` in single precision, as torchvision computes it.
    ///
    /// # Panics
    /// If `out` does not have exactly `3 × height × width` elements.
    pub fn normalise_into(&self, input: &Input, out: &mut [f32]) {
        self.normalise_pixels(&input.pixels, input.shift, out);
    }

    /// As [`Preprocessing::normalise_into`], with the numbers of a pixel together: `height × width
    /// × 3`.
    ///
    /// # Panics
    /// If `out` does not have exactly `3 × height × width` elements.
    pub fn normalise_pixels_into(&self, input: &Input, out: &mut [f32]) {
        let bytes = &input.pixels.data;
        assert_eq!(out.len(), bytes.len(), "one float a byte");
        let [red, green, blue] = std::array::from_fn(|channel| self.table(channel, input.shift[channel]));
        for (to, from) in out.chunks_exact_mut(3).zip(bytes.chunks_exact(3)) {
            to[0] = red[usize::from(from[0])];
            to[1] = green[usize::from(from[1])];
            to[2] = blue[usize::from(from[2])];
        }
    }

    /// The normalised value of each value of a channel.
    fn table(&self, channel: usize, shift: f32) -> [f32; 256] {
        let (mean, std) = (self.mean[channel], self.std[channel]);
        std::array::from_fn(|value| (value as f32 / 255.0 + shift - mean) / std)
    }

    /// As [`Preprocessing::normalise_pixels_into`], for pixels that are shared by views.
    pub fn normalise_pixels(&self, pixels: &RgbImage, shift: [f32; 3], out: &mut [f32]) {
        assert_eq!(out.len(), pixels.data.len(), "one float a byte");
        let plane = out.len() / 3;
        if plane == 0 {
            return;
        }
        for (channel, plane) in out.chunks_exact_mut(plane).enumerate() {
            let table = self.table(channel, shift[channel]);
            for (number, pixel) in plane.iter_mut().zip(pixels.data.chunks_exact(3)) {
                *number = table[usize::from(pixel[channel])];
            }
        }
    }
}

/// torchvision's `_compute_resized_output_size`: width and height with the shorter side resized to
/// `new_short`; the long side is truncated.
fn resized_size(new_short: u32, width: u32, height: u32) -> (u64, u64) {
    let (short, long) = (width.min(height), width.max(height));
    if short == 0 {
        return (0, 0);
    }
    let new_short = u64::from(new_short);
    let new_long = ((new_short * u64::from(long)) as f64 / f64::from(short)) as u64;
    if width <= height { (new_short, new_long) } else { (new_long, new_short) }
}

/// torchvision's `center_crop` along one axis: the kept part of `size`, and its place in the crop.
fn central_window(size: u64, crop: u32) -> (std::ops::Range<u64>, usize) {
    let wide = u64::from(crop);
    if size <= wide {
        return (0..size, ((wide - size) / 2) as usize);
    }
    // Python rounds halves to even.
    let start = ((size - wide) as f64 / 2.0).round_ties_even() as u64;
    (start..start + wide, 0)
}
