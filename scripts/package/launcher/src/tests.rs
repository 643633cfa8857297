//! On folders as pip, uv and pipx lay them out.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A folder that is removed at the end of a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("tl-launcher-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// Writes a file and the folders above it.
    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn program(&self, packages: &str) -> &Self {
        self.write(&format!("{packages}/transferkit/tl"), "")
    }

    fn pytorch(&self, packages: &str, version: &str) -> &Self {
        self.write(&format!("{packages}/torch/lib/libtorch_cpu.so"), "");
        let text = format!("from typing import Optional\n\n__version__ = '{version}'\ndebug = False\n");
        self.write(&format!("{packages}/torch/version.py"), &text)
    }

    /// What the launcher of `PREFIX/bin` finds, with this folder for `/`.
    fn find(&self, prefix: &str) -> Result<Start, String> {
        let machine = Machine { root: self.0.clone(), home: Some(self.0.join("home")) };
        let found = find(&self.0.join(prefix).join("bin/tl"), &machine);
        found.map_err(|problem| problem.replace(self.0.to_str().unwrap(), ""))
    }

    fn starts(&self, packages: &str, elsewhere: Option<&str>) -> Result<Start, String> {
        let program = self.0.join(packages).join("transferkit/tl");
        Ok(Start { program, elsewhere: elsewhere.map(|packages| self.0.join(packages).join("torch/lib")) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_layout_of_packages_is_known() {
    for (name, packages) in [
        ("venv", "lib/python3.12/site-packages"),
        ("debian", "lib/python3.11/dist-packages"),
        ("fedora", "lib64/python3.13/site-packages"),
        ("target", "."),
    ] {
        let scratch = Scratch::new(name);
        scratch.program(packages).pytorch(packages, "2.11.0+cu130");
        let (found, start) = (scratch.find(".").unwrap(), scratch.starts(packages, None).unwrap());
        assert_eq!(found.program.canonicalize().unwrap(), start.program.canonicalize().unwrap(), "{name}");
        assert_eq!(found.elsewhere, None, "{name}");
    }
}

#[test]
fn of_several_pythons_the_newest_that_is_whole_is_taken() {
    let scratch = Scratch::new("several");
    for python in ["3.9", "3.10", "3.11"] {
        scratch.program(&format!("lib/python{python}/site-packages"));
    }
    scratch
        .pytorch("lib/python3.9/site-packages", "2.11.0")
        .pytorch("lib/python3.10/site-packages", "2.11.1+cpu");
    std::os::unix::fs::symlink("lib", scratch.0.join("lib64")).unwrap();
    assert_eq!(scratch.find(""), scratch.starts("lib/python3.10/site-packages", None));
}

#[test]
fn the_pytorch_of_the_system_is_found_from_an_environment_that_shares_it() {
    let scratch = Scratch::new("shared");
    let packages = "lib/python3.12/site-packages";
    scratch.program(&format!("venv/{packages}")).pytorch(&format!("base/{packages}"), "2.11.0");
    let home = scratch.0.join("base/bin").display().to_string();
    scratch.write("venv/pyvenv.cfg", &format!("home = {home}\ninclude-system-site-packages = true\n"));
    assert_eq!(
        scratch.find("venv"),
        scratch.starts(&format!("venv/{packages}"), Some(&format!("base/{packages}")))
    );
    // The user's comes before the system's.
    scratch.pytorch(&format!("home/.local/{packages}"), "2.11.0");
    assert_eq!(
        scratch.find("venv"),
        scratch.starts(&format!("venv/{packages}"), Some(&format!("home/.local/{packages}")))
    );
    // The system's, for a program that the user alone has.
    scratch
        .program(&format!("home/.local/{packages}"))
        .pytorch("usr/local/lib/python3.12/dist-packages", "2.11.0");
    fs::remove_dir_all(scratch.0.join(format!("home/.local/{packages}/torch"))).unwrap();
    assert_eq!(
        scratch.find("home/.local"),
        scratch.starts(&format!("home/.local/{packages}"), Some("usr/local/lib/python3.12/dist-packages"))
    );
    // An environment of its own shares nothing.
    scratch.write("venv/pyvenv.cfg", &format!("home = {home}\ninclude-system-site-packages = false\n"));
    assert_eq!(
        scratch.find("venv").unwrap_err(),
        "tl needs PyTorch 2.11, and there is none in /venv/lib/python3.12/site-packages: \
         `/venv/bin/python -m pip install torch==2.11.0` installs it"
    );
}

#[test]
fn a_pytorch_that_will_not_do_is_named_with_the_command_for_the_right_one() {
    let packages = "lib/python3.12/site-packages";
    for (file, text, command) in [
        ("nothing", "", "python3.12 -m pip install torch==2.11.0"),
        ("pyvenv.cfg", "uv = 0.9.0\nhome = /usr/bin\n", "uv pip install --python /e torch==2.11.0"),
        ("pyvenv.cfg", "home = /usr/bin\n", "/e/bin/python -m pip install torch==2.11.0"),
        ("uv-receipt.toml", "", "uv tool install --reinstall transferkit"),
        ("pipx_metadata.json", "{}", "pipx runpip transferkit install torch==2.11.0"),
    ] {
        let scratch = Scratch::new("wrong");
        let folder = format!("e/{packages}");
        scratch.program(&folder).pytorch(&folder, "2.10.0+cu128").write(&format!("e/{file}"), text);
        assert_eq!(
            scratch.find("e").unwrap_err(),
            format!(
                "tl needs PyTorch 2.11, and /e/{packages}/torch is 2.10.0+cu128: `{command}` installs it"
            )
        );
    }
}

#[test]
fn only_releases_of_the_series_fit() {
    let scratch = Scratch::new("versions");
    let judged = |version: &str| {
        scratch.pytorch(".", version);
        pytorch::judge(&scratch.0.join("torch"))
    };
    for version in ["2.11.0", "2.11.0+cpu", "2.11.3+cu130"] {
        assert_eq!(judged(version), Found::Fits, "{version}");
    }
    for version in ["2.10.0", "2.12.0", "2.111.0", "2.11", "2.11.0a0+git1234", "2.11.0.dev20260101", "3.2.11"]
    {
        assert_eq!(judged(version), Found::Other(version.into()));
    }
    scratch.write("torch/version.py", "");
    assert_eq!(pytorch::judge(&scratch.0.join("torch")), Found::Other("of an unknown version".into()));
    assert_eq!(pytorch::judge(Path::new("/nowhere/torch")), Found::Nothing);
}

#[test]
fn a_launcher_without_its_program_says_so() {
    let scratch = Scratch::new("alone");
    assert_eq!(
        scratch.find("e").unwrap_err(),
        "the program that belongs to /e/bin/tl is not there (transferkit/tl among the packages): install transferkit \
         again"
    );
}
