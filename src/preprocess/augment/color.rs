//! Colours: Pillow's `ImageEnhance` and torchvision's `adjust_hue` on a Pillow image, byte for
//! byte, and torchvision's `ColorJitter` made of them.
//!
//! Facts of Pillow: `Image.blend` (`src/libImaging/Blend.c`) computes in single precision and
//! truncates; grey is `(19595 r + 38470 g + 7471 b + 32768) >> 16`, and HSV
//! (`src/libImaging/Convert.c`) mixes single and double precision as C does.

use serde::{Deserialize, Serialize};

use super::RgbImage;
use super::draws::Draws;

/// torchvision's `ColorJitter`: the strength of each change. 0 leaves a property alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// The factor is uniform in [max(0, 1 - `brightness`), 1 + `brightness`].
    pub brightness: f64,
    /// As for brightness.
    pub contrast: f64,
    /// As for brightness.
    pub saturation: f64,
    /// The shift is uniform in ±`hue` turns of the colour circle; at most 0.5.
    pub hue: f64,
}

impl ColorJitter {
    /// Whether it changes nothing.
    pub fn is_none(&self) -> bool {
        *self == ColorJitter::default()
    }

    /// Invalid settings, a message each.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let amounts =
            [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)];
        let mut mistakes = Vec::new();
        for (key, amount) in amounts {
            if !(amount.is_finite() && amount >= 0.0) {
                mistakes.push(format!("color_jitter.{key}: expected a number from 0 up, found {amount}"));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            mistakes.push(format!("color_jitter.hue: expected a number from 0 to 0.5, found {}", self.hue));
        }
        mistakes
    }

    /// Changes `image` in a random order by random factors.
    pub(super) fn apply(&self, image: &mut RgbImage, draws: &mut Draws) {
        for change in self.draw(draws) {
            match change {
                Change::Brightness(factor) => brightness(image, factor),
                Change::Contrast(factor) => contrast(image, factor),
                Change::Saturation(factor) => saturation(image, factor),
                Change::Hue(turns) => hue(image, turns),
            }
        }
    }

    /// `ColorJitter.get_params`. All numbers are always drawn, so that enabling one property does
    /// not change the others.
    pub(super) fn draw(&self, draws: &mut Draws) -> Vec<Change> {
        let mut order = [0, 1, 2, 3];
        for last in (1..4usize).rev() {
            order.swap(last, draws.integer(last as u64) as usize);
        }
        let mut factor = |amount: f64| draws.uniform((1.0 - amount).max(0.0), 1.0 + amount);
        let factors = [self.brightness, self.contrast, self.saturation].map(&mut factor);
        let turns = draws.uniform(-self.hue, self.hue);
        let changes = [
            (self.brightness, Change::Brightness(factors[0])),
            (self.contrast, Change::Contrast(factors[1])),
            (self.saturation, Change::Saturation(factors[2])),
            (self.hue, Change::Hue(turns)),
        ];
        order.into_iter().map(|at| changes[at]).filter(|(amount, _)| *amount > 0.0).map(|(_, c)| c).collect()
    }
}

/// One change with its factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    Brightness(f64),
    Contrast(f64),
    Saturation(f64),
    Hue(f64),
}

/// `ImageEnhance.Brightness(image).enhance(factor)`.
pub(super) fn brightness(image: &mut RgbImage, factor: f64) {
    let table: [u8; 256] = std::array::from_fn(|value| blend(0, value as u8, factor));
    image.data.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// `ImageEnhance.Contrast(image).enhance(factor)`.
pub(super) fn contrast(image: &mut RgbImage, factor: f64) {
    let pixels = (image.data.len() / 3).max(1);
    let sum: u64 = image.data.chunks_exact(3).map(|pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / pixels as f64 + 0.5) as u8;
    let table: [u8; 256] = std::array::from_fn(|value| blend(mean, value as u8, factor));
    image.data.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// `ImageEnhance.Color(image).enhance(factor)`.
pub(super) fn saturation(image: &mut RgbImage, factor: f64) {
    for pixel in image.data.chunks_exact_mut(3) {
        let grey = grey(pixel);
        pixel.iter_mut().for_each(|value| *value = blend(grey, *value, factor));
    }
}

/// `ImageEnhance.Sharpness(image).enhance(factor)`.
pub(super) fn sharpness(image: &mut RgbImage, factor: f64) {
    let smooth = smoothed(image);
    for (value, smooth) in image.data.iter_mut().zip(smooth.data) {
        *value = blend(smooth, *value, factor);
    }
}

/// `Image.blend`: `from` at a factor of 0, `to` at 1, extrapolated outside.
fn blend(from: u8, to: u8, factor: f64) -> u8 {
    // The cast truncates and saturates, as Pillow does by comparing.
    (f32::from(from) + factor as f32 * (f32::from(to) - f32::from(from))) as u8
}

/// `convert("L")` of one pixel.
fn grey(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// `filter(ImageFilter.SMOOTH)`: `src/libImaging/Filter.c` in single precision, row below first.
/// The outermost pixels are unchanged.
fn smoothed(image: &RgbImage) -> RgbImage {
    let mut out = image.clone();
    let (width, height) = (image.width as usize, image.height as usize);
    if width < 3 || height < 3 {
        return out;
    }
    const AROUND: f32 = 1.0 / 13.0;
    const CENTRE: f32 = 5.0 / 13.0;
    let stride = width * 3;
    let three = |at: usize, middle: f32| {
        let value = |at: usize| f32::from(image.data[at]);
        value(at - 3) * AROUND + value(at) * middle + value(at + 3) * AROUND
    };
    for y in 1..height - 1 {
        for at in y * stride + 3..(y + 1) * stride - 3 {
            let mut sum = 0.5;
            sum += three(at + stride, AROUND);
            sum += three(at, CENTRE);
            sum += three(at - stride, AROUND);
            out.data[at] = sum as u8;
        }
    }
    out
}

/// torchvision's `adjust_hue`: the hue of Pillow's HSV, a byte, shifted by `turns` × 255,
/// truncated.
pub(super) fn hue(image: &mut RgbImage, turns: f64) {
    let shift = (turns * 255.0) as i32 as u8;
    for pixel in image.data.chunks_exact_mut(3) {
        let [hue, saturation, value] = to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&to_rgb([hue.wrapping_add(shift), saturation, value]));
    }
}

/// `rgb2hsv_row`.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [rc, gc, bc] = [r, g, b].map(|channel| f32::from(most - channel) / range);
    let hue = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    let byte = |number: f32| (f64::from(number) * 255.0) as u8;
    [byte(hue), byte(saturation), most]
}

/// `hsv2rgb`.
fn to_rgb([hue, saturation, v]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [v; 3];
    }
    let sixth = f64::from(hue) * 6.0 / 255.0;
    let sector = sixth.floor();
    let f = (sixth - sector) as f32;
    let s = (f64::from(saturation) / 255.0) as f32;
    let value = f64::from(v);
    let byte = |number: f64| number.round() as u8;
    let p = byte(value * (1.0 - f64::from(s)));
    let q = byte(value * (1.0 - f64::from(s * f)));
    let t = byte(value * (1.0 - f64::from(s) * (1.0 - f64::from(f))));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
