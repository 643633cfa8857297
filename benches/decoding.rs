//! How long images take from the file to the network's input, on one core.
//!
//! `cargo bench --bench decoding -- FOLDER [ROUNDS]` prints medians in milliseconds (of the thread, where Linux tells) per image of a folder:
//! decoding alone, resizing alone, both as `tl extract` does them (which leaves out what the crop does not
//! need) in `exact` and `fast` mode, and normalising. Then how far the input of the network differs between the
//! two modes, in levels of 0 to 255. It fails if leaving out what is not needed has changed a byte.

#![allow(clippy::disallowed_methods, reason = "its paths are text")]

use std::time::Instant;

use transferkit::preprocess::{Decode, DecodeLimits, decode_file};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let folder = arguments.first().ok_or("give a folder of images")?;
    let rounds = arguments.get(1).map_or(Ok(5), |rounds| rounds.parse())?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    let preset = &transferkit::models::find("resnet18").ok_or("resnet18")?.weights()[0].preprocessing;
    let side = preset.crop_size as usize;
    let mut numbers = vec![0.; 3 * side * side];
    let exact = DecodeLimits::default();
    let fast = DecodeLimits { decode: Decode::Fast, ..exact };
    let names = ["decode", "resize", "exact", "fast", "normalise"];
    let mut times: [Vec<f64>; 5] = Default::default();
    let (mut largest, mut total, mut count) = (0, 0, 0);
    for _ in 0..rounds {
        let mut sums = [0.; 5];
        for file in &files {
            let image = timed(&mut sums[0], || decode_file(file, exact))?;
            let whole = timed(&mut sums[1], || preset.eval_pixels(&image));
            let pixels = timed(&mut sums[2], || preset.read_eval(file, exact))?;
            let reduced = timed(&mut sums[3], || preset.read_eval(file, fast))?;
            if whole != pixels {
                return Err(format!("{}: other pixels", file.display()).into());
            }
            let levels = pixels.data.iter().zip(&reduced.data).map(|(a, b)| a.abs_diff(*b));
            largest = levels.clone().max().unwrap_or(0).max(largest);
            total += levels.map(u64::from).sum::<u64>();
            count += pixels.data.len();
            let input = pixels.into();
            timed(&mut sums[4], || preset.normalise_into(&input, &mut numbers));
        }
        times.iter_mut().zip(sums).for_each(|(times, sum)| times.push(sum * 1e3 / files.len() as f64));
    }
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        print!("{name} {:.2} ms  ", times[times.len() / 2]);
    }
    println!(
        "\nfast differs by {:.3} levels on average, at most {largest}",
        total as f64 / count.max(1) as f64
    );
    println!("({} images, {rounds} rounds)", files.len());
    Ok(())
}

fn timed<T>(sum: &mut f64, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let cpu = cpu_seconds();
    let result = run();
    *sum += match (cpu, cpu_seconds()) {
        (Some(before), Some(after)) => after - before,
        _ => start.elapsed().as_secs_f64(),
    };
    result
}

/// What this thread has computed, where the system tells: a busy machine makes no difference to it.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}
