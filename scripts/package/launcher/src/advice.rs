//! The command that installs PyTorch into an environment, by the tool that made it.

use crate::places::{Place, setting};
use crate::pytorch::VERSION;

/// A clause.
pub fn install(place: &Place) -> String {
    let prefix = place.prefix.display();
    let there = |name: &str| place.prefix.join(name).exists();
    if there("uv-receipt.toml") {
        return "`uv tool install --reinstall transferkit` installs it".into();
    }
    if there("pipx_metadata.json") {
        return format!("`pipx runpip transferkit install torch=={VERSION}` installs it");
    }
    let Some(python) = &place.python else {
        return format!("`pip install --target {prefix} torch=={VERSION}` installs it");
    };
    match place.settings() {
        Some(text) if setting(&text, "uv").is_some() => {
            format!("`uv pip install --python {prefix} torch=={VERSION}` installs it")
        }
        Some(_) => format!("`{prefix}/bin/python -m pip install torch=={VERSION}` installs it"),
        None => format!("`{} -m pip install torch=={VERSION}` installs it", python.to_string_lossy()),
    }
}
