//! CSVs of paths and labels.

use super::*;

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
    insta::assert_snapshot!(plain(notes, &d), @r#"D/list.csv: "Café" and "Café" (U+0065 U+0301 (NFD), U+00E9 (NFC)) count as two classes; is that meant?"#);
    let error = read_labelled_with(&path, &["Caf\u{e9}".into()], Part::Val).unwrap_err();
    insta::assert_snapshot!(plain(error, &d), @r#"D/list.csv: 1 class that the training images lack: "Café" (it has U+0065 U+0301 (NFD) where the training images' "Café" has U+00E9 (NFC)); rename or remove, or train on them too"#);
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
