//! A map of an image in [0, 1], enlarged, and as a picture.

use crate::preprocess::RgbImage;

/// The weight of the colours in an overlay; the image has the rest.
const OPACITY: f32 = 0.5;

/// Every fifteenth colour of matplotlib's `inferno` (van der Walt and Smith, CC0): equal steps look
/// equally large, also in grey and to the colour-blind, and what is cold stays dark.
const COLOURS: [[u8; 3]; 18] = [
    [0, 0, 4],
    [10, 7, 34],
    [30, 12, 69],
    [56, 9, 98],
    [81, 14, 108],
    [105, 22, 110],
    [128, 31, 108],
    [152, 39, 102],
    [176, 49, 91],
    [198, 61, 77],
    [217, 77, 61],
    [233, 97, 43],
    [244, 121, 24],
    [250, 148, 7],
    [252, 176, 20],
    [248, 205, 55],
    [242, 234, 105],
    [252, 255, 164],
];

/// Where an image speaks for a class: 0 not at all, 1 at the strongest place of this image.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height` × `width` numbers, row by row.
    pub values: Vec<f32>,
}

impl HeatMap {
    /// The map of these numbers, none negative, divided by the largest. If all are zero, nothing
    /// speaks for the class, and they stay so.
    pub fn of(width: usize, height: usize, values: &[f32]) -> HeatMap {
        // `max` passes over numbers that are none, which stay what they are.
        let most = values.iter().copied().fold(0., f32::max);
        let divisor = if most > 0. { most } else { 1. };
        HeatMap { width, height, values: values.iter().map(|value| value / divisor).collect() }
    }

    /// Whether all numbers are finite: those of a network that computes finite ones.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    /// The map at another size: bilinear, as PyTorch's `interpolate(mode="bilinear",
    /// align_corners=False)`.
    pub fn resized(&self, width: usize, height: usize) -> HeatMap {
        let (columns, rows) = (taps(self.width, width), taps(self.height, height));
        let mut values = Vec::with_capacity(width * height);
        for &(top, bottom, down) in &rows {
            let at = |row: usize, column: usize| self.values[row * self.width + column];
            for &(left, right, along) in &columns {
                let upper = at(top, left) * (1. - along) + at(top, right) * along;
                let lower = at(bottom, left) * (1. - along) + at(bottom, right) * along;
                values.push(upper * (1. - down) + lower * down);
            }
        }
        HeatMap { width, height, values }
    }

    /// The map in colours, each place a square of `cell` pixels.
    pub fn picture(&self, cell: usize) -> RgbImage {
        let (width, height) = (self.width * cell, self.height * cell);
        let place = |row: usize, column: usize| self.values[row / cell * self.width + column / cell];
        let pixels = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
        let data =
            pixels.flat_map(|(row, column)| colour(place(row, column)).map(|level| level.round() as u8));
        RgbImage { width: width as u32, height: height as u32, data: data.collect() }
    }

    /// `image` under the half transparent map, which is enlarged to it.
    pub fn overlay(&self, image: &RgbImage) -> RgbImage {
        let map = self.resized(image.width as usize, image.height as usize);
        let mut overlay = image.clone();
        for (pixel, &value) in overlay.data.chunks_exact_mut(3).zip(&map.values) {
            for (byte, colour) in pixel.iter_mut().zip(colour(value)) {
                *byte = (f32::from(*byte) * (1. - OPACITY) + colour * OPACITY).round() as u8;
            }
        }
        overlay
    }
}

/// For each of `to` positions the two of `from` that it lies between, and the second one's share.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to.max(1) as f32;
    let last = from.saturating_sub(1);
    let tap = |place: usize| {
        let place = ((place as f32 + 0.5) * scale - 0.5).max(0.);
        let first = (place as usize).min(last);
        (first, (first + 1).min(last), place - first as f32)
    };
    (0..to).map(tap).collect()
}

/// The colour of a value in [0, 1].
fn colour(value: f32) -> [f32; 3] {
    let place = value.clamp(0., 1.) * (COLOURS.len() - 1) as f32;
    let first = (place as usize).min(COLOURS.len() - 2);
    let share = place - first as f32;
    std::array::from_fn(|channel| {
        let [before, after] = [COLOURS[first][channel], COLOURS[first + 1][channel]].map(f32::from);
        before + (after - before) * share
    })
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    fn map(width: usize, height: usize) -> HeatMap {
        let values: Vec<f32> = (0..width * height).map(|index| (index * 7 % 11) as f32).collect();
        HeatMap::of(width, height, &values)
    }

    #[test]
    fn the_largest_number_is_one_and_nothing_stays_nothing() {
        assert_eq!(HeatMap::of(2, 1, &[1., 4.]).values, [0.25, 1.]);
        assert_eq!(HeatMap::of(2, 1, &[0., 0.]).values, [0., 0.]);
        assert!(map(3, 3).is_finite() && !HeatMap::of(2, 1, &[f32::NAN, 1.]).is_finite());
    }

    #[test]
    fn a_map_is_enlarged_as_pytorch_does() {
        for (from, to) in [((7, 7), (224, 224)), ((3, 4), (10, 9)), ((1, 1), (5, 5)), ((8, 6), (3, 2))] {
            let map = map(from.0, from.1);
            let tensor = Tensor::from_slice(&map.values).reshape([1, 1, from.1 as i64, from.0 as i64]);
            let expected = tensor.upsample_bilinear2d([to.1 as i64, to.0 as i64], false, None, None);
            let expected = Vec::<f32>::try_from(expected.reshape([-1])).unwrap();
            let found = map.resized(to.0, to.1);
            assert_eq!((found.width, found.height), to);
            let furthest = found.values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
            assert!(furthest < 1e-6, "{from:?} to {to:?}: {furthest}");
        }
    }

    #[test]
    fn an_overlay_is_half_the_image_and_half_the_colour() {
        let image = RgbImage { width: 2, height: 1, data: vec![100, 100, 100, 0, 0, 0] };
        let overlay = HeatMap { width: 2, height: 1, values: vec![0., 1.] }.overlay(&image);
        assert_eq!(overlay.data, [50, 50, 52, 126, 128, 82]);
        assert_eq!(colour(1. / 17.), [10., 7., 34.]);
    }
}
