//! Pillow's antialiased resize, byte for byte.
//!
//! The numbers are those of `src/libImaging/Resample.c`: weights in double precision, normalised, then
//! rounded to 22-bit fixed point; two passes with an 8-bit image between them, of which a pass whose size
//! does not change is left out. Since the image between is rounded, the order matters: see
//! [`vertical_first`]. Only the window of the output that the caller keeps is computed, because a pixel's
//! value does not depend on which others are wanted.

use std::ops::Range;

use super::{Interpolation, RgbImage};

/// Pillow's `PRECISION_BITS`: 32 bits, less 8 for a pixel's value, less 2 for the filter's overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// A rectangle of an image, without a copy.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    image: &'a RgbImage,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl<'a> View<'a> {
    /// The whole image.
    pub(super) fn whole(image: &'a RgbImage) -> Self {
        View { image, left: 0, top: 0, width: image.width as usize, height: image.height as usize }
    }

    /// The rectangle at (`left`, `top`), which the caller knows to lie inside the image.
    pub(super) fn rectangle(image: &'a RgbImage, left: u32, top: u32, width: u32, height: u32) -> Self {
        let whole = View::whole(image);
        let (left, top) = ((left as usize).min(whole.width), (top as usize).min(whole.height));
        let (width, height) = (width as usize, height as usize);
        View {
            image,
            left,
            top,
            width: width.min(whole.width - left),
            height: height.min(whole.height - top),
        }
    }

    /// The bytes of a row, columns `columns` of the view.
    fn row(&self, y: usize, columns: Range<usize>) -> &'a [u8] {
        let start = ((self.top + y) * self.image.width as usize + self.left) * 3;
        &self.image.data[start + columns.start * 3..start + columns.end * 3]
    }
}

/// Resizes `view` to `width` × `height` and returns the part of it in `columns` × `rows`.
///
/// The sizes are 64-bit because the long side of a resized strip can exceed 32 bits even though the
/// window of interest is small. Both ranges must lie inside the output.
pub(super) fn resize(
    view: View<'_>,
    (width, height): (u64, u64),
    interpolation: Interpolation,
    columns: Range<u64>,
    rows: Range<u64>,
) -> RgbImage {
    let out_width = (columns.end - columns.start) as usize;
    let out_height = (rows.end - rows.start) as usize;
    let mut out = RgbImage::black(out_width as u32, out_height as u32);
    if out.data.is_empty() || view.width == 0 || view.height == 0 {
        return out;
    }
    let horizontal =
        (width != view.width as u64).then(|| Taps::new(view.width, width, columns.clone(), interpolation));
    let vertical =
        (height != view.height as u64).then(|| Taps::new(view.height, height, rows.clone(), interpolation));
    let (kept_columns, kept_rows) = (narrow(columns), narrow(rows));
    let stride = out_width * 3;
    match (horizontal, vertical) {
        (None, None) => {
            for (y, to) in kept_rows.zip(out.data.chunks_exact_mut(stride)) {
                to.copy_from_slice(view.row(y, kept_columns.clone()));
            }
        }
        (Some(horizontal), None) => {
            for (y, to) in kept_rows.zip(out.data.chunks_exact_mut(stride)) {
                horizontal.blend_pixels(view.row(y, 0..view.width), to);
            }
        }
        (None, Some(vertical)) => {
            vertical.blend_rows(stride, |y| view.row(y, kept_columns.clone()), &mut out.data)
        }
        (Some(mut horizontal), Some(vertical))
            if vertical_first((view.width, view.height), (width, height)) =>
        {
            let inputs = horizontal.inputs();
            let between_stride = inputs.len() * 3;
            let mut between = vec![0; out_height * between_stride];
            vertical.blend_rows(between_stride, |y| view.row(y, inputs.clone()), &mut between);
            horizontal.starts.iter_mut().for_each(|start| *start -= inputs.start);
            for (from, to) in between.chunks_exact(between_stride).zip(out.data.chunks_exact_mut(stride)) {
                horizontal.blend_pixels(from, to);
            }
        }
        (Some(horizontal), Some(vertical)) => {
            let inputs = vertical.inputs();
            let mut between = vec![0; inputs.len() * stride];
            for (y, to) in inputs.clone().zip(between.chunks_exact_mut(stride)) {
                horizontal.blend_pixels(view.row(y, 0..view.width), to);
            }
            vertical.blend_rows(stride, |y| &between[(y - inputs.start) * stride..][..stride], &mut out.data);
        }
    }
    out
}

/// Whether the vertical pass comes first: since Pillow 13, if the height shrinks by more than twice as many
/// pixels as the width. Older versions always begin horizontally.
fn vertical_first((width, height): (usize, usize), (new_width, new_height): (u64, u64)) -> bool {
    let less = |old: usize, new: u64| old as i128 - i128::from(new);
    less(height, new_height) > (2 * less(width, new_width)).max(0)
}

/// A range of output positions that exist in memory.
fn narrow(range: Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// For each output position of one axis: the first input position, and the weights from there on.
struct Taps {
    starts: Vec<usize>,
    /// `weights[ends[i - 1]..ends[i]]` belong to output `i`.
    ends: Vec<usize>,
    weights: Vec<i32>,
}

impl Taps {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc`, for the outputs in `wanted` only.
    fn new(in_size: usize, out_size: u64, wanted: Range<u64>, interpolation: Interpolation) -> Self {
        // Pillow keeps the box in single precision.
        let scale = f64::from(in_size as f32) / out_size as f64;
        let filter_scale = scale.max(1.0);
        let support = interpolation.support() * filter_scale;
        let count = (wanted.end - wanted.start) as usize;
        let mut taps = Taps {
            starts: Vec::with_capacity(count),
            ends: Vec::with_capacity(count),
            weights: Vec::with_capacity(count * (support.ceil() as usize * 2 + 1)),
        };
        let mut exact = Vec::new();
        for position in wanted {
            let center = (position as f64 + 0.5) * scale;
            // Casts truncate and saturate: a negative start becomes 0, as in Pillow.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(in_size);
            let start = start.min(end);
            exact.clear();
            exact.extend(
                (start..end).map(|x| interpolation.weight((x as f64 - center + 0.5) * (1.0 / filter_scale))),
            );
            let total: f64 = exact.iter().sum();
            taps.weights.extend(exact.iter().map(|weight| {
                let normalised = if total != 0.0 { weight / total } else { *weight };
                let scaled = normalised * f64::from(1u32 << PRECISION_BITS);
                if scaled < 0.0 { (scaled - 0.5) as i32 } else { (scaled + 0.5) as i32 }
            }));
            taps.starts.push(start);
            taps.ends.push(taps.weights.len());
        }
        taps
    }

    /// The input positions that any output reads.
    fn inputs(&self) -> Range<usize> {
        let start = self.starts.iter().copied().min().unwrap_or(0);
        let end = self.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);
        start..end
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut from = 0;
        self.starts.iter().zip(&self.ends).map(move |(&start, &end)| {
            let weights = &self.weights[from..end];
            from = end;
            (start, weights)
        })
    }

    /// One row, horizontally: `to` gets a pixel for each output.
    fn blend_pixels(&self, from: &[u8], to: &mut [u8]) {
        for ((start, weights), pixel) in self.iter().zip(to.chunks_exact_mut(3)) {
            let mut sums = [HALF; 3];
            for (source, &weight) in from[start * 3..].chunks_exact(3).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sums) {
                *value = clip(sum);
            }
        }
    }

    /// All rows, vertically: `to` gets a row of `stride` bytes for each output.
    fn blend_rows<'r>(&self, stride: usize, row: impl Fn(usize) -> &'r [u8], to: &mut [u8]) {
        let mut sums = vec![0; stride];
        for ((start, weights), out) in self.iter().zip(to.chunks_exact_mut(stride)) {
            sums.fill(HALF);
            for (y, &weight) in (start..).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(row(y)) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, &sum) in out.iter_mut().zip(sums.iter()) {
                *value = clip(sum);
            }
        }
    }
}

/// One half in fixed point: sums start with it, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// `clip8`.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

impl Interpolation {
    /// The filter's half width in source pixels, at a scale of 1.
    fn support(self) -> f64 {
        match self {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        }
    }

    /// The filter: a triangle, or Keys' cubic with a = -0.5.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Interpolation::Bilinear if x < 1.0 => 1.0 - x,
            Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}
