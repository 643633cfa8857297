//! Fits an image of any shape into a network's square input.

use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::resize::{Target, rectangle};
use super::{CropBox, Preprocessing, RgbImage, central_window, resized_size};

/// Handling of images that are not square.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The shorter side is resized to `resize_size`, and the central `crop_size` squared is cut
    /// out: torchvision's presets. The ends of a long image are lost.
    #[default]
    Crop,
    /// Both sides are resized to `crop_size`, as by torchvision's `Resize((s, s))`: everything is
    /// visible, out of proportion.
    Squash,
    /// The longer side is resized to `crop_size` and the other in proportion, between margins of
    /// one colour, as by Pillow's `ImageOps.pad`: everything is visible, smaller.
    Pad,
}

impl Fit {
    /// For metadata that omit the default.
    pub fn is_crop(&self) -> bool {
        *self == Fit::Crop
    }

    /// The name in a recipe and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Fit::Crop => "crop",
            Fit::Squash => "squash",
            Fit::Pad => "pad",
        }
    }
}

impl FromStr for Fit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let fits = [Fit::Crop, Fit::Squash, Fit::Pad];
        fits.into_iter().find(|fit| fit.name() == text).ok_or("expected crop, squash or pad")
    }
}

/// Columns and rows.
type Size = (u64, u64);
/// Columns and rows before a part of the crop.
pub(super) type Place = (usize, usize);

impl Preprocessing {
    /// The same with another fit, and a fixed margin colour.
    pub fn with_fit(&self, fit: Fit) -> Self {
        let pad_color = (fit == Fit::Pad).then(|| self.margin_color());
        Preprocessing { fit, pad_color, ..self.clone() }
    }

    /// Default size of a resized image: its shorter side for [`Fit::Crop`], the side of the square
    /// that contains it for the others.
    pub fn scale(&self) -> u32 {
        match self.fit {
            Fit::Crop => self.resize_size,
            Fit::Squash | Fit::Pad => self.crop_size,
        }
    }

    /// The colour of [`Fit::Pad`]'s margins: `pad_color`, or the subtracted mean, rounded. That is
    /// nearly zero in the network's input, like the padding of its own convolutions.
    pub fn margin_color(&self) -> [u8; 3] {
        self.pad_color.unwrap_or_else(|| self.mean.map(|mean| (mean * 255.).round() as u8))
    }

    /// Columns and rows of an image resized to `scale`.
    pub(super) fn resized(&self, (width, height): (u32, u32), scale: u32) -> Size {
        let side = u64::from(scale);
        match self.fit {
            Fit::Crop => resized_size(scale, width, height),
            Fit::Squash | Fit::Pad if width == 0 || height == 0 => (0, 0),
            Fit::Squash => (side, side),
            Fit::Pad => contained(side, width, height),
        }
    }

    /// Columns and rows of the image that crops are cut out of: the resized image with its margins.
    pub(super) fn frame(&self, image: (u32, u32), scale: u32) -> Size {
        match self.fit {
            Fit::Pad => (u64::from(scale), u64::from(scale)),
            Fit::Crop | Fit::Squash => self.resized(image, scale),
        }
    }

    /// The target of the central crop of an image resized to `scale`, and its place in the crop.
    pub(super) fn fit_target(&self, image: (u32, u32), scale: u32) -> (Target, Place) {
        let size = self.resized(image, scale);
        let window = |size: u64| match self.fit {
            Fit::Crop | Fit::Squash => central_window(size, self.crop_size),
            Fit::Pad => padded_window(size, u64::from(scale), self.crop_size),
        };
        let ((columns, left), (rows, top)) = (window(size.0), window(size.1));
        let region = rectangle(image, 0, 0, image.0, image.1);
        let interpolation = self.interpolation;
        (Target { region, size, columns, rows, interpolation }, (left, top))
    }

    /// The target of a crop filled by `region`, as far as its shape allows, and its place.
    pub(super) fn region_target(&self, region: CropBox) -> (Target, Place) {
        let side = u64::from(self.crop_size);
        let size = match self.fit {
            Fit::Crop | Fit::Squash => (side, side),
            Fit::Pad => contained(side, region.width, region.height),
        };
        let place = (before(side, size.0) as usize, before(side, size.1) as usize);
        let interpolation = self.interpolation;
        (Target { region, size, columns: 0..size.0, rows: 0..size.1, interpolation }, place)
    }

    /// `window` at its place in the crop, between margins: black ones where `crop` leaves some.
    pub(super) fn padded(&self, window: RgbImage, (left, top): Place) -> RgbImage {
        if window.width == self.crop_size && window.height == self.crop_size {
            return window;
        }
        let mut out = RgbImage::black(self.crop_size, self.crop_size);
        if self.fit == Fit::Pad {
            let color = self.margin_color();
            out.data.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&color));
        }
        let stride = self.crop_size as usize * 3;
        let length = window.width as usize * 3;
        if length > 0 {
            let rows = out.data.chunks_exact_mut(stride).skip(top);
            for (to, from) in rows.zip(window.data.chunks_exact(length)) {
                to[left * 3..][..length].copy_from_slice(from);
            }
        }
        out
    }
}

/// Pillow's `ImageOps.contain` in a square: the longer side is `side`, the other one in proportion,
/// rounded. A side that Pillow would round to zero, and refuse, is one pixel.
fn contained(side: u64, width: u32, height: u32) -> Size {
    // In Python's order: the last bit of the product decides between two pixels.
    let part = |short: u32, long: u32| {
        (f64::from(short) / f64::from(long) * side as f64).round_ties_even().max(1.) as u64
    };
    match width.cmp(&height) {
        std::cmp::Ordering::Less => (part(width, height), side),
        std::cmp::Ordering::Equal => (side, side),
        std::cmp::Ordering::Greater => (side, part(height, width)),
    }
}

/// `ImageOps.pad`'s margin before `size`, centred in `side`; 0 if it is longer.
pub(super) fn before(side: u64, size: u64) -> u64 {
    // Python rounds halves to even.
    (side.saturating_sub(size) as f64 / 2.).round_ties_even() as u64
}

/// The part of `size`, centred in `side`, that the central crop shows, and its offset in the crop.
fn padded_window(size: u64, side: u64, crop: u32) -> (Range<u64>, usize) {
    let (window, place) = central_window(side, crop);
    let first = before(side, size);
    let start = window.start.max(first);
    let end = window.end.min(first + size).max(start);
    (start - first..end - first, place + (start - window.start) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Interpolation;

    fn preset(fit: Fit) -> Preprocessing {
        Preprocessing {
            resize_size: 40,
            crop_size: 32,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [1.; 3],
            fit,
            pad_color: None,
            white_level: None,
        }
    }

    #[test]
    fn sides_are_rounded_as_pillow_does_and_never_to_nothing() {
        assert_eq!(contained(32, 600, 200), (32, 11));
        assert_eq!(contained(32, 200, 600), (11, 32));
        assert_eq!(contained(30, 4, 3), (30, 22), "22.5 to even");
        assert_eq!(contained(32, 1_000_000, 1), (32, 1));
        assert_eq!((before(32, 11), before(32, 9), before(32, 31), before(32, 32)), (10, 12, 0, 0));
    }

    #[test]
    fn the_margins_are_the_mean_unless_a_colour_is_given() {
        let wide = RgbImage { width: 3, height: 1, data: vec![9; 9] };
        let corner = |preset: Preprocessing| preset.eval_pixels(&wide).data[..3].to_vec();
        assert_eq!(corner(preset(Fit::Pad)), [124, 116, 104]);
        let own = Preprocessing { pad_color: Some([1, 2, 3]), ..preset(Fit::Pad) };
        assert_eq!(corner(own.clone()), [1, 2, 3]);
        assert_eq!(corner(preset(Fit::Squash)), [9, 9, 9]);
        assert_eq!(own.with_fit(Fit::Pad).pad_color, Some([1, 2, 3]));
        assert_eq!(own.with_fit(Fit::Squash).pad_color, None);
        assert_eq!(preset(Fit::Crop).with_fit(Fit::Pad).pad_color, Some([124, 116, 104]));
    }

    #[test]
    fn a_preset_without_a_fit_is_written_as_ever() {
        let text = serde_json::to_string(&preset(Fit::Crop)).unwrap();
        assert!(!text.contains("fit") && !text.contains("pad"), "{text}");
        assert_eq!(serde_json::from_str::<Preprocessing>(&text).unwrap(), preset(Fit::Crop));
        let padded = preset(Fit::Crop).with_fit(Fit::Pad);
        let text = serde_json::to_string(&padded).unwrap();
        assert!(text.contains(r#""fit":"pad","pad_color":[124,116,104]"#), "{text}");
        assert_eq!(serde_json::from_str::<Preprocessing>(&text).unwrap(), padded);
        assert!(serde_json::from_str::<Preprocessing>(&text.replace("104]", "256]")).is_err());
    }

    #[test]
    fn squares_are_the_same_whatever_the_fit() {
        let data = (0..50 * 50 * 3).map(|byte| (byte * 7 % 251) as u8).collect();
        let square = RgbImage { width: 50, height: 50, data };
        let seen = |fit| Preprocessing { resize_size: 32, ..preset(fit) }.eval_pixels(&square);
        assert_eq!(seen(Fit::Crop), seen(Fit::Squash));
        assert_eq!(seen(Fit::Crop), seen(Fit::Pad));
    }
}
