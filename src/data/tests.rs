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
            "D: left out 4 files that by their endings are no images (3 .txt, 1 without an ending)",
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
        "D/none: no images: expected one sub-folder per class with images in it, found 1 folder without any: a (D/none: left out 1 file that by its ending is no image (1 .heic))"
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
    assert!(dataset.notes[0].contains("all classes are called as the parts of a dataset are (test, train)"));
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
            "D/photos: left out 1 file that by its ending is no image (1 without an ending)",
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
    assert!(
        error.to_string().contains("expected an image, a folder or a list, found none of them"),
        "{error}"
    );
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

fn csv(text: &[u8]) -> (TempDir, PathBuf) {
    let d = folder(&["a.jpg", "b.jpg", "sub/c, d.jpg", "e"]);
    let path = d.path().join("list.csv");
    fs::write(&path, text).unwrap();
    (d, path)
}

#[test]
fn csv_in_all_its_dresses() {
    let expected = [("a.jpg", "dog"), ("sub/c, d.jpg", "big cat"), ("e", "dog")];
    for text in [
        &b"path,label\na.jpg,dog\n\"sub/c, d.jpg\",big cat\ne,dog\n"[..],
        b"a.jpg,dog\n\"sub/c, d.jpg\",big cat\ne,dog",
        b"\xef\xbb\xbfpath,label\r\na.jpg,dog\r\n\r\n\"sub/c, d.jpg\",big cat\r\ne,dog\r\n",
        b"\xef\xbb\xbfa.jpg,dog\n\"sub/c, d.jpg\",\"big cat\"\ne,dog\n",
        b"id,Label,x, PATH \n1,dog,,a.jpg\n2,big cat,,\"sub/c, d.jpg\"\n3,dog,,e\n",
        b"Category, filename\ndog, a.jpg\nbig cat, \"sub/c, d.jpg\"\ndog, e\n",
    ] {
        let (d, path) = csv(text);
        let dataset = read_labelled(&path).unwrap();
        assert_eq!(rows(&dataset), expected, "{}", String::from_utf8_lossy(text));
        assert_eq!(dataset.classes, ["big cat", "dog"]);
        assert_eq!(dataset.samples[0].path, d.path().join("a.jpg"));
        assert_eq!(dataset.notes, [""; 0]);
    }
    let (d, path) = csv(b"");
    fs::write(&path, format!("{},x\nb.jpg,y\nb.jpg,y\n", d.path().join("a.jpg").display())).unwrap();
    let dataset = read_labelled(&path).unwrap();
    assert_eq!(dataset.samples[0].path, d.path().join("a.jpg"));
    assert_eq!(notes(&dataset, &d), ["D/list.csv: 1 row repeats an image and was left out"]);
}

#[test]
fn a_csv_is_read_as_other_programs_write_it() {
    let expected = |text: &[u8]| {
        let (d, path) = csv(text);
        let dataset = read_labelled(&path).unwrap();
        assert_eq!(dataset.classes, ["cat", "dog"], "{text:?}");
        let names: Vec<&str> = dataset.samples.iter().map(|sample| sample.name.as_str()).collect();
        assert_eq!(names, ["a.jpg", "b.jpg"], "{text:?}");
        assert!(
            dataset.samples.iter().all(|sample| sample.path.starts_with(d.path()) && sample.path.is_file())
        );
    };
    let plain = "path,label\na.jpg,dog\nb.jpg,cat\n";
    let utf16 = |unit: fn(u16) -> [u8; 2]| plain.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    expected(plain.as_bytes());
    expected(plain.replace(',', ";").as_bytes());
    expected(plain.replace(',', "\t").as_bytes());
    expected(plain.replace(',', " , ").as_bytes());
    expected(plain.replace('\n', "\r\n").as_bytes());
    expected(&[b"\xEF\xBB\xBF", plain.as_bytes()].concat());
    expected(&utf16(u16::to_le_bytes));
    expected(&[b"\xFF\xFE".to_vec(), utf16(u16::to_le_bytes)].concat());
    expected(&[b"\xFE\xFF".to_vec(), utf16(u16::to_be_bytes)].concat());
    expected(b"a.jpg;dog\nb.jpg;cat\n");
    // A separator in quotes, and a column of numbers with decimal commas.
    expected(b"path;label;\"x,y;z\"\na.jpg;dog;1,5\nb.jpg;cat;2,5\n");
    // A part that is the same everywhere needs no part.
    expected(b"path,label,split\na.jpg,dog,train\nb.jpg,cat,train\n");
}

#[test]
fn a_csv_may_be_from_windows() {
    let (d, path) = csv(b"path,label\nsub\\a.jpg,dog\nb.jpg,cat\n");
    std::fs::copy(d.path().join("a.jpg"), d.path().join("sub/a.jpg")).unwrap();
    assert_eq!(read_labelled(&path).unwrap().samples[0].path, d.path().join("sub/a.jpg"));
}

#[test]
fn parts_in_the_place_of_classes_are_refused() {
    let parts = |folders: &[&str]| {
        let d = tempfile::tempdir().unwrap();
        for folder in folders {
            std::fs::create_dir_all(d.path().join(folder)).unwrap();
            std::fs::write(d.path().join(folder).join("1.png"), folder).unwrap();
        }
        std::fs::create_dir_all(d.path().join("notes")).unwrap();
        std::fs::write(d.path().join("notes/.hidden"), "").unwrap();
        read_labelled(d.path())
            .map_err(|error| error.to_string().replace(&d.path().display().to_string(), "D"))
    };
    let refused = [
        (&["train/cat", "train/dog", "test/cat", "test/dog"][..], "train: D/train, test: D/test"),
        (&["Training/cat", "Training/dog", "VALID/cat", "VALID/dog"], "train: D/Training, val: D/VALID"),
        (
            &["Entrenamiento/a", "Entrenamiento/b", "Prueba/a", "Prueba/b"],
            "train: D/Entrenamiento, test: D/Prueba",
        ),
        (&["\u{8bad}\u{7ec3}/a", "\u{8bad}\u{7ec3}/b", "\u{6d4b}\u{8bd5}/a", "\u{6d4b}\u{8bd5}/b"], "test: "),
        (&["01_train/a", "01_train/b", "02_test/a", "02_test/b"], "train: D/01_train, test: D/02_test"),
        (&["data/train/a", "data/train/b", "data/test/a", "data/test/b"], "train: D/data/train"),
        // Quoted as YAML has it: a combining mark is no escape.
        (
            &["entrai\u{302}nement/a", "entrai\u{302}nement/b", "test/a", "test/b"],
            "/entrai\u{302}nement\", test: ",
        ),
    ];
    for (folders, expected) in refused {
        let error = parts(folders).unwrap_err();
        assert!(error.contains("parts of a dataset") && error.contains(expected), "{error}");
    }
    // A train is a class among vehicles, and a test one among others.
    for folders in
        [&["train", "bus", "tram"][..], &["train", "test"], &["bus/old", "bus/new", "train/old", "train/new"]]
    {
        let dataset = parts(folders).unwrap();
        assert!(dataset.classes.contains(&"train".to_string()), "{folders:?}");
    }
}

#[test]
fn names_that_look_alike_are_told() {
    let (d, path) = csv("path,label\na.jpg,Caf\u{e9}\nb.jpg,Cafe\u{301}\n".as_bytes());
    let notes = read_labelled(&path).unwrap().notes.join("\n");
    assert!(notes.contains("(U+0065 U+0301 (NFD), U+00E9 (NFC)) count as two classes"), "{notes}");
    let error = read_labelled_with(&path, &["Caf\u{e9}".into()], Part::Val).unwrap_err().to_string();
    assert!(error.contains("it has U+0065 U+0301 (NFD) where the training images'"), "{error}");
    drop(d);
}

#[test]
fn faults_of_a_csv_have_lines() {
    let (d, path) = csv(b"path,label\na.jpg,dog\na.jpg,cat\nb.jpg\n,dog\nb.jpg, \nsub,dog\nb.jpg,caf\xe9\nx.jpg,dog\ny.jpg,dog\n");
    assert_eq!(
        refused(&path, &d),
        "D/list.csv: line 3: a.jpg is \"cat\" here and \"dog\" on line 2; keep one
  line 4: expected 2 columns, found 1 column
  line 5: the path is empty
  line 6: the label is empty
  line 7: sub is no file
  and 1 such line more
  2 files are not there: x.jpg (line 9), y.jpg (line 10); paths are relative to the folder of the CSV"
    );

    for (text, expected) in [
        (&b""[..], "D/list.csv: expected rows of path,label, found none"),
        (b"path,label\n", "D/list.csv: expected rows of path,label, found none"),
        (
            b"name,kind\na.jpg,x\n",
            "D/list.csv: 1 file is not there: name (line 1); if the first row (name, kind) is a header, call its columns path,label",
        ),
        (
            b"path,label,path\n",
            "D/list.csv: line 1: the columns path, path could all be the path: let one of them be called path, and no other",
        ),
        (
            b"id,filename,class,category\n",
            "D/list.csv: line 1: the columns class, category could all be the label: let one of them be called label, and no other",
        ),
        (
            b"path,breed,weight\na.jpg,x,1\n",
            "D/list.csv: line 1: expected the columns path,label, or a header that names these two among others, found 3 columns \
             (path, breed, weight): call one of them label (or class, category, target, \u{2026})",
        ),
        (
            b"path;label\na.jpg;x;y\n",
            "D/list.csv: line 2: expected 2 columns, found 3 columns; a semicolon inside a field needs quotes",
        ),
    ] {
        let (d, path) = csv(text);
        assert_eq!(refused(&path, &d), expected);
    }
    // A quotation mark that is never closed, and bytes that are no text at all.
    for text in [&b"path,label\n\"a.jpg,x\nb.jpg,y\n"[..], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &[0; 4096]] {
        let (d, path) = csv(text);
        assert!(refused(&path, &d).len() < 400);
    }
}

fn numbered(counts: &[usize]) -> Dataset {
    let mut dataset = Dataset::default();
    for (label, &count) in counts.iter().enumerate() {
        dataset.classes.push(format!("c{label}"));
        for i in 0..count {
            let name = format!("c{label}/{i}.jpg");
            dataset.samples.push(Sample { path: name.clone().into(), name, label, record: None });
        }
    }
    dataset
}

/// No image is a copy of another.
fn alone(dataset: &Dataset) -> Vec<usize> {
    (0..dataset.samples.len()).collect()
}

#[test]
fn a_split_keeps_copies_on_one_side() {
    // Images 0 to 5 of the first class are three pairs; the second class is one picture; 13 is a
    // copy of 12 in another class.
    let dataset = numbered(&[10, 2, 3, 2]);
    let contents = [0, 0, 2, 2, 4, 4, 6, 7, 8, 9, 10, 10, 12, 13, 14, 12, 16];
    for seed in 0..200 {
        let Split { train, val, notes } = split(&dataset, &contents, 0.2, seed);
        let of = |indices: &[usize]| indices.iter().map(|&i| contents[i]).collect::<Vec<_>>();
        assert!(of(&val).iter().all(|content| !of(&train).contains(content)), "{val:?}");
        let of_class = |label: usize| val.iter().filter(|&&i| dataset.samples[i].label == label).count();
        assert_eq!([of_class(0), of_class(1), of_class(2), of_class(3)], [2, 0, 1, 1], "{val:?}");
        assert!(!val.contains(&12) && !val.contains(&15), "{val:?}");
        assert_eq!(train.len() + val.len(), 17);
        assert_eq!(
            notes,
            ["1 class is made of copies of one picture, used for training, so not validated: c1"]
        );
    }
}

#[test]
fn a_split_of_large_groups_takes_the_smallest() {
    let dataset = numbered(&[10]);
    let val = split(&dataset, &[0, 0, 0, 0, 0, 0, 0, 7, 7, 7], 0.2, 1).val;
    assert_eq!(val, [7, 8, 9]);
}

/// With nothing else to measure on, copies are split, and a note qualifies the accuracy.
#[test]
fn a_split_of_copies_alone_says_what_it_is() {
    let dataset = numbered(&[5, 5]);
    let copies = [0, 0, 0, 0, 0, 5, 5, 5, 5, 5];
    let found = split(&dataset, &copies, 0.2, 1);
    assert_eq!(found.val, split(&dataset, &alone(&dataset), 0.2, 1).val);
    assert!(found.notes[0].contains("copies of training images"), "{:?}", found.notes);
}

#[test]
fn a_split_is_stratified_and_complete() {
    let dataset = numbered(&[100, 10, 3, 2, 1]);
    let Split { train, val, notes } = split(&dataset, &alone(&dataset), 0.2, 7);
    let count = |indices: &[usize]| {
        let mut counts = [0; 5];
        indices.iter().for_each(|&i| counts[dataset.samples[i].label] += 1);
        counts
    };
    assert_eq!(count(&val), [20, 2, 1, 1, 0]);
    assert_eq!(count(&train), [80, 8, 2, 1, 1]);
    let mut all = [train, val].concat();
    all.sort_unstable();
    assert_eq!(all, (0..116).collect::<Vec<_>>());
    assert_eq!(notes, ["1 class has one image alone, used for training, so not validated: c4"]);
    // However large the share, an image to train on remains.
    assert_eq!(count(&split(&dataset, &alone(&dataset), 0.999, 7).train), [1, 1, 1, 1, 1]);
    assert_eq!(count(&split(&dataset, &alone(&dataset), 0.001, 7).val), [1, 1, 1, 1, 0]);
}

/// Pinned: a run that is resumed on another machine must see the same split.
#[test]
fn a_split_is_a_function_of_seed_and_names() {
    let dataset = numbered(&[20]);
    assert_eq!(split(&dataset, &alone(&dataset), 0.2, 0).val, [6, 8, 12, 16]);
    assert_eq!(split(&dataset, &alone(&dataset), 0.2, 1).val, [1, 4, 12, 19]);
    let mut turned = dataset.clone();
    turned.samples.reverse();
    let names = |dataset: &Dataset, indices: &[usize]| {
        let mut names: Vec<_> = indices.iter().map(|&i| dataset.samples[i].name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&dataset, &split(&dataset, &alone(&dataset), 0.2, 3).val),
        names(&turned, &split(&turned, &alone(&turned), 0.2, 3).val)
    );
}

/// Over many seeds each image is set aside about equally often: 400 of 2000, standard deviation 18.
#[test]
fn a_split_favours_no_image() {
    let dataset = numbered(&[20]);
    let mut counts = [0; 20];
    for seed in 0..2000 {
        split(&dataset, &alone(&dataset), 0.2, seed).val.iter().for_each(|&i| counts[i] += 1);
    }
    assert!(counts.iter().all(|count| (310..490).contains(count)), "{counts:?}");
}

#[test]
fn inputs_come_sorted_with_the_labels_of_their_folders() {
    let d =
        folder(&["p/cat/1.jpg", "p/cat/sub/2.jpg", "p/0.jpg", "p/.h/3.jpg", "p/x.txt", "one.bin", "q/9.png"]);
    let at = |name: &str| d.path().join(name);
    let Listing { inputs, notes } = list_images(&[at("q/9.png"), at("p"), at("one.bin")]).unwrap();
    let told: Vec<_> = inputs.iter().map(|i| (plain(&i.name, &d), i.label.as_str())).collect();
    let expected = [
        ("D/one.bin", ""),
        ("D/p/0.jpg", ""),
        ("D/p/cat/1.jpg", "cat"),
        ("D/p/cat/sub/2.jpg", "sub"),
        ("D/q/9.png", ""),
    ];
    assert_eq!(told, expected.map(|(name, label)| (name.to_string(), label)));
    let notes: Vec<_> = notes.iter().map(|note| plain(note, &d)).collect();
    assert_eq!(
        notes,
        ["D/p: left out 1 hidden entry (.h)", "D/p: left out 1 file that by its ending is no image (1 .txt)",]
    );
}

/// By component: files below `a` come before `a-b` and `a.jpg`, though `-` and `.` are less than
/// `/`.
#[test]
fn inputs_are_sorted_by_component() {
    let d = folder(&["a-b/1.jpg", "a/z/1.jpg", "a.jpg", "B/1.jpg"]);
    let all = list_images(&[d.path().join("a.jpg"), d.path().to_path_buf()]).unwrap();
    let told: Vec<_> = all.inputs.iter().map(|i| plain(&i.name, &d)).collect();
    assert_eq!(told, ["D/B/1.jpg", "D/a/z/1.jpg", "D/a-b/1.jpg", "D/a.jpg"]);
}

#[test]
fn an_image_given_twice_is_read_once() {
    let d = folder(&["p/cat/1.jpg", "p/2.jpg"]);
    let at = |name: &str| d.path().join(name);
    let listing = list_images(&[at("p/cat"), at("p/cat/1.jpg"), at("p"), at("./p/2.jpg")]).unwrap();
    let told: Vec<_> = listing.inputs.iter().map(|i| (plain(&i.name, &d), i.label.as_str())).collect();
    assert_eq!(told, [("D/p/2.jpg".to_string(), ""), ("D/p/cat/1.jpg".to_string(), "cat")]);
    assert_eq!(listing.notes, ["3 images were given more than once, read once"]);
}

#[test]
fn the_lines_of_a_list_keep_their_order() {
    let d = folder(&["p/cat/1.jpg", "p/2.jpg", "z.jpg", "a.jpg"]);
    let at = |name: &str| d.path().join(name);
    fs::create_dir(at("lists")).unwrap();
    fs::write(at("lists/l.txt"), "../z.jpg\n./../p\n../gone.jpg\n../z.jpg\n").unwrap();
    fs::write(at("lists/l.csv"), "label,path\ndog,../z.jpg\nfox,../p\n").unwrap();
    let listed = |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(|path| at(path)).collect();
        let inputs = list_images(&paths).unwrap().inputs;
        inputs.iter().map(|i| format!("{} {}", plain(&i.name, &d), i.label)).collect::<Vec<_>>()
    };
    let lines = ["../z.jpg ", "../p/2.jpg ", "../p/cat/1.jpg cat", "../gone.jpg ", "../z.jpg "];
    assert_eq!(listed(&["lists/l.txt"]), lines);
    assert_eq!(listed(&["lists/l.csv"]), ["../z.jpg dog", "../p/2.jpg fox", "../p/cat/1.jpg fox"]);
    // PATHs on either side of a list stay there.
    let around = listed(&["z.jpg", "a.jpg", "lists/l.txt", "p", "a.jpg"]);
    assert_eq!(around[..2], ["D/a.jpg ", "D/z.jpg "]);
    assert_eq!(around[2..7], lines);
    assert_eq!(around[7..], ["D/a.jpg ", "D/p/2.jpg ", "D/p/cat/1.jpg cat"]);
    let listing = list_images(&[at("lists/l.txt")]).unwrap();
    assert_eq!(listing.inputs[3].path, at("lists/../gone.jpg"));
    assert_eq!(listing.notes, [""; 0]);
}

#[test]
fn paths_that_are_not_there_are_all_named() {
    let d = folder(&["p/1.jpg", "void/readme.txt"]);
    let at = |name: &str| d.path().join(name);
    let error = list_images(&[at("x"), at("p"), at("y.jpg")]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(
        plain(&error, &d),
        "cannot read D/x: No such file or directory\ncannot read D/y.jpg: No such file or directory"
    );
    assert_eq!(
        plain(list_images(&[at("void")]).unwrap_err(), &d),
        "there is no image to read\nD/void: left out 1 file that by its ending is no image (1 .txt)\nD/void: no images in this folder"
    );
}

#[test]
fn reported_names_have_no_dots_at_the_start() {
    assert_eq!(list::slashed(Path::new("./a//b/./c.jpg")), "a/b/c.jpg");
    assert_eq!(list::slashed(Path::new("/a/b.jpg")), "/a/b.jpg");
    assert_eq!(list::slashed(Path::new("../b.jpg")), "../b.jpg");
}

#[test]
fn a_folder_that_cannot_be_read_is_one_of_many() {
    use super::walk::{Found, LeftOut, Walk};
    let d = tempfile::tempdir().unwrap();
    for folder in ["a", "b", "c"] {
        std::fs::create_dir(d.path().join(folder)).unwrap();
        std::fs::write(d.path().join(folder).join("1.png"), "").unwrap();
    }
    let (mut walk, mut left_out) = (Walk::new(d.path()), LeftOut::default());
    let mut next = || match walk.next(&mut left_out).unwrap() {
        Some(Found::Image(path)) => format!("image {}", path.strip_prefix(d.path()).unwrap().display()),
        Some(Found::Closed(path, _)) => format!("closed {}", path.strip_prefix(d.path()).unwrap().display()),
        None => "end".into(),
    };
    assert_eq!(next(), "image a/1.png");
    // Removed before the walk reaches it: a folder without permission cannot be made for every
    // user.
    std::fs::remove_dir_all(d.path().join("b")).unwrap();
    assert_eq!([next(), next(), next()], ["closed b", "image c/1.png", "end"]);
}
