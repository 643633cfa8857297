//! The targets of `fuzz/` on damaged fixtures, without a fuzzer: the same inputs each time. More of
//! them with `TL_FUZZ=N`; `TL_FUZZ_SEEDS=FOLDER` writes what the fuzzers start from.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use targets::{Target, seeds};

use super::program::repository;

/// Damaged files of a target, unless `TL_FUZZ` says another number.
const FILES: usize = 200;
/// What a file may take on a busy machine: the promise is 5 s.
const LONGEST: Duration = Duration::from_secs(20);
/// Larger seeds are cut, so that damage hits what is read first.
const LARGEST: usize = 1 << 16;

/// A small generator (xorshift64*), the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    /// A piece of `bytes`.
    fn piece(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        start..(start + 1 + self.below(64)).min(bytes.len())
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const NUMBERS: [&[u8]; 7] =
            [&[0], &[0xFF], &[0x7F], &[0xFF; 4], &[0; 4], &[0x7F, 0xFF, 0xFF, 0xFF], &[0, 0, 0, 0x80]];
        let piece = self.piece(bytes);
        match self.below(6) {
            0 => {
                if let Some(byte) = bytes.get_mut(piece.start) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => bytes.truncate(piece.start),
            2 => drop(bytes.drain(piece)),
            3 => {
                let copy = bytes[piece].repeat(1 + self.below(16));
                let at = self.below(bytes.len() + 1);
                bytes.splice(at..at, copy);
            }
            4 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let end = (piece.start + number.len()).min(bytes.len());
                bytes.splice(piece.start..end, number.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(piece.start) {
                    *byte = self.below(256) as u8;
                }
            }
        }
    }
}

fn try_files(target: &Target) {
    let seeds = seeds(target, &repository(""));
    assert!(!seeds.is_empty(), "{} has nothing to start from", target.name);
    if let Some(folder) = std::env::var_os("TL_FUZZ_SEEDS") {
        let folder = std::path::Path::new(&folder).join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
        }
    }
    let files = std::env::var("TL_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(FILES);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..seeds.len() + files {
        let mut bytes = seeds[number % seeds.len()].clone();
        if number >= seeds.len() {
            bytes.truncate(LARGEST);
            for _ in 0..1 + random.below(4) {
                random.damage(&mut bytes);
            }
        }
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| targets::run(target.name, &bytes)));
        if result.is_err() || started.elapsed() > LONGEST {
            let kept = std::env::temp_dir().join(format!("tl-fuzz-{}-{number}", target.name));
            fs::write(&kept, &bytes).unwrap();
            let what = if result.is_err() { "a panic" } else { "too long" };
            panic!("{}: {what} after {:?}; the file is {}", target.name, started.elapsed(), kept.display());
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            try_files(targets::TARGETS.iter().find(|target| target.name == stringify!($name)).unwrap());
        })*

        #[test]
        fn every_target_is_tried_and_can_be_fuzzed() {
            let tried = [$(stringify!($name)),*];
            let known: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tried[..], known[..]);
            let manifest = fs::read_to_string(repository("fuzz/Cargo.toml")).unwrap();
            for name in known {
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
                let source = fs::read_to_string(repository(&format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
                assert!(source.contains(&format!("run(\"{name}\"")), "{name}");
            }
        }
    };
}

targets!(weights card jpeg png gif webp bmp tiff pnm jpeg2000 recipe csv list published journal);
