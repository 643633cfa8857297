//! What `tl demo` brings: the shipped images and recipes, in the program itself.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::text::path_text::path_text;
use crate::util::files;

/// As `build.rs` packs it.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shipped"));

/// The file by which a folder of an earlier demo is known.
const ABOUT: &str = "README.txt";

const ABOUT_TEXT: &str = "\
`tl demo` has written this folder; nothing outside needs it.

data/      images, with their sources and licences in data/README.md, and a small pretrained network
recipes/   what `tl finetune` can do with them: tl finetune recipes/quickstart.yaml
runs/      what was trained: each run has a report.html
*.csv      what is in the images, by the demo's networks
";

/// Paths and bytes, in order.
fn shipped() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    let mut rest = PACKED;
    let mut next = move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(bytes)
    };
    std::iter::from_fn(move || Some((std::str::from_utf8(next()?).ok()?, next()?)))
}

/// Writes what is missing into `folder`, which is new, empty, or of an earlier demo. Recipes may
/// have been changed since, and stay.
///
/// # Errors
/// [`Error::Usage`] if the folder holds anything else, [`Error::Io`] if it cannot be written to.
pub(super) fn write(folder: &Path) -> Result<()> {
    let about = folder.join(ABOUT);
    let ours = fs::read_to_string(&about).is_ok_and(|text| text.lines().next() == ABOUT_TEXT.lines().next());
    if !ours {
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let message =
                format!("{} holds something else: name another folder with `--out`", path_text(folder));
            return Err(Error::usage(message));
        }
        put(&about, ABOUT_TEXT.as_bytes())?;
    }
    for (path, bytes) in shipped() {
        let target = folder.join(path);
        match fs::metadata(&target) {
            Ok(found) if found.len() == bytes.len() as u64 || path.starts_with("recipes/") => {}
            _ => put(&target, bytes)?,
        }
    }
    Ok(())
}

/// Not synced, unlike what cannot be had again.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    files::create_folders(folder).map_err(Error::io("create the folder", folder))?;
    let written = files::remove(path).and_then(|()| files::create_new(path)?.write_all(bytes));
    written.map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_shipped_is_there_and_a_second_time_only_what_is_missing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str| folder.path().join(path);
        write(folder.path()).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (path, _) in shipped() {
            assert_eq!(fs::read(place(path)).unwrap(), fs::read(root.join(path)).unwrap(), "{path}");
        }
        let digits = shipped().filter(|(path, _)| path.starts_with("data/digits/")).count();
        assert_eq!(digits, 1787);
        fs::write(place("recipes/quickstart.yaml"), "model: resnet18\n").unwrap();
        fs::write(place("data/photos/china.jpg"), "cut").unwrap();
        fs::remove_file(place("data/samples/one.png")).unwrap();
        write(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(place("recipes/quickstart.yaml")).unwrap(), "model: resnet18\n");
        for path in ["data/photos/china.jpg", "data/samples/one.png"] {
            assert_eq!(fs::read(place(path)).unwrap(), fs::read(root.join(path)).unwrap(), "{path}");
        }
    }
}
