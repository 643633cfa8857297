//! One run at a time in a folder, runs that end otherwise than planned, and models that are trained
//! further.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;

use crate::digits::{Lab, images, names};
use crate::model_file::tensors;
use crate::program::{Run, answers};
use crate::resume::assert_same_result;

/// A rate that underflows: the weights do not change.
const STILL: [&str; 3] = ["train.lr=1e-45", "train.head_lr=1e-45", "train.epochs=1"];

/// Waits until standard error has a line with `text`.
fn wait_for(child: &mut Child, text: &str) -> BufReader<std::process::ChildStderr> {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(text) {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it never said {text:?}:\n{said}");
    }
    stderr
}

fn to_the_end(child: Child, mut stderr: impl Read) -> Run {
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    Run { stderr: said, ..Run::from(child.wait_with_output().unwrap()) }
}

fn model(lab: &Lab, out: &str) -> BTreeMap<String, Vec<f32>> {
    tensors(&lab.path(&format!("{out}/model.safetensors")), "")
}

fn set<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&STILL[..], more].concat()
}

#[test]
fn a_second_process_in_a_run_folder_is_refused_until_the_first_has_ended() {
    let lab = Lab::of("full", 4);
    let sets = ["train.epochs=300"];
    let mut first = lab.finetune("run", &sets).spawn();
    let stderr = wait_for(&mut first, "  1/300");
    let holder = format!("(pid {})", first.id());
    let ways: [&[&str]; 3] = [&[], &["--overwrite"], &["--resume"]];
    let answers = answers(&ways, |way| lab.finetune("run", &sets).args(way).run().expect(1).says(&[&holder]));
    insta::assert_snapshot!(answers, @"
    $
    error: another process (pid [PID]) is at work in the run folder run: wait for its end or stop it, or choose another folder with `--out`

    $ --overwrite
    error: another process (pid [PID]) is at work in the run folder run: wait for its end or stop it, or choose another folder with `--out`

    $ --resume
    error: another process (pid [PID]) is at work in the run folder run: wait for its end or stop it, or choose another folder with `--out`
    ");
    // Those who only look are not in its way, nor is it in theirs.
    lab.finetune("run", &sets).arg("--dry-run").run().expect(0);
    lab.tl(&["predict", "--model", "run", images("test", 0, 1)[0].0.to_str().unwrap()]).run().expect(0);
    first.kill().unwrap();
    drop(stderr);
    first.wait().unwrap();
    // Every row is of the first run, and its lock has gone with it.
    let metrics = String::from_utf8(lab.read("run/metrics.jsonl")).unwrap();
    for (index, line) in metrics.lines().enumerate() {
        assert!(line.starts_with(&format!("{{\"epoch\":{},", index + 1)), "{metrics}");
    }
    lab.finetune("run", &STILL).arg("--overwrite").run().expect(0);
    assert_eq!(names(&lab.path("run")), crate::finetune::FILES);
}

#[test]
fn an_error_after_a_checkpoint_says_how_to_go_on() {
    let lab = Lab::of("full", 4);
    let list = String::from_utf8(lab.read("train.csv")).unwrap();
    let image = list.lines().nth(1).unwrap().split(',').next().unwrap().to_string();
    let own = lab.write("own.png", fs::read(&image).unwrap());
    lab.write("train.csv", list.replace(&image, "own.png"));
    let sets = ["train.epochs=12"];
    lab.finetuned("whole", &sets);

    let mut child = lab.finetune("run", &sets).spawn();
    let stderr = wait_for(&mut child, "  1/12");
    fs::remove_file(&own).unwrap();
    insta::assert_snapshot!(to_the_end(child, stderr).expect(1).notes(), @"error: cannot read own.png: No such file or directory; what was done before is saved in run: when this is mended, go on with `--resume`");
    fs::write(&own, fs::read(&image).unwrap()).unwrap();

    let mut child = lab.finetune("run", &sets).arg("--resume").spawn();
    let stderr = wait_for(&mut child, "10 classes");
    // Something is in the way of a file to be written.
    fs::remove_file(lab.path("run/metrics.jsonl")).unwrap();
    fs::create_dir(lab.path("run/metrics.jsonl")).unwrap();
    let run = to_the_end(child, stderr).expect(1);
    assert!(run.stderr.contains("metrics.jsonl"), "{}", run.stderr);
    fs::remove_dir(lab.path("run/metrics.jsonl")).unwrap();

    lab.finetune("run", &sets).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "run");
    // Before there is anything to go on from, nothing of the kind is said.
    fs::remove_file(&own).unwrap();
    let run = lab.finetune("fresh", &["data.bad_images=fail"]).run();
    assert!(run.code != Some(0) && !run.stderr.contains("go on with"), "{}", run.stderr);
}

#[test]
fn features_are_kept_where_an_image_goes_away() {
    let lab = Lab::of("linear", 6);
    let list = String::from_utf8(lab.read("test.csv")).unwrap();
    let image = list.lines().last().unwrap().split(',').next().unwrap().to_string();
    let own = lab.write("own.png", fs::read(&image).unwrap());
    lab.write("test.csv", list.replace(&image, "own.png"));
    let sets = ["preprocess.resize_size=160", "train.batch_size=4"];
    lab.finetuned("whole", &sets);
    let mut child = lab.finetune("run", &sets).spawn();
    let stderr = wait_for(&mut child, "10 classes");
    fs::remove_file(&own).unwrap();
    let run = to_the_end(child, stderr).expect(1);
    insta::assert_snapshot!(run.notes(), @"
    note: `augment.flip` is not used by `method: linear`
    note: `augment.ratio` is not used by `method: linear`
    note: `augment.scale` is not used by `method: linear`
    error: cannot read own.png: No such file or directory; what was done before is saved in run: when this is mended, go on with `--resume`
    ");
    assert!(lab.path("run/checkpoint/features.safetensors").exists());
    fs::write(&own, fs::read(&image).unwrap()).unwrap();
    lab.finetune("run", &sets).arg("--resume").run().expect(0);
    assert_same_result(&lab, "whole", "run");
}

#[test]
fn a_training_that_ends_early_says_so() {
    let lab = Lab::of("full", 4);
    let sets = [&STILL[..2], &["train.early_stopping=2"]].concat();
    let words = "stopped early, after epoch 3 of 6: 2 epochs without a better one on the validation images \
                 (`early_stopping: 2`); epoch 1 is kept";
    lab.finetuned("run", &sets).says(&[
        "falling as a cosine, ended after 2 epochs without a better one\n",
        &format!("note: {words}\n"),
    ]);
    let report = lab.json("run/report.json");
    let early = serde_json::json!({ "epoch": 3, "of": 6, "patience": 2, "kept": 1 });
    assert_eq!(report["stopped_early"], early);
    assert_eq!(report["epochs"].as_array().unwrap().len(), 3);
    assert!(report["notes"].as_array().unwrap().contains(&words.into()), "{}", report["notes"]);
    assert!(
        String::from_utf8(lab.read("run/report.html")).unwrap().contains("stopped early, after epoch 3 of 6")
    );
    lab.finetuned("whole", &["train.early_stopping=6"]);
    assert!(lab.json("whole/report.json").get("stopped_early").is_none());
}

#[test]
fn the_plan_counts_the_steps_that_are_made() {
    let lab = Lab::of("full", 4);
    let list = String::from_utf8(lab.read("train.csv")).unwrap();
    // 33 of the 40 images, and all of the classes.
    let kept = |row: &usize| *row == 0 || !row.is_multiple_of(4) || *row > 28;
    let kept: Vec<&str> =
        list.lines().enumerate().filter(|(row, _)| kept(row)).map(|(_, line)| line).collect();
    assert_eq!(kept.len(), 34);
    lab.write("train.csv", kept.join("\n"));
    let plan = |sets: &[&str]| lab.finetune("run", sets).arg("--dry-run").run().expect(0);
    plan(&["train.batch_size=32", "train.batch_norm=train"]).says(&["6 epochs of 1 step,"]);
    plan(&["train.batch_size=32", "train.batch_norm=train", "train.micro_batch=4"])
        .says(&["6 epochs of 1 step,"]);
    plan(&["train.batch_size=32"]).says(&["6 epochs of 2 steps,"]);
    plan(&["train.batch_size=33"]).says(&["6 epochs of 1 step,"]);
    plan(&["train.batch_size=16", "train.batch_norm=train"]).says(&["6 epochs of 2 steps,"]);
    // Without the images that turn out to be bad.
    let list = String::from_utf8(lab.read("train.csv")).unwrap();
    let image = list.lines().nth(1).unwrap().split(',').next().unwrap();
    lab.write("bad.png", "not an image");
    lab.write("train.csv", list.replace(image, "bad.png"));
    lab.finetuned("run", &["train.batch_size=32", "train.epochs=1"]).says(&["1 epoch of 1 step,"]);
}

#[test]
fn a_model_of_the_same_classes_is_trained_further_from_its_own_head() {
    let lab = Lab::of("full", 6);
    lab.finetuned("a", &["train.epochs=2"]);
    let from_a = ["model=a", "weights=DEFAULT"];
    let sets = set(&from_a);
    let head = "head        that of a, which has the same 10 classes";
    lab.finetuned("same", &sets).says(&[head, "rate 0.000000"]);
    assert!(model(&lab, "a") == model(&lab, "same"), "a rate of nothing has changed the model");
    let plan = String::from_utf8(lab.read("same/plan.yaml")).unwrap();
    assert!(plan.contains("source_head:") && !plan.contains("linear_head:"), "{plan}");
    // A new head on request, and where that is the method.
    let plan =
        |more: &[&str]| lab.finetune("no", &[&sets[..], more].concat()).arg("--dry-run").run().expect(0);
    let anew = plan(&["train.linear_head_first=true"]).says(&["from a head that is fitted first"]);
    insta::assert_snapshot!(anew.message("head  "), @"head        fitted to these images, as the recipe says, though a has the same 10 classes");
    insta::assert_snapshot!(plan(&["strategy.method=linear"]).message("head  "), @"head        fitted to these images: a has the same 10 classes, but the best head for them needs no beginning");
    insta::assert_snapshot!(plan(&["strategy.method=race"]).message("head  "), @"head        a has the same 10 classes, and its head may have learnt from what the race holds out: it is not taken over");
    insta::assert_snapshot!(plan(&["train.c=1"]).notes(), @"note: `train.c` is not used by `linear_head_first: false`, the default where the head is taken over");
    let lots = "the validation images are drawn from `data.train` by lot";
    insta::assert_snapshot!(plan(&["data.val=0.3"]).message(lots), @"note: the validation images are drawn from `data.train` by lot, and the model to begin with may have learnt from some of them, for which val accuracy would be too good: give `data.val` a folder or a .csv that it has not seen");
    assert!(!plan(&[]).stderr.contains(lots));

    // Some of the classes: a fitted head, or their rows by name.
    for part in ["train.csv", "val.csv", "test.csv"] {
        let list = String::from_utf8(lab.read(part)).unwrap();
        lab.write(part, list.replace(",0\n", ",zero\n").replace(",3\n", ",C\n"));
    }
    insta::assert_snapshot!(plan(&[]).message("head  "), @"head        fitted to these images: a knows 8 of the 10 classes (`linear_head_first: false` begins with its rows for them)");
    let sets = set(&["model=a", "weights=DEFAULT", "train.linear_head_first=false"]);
    insta::assert_snapshot!(lab.finetuned("some", &sets).message("head  "), @"head        the rows of a for 8 of the 10 classes, by their names; those of C, zero begin anew");
    let (was, is) = (model(&lab, "a"), model(&lab, "some"));
    // In order: 1, 2, 4 to 9, C, zero.
    let rows = [1, 2, 4, 5, 6, 7, 8, 9];
    for (key, width) in [("fc.weight", 1024), ("fc.bias", 1)] {
        for (to, from) in rows.into_iter().enumerate() {
            let row = |values: &[f32], row: usize| values[row * width..(row + 1) * width].to_vec();
            assert!(row(&was[key], from) == row(&is[key], to), "row {to} of {key}");
        }
        assert!(is[key][8 * width..].iter().all(|&value| value == 0.), "{key}");
    }
}

#[test]
fn a_head_on_several_stages_goes_on_too() {
    let lab = Lab::of("stages", 4);
    let few = ["strategy.read=[stage3, features]", "strategy.average=false"];
    lab.finetuned("a", &few);
    let sets = set(&["model=a", "weights=DEFAULT", "strategy.method=full", "augment.flip=0"]);
    insta::assert_snapshot!(lab.finetuned("same", &sets).message("head  "), @"head        that of a, which has the same 10 classes (`linear_head_first: true` fits a new one)");
    assert!(model(&lab, "a") == model(&lab, "same"), "a rate of nothing has changed the model");
}

#[test]
fn a_finished_run_names_the_command_that_trains_further() {
    let lab = Lab::of("partial", 4);
    lab.finetuned("run", &["train.epochs=2"]);
    let run = lab.finetune("run", &["train.epochs=2"]).arg("--resume").run().expect(0);
    insta::assert_snapshot!(run.told(), @"run is finished: nothing to do (a new run with `model: run` trains its model further)");
    let run = lab.finetune("run", &["train.epochs=5"]).arg("--resume").run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: cannot resume run: the recipe means another run (`train.epochs` was 2, is 5). Undo the change, or start afresh with `--overwrite` or another `--out`. The run is finished, and its learning rate has come to the end of its schedule: to train its model further, begin a new run with it as the `model`:
      tl finetune r.yaml --set model=[TMP]/run --set weights=DEFAULT --set train.epochs=3 --out run-further
    ");
    let command = run.stderr.lines().find_map(|line| line.trim().strip_prefix("tl ")).unwrap();
    let args: Vec<&str> = command.split(' ').collect();
    assert!(args.contains(&"train.epochs=3") && args.contains(&"weights=DEFAULT"), "{command}");
    lab.tl(&args).run().expect(0).says(&["which has the same 10 classes", "epoch 3/3"]);
    assert!(lab.path("run-further/report.json").exists());
    // One that was stopped is another matter.
    fs::remove_file(lab.path("run/report.json")).unwrap();
    let run = lab.finetune("run", &["train.epochs=5"]).arg("--resume").run().expect(2);
    assert!(!run.stderr.contains("is finished"), "{}", run.stderr);
}

#[test]
fn a_run_does_not_replace_the_model_that_it_begins_with() {
    let lab = Lab::of("linear", 2);
    lab.finetuned("a", &[]);
    let before = lab.read("a/model.safetensors");
    let models = ["model=a", "model=a/model.safetensors"].map(|model| [model, "weights=DEFAULT"]);
    let answers = answers(&models, |sets| {
        let run = lab.finetune("a", sets).arg("--overwrite").run().expect(2);
        assert!(lab.read("a/model.safetensors") == before && lab.path("a/report.json").exists());
        run
    });
    insta::assert_snapshot!(answers, @"
    $ model=a weights=DEFAULT
    error: the run would replace the model that it begins with, in a: choose another folder with `--out`

    $ model=a/model.safetensors weights=DEFAULT
    error: the run would replace the model that it begins with, in a: choose another folder with `--out`
    ");
}
