//! Where pip, uv and pipx put packages, seen from the folder of their commands.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::pytorch::{self, Found};

/// Where packages are that several environments share.
#[derive(Debug)]
pub struct Machine {
    /// `/`.
    pub root: PathBuf,
    /// The user's folder.
    pub home: Option<PathBuf>,
}

/// A folder of packages that holds the program.
#[derive(Debug, PartialEq)]
pub struct Place {
    /// The environment: the parent of the folder of commands.
    pub prefix: PathBuf,
    /// `PREFIX/lib/python3.12/site-packages`, or PREFIX itself (`pip install --target`).
    pub packages: PathBuf,
    /// `python3.12`, if `packages` tells.
    pub python: Option<OsString>,
}

/// The places that belong to the launcher `tl`, the newest Python first.
pub fn with_program(tl: &Path) -> Vec<Place> {
    let Some(prefix) = tl.parent().and_then(Path::parent) else { return Vec::new() };
    let mut places: Vec<Place> = ["lib", "lib64"]
        .iter()
        .flat_map(|lib| pythons(&prefix.join(lib)))
        .flat_map(|folder| both(&folder).map(|packages| (folder.clone(), packages)))
        .map(|(folder, packages)| Place {
            prefix: prefix.into(),
            packages,
            python: folder.file_name().map(OsStr::to_os_string),
        })
        .collect();
    // 3.10 before 3.9: the longer name first. In a virtual environment lib64 is a link to lib, which has come before.
    places.sort_by_key(|place| Reverse(place.python.as_ref().map(|name| (name.len(), name.clone()))));
    places.push(Place { prefix: prefix.into(), packages: prefix.into(), python: None });
    places.retain(|place| place.program().is_file());
    places
}

impl Place {
    /// The program that libtorch is linked to.
    pub fn program(&self) -> PathBuf {
        self.packages.join("transferkit/tl")
    }

    /// The PyTorch that Python would import here, and whether it will do.
    pub fn pytorch(&self, machine: &Machine) -> (PathBuf, Found) {
        let own = self.packages.join("torch");
        let others = self.shared(machine).into_iter().map(|packages| packages.join("torch"));
        let mut found = std::iter::once(own.clone()).chain(others).map(|folder| {
            let judged = pytorch::judge(&folder);
            (folder, judged)
        });
        found.find(|(_, judged)| *judged != Found::Nothing).unwrap_or((own, Found::Nothing))
    }

    /// The folders of packages that Python searches after this one: the user's, and the system's. A virtual environment
    /// has them only on request.
    fn shared(&self, machine: &Machine) -> Vec<PathBuf> {
        let Some(python) = &self.python else { return Vec::new() };
        let settings = self.settings();
        let base = settings.as_deref().map(|text| setting(text, "home"));
        let alone = settings.as_deref().and_then(|text| setting(text, "include-system-site-packages"));
        if settings.is_some() && alone.is_none_or(|value| !value.eq_ignore_ascii_case("true")) {
            return Vec::new();
        }
        let users = machine.home.as_ref().map(|home| home.join(".local"));
        let base = base.flatten().and_then(|bin| Path::new(bin).parent().map(Path::to_path_buf));
        let prefixes =
            users.into_iter().chain(base).chain(["usr/local", "usr"].map(|prefix| machine.root.join(prefix)));
        let mut shared: Vec<PathBuf> =
            prefixes.flat_map(|prefix| both(&prefix.join("lib").join(python))).collect();
        shared.push(machine.root.join("usr/lib/python3/dist-packages"));
        shared
    }

    /// The settings of a virtual environment; `None` if this is none.
    pub fn settings(&self) -> Option<String> {
        fs::read_to_string(self.prefix.join("pyvenv.cfg")).ok()
    }
}

/// The value of a line `name = value`.
pub fn setting<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

/// The folders of `lib` that are a Python's: `python3.12`, `python3.13t`, `pypy3.11`.
fn pythons(lib: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(lib) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter(|name| {
            [b"python3".as_slice(), b"pypy3"].iter().any(|start| name.as_encoded_bytes().starts_with(start))
        })
        .map(|name| lib.join(name))
        .collect()
}

/// Debian calls what pip installs for the system `dist-packages`.
fn both(python: &Path) -> [PathBuf; 2] {
    [python.join("site-packages"), python.join("dist-packages")]
}
