//! Several views of an image, whose class probabilities are averaged: ten crops, and several
//! scales.
//!
//! Ten crops are AlexNet's (Krizhevsky, Sutskever and Hinton, NIPS 2012, section 4.1): the four
//! corners, the centre, and the mirror images of these, as torchvision's `TenCrop` cuts them out of
//! the resized image. Several scales are VGG's (Simonyan and Zisserman, ICLR 2015, sections 3.2 and
//! 4.2), whose shorter side Q is resized to several sizes. VGG applies the network densely to all
//! of the resized image. Here it sees crops of its training size, as in that paper's section 4.3,
//! so that a network with a fixed input size can be measured too.

mod scale_plan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::decode::{DecodeLimits, read_targets};
use super::resize::resize;
use super::{ImageAt, Preprocessing, RgbImage};
use crate::error::Result;
use scale_plan::ScalePlan;

/// Number of crops of a resized image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u64")]
pub enum Crops {
    /// The centre.
    #[default]
    One,
    /// The four corners and the centre, and the mirror images of them.
    Ten,
}

impl Crops {
    /// 1 or 10.
    pub fn count(self) -> usize {
        match self {
            Crops::One => 1,
            Crops::Ten => 10,
        }
    }
}

impl From<Crops> for u8 {
    fn from(crops: Crops) -> u8 {
        crops.count() as u8
    }
}

impl TryFrom<u64> for Crops {
    type Error = &'static str;

    fn try_from(count: u64) -> Result<Self, &'static str> {
        match count {
            1 => Ok(Crops::One),
            10 => Ok(Crops::Ten),
            _ => Err("expected 1 (the centre) or 10 (corners, centre and their mirror images)"),
        }
    }
}

impl FromStr for Crops {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // Text that is not a number is rejected like 0, with the same message.
        Crops::try_from(text.parse().unwrap_or(0))
    }
}

/// The views of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Views {
    /// Crops at each scale.
    pub crops: Crops,
    /// The shorter side after resizing, in pixels, or the side of the square that holds a squashed
    /// or padded image; if empty, the preprocessing's ([`Preprocessing::scale`], and `resize_size`
    /// for ten crops).
    pub scales: Vec<u32>,
}

impl Views {
    /// Scales at most: each keeps up to six crops of an image in memory.
    pub const MOST_SCALES: usize = 16;

    /// Number of views of an image.
    pub fn count(&self) -> usize {
        self.crops.count() * self.scales.len().max(1)
    }

    /// The same views with the scales of `preprocessing` filled in.
    pub fn resolved(&self, preprocessing: &Preprocessing) -> Views {
        match self.scales.is_empty() {
            true if self.crops == Crops::One => Views { scales: vec![preprocessing.scale()], ..*self },
            true => Views { scales: vec![preprocessing.resize_size], ..*self },
            false => self.clone(),
        }
    }

    /// Whether this is the single default view of `preprocessing`.
    pub fn is_plain(&self, preprocessing: &Preprocessing) -> bool {
        self.crops == Crops::One && self.resolved(preprocessing).scales == [preprocessing.scale()]
    }

    /// Why `network` with this `preprocessing` cannot have these views, if so.
    pub fn mistake(&self, network: &str, preprocessing: &Preprocessing) -> Option<String> {
        let crop = preprocessing.crop_size;
        let most = Preprocessing::MAX_SIZE;
        if self.scales.len() > Self::MOST_SCALES {
            return Some(format!(
                "expected at most {} scales, found {}",
                Self::MOST_SCALES,
                self.scales.len()
            ));
        }
        if let Some(scale) = self.scales.iter().find(|scale| !(1..=most).contains(*scale)) {
            return Some(format!("expected scales from 1 to {most} pixels, found {scale}"));
        }
        if let Some(scale) = self.scales.iter().min().filter(|scale| **scale < crop) {
            return Some(format!(
                "{network} sees {crop} × {crop} pixels of the resized image, so that a scale is at least {crop}, \
                 and one is {scale}"
            ));
        }
        let twice = |(place, scale): (usize, &u32)| self.scales[..place].contains(scale).then_some(*scale);
        if let Some(scale) = self.scales.iter().enumerate().find_map(twice) {
            return Some(format!("the scale {scale} is given twice, and would count twice"));
        }
        if self.crops == Crops::Ten && self.scales.is_empty() && preprocessing.resize_size < crop {
            return Some(format!(
                "ten crops of {crop} pixels do not fit into an image that {network} wants resized to {}: give \
                 scales from {crop} up",
                preprocessing.resize_size
            ));
        }
        let same = !preprocessing.fit.is_crop() && preprocessing.resize_size == crop;
        if self.crops == Crops::Ten && self.scales.is_empty() && same {
            return Some(format!(
                "ten crops of {crop} pixels are all the same of an image that `fit: {}` makes as large: give scales \
                 above {crop}",
                preprocessing.fit.name()
            ));
        }
        None
    }
}

impl fmt::Display for Views {
    /// `10 crops at 224, 256 and 288 pixels`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.crops == Crops::Ten { "10 crops" } else { "1 crop" })?;
        for (place, scale) in self.scales.iter().enumerate() {
            let before = match place {
                0 => " at ",
                _ if place + 1 == self.scales.len() => " and ",
                _ => ", ",
            };
            write!(f, "{before}{scale}")?;
        }
        if self.scales.is_empty() { Ok(()) } else { f.write_str(" pixels") }
    }
}

/// Pixels of one or two views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// `crop_size` × `crop_size`.
    pub pixels: RgbImage,
    /// Whether the network sees them unmirrored.
    pub upright: bool,
    /// Whether it sees their mirror image.
    pub mirrored: bool,
}

impl Preprocessing {
    /// The views of `image`. Each scale is resized once, and mirrored views are returned
    /// unmirrored, for the caller to mirror: five or six windows make ten crops.
    ///
    /// Byte for byte torchvision's `resize` (or the [`Fit`](super::Fit)'s equivalent, in a square
    /// of the scale), then `center_crop` or `ten_crop`, on a Pillow image, in another order.
    /// Expects `views` without a [`Views::mistake`].
    pub fn windows(&self, views: &Views, image: &RgbImage) -> Vec<Window> {
        let plans = self.scale_plans(views, (image.width, image.height));
        let windows = |plan: ScalePlan| {
            let parts: Vec<RgbImage> = plan.targets.iter().map(|target| resize(image, target)).collect();
            plan.windows(&parts)
        };
        plans.into_iter().flat_map(windows).collect()
    }

    /// The plan of the views of an image of this size, scale by scale.
    fn scale_plans(&self, views: &Views, image: (u32, u32)) -> Vec<ScalePlan> {
        let plan = |scale| {
            let frame = self.frame(image, scale);
            let crop = u64::from(self.crop_size);
            // Too small only for an image without pixels, or for views with a mistake.
            match views.crops == Crops::One || frame.0 < crop || frame.1 < crop {
                true => ScalePlan::centre(self.clone(), image, scale),
                false => ScalePlan::ten_crop(self.clone(), image, scale),
            }
        };
        views.resolved(self).scales.into_iter().map(plan).collect()
    }
}

/// Source of an image.
pub enum Picture<'a> {
    /// From memory.
    Pixels(RgbImage),
    /// From storage, decoding no more than needed.
    Stored(ImageAt<'a>, DecodeLimits),
}

impl Picture<'_> {
    /// [`Preprocessing::windows`] for each of `presets`.
    ///
    /// # Errors
    /// Those of [`decode_file`](super::decode_file).
    pub fn windows(&self, presets: &[&Preprocessing], views: &Views) -> Result<Vec<Vec<Window>>> {
        let (image, limits) = match self {
            Picture::Pixels(image) => {
                return Ok(presets.iter().map(|preset| preset.windows(views, image)).collect());
            }
            Picture::Stored(image, limits) => (image, limits),
        };
        let Some(first) = presets.first() else { return Ok(Vec::new()) };
        if presets.iter().any(|preset| preset.white_level != first.white_level) {
            // Each needs different pixels.
            let alone = |preset: &&Preprocessing| Ok(self.windows(&[preset], views)?.remove(0));
            return presets.iter().map(alone).collect();
        }
        let mut plans = Vec::new();
        let parts = read_targets(*image, limits.of(first), |width, height| {
            plans = presets.iter().map(|preset| preset.scale_plans(views, (width, height))).collect();
            plans.iter().flatten().flat_map(|plan: &ScalePlan| plan.targets.iter().cloned()).collect()
        })?;
        let mut rest = &parts[..];
        let mut windows = |plan: ScalePlan| {
            let (own, others) = rest.split_at(plan.targets.len().min(rest.len()));
            rest = others;
            plan.windows(own)
        };
        Ok(plans.into_iter().map(|plans| plans.into_iter().flat_map(&mut windows).collect()).collect())
    }
}
