//! Lookup-table changes of channel values: Pillow's `ImageOps`, byte for byte.

use super::RgbImage;

/// `ImageOps.invert`.
pub(super) fn invert(image: &mut RgbImage) {
    image.data.iter_mut().for_each(|value| *value = 255 - *value);
}

/// `ImageOps.posterize`: keeps the `bits` most significant bits, 1 to 8.
pub(super) fn posterize(image: &mut RgbImage, bits: u32) {
    let mask = !(0xFFu16 >> bits.min(8)) as u8;
    image.data.iter_mut().for_each(|value| *value &= mask);
}

/// `ImageOps.solarize`: inverts values from `threshold` up.
pub(super) fn solarize(image: &mut RgbImage, threshold: f64) {
    for value in &mut image.data {
        if f64::from(*value) >= threshold {
            *value = 255 - *value;
        }
    }
}

/// `ImageOps.autocontrast`: stretches each channel so that its darkest value becomes 0, its
/// lightest 255.
pub(super) fn autocontrast(image: &mut RgbImage) {
    by_histogram(image, |counts| {
        let lowest = counts.iter().position(|&count| count > 0)?;
        let highest = counts.iter().rposition(|&count| count > 0)?;
        if highest <= lowest {
            return None;
        }
        let scale = 255.0 / (highest - lowest) as f64;
        let offset = -(lowest as f64) * scale;
        // The cast truncates and saturates.
        Some(std::array::from_fn(|value| (value as f64 * scale + offset) as u8))
    });
}

/// `ImageOps.equalize`: makes the histogram of each channel as even as possible.
pub(super) fn equalize(image: &mut RgbImage) {
    by_histogram(image, |counts| {
        let last = counts.iter().rfind(|&&count| count > 0)?;
        let step = (counts.iter().sum::<u64>() - last) / 255;
        if step == 0 {
            return None;
        }
        let mut below = step / 2;
        Some(std::array::from_fn(|value| {
            let new = below / step;
            below += counts[value];
            new.min(255) as u8
        }))
    });
}

/// Maps each channel through a table computed from its histogram; without a table it stays.
fn by_histogram(image: &mut RgbImage, table: impl Fn(&[u64; 256]) -> Option<[u8; 256]>) {
    for channel in 0..3 {
        let mut counts = [0; 256];
        image.data.iter().skip(channel).step_by(3).for_each(|&value| counts[usize::from(value)] += 1);
        if let Some(table) = table(&counts) {
            let values = image.data.iter_mut().skip(channel).step_by(3);
            values.for_each(|value| *value = table[usize::from(*value)]);
        }
    }
}
