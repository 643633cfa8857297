//! `tl doctor`: the findings on this machine, and what to do about problems.

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Serialize;

use super::Outcome;
use super::args::Common;
use super::terminal::print;
use crate::device::{self, Installed, NoCuda};
use crate::error::{Error, Result};
use crate::preprocess::jpeg_simd;
use crate::text::path_text::path_text;
use crate::text::words::counted;
use crate::weights::download;

const GIB: f64 = (1u64 << 30) as f64;
/// Less free space gets a warning: torchvision's largest weights have 2.4 GiB.
const LITTLE_DISK: f64 = 3.;
/// Less memory gets a warning: a large network and a batch of its activations.
const LITTLE_MEMORY: f64 = 2.;

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    found: Vec<String>,
    /// Problems, with remedies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The command line.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print it for programs
    #[arg(long)]
    pub json: bool,
}

/// Checks everything and prints it; a machine without CUDA, or with little space, is not an error.
pub fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let findings = [
        Finding::new("tl", concat!(env!("CARGO_PKG_VERSION"), " (", env!("TL_COMMIT"), ")")),
        libtorch(),
        cuda(),
        threads(common),
        jpeg(),
        memory(),
        weights(),
        disk("folder", env::current_dir().unwrap_or_else(|_| ".".into()), "runs and outputs go here"),
        disk("temp", env::temp_dir(), "set TMPDIR to another folder"),
    ];
    let text = match args.json {
        true => json(&findings)?,
        false => findings.iter().map(Finding::lines).collect(),
    };
    print(&text)?;
    Ok(Outcome::Done)
}

impl Finding {
    fn new(what: &'static str, found: impl Into<String>) -> Self {
        Finding { what, found: vec![found.into()], warnings: Vec::new() }
    }

    fn and(mut self, found: impl Into<String>) -> Self {
        self.found.push(found.into());
        self
    }

    fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// `what  found`, further lines below the first, warnings marked.
    fn lines(&self) -> String {
        let warnings = self.warnings.iter().map(|warning| format!("! {warning}"));
        let mut what = self.what;
        let mut text = String::new();
        for line in self.found.iter().cloned().chain(warnings) {
            text.push_str(&format!("{what:<10}  {line}\n"));
            what = "";
        }
        text
    }
}

fn json(findings: &[Finding]) -> Result<String> {
    let text = serde_json::to_string_pretty(findings);
    Ok(text.map_err(|error| Error::run(format!("cannot write JSON: {error}")))? + "\n")
}

fn libtorch() -> Finding {
    let Some(found) = device::libtorch() else {
        return Finding::new("libtorch", "loaded, from a place that the system does not tell");
    };
    let version = found.version.as_deref().unwrap_or("of an unknown version");
    let half = match (found.with_cuda, &found.cuda) {
        (true, Some(cuda)) => format!("with its CUDA half, for CUDA {cuda}"),
        (true, None) => "with its CUDA half".into(),
        (false, _) => "for the CPU alone: there is no libtorch_cuda.so".into(),
    };
    let finding = Finding::new("libtorch", format!("{version} in {}", path_text(&found.folder))).and(half);
    match found.version.as_deref().is_none_or(|version| version.starts_with("2.11.")) {
        true => finding,
        false => finding.warn("tl is built for libtorch 2.11: `make setup` finds or installs one"),
    }
}

/// As a run requests it, so that the two cannot disagree.
fn cuda() -> Finding {
    let facts = device::probe();
    let mut finding = match &facts.devices {
        Err(_) => Finding::new("CUDA", "not used; --device auto is the CPU"),
        Ok(count) => {
            Finding::new("CUDA", format!("{}; --device auto is cuda:0", counted(*count, "device", "devices")))
        }
    };
    if let Ok(driver) = &facts.driver {
        finding = finding.and(format!("the driver serves CUDA {}", driver.cuda));
        for (index, gpu) in driver.gpus.iter().enumerate() {
            let (memory, capability) = (gpu.memory as f64 / GIB, gpu.capability);
            finding = finding
                .and(format!("cuda:{index}  {}, {memory:.1} GiB, compute capability {capability}", gpu.name));
        }
    }
    match &facts.devices {
        Ok(_) => finding,
        // A machine without an NVIDIA device has no problem.
        Err(reason @ NoCuda::NoDriver) => finding
            .and(reason.to_string())
            .and("with an NVIDIA device: install its driver, and start a container with --gpus all"),
        Err(reason) => finding.warn(reason.to_string()),
    }
}

fn threads(common: &Common) -> Finding {
    let cores = device::default_threads();
    let machine = fs::read_to_string("/proc/cpuinfo")
        .map_or(0, |text| text.lines().filter(|line| line.starts_with("processor")).count())
        .max(cores);
    let allowed = allowed_cores().unwrap_or(machine);
    let threads = common.threads.unwrap_or(cores);
    let mut finding =
        Finding::new("threads", format!("{threads}, and libtorch computes with {}", tch::get_num_threads()));
    finding = finding.and(match (allowed < machine, cores < allowed) {
        (false, false) => format!("all {} of the machine may be used", counted(cores, "core", "cores")),
        (true, false) => format!("{cores} of the machine's {machine} cores may be used (affinity)"),
        (_, true) => format!("{cores} of the machine's {machine} cores may be used (a quota of the cgroup)"),
    });
    match env::var("OMP_NUM_THREADS") {
        Ok(value) => finding.and(format!("OMP_NUM_THREADS is {value}, and has no part in it: --threads has")),
        Err(_) => finding,
    }
}

/// The cores of the process's affinity.
fn allowed_cores() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim()
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
        })
        .sum()
}

fn jpeg() -> Finding {
    if jpeg_simd() {
        return Finding::new("JPEG", "decoded with SIMD");
    }
    let finding = Finding::new("JPEG", "decoded without SIMD, which takes twice as long");
    match Installed::here() {
        Installed::FromSource => finding
            .warn("`sudo apt-get install nasm && cargo clean --release -p mozjpeg-sys`, then build again"),
        // Who installed it cannot change that.
        Installed::AsWheel | Installed::AsFolder => {
            finding.and("tl was built so: where NASM was not installed")
        }
    }
}

fn memory() -> Finding {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / (1u64 << 20) as f64)
    };
    let (Some(total), Some(free)) = (gib("MemTotal:"), gib("MemAvailable:")) else {
        return Finding::new("memory", "the system does not tell");
    };
    let limit = cgroup_limit().filter(|limit| *limit < total);
    let mut finding = Finding::new("memory", format!("{free:.1} of {total:.1} GiB free"));
    if let Some(limit) = limit {
        finding = finding.and(format!("this process may use {limit:.1} GiB (a limit of the cgroup)"));
    }
    match free.min(limit.unwrap_or(free)) < LITTLE_MEMORY {
        true => finding.warn("little: use a small network, a smaller --batch-size and fewer --threads"),
        false => finding,
    }
}

/// The memory limit of the process's control group in GiB, in either version of control groups.
fn cgroup_limit() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let files = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        match (parts.next()?, parts.next()?) {
            ("", path) => {
                Some([format!("/sys/fs/cgroup{path}/memory.max"), "/sys/fs/cgroup/memory.max".into()])
            }
            ("memory", path) => Some([
                format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
                "/sys/fs/cgroup/memory/memory.limit_in_bytes".into(),
            ]),
            _ => None,
        }
    });
    let bytes = files.flatten().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    bytes.min().map(|bytes| bytes as f64 / GIB)
}

fn weights() -> Finding {
    match download::cache_dir() {
        Ok(folder) => disk("weights", folder, "set TORCH_HOME to another folder"),
        Err(error) => Finding::new("weights", "no folder to keep them in").warn(error.to_string()),
    }
}

/// The free space of a folder, and whether it is writable; of a missing folder, those of the
/// nearest existing parent.
fn disk(what: &'static str, folder: PathBuf, advice: &str) -> Finding {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    // Tested by writing: permissions, mounts and quotas all matter. The file has no name.
    let writable = tempfile::tempfile_in(there).map_err(|error| error.to_string());
    let free = rustix::fs::statvfs(there).ok().map(|disk| disk.f_bavail as f64 * disk.f_frsize as f64 / GIB);
    let room = free.map_or(String::new(), |free| format!(", {free:.1} GiB free"));
    let yet = if there == folder { "" } else { " (not there yet)" };
    let finding = Finding::new(what, format!("{}{yet}{room}", path_text(&folder)));
    match (writable, free) {
        (Err(reason), _) => {
            let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
            finding.warn(format!("cannot be written to ({reason}): {advice}"))
        }
        (Ok(_), Some(free)) if free < LITTLE_DISK => {
            finding.warn(format!("little room: make some, or {advice}"))
        }
        _ => finding,
    }
}
