//! Training augmentation, each change as in torchvision or the paper.
//!
//! In this order: a random part of the image ([`Augmentation::random_resized_crop`] or
//! [`Augmentation::scale_jitter`], else the crop of evaluation), flips, a [`Policy`],
//! [`ColorJitter`], and AlexNet's colour shift. Given the draws, the bytes are torchvision's.
//!
//! Draws are a function of the run's seed, the epoch and the image. So neither the number of
//! threads nor the order of decoding can change them, and a resumed run draws the same as an
//! uninterrupted one.

mod affine;
mod color;
mod crop;
mod draws;
mod operation;
mod pca;
mod policy;
mod tables;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::decode::{DecodeLimits, read_targets};
use super::fit::Place;
use super::resize::{Target, resize};
use super::{ImageAt, Input, Preprocessing, RgbImage};
use crate::error::Result;
use draws::{Draws, Purpose};

pub use color::ColorJitter;
pub use crop::CropBox;
pub use policy::Policy;

/// Random changes to training images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Crop a random rectangle and resize it to the crop size; otherwise, and without
    /// `scale_jitter`, the image is resized and centre-cropped as in evaluation.
    pub random_resized_crop: bool,
    /// The rectangle's share of the image's area: minimum and maximum.
    pub scale: [f64; 2],
    /// The rectangle's width over its height: minimum and maximum.
    pub ratio: [f64; 2],
    /// Instead of `random_resized_crop`: resize the shorter side to a random number of pixels in
    /// this range, then take a random square crop of the crop size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_jitter: Option<[u32; 2]>,
    /// The probability of a horizontal flip.
    pub flip: f64,
    /// The probability of a vertical flip.
    #[serde(skip_serializing_if = "is_zero")]
    pub vertical_flip: f64,
    /// Random operations on the crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Random brightness, contrast, saturation and hue.
    #[serde(skip_serializing_if = "ColorJitter::is_none")]
    pub color_jitter: ColorJitter,
    /// The standard deviation of AlexNet's colour shift; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub pca_color: f64,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Default for Augmentation {
    /// torchvision's defaults of a random crop and a horizontal flip.
    fn default() -> Self {
        Augmentation {
            random_resized_crop: true,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            scale_jitter: None,
            flip: 0.5,
            vertical_flip: 0.0,
            policy: None,
            color_jitter: ColorJitter::default(),
            pca_color: 0.0,
        }
    }
}

impl Augmentation {
    /// Nothing random: training sees the same pixels as evaluation.
    pub fn none() -> Self {
        Augmentation { random_resized_crop: false, flip: 0.0, ..Augmentation::default() }
    }

    /// Whether the pixels are the same in every epoch.
    pub fn is_none(&self) -> bool {
        // Every field is named, so that a new one cannot be forgotten here.
        let Augmentation {
            random_resized_crop,
            scale: _,
            ratio: _,
            scale_jitter,
            flip,
            vertical_flip,
            policy,
            color_jitter,
            pca_color,
        } = self;
        !random_resized_crop
            && scale_jitter.is_none()
            && policy.is_none()
            && color_jitter.is_none()
            && [flip, vertical_flip, pca_color].into_iter().all(is_zero)
    }

    /// Invalid settings for crops of `crop_size` pixels: a message each, `scale: …`.
    pub fn mistakes(&self, crop_size: u32) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut range = |key: &str, [low, high]: [f64; 2], most: f64, meaning: &str| {
            if !(low > 0.0 && low <= high && high <= most) {
                mistakes.push(format!("{key}: expected [least, greatest] {meaning}, found [{low}, {high}]"));
            }
        };
        range("scale", self.scale, 1.0, "above 0 and at most 1");
        range("ratio", self.ratio, 1e6, "above 0");
        for (key, probability) in [("flip", self.flip), ("vertical_flip", self.vertical_flip)] {
            if !(0.0..=1.0).contains(&probability) {
                mistakes.push(format!("{key}: expected a probability from 0 to 1, found {probability}"));
            }
        }
        if let Some([least, most]) = self.scale_jitter {
            if least < crop_size || most < least || most > Preprocessing::MAX_SIZE {
                mistakes.push(format!(
                    "scale_jitter: expected [least, greatest] from the crop size, {crop_size} pixels, to {}, found \
                     [{least}, {most}]",
                    Preprocessing::MAX_SIZE
                ));
            }
            if self.random_resized_crop {
                mistakes.push(
                    "scale_jitter: is another way to choose a part of the image than `random_resized_crop`: keep one \
                     of the two"
                        .into(),
                );
            }
        }
        mistakes.extend(self.policy.and_then(|policy| policy.mistake()));
        mistakes.extend(self.color_jitter.mistakes());
        if !(self.pca_color.is_finite() && self.pca_color >= 0.0) {
            mistakes.push(format!("pca_color: expected a number from 0 up, found {}", self.pca_color));
        }
        mistakes
    }
}

/// Key of every random draw for one image in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DrawKey {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The image's index in the training set.
    pub image: u64,
}

impl Preprocessing {
    /// `image` as training's input: [`Preprocessing::train_pixels`], and a colour shift.
    pub fn train_input(&self, augmentation: &Augmentation, image: &RgbImage, key: DrawKey) -> Input {
        self.shifted(augmentation, self.train_pixels(augmentation, image, key), key)
    }

    /// The same of a stored image, decoding no more than needed.
    ///
    /// # Errors
    /// Those of [`decode_file`](super::decode_file).
    pub fn read_train<'a>(
        &self,
        augmentation: &Augmentation,
        image: impl Into<ImageAt<'a>>,
        limits: DecodeLimits,
        key: DrawKey,
    ) -> Result<Input> {
        let mut place = (0, 0);
        let parts = read_targets(image.into(), limits.of(self), |width, height| {
            let (target, its_place) = self.train_target(augmentation, (width, height), key);
            place = its_place;
            vec![target]
        })?;
        let pixels = parts.into_iter().next().unwrap_or(RgbImage::black(0, 0));
        Ok(self.shifted(augmentation, self.varied(augmentation, self.padded(pixels, place), key), key))
    }

    fn shifted(&self, augmentation: &Augmentation, pixels: RgbImage, key: DrawKey) -> Input {
        let shift = match augmentation.pca_color {
            0.0 => [0.0; 3],
            sigma => pca::draw(sigma, &mut Draws::new(key, Purpose::PcaColor)),
        };
        Input { pixels, shift }
    }

    /// The pixels of `image` for training: `crop_size` × `crop_size`, drawn by `key`.
    pub fn train_pixels(&self, augmentation: &Augmentation, image: &RgbImage, key: DrawKey) -> RgbImage {
        let (target, place) = self.train_target(augmentation, (image.width, image.height), key);
        self.varied(augmentation, self.padded(resize(image, &target), place), key)
    }

    /// The training target for an image of this size, and its place in the crop.
    fn train_target(&self, augmentation: &Augmentation, image: (u32, u32), key: DrawKey) -> (Target, Place) {
        let mut draws = Draws::new(key, Purpose::Crop);
        // The flip's draw comes first.
        draws.unit();
        if let Some(range) = augmentation.scale_jitter {
            self.jittered_crop(image, range, &mut draws)
        } else if augmentation.random_resized_crop {
            let ratio = self.ratios(augmentation.ratio, image);
            let crop = draws.crop_box(augmentation.scale, ratio, image);
            self.resized_crop_target(image, crop)
        } else {
            self.fit_target(image, self.scale())
        }
    }

    /// Applies everything after the crop that changes pixels.
    fn varied(&self, augmentation: &Augmentation, mut pixels: RgbImage, key: DrawKey) -> RgbImage {
        let flip = Draws::new(key, Purpose::Crop).unit() < augmentation.flip;
        if flip {
            pixels.flip_horizontally();
        }
        if Draws::new(key, Purpose::VerticalFlip).unit() < augmentation.vertical_flip {
            pixels.flip_vertically();
        }
        if let Some(policy) = &augmentation.policy {
            policy.apply(&mut pixels, &mut Draws::new(key, Purpose::Policy));
        }
        if !augmentation.color_jitter.is_none() {
            augmentation.color_jitter.apply(&mut pixels, &mut Draws::new(key, Purpose::ColorJitter));
        }
        pixels
    }
}

/// The rectangle that `key` draws from a `width` × `height` image, as used by
/// [`Preprocessing::train_pixels`].
#[cfg(test)]
pub(super) fn draw_crop_box(augmentation: &Augmentation, width: u32, height: u32, key: DrawKey) -> CropBox {
    let mut draws = Draws::new(key, Purpose::Crop);
    draws.unit();
    draws.crop_box(augmentation.scale, augmentation.ratio, (width, height))
}
