//! A small run for tests: a few of the shipped digits, at 32 pixels, with the shipped network.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Run, Tl, repository};

/// A folder with `train.csv`, `val.csv`, `test.csv` and recipes; the working directory of its
/// calls.
pub struct Lab {
    folder: TempDir,
}

impl Lab {
    /// `train` images a class for training, four for validation and four for testing.
    pub fn new(train: usize) -> Self {
        let lab = Lab { folder: tempfile::tempdir().unwrap() };
        lab.write("train.csv", csv("train", 0, train));
        lab.write("val.csv", csv("train", 20, 4));
        lab.write("test.csv", csv("test", 0, 4));
        lab
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and creates its folder.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The contents of a file.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A JSON file.
    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// A call in this folder, with two threads.
    pub fn tl(&self, args: &[&str]) -> Tl {
        self.tl_with("2", args)
    }

    fn tl_with(&self, threads: &str, args: &[&str]) -> Tl {
        Tl::new(args).args(["--threads", threads]).cwd(self.folder.path())
    }

    /// `tl finetune r.yaml --out OUT SETS`, with a `--set` before each of `sets`.
    pub fn finetune(&self, out: &str, sets: &[&str]) -> Tl {
        self.finetune_with("2", out, sets)
    }

    /// As [`Lab::finetune`], with another number of threads.
    pub fn finetune_with(&self, threads: &str, out: &str, sets: &[&str]) -> Tl {
        let args = ["finetune", "r.yaml", "--out", out];
        self.tl_with(threads, &args).args(sets.iter().flat_map(|set| ["--set", set]))
    }

    /// As [`Lab::finetune`], run to its end, which must succeed.
    #[track_caller]
    pub fn finetuned(&self, out: &str, sets: &[&str]) -> Run {
        self.finetune(out, sets).run().expect(0)
    }

    /// A lab with the recipe `r.yaml` for a method that works on these digits.
    pub fn of(method: &str, train: usize) -> Self {
        let lab = Lab::new(train);
        lab.write("r.yaml", recipe(method));
        lab
    }
}

/// A recipe that learns the digits of [`Lab`].
pub fn recipe(method: &str) -> String {
    let weights = repository("data/shufflenet_v2_x0_5-letters.safetensors");
    let weights = if method == "scratch" { "none".into() } else { weights.display().to_string() };
    let train = match method {
        "partial" => "{ epochs: 6, batch_size: 16, lr: 0.05, head_lr: 0.05, batch_norm: train }",
        "full" => "{ epochs: 6, batch_size: 16, lr: 0.02, head_lr: 0.1 }",
        "scratch" => "{ epochs: 6, batch_size: 16, lr: 0.02 }",
        _ => "{}",
    };
    format!(
        "model: shufflenet_v2_x0_5\n\
         weights: {weights}\n\
         preprocess: {{ resize_size: 32 }}\n\
         data: {{ train: train.csv, val: val.csv, test: test.csv }}\n\
         strategy: {{ method: {method} }}\n\
         train: {train}\n\
         augment: {{ flip: 0, scale: [0.8, 1], ratio: [0.9, 1.1] }}\n\
         seed: 7\n"
    )
}

/// The shipped digits of one part, as paths and classes: `count` of each class after the first
/// `skip`.
pub fn images(part: &str, skip: usize, count: usize) -> Vec<(PathBuf, String)> {
    let mut images = Vec::new();
    for class in 0..10 {
        let mut files: Vec<PathBuf> = fs::read_dir(repository(&format!("data/digits/{part}/{class}")))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        images.extend(files.into_iter().skip(skip).take(count).map(|path| (path, class.to_string())));
    }
    images
}

fn csv(part: &str, skip: usize, count: usize) -> String {
    let mut text = String::from("path,label\n");
    for (path, class) in images(part, skip, count) {
        writeln!(text, "{},{class}", path.display()).unwrap();
    }
    text
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
