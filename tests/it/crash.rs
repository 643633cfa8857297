//! Crashes of the machine, simulated: what `finetune`, `extract`, `predict` and a download of weights do
//! to files is recorded (`TL_RECORD_FILES`), what a crash at any point could have left on the disk is laid out, and
//! `--resume` must end with the bytes of the undisturbed run.
//!
//! A crash keeps what was synced: the bytes of a file by a sync of the file, its name by a sync of
//! its folder. Of the rest it keeps all (then it is `kill -9`), nothing, the lengths with zeros in the
//! place of bytes, the first bytes up to a block, or any blocks; and the first of the names, or none.
//!
//! `TL_CRASHES=N` lays out N states of each run instead of a few dozen.

mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use transferkit::util::digest::Hasher;
use transferkit::weights::download::{Silent, fetch};

use self::disk::{Disk, Layout, Operation, lay_out, layouts, read_record, shown};
use crate::digits::Lab;
use crate::extract::LETTERS;
use crate::large::crowd;
use crate::program::{Run, Tl, repository};
use crate::resume::assert_same_result;

fn most(few: usize) -> usize {
    std::env::var("TL_CRASHES").ok().and_then(|most| most.parse().ok()).unwrap_or(few)
}

/// All files below a folder but the hidden ones.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = PathBuf::from(entry.file_name());
        if name.to_str().unwrap().starts_with('.') {
            continue;
        }
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path()).into_iter().map(|(path, it)| (name.join(path), it))),
            false => drop(found.insert(name, fs::read(entry.path()).unwrap())),
        }
    }
    found
}

/// What is crashed: a command that writes below a folder, given as `root`, and goes on with what it
/// finds there.
struct Job<'a> {
    /// The working folder.
    folder: &'a Path,
    command: &'a dyn Fn(&str) -> Command,
    code: i32,
    /// Whether the run has used something of the earlier one.
    has_gone_on: &'a dyn Fn(&Layout, &Run) -> bool,
}

impl Job<'_> {
    /// Crashes of a run, and of one that goes on after a crash: from each the same files come out, with
    /// the same exit code.
    fn crash(&self, few: usize) {
        let (operations, root, whole) = self.recorded("whole");
        // Until there is one that is gone on with, too.
        let (mut tried, mut start) = (0, None);
        for layout in layouts(Disk::default(), &operations, &root) {
            let used = self.try_one(&layout, &whole);
            tried += 1;
            start = start.or(used.then_some(layout));
            if tried >= most(few) && start.is_some() {
                break;
            }
        }
        let start = &start.expect("no state had anything to go on from");
        lay_out(start, &self.folder.join("again"));
        let (operations, root, again) = self.recorded("again");
        assert!(again == whole);
        for layout in layouts(Disk::of(start, &root), &operations, &root).iter().take(most(few / 2)) {
            self.try_one(layout, &whole);
        }
    }

    fn recorded(&self, name: &str) -> (Vec<Operation>, PathBuf, BTreeMap<PathBuf, Vec<u8>>) {
        let record = tempfile::NamedTempFile::new().unwrap();
        let run = (self.command)(name).env("TL_RECORD_FILES", record.path()).output().unwrap();
        Run::from(run).expect(self.code);
        let root = self.folder.join(name);
        let whole = files(&root);
        // A complete one is left as it is.
        Run::from((self.command)(name).output().unwrap()).expect(self.code);
        assert!(files(&root) == whole);
        (read_record(record.path()), fs::canonicalize(&root).unwrap(), whole)
    }

    /// From a state to the end; whether something of it was gone on with.
    fn try_one(&self, layout: &Layout, whole: &BTreeMap<PathBuf, Vec<u8>>) -> bool {
        let crashed = self.folder.join("crashed");
        lay_out(layout, &crashed);
        let run = Run::from((self.command)("crashed").output().unwrap());
        let same = run.code == Some(self.code) && files(&crashed) == *whole;
        assert!(same, "{}\nafter a crash that has left\n{}", run.stderr, shown(layout));
        let left = fs::read_dir(&crashed).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_str().unwrap().ends_with(".partial")).collect();
        assert!(left.is_empty(), "{left:?} is left of\n{}", shown(layout));
        fs::remove_dir_all(&crashed).unwrap();
        (self.has_gone_on)(layout, &run)
    }
}

/// Crashes of `extract` or `predict` with these arguments, whose output is named `out`.
fn crash_outputs(command: &str, out: &str, more: &[&str], few: usize) {
    let folder = crowd(100);
    let command = |root: &str| {
        let call = Tl::new([command, "--device", "cpu", "--threads", "1", "--batch-size", "7", "--model"]);
        let call = call.arg(repository(LETTERS)).args(["images", "--resume", "--out"]);
        // A row group of Parquet is closed after some twenty images.
        let row_group = if command == "extract" { "100000" } else { "1500" };
        let call = call.arg(format!("{root}/{out}")).args(more).env("TL_ROW_GROUP", row_group);
        call.cwd(folder.path()).into_command()
    };
    let has_gone_on = |_: &Layout, run: &Run| run.stderr.contains("going on after");
    Job { folder: folder.path(), command: &command, code: 1, has_gone_on: &has_gone_on }.crash(few);
}

#[test]
fn extract_goes_on_after_any_crash() {
    crash_outputs("extract", "x.npy", &[], 16);
    crash_outputs("extract", "x.parquet", &[], 20);
}

#[test]
fn extract_to_other_formats_goes_on_after_any_crash() {
    crash_outputs("extract", "x.safetensors", &[], 12);
    crash_outputs("extract", "x.csv", &["--shard", "1/2"], 10);
    crash_outputs("extract", "x.npy", &["--shard", "1/3"], 8);
}

#[test]
fn predict_goes_on_after_any_crash() {
    crash_outputs("predict", "p.csv", &[], 16);
    crash_outputs("predict", "p.jsonl", &["--shard", "2/3"], 10);
    crash_outputs("predict", "p.parquet", &[], 10);
}

#[test]
fn finetune_goes_on_after_any_crash() {
    let race = ["strategy.race.methods=[linear, partial]", "strategy.race.epochs=1"];
    let cases = [("linear", 2, &[][..], 14), ("full", 2, &["train.epochs=2"], 12), ("race", 3, &race, 8)];
    for (method, train, sets, few) in cases {
        let lab = Lab::of(method, train);
        let record = lab.path("record");
        lab.finetune_with("1", "whole", sets).env("TL_RECORD_FILES", &record).run().expect(0);
        let operations = read_record(&record);
        let root = fs::canonicalize(lab.path("whole")).unwrap();
        for layout in layouts(Disk::default(), &operations, &root).iter().take(most(few)) {
            lay_out(layout, &lab.path("crashed"));
            let run = lab.finetune_with("1", "crashed", sets).arg("--resume").run();
            assert!(run.code == Some(0), "{}\nafter a crash that has left\n{}", run.stderr, shown(layout));
            assert_same_result(&lab, "whole", "crashed");
            fs::remove_dir_all(lab.path("crashed")).unwrap();
        }
    }
}

/// A server of one file, from any byte on.
fn serve(content: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let range = lines.iter().find_map(|line| {
                line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok()
            });
            let (start, total) = (range.unwrap_or(0), content.len());
            let status = match start < total {
                true if range.is_some() => "206 Partial Content",
                true => "200 OK",
                false => "416 Range Not Satisfiable",
            };
            let part = content.get(start..).unwrap_or_default();
            let (last, length) = (total - 1, part.len());
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Range: bytes {start}-{last}/{total}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(part));
        }
    });
    base
}

/// The download runs in a process of its own: this test, with a name of a file.
#[test]
fn a_download_goes_on_after_any_crash() {
    const NAME: &str = "TL_TEST_DOWNLOAD";
    if let Ok(name) = std::env::var(NAME) {
        fetch(&name, &Silent).unwrap();
        return;
    }
    let content: Vec<u8> = (0..600_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut hasher = Hasher::new();
    hasher.update(&content);
    let name = format!("net-{}.pth", &hasher.hex()[..8]);
    let (folder, base) = (tempfile::tempdir().unwrap(), serve(content));
    let command = |root: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["crash::a_download_goes_on_after_any_crash", "--exact", "--nocapture"]);
        command.env(NAME, &name).env("TL_WEIGHTS_URL", &base).env("TORCH_HOME", folder.path().join(root));
        command
    };
    let part = format!("{name}.partial");
    let has_gone_on = |layout: &Layout, _: &Run| {
        layout
            .iter()
            .any(|(path, bytes)| path.ends_with(&part) && bytes.as_ref().is_some_and(|it| !it.is_empty()))
    };
    Job { folder: folder.path(), command: &command, code: 0, has_gone_on: &has_gone_on }.crash(20);
}

/// Of the same run without a sync of any file, crashes leave states that nothing can be made of: the
/// simulation finds them.
#[test]
fn a_forgotten_sync_is_found() {
    let lab = Lab::of("linear", 2);
    let record = lab.path("record");
    lab.finetune_with("1", "whole", &[]).env("TL_RECORD_FILES", &record).run().expect(0);
    let mut operations = read_record(&record);
    operations.retain(|operation| !matches!(operation, Operation::Sync { .. }));
    let root = fs::canonicalize(lab.path("whole")).unwrap();
    let fails = |layout: &Layout| {
        lay_out(layout, &lab.path("crashed"));
        let run = lab.finetune_with("1", "crashed", &[]).arg("--resume").run();
        fs::remove_dir_all(lab.path("crashed")).unwrap();
        run.code != Some(0)
    };
    assert!(layouts(Disk::default(), &operations, &root).iter().take(40).any(fails));
}
