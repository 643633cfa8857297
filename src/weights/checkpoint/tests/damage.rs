//! Real files with damage.

use std::time::{Duration, Instant};

use super::{expected, fixture, fixtures, read};

fn all_fixtures() -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<_> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".json"))
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), fixture(&name))).collect()
}

/// Cut at every offset: an error, and for files that would load otherwise one with a remedy. Only a
/// tar has trailing zeros after its last byte.
#[test]
fn a_file_cut_anywhere_is_refused() {
    let good = expected();
    for (name, bytes) in all_fixtures() {
        let padding = if name.contains(".tar.") {
            bytes.iter().rev().take_while(|&&byte| byte == 0).count()
        } else {
            0
        };
        // Files that are refused anyway only need to be refused without a panic.
        let step = if good.contains_key(&name) { 1 } else { 7 };
        for len in (0..bytes.len() - padding).step_by(step) {
            let Err(message) = read(&bytes[..len]) else {
                panic!("{name} loads from {len} of {} bytes", bytes.len())
            };
            if good.contains_key(&name) {
                assert!(
                    message.contains("download or copy it again") || len < 16,
                    "{name} at {len}: {message}"
                );
                assert!(
                    message.starts_with("is cut short")
                        || message.starts_with("is empty")
                        || name.contains(".tar."),
                    "{name} at {len}: {message}"
                );
            }
        }
        for len in bytes.len() - padding..bytes.len() {
            let _ = read(&bytes[..len]);
        }
    }
}

/// One bit of every byte, sometimes all: never a panic, never slow, and in a zip with checksums
/// never other values.
#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    for (name, mut bytes) in all_fixtures() {
        let whole = read(&bytes).ok();
        let checked = name.contains(".zip.") && name != "no-checksums.zip.pth";
        let step = if whole.is_some() { 1 } else { 7 };
        for at in (0..bytes.len()).step_by(step) {
            let mask = if at % 9 == 8 { 0xff } else { 1 << (at % 9) };
            bytes[at] ^= mask;
            let start = Instant::now();
            let result = read(&bytes);
            assert!(start.elapsed() < Duration::from_secs(5), "{name} at {at}");
            if let (Some(whole), Ok(read)) = (&whole, result)
                && checked
            {
                assert!(read.tensors == whole.tensors, "{name} at {at}: other values");
            }
            bytes[at] ^= mask;
        }
    }
}

/// Bytes exchanged at random, several at once.
#[test]
fn random_damage_never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for (_, whole) in all_fixtures() {
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random() % 6 {
                let at = random() % bytes.len();
                bytes[at] = match random() % 4 {
                    0 => 0xff,
                    1 => 0,
                    _ => random() as u8,
                };
            }
            let _ = read(&bytes);
        }
    }
}
