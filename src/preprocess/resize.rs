//! Pillow's antialiased resize, byte for byte, line by line as they arrive.
//!
//! Two passes with an 8-bit image between them; a pass that does not change the size is skipped
//! (see [`Taps`] for the numbers). Since the intermediate image is rounded, the order matters: see
//! [`vertical_first`]. Only the kept window of the output is computed, because pixels do not depend
//! on each other, and only the input lines and columns that it depends on are read. A line is used
//! when it arrives: the whole image need never be in memory.

use std::ops::Range;

use super::orientation::Orientation;
use super::taps::Taps;
use super::{CropBox, Interpolation, RgbImage};

/// Part of an upright image to resize, and the window to keep.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The part to resize, inside the image.
    pub region: CropBox,
    /// Columns and rows after resizing. 64-bit because the long side of a resized strip can exceed
    /// 32 bits even if the window is small.
    pub size: (u64, u64),
    /// The columns that are kept, of `size.0`.
    pub columns: Range<u64>,
    /// The rows that are kept, of `size.1`.
    pub rows: Range<u64>,
    /// The filter.
    pub interpolation: Interpolation,
}

/// An image as stored in its file: lines that may be reduced, mirrored or rotated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    /// Columns and lines of the file's header.
    pub full: (u32, u32),
    /// Decoded pixels for eight pixels of the file along each side.
    pub eighths: u32,
    /// Orientation of the lines.
    pub orientation: Orientation,
}

impl Stored {
    /// An upright image in memory.
    pub(super) fn upright(width: u32, height: u32) -> Self {
        Stored { full: (width, height), eighths: 8, orientation: Orientation::UPRIGHT }
    }

    /// Pixels of a side, rounded up as libjpeg does.
    fn reduced(&self, side: u32) -> usize {
        (u64::from(side) * u64::from(self.eighths)).div_ceil(8) as usize
    }
}

/// Resizes lines as they arrive.
pub(super) struct Resizer {
    columns: Taps,
    /// In the order of the lines.
    rows: Taps,
    /// Whether the last line of the window comes first.
    upside_down: bool,
    transposed: bool,
    lines_first: bool,
    /// Whether the first pass copies columns.
    copies: bool,
    /// The last lines, as wide as the second pass needs: line `y` is at `y % kept`.
    ring: Vec<u8>,
    kept: usize,
    stride: usize,
    /// The next output that waits for lines.
    next: usize,
    between: Vec<u8>,
    out: RgbImage,
}

impl Resizer {
    /// For `target` of an image stored like this.
    pub(super) fn new(target: &Target, stored: Stored) -> Self {
        let orientation = stored.orientation;
        let transposed = orientation.transposes();
        let (width, height) = stored.full;
        let region = target.region;
        // Upright axes, then their positions in the file.
        let across = (region.left, region.width, target.size.0, target.columns.clone());
        let down = (region.top, region.height, target.size.1, target.rows.clone());
        let (across, down) = if transposed { (down, across) } else { (across, down) };
        let (mirrored, upside_down) = orientation.mirrors();
        let interpolation = target.interpolation;
        let columns = axis(across, stored, width, mirrored, interpolation);
        let rows = axis(down, stored, height, upside_down, interpolation);
        let (out_width, out_height) = (columns.len(), rows.len());
        let out = RgbImage::black(out_width as u32, out_height as u32);
        let shrinks = (stored.reduced(region.width), stored.reduced(region.height));
        // A pass that copies does not affect the order.
        let lines_first = vertical_first(shrinks, target.size) != transposed;
        let stride = if lines_first { columns.inputs().len() } else { out_width } * 3;
        let kept = rows.most().max(1);
        let between = vec![0; if lines_first { stride } else { 0 }];
        let ring = vec![0; if out.data.is_empty() { 0 } else { stride * kept }];
        let copies = lines_first || columns.is_copy();
        // Outputs are made in the order of their lines.
        let rows = if upside_down { rows.reversed() } else { rows };
        Resizer {
            columns,
            rows,
            upside_down,
            transposed,
            lines_first,
            copies,
            ring,
            kept,
            stride,
            next: 0,
            between,
            out,
        }
    }

    /// The columns to read of the file's lines.
    pub(super) fn columns(&self) -> Range<usize> {
        self.columns.inputs()
    }

    /// The lines to read.
    pub(super) fn lines(&self) -> Range<usize> {
        if self.out.data.is_empty() { 0..0 } else { self.rows.inputs() }
    }

    /// Adds line `y`; `line` holds the columns from `first` on. Lines come from the top; those
    /// outside [`Resizer::lines`] may be left out.
    pub(super) fn push(&mut self, y: usize, line: &[u8], first: usize) {
        if !self.lines().contains(&y) {
            return;
        }
        let place = y % self.kept * self.stride;
        let slot = &mut self.ring[place..place + self.stride];
        let columns = self.columns.inputs();
        let from = &line[(columns.start - first) * 3..(columns.end - first) * 3];
        match self.copies {
            true => slot.copy_from_slice(from),
            false => self.columns.blend_pixels(from, columns.start, slot),
        }
        while self.next < self.rows.len() && self.rows.inputs_of(self.next).end <= y + 1 {
            self.emit();
        }
    }

    /// Makes the next output, from lines that have arrived.
    fn emit(&mut self) {
        let row = if self.upside_down { self.rows.len() - 1 - self.next } else { self.next };
        let length = self.columns.len() * 3;
        let to = &mut self.out.data[row * length..(row + 1) * length];
        let (ring, kept, stride) = (&self.ring, self.kept, self.stride);
        let line = |y: usize| &ring[y % kept * stride..][..stride];
        if self.lines_first {
            self.rows.blend_rows(self.next, line, &mut self.between);
            self.columns.blend_pixels(&self.between, self.columns.inputs().start, to);
        } else {
            self.rows.blend_rows(self.next, line, to);
        }
        self.next += 1;
    }

    /// The window, upright, after the last line.
    pub(super) fn finish(mut self) -> RgbImage {
        while !self.out.data.is_empty() && self.next < self.rows.len() {
            self.emit();
        }
        if self.transposed { self.out.transposed() } else { self.out }
    }
}

/// The taps of one axis of the file: of `start..start + length` of the upright axis, resized to
/// `size`, of which `wanted` is kept.
fn axis(
    (start, length, size, wanted): (u32, u32, u64, Range<u64>),
    stored: Stored,
    full: u32,
    mirrored: bool,
    interpolation: Interpolation,
) -> Taps {
    // If a decoder has reduced the image, pixels start between pixels, and the last may be cut.
    let scale = f64::from(stored.eighths) / 8.0;
    let from = if mirrored { full - start - length } else { start };
    let (from, to) = (f64::from(from) * scale, f64::from(from + length) * scale);
    let (low, high) = (from.floor(), to.ceil());
    let extent = if mirrored { high - to..high - from } else { from - low..to - low };
    let count = (high - low) as usize;
    let taps = Taps::new(count, extent, size, wanted, interpolation);
    taps.moved(low as usize, mirrored.then_some(count))
}

/// Resizes `target` of an upright image.
pub(super) fn resize(image: &RgbImage, target: &Target) -> RgbImage {
    let mut resizer = Resizer::new(target, Stored::upright(image.width, image.height));
    let stride = image.width as usize * 3;
    for y in resizer.lines() {
        resizer.push(y, &image.data[y * stride..(y + 1) * stride], 0);
    }
    resizer.finish()
}

/// The rectangle of this size at (`left`, `top`), clipped to the image.
pub(super) fn rectangle(image: (u32, u32), left: u32, top: u32, width: u32, height: u32) -> CropBox {
    let (left, top) = (left.min(image.0), top.min(image.1));
    CropBox { left, top, width: width.min(image.0 - left), height: height.min(image.1 - top) }
}

/// Whether the vertical pass comes first: since Pillow 13, if the height shrinks by more than twice
/// as many pixels as the width. Older versions always begin horizontally.
fn vertical_first((width, height): (usize, usize), (new_width, new_height): (u64, u64)) -> bool {
    let less = |old: usize, new: u64| old as i128 - i128::from(new);
    less(height, new_height) > (2 * less(width, new_width)).max(0)
}
