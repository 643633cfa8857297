//! The libtorch in use, as described by its own folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::cuda::CUDA_HALF;

/// The libtorch that this process runs on.
#[derive(Clone, Debug)]
pub struct Libtorch {
    /// The folder of its libraries.
    pub folder: PathBuf,
    /// Its package's version: `2.11.0+cu130`.
    pub version: Option<String>,
    /// Whether its CUDA library is there.
    pub with_cuda: bool,
    /// The CUDA version it was built for, `13.0`, whether or not that library is there.
    pub cuda: Option<String>,
}

/// How this program came to its machine, which decides what mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// It was built here.
    FromSource,
    /// As a wheel: the libtorch is that of the environment's PyTorch.
    AsWheel,
    /// As a folder that holds libtorch too.
    AsFolder,
}

impl Installed {
    /// This program.
    pub fn here() -> Self {
        std::env::current_exe().map_or(Installed::FromSource, |program| Installed::of(&program))
    }

    /// By the place of `program`, as `scripts/package/` lays things out.
    fn of(program: &Path) -> Self {
        let Some(folder) = program.parent() else { return Installed::FromSource };
        match (folder.file_name(), folder.with_file_name("lib").join("libtorch_cpu.so").exists()) {
            (Some(name), _) if name == "transferkit" => Installed::AsWheel,
            (_, true) => Installed::AsFolder,
            (_, false) => Installed::FromSource,
        }
    }
}

/// The loaded libtorch; `None` where the system does not tell.
pub fn libtorch() -> Option<Libtorch> {
    let folder = loaded_folder("libtorch_cpu.so")?;
    let package = folder.parent().unwrap_or(Path::new("/"));
    let python = fs::read_to_string(package.join("version.py")).unwrap_or_default();
    let quoted = |name: &str| {
        let line = python.lines().find(|line| line.starts_with(name))?;
        Some(line.split(['\'', '"']).nth(1)?.to_string())
    };
    let archive = fs::read_to_string(package.join("build-version")).ok().map(|text| text.trim().to_string());
    let with_cuda = folder.join(CUDA_HALF).exists();
    Some(Libtorch {
        with_cuda,
        version: archive.or_else(|| quoted("__version__")),
        cuda: quoted("cuda"),
        folder,
    })
}

/// The folder from which this process loaded a library of this name.
pub(super) fn loaded_folder(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    // An address range, permissions, an offset, a device, an inode, then the path, which may
    // contain blanks.
    let path = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    path.filter(|path| path.file_name().is_some_and(|found| found == name))
        .find_map(|path| path.parent())
        .map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        // Links libtorch into the test, which the linker would drop otherwise.
        assert!(tch::get_num_threads() > 0);
        let found = libtorch().unwrap();
        assert!(found.folder.join("libtorch_cpu.so").exists());
        assert!(found.version.unwrap().starts_with("2.11"));
        assert_eq!(loaded_folder("libtorch_no_such.so"), None);
    }

    #[test]
    fn the_place_of_the_program_says_how_it_was_installed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| Installed::of(&folder.path().join(path));
        assert_eq!(at("lib/python3.12/site-packages/transferkit/tl"), Installed::AsWheel);
        assert_eq!(at("bin/tl"), Installed::FromSource);
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
        assert_eq!(at("bin/tl"), Installed::AsFolder);
    }
}
