//! `tl watch`, and TensorBoard's file beside `metrics.jsonl`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use crate::digits::Lab;
use crate::program::answers;

/// The steps of TensorBoard's scalars `loss/train`, by the bytes of its events.
fn steps(bytes: &[u8]) -> Vec<u64> {
    let (mut at, mut steps) = (0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let event = &bytes[at + 12..at + 12 + length];
        if event.windows(10).any(|tag| tag == b"loss/train") {
            // The time takes nine bytes, and these steps one.
            assert_eq!(event[9], 0x10);
            steps.push(u64::from(event[10]));
        }
        at += 16 + length;
    }
    steps
}

const EVENTS: &str = "run/tensorboard/events.out.tfevents.0000000000.tl";

#[test]
fn tensorboards_file_has_each_epoch_once_and_changes_nothing_else() {
    let lab = Lab::of("full", 8);
    lab.finetuned("plain", &[]);
    lab.finetuned("run", &["train.tensorboard=true"]);
    assert_eq!(steps(&lab.read(EVENTS)), [1, 2, 3, 4, 5, 6]);
    assert!(!lab.path("plain/tensorboard").exists());
    assert_eq!(lab.read("plain/model.safetensors"), lab.read("run/model.safetensors"));
    let confusion = lab.read(EVENTS);
    assert!(confusion.windows(13).any(|tag| tag == b"confusion/val"), "the confusion matrix is missing");
    // Started over, nothing of the earlier run is left; and whether there is such a file does not make it another run.
    lab.finetune("run", &["train.tensorboard=true", "train.epochs=2"]).arg("--overwrite").run().expect(0);
    assert_eq!(steps(&lab.read(EVENTS)), [1, 2]);
    lab.finetune("run", &["train.epochs=2"]).arg("--resume").run().expect(0);
    lab.finetune("run", &["train.epochs=2"]).arg("--overwrite").run().expect(0);
    assert!(!lab.path(EVENTS).exists());
    let heads = Lab::of("linear", 8);
    heads.finetuned("run", &["train.tensorboard=true"]);
    assert_eq!(steps(&heads.read(EVENTS)), [1]);
}

#[test]
fn a_run_that_is_resumed_goes_on_in_tensorboards_file() {
    let lab = Lab::of("full", 8);
    let sets = ["train.tensorboard=true", "train.epochs=12"];
    let mut child = lab.finetune("run", &sets).spawn();
    let end = Instant::now() + Duration::from_secs(120);
    while lab.path("run/metrics.jsonl").metadata().map_or(0, |file| file.len()) < 400 {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "no epoch has ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What a crash may leave: half a record.
    let half = fs::read(lab.path(EVENTS)).unwrap();
    fs::write(lab.path(EVENTS), [&half[..], &[1, 2, 3]].concat()).unwrap();
    let told = lab.tl(&["watch", "run"]).run().expect(1).stdout;
    assert!(told.contains("not finished: it crashed or was killed, after "), "{told}");
    assert!(told.contains(" go on with `tl finetune RECIPE --resume --out run`"), "{told}");
    lab.finetune("run", &sets).arg("--resume").run().expect(0);
    assert_eq!(steps(&lab.read(EVENTS)), (1..=12).collect::<Vec<u64>>());
}

/// A row of `metrics.jsonl`.
fn row(epoch: usize, loss: f64) -> String {
    format!(
        r#"{{"epoch":{epoch},"train_loss":{loss},"train_accuracy":0.5,"val_loss":{loss},"val_accuracy":{},"lr":0.1,"images_per_second":100.0,"seconds":60.0}}"#,
        1. - loss
    ) + "\n"
}

#[test]
fn a_run_is_shown_whatever_its_state() {
    let lab = Lab::of("full", 2);
    let watch = |args: &[&str]| lab.tl(&[&["watch"], args].concat()).run();
    let plan = "model: resnet18\nmethod: full\ntrain:\n  epochs: 20\n";
    lab.write("run/plan.yaml", plan);
    let rows = [row(1, 0.75), row(2, 0.5), row(3, 0.25), row(4, 0.375)].concat();
    // The last row is half written.
    lab.write("run/metrics.jsonl", format!("{rows}{{\"epoch\":5,"));
    let once = |code: i32| watch(&["run", "--once"]).expect(code).stdout;
    insta::assert_snapshot!(once(1), @"
    run  full, resnet18
    epoch 4/20  loss 0.3750  train accuracy 0.5000  val loss 0.3750  val accuracy 0.6250  100 images/s
      train loss   █▅▁▃
      val loss     █▅▁▃
      val accuracy ▁▅█▆
    best    epoch 3, val accuracy 0.7500, val loss 0.2500
    not finished: nobody is at work on it, after 4 epochs; go on with `tl finetune RECIPE --resume --out run`
    ");
    // A process that lives: this one.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    lab.write("run/.lock", format!("{} {host}", std::process::id()));
    insta::assert_snapshot!(once(0).replace(&format!("pid {}", std::process::id()), "pid [PID]"), @"
    run  full, resnet18
    epoch 4/20  loss 0.3750  train accuracy 0.5000  val loss 0.3750  val accuracy 0.6250  100 images/s
      train loss   █▅▁▃
      val loss     █▅▁▃
      val accuracy ▁▅█▆
    best    epoch 3, val accuracy 0.7500, val loss 0.2500
    another process (pid [PID]) is at work: epoch 5 is under way, 16 min left at most
    ");
    lab.write("run/metrics.jsonl", "");
    insta::assert_snapshot!(once(0).replace(&format!("pid {}", std::process::id()), "pid [PID]"), @"
    run  full, resnet18
    another process (pid [PID]) is at work: no epoch is finished yet
    ");
    lab.write("run/metrics.jsonl", rows);
    lab.write("run/report.json", r#"{"val":{"accuracy":0.75}}"#);
    insta::assert_snapshot!(once(0), @"
    run  full, resnet18
    epoch 4/20  loss 0.3750  train accuracy 0.5000  val loss 0.3750  val accuracy 0.6250  100 images/s
      train loss   █▅▁▃
      val loss     █▅▁▃
      val accuracy ▁▅█▆
    best    epoch 3, val accuracy 0.7500, val loss 0.2500
    finished, val accuracy 0.7500; next: tl predict --model run PATH...
    ");
    assert_eq!(watch(&["run"]).expect(0).stdout, once(0), "a run that has ended is not waited for");
    let calls: [&[&str]; 2] = [&["nowhere"], &["."]];
    insta::assert_snapshot!(answers(&calls, |args| watch(args).expect(2)), @"
    $ nowhere
    error: nowhere is no folder: name the folder that `tl finetune` writes, such as runs/photos

    $ .
    error: . holds no run: name the folder that `tl finetune` writes, such as runs/photos
    ");
}

#[test]
fn a_run_under_way_is_followed_to_its_end() {
    let lab = Lab::of("full", 2);
    lab.write("run/plan.yaml", "model: resnet18\nmethod: full\ntrain:\n  epochs: 20\n");
    lab.write("run/metrics.jsonl", row(1, 0.75));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    lab.write("run/.lock", format!("{} {host}", std::process::id()));
    let mut watch = lab.tl(&["watch", "run"]).spawn();
    let mut told = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(told.next().unwrap(), "run  full, resnet18");
    assert!(told.next().unwrap().starts_with("epoch 1/20  loss 0.7500"));
    let mut metrics = fs::OpenOptions::new().append(true).open(lab.path("run/metrics.jsonl")).unwrap();
    metrics.write_all(row(2, 0.5).as_bytes()).unwrap();
    assert!(told.next().unwrap().starts_with("epoch 2/20  loss 0.5000"));
    // Whole at once, as a run writes it.
    lab.write("report.json", r#"{"val":{"accuracy":0.5}}"#);
    fs::rename(lab.path("report.json"), lab.path("run/report.json")).unwrap();
    assert_eq!(
        told.collect::<Vec<_>>(),
        ["finished, val accuracy 0.5000; next: tl predict --model run PATH..."]
    );
    assert!(watch.wait().unwrap().success());
}
