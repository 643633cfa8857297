//! Training crops: torchvision's `RandomResizedCrop`, or `Resize` to a random size and
//! `RandomCrop`, which is VGG's scale jitter (Simonyan and Zisserman 2015, section 3.1).
//!
//! Where evaluation squashes or pads the whole image, training does the same to the crop, and
//! random rectangles have about the image's shape: the network trains on what evaluation will show
//! it, at other sizes.

use std::ops::RangeInclusive;

use super::draws::Draws;
use super::{Preprocessing, RgbImage};
use crate::preprocess::Fit;
use crate::preprocess::fit::{Place, before};
use crate::preprocess::resize::{Target, rectangle, resize};

/// A rectangle to cut out, in pixels of the source image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// The first column.
    pub left: u32,
    /// The first row.
    pub top: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl Preprocessing {
    /// torchvision's `resized_crop`: cut `crop` out of `image`, then resize it to `crop_size`
    /// squared.
    ///
    /// The filter does not read beyond the rectangle. A rectangle that reaches outside the image is
    /// clipped to it. With [`Fit::Pad`] it keeps its proportions, between margins.
    pub fn resized_crop(&self, image: &RgbImage, crop: CropBox) -> RgbImage {
        let (target, place) = self.resized_crop_target((image.width, image.height), crop);
        self.padded(resize(image, &target), place)
    }

    /// The target of [`Preprocessing::resized_crop`] for an image of this size, and its place.
    pub(super) fn resized_crop_target(&self, image: (u32, u32), crop: CropBox) -> (Target, Place) {
        self.region_target(rectangle(image, crop.left, crop.top, crop.width, crop.height))
    }

    /// torchvision's `Resize(scale)`, then the `crop_size` squared at (`left`, `top`) of the
    /// result. `scale` is the shorter side, or with another [`Fit`] the side of the square; a
    /// padded image that is shorter than the crop is centred in it.
    ///
    /// A `scale` below `crop_size` is raised to it, and a position that reaches outside is moved
    /// inside.
    pub fn scaled_crop(&self, image: &RgbImage, scale: u32, left: u64, top: u64) -> RgbImage {
        let (target, place) = self.scaled_crop_target((image.width, image.height), scale, left, top);
        self.padded(resize(image, &target), place)
    }

    fn scaled_crop_target(&self, image: (u32, u32), scale: u32, left: u64, top: u64) -> (Target, Place) {
        let crop = u64::from(self.crop_size);
        let size = self.resized(image, scale.max(self.crop_size));
        let window = |size: u64, start: u64| {
            let start = start.min(size.saturating_sub(crop));
            (start..size.min(start + crop), before(crop, size) as usize)
        };
        let ((columns, left), (rows, top)) = (window(size.0, left), window(size.1, top));
        let region = rectangle(image, 0, 0, image.0, image.1);
        let interpolation = self.interpolation;
        (Target { region, size, columns, rows, interpolation }, (left, top))
    }

    /// The scale jitter of a stream: the scale, then the position.
    pub(super) fn jittered_crop(
        &self,
        image: (u32, u32),
        [least, most]: [u32; 2],
        draws: &mut Draws,
    ) -> (Target, Place) {
        let scale = least + draws.integer(u64::from(most.saturating_sub(least))) as u32;
        let (width, height) = self.resized(image, scale.max(self.crop_size));
        let room = |side: u64| side.saturating_sub(u64::from(self.crop_size));
        let top = draws.integer(room(height));
        let left = draws.integer(room(width));
        self.scaled_crop_target(image, scale, left, top)
    }

    /// The aspect ratios of random rectangles of an image. Those of a squashed or padded image are
    /// relative to its own, so that the whole image is one of them, and crops have the shape of
    /// evaluation.
    pub(super) fn ratios(&self, [least, most]: [f64; 2], (width, height): (u32, u32)) -> [f64; 2] {
        match self.fit {
            Fit::Crop => [least, most],
            Fit::Squash | Fit::Pad => {
                let own = f64::from(width) / f64::from(height);
                [least * own, most * own]
            }
        }
    }
}

impl Draws {
    /// `RandomResizedCrop.get_params`: ten tries, then the largest central rectangle within the
    /// ratios.
    pub(super) fn crop_box(
        &mut self,
        scale: [f64; 2],
        ratio: [f64; 2],
        (width, height): (u32, u32),
    ) -> CropBox {
        let area = f64::from(width) * f64::from(height);
        for _ in 0..10 {
            let target = area * self.uniform(scale[0], scale[1]);
            let aspect = self.uniform(ratio[0].ln(), ratio[1].ln()).exp();
            let crop_width = (target * aspect).sqrt().round_ties_even();
            let crop_height = (target / aspect).sqrt().round_ties_even();
            let fits = |size: f64, whole: u32| (1.0..=f64::from(whole)).contains(&size);
            if fits(crop_width, width) && fits(crop_height, height) {
                let (crop_width, crop_height) = (crop_width as u32, crop_height as u32);
                let top = self.integer(u64::from(height - crop_height)) as u32;
                let left = self.integer(u64::from(width - crop_width)) as u32;
                return CropBox { left, top, width: crop_width, height: crop_height };
            }
        }
        central_box(width, height, ratio[0]..=ratio[1])
    }
}

fn central_box(width: u32, height: u32, ratios: RangeInclusive<f64>) -> CropBox {
    let ratio = f64::from(width) / f64::from(height);
    // The casts saturate, and a side has at least one pixel.
    let (crop_width, crop_height) = if ratio < *ratios.start() {
        (width, (f64::from(width) / ratios.start()).round_ties_even() as u32)
    } else if ratio > *ratios.end() {
        ((f64::from(height) * ratios.end()).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (crop_width, crop_height) = (crop_width.clamp(1, width.max(1)), crop_height.clamp(1, height.max(1)));
    CropBox {
        left: width.saturating_sub(crop_width) / 2,
        top: height.saturating_sub(crop_height) / 2,
        width: crop_width,
        height: crop_height,
    }
}
