//! Random crops and flips.

use super::*;
use crate::preprocess::augment::draw_crop_box;

/// `RandomResizedCrop`'s distribution, within five standard errors of torchvision's own draws.
#[test]
fn drawn_rectangles_are_distributed_as_torchvisions() {
    const DRAWS: u64 = 10_000;
    let augmentation = Augmentation::default();
    for row in rows("sampler.csv") {
        let number = |column: usize| row[column].parse::<f64>().unwrap();
        let (width, height) = (number(0) as u32, number(1) as u32);
        let mut values: [Vec<f64>; 4] = Default::default();
        for image in 0..DRAWS {
            let key = DrawKey { seed: 3, epoch: 1, image };
            let CropBox { left, top, width: w, height: h } = draw_crop_box(&augmentation, width, height, key);
            assert!(w >= 1 && h >= 1 && left + w <= width && top + h <= height);
            let [left, top, w, h] = [left, top, w, h].map(f64::from);
            let room = |whole: u32, part: f64| (f64::from(whole) - part).max(1.0);
            values[0].push(w * h / (f64::from(width) * f64::from(height)));
            values[1].push((w / h).ln());
            values[2].push(left / room(width, w));
            values[3].push(top / room(height, h));
        }
        for (index, values) in values.iter().enumerate() {
            let (expected, deviation) = (number(2 + 2 * index), number(3 + 2 * index));
            let mean = values.iter().sum::<f64>() / DRAWS as f64;
            let allowed = 5.0 * deviation * (2.0 / DRAWS as f64).sqrt() + 2e-6;
            assert!(
                (mean - expected).abs() <= allowed,
                "{width}x{height}, value {index}: {mean}, not {expected}"
            );
            let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / DRAWS as f64;
            assert!(
                (spread.sqrt() - deviation).abs() <= 0.05 * deviation + 2e-6,
                "{width}x{height}, value {index}"
            );
        }
    }
}

#[test]
fn draws_depend_on_seed_epoch_and_image_and_on_nothing_else() {
    let image = open("s0-0.jpg");
    let preset = preset(40, 32, Interpolation::Bilinear);
    let augmentation = Augmentation::default();
    let draw = |seed, epoch, image_index| {
        preset.train_pixels(&augmentation, &image, DrawKey { seed, epoch, image: image_index })
    };
    assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
    for other in [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(3, 2, 1)] {
        assert_ne!(draw(1, 2, 3), other);
    }
    let flips = Augmentation { random_resized_crop: false, ..Augmentation::default() };
    let plain = preset.eval_pixels(&image);
    let mut mirrored = plain.clone();
    mirrored.flip_horizontally();
    let mut flipped = 0;
    for index in 0..400 {
        let pixels = preset.train_pixels(&flips, &image, DrawKey { seed: 0, epoch: 0, image: index });
        assert!(pixels == plain || pixels == mirrored);
        flipped += usize::from(pixels == mirrored);
    }
    assert!((150..=250).contains(&flipped), "{flipped} of 400 flipped");
    let key = DrawKey { seed: 0, epoch: 0, image: 0 };
    assert_eq!(preset.train_pixels(&Augmentation::none(), &image, key), plain);
}
