//! `tl predict` and `tl extract` of lists of paths: a `.txt`, a `.csv`, standard input.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::digits::Lab;
use crate::extract::{LETTERS, LISTED, pictures, with_letters};
use crate::program::{Run, Tl, answer, repository};

/// The columns of a CSV, a row each.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.records().map(|row| row.unwrap().iter().map(Into::into).collect()).collect()
}

fn first(rows: &[Vec<String>]) -> Vec<&str> {
    rows.iter().map(|row| row[0].as_str()).collect()
}

/// `tl predict - ARGS` with these bytes on its standard input.
fn piped(folder: &Path, input: &[u8], args: &[&str]) -> Run {
    let mut command = Tl::new(["predict", "--device", "cpu", "--threads", "1", "-", "--model"])
        .arg(repository(LETTERS))
        .args(args)
        .cwd(folder)
        .into_command();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // Who refuses the rest of it closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap().into()
}

#[test]
fn rows_come_in_the_order_of_the_list_with_a_row_for_what_is_missing() {
    let folder = pictures();
    let at = |name: &str| folder.path().join(name);
    with_letters("predict", folder.path(), &["images", "--out", "sorted.csv"]).expect(0);
    let sorted = rows(&at("sorted.csv"));
    let row = |path: &str| sorted.iter().find(|row| row[0] == path).unwrap()[1..].to_vec();
    fs::create_dir(at("lists")).unwrap();
    let lines = ["../images/top.png", "../images/gone.png", "../images/b/2.png", "../images/top.png"];
    // As Windows writes it.
    fs::write(at("lists/list.txt"), format!("\u{feff}{}\r\n\r\n", lines.join("\r\n"))).unwrap();
    fs::write(at("lists/list.csv"), format!("n,path\n1,{}\n", lines.join("\n2,"))).unwrap();
    for list in ["lists/list.txt", "lists/list.csv"] {
        let run =
            with_letters("predict", folder.path(), &[list, "--out", "p.csv", "--batch-size", "2"]).expect(1);
        run.says(&["1 of 4 images could not be read: see `error` in its row\n"]);
        let found = rows(&at("p.csv"));
        assert_eq!(first(&found), lines, "{list}");
        for (place, name) in [(0, "images/top.png"), (2, "images/b/2.png"), (3, "images/top.png")] {
            // Other images beside it in a batch round it in another way.
            let (found, expected) = (&found[place][1..], row(name));
            let confidence = |row: &[String]| row[1].parse::<f64>().unwrap();
            assert_eq!((&found[0], &found[2]), (&expected[0], &expected[2]), "{list}");
            assert!((confidence(found) - confidence(&expected)).abs() < 1e-4, "{list}");
        }
        assert_eq!(found[1][1..3], ["", ""]);
        assert!(found[1][3].contains("No such file"), "{:?}", found[1]);
    }
    with_letters("extract", folder.path(), &["lists/list.txt", "--out", "x.csv"]).expect(1);
    assert_eq!(first(&rows(&at("x.csv"))), [lines[0], lines[2], lines[3]]);
    assert_eq!(first(&rows(&at("x.csv.errors.csv"))), [lines[1]]);
    // A list beside a folder, and a folder in a list.
    fs::write(at("two.txt"), "images/top.png\nimages/b\n").unwrap();
    with_letters("extract", folder.path(), &["two.txt", "images", "--out", "x.csv"]).expect(0);
    let found = rows(&at("x.csv"));
    let expected = [("images/top.png", ""), ("images/b/10.png", ""), ("images/b/2.png", "")];
    assert!(
        found.iter().map(|row| (row[0].as_str(), row[1].as_str())).eq(expected.into_iter().chain(LISTED))
    );
}

#[test]
fn standard_input_is_a_list_whose_paths_start_at_the_working_directory() {
    let folder = pictures();
    let run =
        piped(folder.path(), b"images/top.png\nimages/a/deep/er/x.png\n", &["--out", "p.csv"]).expect(0);
    insta::assert_snapshot!(run.told(), @"2 rows in p.csv");
    assert_eq!(first(&rows(&folder.path().join("p.csv"))), ["images/top.png", "images/a/deep/er/x.png"]);
    insta::assert_snapshot!(piped(folder.path(), b"", &[]).expect(2).told(), @"error: standard input: expected a path a line, found none");
    insta::assert_snapshot!(piped(folder.path(), b"x.png\n", &["-"]).expect(2).told(), @"error: `-` is given twice: standard input can be read once");
}

#[test]
fn lists_that_are_none_are_told() {
    let folder = pictures();
    let mut answers = String::new();
    for text in [&b""[..], b"images/top.png\nother.csv\n", b"\xff\xfe\0\0i\0\0\0", b"\0\0"] {
        fs::write(folder.path().join("list.txt"), text).unwrap();
        let run = with_letters("predict", folder.path(), &["list.txt", "--out", "p.csv"]).expect(2);
        answers += &answer(">", &text.escape_ascii().to_string(), &run.told());
        assert!(!folder.path().join("p.csv").exists());
    }
    insta::assert_snapshot!(answers, @r"
    >
    error: list.txt: expected a path a line, found none

    > images/top.png\nother.csv\n
    error: list.txt: line 2: other.csv is a list itself; give it as a PATH of its own

    > \xff\xfe\x00\x00i\x00\x00\x00
    error: list.txt: is text in UTF-32; save it as UTF-8

    > \x00\x00
    error: list.txt: line 1: expected a list of paths, found a zero byte: this is no text
    ");
    // Nothing but a row of why, where no line names an image.
    fs::write(folder.path().join("list.txt"), "gone.png\n").unwrap();
    insta::assert_snapshot!(with_letters("predict", folder.path(), &["list.txt"]).expect(1).told(), @"1 of 1 image could not be read: see `error` in the table");
}

#[test]
fn a_changed_list_is_another_job() {
    let folder = pictures();
    let list = |text: &str| fs::write(folder.path().join("list.txt"), text).unwrap();
    let resume = || with_letters("extract", folder.path(), &["list.txt", "--out", "x.npy", "--resume"]);
    list("images/top.png\nimages/b/2.png\n");
    insta::assert_snapshot!(resume().expect(0).told(), @"2 rows of 1024 numbers (`features` of shufflenet_v2_x0_5) in x.npy");
    insta::assert_snapshot!(resume().expect(0).told(), @"x.npy is complete: nothing to do");
    // Even behind the images that are done.
    list("images/top.png\nimages/b/2.png\nimages/b/10.png\n");
    insta::assert_snapshot!(resume().expect(2).told(), @"error: cannot go on with x.npy, which means another run: the list was list.txt of 2 paths (sha256 517a0d229f41e4f9), is list.txt of 3 paths (sha256 a34ad7ab6a527e41); to start over, leave `--resume` out");
    list("images/b/2.png\nimages/top.png\n");
    insta::assert_snapshot!(resume().expect(2).told(), @"error: cannot go on with x.npy, which means another run: the list was list.txt of 2 paths (sha256 517a0d229f41e4f9), is list.txt of 2 paths (sha256 c92ad869e032c96c); to start over, leave `--resume` out");
    let run =
        with_letters("extract", folder.path(), &["images/top.png", "--out", "x.npy", "--resume"]).expect(2);
    insta::assert_snapshot!(run.told(), @"error: cannot go on with x.npy, which means another run: the list was list.txt of 2 paths (sha256 517a0d229f41e4f9), is absent; to start over, leave `--resume` out");
}

/// Shards of a list are its lines in turn.
#[test]
fn a_list_can_be_shared_out() {
    let folder = pictures();
    let lines = ["images/top.png", "images/b/2.png", "images/b/10.png"];
    fs::write(folder.path().join("list.txt"), lines.join("\n")).unwrap();
    for (shard, expected) in [("0/2", vec![lines[0], lines[2]]), ("1/2", vec![lines[1]])] {
        with_letters("predict", folder.path(), &["list.txt", "--out", "p.csv", "--shard", shard]).expect(0);
        let name = format!("p-0000{}-of-00002.csv", &shard[..1]);
        assert_eq!(first(&rows(&folder.path().join(name))), expected);
    }
}

/// A header whose path column has a folder's name, or one that nobody knows, beside a label column.
#[test]
fn the_header_of_a_list_is_no_path_though_a_folder_has_its_name() {
    let lab = Lab::new(1);
    let image = fs::read(repository("data/samples/eight.png")).unwrap();
    for name in ["a", "b", "c"] {
        fs::create_dir_all(lab.path("images")).unwrap();
        fs::write(lab.path(&format!("images/{name}.png")), &image).unwrap();
    }
    let predict = |list: &str| {
        lab.tl(&["predict", "--model", repository(LETTERS).to_str().unwrap(), list, "--out", "p.csv"])
            .run()
            .expect(0);
        String::from_utf8(lab.read("p.csv")).unwrap().lines().skip(1).count()
    };
    for header in ["images,label", "label,images", "bild,class"] {
        let (path, label) = if header.starts_with("label") { (1, 0) } else { (0, 1) };
        let row = |name: &str| {
            let mut fields = ["", ""];
            let file = format!("images/{name}.png");
            (fields[path], fields[label]) = (&file, "8");
            fields.join(",")
        };
        lab.write("l.csv", [header.to_string(), row("b"), row("a")].join("\n"));
        assert_eq!(predict("l.csv"), 2, "{header}");
    }
    // A folder whose label is a header's word, or which has a header's name, is an input: no file follows.
    fs::create_dir_all(lab.path("more")).unwrap();
    fs::write(lab.path("more/d.png"), &image).unwrap();
    for first in ["more,y", "images,y"] {
        lab.write("l.csv", format!("{first}\nmore,8\n"));
        let expected = if first.starts_with("more") { 1 } else { 4 };
        assert!(predict("l.csv") >= expected, "{first}");
    }
    // Without a header the first row is an image.
    lab.write("l.csv", "images/a.png,8\nimages/b.png,8\n");
    assert_eq!(predict("l.csv"), 2);
}

#[test]
fn a_list_is_not_overwritten_by_what_it_lists() {
    let lab = Lab::new(1);
    let text = format!("path,label\n{},8\n", repository("data/samples/eight.png").display());
    lab.write("l.csv", &text);
    std::os::unix::fs::symlink("l.csv", lab.path("link.csv")).unwrap();
    for out in ["l.csv", "./l.csv", "link.csv"] {
        for command in ["predict", "extract"] {
            let model = repository(LETTERS);
            let run = lab.tl(&[command, "--model", model.to_str().unwrap(), "l.csv", "--out", out]).run();
            insta::allow_duplicates!(
                insta::assert_snapshot!(run.expect(2).told(), @"error: the output would replace the PATH l.csv: choose another name for `--out`")
            );
        }
    }
    // Nor by a file beside the output, nor by a shard of it.
    let mut answers = String::new();
    for (list, options) in [
        ("x.npy.index.csv", &["--out", "x.npy"][..]),
        ("x.npy.errors.csv", &["--out", "x.npy"]),
        ("x-00000-of-00002.csv", &["--out", "x.csv", "--shard", "0/2"]),
    ] {
        lab.write(list, &text);
        let model = repository(LETTERS);
        let run = lab.tl(&["extract", "--model", model.to_str().unwrap(), list]).args(options).run();
        answers += &answer("$", &format!("{list} {}", options.join(" ")), &run.expect(2).told());
        assert_eq!(String::from_utf8(lab.read(list)).unwrap(), text);
    }
    insta::assert_snapshot!(answers, @"
    $ x.npy.index.csv --out x.npy
    error: the output would replace the PATH x.npy.index.csv: choose another name for `--out`

    $ x.npy.errors.csv --out x.npy
    error: the output would replace the PATH x.npy.errors.csv: choose another name for `--out`

    $ x-00000-of-00002.csv --out x.csv --shard 0/2
    error: the output would replace the PATH x-00000-of-00002.csv: choose another name for `--out`
    ");
    assert_eq!(String::from_utf8(lab.read("l.csv")).unwrap(), text);
}
