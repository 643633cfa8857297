//! Against torchvision's results (`tests/oracle/augment.py`).

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::operation::{BINS, Operation};
use super::policy::{PAIR_BINS, PAIRS};
use super::*;
use crate::preprocess::{DecodeLimits, Interpolation, decode_file};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/augment").join(name)
}

fn rows(file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(fixture(file)).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_string).collect()).collect()
}

fn open(name: &str) -> RgbImage {
    decode_file(&fixture(&format!("{name}.png")), DecodeLimits::default()).unwrap()
}

fn crc(image: &RgbImage) -> String {
    format!("{:08x}", crc32fast::hash(&image.data))
}

fn preset(crop_size: u32, interpolation: Interpolation) -> Preprocessing {
    crate::preprocess::tests::preset(crop_size + 4, crop_size, interpolation)
}

fn named(name: &str) -> Operation {
    use Operation::*;
    let all = [
        Identity,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
        Rotate,
        Brightness,
        Color,
        Contrast,
        Sharpness,
        Posterize,
        Solarize,
        AutoContrast,
        Equalize,
        Invert,
    ];
    all.into_iter().find(|operation| format!("{operation:?}") == name).expect(name)
}

#[test]
fn operations_equal_torchvisions_to_the_byte() {
    let rows = rows("operations.csv");
    assert!(rows.len() > 2000);
    let mut wrong = Vec::new();
    for row in &rows {
        let mut image = open(&row[0]);
        named(&row[1]).apply(&mut image, row[2].parse().unwrap());
        if crc(&image) != row[3] {
            wrong.push(row.join(" "));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// The tolerance is PyTorch's own: its `linspace` differs by one unit in the last place between
/// processors.
#[test]
fn magnitudes_are_torchvisions() {
    for row in rows("magnitudes.csv") {
        let operation = named(&row[1]);
        let [width, height, bin] = [2, 3, 4].map(|column| row[column].parse::<u32>().unwrap());
        let found = match row[0].as_str() {
            "auto" => operation.magnitude(bin, PAIR_BINS, width, height),
            "rand" => operation.magnitude(bin, BINS, width, height),
            _ => operation.wide_magnitude(bin),
        };
        let expected: f64 = row[6].parse().unwrap();
        assert!((found - expected).abs() <= 1.2e-7 * expected.abs(), "{row:?}: {found}");
        assert_eq!(operation.is_signed(), row[5] == "1", "{row:?}");
    }
}

#[test]
fn the_pairs_of_autoaugment_are_torchvisions() {
    let pairs: Vec<Vec<String>> = PAIRS
        .iter()
        .flatten()
        .map(|(operation, tenths, bin)| {
            vec![format!("{operation:?}"), format!("{:.1}", f64::from(*tenths) / 10.), bin.to_string()]
        })
        .collect();
    assert_eq!(pairs, rows("pairs.csv"));
}

#[test]
fn changes_of_colour_equal_torchvisions_to_the_byte() {
    for row in rows("jitters.csv") {
        let mut image = open(&row[0]);
        for step in row[1].split(' ') {
            let factor = step[1..].parse().unwrap();
            match &step[..1] {
                "b" => color::brightness(&mut image, factor),
                "c" => color::contrast(&mut image, factor),
                "s" => color::saturation(&mut image, factor),
                _ => color::hue(&mut image, factor),
            }
        }
        assert_eq!(crc(&image), row[2], "{row:?}");
    }
}

/// All 16.8 million colours there and back would take long; every hue, and every grey.
#[test]
fn a_turn_of_nothing_moves_no_colour_by_more_than_its_rounding() {
    let data: Vec<u8> = (0..=255u8).flat_map(|v| [v, 255 - v, v / 2, v, v, v]).collect();
    let image = RgbImage { width: 512, height: 1, data };
    let mut turned = image.clone();
    color::hue(&mut turned, 0.0);
    for (before, after) in image.data.chunks(3).zip(turned.data.chunks(3)) {
        assert!(before.iter().zip(after).all(|(a, b)| a.abs_diff(*b) <= 6), "{before:?} {after:?}");
        if before[0] == before[1] && before[1] == before[2] {
            assert_eq!(before, after);
        }
    }
}

#[test]
fn scaled_crops_and_vertical_flips_equal_torchvisions() {
    for row in rows("scaled.csv") {
        let interpolation =
            if row[1] == "bicubic" { Interpolation::Bicubic } else { Interpolation::Bilinear };
        let number = |column: usize| row[column].parse::<u64>().unwrap();
        let preset = preset(20, interpolation);
        let mut pixels = preset.scaled_crop(&open(&row[0]), number(2) as u32, number(3), number(4));
        if number(5) == 1 {
            pixels.flip_vertically();
        }
        assert_eq!(crc(&pixels), row[6], "{row:?}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The paper's formula, as PyTorch computes it; means over the image to 1e-5 (they are about 1).
#[test]
fn shifts_of_colour_follow_the_papers_formula() {
    let cases: Value =
        serde_json::from_str(&fs::read_to_string(fixture("colour_shifts.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let alphas = numbers(&case["alphas"]);
        let shift = pca::shift([alphas[0], alphas[1], alphas[2]]);
        for (found, expected) in shift.iter().zip(numbers(&case["shift"])) {
            assert!((f64::from(*found) - expected).abs() == 0.0, "{case}");
        }
        let pixels = open(case["image"].as_str().unwrap());
        let plane = pixels.data.len() / 3;
        let mut values = vec![0.0; pixels.data.len()];
        preset(48, Interpolation::Bilinear).normalise_into(&Input { pixels, shift }, &mut values);
        for (plane, expected) in values.chunks(plane).zip(numbers(&case["mean"])) {
            let mean = plane.iter().map(|value| f64::from(*value)).sum::<f64>() / plane.len() as f64;
            assert!((mean - expected).abs() < 1e-5, "{mean}, not {expected}");
        }
    }
}

fn key(image: u64) -> DrawKey {
    DrawKey { seed: 5, epoch: 2, image }
}

/// Pinned draws of these keys: checksums of whole crops, flips among them.
#[test]
fn draws_of_crops_and_flips_stay_as_they_were() {
    let preset = preset(20, Interpolation::Bilinear);
    let drawn: Vec<String> = (0..6)
        .map(|image| crc(&preset.train_pixels(&Augmentation::default(), &open("wide"), key(image))))
        .collect();
    assert_eq!(drawn, PINNED);
    // Later changes have their own streams.
    let boxes = |augmentation: &Augmentation| {
        (0..6).map(|i| draw_crop_box(augmentation, 57, 41, key(i))).collect::<Vec<_>>()
    };
    let more =
        Augmentation { policy: Some(Policy::TrivialAugment), vertical_flip: 0.5, ..Augmentation::default() };
    assert_eq!(boxes(&Augmentation::default()), boxes(&more));
}

const PINNED: [&str; 6] = ["5dccbb11", "99a55aa7", "ff38b251", "a8cab09f", "5daf6899", "919e6975"];

/// Each change alone: it changes pixels, differently in different epochs, as a function of the key.
#[test]
fn every_change_is_random_and_a_function_of_its_key() {
    let none = Augmentation::none();
    let jitter = |jitter| Augmentation { color_jitter: jitter, ..none.clone() };
    let policy = |policy| Augmentation { policy: Some(policy), ..none.clone() };
    let zero = ColorJitter::default();
    let changes = [
        Augmentation { random_resized_crop: true, ..none.clone() },
        Augmentation { scale_jitter: Some([20, 40]), ..none.clone() },
        Augmentation { flip: 0.5, ..none.clone() },
        Augmentation { vertical_flip: 0.5, ..none.clone() },
        Augmentation { pca_color: 0.1, ..none.clone() },
        policy(Policy::AutoAugment),
        policy(Policy::RandAugment { num_ops: 2, magnitude: 9 }),
        policy(Policy::TrivialAugment),
        jitter(ColorJitter { brightness: 0.4, ..zero }),
        jitter(ColorJitter { contrast: 0.4, ..zero }),
        jitter(ColorJitter { saturation: 0.4, ..zero }),
        jitter(ColorJitter { hue: 0.2, ..zero }),
    ];
    let (preset, image) = (preset(20, Interpolation::Bilinear), open("square"));
    let plain = Input::from(preset.eval_pixels(&image));
    assert!(none.is_none() && none.mistakes(20).is_empty());
    assert!((0..50).all(|index| preset.train_input(&none, &image, key(index)) == plain));
    for change in &changes {
        assert!(!change.is_none(), "{change:?}");
        assert_eq!(change.mistakes(20), Vec::<String>::new());
        let draw = |index| preset.train_input(change, &image, key(index));
        assert!((0..50).all(|index| draw(index) == draw(index)));
        let changed = (0..50).filter(|&index| draw(index) != plain).count();
        assert!(changed >= 10, "{change:?}: {changed} of 50");
        assert!((0..50).any(|index| draw(index) != draw(index + 50)), "{change:?}");
    }
}

#[test]
fn scale_jitter_draws_every_size_and_place() {
    let preset = preset(20, Interpolation::Bilinear);
    let augmentation = Augmentation { scale_jitter: Some([20, 22]), flip: 0.0, ..Augmentation::none() };
    // In a gradient from left to right, the values give the position, and the steepness the size.
    let data: Vec<u8> = (0..48u32 * 48).flat_map(|i| [(i % 48 * 5) as u8, (i / 48 * 5) as u8, 0]).collect();
    let image = RgbImage { width: 48, height: 48, data };
    let mut seen = std::collections::BTreeMap::new();
    for index in 0..900 {
        *seen.entry(preset.train_pixels(&augmentation, &image, key(index)).data).or_insert(0usize) += 1;
    }
    // 20: one position; 21: two by two; 22: three by three.
    assert_eq!(seen.len(), 1 + 4 + 9);
    let mut counts: Vec<usize> = seen.into_values().collect();
    counts.sort();
    // 300 of the one, 75 of each of the four, 33 of each of the nine; five standard errors.
    assert!((230..370).contains(&counts[13]), "{counts:?}");
    assert!(counts[9..13].iter().all(|count| (35..116).contains(count)), "{counts:?}");
    assert!(counts[..9].iter().all(|count| (5..62).contains(count)), "{counts:?}");
}

/// torchvision's distributions of `ColorJitter`: uniform factors, each of 24 orders as often as the
/// others.
#[test]
fn colour_jitter_draws_uniform_factors_in_any_order() {
    const DRAWS: u64 = 12_000;
    let jitter = ColorJitter { brightness: 0.4, contrast: 1.5, saturation: 0.2, hue: 0.3 };
    let mut orders = std::collections::BTreeMap::new();
    let mut values: [Vec<f64>; 4] = Default::default();
    for index in 0..DRAWS {
        let drawn = jitter.draw(&mut Draws::new(key(index), Purpose::ColorJitter));
        let mut order = String::new();
        for change in drawn {
            let (which, value) = match change {
                color::Change::Brightness(factor) => (0, factor),
                color::Change::Contrast(factor) => (1, factor),
                color::Change::Saturation(factor) => (2, factor),
                color::Change::Hue(turns) => (3, turns),
            };
            order += &which.to_string();
            values[which].push(value);
        }
        *orders.entry(order).or_insert(0) += 1;
    }
    assert_eq!(orders.len(), 24);
    // 500 expected, deviation 22.
    assert!(orders.values().all(|count| (390..610).contains(count)), "{orders:?}");
    for (values, [low, high]) in values.iter().zip([[0.6, 1.4], [0.0, 2.5], [0.8, 1.2], [-0.3, 0.3]]) {
        assert!(values.iter().all(|value| (low..high).contains(value)));
        let scaled: Vec<f64> = values.iter().map(|value| (value - low) / (high - low)).collect();
        let mean = scaled.iter().sum::<f64>() / DRAWS as f64;
        let square = scaled.iter().map(|x| x * x).sum::<f64>() / DRAWS as f64;
        assert!((mean - 0.5).abs() < 5.0 * (1.0f64 / 12.0 / DRAWS as f64).sqrt(), "{mean}");
        assert!((square - 1.0 / 3.0).abs() < 5.0 * (4.0f64 / 45.0 / DRAWS as f64).sqrt(), "{square}");
    }
}

#[test]
fn policies_draw_every_operation_as_often_as_torchvision() {
    const DRAWS: u64 = 14_000;
    let (mut rand, mut wide) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    let mut magnitudes = std::collections::BTreeSet::new();
    for index in 0..DRAWS {
        let draws = || Draws::new(key(index), Purpose::Policy);
        let policy = Policy::RandAugment { num_ops: 2, magnitude: 9 };
        for (operation, magnitude) in policy.draw(224, 224, &mut draws()) {
            *rand.entry(format!("{operation:?}")).or_insert(0) += 1;
            assert_eq!(magnitude.abs(), operation.magnitude(9, BINS, 224, 224));
        }
        let drawn = Policy::TrivialAugment.draw(224, 224, &mut draws());
        let [(operation, magnitude)] = drawn[..] else { panic!("one operation") };
        *wide.entry(format!("{operation:?}")).or_insert(0) += 1;
        if operation == Operation::Rotate {
            magnitudes.insert((magnitude * 2.0) as i64);
        }
    }
    assert_eq!((rand.len(), wide.len()), (14, 14));
    // 2000 and 1000 expected, deviations 43 and 30.
    assert!(rand.values().all(|count| (1780..2220).contains(count)), "{rand:?}");
    assert!(wide.values().all(|count| (845..1155).contains(count)), "{wide:?}");
    assert_eq!(magnitudes.len(), 61);
}

#[test]
fn every_wrong_number_is_told() {
    let bad = Augmentation {
        scale_jitter: Some([18, 30]),
        vertical_flip: 2.0,
        policy: Some(Policy::RandAugment { num_ops: 0, magnitude: 9 }),
        color_jitter: ColorJitter { brightness: f64::NAN, contrast: -1.0, saturation: 0.0, hue: 0.6 },
        pca_color: f64::INFINITY,
        ..Augmentation::default()
    };
    let mistakes = bad.mistakes(20);
    assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
    insta::assert_snapshot!(mistakes[2], @"scale_jitter: is another way to choose a part of the image than `random_resized_crop`: keep one of the two");
    let jitter =
        |range| Augmentation { scale_jitter: Some(range), ..Augmentation::none() }.mistakes(20).len();
    assert_eq!([jitter([20, 20]), jitter([30, 25]), jitter([20, 5000])], [0, 1, 1]);
}

/// The plan of a recipe without the new changes reads the same, and so does its run folder.
#[test]
fn what_is_off_is_not_written() {
    let text = serde_json::to_string(&Augmentation::default()).unwrap();
    assert_eq!(
        text,
        "{\"random_resized_crop\":true,\"scale\":[0.08,1.0],\"ratio\":[0.75,1.3333333333333333],\"flip\":0.5}"
    );
    assert_eq!(serde_json::from_str::<Augmentation>(&text).unwrap(), Augmentation::default());
}
