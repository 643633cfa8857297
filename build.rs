//! Ties the program, its tests and its benches to the libtorch that `torch-sys` was built against (it declares
//! `links = "tch"` and says where), so that they start without `LD_LIBRARY_PATH`, with or without CUDA; and compiles
//! what tl needs of libtorch beyond `tch` (src/torch/shim.cpp) against the same headers.

use std::env;
use std::fs;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let (Ok(folder), Ok(out)) = (env::var("DEP_TCH_LIBTORCH_LIB"), env::var("OUT_DIR")) else {
        println!("cargo::error=torch-sys did not say where libtorch is: tl builds on Linux only");
        return;
    };

    // Also runs this script again when the file has gone, before the linker can fail in its own words.
    let library = Path::new(&folder).join("libtorch_cpu.so");
    println!("cargo::rerun-if-changed={}", library.display());
    if !library.exists() {
        println!(
            "cargo::error={} is missing: run `make setup`, which finds or installs libtorch",
            library.display()
        );
        return;
    }

    // `torch-sys` links libtorch.so, an almost empty library that pulls libtorch_cuda.so and all of CUDA in. LLD finds
    // that nothing needs it, GNU ld does not, and then the program cannot start where there is no CUDA. This linker
    // script is found in its place, as a package's own folder is searched first.
    if let Err(error) = fs::write(Path::new(&out).join("libtorch.so"), "INPUT(-ltorch_cpu)\n") {
        println!("cargo::error=cannot write to {out}: {error}");
        return;
    }
    println!("cargo::rustc-link-search=native={out}");

    // Old tags write a DT_RPATH, which wins over LD_LIBRARY_PATH: another libtorch there is of no use to this program.
    // Each word by itself, as `-Wl,-rpath,…` would split a path at its commas.
    for word in ["--disable-new-dtags", "-rpath", &folder] {
        println!("cargo::rustc-link-arg=-Xlinker");
        println!("cargo::rustc-link-arg={word}");
    }

    compile_shim(&folder);
}

/// Compiles src/torch/shim.cpp as `torch-sys` compiles its own part.
fn compile_shim(folder: &str) {
    const SHIM: &str = "src/torch/shim.cpp";
    println!("cargo::rerun-if-changed={SHIM}");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let include = Path::new(folder).parent().unwrap_or(Path::new(folder)).join("include");
    let compiled = cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .flag("-std=c++17")
        .flag(format!("-D_GLIBCXX_USE_CXX11_ABI={abi}"))
        .include(include)
        .file(SHIM)
        .try_compile("tl_torch");
    if let Err(error) = compiled {
        println!("cargo::error={SHIM} cannot be compiled: {error}");
    }
}
