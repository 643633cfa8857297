use super::scale_plan::Axis;
use super::*;
use crate::preprocess::Interpolation;
use crate::preprocess::resize::{Target, rectangle};

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
    insta::assert_snapshot!(mistake(Crops::One, &[40, 31], preset(40)), @"net sees 32 × 32 pixels of the resized image, so that a scale is at least 32, and one is 31");
    insta::assert_snapshot!(mistake(Crops::One, &[40, 50, 40], preset(40)), @"the scale 40 is given twice, and would count twice");
    insta::assert_snapshot!(mistake(Crops::One, &[5000], preset(40)), @"expected scales from 1 to 4096 pixels, found 5000");
    insta::assert_snapshot!(mistake(Crops::One, &[0], preset(40)), @"expected scales from 1 to 4096 pixels, found 0");
    let many: Vec<u32> = (100..117).collect();
    insta::assert_snapshot!(mistake(Crops::One, &many, preset(40)), @"expected at most 16 scales, found 17");
    insta::assert_snapshot!(mistake(Crops::Ten, &[], preset(20)), @"ten crops of 32 pixels do not fit into an image that net wants resized to 20: give scales from 32 up");
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
