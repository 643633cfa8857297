//! A folder with one sub-folder per class.

use std::collections::HashSet;
use std::path::Path;

use super::list::slashed;
use super::walk::{self, Entry, LeftOut};
use super::{Image, Named, published};
use crate::error::{Error, Result};
use crate::wording::{counted, first_few, shown};

/// Names under which people keep the parts of a dataset side by side.
const PARTS: [&str; 8] = ["train", "training", "val", "valid", "validation", "test", "testing", "eval"];

/// The images of all class folders, by class, then by path component.
pub(super) fn read(root: &Path) -> Result<Named> {
    let mut left_out = LeftOut::default();
    let entries = walk::entries(root, &mut left_out)?;
    let (folders, loose): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.is_folder);
    if folders.is_empty() {
        return Err(no_class_folders(root, &loose, &left_out));
    }
    if let Some(train) = parts_side_by_side(&folders)? {
        return Err(Error::file(
            root,
            format!(
                "holds {}, which look like the parts of a dataset, not like classes; \
                 expected one sub-folder per class: did you mean {}?",
                first_few(&names(&folders)),
                train.display()
            ),
        ));
    }

    let classes: Vec<String> = folders.iter().map(|folder| last(&folder.path)).collect();
    // Two names that are no UTF-8 can read the same once their bytes are replaced.
    let mut seen = HashSet::new();
    if let Some(class) = classes.iter().find(|class| !seen.insert(class.as_str())) {
        let message = format!("two class folders read as \"{}\"; rename one", shown(class));
        return Err(Error::file(root, message));
    }

    let mut named = Named::default();
    let mut empty = Vec::new();
    for (folder, class) in folders.iter().zip(&classes) {
        let images = walk::images(&folder.path, &mut left_out)?;
        if images.is_empty() {
            empty.push(class.clone());
        }
        for path in images {
            let name = slashed(path.strip_prefix(root).unwrap_or(&path));
            named.images.push(Image { path, name, class: class.clone(), record: None });
        }
    }
    if named.images.is_empty() {
        let found = left_out.notes(root).join("; ");
        let found = if found.is_empty() { String::new() } else { format!(" ({found})") };
        let paths: Vec<&Path> = folders.iter().map(|folder| folder.path.as_path()).collect();
        let hint = published::nested(&paths)
            .map_or(String::new(), |set| format!("; did you mean {}?", set.display()));
        return Err(Error::file(
            root,
            format!(
                "no images: expected one sub-folder per class with images in it, found {} without any: {}{found}{hint}",
                counted(empty.len(), "folder", "folders"),
                first_few(&empty)
            ),
        ));
    }

    named.notes = left_out.notes(root);
    if !empty.is_empty() {
        let what = counted(
            empty.len(),
            "folder holds no image and is no class",
            "folders hold no image and are no classes",
        );
        named.notes.push(format!("{}: {what}: {}", root.display(), first_few(&empty)));
    }
    if !loose.is_empty() {
        let what = counted(
            loose.len(),
            "image lies outside the class folders",
            "images lie outside the class folders",
        );
        named.notes.push(format!("{}: {what}, left out: {}", root.display(), first_few(&names(&loose))));
    }
    Ok(named)
}

fn no_class_folders(root: &Path, loose: &[Entry], left_out: &LeftOut) -> Error {
    const LAYOUT: &str = "expected one sub-folder per class, such as cat/1.jpg and dog/2.jpg";
    let message = if loose.is_empty() {
        match left_out.notes(root).first() {
            Some(note) => format!("{LAYOUT}, found none ({note})"),
            None => format!("{LAYOUT}, found an empty folder"),
        }
    } else {
        format!(
            "{LAYOUT}, found {} directly in it ({}); sort them into folders, or name their classes in a .csv of path,label",
            counted(loose.len(), "image", "images"),
            first_few(&names(loose))
        )
    };
    Error::file(root, message)
}

/// The training part, when all sub-folders are parts of a dataset and it holds folders but no images.
fn parts_side_by_side(folders: &[Entry]) -> Result<Option<&Path>> {
    let is_part = |entry: &Entry| PARTS.contains(&last(&entry.path).to_lowercase().as_str());
    if !folders.iter().all(is_part) {
        return Ok(None);
    }
    let Some(train) = folders.iter().find(|entry| last(&entry.path).to_lowercase().starts_with("train"))
    else {
        return Ok(None);
    };
    let inside = walk::entries(&train.path, &mut LeftOut::default())?;
    let holds_classes = !inside.is_empty() && inside.iter().all(|entry| entry.is_folder);
    Ok(holds_classes.then_some(train.path.as_path()))
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| shown(&last(&entry.path))).collect()
}

fn last(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
