//! Interrupted and resumed runs: the same bytes as undisturbed ones.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;

use crate::digits::{Lab, names};
use crate::program::{Run, answer, answers};

/// Sends a signal, `INT` or `TERM`.
fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Runs until standard error has a line with `text`, waits, sends the signal, and runs to the end.
pub fn stop_after(mut child: Child, text: &str, wait: Duration, name: &str) -> Run {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(text) {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it never said {text:?}:\n{said}");
    }
    std::thread::sleep(wait);
    signal(&child, name);
    stderr.read_to_string(&mut said).unwrap();
    Run { stderr: said, ..Run::from(child.wait_with_output().unwrap()) }
}

/// The results that must be equal in two runs of the same recipe: all but times.
fn result(lab: &Lab, out: &str) -> (Vec<u8>, Value, Vec<Value>) {
    let timeless = |mut epoch: Value| {
        epoch.as_object_mut().unwrap().retain(|key, _| key != "seconds" && key != "images_per_second");
        epoch
    };
    let mut report = lab.json(&format!("{out}/report.json"));
    report.as_object_mut().unwrap().remove("seconds");
    for methods in ["/race/methods", "/contest/methods"] {
        let methods = report.pointer_mut(methods).and_then(Value::as_array_mut);
        for method in methods.into_iter().flatten() {
            method.as_object_mut().unwrap().remove("seconds");
        }
    }
    for epoch in report["epochs"].as_array_mut().unwrap() {
        *epoch = timeless(epoch.take());
    }
    let metrics = String::from_utf8(lab.read(&format!("{out}/metrics.jsonl"))).unwrap();
    let metrics = metrics.lines().map(|line| timeless(serde_json::from_str(line).unwrap())).collect();
    (lab.read(&format!("{out}/model.safetensors")), report, metrics)
}

#[track_caller]
pub fn assert_same_result(lab: &Lab, whole: &str, resumed: &str) {
    let (whole, resumed) = (result(lab, whole), result(lab, resumed));
    assert_eq!(whole.1, resumed.1);
    assert_eq!(whole.2, resumed.2);
    assert!(whole.0 == resumed.0, "model.safetensors differs");
}

#[test]
fn a_signal_saves_and_the_run_goes_on_as_if_nothing_had_been() {
    let cases: [(&str, &str, i32, &[&str]); 9] = [
        ("full", "INT", 130, &[]),
        ("full", "TERM", 143, &["train.optimizer=adamw", "train.clip_grad_norm=1"]),
        ("partial", "INT", 130, &["train.schedule=plateau", "train.patience=1", "train.momentum=0.5"]),
        ("partial", "TERM", 143, &["train.optimizer=adamw", "train.label_smoothing=0.1"]),
        ("scratch", "INT", 130, &["train.early_stopping=3", "train.monitor=macro_f1", "train.nesterov=true"]),
        // The outputs of the frozen stages are computed again.
        ("partial", "INT", 130, &["augment={ random_resized_crop: false, flip: 0 }", "train.keep_memory=0"]),
        ("partial", "TERM", 143, &["train.kept_views=2", "train.linear_head_first=false"]),
        (
            "full",
            "INT",
            130,
            &["train.linear_head_first=true", "train.unfreeze_epochs=1", "train.layer_decay=0.5"],
        ),
        // With auxiliary classifiers, whose values are no part of the model.
        ("scratch", "TERM", 143, &["model=googlenet"]),
    ];
    for (number, (method, name, code, sets)) in cases.into_iter().enumerate() {
        let lab = Lab::of(method, 4);
        // Epochs on kept features take 20 ms: many of them, so that the signal cannot come after
        // the last one.
        let epochs = if method == "partial" { 40 } else { 8 };
        let typed = format!("train.epochs={epochs}");
        let sets = [sets, &[&typed, "train.batch_size=9"]].concat();
        lab.finetuned("whole", &sets);
        let wait = Duration::from_millis(17 * number as u64);
        let seen = format!(" 2/{epochs} ");
        let run = stop_after(lab.finetune("cut", &sets).spawn(), &seen, wait, name).expect(code);
        run.says(&["stopped in epoch ", "everything is saved in cut", "--resume"]);
        assert!(lab.path("cut/checkpoint/last.safetensors").exists());
        assert!(!lab.path("cut/report.json").exists());
        // Twice, so that a run that went on is interrupted too.
        let again = lab.finetune("cut", &sets).arg("--resume").spawn();
        stop_after(again, "10 classes", Duration::from_millis(50), name);
        lab.finetune("cut", &sets).arg("--resume").run().expect(0);
        assert_same_result(&lab, "whole", "cut");
    }
}

#[test]
fn linear_goes_on_from_its_features() {
    let lab = Lab::of("linear", 6);
    let sets = ["preprocess.resize_size=160", "train.batch_size=4", "train.folds=40"];
    lab.finetuned("whole", &sets);
    let kept = |run: &Run| -> Option<usize> {
        run.stderr.split("the features of ").nth(1)?.split(' ').next()?.parse().ok()
    };
    // In the fit, all features are there.
    let child = lab.finetune("fit", &sets).spawn();
    stop_after(child, "features of 140", Duration::ZERO, "INT").expect(130).says(&["the features are kept"]);
    lab.finetune("fit", &sets).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "fit");
    // Before it, some of them. How long that takes depends on the machine: the delay is searched
    // for.
    let some = (1..30).any(|step| {
        let delay = Duration::from_millis(40 * step);
        let run = stop_after(
            lab.finetune("features", &sets).arg("--overwrite").spawn(),
            "10 classes",
            delay,
            "TERM",
        );
        run.code == Some(143) && kept(&run).is_some_and(|images| images > 0 && images < 140)
    });
    assert!(some, "no delay has met the computing of features");
    lab.finetune("features", &sets).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "features");
}

/// Kills runs of a recipe at random moments and resumes them, until there have been enough kills,
/// and the last run has finished.
fn kill_and_resume(method: &str, seed: u64, more: &[&str]) {
    let kills: usize = std::env::var("TL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6);
    let lab = Lab::of(method, 6);
    let sets: &[&str] = if method == "linear" { &["train.folds=20"] } else { &["train.epochs=8"] };
    let sets = &[sets, more].concat();
    let started = Instant::now();
    lab.finetuned("whole", sets);
    let whole = started.elapsed().as_secs_f64();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut killed, mut finished) = (0, 0);
    loop {
        // The first run starts afresh with `--resume` too: there is no checkpoint.
        let mut child = lab.finetune("cut", sets).arg("--resume").spawn();
        if killed < kills {
            let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
            std::thread::sleep(Duration::from_secs_f64(share * whole * 0.7));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            }
        }
        let output = child.wait_with_output().unwrap();
        if output.status.code().is_some() {
            Run::from(output).expect(0);
            assert_same_result(&lab, "whole", "cut");
            finished += 1;
            if killed == kills {
                break;
            }
            fs::remove_dir_all(lab.path("cut")).unwrap();
        }
    }
    let left = names(&lab.path("cut"));
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
    println!("{method}: killed {killed} times, {finished} runs resumed to their end, all equal");
}

#[test]
fn killed_at_random_moments_full_ends_with_the_same_bytes() {
    kill_and_resume("full", 1, &[]);
}

#[test]
fn killed_at_random_moments_partial_ends_with_the_same_bytes() {
    kill_and_resume("partial", 2, &[]);
}

#[test]
fn killed_at_random_moments_with_everything_kept_ends_with_the_same_bytes() {
    let sets =
        ["augment={ random_resized_crop: false, flip: 0 }", "train.keep_memory=1", "train.unfreeze_epochs=2"];
    kill_and_resume("partial", 4, &sets);
}

#[test]
fn killed_at_random_moments_linear_ends_with_the_same_bytes() {
    kill_and_resume("linear", 3, &[]);
}

#[test]
fn a_finished_run_is_left_alone() {
    let lab = Lab::of("partial", 4);
    lab.finetuned("run", &["train.epochs=2"]);
    let state = || -> Vec<_> {
        let files = ["plan.yaml", "metrics.jsonl", "report.json", "report.html", "model.safetensors"];
        let file = |name: &&str| {
            let path = format!("run/{name}");
            (lab.read(&path), fs::metadata(lab.path(&path)).unwrap().modified().unwrap())
        };
        files.iter().map(file).collect()
    };
    let before = state();
    let run = lab.finetune("run", &["train.epochs=2"]).arg("--resume").run().expect(0);
    insta::assert_snapshot!(run.told(), @"run is finished: nothing to do (a new run with `model: run` trains its model further)");
    assert!(before == state());

    let other: [&[&str]; 4] = [
        &["train.epochs=3"],
        &["train.epochs=2", "seed=1"],
        &["train.epochs=2", "strategy.method=full"],
        &["train.epochs=2", "data.val=test.csv"],
    ];
    let answers = answers(&other, |sets| lab.finetune("run", sets).arg("--resume").run().expect(2));
    insta::assert_snapshot!(answers, @"
    $ train.epochs=3
    error: cannot resume run: the recipe means another run (`train.epochs` was 2, is 3). Undo the change, or start afresh with `--overwrite` or another `--out`. The run is finished, and its learning rate has come to the end of its schedule: to train its model further, begin a new run with it as the `model`:
      tl finetune r.yaml --set model=[TMP]/run --set weights=DEFAULT --set train.epochs=1 --out run-further

    $ train.epochs=2 seed=1
    error: cannot resume run: the recipe means another run (`seed` was 7, is 1). Undo the change, or start afresh with `--overwrite` or another `--out`. The run is finished, and its learning rate has come to the end of its schedule: to train its model further, begin a new run with it as the `model`:
      tl finetune r.yaml --set seed=1 --set train.epochs=2 --set model=[TMP]/run --set weights=DEFAULT --out run-further

    $ train.epochs=2 strategy.method=full
    error: cannot resume run: the recipe means another run (`method` was partial, is full). Undo the change, or start afresh with `--overwrite` or another `--out`. The run is finished, and its learning rate has come to the end of its schedule: to train its model further, begin a new run with it as the `model`:
      tl finetune r.yaml --set strategy.method=full --set train.epochs=2 --set model=[TMP]/run --set weights=DEFAULT --out run-further

    $ train.epochs=2 data.val=test.csv
    error: cannot resume run: the recipe means another run (the images are not the same). Undo the change, or start afresh with `--overwrite` or another `--out`. The run is finished, and its learning rate has come to the end of its schedule: to train its model further, begin a new run with it as the `model`:
      tl finetune r.yaml --set data.val=test.csv --set train.epochs=2 --set model=[TMP]/run --set weights=DEFAULT --out run-further
    ");
    // The same images in another order or number are another run.
    lab.write(
        "train.csv",
        String::from_utf8(lab.read("train.csv")).unwrap().lines().take(40).collect::<Vec<_>>().join("\n"),
    );
    let run = lab.finetune("run", &["train.epochs=2"]).arg("--resume").run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: cannot resume run: the recipe means another run (the images are not the same). Undo the change, or start afresh with `--overwrite` or another `--out`. The run is finished, and its learning rate has come to the end of its schedule: to train its model further, begin a new run with it as the `model`:
      tl finetune r.yaml --set train.epochs=2 --set model=[TMP]/run --set weights=DEFAULT --out run-further
    ");
    assert!(before == state());
}

#[test]
fn a_finished_run_is_known_by_the_digest_of_its_model() {
    let lab = Lab::of("linear", 4);
    lab.finetuned("run", &[]);
    let good = lab.read("run/model.safetensors");
    let sum = Command::new("sha256sum").arg(lab.path("run/model.safetensors")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let sha256 = sum.split_whitespace().next().unwrap();
    let report = lab.json("run/report.json");
    assert_eq!(report["sha256"], serde_json::json!({ "model.safetensors": sha256 }));
    let page = String::from_utf8(lab.read("run/report.html")).unwrap();
    assert!(page.contains(&format!("<code>model.safetensors</code>: <code>{sha256}</code>")));
    let resume = || lab.finetune("run", &[]).arg("--resume").run();
    resume().expect(0).says(&["run is finished: nothing to do"]);
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    lab.write("run/model.safetensors", &bytes);
    let words =
        "run/model.safetensors: is not the model that report.json measured (by its sha256); bring it back";
    resume().expect(1).says(&[words, "`--overwrite`"]);
    fs::remove_file(lab.path("run/model.safetensors")).unwrap();
    resume().expect(1).says(&["run/model.safetensors: cannot be read, and report.json measured it"]);
    lab.write("run/model.safetensors", &good);
    resume().expect(0);
    lab.write("run/report.json", "");
    resume().expect(1).says(&["run/report.json: is not the report of a run (", "`--overwrite`"]);
    // Of two, both.
    lab.write("r.yaml", crate::digits::recipe("full").replace("strategy: { method: full }", "strategy: {}"));
    lab.finetuned("two", &["train.epochs=1"]);
    let report = lab.json("two/report.json");
    let names: Vec<&String> = report["sha256"].as_object().unwrap().keys().collect();
    let partner = lab.path("two/beside.safetensors").exists();
    let expected =
        if partner { vec!["beside.safetensors", "model.safetensors"] } else { vec!["model.safetensors"] };
    assert_eq!(names, expected);
}

#[test]
fn links_in_a_run_folder_are_not_written_through() {
    use std::os::unix::fs::{lchown, symlink};
    let lab = Lab::of("full", 4);
    let sets = ["train.epochs=2"];
    lab.write("mine", "mine");
    fs::create_dir_all(lab.path("run")).unwrap();
    let files =
        ["model.safetensors", "metrics.jsonl", "report.json", "report.html", "MODEL_CARD.md", "plan.yaml"];
    for name in files {
        symlink("../mine", lab.path(&format!("run/{name}"))).unwrap();
    }
    symlink("../../mine", lab.path("run/.lock")).unwrap();
    lab.finetune("run", &sets)
        .arg("--overwrite")
        .run()
        .expect(1)
        .says(&[".lock is a link, and is not written"]);
    fs::remove_file(lab.path("run/.lock")).unwrap();
    lab.finetune("run", &sets).arg("--overwrite").run().expect(0);
    for name in files {
        assert!(!lab.path(&format!("run/{name}")).is_symlink(), "{name}");
    }
    assert_eq!(lab.read("mine"), b"mine");
    // The user's own link to a folder for what is kept is followed; another user's is not.
    fs::remove_dir_all(lab.path("run/checkpoint")).unwrap();
    fs::create_dir_all(lab.path("disk/race")).unwrap();
    lab.write("disk/race/mine", "mine");
    symlink("../disk", lab.path("run/checkpoint")).unwrap();
    if lchown(lab.path("run/checkpoint"), Some(54_321), None).is_err() {
        eprintln!("skipped: a link of another user's can only be made by root");
        return;
    }
    lab.finetune("run", &sets)
        .arg("--overwrite")
        .run()
        .expect(1)
        .says(&["checkpoint: is a link of another user's"]);
    assert_eq!(lab.read("disk/race/mine"), b"mine");
    lchown(lab.path("run/checkpoint"), Some(0), None).unwrap();
    fs::remove_dir_all(lab.path("disk/race")).unwrap();
    lab.finetune("run", &sets).arg("--overwrite").run().expect(0);
    assert!(lab.path("disk/last.safetensors").exists());
    // A folder of another user's is said to be one.
    lchown(lab.path("run"), Some(54_321), None).unwrap();
    let run = lab.finetune("run", &sets).arg("--overwrite").run();
    run.says(&["the run folder run is another user's, who can change what this run writes"]);
}

#[test]
fn a_run_whose_folder_was_moved_does_not_write_into_the_next_one() {
    let lab = Lab::of("full", 4);
    let mut child = lab.finetune("run", &["train.epochs=300"]).spawn();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("epoch   1/300") && !said.contains("epoch 1/300") && !said.contains("  1/300") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    fs::rename(lab.path("run"), lab.path("moved")).unwrap();
    fs::create_dir(lab.path("run")).unwrap();
    stderr.read_to_string(&mut said).unwrap();
    let run = Run { stderr: said, ..Run::from(child.wait_with_output().unwrap()) };
    run.expect(1).says(&["run: its lock has gone: the folder was moved or emptied"]);
    assert_eq!(names(&lab.path("run")), Vec::<String>::new());
}

#[test]
fn a_used_folder_is_refused_and_overwritten_on_request() {
    let lab = Lab::of("linear", 4);
    lab.write("run/mine.txt", "not a run's");
    lab.write("run/checkpoint/mine.bin", "nor this");
    // A folder named `checkpoint` may be a run's: better to ask.
    insta::assert_snapshot!(lab.finetune("run", &[]).run().expect(2).told(), @"error: the run folder run holds a run that has not finished: `--resume` goes on with it, `--overwrite` replaces it, `--out` names another folder");
    lab.finetune("run", &[]).arg("--overwrite").run().expect(0);
    let first = lab.read("run/model.safetensors");
    insta::assert_snapshot!(lab.finetune("run", &[]).run().expect(2).told(), @"error: the run folder run holds a finished run: `--resume` goes on with it, `--overwrite` replaces it, `--out` names another folder");
    lab.finetune("run", &["seed=1"]).arg("--overwrite").run().expect(0);
    assert!(first != lab.read("run/model.safetensors"));
    assert_eq!(lab.read("run/mine.txt"), b"not a run's");
    assert_eq!(lab.read("run/checkpoint/mine.bin"), b"nor this");
    lab.tl(&["finetune", "r.yaml", "--resume", "--overwrite"]).run().expect(2);
}

#[test]
fn damaged_checkpoints_are_told_and_not_trusted() {
    let lab = Lab::of("full", 4);
    let sets = ["train.epochs=4"];
    let cut = || {
        let child = lab.finetune("run", &sets).arg("--overwrite").spawn();
        stop_after(child, "epoch 1/4", Duration::ZERO, "INT").expect(130);
        lab.read("run/checkpoint/last.safetensors")
    };
    let good = cut();
    let half = &good[..good.len() / 2];
    let mut header = good.clone();
    header[40] ^= 0xff;
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let other = fs::read(crate::program::repository("data/shufflenet_v2_x0_5-letters.safetensors")).unwrap();
    let mut answers = String::new();
    let bad = [
        ("header", &header[..]),
        ("flipped", &flipped),
        ("other", &other),
        ("empty", b""),
        ("page", b"<html>"),
    ];
    for (what, bytes) in bad {
        lab.write("run/checkpoint/last.safetensors", bytes);
        let run = lab.finetune("run", &sets).arg("--resume").run().expect(1);
        answers += &answer(">", what, &run.notes());
    }
    insta::assert_snapshot!(answers, @"
    > header
    error: run/checkpoint/last.safetensors: is damaged: its header cannot be understood (`invalid UTF-8 in header: invalid utf-8 sequence of 1 bytes from index 32`); the run cannot go on from here; `--overwrite` starts afresh

    > flipped
    error: run/checkpoint/last.safetensors: is damaged: its checksum is another; the run cannot go on from here; `--overwrite` starts afresh

    > other
    error: run/checkpoint/last.safetensors: is not a checkpoint of this run (it lacks its progress); `--overwrite` starts afresh

    > empty
    error: run/checkpoint/last.safetensors: is empty; the run cannot go on from here; `--overwrite` starts afresh

    > page
    error: run/checkpoint/last.safetensors: is cut short, or no weights file at all (6 bytes); expected PyTorch weights (.pth, .pt) or safetensors; the run cannot go on from here; `--overwrite` starts afresh
    ");
    // How long it is depends on the digits of its numbers.
    lab.write("run/checkpoint/last.safetensors", half);
    let run = lab.finetune("run", &sets).arg("--resume").run().expect(1);
    run.says(&[
        "error: run/checkpoint/last.safetensors: is cut short: its tensors need ",
        "`--overwrite` starts",
    ]);
    lab.write("run/checkpoint/last.safetensors", &good);
    lab.write("run/plan.yaml", "{ broken");
    insta::assert_snapshot!(lab.finetune("run", &sets).arg("--resume").run().expect(1).notes(), @"error: run/plan.yaml: is not the plan of a run (while parsing a flow mapping, did not find expected ',' or '}' at byte 8 line 2 column 1); `--overwrite` starts afresh");
    // Without a checkpoint there is nothing to go on from: the run starts afresh.
    fs::remove_file(lab.path("run/plan.yaml")).unwrap();
    fs::remove_file(lab.path("run/checkpoint/last.safetensors")).unwrap();
    lab.finetune("run", &sets).arg("--resume").run().expect(0);
    lab.finetuned("whole", &sets);
    assert_same_result(&lab, "whole", "run");
}

#[test]
fn a_bad_image_that_comes_up_in_between_is_another_run() {
    let lab = Lab::of("full", 4);
    let list = String::from_utf8(lab.read("train.csv")).unwrap();
    let image = list.lines().nth(1).unwrap().split(',').next().unwrap().to_string();
    lab.write("own.png", fs::read(&image).unwrap());
    lab.write("train.csv", list.replace(&image, "own.png"));
    let child = lab.finetune("run", &["train.epochs=4"]).spawn();
    stop_after(child, "epoch 1/4", Duration::ZERO, "INT").expect(130);
    lab.write("own.png", "broken in the meantime");
    let run = lab.finetune("run", &["train.epochs=4"]).arg("--resume").run().expect(1);
    insta::assert_snapshot!(run.notes(), @"error: run/checkpoint/last.safetensors: was trained on other images: which of them can be read has changed since. Bring them back as they were, or start afresh with `--overwrite`");
}
