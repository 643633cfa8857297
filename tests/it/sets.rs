//! Published CIFAR and MNIST sets: the same numbers, to the bit, as from images with files of their
//! own.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use crate::digits::{Lab, recipe};
use crate::extract::LETTERS;
use crate::program::{Tl, repository};

/// A picture of `side` × `side` pixels, a plane a channel.
fn planes(index: usize, side: usize, channels: usize) -> Vec<u8> {
    let label = index % 2;
    let value = |byte: usize| {
        let (plane, row, column) = (byte / (side * side), byte / side % side, byte % side);
        let stripe = if label == 0 { row } else { column };
        ((stripe * 29) ^ (index * 13 + plane * 40) ^ (row * column)) as u8
    };
    (0..side * side * channels).map(value).collect()
}

fn write_png(path: &Path, side: usize, planes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), side as u32, side as u32);
    let colour = if planes.len() == side * side { png::ColorType::Grayscale } else { png::ColorType::Rgb };
    encoder.set_color(colour);
    let pixels: Vec<u8> =
        (0..side * side).flat_map(|pixel| planes[pixel..].iter().step_by(side * side).copied()).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

const CLASSES: [&str; 2] = ["cat", "dog"];
/// Images in each batch.
const BATCH: usize = 6;

/// CIFAR-10 in `set`, and its images as files, in the order of the set, in `train.csv` and
/// `test.csv`.
fn cifar() -> Lab {
    let lab = Lab::new(1);
    lab.write("set/batches.meta.txt", "cat\ndog\n\n");
    let (mut train, mut test) = (String::from("path,label\n"), String::from("path,label\n"));
    for batch in 0..6 {
        let mut records = Vec::new();
        for index in batch * BATCH..(batch + 1) * BATCH {
            let pixels = planes(index, 32, 3);
            let png = format!("png/{index}.png");
            write_png(&lab.path(&png), 32, &pixels);
            let row = format!("{png},{}\n", CLASSES[index % 2]);
            if batch < 5 {
                train.push_str(&row)
            } else {
                test.push_str(&row)
            }
            records.push((index % 2) as u8);
            records.extend(pixels);
        }
        let name = if batch < 5 { format!("data_batch_{}.bin", batch + 1) } else { "test_batch.bin".into() };
        lab.write(&format!("set/{name}"), records);
    }
    lab.write("train.csv", train);
    lab.write("test.csv", test);
    lab
}

/// MNIST in `set`, and its test images in `test.csv`.
fn mnist() -> Lab {
    let lab = Lab::new(1);
    let idx = |sizes: &[u32], values: Vec<u8>| {
        let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
        [&[0, 0, 8, (sizes.len() / 4) as u8], &sizes[..], &values].concat()
    };
    for (name, first, count) in [("train", 0, 12), ("t10k", 12, 12)] {
        let all = first..first + count;
        let values = all.clone().flat_map(|index| planes(index, 28, 1)).collect();
        lab.write(&format!("set/{name}-images-idx3-ubyte"), idx(&[count as u32, 28, 28], values));
        let labels = all.map(|index| (index % 2) as u8).collect();
        lab.write(&format!("set/{name}-labels-idx1-ubyte"), idx(&[count as u32], labels));
    }
    let mut rows = String::from("path,label\n");
    for index in 12..24 {
        write_png(&lab.path(&format!("png/{index}.png")), 28, &planes(index, 28, 1));
        rows.push_str(&format!("png/{index}.png,{}\n", index % 2));
    }
    lab.write("test.csv", rows);
    lab
}

fn call(lab: &Lab, args: &[&str]) -> Tl {
    lab.tl(args).args(["--device", "cpu", "--model"]).arg(repository(LETTERS))
}

/// Rows of a CSV without the path.
fn values(lab: &Lab, name: &str) -> Vec<String> {
    let text = String::from_utf8(lab.read(name)).unwrap();
    text.lines().skip(1).map(|line| line.split_once(',').unwrap().1.to_string()).collect()
}

#[test]
fn features_and_predictions_are_those_of_the_images_as_files() {
    for (lab, test) in [(cifar(), "set/test_batch.bin"), (mnist(), "set/t10k-images-idx3-ubyte")] {
        for (args, out) in [
            (&["extract"][..], "npy"),
            (&["predict", "--top-k", "3", "--crops", "10"], "csv"),
            (&["extract"], "csv"),
        ] {
            let (set, png) = (format!("set.{out}"), format!("png.{out}"));
            call(&lab, &[args, &[test, "--out", &set]].concat()).run().expect(0);
            call(&lab, &[args, &["test.csv", "--out", &png]].concat()).run().expect(0);
            match out {
                "npy" => assert!(lab.read("set.npy") == lab.read("png.npy"), "{test}"),
                _ => assert_eq!(values(&lab, &set), values(&lab, &png), "{test}"),
            }
        }
        let text = String::from_utf8(lab.read("set.npy.index.csv")).unwrap();
        assert_eq!(text.lines().nth(2).unwrap().split_once(',').unwrap().0, format!("{test}#1"));
        // The whole set, and its last image by itself.
        call(&lab, &["extract", "set", "--out", "all.csv"]).run().expect(0);
        let (all, part) = (values(&lab, "all.csv"), values(&lab, "set.csv"));
        assert!(all.len() > part.len() && all.windows(part.len()).any(|rows| rows == part), "{test}");
        let last = format!("{test}#{}", part.len() - 1);
        let run = call(&lab, &["predict", &last]).run().expect(0);
        assert!(run.stdout.contains(&last), "{}", run.stdout);
    }
}

/// The tensors of a model file.
fn model(lab: &Lab, run: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = lab.read(&format!("{run}/model.safetensors"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> =
        tensors.iter().map(|(name, view)| (name.to_string(), view.data().to_vec())).collect();
    tensors.sort();
    tensors
}

#[test]
fn finetune_learns_from_a_set_as_from_files() {
    let lab = cifar();
    for method in ["linear", "full"] {
        lab.write("r.yaml", recipe(method));
        let sets = ["augment.flip=0.5", "data.val=test.csv", "train.epochs=2"];
        lab.finetuned("file-run", &sets);
        let sets = ["augment.flip=0.5", "data.train=set", "data.val=set", "data.test=set", "train.epochs=2"];
        lab.finetuned("set-run", &sets);
        assert!(model(&lab, "file-run") == model(&lab, "set-run"), "{method}");
        let (png, set) = (lab.json("file-run/report.json"), lab.json("set-run/report.json"));
        assert_eq!((&png["val"], &png["test"]), (&set["val"], &set["test"]), "{method}");
        assert_eq!(set["classes"], serde_json::json!(CLASSES));
        for run in ["file-run", "set-run"] {
            fs::remove_dir_all(lab.path(run)).unwrap();
        }
    }
}

#[test]
fn a_set_brings_its_own_test_part_and_the_plan_says_so() {
    let lab = cifar();
    lab.write(
        "r.yaml",
        recipe("linear")
            .replace("data: { train: train.csv, val: val.csv, test: test.csv }", "data: { train: set }"),
    );
    let run = lab.tl(&["plan", "r.yaml"]).run().expect(0);
    insta::assert_snapshot!(run.notes(), @"
    note: set is CIFAR-10 (binary version): 30 images of its training part
    note: set is CIFAR-10 (binary version): 6 images of its test part
    note: there is no `data.test`: the test part of set is what the model is tested on at the end
    note: `augment.flip` is not used by `method: linear`
    note: `augment.ratio` is not used by `method: linear`
    note: `augment.scale` is not used by `method: linear`
    ");
    let run = run.says(&["measured on 6 images for validation, 6 images to test on at the end\n"]);
    let plan: serde_yaml::Value = serde_yaml::from_str(&run.stdout).unwrap();
    assert_eq!(plan["data"]["test"], "set");
    assert_eq!((&plan["data"]["train_images"], &plan["data"]["test_images"]), (&24.into(), &6.into()));
    lab.finetuned("run", &[]);
    assert_eq!(lab.json("run/report.json")["test"]["images"], 6);
    // A validation set is not tested on by default.
    let run = lab.tl(&["plan", "r.yaml", "--set", "data.val=./set"]).run().expect(0);
    assert!(!run.stderr.contains("to test on") && run.stderr.contains("measured on 6 images for validation"));
    // Training images that are in the test part too are left out.
    let mut batch = lab.read("set/test_batch.bin");
    batch[..3073].copy_from_slice(&lab.read("set/data_batch_4.bin")[3073..6146]);
    lab.write("set/test_batch.bin", batch);
    insta::assert_snapshot!(lab.tl(&["plan", "r.yaml"]).run().expect(0).notes(), @"
    note: set is CIFAR-10 (binary version): 30 images of its training part
    note: set is CIFAR-10 (binary version): 6 images of its test part
    note: there is no `data.test`: the test part of set is what the model is tested on at the end
    note: 1 training image is in `data.test` too, compared by content (data_batch_4.bin#1): left out of training, so that the model is measured on images that are new to it
    note: `augment.flip` is not used by `method: linear`
    note: `augment.ratio` is not used by `method: linear`
    note: `augment.scale` is not used by `method: linear`
    ");
    // Mistakes of its files are mistakes of the recipe.
    fs::remove_file(lab.path("set/data_batch_2.bin")).unwrap();
    lab.write("set/test_batch.bin", "");
    insta::assert_snapshot!(lab.tl(&["plan", "r.yaml"]).run().expect(2).told(), @"
    error: r.yaml: 1 mistake
      line 4: data.train: set: is CIFAR-10 (binary version), but 1 file of it is missing: data_batch_2.bin; unpack or download it again
    ");
    insta::assert_snapshot!(call(&lab, &["predict", "set"]).run().expect(1).told(), @"error: set/test_batch.bin: expected records of 3073 bytes (1 label and 32 x 32 pixels), found 0 bytes, which are 0 records and 0 bytes more: it is cut short or no file of CIFAR; download it again");
}
