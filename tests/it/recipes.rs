//! Messages about wrong recipes and command lines, and the output of `plan`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::digits::{Lab, images, recipe};
use crate::program::{Run, Tl, answer, answers, repository, tl};

/// Wrong calls, in a folder with a good recipe and some bad data.
const MISTAKES: [&[&str]; 30] = [
    &["plan", "recipe.yaml"],
    &["finetune", "."],
    &["plan", "r.yaml", "--set", "model=shuflenet_v2_x0_5"],
    &["plan", "r.yaml", "--set", "strategy.method=lineer"],
    &["plan", "r.yaml", "--set", "preprocess={ fit: squish, pad_color: [0, 0, 256] }"],
    &["predict", "--model", "resnet18", "--fit", "stretch", "."],
    &["plan", "r.yaml", "--set", "weights=mine.pth"],
    &["plan", "r.yaml", "--set", "model=resnet50", "--set", "weights=IMAGENET1K_V3"],
    &["plan", "r.yaml", "--set", "model=vgg16", "--set", "weights=VGG16_Weights.IMAGENET1K_FEATURES"],
    &["plan", "r.yaml", "--set", "train.epoch=3"],
    &["plan", "r.yaml", "--set", "train.epochs"],
    &["plan", "r.yaml", "--set", "=3"],
    &["plan", "r.yaml", "--set", "train.epochs=many"],
    &["plan", "r.yaml", "--set", "data.val=1"],
    &["plan", "r.yaml", "--set", "data.train=nowhere"],
    &["plan", "r.yaml", "--set", "data.train=Caf\u{e9}"],
    &["plan", "r.yaml", "--set", "data.train=loose"],
    &["plan", "r.yaml", "--set", "data.train=empty"],
    &["plan", "r.yaml", "--set", "data.train=one"],
    &["plan", "r.yaml", "--set", "data.val=one"],
    &["plan", "r.yaml", "--set", "data.train=gone.csv"],
    &["plan", "r.yaml", "--set", "data.train=split.csv", "--set", "data.val=0.1"],
    &["plan", "r.yaml", "--set", "data.val=split.csv"],
    &["plan", "r.yaml", "--set", "model=alexnet", "--set", "weights=none"],
    &["plan", "r.yaml", "--set", "strategy={ method: partial, train_from: layer4 }"],
    &[
        "plan",
        "r.yaml",
        "--set",
        "strategy.method=full",
        "--set",
        "train={ batch_size: 1, batch_norm: train }",
    ],
    &["finetune", "r.yaml", "--out", "r.yaml"],
    &["finetune", "r.yaml", "--out", "r.yaml/run"],
    &["plan", "r.yaml", "--threads", "0"],
    &["plan", "r.yaml", "--device", "gpu"],
];

/// A CSV of digits with a column `split`.
fn divided(train: usize, val: usize, test: usize) -> String {
    let parts = [("Training", train), ("valid", val), ("TEST", test)];
    let words = parts.into_iter().flat_map(|(word, count)| std::iter::repeat_n(word, count));
    let mut rows = String::from("filename,class,split\n");
    for (index, word) in words.enumerate() {
        let digit = repository("data/digits/train").join((index % 2).to_string());
        let mut files: Vec<_> = fs::read_dir(digit).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        rows.push_str(&format!("{},{},{word}\n", files[index].display(), index % 2));
    }
    rows
}

/// One CSV for all parts, in a recipe and as a list.
#[test]
fn a_column_of_a_csv_gives_the_parts() {
    let lab = Lab::of("linear", 2);
    let recipe = fs::read_to_string(lab.path("r.yaml")).unwrap();
    let data = "data: { train: train.csv, val: val.csv, test: test.csv }";
    lab.write("r.yaml", recipe.replace(data, "data: { train: split.csv }"));
    lab.write("split.csv", divided(12, 6, 4));
    let run = lab.tl(&["plan", "r.yaml"]).run().expect(0);
    insta::assert_snapshot!(run.message("divides the images"), @"note: split.csv: its column `split` divides the images: 12 to train on, 6 for validation, 4 to test on");
    run.says(&["measured on 6 images for validation, 4 images to test on at the end"]);
    lab.tl(&["finetune", "r.yaml", "--out", "run"]).run().expect(0);
    let plan = String::from_utf8(lab.read("run/plan.yaml")).unwrap();
    assert!(plan.contains("val: column split of train") && plan.contains("test_images: 4"), "{plan}");
    lab.tl(&["finetune", "r.yaml", "--out", "run", "--resume"]).run().expect(0);
    // No row is for validation: a fifth of the training images is held back.
    lab.write("split.csv", divided(20, 0, 4));
    lab.tl(&["plan", "r.yaml"]).run().expect(0).says(&["measured on 4 images for validation, 4 images"]);
    lab.tl(&["predict", "--model", "run", "--out", "all.csv", "split.csv"]).run().expect(0);
    assert_eq!(lab.read("all.csv").iter().filter(|&&byte| byte == b'\n').count(), 25);
}

#[test]
fn beginners_mistakes_are_answered_in_full() {
    let lab = Lab::of("linear", 2);
    let digit = fs::read(&images("train", 0, 1)[0].0).unwrap();
    for path in ["loose/a.png", "loose/b.png", "one/cat/1.png"] {
        lab.write(path, &digit);
    }
    fs::create_dir(lab.path("empty")).unwrap();
    fs::create_dir(lab.path("Cafe\u{301}")).unwrap();
    lab.write("gone.csv", "path,label\nx.png,a\ny.png,b\n");
    lab.write("split.csv", divided(4, 3, 2));
    let answers = answers(&MISTAKES, |args| {
        // Not through `Lab::tl`, whose own `--threads` would come twice.
        let run = Tl::new(args).cwd(lab.path("")).run();
        // That a folder is below a file is found where it is created.
        let run = run.expect(if args.contains(&"r.yaml/run") { 1 } else { 2 });
        assert_eq!(run.stdout, "");
        run
    });
    insta::assert_snapshot!(answers, @r#"
    $ plan recipe.yaml
    error: cannot read the recipe recipe.yaml: there is no such file; did you mean r.yaml?

    $ finetune .
    error: . is a folder, expected a recipe, a YAML file; did you mean ./r.yaml?

    $ plan r.yaml --set model=shuflenet_v2_x0_5
    error: r.yaml: 1 mistake
      --set model=shuflenet_v2_x0_5: there is no model named `shuflenet_v2_x0_5`; the nearest are `shufflenet_v2_x0_5`, `shufflenet_v2_x1_5` and `shufflenet_v2_x1_0`; `tl models` lists all

    $ plan r.yaml --set strategy.method=lineer
    error: r.yaml: 1 mistake
      --set strategy.method=lineer: expected one of auto, linear, stages, partial, full, scratch, race, found the text "lineer"; did you mean linear?

    $ plan r.yaml --set preprocess={ fit: squish, pad_color: [0, 0, 256] }
    error: r.yaml: 2 mistakes
      --set preprocess={ fit: squish, pad_color: [0, 0, 256] }: preprocess.fit: expected one of crop, squash, pad, found the text "squish"; did you mean squash?
      --set preprocess={ fit: squish, pad_color: [0, 0, 256] }: preprocess.pad_color: expected `[red, green, blue]`, whole numbers from 0 to 255, found [0, 0, 256]

    $ predict --model resnet18 --fit stretch .
    error: invalid value 'stretch' for '--fit <crop|squash|pad>': expected crop, squash or pad

    For more information, try '--help'.

    $ plan r.yaml --set weights=mine.pth
    error: r.yaml: 1 mistake
      --set weights=mine.pth: there is no weights file at mine.pth

    $ plan r.yaml --set model=resnet50 --set weights=IMAGENET1K_V3
    error: r.yaml: 1 mistake
      --set weights=IMAGENET1K_V3: resnet50 has no weights named `IMAGENET1K_V3`; did you mean `IMAGENET1K_V2`? It has `IMAGENET1K_V1` and `IMAGENET1K_V2`, of which `IMAGENET1K_V2` is DEFAULT; a file needs an ending such as .pth or a folder before it

    $ plan r.yaml --set model=vgg16 --set weights=VGG16_Weights.IMAGENET1K_FEATURES
    error: r.yaml: 1 mistake
      --set weights=VGG16_Weights.IMAGENET1K_FEATURES: VGG16_Weights.IMAGENET1K_FEATURES (vgg16_features-amdegroot-88682ab5.pth) have no classifier (torchvision's file holds NaN there): they serve `tl extract` with a `--stage` before it

    $ plan r.yaml --set train.epoch=3
    error: --set train.epoch=3: unknown key train.epoch; did you mean train.epochs?

    $ plan r.yaml --set train.epochs
    error: --set train.epochs: expected key.path=VALUE, such as train.epochs=5

    $ plan r.yaml --set =3
    error: --set =3: expected key.path=VALUE, such as train.epochs=5

    $ plan r.yaml --set train.epochs=many
    error: r.yaml: 1 mistake
      --set train.epochs=many: expected a whole number from 1 up, found the text "many"

    $ plan r.yaml --set data.val=1
    error: r.yaml: 1 mistake
      --set data.val=1: expected a fraction between 0 and 1 (both excluded), or a path, found 1

    $ plan r.yaml --set data.train=nowhere
    error: r.yaml: 1 mistake
      --set data.train=nowhere: there is no folder or file nowhere

    $ plan r.yaml --set data.train=Café
    error: r.yaml: 1 mistake
      --set data.train=Café: there is no folder or file Café; "Café" is there, which has U+0065 U+0301 (NFD) where this has U+00E9 (NFC)

    $ plan r.yaml --set data.train=loose
    error: r.yaml: 1 mistake
      --set data.train=loose: loose: expected one sub-folder per class, such as cat/1.jpg and dog/2.jpg, found 2 images directly in it (a.png, b.png); sort them into folders, or name their classes in a .csv of path,label

    $ plan r.yaml --set data.train=empty
    error: r.yaml: 1 mistake
      --set data.train=empty: empty: expected one sub-folder per class, such as cat/1.jpg and dog/2.jpg, found an empty folder

    $ plan r.yaml --set data.train=one
    error: r.yaml: 1 mistake
      --set data.train=one: expected at least 2 classes, found only `cat` in one: a classifier needs something to tell apart

    $ plan r.yaml --set data.val=one
    error: r.yaml: 1 mistake
      --set data.val=one: one: 1 class that the training images lack: "cat"; rename or remove, or train on them too

    $ plan r.yaml --set data.train=gone.csv
    error: r.yaml: 1 mistake
      --set data.train=gone.csv: gone.csv: 2 files are not there: x.png (line 2), y.png (line 3); paths are relative to the folder of the CSV

    $ plan r.yaml --set data.train=split.csv --set data.val=0.1
    error: r.yaml: 3 mistakes
      line 4: data.test: the column `split` of `data.train` gives 2 rows for it already: leave `data.test` out, or take these rows out of the CSV
      line 4: data.test: test.csv: 8 classes that the training images lack: "2", "3", "4", "5", "6", "7", "8", "9"; rename or remove, or train on them too
      --set data.val=0.1: the column `split` of `data.train` gives 3 rows for it already: leave `data.val` out, or take these rows out of the CSV

    $ plan r.yaml --set data.val=split.csv
    error: r.yaml: 1 mistake
      --set data.val=split.csv: split.csv: its column `split` has rows of several parts: give it as `data.train` alone, or write a .csv of the rows for `data.val`

    $ plan r.yaml --set model=alexnet --set weights=none
    error: r.yaml: 1 mistake
      line 3: preprocess: alexnet cannot take images of 32×32 pixels: a side needs at least 63

    $ plan r.yaml --set strategy={ method: partial, train_from: layer4 }
    error: r.yaml: 1 mistake
      --set strategy={ method: partial, train_from: layer4 }: strategy.train_from: shufflenet_v2_x0_5 has no stage named `layer4`. It has conv1, stage2, stage3, stage4, conv5; a part of one has a name such as stage4.3

    $ plan r.yaml --set strategy.method=full --set train={ batch_size: 1, batch_norm: train }
    error: r.yaml: 1 mistake
      --set train={ batch_size: 1, batch_norm: train }: train.batch_size: BatchNorm cannot learn from one image at a time: take 2 or more, or set `train.batch_norm: inference`

    $ finetune r.yaml --out r.yaml
    error: the run folder r.yaml is a file: choose another `--out`

    $ finetune r.yaml --out r.yaml/run
    error: cannot create the folder r.yaml/run: Not a directory

    $ plan r.yaml --threads 0
    error: invalid value '0' for '--threads <N>': expected a whole number from 1 to 1024

    For more information, try '--help'.

    $ plan r.yaml --device gpu
    error: invalid value 'gpu' for '--device <DEVICE>': expected one of auto, cpu, cuda, cuda:N (cuda:0 is the first GPU)

    For more information, try '--help'.
    "#);
}

/// A size that a network cannot take is a mistake of the recipe, in each family that has one.
#[test]
fn images_that_are_too_small_are_found_in_the_plan() {
    let lab = Lab::of("scratch", 2);
    let mut seen = HashSet::new();
    for architecture in transferkit::models::architectures().filter(|it| it.min_size > 1) {
        let transferkit::models::Architecture { name, min_size, multiple, .. } = *architecture;
        if !seen.insert((architecture.family, min_size)) {
            continue;
        }
        let plan = |side: u32| {
            let sizes = format!("preprocess={{ resize_size: {side}, crop_size: {side} }}");
            let model = format!("model={name}");
            lab.tl(&["plan", "r.yaml", "--set", &model, "--set", "weights=none", "--set", &sizes]).run()
        };
        plan(min_size - 1).expect(2).says(&[
            "error: r.yaml: 1 mistake\n  --set preprocess=",
            &format!("{name} cannot take images of {0}×{0} pixels: a side needs ", min_size - 1),
        ]);
        plan(min_size).expect(0);
        if multiple > 1 {
            plan(min_size + 1).expect(2).says(&[&format!(
                "{name} cannot take images of {0}×{0} pixels: a side needs a multiple of {multiple}, such as \
                 {min_size} or {1}",
                min_size + 1,
                min_size + multiple
            )]);
        }
    }
    assert!(seen.len() >= 14, "{seen:?}");
}

fn planned(lab: &Lab, recipe: &str) -> Run {
    lab.write("x.yaml", recipe);
    lab.tl(&["plan", "x.yaml"]).run()
}

#[test]
fn all_mistakes_come_at_once_with_their_lines() {
    let lab = Lab::new(2);
    let run = planned(
        &lab,
        "model: resnet18x\n\
         modle: resnet18\n\
         data: { train: nowhere, val: 2 }\n\
         strategy: { method: liner }\n\
         train: { epochs: ten, batch_size: 0, lr: \"0.1\" }\n\
         augment: { flip: 3, scale: [1, 0.5] }\n\
         seed: -1\n\
         lr: 3\n",
    );
    insta::assert_snapshot!(run.expect(2).told(), @r#"
    error: x.yaml: 12 mistakes
      line 1: model: there is no model named `resnet18x`; the nearest are `resnet18`, `resnet101` and `resnet152`; `tl models` lists all
      line 2: modle: unknown key; did you mean model?
      line 3: data.val: expected a fraction between 0 and 1 (both excluded), or a path, found 2
      line 3: data.train: there is no folder or file nowhere
      line 4: strategy.method: expected one of auto, linear, stages, partial, full, scratch, race, found the text "liner"; did you mean linear?
      line 5: train.epochs: expected a whole number from 1 up, found the text "ten"
      line 5: train.batch_size: expected a whole number from 1 to 65536, found 0
      line 5: train.lr: expected a number above 0, found the text "0.1"; a number has no quotes
      line 6: augment.flip: expected a number from 0 to 1, found 3
      line 6: augment.scale: expected `[low, high]`, two numbers above 0, up to 1, found [1, 0.5]; the lower one comes first
      line 7: seed: expected a whole number from 0 up, found -1
      line 8: lr: unknown key; did you mean train.lr? it belongs under `train:`
    "#);
}

#[test]
fn files_that_are_no_recipes_are_told_so() {
    let lab = Lab::new(2);
    let mut answers = String::new();
    for text in [
        &b""[..],
        b"hello",
        b"model: [resnet18",
        b"model: resnet18\ndata:\n\ttrain: x\n",
        b"\xff\xfe",
        b"model: &a [*a, *a]",
    ] {
        lab.write("x.yaml", text);
        let run = lab.tl(&["finetune", "x.yaml"]).run().expect(2);
        answers += &answer(">", &text.escape_ascii().to_string(), &run.told());
    }
    insta::assert_snapshot!(answers, @r#"
    >
    error: x.yaml: 3 mistakes
      line 1: expected `key: value` lines, found an empty file; a recipe starts with a line such as `model: resnet18`
      model: missing; write, for example, `model: resnet18`
      data.train: missing; write, for example, `data: { train: photos/train }`

    > hello
    error: x.yaml: 3 mistakes
      line 1: expected `key: value` lines, found the text "hello"; a recipe starts with a line such as `model: resnet18`
      model: missing; write, for example, `model: resnet18`
      data.train: missing; write, for example, `data: { train: photos/train }`

    > model: [resnet18
    error: x.yaml: 1 mistake
      line 2, column 1: not valid YAML: while parsing a flow sequence, expected ',' or ']'

    > model: resnet18\ndata:\n\ttrain: x\n
    error: x.yaml: 1 mistake
      line 3: a tab cannot indent YAML: use spaces

    > \xff\xfe
    error: x.yaml: 1 mistake
      line 1: expected text in UTF-8, found other bytes; save the file as UTF-8

    > model: &a [*a, *a]
    error: x.yaml: 1 mistake
      line 1: this alias (`*name`) stands inside what it names
    "#);
    lab.write("x.yaml", vec![b' '; 3 << 20]);
    insta::assert_snapshot!(lab.tl(&["plan", "x.yaml"]).run().expect(2).told(), @"
    error: x.yaml: 1 mistake
      expected a recipe, found a file of more than 1 MiB; is this the right file?
    ");
}

#[test]
fn weights_of_another_model_are_a_mistake_of_the_recipe() {
    let lab = Lab::of("linear", 2);
    let run = lab.finetune("run", &["model=shufflenet_v2_x1_0"]).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: r.yaml: 1 mistake
      line 2: weights: [REPO]/data/shufflenet_v2_x0_5-letters.safetensors: is for shufflenet_v2_x0_5, not for shufflenet_v2_x1_0: use `model: shufflenet_v2_x0_5` (`--model shufflenet_v2_x0_5`)
    ");
    lab.write("empty.pth", "");
    lab.write("page.pth", "<!DOCTYPE html><html>Not found</html>");
    let weights = ["weights=./empty.pth", "weights=./page.pth", "weights=./train.csv"].map(|set| [set]);
    insta::assert_snapshot!(answers(&weights, |sets| lab.finetune("run", sets).run().expect(2)), @"
    $ weights=./empty.pth
    error: r.yaml: 1 mistake
      --set weights=./empty.pth: ./empty.pth: is empty; download or copy it again

    $ weights=./page.pth
    error: r.yaml: 1 mistake
      --set weights=./page.pth: ./page.pth: is a web page (HTML), not a weights file: the download was answered with an error or a log-in page; download it again

    $ weights=./train.csv
    error: r.yaml: 1 mistake
      --set weights=./train.csv: ./train.csv: is a text file, not a weights file; expected PyTorch weights (.pth, .pt) or safetensors
    ");
    assert!(!lab.path("run").exists(), "a mistake of the recipe leaves no run folder");
}

#[test]
fn what_is_seldom_meant_is_said_once() {
    let lab = Lab::of("linear", 2);
    let run = lab.tl(&["plan", "r.yaml", "--set", "weights=none", "--set", "train.lr=0.1"]).run().expect(0);
    insta::assert_snapshot!(run.notes(), @"
    note: `augment.flip` is not used by `method: linear`
    note: `augment.ratio` is not used by `method: linear`
    note: `augment.scale` is not used by `method: linear`
    note: `train.lr` is not used by `method: linear`
    note: `weights: none` with a method that freezes stages: they keep random values, and what they see carries little; `method: scratch` trains them all
    ");
    let folds = |method: &str, c: &str| {
        let sets = [&format!("strategy.method={method}"), "train.folds=3", c];
        lab.tl(&["plan", "r.yaml"])
            .args(sets.into_iter().flat_map(|set| ["--set", set]))
            .run()
            .expect(0)
            .stderr
    };
    for (method, c, unused) in [
        ("linear", "train.c=2", true),
        ("linear", "seed=7", false),
        ("partial", "train.c=2", true),
        ("stages", "train.c=2", false),
    ] {
        let said = folds(method, c);
        assert_eq!(said.contains("`train.folds` is not used by `c: 2`"), unused, "{method} {c}: {said}");
    }
    let quiet = lab.tl(&["plan", "r.yaml", "--quiet", "--set", "train.lr=0.1"]).run().expect(0);
    assert_eq!(quiet.stderr, "");
    let quiet = lab.finetune("run", &["train.lr=0.1"]).arg("--quiet").run().expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn plan_and_dry_run_show_the_same() {
    let lab = Lab::new(2);
    for method in ["linear", "partial", "full", "scratch"] {
        lab.write("r.yaml", recipe(method));
        let plan = lab.tl(&["plan", "r.yaml"]).run().expect(0);
        let dry = lab.tl(&["finetune", "r.yaml", "--dry-run"]).run().expect(0);
        assert_eq!((&plan.stdout, &plan.stderr), (&dry.stdout, &dry.stderr));
        let yaml: serde_yaml::Value = serde_yaml::from_str(&plan.stdout).unwrap();
        assert_eq!(yaml["method"], method);
        assert_eq!(yaml["model"], "shufflenet_v2_x0_5");
        assert_eq!(yaml["data"]["train_images"], 20);
        assert_eq!(yaml["preprocessing"]["crop_size"], 32);
        assert_eq!(yaml["out"], "runs/r");
        let open =
            plan.stdout.lines().filter(|line| line.ends_with(": null") || line.ends_with("method: auto"));
        assert_eq!(open.count(), 0, "{}", plan.stdout);
        // A run writes the plan that was shown, except for the folder.
        if method == "linear" {
            lab.finetuned("elsewhere", &[]);
            let written = String::from_utf8(lab.read("elsewhere/plan.yaml")).unwrap();
            assert_eq!(written.replace("out: elsewhere", "out: runs/r"), plan.stdout);
        }
    }
    assert!(!lab.path("runs").exists());
}

#[test]
fn paths_are_relative_to_the_recipe_and_out_to_the_working_directory() {
    let lab = Lab::of("linear", 2);
    fs::create_dir(lab.path("work")).unwrap();
    let run = lab.tl(&["finetune", "../r.yaml", "--out", "here"]).cwd(lab.path("work")).run().expect(0);
    drop(run);
    assert!(lab.path("work/here/report.json").exists());
    let run =
        lab.tl(&["plan", "../r.yaml", "--set", "data.train=nowhere"]).cwd(lab.path("work")).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: ../r.yaml: 1 mistake
      --set data.train=nowhere: there is no folder or file ../nowhere; a recipe's paths start at its own folder, ..
    ");
}

#[test]
fn readers_that_leave_early_do_no_harm() {
    let lab = Lab::of("linear", 2);
    for args in [&["plan", "r.yaml"][..], &["finetune", "r.yaml", "--out", "run"]] {
        let mut command = lab.tl(args).into_command();
        // Both ends of the pipe close before the program says a word.
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}");
    }
    assert!(lab.path("run/report.json").exists());
}

/// Runs a shell script that needs root; `false` if that is not allowed.
fn may(script: &str) -> bool {
    Command::new("sh")
        .args(["-c", script])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A small file system of its own, removed when the test ends.
pub struct Mount(String);

impl Mount {
    fn new(lab: &Lab, name: &str, options: &str) -> Option<Self> {
        Mount::at(&lab.path(name), options)
    }

    /// Mounts it at a folder, which is created; `None` without the rights for that.
    pub fn at(path: &Path, options: &str) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let path = path.display().to_string();
        may(&format!("mount -t tmpfs -o {options} tmpfs '{path}'")).then_some(Mount(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        may(&format!("umount '{}'", self.0));
    }
}

#[test]
fn a_full_disk_ends_the_run_and_keeps_what_is_there() {
    let lab = Lab::of("full", 4);
    let Some(_mount) = Mount::new(&lab, "disk", "size=9m") else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let sets = ["train.epochs=6"];
    lab.finetuned("whole", &sets);
    // Room for some epochs' files (1.4 MB and 2.9 MB), and then not for another temporary beside
    // them.
    let mut filled = 0;
    for ballast in [8 << 20, 5 << 20, 4 << 20, 3 << 20] {
        lab.write("disk/ballast", vec![0; ballast]);
        let run = lab.finetune("disk/run", &sets).arg("--resume").run();
        fs::remove_file(lab.path("disk/ballast")).unwrap();
        if run.code == Some(0) {
            continue;
        }
        filled += 1;
        run.expect(1).says(&["cannot write disk/run/", "No space left on device", "free some space"]);
        let left = crate::digits::names(&lab.path("disk/run"));
        assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
    }
    assert!(filled > 0, "the disk never was full");
    lab.finetune("disk/run", &sets).arg("--resume").run().expect(0);
    assert!(lab.read("whole/model.safetensors") == lab.read("disk/run/model.safetensors"));
}

#[test]
fn a_disk_without_room_for_the_frozen_stages_is_told_with_the_way_out() {
    let lab = Lab::of("partial", 6);
    let Some(_mount) = Mount::new(&lab, "disk", "size=256k") else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let sets = ["train.keep_memory=0", "train.kept_views=5"];
    lab.finetune("disk/run", &sets).run().expect(1).says(&[
        "the output of the frozen stages cannot be kept in disk/run (No space left on device",
        "make room there and go on with `--resume`, or set `train.keep: never`",
    ]);
    // The written data has no name, and has gone with the process.
    assert_eq!(crate::digits::names(&lab.path("disk/run")), ["checkpoint", "metrics.jsonl", "plan.yaml"]);
    lab.finetuned("elsewhere", &sets);
}

#[test]
fn a_read_only_folder_is_one_clear_message() {
    let lab = Lab::of("linear", 2);
    let Some(_mount) = Mount::new(&lab, "disk", "ro,size=1m") else {
        eprintln!("skipped: mounting a file system needs root");
        return;
    };
    let run = lab.finetune("disk/run", &[]).run().expect(1);
    insta::assert_snapshot!(run.told(), @"error: cannot create the folder disk/run: Read-only file system; choose a folder you may write to");
}

#[test]
fn a_missing_recipe_is_a_mistake_of_the_command_line() {
    insta::assert_snapshot!(tl(&["plan", "no/such/recipe.yaml"]).expect(2).told(), @"error: cannot read the recipe no/such/recipe.yaml: there is no folder no/such");
}

#[test]
fn the_shipped_recipes_have_no_mistakes() {
    for entry in fs::read_dir(repository("recipes")).unwrap() {
        let path = entry.unwrap().path();
        // Its images are rendered on request, or to be fetched.
        let elsewhere = ["pretrain-letters.yaml", "cifar10.yaml", "mnist.yaml"];
        if !elsewhere.iter().any(|name| path.ends_with(name)) {
            tl(&["plan", path.to_str().unwrap(), "--quiet"]).expect(0);
        }
    }
}

/// The annotated recipe has every key, in its section; those that would exclude others are
/// commented out.
#[test]
fn the_reference_recipe_has_every_key() {
    let text = std::fs::read_to_string(repository("recipes/reference.yaml")).unwrap();
    let mut path: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for line in text.lines() {
        // A key in a comment stands where it would stand.
        let line = line.replacen(
            "  # ",
            "  ",
            usize::from(line.trim_start().starts_with("# ") && line.starts_with(' ')),
        );
        let Some((key, _)) = line.split_once(':') else { continue };
        let depth = (key.len() - key.trim_start().len()) / 2;
        if !line.starts_with('#') && key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            path.truncate(depth);
            path.push(key.trim().into());
            seen.insert(path.join("."));
        }
    }
    let missing: Vec<&str> =
        transferkit::recipe::KEYS.iter().map(|key| key.path).filter(|key| !seen.contains(*key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(seen.len(), transferkit::recipe::KEYS.len());
}

/// A recipe for each corner of the table: the measurements of `tl plan` lead to four methods.
#[test]
fn each_corners_recipe_gets_its_method() {
    for (corner, method) in [
        ("little-similar", "linear"),
        ("little-different", "stages"),
        ("lots-similar", "partial"),
        ("lots-different", "full"),
    ] {
        let recipe = repository(&format!("recipes/corner-{corner}.yaml"));
        let run = Tl::new(["plan", recipe.to_str().unwrap(), "--threads", "2"]).run().expect(0);
        run.says(&[&format!("method      {method}: "), "distance from the source data"]);
    }
}
