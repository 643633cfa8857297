//! `tl init`: recipes for folders of images.

use std::fs;
use std::path::Path;

use super::program::{Run, Tl, repository};

const WEIGHTS: &str = "data/shufflenet_v2_x0_5-letters.safetensors";

/// `count` digits of each class in `folder`.
fn digits(folder: &Path, classes: &[&str], count: usize) {
    for class in classes {
        let to = folder.join(class);
        fs::create_dir_all(&to).unwrap();
        let from = repository(&format!("data/digits/train/{class}"));
        let mut images: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
        images.sort();
        for image in &images[..count] {
            fs::copy(image, to.join(image.file_name().unwrap())).unwrap();
        }
    }
}

fn init(folder: &Path, args: &[&str]) -> Run {
    Tl::new(["init", "--device", "cpu", "--model", "shufflenet_v2_x0_5"]).args(args).cwd(folder).run()
}

/// The whole way of a new user.
#[test]
fn a_folder_becomes_a_recipe_and_the_recipe_a_model() {
    let folder = tempfile::tempdir().unwrap();
    digits(&folder.path().join("my digits"), &["0", "7"], 10);
    let run = init(folder.path(), &["my digits"]).expect(0);
    insta::assert_snapshot!(run.stderr, @"
    found   20 images to train on, of 2 classes (0 10, 7 10), 8×8 in the middle
    wrote   my digits.yaml
    next    tl finetune 'my digits.yaml'    (tl plan 'my digits.yaml' shows what it will do)
    ");
    let text = fs::read_to_string(folder.path().join("my digits.yaml")).unwrap();
    insta::assert_snapshot!(text, @"
    # 20 images to train on, of 2 classes (0 10, 7 10), 8×8 in the middle.
    # `tl plan my digits.yaml` shows what will be done and why.
    # All keys, with their defaults: docs/recipe.md.

    model: shufflenet_v2_x0_5 # as asked for; `tl models` lists others

    data:
      train: my digits
      val: 0.2 # a fifth, kept aside to choose the epoch
      # test: FOLDER # images that nothing is chosen by: measured once, at the end

    strategy:
      method: auto # tries what suits the size of the data and its similarity to ImageNet, keeps the best

    # augment:
    #   flip: 0 # for writing, signs, whatever has a left and a right

    seed: 0 # the same seed gives the same model
    ");
    let weights = format!("weights={}", repository(WEIGHTS).display());
    Tl::new([
        "finetune",
        "my digits.yaml",
        "--threads",
        "1",
        "--out",
        "run",
        "--set",
        "strategy.method=linear",
    ])
    .args(["--set", &weights])
    .cwd(folder.path())
    .run()
    .expect(0);
    assert!(folder.path().join("run/model.safetensors").exists());
    // Somebody may have changed it.
    let run = init(folder.path(), &["my digits"]).expect(2);
    insta::assert_snapshot!(run.stderr, @"error: my digits.yaml exists: name another with `--out`, or remove it");
}

#[test]
fn parts_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("set");
    for (part, count) in [("Training", 4), ("validation", 2), ("test", 3)] {
        digits(&root.join(part), &["1", "2", "3"], count);
    }
    init(folder.path(), &["set", "--out", "recipes.yaml"]).expect(0);
    let text = fs::read_to_string(folder.path().join("recipes.yaml")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(": set/")).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
      train: set/Training
      val: set/validation # chooses the epoch
      test: set/test # measured once, at the end
    ");
    // A recipe elsewhere reads the same folder.
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    init(folder.path(), &["set", "--out", "elsewhere/r.yaml"]).expect(0);
    let weights = format!("weights={}", repository(WEIGHTS).display());
    let plan =
        Tl::new(["plan", "elsewhere/r.yaml", "--threads", "1", "--set", &weights]).cwd(folder.path()).run();
    assert!(plan.expect(0).stdout.contains("set/Training"));
}

#[test]
fn a_csv_that_divides_its_images_needs_no_other_parts() {
    let folder = tempfile::tempdir().unwrap();
    digits(&folder.path().join("d"), &["0", "1"], 4);
    let mut rows = "path,label,split\n".to_string();
    for class in ["0", "1"] {
        let entries = fs::read_dir(folder.path().join("d").join(class)).unwrap();
        for (entry, part) in entries.zip(["train", "train", "val", "test"]) {
            rows += &format!("d/{class}/{},{class},{part}\n", entry.unwrap().file_name().display());
        }
    }
    fs::write(folder.path().join("all.csv"), rows).unwrap();
    init(folder.path(), &["all.csv"]).expect(0);
    let text = fs::read_to_string(folder.path().join("all.yaml")).unwrap();
    let data: Vec<&str> = text.lines().skip_while(|line| *line != "data:").take(4).collect();
    insta::assert_snapshot!(data.join("\n"), @"
    data:
      train: all.csv
      # 2 rows of the file choose the epoch
      # 2 rows of the file are measured once, at the end
    ");
}

#[test]
fn mistakes_are_told_and_no_recipe_is_left() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("empty")).unwrap();
    fs::create_dir_all(folder.path().join("loose")).unwrap();
    fs::copy(repository("data/samples/eight.png"), folder.path().join("loose/a.png")).unwrap();
    let call = |args: &[&str]| Tl::new(["init"]).args(args).cwd(folder.path()).run();
    let mut said = String::new();
    for name in ["none", "empty", "loose"] {
        said += &call(&[name]).expect(1).stderr;
    }
    insta::assert_snapshot!(said, @"
    error: cannot read the images in none: No such file or directory
    error: empty: expected one sub-folder per class, such as cat/1.jpg and dog/2.jpg, found an empty folder
    error: loose: expected one sub-folder per class, such as cat/1.jpg and dog/2.jpg, found 1 image directly in it (a.png); sort them into folders, or name their classes in a .csv of path,label
    ");
    call(&["loose", "--model", "resnet81"])
        .expect(2)
        .says(&["there is no model named `resnet81`; the nearest are `resnet", "`tl models` lists all"]);
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2);
}

#[test]
fn a_program_that_nothing_is_asked_of_leads_on() {
    let run = Tl::new([""; 0]).run().expect(2);
    assert_eq!(run.stdout, "");
    insta::assert_snapshot!(run.stderr, @"
    tl: a folder of images in, a classifier you can trust out
      tl demo                             see what it does, on images that it brings
      tl init photos                      look at your photos, write the recipe photos.yaml
      tl finetune photos.yaml             train, measure, write runs/photos
      tl predict --model runs/photos new  name what is in the images of new
    Usage: tl COMMAND [OPTIONS]; tl --help lists all commands, tl COMMAND --help explains one
    ");
    // What the lines name exists.
    for command in ["demo", "init", "finetune", "predict"] {
        Tl::new([command, "--help"]).run().expect(0);
    }
}
