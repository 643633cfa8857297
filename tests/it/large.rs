//! `extract` and `predict` of many images, stopped in every way: finished work is kept, and a
//! resumed run ends with the bytes of an undisturbed one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::extract::{LETTERS, with_letters, write_png};
use crate::program::{Run, Tl, repository};
use crate::recipes::Mount;

/// All output formats.
const FORMATS: [(&str, &str); 7] = [
    ("extract", "npy"),
    ("extract", "parquet"),
    ("extract", "safetensors"),
    ("extract", "csv"),
    ("predict", "csv"),
    ("predict", "jsonl"),
    ("predict", "parquet"),
];

/// Some hundred images in folders, every 50th of them broken.
pub fn crowd(images: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..images {
        let path = folder.path().join(format!("images/c{}/{number:04}.png", number % 7));
        write_png(&path, [number as u8, (number / 3) as u8, 200]);
        if number % 50 == 49 {
            fs::write(path, "broken").unwrap();
        }
    }
    folder
}

fn call(command: &str, folder: &Path, args: &[&str]) -> Tl {
    let call = Tl::new([command, "--device", "cpu", "--threads", "1", "--batch-size", "7", "--model"]);
    call.arg(repository(LETTERS)).arg("images").args(args).cwd(folder)
}

/// An output and its companions, by name.
fn outputs(folder: &Path, name: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let file = path.file_name()?.to_str()?.strip_prefix(name)?.to_string();
            Some((file, fs::read(path).unwrap()))
        })
        .collect();
    files.sort();
    files
}

fn partial(folder: &Path, out: &str) -> PathBuf {
    folder.join(format!(".{out}.partial"))
}

/// Waits until this many rows are recorded, or the run is over.
fn wait_for(child: &mut Child, folder: &Path, out: &str, lines: usize) {
    let journal = partial(folder, out).join("journal.jsonl");
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        if text.lines().count() > lines {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is being written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The number of images that a resumed run skips.
fn passed(run: &Run) -> Option<usize> {
    run.stderr.split("going on after ").nth(1)?.split(' ').next()?.parse().ok()
}

#[test]
fn killed_at_random_moments_ends_with_the_same_bytes() {
    let kills: usize = std::env::var("TL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3);
    let folder = crowd(400);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (command, ending) in FORMATS {
        let (whole, cut) = (format!("whole.{ending}"), format!("cut.{ending}"));
        let started = Instant::now();
        call(command, folder.path(), &["--out", &whole]).run().expect(1);
        let time = started.elapsed().as_secs_f64();
        let (mut killed, mut resumed, mut finished) = (0, 0, 0);
        while killed < kills {
            let mut child = call(command, folder.path(), &["--out", &cut, "--resume"]).spawn();
            wait_for(&mut child, folder.path(), &cut, 1);
            let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
            std::thread::sleep(Duration::from_secs_f64(share * time * 0.1));
            child.kill().unwrap();
            let run = Run::from(child.wait_with_output().unwrap());
            resumed += usize::from(passed(&run).is_some());
            match run.code {
                None => killed += 1,
                // It was too fast, and there is nothing to go on with.
                Some(_) => {
                    run.expect(1);
                    fs::remove_file(folder.path().join(&cut)).unwrap();
                    finished += 1;
                    assert!(finished < 100, "{command} {ending}: it is never killed in time");
                }
            }
        }
        let run = call(command, folder.path(), &["--out", &cut, "--resume"]).run().expect(1);
        resumed += usize::from(passed(&run).is_some());
        assert!(resumed > 0, "{command} {ending}: no run had anything to go on from");
        let (whole, cut) = (outputs(folder.path(), &whole), outputs(folder.path(), &cut));
        assert!(whole == cut, "{command} {ending}");
        assert!(!partial(folder.path(), &format!("cut.{ending}")).exists());
        for name in ["whole", "cut"] {
            for (file, _) in outputs(folder.path(), &format!("{name}.{ending}")) {
                fs::remove_file(folder.path().join(format!("{name}.{ending}{file}"))).unwrap();
            }
            fs::remove_file(folder.path().join(format!(".{name}.{ending}.job"))).unwrap();
        }
        println!("{command} {ending}: killed {killed} times, {resumed} runs went on, the end is equal");
    }
}

#[test]
fn a_signal_keeps_the_rows_and_another_job_does_not_get_them() {
    let folder = crowd(400);
    let stop = |command: &str, out: &str, signal: &str, more: &[&str]| {
        let mut child = call(command, folder.path(), &[&["--out", out], more].concat()).spawn();
        wait_for(&mut child, folder.path(), out, 1);
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        Run::from(child.wait_with_output().unwrap())
    };
    let said = [
        "images are done, whose rows (",
        "are kept in .x.npy.partial; to go on, run the same command with `--resume`",
    ];
    stop("extract", "x.npy", "INT", &[]).expect(130).says(&said);
    let said = ["images are done, whose rows (", "are kept in .p.csv.partial"];
    stop("predict", "p.csv", "TERM", &[]).expect(143).says(&said);
    assert!(!folder.path().join("x.npy").exists());

    let refused = |args: &[&str], why: &str| {
        let args = [&["images", "--out", "x.npy", "--resume"], args].concat();
        with_letters("extract", folder.path(), &args).expect(2).says(&[
            "error: cannot go on with x.npy, which means another run: ",
            why,
            "to start over, leave `--resume` out\n",
        ]);
    };
    refused(&["--stage", "stage4"], "the stage was features, is stage4");
    refused(&["--max-pixels", "7"], "the --max-pixels was 178956970, is 7");
    refused(&["--preprocess", "IMAGENET1K_V1"], "the preprocessing was {");
    // Another model under the same name.
    let mut other = fs::read(repository(LETTERS)).unwrap();
    *other.last_mut().unwrap() ^= 1;
    fs::write(folder.path().join("other.safetensors"), other).unwrap();
    let mut args = vec!["extract", "--device", "cpu", "--model", "other.safetensors", "images"];
    args.extend(["--out", "x.npy", "--resume"]);
    Tl::new(args).cwd(folder.path()).run().expect(2).says(&["the weights' sha256 was "]);

    // Images that come before the last one that is done, and such as come after.
    let first = folder.path().join("images/a.png");
    write_png(&first, [0; 3]);
    let run = call("extract", folder.path(), &["--out", "x.npy", "--resume"]).run().expect(2);
    run.says(&["cannot go on with x.npy: ", "are not the first ones of the images that are listed now"]);
    fs::remove_file(first).unwrap();
    write_png(&folder.path().join("images/z.png"), [0; 3]);
    let run = call("extract", folder.path(), &["--out", "x.npy", "--resume"]).run().expect(1);
    assert!(passed(&run).is_some(), "{run:?}");
    run.says(&["393 rows of 1024 numbers", "8 of 401 images could not be read: see x.npy.errors.csv\n"]);
    call("extract", folder.path(), &["--out", "y.npy"]).run().expect(1);
    assert!(outputs(folder.path(), "x.npy") == outputs(folder.path(), "y.npy"));

    // Without `--resume` it starts over.
    let run = call("predict", folder.path(), &["--out", "p.csv"]).run().expect(1);
    run.says(&["note: a run that was stopped had done ", "started over, as `--resume` would not\n"]);
    assert!(!partial(folder.path(), "p.csv").exists());
}

/// A power cut keeps the length of a file, and zeros in the place of its last bytes.
#[test]
fn rows_that_are_lost_are_said_and_computed_again() {
    let folder = crowd(400);
    call("predict", folder.path(), &["--out", "whole.csv"]).run().expect(1);
    let mut child = call("predict", folder.path(), &["--out", "p.csv"]).spawn();
    wait_for(&mut child, folder.path(), "p.csv", 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let rows = partial(folder.path(), "p.csv").join("rows.csv");
    let mut bytes = fs::read(&rows).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    fs::write(&rows, bytes).unwrap();
    let run = call("predict", folder.path(), &["--out", "p.csv", "--resume"]).run().expect(1);
    let lost =
        "are lost, because the file `rows.csv` is not what the journal vouches for; they are computed again";
    run.says(&["note: the rows of ", lost]);
    assert!(outputs(folder.path(), "whole.csv") == outputs(folder.path(), "p.csv"));
}

#[test]
fn a_finished_output_is_left_alone() {
    let folder = crowd(60);
    for (command, out, more) in [("extract", "x.parquet", None), ("predict", "p.jsonl", Some("--top-k=3"))] {
        let args: Vec<&str> = ["--out", out].into_iter().chain(more).collect();
        let again = [&args[..], &["--resume"]].concat();
        // With nothing to go on from it is a run like any other.
        call(command, folder.path(), &again).run().expect(1);
        let state = || {
            let time = fs::metadata(folder.path().join(out)).unwrap().modified().unwrap();
            (outputs(folder.path(), out), time)
        };
        let before = state();
        call(command, folder.path(), &again)
            .run()
            .expect(1)
            .says(&[&format!("{out} is complete: nothing to do\n"), "1 of 60 images could not be read"]);
        assert!(before == state());
        write_png(&folder.path().join("images/z.png"), [0; 3]);
        let more = format!(
            "{out} is complete with 60 images, and there are more now, the first of them images/z.png"
        );
        call(command, folder.path(), &again).run().expect(2).says(&[&more]);
        fs::remove_file(folder.path().join("images/z.png")).unwrap();
        assert!(before == state());
    }
    fs::write(folder.path().join("mine.csv"), "path,label").unwrap();
    let run = call("extract", folder.path(), &["--out", "mine.csv", "--resume"]).run().expect(2);
    insta::assert_snapshot!(run.told(), @"error: mine.csv is there, and `--resume` cannot tell what wrote it; to replace it, leave `--resume` out");
    let run = call("predict", folder.path(), &["--resume"]).run().expect(2);
    insta::assert_snapshot!(run.told(), @"
    error: the following required arguments were not provided:
      --out <FILE>

    Usage: tl predict --model <MODEL> --out <FILE> --device <DEVICE> --threads <N> --batch-size <N> --resume <PATH>...

    For more information, try '--help'.
    ");
    // All of them read: 0, again too.
    fs::remove_file(folder.path().join("images/c0/0049.png")).unwrap();
    for _ in 0..2 {
        call("extract", folder.path(), &["--out", "good.npy", "--resume"]).run().expect(0);
    }
}

#[test]
fn a_full_disk_keeps_what_is_there() {
    let folder = crowd(400);
    let Some(_mount) = Mount::at(&folder.path().join("disk"), "size=6m") else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let ballast = folder.path().join("disk/ballast");
    for (command, ending) in FORMATS {
        let (whole, out) = (format!("{command}.{ending}"), format!("disk/x.{ending}"));
        call(command, folder.path(), &["--out", &whole]).run().expect(1);
        // Room for some of the rows: of 1.6 MB of features, or of 15 to 40 KB of predictions.
        let room = if command == "extract" { 900 << 10 } else { 12 << 10 };
        fs::write(&ballast, vec![0; (6 << 20) - room]).unwrap();
        let run = call(command, folder.path(), &["--out", &out]).run().expect(1);
        let told = format!("error: cannot write {out}: No space left on device; free some space");
        let run = run.says(&[&told]);
        let kept =
            format!("are kept in disk/.x.{ending}.partial; to go on, run the same command with `--resume`");
        assert!(run.stderr.contains(&kept) || command == "predict", "{}", run.stderr);
        assert!(!folder.path().join(&out).exists());
        fs::remove_file(&ballast).unwrap();
        let again = call(command, folder.path(), &["--out", &out, "--resume"]).run().expect(1);
        assert_eq!(passed(&again).is_some(), run.stderr.contains(&kept), "{}", again.stderr);
        let disk = folder.path().join("disk");
        assert!(
            outputs(folder.path(), &whole) == outputs(&disk, &format!("x.{ending}")),
            "{command} {ending}"
        );
        for entry in fs::read_dir(&disk).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn a_folder_that_cannot_be_walked_is_told_while_there_is_little_to_lose() {
    let folder = crowd(20);
    let mut deep = folder.path().join("images/z");
    for _ in 0..250 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let run = call("extract", folder.path(), &["--out", "x.npy"]).run().expect(1);
    insta::assert_snapshot!(run.told().replace("/d", ""), @"error: images/z: folders nested more than 200 deep");
    assert!(!folder.path().join("x.npy").exists() && !partial(folder.path(), "x.npy").exists());
}
