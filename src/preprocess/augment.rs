//! Training's random pixels: torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`.
//!
//! What is drawn is a function of the run's seed, the epoch and the image, so neither the number of
//! threads nor the order in which images are decoded can change it, and a resumed run draws what the
//! undisturbed run would have drawn.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::resize::{View, resize};
use super::{Preprocessing, RgbImage};

/// What training does to an image at random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Cut out a random rectangle and resize it to the crop size; otherwise the image is resized and
    /// centre-cropped as in evaluation.
    pub random_resized_crop: bool,
    /// The rectangle's share of the image's area: the least and the greatest.
    pub scale: [f64; 2],
    /// The rectangle's width over its height: the least and the greatest.
    pub ratio: [f64; 2],
    /// The probability of a horizontal flip.
    pub flip: f64,
}

impl Default for Augmentation {
    /// torchvision's defaults.
    fn default() -> Self {
        Augmentation {
            random_resized_crop: true,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
        }
    }
}

impl Augmentation {
    /// Nothing at random: training sees what evaluation sees.
    pub fn none() -> Self {
        Augmentation { random_resized_crop: false, flip: 0.0, ..Augmentation::default() }
    }

    /// Whether the pixels are the same in every epoch.
    pub fn is_none(&self) -> bool {
        !self.random_resized_crop && self.flip == 0.0
    }

    /// What is wrong with the numbers, a message each: `scale: …`.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut range = |key: &str, [low, high]: [f64; 2], most: f64, meaning: &str| {
            if !(low > 0.0 && low <= high && high <= most) {
                mistakes.push(format!("{key}: expected [least, greatest] {meaning}, found [{low}, {high}]"));
            }
        };
        range("scale", self.scale, 1.0, "above 0 and at most 1");
        range("ratio", self.ratio, 1e6, "above 0");
        if !(0.0..=1.0).contains(&self.flip) {
            mistakes.push(format!("flip: expected a probability from 0 to 1, found {}", self.flip));
        }
        mistakes
    }
}

/// What decides every random draw for one image in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DrawKey {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The image's index in the training set.
    pub image: u64,
}

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
    /// The pixels of `image` for training: `crop_size` × `crop_size`, drawn by `key`.
    pub fn train_pixels(&self, augmentation: &Augmentation, image: &RgbImage, key: DrawKey) -> RgbImage {
        let mut draws = Draws::new(key);
        let flip = draws.unit() < augmentation.flip;
        let mut pixels = if augmentation.random_resized_crop {
            let crop = draws.crop_box(augmentation, image.width, image.height);
            self.resized_crop(image, crop)
        } else {
            self.eval_pixels(image)
        };
        if flip {
            pixels.flip_horizontally();
        }
        pixels
    }

    /// torchvision's `resized_crop`: cut `crop` out of `image`, then resize it to `crop_size` squared.
    ///
    /// The filter does not look beyond the rectangle. A rectangle that reaches outside the image is cut
    /// at its edges.
    pub fn resized_crop(&self, image: &RgbImage, crop: CropBox) -> RgbImage {
        let size = u64::from(self.crop_size);
        let view = View::rectangle(image, crop.left, crop.top, crop.width, crop.height);
        resize(view, (size, size), self.interpolation, 0..size, 0..size)
    }
}

/// The rectangle that `key` draws from a `width` × `height` image; what [`Preprocessing::train_pixels`] uses.
#[cfg(test)]
pub(super) fn draw_crop_box(augmentation: &Augmentation, width: u32, height: u32, key: DrawKey) -> CropBox {
    let mut draws = Draws::new(key);
    draws.unit();
    draws.crop_box(augmentation, width, height)
}

/// The random numbers of one image in one epoch.
struct Draws(ChaCha8Rng);

impl Draws {
    /// The key is the cipher's key as it is: streams of different keys are independent.
    fn new(key: DrawKey) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&key.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&key.epoch.to_le_bytes());
        seed[16..24].copy_from_slice(&key.image.to_le_bytes());
        seed[24..].copy_from_slice(b"augment\0");
        Draws(ChaCha8Rng::from_seed(seed))
    }

    /// Uniform in [0, 1), with 53 bits.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..=most. The bias of the multiplication is below 2^-32.
    fn integer(&mut self, most: u32) -> u32 {
        ((u128::from(self.0.next_u64()) * (u128::from(most) + 1)) >> 64) as u32
    }

    /// `RandomResizedCrop.get_params`: ten tries, then the largest central rectangle within the ratios.
    fn crop_box(&mut self, augmentation: &Augmentation, width: u32, height: u32) -> CropBox {
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
                let top = self.integer(height - crop_height);
                let left = self.integer(width - crop_width);
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
