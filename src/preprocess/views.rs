//! Several views of an image, whose class probabilities are averaged: ten crops, and several
//! scales.
//!
//! Ten crops are AlexNet's (Krizhevsky, Sutskever and Hinton, NIPS 2012, section 4.1): the four
//! corners, the centre, and the mirror images of these, as torchvision's `TenCrop` cuts them out of
//! the resized image. Several scales are VGG's (Simonyan and Zisserman, ICLR 2015, sections 3.2 and
//! 4.2), whose shorter side Q is resized to several sizes. VGG applies the network densely to all
//! of the resized image. Here it sees crops of its training size, as in that paper's section 4.3,
//! so that a network with a fixed input size can be measured too.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::decode::{DecodeLimits, read_targets};
use super::fit::{Place, before};
use super::resize::{Target, rectangle, resize};
use super::{ImageAt, Preprocessing, RgbImage, central_window};
use crate::error::Result;

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

/// The targets to resize at one scale, and the crops to cut out of them.
struct ScalePlan {
    preprocessing: Preprocessing,
    targets: Vec<Target>,
    crops: Vec<Crop>,
}

/// A crop: the part that contains it, and its upper left corner there.
struct Crop {
    part: usize,
    left: u32,
    top: u32,
    /// Margins before it, where the image ends.
    place: Place,
    upright: bool,
    mirrored: bool,
}

impl ScalePlan {
    fn centre(preprocessing: Preprocessing, image: (u32, u32), scale: u32) -> Self {
        let (target, place) = preprocessing.fit_target(image, scale);
        let crops = vec![Crop { part: 0, left: 0, top: 0, place, upright: true, mirrored: false }];
        ScalePlan { preprocessing, targets: vec![target], crops }
    }

    /// The corners and the centre of an image that is resized to `scale`.
    fn ten_crop(preprocessing: Preprocessing, image: (u32, u32), scale: u32) -> Self {
        let size = preprocessing.resized(image, scale);
        let frame = preprocessing.frame(image, scale);
        let [columns, rows] = [frame.0, frame.1].map(|size| Axis::new(size, preprocessing.crop_size));
        let corners = [0, rows.last].into_iter().flat_map(|top| [(0, top), (columns.last, top)]);
        let mut wanted: Vec<(u64, u64, bool, bool)> =
            corners.map(|(left, top)| (left, top, true, true)).collect();
        // The mirrored image's central crop is the mirrored central crop, unless an odd number of
        // columns is left out: then the same half is rounded from the other side.
        let there_and_back = columns.centre == columns.mirrored;
        wanted.push((columns.centre, rows.centre, true, there_and_back));
        if !there_and_back {
            wanted.push((columns.mirrored, rows.centre, false, true));
        }
        let target = |columns: Range<u64>, rows: Range<u64>| Target {
            region: rectangle(image, 0, 0, image.0, image.1),
            size,
            columns,
            rows,
            interpolation: preprocessing.interpolation,
        };
        if frame != size {
            // Margins take no more memory than the crops: the image is one part.
            let (first, length) = ((before(frame.0, size.0), before(frame.1, size.1)), size);
            let inside = |(left, top, upright, mirrored): (u64, u64, bool, bool)| Crop {
                part: 0,
                left: left.saturating_sub(first.0) as u32,
                top: top.saturating_sub(first.1) as u32,
                place: (first.0.saturating_sub(left) as usize, first.1.saturating_sub(top) as usize),
                upright,
                mirrored,
            };
            let targets = vec![target(0..length.0, 0..length.1)];
            return ScalePlan { targets, crops: wanted.into_iter().map(inside).collect(), preprocessing };
        }
        let mut parts: Vec<(usize, usize)> = Vec::new();
        let mut crops = Vec::new();
        for (left, top, upright, mirrored) in wanted {
            let ((column, left), (row, top)) = (columns.part(left), rows.part(top));
            let part = parts.iter().position(|part| *part == (column, row)).unwrap_or_else(|| {
                parts.push((column, row));
                parts.len() - 1
            });
            crops.push(Crop { part, left, top, place: (0, 0), upright, mirrored });
        }
        let part =
            |(column, row): (usize, usize)| target(columns.parts[column].clone(), rows.parts[row].clone());
        let targets = parts.into_iter().map(part).collect();
        ScalePlan { preprocessing, targets, crops }
    }

    /// The crops of the resized targets.
    fn windows(&self, parts: &[RgbImage]) -> Vec<Window> {
        let side = self.preprocessing.crop_size;
        let window = |crop: &Crop| {
            let part = parts.get(crop.part)?;
            let room = |place: usize| side.saturating_sub(place as u32);
            let width = room(crop.place.0).min(part.width.saturating_sub(crop.left));
            let height = room(crop.place.1).min(part.height.saturating_sub(crop.top));
            let (stride, left, length) =
                (part.width as usize * 3, crop.left as usize * 3, width as usize * 3);
            let rows = (crop.top as usize..).take(height as usize);
            // A crop of margins only starts behind the image.
            let rows = rows.filter(|_| length > 0);
            let data = rows.flat_map(|y| &part.data[y * stride + left..][..length]).copied().collect();
            let pixels = self.preprocessing.padded(RgbImage { width, height, data }, crop.place);
            Some(Window { pixels, upright: crop.upright, mirrored: crop.mirrored })
        };
        self.crops.iter().filter_map(window).collect()
    }
}

/// Positions of crops along one axis of the resized image.
#[derive(Clone)]
struct Axis {
    crop: u64,
    /// The start of the central crop.
    centre: u64,
    /// The start of the mirrored image's central crop.
    mirrored: u64,
    /// The start of the crop at the end.
    last: u64,
    /// The parts to resize: the whole axis, or start, middle and end of a strip that may be too
    /// long for any memory.
    parts: Vec<Range<u64>>,
}

impl Axis {
    /// `size` is at least `crop`.
    fn new(size: u64, crop: u32) -> Self {
        let centre = central_window(size, crop).0.start;
        let crop = u64::from(crop);
        let last = size - crop;
        let mirrored = last - centre;
        let parts = match size <= 3 * crop {
            true => std::iter::once(0..size).collect(),
            false => vec![0..crop, centre.min(mirrored)..centre.max(mirrored) + crop, last..size],
        };
        Axis { crop, centre, mirrored, last, parts }
    }

    /// The part that contains the crop at `start`, and the crop's offset in it.
    fn part(&self, start: u64) -> (usize, u32) {
        let holds = |part: &Range<u64>| part.start <= start && start + self.crop <= part.end;
        let part = self.parts.iter().position(holds).unwrap_or(0);
        (part, start.saturating_sub(self.parts[part].start) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Interpolation;

    fn preset(resize_size: u32, crop_size: u32) -> Preprocessing {
        let preset = crate::preprocess::tests::preset(resize_size, crop_size, Interpolation::Bilinear);
        Preprocessing { mean: [0.; 3], std: [1.; 3], ..preset }
    }

    /// An image whose pixels encode their positions.
    fn grid(width: u32, height: u32) -> RgbImage {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| [x as u8, y as u8, 7]));
        RgbImage { width, height, data: pixels.flatten().collect() }
    }

    /// Columns and rows of the upper left corner of each view; those of a mirrored one, negative,
    /// count from the right.
    fn corners(windows: &[Window]) -> Vec<(i32, i32)> {
        let mut seen = Vec::new();
        for Window { pixels, upright, mirrored } in windows {
            let left = i32::from(pixels.data[0]);
            let top = i32::from(pixels.data[1]);
            let right = i32::from(pixels.data[pixels.width as usize * 3 - 3]);
            seen.extend(upright.then_some((left, top)));
            seen.extend(mirrored.then_some((-right, top)));
        }
        seen.sort();
        seen
    }

    #[test]
    fn ten_crops_of_a_known_image() {
        let views = Views { crops: Crops::Ten, scales: vec![] };
        // Nothing is resized: the shorter side is 4 already.
        let windows = preset(4, 2).windows(&views, &grid(4, 4));
        assert_eq!(windows.len(), 5);
        assert!(windows.iter().all(|window| window.pixels.width == 2 && window.pixels.height == 2));
        let mirrored = [(-3, 0), (-3, 2), (-2, 1), (-1, 0), (-1, 2)];
        let upright = [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)];
        assert_eq!(corners(&windows), [mirrored, upright].concat());
        // An odd rest: torchvision's centre starts at round(1.5) = 2 of 7 - 4 columns, in the
        // mirrored image too, whose column 2 was column 4, so that the window there starts at
        // column 1.
        let windows = preset(5, 4).windows(&views, &grid(7, 5));
        assert_eq!(windows.len(), 6);
        let mirrored = [(-6, 0), (-6, 1), (-4, 0), (-3, 0), (-3, 1)];
        let upright = [(0, 0), (0, 1), (2, 0), (3, 0), (3, 1)];
        assert_eq!(corners(&windows), [mirrored, upright].concat());
    }

    #[test]
    fn a_strip_that_would_not_fit_into_memory_has_ten_crops_too() {
        // A million times 32 columns, if all of them were computed.
        let views = Views { crops: Crops::Ten, scales: vec![] };
        for (width, height) in [(1_000_000, 1), (1, 1_000_000)] {
            let windows = preset(4096, 8).windows(&views, &grid(width, height));
            assert!((5..=6).contains(&windows.len()));
            assert!(windows.iter().all(|window| window.pixels.data.len() == 8 * 8 * 3));
        }
        // In parts or as a whole, the pixels are the same.
        let image = grid(97, 20);
        let parts = preset(25, 8).windows(&views, &image);
        let (width, height) = crate::preprocess::resized_size(25, 97, 20);
        assert_eq!(Axis::new(width, 8).parts.len(), 3);
        let target = Target {
            region: rectangle((97, 20), 0, 0, 97, 20),
            size: (width, height),
            columns: 0..width,
            rows: 0..height,
            interpolation: Interpolation::Bilinear,
        };
        let whole = resize(&image, &target);
        let cut = preset(25, 8).windows(&views, &whole);
        assert_eq!(parts, cut);
    }

    #[test]
    fn a_scale_is_the_preset_with_another_size() {
        let image = grid(90, 60);
        let views = Views { crops: Crops::One, scales: vec![32, 48] };
        let seen: Vec<RgbImage> =
            preset(40, 32).windows(&views, &image).into_iter().map(|window| window.pixels).collect();
        assert_eq!(seen, [preset(32, 32).eval_pixels(&image), preset(48, 32).eval_pixels(&image)]);
        let plain = preset(40, 32).windows(&Views::default(), &image);
        assert_eq!(plain[0].pixels, preset(40, 32).eval_pixels(&image));
        assert!(plain.len() == 1 && plain[0].upright && !plain[0].mirrored);
    }

    #[test]
    fn views_that_cannot_be_are_explained() {
        let mistake = |crops, scales: &[u32], preset: Preprocessing| {
            Views { crops, scales: scales.to_vec() }.mistake("net", &preset).unwrap_or_default()
        };
        let preset = |resize| preset(resize, 32);
        assert_eq!(mistake(Crops::Ten, &[32, 4096], preset(40)), "");
        assert_eq!(mistake(Crops::Ten, &[], preset(32)), "");
        assert_eq!(mistake(Crops::One, &[], preset(20)), "", "what the preset says is padded with black");
        assert!(mistake(Crops::One, &[40, 31], preset(40)).contains("a scale is at least 32, and one is 31"));
        assert!(mistake(Crops::One, &[40, 50, 40], preset(40)).contains("the scale 40 is given twice"));
        assert!(mistake(Crops::One, &[5000], preset(40)).contains("from 1 to 4096 pixels, found 5000"));
        assert!(mistake(Crops::One, &[0], preset(40)).contains("found 0"));
        let many: Vec<u32> = (100..117).collect();
        assert!(mistake(Crops::One, &many, preset(40)).contains("at most 16 scales, found 17"));
        assert!(mistake(Crops::Ten, &[], preset(20)).contains("give scales from 32 up"));
    }

    #[test]
    fn views_are_counted_and_named() {
        let views = |crops, scales: &[u32]| Views { crops, scales: scales.to_vec() };
        assert_eq!(views(Crops::Ten, &[1, 2, 3]).count(), 30);
        assert_eq!(Views::default().count(), 1);
        assert_eq!(views(Crops::Ten, &[224, 256, 288]).to_string(), "10 crops at 224, 256 and 288 pixels");
        assert_eq!(views(Crops::One, &[224]).to_string(), "1 crop at 224 pixels");
        assert!(views(Crops::One, &[40]).is_plain(&preset(40, 32)));
        assert!(!views(Crops::One, &[41]).is_plain(&preset(40, 32)));
        assert!(!views(Crops::Ten, &[]).is_plain(&preset(40, 32)));
        assert_eq!("10".parse(), Ok(Crops::Ten));
        assert!("5".parse::<Crops>().is_err() && "ten".parse::<Crops>().is_err());
    }
}
