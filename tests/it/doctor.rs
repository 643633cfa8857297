//! `tl doctor`, threads and missing devices.

use serde_json::Value;

use crate::program::{Tl, tl};

/// No driver opens a hidden device, so this holds on a machine with CUDA too.
const BLIND: (&str, &str) = ("CUDA_VISIBLE_DEVICES", "");

#[test]
fn doctor_says_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("torch");
    let run = Tl::new(["doctor", "--threads", "1"])
        .env(BLIND.0, BLIND.1)
        .env("TORCH_HOME", &home)
        .env("OMP_NUM_THREADS", "3")
        .run()
        .expect(0);
    assert_eq!(run.stderr, "");
    let first_words: Vec<&str> = run
        .stdout
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let expected = ["tl", "libtorch", "CUDA", "threads", "JPEG", "memory", "weights", "folder", "temp"];
    assert_eq!(first_words, expected, "{}", run.stdout);
    let version = format!("tl          {} (", env!("CARGO_PKG_VERSION"));
    let weights = format!("{}/hub/checkpoints (not there yet), ", home.display());
    for part in [
        &version,
        "libtorch    2.11",
        "not used; --device auto is the CPU",
        "libtorch computes with 1",
        &weights,
    ] {
        assert!(run.stdout.contains(part), "expected {part:?} in\n{}", run.stdout);
    }
    assert!(run.stdout.contains("OMP_NUM_THREADS is 3, and has no part in it"), "{}", run.stdout);
    // Every line begins in the same column.
    for line in run.stdout.lines() {
        assert_ne!(line.chars().nth(12), Some(' '), "{line}");
        assert_eq!(line.chars().nth(11), Some(' '), "{line}");
    }
    // It only looks.
    assert!(!home.exists());
}

#[test]
fn doctor_warns_of_a_folder_that_cannot_be_written_to() {
    let run = Tl::new(["doctor", "--json"]).env("TORCH_HOME", "/proc/nowhere").run().expect(0);
    let findings: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    let weights = findings.iter().find(|finding| finding["what"] == "weights").unwrap();
    let warning = weights["warnings"][0].as_str().unwrap();
    assert!(warning.contains("cannot be written to") && warning.contains("TORCH_HOME"), "{warning}");
    let tl = findings.iter().find(|finding| finding["what"] == "tl").unwrap();
    assert!(tl.get("warnings").is_none(), "{tl}");
}

#[test]
fn more_threads_than_cores_are_noted_once() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let many = (cores + 1).to_string();
    for command in [&["doctor"][..], &["models", "alexnet"], &["inspect", "lenet5"]] {
        let run = Tl::new(command).args(["--threads", &many]).run().expect(0);
        let said = format!("{many} threads were asked for");
        assert_eq!(run.stderr.matches(&said).count(), 1, "{}", run.stderr);
        assert!(run.stderr.starts_with("note: ") && run.stderr.contains(&format!("and {cores} core")));
    }
    let fitting = cores.to_string();
    assert_eq!(tl(&["doctor", "--threads", &fitting]).expect(0).stderr, "");
    assert_eq!(tl(&["doctor", "--threads", &many, "--quiet"]).expect(0).stderr, "");
    insta::assert_snapshot!(Tl::new(["doctor", "--threads", "0"]).run().expect(2).told(), @"
    error: invalid value '0' for '--threads <N>': expected a whole number from 1 to 1024

    For more information, try '--help'.
    ");
}

#[test]
fn cuda_that_is_not_there_is_an_error_that_says_why() {
    let command = ["predict", "--model", "alexnet", "--weights", "none", "--device", "cuda", "data/samples"];
    let run = Tl::new(command).env(BLIND.0, BLIND.1).cwd(env!("CARGO_MANIFEST_DIR")).run().expect(2);
    run.says(&[
        "error: the device cuda:0 was asked for, and there is no CUDA: ",
        "Use cpu or auto",
        "`tl doctor`",
    ]);
}
