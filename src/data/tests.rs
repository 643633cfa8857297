//! Folders with a folder a class, and what the tests of lists, CSVs and splits share with them.

mod csvs;
mod lists;
mod splits;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

/// A folder with these files, each holding its own name.
fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        touch(&folder.path().join(file));
    }
    folder
}

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, path.as_os_str().as_bytes()).unwrap();
}

fn rows(dataset: &Dataset) -> Vec<(&str, &str)> {
    dataset.samples.iter().map(|s| (s.name.as_str(), dataset.classes[s.label].as_str())).collect()
}

/// Notes and messages without the temporary folder's name.
fn plain(text: impl ToString, folder: &TempDir) -> String {
    text.to_string().replace(&folder.path().display().to_string(), "D")
}

fn notes(dataset: &Dataset, folder: &TempDir) -> Vec<String> {
    dataset.notes.iter().map(|note| plain(note, folder)).collect()
}

fn refused(path: &Path, folder: &TempDir) -> String {
    plain(read_labelled(path).unwrap_err(), folder)
}

#[test]
fn classes_and_images_are_sorted_whatever_the_file_system_says() {
    let d = folder(&[
        "dog/2.jpg",
        "dog/10.JPG",
        "Zebra/z.png",
        "cat/sub/deep/1.webp",
        "cat/sub.jpg",
        "cat/sub/0.tiff",
        "äffchen/a.gif",
    ]);
    let dataset = read_labelled(d.path()).unwrap();
    assert_eq!(dataset.classes, ["Zebra", "cat", "dog", "äffchen"]);
    assert_eq!(
        rows(&dataset),
        [
            ("Zebra/z.png", "Zebra"),
            ("cat/sub/0.tiff", "cat"),
            ("cat/sub/deep/1.webp", "cat"),
            ("cat/sub.jpg", "cat"),
            ("dog/10.JPG", "dog"),
            ("dog/2.jpg", "dog"),
            ("äffchen/a.gif", "äffchen"),
        ]
    );
    assert_eq!(dataset.counts(), [1, 3, 2, 1]);
    assert_eq!(dataset.notes, [""; 0]);
    assert_eq!(dataset.samples[0].path, d.path().join("Zebra/z.png"));
}

#[test]
fn what_is_left_out_is_said() {
    let d = folder(&[
        "cat/1.jpg",
        "cat/.hidden.jpg",
        "cat/Thumbs.db",
        "cat/@eaDir/1.jpg",
        "cat/readme.txt",
        "cat/more.TXT",
        "cat/LICENSE",
        ".git/x.jpg",
        "__MACOSX/cat/1.jpg",
        "dog/1.jpg",
        "empty/notes.txt",
        "loose.jpg",
    ]);
    fs::create_dir(d.path().join("void")).unwrap();
    let dataset = read_labelled(d.path()).unwrap();
    assert_eq!(rows(&dataset), [("cat/1.jpg", "cat"), ("dog/1.jpg", "dog")]);
    assert_eq!(
        notes(&dataset, &d),
        [
            "D: left out 5 hidden entries (.git, .hidden.jpg, @eaDir, Thumbs.db, __MACOSX)",
            "D: left out 4 files whose endings are not an image's (3 .txt, 1 without an ending)",
            "D: 2 folders hold no image and are no classes: empty, void",
            "D: 1 image lies outside the class folders, left out: loose.jpg",
        ]
    );
}

#[test]
fn folders_that_are_no_dataset() {
    let d = folder(&[
        "flat/1.jpg",
        "flat/2.jpg",
        "parts/train/cat/1.jpg",
        "parts/val/cat/1.jpg",
        "none/a/x.heic",
        "file.txt",
        "x.csv",
    ]);
    fs::create_dir(d.path().join("void")).unwrap();
    let at = |name: &str| refused(&d.path().join(name), &d);
    assert_eq!(
        at("flat"),
        "D/flat: expected one sub-folder per class, such as cat/1.jpg and dog/2.jpg, found 2 images directly in it (1.jpg, 2.jpg); sort them into folders, or name their classes in a .csv of path,label"
    );
    assert_eq!(
        at("void"),
        "D/void: expected one sub-folder per class, such as cat/1.jpg and dog/2.jpg, found an empty folder"
    );
    assert_eq!(
        at("parts"),
        "D/parts: holds train, val, which look like the parts of a dataset, not like classes; expected one sub-folder per class: write `data: { train: D/parts/train, val: D/parts/val }`"
    );
    assert_eq!(
        at("none"),
        "D/none: no images: expected one sub-folder per class with images in it, found 1 folder without any: a (D/none: left out 1 file whose ending is not an image's (1 .heic))"
    );
    assert_eq!(
        at("file.txt"),
        "D/file.txt: expected a folder with one sub-folder per class, or a .csv of path,label"
    );
    assert_eq!(at("gone"), "cannot read the images in D/gone: No such file or directory");
    // Vehicles: `train` is a class like any other.
    let d = folder(&["train/1.jpg", "bus/1.jpg"]);
    assert_eq!(read_labelled(d.path()).unwrap().classes, ["bus", "train"]);
    let d = folder(&["train/1.jpg", "test/1.jpg"]);
    let dataset = read_labelled(d.path()).unwrap();
    assert_eq!(dataset.classes, ["test", "train"]);
    insta::assert_snapshot!(notes(&dataset, &d)[0], @"D: all classes are called as the parts of a dataset are (test, train): if they are its parts, sort the images of each into a folder a class");
}

#[test]
fn links_are_followed_and_loops_cut() {
    let d = folder(&["photos/cat/1.jpg", "elsewhere/2.jpg"]);
    let at = |name: &str| d.path().join(name);
    symlink(at("elsewhere"), at("photos/cat/more")).unwrap();
    symlink(at("elsewhere"), at("photos/dog")).unwrap();
    symlink(at("elsewhere/2.jpg"), at("photos/cat/3.jpg")).unwrap();
    symlink(at("photos/cat"), at("photos/cat/round")).unwrap();
    symlink(at("nowhere"), at("photos/cat/broken.jpg")).unwrap();
    symlink(at("photos/cat/self.jpg"), at("photos/cat/self.jpg")).unwrap();
    symlink(at("nowhere"), at("photos/cat/broken")).unwrap();
    let dataset = read_labelled(&at("photos")).unwrap();
    // A link that leads nowhere under an image's name is kept: decoding will report it.
    assert_eq!(
        rows(&dataset),
        [
            ("cat/1.jpg", "cat"),
            ("cat/3.jpg", "cat"),
            ("cat/broken.jpg", "cat"),
            ("cat/more/2.jpg", "cat"),
            ("cat/self.jpg", "cat"),
            ("dog/2.jpg", "dog"),
        ]
    );
    assert_eq!(
        notes(&dataset, &d),
        [
            "D/photos: left out 1 file whose ending is not an image's (1 without an ending)",
            "D/photos: did not follow 1 link to a folder around it: D/photos/cat/round",
        ]
    );
}

/// Each level holds two links to the next: 2^30 paths, and none of them a loop.
#[test]
fn links_that_fork_end_in_a_message() {
    let d = folder(&["cat/1.jpg"]);
    for i in 0..30 {
        let level = d.path().join(format!("levels/{i}"));
        fs::create_dir_all(&level).unwrap();
        let next = d.path().join(format!("levels/{}", i + 1));
        symlink(&next, level.join("a")).unwrap();
        symlink(&next, level.join("b")).unwrap();
    }
    touch(&d.path().join("levels/30/x.jpg"));
    symlink(d.path().join("levels/0"), d.path().join("cat/fork")).unwrap();
    let told = refused(d.path(), &d);
    assert!(told.contains("read already more than 1000 times"), "{told}");
}

#[test]
fn very_deep_folders_end_in_a_message() {
    let d = tempfile::tempdir().unwrap();
    let mut path = d.path().join("cat");
    for _ in 0..300 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    assert!(refused(d.path(), &d).ends_with("folders nested more than 200 deep"));
}

#[test]
fn a_pipe_is_not_opened() {
    let d = folder(&["cat/1.jpg"]);
    let pipe = d.path().join("cat/pipe.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let dataset = read_labelled(d.path()).unwrap();
    assert_eq!(rows(&dataset).len(), 1);
    assert_eq!(notes(&dataset, &d), ["D: left out what is neither file nor folder: D/cat/pipe.jpg"]);
    let error = list_images(&[pipe]).unwrap_err();
    insta::assert_snapshot!(plain(error, &d), @"D/cat/pipe.jpg: expected an image, a folder or a list, found none of them (`-` is a list on standard input)");
}

#[test]
fn names_that_are_no_text() {
    let d = folder(&["cat/1.jpg"]);
    let odd = d.path().join("cat").join(OsStr::from_bytes(b"caf\xe9.jpg"));
    touch(&odd);
    let dataset = read_labelled(d.path()).unwrap();
    assert_eq!(dataset.samples[1].name, r"cat/caf\xe9.jpg");
    assert_eq!(dataset.samples[1].path, odd);
    for name in [b"x\xe8", b"x\xe9"] {
        touch(&d.path().join(OsStr::from_bytes(name)).join("1.jpg"));
    }
    let classes = read_labelled(d.path()).unwrap().classes;
    assert_eq!(classes, ["cat", r"x\xe8", r"x\xe9"]);
    // In notes too.
    touch(&d.path().join("cat").join(OsStr::from_bytes(b"y.p\xe9g")));
    symlink("/dev/null", d.path().join("cat").join(OsStr::from_bytes(b"z\xe9.jpg"))).unwrap();
    symlink(d.path().join("cat"), d.path().join("cat").join(OsStr::from_bytes(b"l\xe9"))).unwrap();
    let said = notes(&read_labelled(d.path()).unwrap(), &d).join("\n");
    for expected in [r"(1 .p\xe9g)", r"neither file nor folder: D/cat/z\xe9.jpg", r"around it: D/cat/l\xe9"] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn classes_that_look_alike_are_asked_about() {
    let d = folder(&["cat/1.jpg", "Cat/1.jpg", "big dog/1.jpg", "big_dog/1.jpg"]);
    let dataset = read_labelled(d.path()).unwrap();
    assert_eq!(
        notes(&dataset, &d),
        [
            "D: \"big dog\" and \"big_dog\" count as two classes; is that meant?",
            "D: \"Cat\" and \"cat\" count as two classes; is that meant?",
        ]
    );
}

#[test]
fn validation_takes_the_classes_of_training() {
    let d = folder(&["cat/1.jpg", "dgo/1.jpg", "whale/1.jpg"]);
    let classes = ["ant", "cat", "dog"].map(String::from);
    assert_eq!(
        plain(read_labelled_with(d.path(), &classes, Part::Val).unwrap_err(), &d),
        "D: 2 classes that the training images lack: \"dgo\" (did you mean \"dog\"?), \"whale\"; rename or remove, or train on them too"
    );
    let d = folder(&["dog/1.jpg", "cat/2.jpg", "whale/readme.md"]);
    let dataset = read_labelled_with(d.path(), &classes, Part::Val).unwrap();
    assert_eq!(dataset.classes, classes);
    assert_eq!(dataset.samples.iter().map(|s| s.label).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        notes(&dataset, &d)[1..],
        ["D: 1 folder holds no image and is no class: whale", "D: 1 class has no image here: ant",]
    );
}
