//! A folder with one sub-folder per class.

use std::path::Path;

use super::list::slashed;
use super::part::Tree;
use super::walk::{self, Entry, LeftOut};
use super::{Image, Named, Read, published};
use crate::error::{Error, Result};
use crate::text::path_text::path_text;
use crate::text::words::{counted, first_few, shown};

/// The images of all class folders, by class, then by path component; or the parts in their place.
pub(super) fn read(root: &Path) -> Result<Read> {
    let mut left_out = LeftOut::default();
    let entries = walk::entries(root, &mut left_out)?;
    let (folders, loose): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| entry.is_folder);
    if folders.is_empty() {
        return Err(no_class_folders(root, &loose, &left_out));
    }
    let classes: Vec<String> = folders.iter().map(|folder| last(&folder.path)).collect();
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
            .map_or(String::new(), |set| format!("; did you mean {}?", path_text(&set)));
        return Err(Error::file(
            root,
            format!(
                "no images: expected one sub-folder per class with images in it, found {} without any: {}{found}{hint}",
                counted(empty.len(), "folder", "folders"),
                first_few(&empty)
            ),
        ));
    }

    let tree = Tree::of(named.images.iter().map(|image| image.name.as_str()));
    if let Some((parts, refusal)) = tree.parts_for_classes(root) {
        return Ok(Read::Parts { parts, refusal });
    }
    named.notes = left_out.notes(root);
    named.notes.extend(tree.odd_classes(root).iter().map(|note| format!("{}: {note}", path_text(root))));
    if !empty.is_empty() {
        let what = counted(
            empty.len(),
            "folder holds no image and is no class",
            "folders hold no image and are no classes",
        );
        named.notes.push(format!("{}: {what}: {}", path_text(root), first_few(&empty)));
    }
    if !loose.is_empty() {
        let what = counted(
            loose.len(),
            "image lies outside the class folders",
            "images lie outside the class folders",
        );
        named.notes.push(format!("{}: {what}, left out: {}", path_text(root), first_few(&names(&loose))));
    }
    Ok(Read::Images(named))
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

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| shown(&last(&entry.path))).collect()
}

fn last(path: &Path) -> String {
    path_text(path.file_name().unwrap_or_default()).into_owned()
}
