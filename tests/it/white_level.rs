//! Images of 16 bits a sample that use 12 of them.

use std::fs;
use std::path::Path;

use crate::digits::Lab;
use crate::extract::LETTERS;
use crate::program::{Run, repository};

const SIDE: usize = 64;

/// A picture of noise below `full`, with bars across (class 0) or down (class 1), in 16 bits or the
/// upper 8 of 12.
fn draw(path: &Path, class: usize, seed: usize, sixteen_bits: bool) {
    let mut state = ((seed * 2 + class) as u32).wrapping_mul(2_654_435_769).wrapping_add(1);
    let mut data = Vec::new();
    for y in 0..SIDE {
        for x in 0..SIDE {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bar = (if class == 0 { y } else { x } + seed) / 6 % 2;
            let sample = (state >> 16) as u16 % 1024 + 3000 * bar as u16;
            match sixteen_bits {
                true => data.extend(sample.to_be_bytes()),
                false => data.push((sample >> 4) as u8),
            }
        }
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(if sixteen_bits { png::BitDepth::Sixteen } else { png::BitDepth::Eight });
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
}

fn lab() -> Lab {
    let lab = Lab::new(1);
    for class in 0..2 {
        for number in 0..8 {
            draw(&lab.path(&format!("train/{class}/{number}.png")), class, number, true);
            draw(&lab.path(&format!("val/{class}/{number}.png")), class, number + 100, true);
            draw(&lab.path(&format!("eight/{class}/{number}.png")), class, number + 100, false);
        }
    }
    let recipe = format!(
        "model: shufflenet_v2_x0_5\nweights: {}\npreprocess: {{ resize_size: {SIDE} }}\n\
         data: {{ train: train, val: val }}\nstrategy: {{ method: linear }}\ntrain: {{ c: 1 }}\n",
        repository(LETTERS).display()
    );
    lab.write("r.yaml", recipe);
    lab
}

const NOTE: &str =
    "images of 16 bits a sample were looked at, and no sample uses more than 12 of them (values up to 4095)";

#[test]
fn twelve_of_sixteen_bits_are_told_and_scaled_by_a_key_that_the_model_keeps() {
    let lab = lab();
    let run = lab.finetuned("dark", &[]);
    insta::assert_snapshot!(run.message("16 bits a sample"), @"note: 16 training images of 16 bits a sample were looked at, and no sample uses more than 12 of them (values up to 4095): with 65535 for white the brightest is at 6.2 % of it, nearly black to the network; `preprocess: { white_level: 4095 }` makes 4095 white");
    assert!(lab.json("dark/report.json")["notes"].to_string().contains(NOTE));
    let run = lab.finetuned("bright", &["preprocess.white_level=4095"]);
    assert!(!run.stderr.contains("16 bits"), "{}", run.stderr);
    let run = lab.tl(&["plan", "r.yaml", "--set", "preprocess.white_level=1023"]).run().expect(0);
    insta::assert_snapshot!(run.notes(), @"note: 16 training images of 16 bits a sample were looked at, and some samples are above `white_level: 1023`, up to 3840 or more: they become white; `preprocess: { white_level: 4095 }` makes 4095 white");

    // The same answers as for images of 8 bits that hold the upper 8 of 12.
    let predict = |model: &str, images: &str, options: &[&str]| -> (Run, Vec<String>) {
        let args = ["predict", "--device", "cpu", "--model", model, images, "--out", "p.csv"];
        let run = lab.tl(&args).args(options).run().expect(0);
        let rows = String::from_utf8(lab.read("p.csv")).unwrap();
        (run, rows.lines().skip(1).map(|row| row.split_once(',').unwrap().1.to_string()).collect())
    };
    let (run, rows) = predict("bright", "val", &[]);
    assert!(!run.stderr.contains("16 bits"), "{}", run.stderr);
    assert_eq!(rows, predict("bright", "eight", &[]).1);
    let (run, same) = predict("dark", "val", &["--white-level", "4095"]);
    insta::assert_snapshot!(run.told(), @"
    note: dark was trained with `white_level: 65535`, and is shown images with `4095`
    16 rows in p.csv
    ");
    assert_eq!(same, predict("dark", "eight", &[]).1);
    let (run, _) = predict("dark", "val", &[]);
    insta::assert_snapshot!(run.told(), @"
    note: 16 images of 16 bits a sample were looked at, and no sample uses more than 12 of them (values up to 4095): with 65535 for white the brightest is at 6.2 % of it, nearly black to the network; `--white-level 4095` makes 4095 white, if the model was trained so
    16 rows in p.csv
    ");

    // Two models with different whites see each their own.
    let both = |images: &str, options: &[&str]| {
        let args =
            ["predict", "--device", "cpu", "--model", "bright", "--model", "dark", images, "--out", "p.csv"];
        lab.tl(&args).args(options).run().expect(0);
        lab.read("p.csv")
    };
    assert_ne!(both("val", &[]), both("val", &["--white-level", "4095"]));
}

#[test]
fn features_of_sixteen_bits_with_their_white_are_those_of_eight() {
    let lab = lab();
    let letters = repository(LETTERS);
    let extract = |images: &str, out: &str, options: &[&str]| {
        let args = ["extract", "--device", "cpu", images, "--out", out];
        lab.tl(&args).arg("--model").arg(&letters).args(options).run()
    };
    insta::assert_snapshot!(extract("val", "dark.npy", &[]).expect(0).message("16 bits a sample"), @"note: 16 images of 16 bits a sample were looked at, and no sample uses more than 12 of them (values up to 4095): with 65535 for white the brightest is at 6.2 % of it, nearly black to the network; `--white-level 4095` makes 4095 white, if the model was trained so");
    let run = extract("val", "bright.npy", &["--white-level", "4095"]).expect(0);
    assert!(!run.stderr.contains("16 bits"), "{}", run.stderr);
    extract("eight", "eight.npy", &[]).expect(0);
    assert_eq!(lab.read("bright.npy"), lab.read("eight.npy"));
    assert_ne!(lab.read("dark.npy"), lab.read("eight.npy"));
    insta::assert_snapshot!(extract("val", "bad.npy", &["--white-level", "0"]).expect(2).told(), @"
    error: invalid value '0' for '--white-level <N>': expected a whole number from 1 to 65535

    For more information, try '--help'.
    ");
}
