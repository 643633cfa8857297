//! `tl predict` and `tl models` as programs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::extract::{LETTERS, LISTED, pictures, with_letters};
use crate::program::{Run, Tl, answers, repository, tl};

fn predict(folder: &Path, args: &[&str]) -> Run {
    with_letters("predict", folder, args)
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(Into::into).collect()).collect()
}

fn file_rows(path: &Path) -> Vec<Vec<String>> {
    rows(&fs::read_to_string(path).unwrap())
}

#[test]
fn a_table_on_the_terminal_has_a_row_for_each_image() {
    let folder = pictures();
    fs::write(folder.path().join("images/b/11.png"), "no image").unwrap();
    let run = predict(folder.path(), &["images"]).expect(1);
    let lines: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["path", "label", "confidence", "error"]);
    let paths: Vec<&str> = lines[1..].iter().map(|line| line[0]).collect();
    let mut expected: Vec<&str> = LISTED.iter().map(|row| row.0).collect();
    expected.insert(2, "images/b/11.png");
    assert_eq!(paths, expected);
    assert!(lines[3].len() > 3, "the bad image's reason: {:?}", lines[3]);
    insta::assert_snapshot!(run.told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    1 of 6 images could not be read: see `error` in the table
    ");
}

#[test]
fn columns_for_top_k_and_the_error_last() {
    let folder = pictures();
    fs::write(folder.path().join("images/b/11.png"), "no image").unwrap();
    let out = folder.path().join("p.csv");
    let run = predict(folder.path(), &["images", "--top-k", "3", "--out", "p.csv"]).expect(1);
    assert_eq!(run.stdout, "");
    insta::assert_snapshot!(run.told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    6 rows in p.csv
    1 of 6 images could not be read: see `error` in its row
    ");
    let table = file_rows(&out);
    let columns = "path,label,confidence,label_2,confidence_2,label_3,confidence_3,error";
    assert_eq!(table[0].join(","), columns);
    assert_eq!(table.len(), 7);
    for row in &table[1..] {
        let confidences: Vec<f64> = [2, 4, 6].iter().filter_map(|&column| row[column].parse().ok()).collect();
        if row[0] == "images/b/11.png" {
            assert!(confidences.is_empty() && row[1].is_empty() && !row[7].is_empty(), "{row:?}");
        } else {
            assert_eq!((confidences.len(), row[7].as_str()), (3, ""));
            assert!(confidences.is_sorted_by(|a, b| a >= b) && confidences.iter().sum::<f64>() <= 1.0001);
            assert!(row[1] != row[3] && row[3] != row[5] && row[1] != row[5]);
        }
    }

    predict(folder.path(), &["images", "--top-k", "3", "--out", "p.jsonl", "--quiet"]).expect(1);
    let lines = fs::read_to_string(folder.path().join("p.jsonl")).unwrap();
    for (line, row) in lines.lines().zip(&table[1..]) {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 8);
        assert_eq!(object["path"], row[0].as_str());
        assert_eq!(object["label"].as_str().unwrap_or_default(), row[1]);
        assert_eq!(object["error"].as_str().unwrap_or_default(), row[7]);
    }
    assert_eq!(lines.lines().count(), 6);

    predict(folder.path(), &["images", "--top-k", "3", "--out", "p.parquet"]).expect(1);
    let parquet = fs::File::open(folder.path().join("p.parquet")).unwrap();
    let builder = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap();
    let names: Vec<&str> = builder.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names.join(","), columns);
    assert_eq!(builder.metadata().file_metadata().num_rows(), 6);
}

#[test]
fn more_classes_than_there_are_is_noted() {
    let folder = pictures();
    let run = predict(folder.path(), &["images/top.png", "--top-k", "60", "--out", "p.csv"]).expect(0);
    insta::assert_snapshot!(run.told(), @"
    note: the model has 52 classes, so each row names 52
    1 row in p.csv
    ");
    assert_eq!(file_rows(&folder.path().join("p.csv"))[0].len(), 1 + 2 * 52 + 1);
    insta::assert_snapshot!(predict(folder.path(), &["images", "--top-k", "0"]).expect(2).told(), @"
    error: invalid value '0' for '--top-k <K>': expected a whole number from 1 to 100000

    For more information, try '--help'.
    ");
}

#[test]
fn the_order_and_the_labels_do_not_depend_on_threads_or_batches() {
    let folder = pictures();
    let mut seen = Vec::new();
    for (threads, batch) in [("1", "1"), ("2", "2"), ("5", "32")] {
        let args = ["images", "--threads", threads, "--batch-size", batch, "--out", "p.csv", "--quiet"];
        let run = predict(folder.path(), &args).expect(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
        let table = file_rows(&folder.path().join("p.csv"));
        seen.push(table[1..].iter().map(|row| (row[0].clone(), row[1].clone())).collect::<Vec<_>>());
    }
    assert!(seen[0].iter().zip(LISTED).all(|(row, (path, _))| row.0 == path), "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

#[test]
fn whoever_stops_reading_has_seen_enough() {
    let mut child = Tl::new(["predict", "--device", "cpu", "--threads", "1", "--model"])
        .arg(repository(LETTERS))
        .arg(repository("data/digits/test"))
        .spawn();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("path"), "{first}");
    let run = Run::from(child.wait_with_output().unwrap()).expect(0);
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("error"), "{}", run.stderr);
}

#[test]
fn a_model_is_a_file_a_run_folder_or_a_name_that_wins() {
    let folder = pictures();
    let letters = repository(LETTERS);
    for name in ["run", "resnet18"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::copy(&letters, folder.path().join(name).join("model.safetensors")).unwrap();
    }
    let with = |model: &str| {
        Tl::new(["predict", "--device", "cpu", "--threads", "1", "--model", model, "images/top.png"])
            .cwd(folder.path())
            .env("TORCH_HOME", folder.path().join("cache"))
            .env("TL_WEIGHTS_URL", "file:///nowhere")
            .run()
    };
    let expected = with(letters.to_str().unwrap()).expect(0).stdout;
    assert!(expected.contains("images/top.png"), "{expected}");
    assert_eq!(with("run").expect(0).stdout, expected);
    assert_eq!(with("run/model.safetensors").expect(0).stdout, expected);
    assert_eq!(with("./resnet18").expect(0).stdout, expected);
    insta::assert_snapshot!(with("resnet18").expect(1).told(), @"error: cannot read /nowhere/resnet18-f37072fd.pth: No such file or directory");
    // As weights of a known name, the file brings its classes too.
    let run = Tl::new([
        "predict",
        "--device",
        "cpu",
        "--model",
        "shufflenet_v2_x0_5",
        "images/top.png",
        "--weights",
    ])
    .arg("run")
    .cwd(folder.path())
    .run();
    assert_eq!(run.expect(0).stdout, expected);
}

#[test]
fn a_model_that_is_none_is_explained() {
    let folder = pictures();
    let with = |model: &str| {
        Tl::new(["predict", "--device", "cpu", "--threads", "1", "--model", model, "images"])
            .cwd(folder.path())
            .run()
            .expect(2)
    };
    insta::assert_snapshot!(with("resnet81").told(), @"error: there is no model named `resnet81`; the nearest are `resnet18`, `resnet101` and `resnet34`; `tl models` lists all");
    insta::assert_snapshot!(with("qwertz").told(), @"error: there is no model named `qwertz`; `tl models` lists those there are");
    insta::assert_snapshot!(with("runs/gone").told(), @"error: there is no model file at runs/gone");
    insta::assert_snapshot!(with("images").told(), @"error: images is a folder without model.safetensors: if it is a run folder, its run has not saved a model yet");
    insta::assert_snapshot!(with("images/top.png").told(), @"error: images/top.png is not a model that `tl` wrote: if it holds weights, name the network that they are of as the model (`tl models` lists the names), and the file as the weights");
    insta::assert_snapshot!(with("").told(), @"error: there is no model named ``; `tl models` lists those there are");
}

#[test]
fn wrong_command_lines_are_told_what_to_mend() {
    let folder = pictures();
    let calls: [&[&str]; 8] = [
        &["images", "--out", "p.npy"],
        &["images", "--out", "predictions"],
        &[],
        &["gone", "gone too"],
        &["images/.hidden/nothing"],
        &["images", "--threads", "many"],
        &["images", "--device", "gpu:0"],
        &["images", "--topk", "3"],
    ];
    let answers = answers(&calls, |args| predict(folder.path(), args).expect(2));
    insta::assert_snapshot!(answers, @"
    $ images --out p.npy
    error: cannot tell the format of p.npy by its name: expected one that ends in .csv, .jsonl, .parquet for predictions, found the ending .npy

    $ images --out predictions
    error: cannot tell the format of predictions by its name: expected one that ends in .csv, .jsonl, .parquet for predictions, found no ending

    $
    error: the following required arguments were not provided:
      <PATH>...

    Usage: tl predict --model <MODEL> --device <DEVICE> --threads <N> <PATH>...

    For more information, try '--help'.

    $ gone gone too
    error: cannot read gone: No such file or directory
    cannot read gone too: No such file or directory

    $ images/.hidden/nothing
    error: cannot read images/.hidden/nothing: No such file or directory

    $ images --threads many
    error: invalid value 'many' for '--threads <N>': expected a whole number from 1 to 1024

    For more information, try '--help'.

    $ images --device gpu:0
    error: invalid value 'gpu:0' for '--device <DEVICE>': expected one of auto, cpu, cuda, cuda:N (cuda:0 is the first GPU)

    For more information, try '--help'.

    $ images --topk 3
    error: unexpected argument '--topk' found

      tip: a similar argument exists: '--top-k'

    Usage: tl predict --model <MODEL> --device <DEVICE> --threads <N> --top-k <K> <PATH>...

    For more information, try '--help'.
    ");
    // Whether there is a GPU, and why not, depends on the machine.
    predict(folder.path(), &["images", "--device", "cuda:99"])
        .expect(2)
        .says(&["device cuda:99 was asked for"]);
}

#[test]
fn the_models_table_can_be_filtered() {
    let names = |args: &[&str]| -> Vec<String> {
        let table = tl(args).expect(0).stdout;
        table
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with('*'))
            .map(|line| line.split_whitespace().next().unwrap().to_string())
            .collect()
    };
    assert_eq!(names(&["models", "resnet18"]), ["resnet18"]);
    assert_eq!(names(&["models", "wide_*50*"]), ["wide_resnet50_2", "wide_resnet50_2"]);
    assert_eq!(names(&["models", "ALEX"]), ["alexnet", "alexnet_2012"]);
    assert!(names(&["models"]).len() > 20);
    assert!(names(&["models", "resnet*"]).iter().all(|name| name.starts_with("resnet")));
    insta::assert_snapshot!(tl(&["models", "restnet18"]).expect(2).told(), @"error: no model's name contains `restnet18`; the nearest are `resnet18`, `resnet34` and `resnet50`; `tl models` lists all");
    insta::assert_snapshot!(tl(&["models", "q*z"]).expect(2).told(), @"error: no model's name fits `q*z`; `tl models` lists all");
    let table = tl(&["models", "resnet"]).expect(0).stdout;
    let columns: Vec<_> = table.lines().next().unwrap().match_indices("FILE").collect();
    let resnet18 = table.lines().find(|line| line.starts_with("resnet18")).unwrap();
    assert_eq!(resnet18.find("resnet18-f37072fd.pth"), Some(columns[0].0), "{table}");
}

#[test]
fn help_and_version_are_results() {
    let none = tl(&[]).expect(2);
    assert!(none.stderr.contains("Usage: tl") && none.stdout.is_empty());
    let help = tl(&["--help"]).expect(0);
    assert!(help.stdout.contains("Usage: tl") && help.stderr.is_empty());
    for command in ["finetune", "plan", "extract", "predict", "models"] {
        assert!(help.stdout.contains(command));
        assert!(tl(&[command, "--help"]).expect(0).stdout.contains(&format!("Usage: tl {command}")));
    }
    assert_eq!(tl(&["--version"]).expect(0).stdout, concat!("tl ", env!("CARGO_PKG_VERSION"), "\n"));
    insta::assert_snapshot!(tl(&["pedict"]).expect(2).told(), @"
    error: unrecognized subcommand 'pedict'

      tip: a similar subcommand exists: 'predict'

    Usage: tl [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

/// Each class's confidence for each image: `--top-k` names all of them.
fn shares(folder: &Path, args: &[&str]) -> Vec<BTreeMap<String, f64>> {
    let out = folder.join("shares.csv");
    let args = [args, &["--top-k", "100", "--out", "shares.csv"]].concat();
    Tl::new(["predict", "--device", "cpu", "--threads", "1"]).args(args).cwd(folder).run().expect(0);
    let table = file_rows(&out);
    let of = |row: &Vec<String>| {
        row[1..row.len() - 1].chunks(2).map(|pair| (pair[0].clone(), pair[1].parse().unwrap())).collect()
    };
    table[1..].iter().map(of).collect()
}

/// The shipped network with another card, and with its bias changed so that its answers differ.
fn variant(path: &Path, change: impl FnOnce(&mut serde_json::Value), bias: f32) {
    let bytes = fs::read(repository(LETTERS)).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let text = header["__metadata__"]["tl"].as_str().unwrap();
    let mut card: serde_json::Value = serde_json::from_str(text).unwrap();
    change(&mut card);
    header["__metadata__"]["tl"] = card.to_string().into();
    let place = header["fc.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    let mut values = bytes[8 + length..].to_vec();
    let moved = f32::from_le_bytes(values[place..place + 4].try_into().unwrap()) + bias;
    values[place..place + 4].copy_from_slice(&moved.to_le_bytes());
    let header = header.to_string().into_bytes();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &values].concat()).unwrap();
}

/// A photograph of another size than the network's, replaced by a PNG of gradients: no two crops
/// are equal.
fn gradient(path: &Path, width: u32, height: u32) {
    let pixel = |x: u32, y: u32| [(x * 3 % 256) as u8, (y * 5 % 256) as u8, (x * y % 256) as u8];
    let data: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
}

fn assert_near(found: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) {
    assert!(found.keys().eq(expected.keys()), "{found:?} {expected:?}");
    for (name, share) in found {
        assert!((share - expected[name]).abs() < 1e-6, "{name}: {share}, expected {}", expected[name]);
    }
}

fn mean(parts: &[BTreeMap<String, f64>]) -> BTreeMap<String, f64> {
    let share = |name: &String| parts.iter().map(|part| part[name]).sum::<f64>() / parts.len() as f64;
    parts[0].keys().map(|name| (name.clone(), share(name))).collect()
}

/// The views, cut out and mirrored by hand into images of the network's own size, and predicted one
/// by one.
#[test]
fn the_average_of_ten_crops_and_scales_is_that_of_its_views() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.safetensors");
    // Shorter side 64, crop 64: an image of that height is not resized.
    variant(&model, |card| card["preprocessing"]["resize_size"] = 64.into(), 0.);
    let (width, height) = (91, 64);
    gradient(&folder.path().join("whole.png"), width, height);
    fs::create_dir(folder.path().join("views")).unwrap();
    // round(27 / 2) to even: the centre starts at 14, of the mirrored image too.
    for (number, left) in [0, 27, 0, 27, 14].into_iter().enumerate() {
        for mirrored in [false, true] {
            let column = |x: u32| if mirrored { width - 1 - (left + x) } else { left + x };
            let pixel = |x: u32, y: u32| [(x * 3 % 256) as u8, (y * 5 % 256) as u8, (x * y % 256) as u8];
            let data: Vec<u8> =
                (0..64).flat_map(|y| (0..64).flat_map(move |x| pixel(column(x), y))).collect();
            let path = folder.path().join(format!("views/{number}{mirrored}.png"));
            let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 64, 64);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(&data).unwrap();
        }
    }
    let of = |args: &[&str]| shares(folder.path(), &[&["--model", "m.safetensors"], args].concat());
    let views = of(&["views"]);
    assert_eq!(views.len(), 10);
    let ten = of(&["whole.png", "--crops", "10"]);
    assert_near(&ten[0], &mean(&views));
    assert_near(&of(&["whole.png", "--crops", "10", "--batch-size", "3"])[0], &ten[0]);
    assert!(ten[0].iter().any(|(name, share)| (views[4][name] - share).abs() > 1e-3), "the views are alike");

    let plain = of(&["whole.png"]);
    assert_eq!(of(&["whole.png", "--crops", "1", "--scales", "64"]), plain);
    let scaled = of(&["whole.png", "--scales", "80"]);
    let both = of(&["whole.png", "--scales", "80,64"]);
    assert_near(&both[0], &mean(&[plain[0].clone(), scaled[0].clone()]));
    assert_ne!(plain, scaled);
}

#[test]
fn models_are_averaged_class_by_class() {
    let folder = pictures();
    let at = |name: &str| folder.path().join(name);
    variant(&at("a.safetensors"), |_| (), 0.);
    // Its own preprocessing and another bias.
    variant(&at("b.safetensors"), |card| card["preprocessing"]["mean"] = vec![0.1; 3].into(), 3.);
    // The names in another order are other answers.
    let turn = |card: &mut serde_json::Value| card["classes"].as_array_mut().unwrap().reverse();
    variant(&at("c.safetensors"), turn, 1.);
    let of = |models: &[&str]| {
        let mut args = vec!["images"];
        models.iter().for_each(|model| args.extend(["--model", model]));
        shares(folder.path(), &args)
    };
    let single = ["a.safetensors", "b.safetensors", "c.safetensors"].map(|model| of(&[model]));
    for (models, parts) in [
        (vec!["a.safetensors", "b.safetensors"], vec![0, 1]),
        (vec!["b.safetensors", "c.safetensors", "a.safetensors"], vec![1, 2, 0]),
    ] {
        for (index, found) in of(&models).iter().enumerate() {
            let parts: Vec<_> = parts.iter().map(|&part: &usize| single[part][index].clone()).collect();
            assert_near(found, &mean(&parts));
        }
    }
    let run = |args: &[&str]| Tl::new(["predict", "--device", "cpu"]).args(args).cwd(folder.path()).run();
    let turned = run(&["--model", "a.safetensors", "--model", "c.safetensors", "images"]).expect(0);
    insta::assert_snapshot!(turned.told(), @"
    note: c.safetensors has the classes of a.safetensors in another order; they are matched by name
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    ");
    // A bad image has its row, and is said once.
    fs::write(at("images/b/11.png"), "no image").unwrap();
    let table =
        run(&["--model", "a.safetensors", "--model", "b.safetensors", "--crops", "10", "images"]).expect(1);
    assert_eq!(table.stdout.lines().count(), 7);
    insta::assert_snapshot!(table.told(), @"
    note: images: left out 2 hidden entries (.hidden, .z.png)
    note: images: left out 1 file whose ending is not an image's (1 .txt)
    1 of 6 images could not be read: see `error` in the table
    ");
}

#[test]
fn views_and_models_that_cannot_be_are_explained() {
    let folder = pictures();
    variant(&folder.path().join("a.safetensors"), |_| (), 0.);
    let rename = |card: &mut serde_json::Value| card["classes"][0] = "emu".into();
    variant(&folder.path().join("b.safetensors"), rename, 0.);
    let calls: [&[&str]; 8] = [
        &["--crops", "5"],
        &["--scales", "0"],
        &["--scales", "64,"],
        &["--scales", "80,63"],
        &["--scales", "80,80"],
        &["--model", "b.safetensors"],
        &["--model", "./a.safetensors"],
        &["--model", "a.safetensors"],
    ];
    let answers = answers(&calls, |args| {
        let run = Tl::new(["predict", "--device", "cpu", "--model", "a.safetensors", "images"]).args(args);
        let run = run.cwd(folder.path()).run().expect(2);
        assert_eq!(run.stdout, "");
        run
    });
    insta::assert_snapshot!(answers, @"
    $ --crops 5
    error: invalid value '5' for '--crops <1|10>': expected 1 (the centre) or 10 (corners, centre and their mirror images)

    For more information, try '--help'.

    $ --scales 0
    error: invalid value '0' for '--scales <S,..>': expected a whole number from 1 to 4096

    For more information, try '--help'.

    $ --scales 64,
    error: invalid value '' for '--scales <S,..>': expected a whole number from 1 to 4096

    For more information, try '--help'.

    $ --scales 80,63
    error: a.safetensors sees 64 × 64 pixels of the resized image, so that a scale is at least 64, and one is 63

    $ --scales 80,80
    error: the scale 80 is given twice, and would count twice

    $ --model b.safetensors
    error: a.safetensors and b.safetensors cannot be averaged, because their classes are not the same: 52 and 52 classes; only the first has: lower_a, only the second has: emu

    $ --model ./a.safetensors
    error: the model ./a.safetensors (it is a.safetensors) is given twice, and would count twice: name it once

    $ --model a.safetensors
    error: the model a.safetensors is given twice, and would count twice: name it once
    ");
    // Said before anything is downloaded.
    let run = Tl::new(["predict", "--model", "resnet18", "--scales", "200", "images"]).cwd(folder.path());
    let run = run.env("TL_WEIGHTS_URL", "file:///nowhere").env("TORCH_HOME", folder.path()).run().expect(2);
    insta::assert_snapshot!(run.told(), @"error: resnet18 sees 224 × 224 pixels of the resized image, so that a scale is at least 224, and one is 200");
}
