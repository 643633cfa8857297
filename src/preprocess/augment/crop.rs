//! What part of an image training sees: torchvision's `RandomResizedCrop`, or `Resize` to a random size and
//! `RandomCrop`, which is VGG's scale jitter (Simonyan and Zisserman 2015, section 3.1).

use std::ops::RangeInclusive;

use super::draws::Draws;
use super::{Augmentation, Preprocessing, RgbImage};
use crate::preprocess::resize::{Target, rectangle, resize};
use crate::preprocess::resized_size;

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
    /// torchvision's `resized_crop`: cut `crop` out of `image`, then resize it to `crop_size` squared.
    ///
    /// The filter does not look beyond the rectangle. A rectangle that reaches outside the image is cut
    /// at its edges.
    pub fn resized_crop(&self, image: &RgbImage, crop: CropBox) -> RgbImage {
        resize(image, &self.resized_crop_target((image.width, image.height), crop))
    }

    /// What [`Preprocessing::resized_crop`] makes of an image of so many columns and rows.
    pub(super) fn resized_crop_target(&self, image: (u32, u32), crop: CropBox) -> Target {
        let size = u64::from(self.crop_size);
        Target {
            region: rectangle(image, crop.left, crop.top, crop.width, crop.height),
            size: (size, size),
            columns: 0..size,
            rows: 0..size,
            interpolation: self.interpolation,
        }
    }

    /// torchvision's `Resize(shorter)`, then the `crop_size` squared at (`left`, `top`) of what that gives.
    ///
    /// A `shorter` below `crop_size` is raised to it, and a place that reaches outside is moved inside.
    pub fn scaled_crop(&self, image: &RgbImage, shorter: u32, left: u64, top: u64) -> RgbImage {
        resize(image, &self.scaled_crop_target((image.width, image.height), shorter, left, top))
    }

    fn scaled_crop_target(&self, image: (u32, u32), shorter: u32, left: u64, top: u64) -> Target {
        let size = u64::from(self.crop_size);
        let (width, height) = resized_size(shorter.max(self.crop_size), image.0, image.1);
        let (left, top) = (left.min(width.saturating_sub(size)), top.min(height.saturating_sub(size)));
        Target {
            region: rectangle(image, 0, 0, image.0, image.1),
            size: (width, height),
            columns: left..left + size,
            rows: top..top + size,
            interpolation: self.interpolation,
        }
    }

    /// The scale jitter of a stream: the shorter side, then the place.
    pub(super) fn jittered_crop(
        &self,
        image: (u32, u32),
        [least, most]: [u32; 2],
        draws: &mut Draws,
    ) -> Target {
        let shorter = least + draws.integer(u64::from(most.saturating_sub(least))) as u32;
        let (width, height) = resized_size(shorter.max(self.crop_size), image.0, image.1);
        let room = |side: u64| side.saturating_sub(u64::from(self.crop_size));
        let top = draws.integer(room(height));
        let left = draws.integer(room(width));
        self.scaled_crop_target(image, shorter, left, top)
    }
}

impl Draws {
    /// `RandomResizedCrop.get_params`: ten tries, then the largest central rectangle within the ratios.
    pub(super) fn crop_box(&mut self, augmentation: &Augmentation, width: u32, height: u32) -> CropBox {
        let Augmentation { scale, ratio, .. } = augmentation;
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
    // The casts saturate, and a side is at least one pixel.
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
