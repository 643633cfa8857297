//! Compares with Pillow and torchvision through files written by `tests/oracle/pixels.py`.

mod draws;
mod refusals;

use std::fs;
use std::path::PathBuf;

use super::*;

const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 1_000_000, decode: Decode::Exact, white_level: None };

/// `tests/fixtures/pixels`, or the folder in `PIXELS`: `--many` images, for the tests named
/// `…torchvision`.
fn fixtures() -> PathBuf {
    match std::env::var_os("PIXELS") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pixels"),
    }
}

fn rows(file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(fixtures().join(file)).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_string).collect()).collect()
}

pub(super) fn preset(resize_size: u32, crop_size: u32, interpolation: Interpolation) -> Preprocessing {
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    Preprocessing {
        resize_size,
        crop_size,
        interpolation,
        mean,
        std,
        fit: Fit::Crop,
        pad_color: None,
        white_level: None,
    }
}

/// The presets of the script.
fn presets() -> [Preprocessing; 3] {
    use Interpolation::{Bicubic, Bilinear};
    match std::env::var_os("PIXELS") {
        None => [preset(16, 14, Bilinear), preset(24, 20, Bicubic), preset(40, 32, Bilinear)],
        Some(_) => [preset(256, 224, Bilinear), preset(232, 224, Bicubic), preset(342, 299, Bicubic)],
    }
}

/// CRC-32, bit by bit.
fn crc(bytes: impl IntoIterator<Item = u8>) -> String {
    let table: [u32; 256] = std::array::from_fn(|byte| {
        (0..8).fold(byte as u32, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    let step = |crc: u32, byte: u8| crc >> 8 ^ table[usize::from(crc as u8 ^ byte)];
    format!("{:08x}", !bytes.into_iter().fold(!0, step))
}

fn crc_of(image: &RgbImage) -> String {
    crc(image.data.iter().copied())
}

/// Reading a file only as far as needed gives the same as decoding all of it.
#[test]
fn files_read_as_far_as_needed_equal_torchvision() {
    for row in rows("expected.csv") {
        let path = fixtures().join(&row[0]);
        let limits = DecodeLimits::default();
        let image = decode_file(&path, limits).unwrap();
        let [first, second, third] = presets();
        let (squash, pad) = (first.with_fit(Fit::Squash), second.with_fit(Fit::Pad));
        for preset in [&first, &second, &third, &squash, &pad] {
            assert_eq!(preset.read_eval(&path, limits).unwrap(), preset.eval_pixels(&image), "{}", row[0]);
            for (draw, range) in
                [None, None, Some([preset.crop_size, 2 * preset.crop_size])].iter().enumerate()
            {
                let augmentation = Augmentation {
                    random_resized_crop: range.is_none(),
                    scale_jitter: *range,
                    ..Augmentation::default()
                };
                let key = DrawKey { seed: 1, epoch: draw as u64, image: 7 };
                assert_eq!(
                    preset.read_train(&augmentation, &path, limits, key).unwrap(),
                    preset.train_input(&augmentation, &image, key),
                    "{}",
                    row[0]
                );
            }
        }
        let views = Views { crops: Crops::Ten, scales: vec![first.crop_size, third.crop_size * 2] };
        let presets = [&first, &second, &squash, &pad];
        let windows = Picture::Stored((&path).into(), limits).windows(&presets, &views).unwrap();
        assert_eq!(windows, presets.map(|preset| preset.windows(&views, &image)), "{}", row[0]);
    }
}

/// The same pixels in another coding, which Pillow too reads as the same: made by `jpegtran
/// -arithmetic` and by Pillow.
#[test]
fn rare_codings_hold_the_same_pixels() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (rare, common) in [
        ("arithmetic.jpg", "comment.jpg"),
        ("arithmetic-progressive.jpg", "comment.jpg"),
        ("bilevel-group4.tif", "bilevel.pbm"),
    ] {
        let read = |path: PathBuf| decode_file(&path, LIMITS).unwrap();
        let found = read(folder.join("formats").join(rare));
        assert!(found == read(folder.join("pixels").join(common)), "{rare}");
    }
}

/// Reduced by the decoder, the network's input stays close to the exact one, upright and in place;
/// files that cannot be reduced are unchanged.
#[test]
fn fast_decoding_moves_pixels_little() {
    let crop = preset(6, 5, Interpolation::Bilinear);
    for fit in [Fit::Crop, Fit::Squash, Fit::Pad] {
        moves_pixels_little(&crop.with_fit(fit));
    }
}

fn moves_pixels_little(preset: &Preprocessing) {
    let fast = DecodeLimits { decode: Decode::Fast, ..DecodeLimits::default() };
    let mut reduced = 0;
    for row in rows("expected.csv") {
        let path = fixtures().join(&row[0]);
        let image = decode_file(&path, fast).unwrap();
        assert_eq!(crc_of(&image), row[3], "{}: only where a network sees less", row[0]);
        let exact = preset.eval_pixels(&image);
        let found = preset.read_eval(&path, fast).unwrap();
        let jpeg = fs::read(&path).unwrap().starts_with(b"\xFF\xD8\xFF");
        // Both sides of a padded image are below the crop's, and in proportion.
        let sides = [image.width, image.height];
        let decides = if preset.fit == Fit::Pad { sides.iter().max() } else { sides.iter().min() };
        if !jpeg || decides.is_some_and(|side| *side < 4 * preset.scale()) {
            assert_eq!(found, exact, "{}", row[0]);
            continue;
        }
        reduced += 1;
        let differences = exact.data.iter().zip(&found.data).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = differences.sum::<f64>() / exact.data.len() as f64;
        assert!(mean < 6.0, "{}: {mean} levels", row[0]);
    }
    assert!(reduced >= 10, "{:?}: {reduced}", preset.fit);
}

fn open(name: &str) -> RgbImage {
    decode_file(&fixtures().join(name), DecodeLimits::default()).unwrap()
}

#[test]
fn decoded_and_preset_pixels_equal_pillow_and_torchvision() {
    let mut wrong = Vec::new();
    let expected = rows("expected.csv");
    assert!(expected.len() >= 200);
    for row in &expected {
        let name = &row[0];
        let image = match decode_file(&fixtures().join(name), DecodeLimits::default()) {
            Ok(image) => image,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        let found = [image.width.to_string(), image.height.to_string(), crc_of(&image)];
        if row[1..4] != found {
            wrong.push(format!("{name}: decoded to {found:?}, expected {:?}", &row[1..4]));
        }
        for (preset, expected) in presets().iter().zip(&row[4..]) {
            let found = crc_of(&preset.eval_pixels(&image));
            if found != *expected && row[3] == crc_of(&image) {
                wrong
                    .push(format!("{name}: resized to {}: {found}, expected {expected}", preset.resize_size));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}

/// Checks docs/recipe.md on grey images; the test above compares the values with
/// Pillow's.
#[test]
fn grey_images_have_three_equal_channels() {
    let grey = |name: &str| {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        (name.starts_with("grey") || name.starts_with("bilevel")) && ending != "csv"
    };
    let names: Vec<String> = rows("expected.csv").into_iter().map(|row| row[0].clone()).collect();
    let names: Vec<&String> = names.iter().filter(|name| grey(name)).collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        let image = open(name);
        assert!(image.data.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]), "{name}");
        assert!(image.data.iter().any(|&value| value != image.data[0]), "{name} shows something");
    }

    use ::png::{BitDepth, ColorType};
    let decoded = |color, depth, samples: &[u8], pixels: u32| {
        let mut bytes = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut bytes, pixels, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(samples).unwrap();
        decode_bytes(&bytes, LIMITS).unwrap().data
    };
    let grey = |values: [u8; 3]| values.map(|value| [value; 3]).concat();
    assert_eq!(decoded(ColorType::Grayscale, BitDepth::Eight, &[0, 100, 255], 3), grey([0, 100, 255]));
    // Transparent pixels keep their grey, and 16 bits keep their high byte.
    let transparent = [7, 255, 100, 0, 255, 128];
    assert_eq!(decoded(ColorType::GrayscaleAlpha, BitDepth::Eight, &transparent, 3), grey([7, 100, 255]));
    let wide = [0x12, 0x34, 0x80, 0xFF, 0x00, 0xFF];
    assert_eq!(decoded(ColorType::Grayscale, BitDepth::Sixteen, &wide, 3), grey([0x12, 0x80, 0]));
    assert_eq!(decoded(ColorType::Grayscale, BitDepth::One, &[0b0100_0000], 3), grey([0, 255, 0]));
}

#[test]
fn given_rectangles_and_flips_equal_torchvision() {
    for row in rows("crops.csv") {
        let number = |column: usize| row[column].parse::<u32>().unwrap();
        let crop = CropBox { left: number(1), top: number(2), width: number(3), height: number(4) };
        let mut pixels = presets()[number(5) as usize].resized_crop(&open(&row[0]), crop);
        if number(6) == 1 {
            pixels.flip_horizontally();
        }
        assert_eq!(crc_of(&pixels), row[7], "{row:?}");
    }
}

#[test]
fn ten_crops_at_a_scale_equal_torchvision() {
    for row in rows("views.csv") {
        let number = |column: usize| row[column].parse::<u32>().unwrap();
        let views = Views { crops: Crops::Ten, scales: vec![number(2)] };
        let mut found = Vec::new();
        for Window { mut pixels, upright, mirrored } in
            presets()[number(1) as usize].windows(&views, &open(&row[0]))
        {
            found.extend(upright.then(|| crc_of(&pixels)));
            pixels.flip_horizontally();
            found.extend(mirrored.then(|| crc_of(&pixels)));
        }
        found.sort();
        assert_eq!(found, row[3..], "{row:?}");
    }
}

/// The whole image, a rectangle of it, and the centre and ten crops of a scale.
#[test]
fn squashed_and_padded_images_equal_torchvision() {
    let rows = rows("fits.csv");
    assert!(rows.len() >= 200);
    for row in rows {
        let number = |column: usize| row[column].parse::<u32>().unwrap();
        let image = open(&row[0]);
        let crop = CropBox { left: number(3), top: number(4), width: number(5), height: number(6) };
        let expected = row[7..].chunks_exact(4);
        assert_eq!(expected.len(), 2);
        for (fit, expected) in [Fit::Squash, Fit::Pad].into_iter().zip(expected) {
            let preset = presets()[number(1) as usize].with_fit(fit);
            let views = |crops| preset.windows(&Views { crops, scales: vec![number(2)] }, &image);
            let centre = views(Crops::One);
            assert_eq!(centre.len(), 1);
            let mut ten = Vec::new();
            for Window { mut pixels, upright, mirrored } in views(Crops::Ten) {
                ten.extend(upright.then(|| crc_of(&pixels)));
                pixels.flip_horizontally();
                ten.extend(mirrored.then(|| crc_of(&pixels)));
            }
            ten.sort();
            let found = [
                crc_of(&preset.eval_pixels(&image)),
                crc_of(&preset.resized_crop(&image, crop)),
                crc_of(&centre[0].pixels),
                crc(ten.join("+").into_bytes()),
            ];
            assert_eq!(found, expected, "{fit:?} {row:?}");
        }
    }
}

/// Random parts of a squashed or padded image: the whole is one of them, and the shape of each is
/// within the ratios, relative to the image's own.
#[test]
fn training_sees_parts_in_the_shape_that_evaluation_sees() {
    let image = RgbImage { width: 96, height: 32, data: (0..96 * 32 * 3).map(|b| (b % 247) as u8).collect() };
    let one = [1., 1.];
    let whole = Augmentation { scale: one, ratio: one, flip: 0., ..Augmentation::default() };
    let jitter = Augmentation { random_resized_crop: false, scale_jitter: Some([32, 32]), ..whole.clone() };
    let other = Augmentation::default();
    let crop = preset(32, 32, Interpolation::Bilinear);
    for fit in [Fit::Squash, Fit::Pad] {
        let preset = crop.with_fit(fit);
        let key = |epoch| DrawKey { seed: 3, epoch, image: 5 };
        for augmentation in [&whole, &jitter] {
            let seen = preset.train_pixels(augmentation, &image, key(0));
            assert_eq!(seen, preset.eval_pixels(&image), "{fit:?}");
            assert_ne!(seen, crop.train_pixels(augmentation, &image, key(0)));
        }
        // As wide as 3 : 1, times 3/4 to 4/3: from 32 / 4 to 32 / 2.25 rows.
        let margins = |pixels: &RgbImage| {
            let rows = pixels.data.chunks_exact(32 * 3);
            rows.filter(|row| row.chunks_exact(3).all(|pixel| pixel == [124, 116, 104])).count()
        };
        let seen: Vec<usize> =
            (0..50).map(|epoch| margins(&preset.train_pixels(&other, &image, key(epoch)))).collect();
        let expected = if fit == Fit::Pad { 17..=25 } else { 0..=0 };
        assert!(seen.iter().all(|rows| expected.contains(rows)), "{fit:?} {seen:?}");
        let large = Augmentation { scale_jitter: Some([64, 96]), ..jitter.clone() };
        let pixels = |epoch| preset.train_pixels(&large, &image, key(epoch));
        assert_ne!(pixels(1), pixels(2));
    }
}

/// PNGs that Pillow reads, or refuses, alike: a checksum inside the compressed pixels covers these.
#[test]
fn pngs_without_an_end_or_with_a_wrong_checksum_are_read_as_pillow_does() {
    let name = "grey8.png";
    let (bytes, whole) = (fs::read(fixtures().join(name)).unwrap(), open(name));
    let decoded = |bytes: &[u8]| decode_bytes(bytes, LIMITS);
    let at = bytes.windows(4).position(|window| window == b"IDAT").unwrap();
    let length = u32::from_be_bytes(*bytes[at - 4..].first_chunk().unwrap()) as usize;
    let with = |place: usize| {
        let mut changed = bytes.clone();
        changed[place] ^= 255;
        changed
    };
    assert_eq!(decoded(&bytes[..bytes.len() - 12]).unwrap(), whole, "no end");
    for cut in [1, 5, 11] {
        assert_eq!(decoded(&bytes[..bytes.len() - cut]).unwrap(), whole, "an end that lacks {cut} bytes");
    }
    let wrong = with(at + 4 + length);
    assert_eq!(decoded(&wrong).unwrap(), whole, "a wrong checksum");
    assert_eq!(decoded(&wrong[..wrong.len() - 12]).unwrap(), whole, "both");
    // Changed or missing pixels are an error.
    assert!(decoded(&with(at + 4 + length / 2)).is_err());
    assert!(decoded(&bytes[..at + 4 + length / 2]).unwrap_err().contains("truncated"));
    assert!(decoded(&bytes[..at + 8 + length]).is_err(), "the second half is missing");
}

/// Heads of files agree with decoding, except for the rotation.
#[test]
fn sizes_are_read_from_the_heads_of_files() {
    // A frame that exceeds a GIF's screen widens it.
    let rows = rows("expected.csv").into_iter().filter(|row| row[0] != "over-the-edge.gif");
    for row in rows {
        let found = image_size(&fixtures().join(&row[0])).map(|(width, height)| [width, height]);
        let number = |column: usize| row[column].parse::<u32>().unwrap();
        let (width, height) = (number(1), number(2));
        let known = found == Some([width, height]) || found == Some([height, width]);
        assert!(known, "{}: {found:?}, not {width} x {height}", row[0]);
    }
    assert_eq!(image_size(&fixtures().join("expected.csv")), None);
    assert_eq!(image_size(&fixtures()), None);
}

#[test]
fn normalised_numbers_equal_torchvision() {
    for row in rows("normalised.csv") {
        let preset = &presets()[row[1].parse::<usize>().unwrap()];
        let pixels = preset.eval_pixels(&open(&row[0]));
        let mut numbers = vec![0.0; pixels.data.len()];
        preset.normalise_into(&pixels.into(), &mut numbers);
        assert_eq!(crc(numbers.iter().flat_map(|number| number.to_le_bytes())), row[2], "{row:?}");
    }
}

#[test]
fn endings_are_known_in_any_case() {
    for name in
        ["a.jpg", "a.JPEG", "b.c.PnG", "x.tif", "x.TIFF", "x.webp", "x.gif", "x.bmp", "x.JP2", "x.j2k"]
    {
        assert!(is_image_name(name.as_ref()), "{name}");
    }
    for name in ["a", "jpg", ".jpg", "a.txt", "a.jpg.csv", "a.heic"] {
        assert!(!is_image_name(name.as_ref()), "{name}");
    }
}

#[test]
fn presets_and_augmentations_say_what_is_wrong_with_them() {
    let good = preset(256, 224, Interpolation::Bilinear);
    assert_eq!(good.mistake(), None);
    let bad = [
        Preprocessing { crop_size: 0, ..good.clone() },
        Preprocessing { resize_size: u32::MAX, ..good.clone() },
        Preprocessing { mean: [f32::NAN, 0.0, 0.0], ..good.clone() },
        Preprocessing { std: [1.0, 0.0, 1.0], ..good.clone() },
    ];
    assert!(bad.iter().all(|preset| preset.mistake().is_some()));
    assert!(Augmentation::default().mistakes(224).is_empty());
    let bad =
        Augmentation { scale: [0.5, 0.1], ratio: [0.0, 1.0], flip: f64::NAN, ..Augmentation::default() };
    assert_eq!(bad.mistakes(224).len(), 3);
    let text = serde_json::to_string(&good).unwrap();
    assert!(text.contains("\"bilinear\""));
    assert_eq!(serde_json::from_str::<Preprocessing>(&text).unwrap(), good);
    assert!(serde_json::from_str::<Augmentation>("{\"flipp\": 1}").is_err());
}
