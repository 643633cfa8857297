//! Ties the program, its tests and its benches to the libtorch that `torch-sys` was built against
//! (it declares `links = "tch"` and gives its folder), so that they start without
//! `LD_LIBRARY_PATH`, with or without CUDA. Also compiles, against the same headers, the parts of
//! libtorch's interface that `tch` lacks, and packs what `tl demo` brings.

#![allow(clippy::disallowed_methods, reason = "its paths are text")]

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// tl's C++ files.
const SHIMS: &[&str] = &["src/optim/fused.cpp", "src/device/torch/shim.cpp"];

/// The folders that are packed into the program for `tl demo`.
const SHIPPED: &[&str] = &["data", "recipes"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=TL_COMMIT={}", commit());
    let (Ok(folder), Ok(out)) = (env::var("DEP_TCH_LIBTORCH_LIB"), env::var("OUT_DIR")) else {
        println!("cargo::error=torch-sys did not say where libtorch is: tl builds on Linux only");
        return;
    };

    // Also reruns this script if the file is removed, before the linker fails with an unclear
    // message.
    let library = Path::new(&folder).join("libtorch_cpu.so");
    println!("cargo::rerun-if-changed={}", library.display());
    if !library.exists() {
        println!(
            "cargo::error={} is missing: run `make setup`, which finds or installs libtorch",
            library.display()
        );
        return;
    }

    // `torch-sys` links libtorch.so, an almost empty library that pulls in libtorch_cuda.so and all
    // of CUDA. LLD sees that nothing needs it, GNU ld does not, and then the program cannot start
    // without CUDA. This linker script is found instead, as a package's own folder is searched
    // first.
    if let Err(error) = fs::write(Path::new(&out).join("libtorch.so"), "INPUT(-ltorch_cpu)\n") {
        println!("cargo::error=cannot write to {out}: {error}");
        return;
    }
    println!("cargo::rustc-link-search=native={out}");

    // Old tags write a DT_RPATH, which overrides LD_LIBRARY_PATH: this program cannot use another
    // libtorch anyway. Each word is passed separately, as `-Wl,-rpath,…` would split a path at its
    // commas. The last two serve a wheel (`torch` is the neighbour of the program's folder) and an
    // unpacked folder; `scripts/package/` takes the first away, which names a folder of this machine.
    let places = [folder.as_str(), "$ORIGIN/../torch/lib", "$ORIGIN/../lib"];
    let entries = places.into_iter().flat_map(|place| ["-rpath", place]);
    for word in ["--disable-new-dtags"].into_iter().chain(entries) {
        println!("cargo::rustc-link-arg=-Xlinker");
        println!("cargo::rustc-link-arg={word}");
    }

    compile_shims(&folder);
    if let Err(error) = pack(&Path::new(&out).join("shipped")) {
        println!("cargo::error=cannot pack {}: {error}", SHIPPED.join(" and "));
    }
}

/// Writes the files of [`SHIPPED`] into one: of each, its path and its bytes, both after their
/// length as 4 bytes, little-endian. `src/commands/demo/shipped.rs` reads it.
fn pack(target: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for folder in SHIPPED {
        println!("cargo::rerun-if-changed={folder}");
        list(Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut packed = Vec::new();
    for file in files {
        let name = file.to_str().ok_or_else(|| io::Error::other("a name is not UTF-8"))?;
        for bytes in [name.as_bytes(), &fs::read(&file)?] {
            packed.extend(u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes());
            packed.extend(bytes);
        }
    }
    fs::write(target, packed)
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => list(&path, into)?,
            false => into.push(path),
        }
    }
    Ok(())
}

/// Compiles [`SHIMS`] with the same settings as `torch-sys`.
fn compile_shims(folder: &str) {
    for file in SHIMS.iter().chain(&["src/device/torch/guarded.h"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let include = Path::new(folder).parent().unwrap_or(Path::new(folder)).join("include");
    let compiled = cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .flag("-std=c++17")
        .flag(format!("-D_GLIBCXX_USE_CXX11_ABI={abi}"))
        .include(include)
        .files(SHIMS)
        .try_compile("tl_torch");
    if let Err(error) = compiled {
        println!("cargo::error={} cannot be compiled: {error}", SHIMS.join(" "));
    }
}

/// The commit being built, for `tl doctor`; unknown in a source package.
fn commit() -> String {
    let git = |words: &[&str]| {
        let output =
            Command::new("git").args(words).output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_string();
        (!text.is_empty()).then_some(text)
    };
    // Only of this checkout, not of a repository that happens to contain the sources.
    if !Path::new(".git").exists() {
        return "commit unknown".into();
    }
    // Written at every commit and every switch of branches.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "commit unknown".into())
}
