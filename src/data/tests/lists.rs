//! Inputs of `tl predict` and `tl extract`.

use super::*;

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
        ["D/p: left out 1 hidden entry (.h)", "D/p: left out 1 file whose ending is not an image's (1 .txt)",]
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
        "there is no image to read\nD/void: left out 1 file whose ending is not an image's (1 .txt)\nD/void: no images in this folder"
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
