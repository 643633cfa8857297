//! What an output does with files that it finds: damaged, forged, another user's.

use std::os::unix::fs::{lchown, symlink};

use super::*;
use crate::output::{Done, FeatureWriter, Output};

/// A user that is not the tests'.
const ANOTHER: u32 = 54_321;

fn job() -> JobIdentity {
    JobIdentity::new("test")
}

fn done(images: u64) -> Done {
    Done { images, fingerprint: format!("the first {images}") }
}

fn begin(path: &Path) -> Result<Box<Partial>> {
    match Partial::begin(path, &job(), true)? {
        Begun::Partial(partial) => Ok(partial),
        Begun::Complete(_) => Err(Error::run("it is complete")),
    }
}

/// Adds rows to an output of one number an image, and commits after each.
fn write(path: &Path, images: std::ops::Range<u64>) -> FeatureWriter {
    let mut writer = FeatureWriter::open(path, 1, begin(path).unwrap()).unwrap();
    for image in images {
        writer.write_row(&format!("{image}.jpg"), "", &[image as f32]).unwrap();
        writer.commit(done(image + 1)).unwrap();
    }
    writer
}

fn refusal(path: &Path) -> String {
    begin(path).map(drop).unwrap_err().to_string()
}

#[test]
fn damaged_rows_are_told_and_made_again() {
    for ending in ["npy", "csv", "parquet", "safetensors"] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, path) =
            (folder.path().join(format!("whole.{ending}")), folder.path().join(format!("x.{ending}")));
        write(&whole, 0..9).finish(done(9)).unwrap();
        drop(write(&path, 0..6));
        let part = match ending {
            "npy" => "array.npy",
            "csv" => "rows.csv",
            "parquet" => "rows",
            _ => "numbers",
        };
        // A power cut has kept the length and lost the last bytes: of one row or of two.
        let part = folder.path().join(format!(".x.{ending}.partial/{part}"));
        let mut bytes = fs::read(&part).unwrap();
        let from = bytes.len() - 6;
        bytes[from..].fill(0);
        fs::write(&part, bytes).unwrap();
        let partial = begin(&path).unwrap();
        let kept = partial.progress().images;
        assert!((4..6).contains(&kept), "{ending}: {kept}");
        let lost = partial.lost().unwrap().to_string();
        assert!(lost.starts_with("the rows of ") && lost.contains(" lost, because the file `"), "{lost}");
        drop(partial);
        write(&path, kept..9).finish(done(9)).unwrap();
        assert!(fs::read(&whole).unwrap() == fs::read(&path).unwrap(), "{ending}");
    }
}

#[test]
fn nothing_is_gone_on_with_that_nothing_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    drop(write(&path, 0..3));
    let journal = folder.path().join(".x.npy.partial").join(JOURNAL);
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replacen("test", "tests", 1)).unwrap();
    let partial = begin(&path).unwrap();
    assert_eq!((partial.progress().images, partial.lost()), (0, Some(DAMAGED)));
    drop(partial);
    // An earlier version's.
    fs::create_dir(journal.parent().unwrap()).unwrap();
    fs::write(&journal, format!("{{\"job\":{},\"boot\":\"\"}}\n", serde_json::to_string(&job()).unwrap()))
        .unwrap();
    assert!(refusal(&path).contains("an earlier version of tl kept its rows, without checksums"));
}

#[test]
fn a_complete_output_is_known_by_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, index) = (folder.path().join("x.npy"), folder.path().join("x.npy.index.csv"));
    let record = folder.path().join(".x.npy.job");
    write(&path, 0..3).finish(done(3)).unwrap();
    let is_complete = || matches!(Partial::begin(&path, &job(), true).unwrap(), Begun::Complete(_));
    assert!(is_complete());
    for file in [&path, &index] {
        let good = fs::read(file).unwrap();
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(file, bytes).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let words = format!("{name} has changed since tl wrote it (by its sha256)");
        assert!(refusal(&path).contains(&words), "{}", refusal(&path));
        fs::write(file, good).unwrap();
    }
    assert!(is_complete());
    let text = fs::read_to_string(&record).unwrap();
    let old =
        format!("{{\"job\":{},\"progress\":{{}},\"bytes\":140}}", serde_json::to_string(&job()).unwrap());
    fs::write(&record, old).unwrap();
    assert!(refusal(&path).contains("an earlier version of tl wrote it, without a digest"));
    for hostile in [format!("{}{text}", " ".repeat(1 << 20)), "[".repeat(1 << 19)] {
        fs::write(&record, hostile).unwrap();
        assert!(refusal(&path).contains("cannot tell what wrote it"));
    }
    fs::write(&record, text).unwrap();
    // Who wrote the record must be who wrote the output.
    if lchown(&record, Some(ANOTHER), None).is_err() {
        eprintln!("skipped: a file of another user's can only be made by root");
        return;
    }
    assert!(refusal(&path).contains("cannot tell what wrote it"));
    lchown(&path, Some(ANOTHER), None).unwrap();
    assert!(is_complete());
}

#[test]
fn a_forged_journal_moves_and_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mine) = (folder.path().join("x.csv"), folder.path().join("mine.csv"));
    let hidden = folder.path().join(".x.csv.partial");
    for (name, ending, remove) in [
        ("../mine.csv", "", ""),
        (mine.to_str().unwrap(), "", ""),
        ("rows.csv", "/../mine.csv", ""),
        ("rows.csv", ".errors.csv", "/../mine.csv"),
    ] {
        fs::write(&mine, "mine").unwrap();
        fs::create_dir(&hidden).unwrap();
        fs::write(hidden.join("rows.csv"), "forged").unwrap();
        let mut places = Places::default();
        places.put(name, ending);
        places.remove.extend(Some(remove.to_string()).filter(|ending| !ending.is_empty()));
        places.read_digests(&hidden).unwrap();
        let forged = OutputProgress { images: 7, places: Some(places), ..OutputProgress::default() };
        drop(new_journal(&hidden, &job(), &forged).unwrap());
        let partial = begin(&path).unwrap();
        assert_eq!(partial.progress().images, 0);
        drop(partial);
        assert_eq!(fs::read(&mine).unwrap(), b"mine", "{name} {ending} {remove}");
        assert!(!path.exists() && !hidden.exists());
    }
}

#[test]
fn links_where_the_programs_files_are_expected_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (path, hidden) = (at("x.csv"), at(".x.csv.partial"));
    fs::create_dir(at("photos")).unwrap();
    fs::write(at("photos/lock"), "mine").unwrap();
    fs::write(at("photos/rows.csv"), "mine").unwrap();
    symlink("photos", &hidden).unwrap();
    assert!(refusal(&path).contains(".x.csv.partial is a link, and is not written through"));
    fs::remove_file(&hidden).unwrap();
    for (name, words) in [("lock", "lock is a link"), ("journal.jsonl", "journal.jsonl is a link")] {
        fs::create_dir(&hidden).unwrap();
        symlink("../photos/rows.csv", hidden.join(name)).unwrap();
        assert!(refusal(&path).contains(words), "{}", refusal(&path));
        fs::remove_dir_all(&hidden).unwrap();
    }
    // Other names are cleared away before they are used, or refused by those who open them.
    fs::create_dir(&hidden).unwrap();
    for name in ["rows.csv", "journal.new"] {
        symlink("../photos/rows.csv", hidden.join(name)).unwrap();
    }
    let writer = write(&path, 0..2);
    symlink("photos/rows.csv", at(".x.csv.job")).unwrap();
    writer.finish(done(2)).unwrap();
    assert!(!at(".x.csv.job").is_symlink());
    for name in ["lock", "rows.csv"] {
        assert_eq!(fs::read(at("photos").join(name)).unwrap(), b"mine", "{name}");
    }
}

#[test]
fn a_link_of_the_users_stays_one_and_another_users_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("disk")).unwrap();
    fs::write(at("disk/x.csv"), "old").unwrap();
    symlink("disk/x.csv", at("x.csv")).unwrap();
    let Begun::Partial(begun) = Partial::begin(&at("x.csv"), &job(), false).unwrap() else { panic!() };
    FeatureWriter::open(at("x.csv"), 1, begun).unwrap().finish(done(0)).unwrap();
    assert!(at("x.csv").is_symlink());
    let text = fs::read_to_string(at("disk/x.csv")).unwrap();
    assert!(text.starts_with("path,label,f0\n"), "{text}");
    assert!(matches!(Partial::begin(&at("x.csv"), &job(), true).unwrap(), Begun::Complete(_)));
    if lchown(at("x.csv"), Some(ANOTHER), None).is_err() {
        eprintln!("skipped: a link of another user's can only be made by root");
        return;
    }
    assert!(refusal(&at("x.csv")).contains("is a link of another user's, who can choose"));
    assert_eq!(fs::read_to_string(at("disk/x.csv")).unwrap(), text);
}

#[test]
fn another_users_rows_are_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (path, hidden) = (folder.path().join("x.csv"), folder.path().join(".x.csv.partial"));
    drop(write(&path, 0..2));
    let words = format!("belongs to another user (uid {ANOTHER})");
    for file in [hidden.join("journal.jsonl"), hidden.join("rows.csv"), hidden] {
        if lchown(&file, Some(ANOTHER), None).is_err() {
            eprintln!("skipped: a file of another user's can only be made by root");
            return;
        }
        assert!(refusal(&path).contains(&words), "{}", refusal(&path));
        lchown(&file, Some(0), None).unwrap();
    }
    assert_eq!(begin(&path).unwrap().progress().images, 2);
}

#[test]
fn rows_that_were_moved_away_are_not_put_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, hidden) = (folder.path().join("x.csv"), folder.path().join(".x.csv.partial"));
    let first = write(&path, 0..2);
    fs::rename(&hidden, folder.path().join("elsewhere")).unwrap();
    let second = write(&path, 0..1);
    let message = first.finish(done(2)).map(drop).unwrap_err().to_string();
    assert!(message.contains("its rows in ") && message.contains("moved or removed meanwhile"), "{message}");
    assert!(!path.exists());
    second.finish(done(1)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
}
