use std::os::unix::fs::{chown, symlink};

use super::*;

/// A user that is not the tests'.
const ANOTHER: u32 = 54_321;

/// Gives `path` to another user; only root can. A skipped test says so.
fn give_away(path: &Path) -> bool {
    let given = std::os::unix::fs::lchown(path, Some(ANOTHER), None).is_ok();
    if !given {
        eprintln!("skipped: a file of another user's can only be made by root");
    }
    given
}

fn message<T>(result: io::Result<T>) -> String {
    result.map(drop).unwrap_err().to_string()
}

#[test]
fn nothing_is_opened_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("mine"), "mine").unwrap();
    symlink(at("mine"), at("link")).unwrap();
    symlink(at("nowhere"), at("loose")).unwrap();
    for link in ["link", "loose"] {
        let words = format!("{link} is a link, and is not written through: remove it");
        for message in [message(open(&at(link))), message(append(&at(link))), message(open_lock(&at(link)))] {
            assert!(message.ends_with(&words), "{message}");
        }
        assert_eq!(create_new(&at(link)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(message(open_own_to_read(&at(link))).contains("is a link"));
    }
    assert!(!at("nowhere").exists());
    assert_eq!(fs::read(at("mine")).unwrap(), b"mine");
    fs::create_dir(at("photos")).unwrap();
    symlink(at("photos"), at("folder")).unwrap();
    assert!(message(own_folder(&at("folder"))).contains("is a link"));
}

#[test]
fn a_file_is_as_long_as_it_was_and_has_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("x"), "long").unwrap();
    open(&at("x")).unwrap().write_all(b"s").unwrap();
    append(&at("x")).unwrap().write_all(b"er").unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"songer");
    fs::hard_link(at("x"), at("y")).unwrap();
    assert!(message(open(&at("y"))).contains("has a second name"));
    fs::create_dir(at("d")).unwrap();
    assert!(open(&at("d")).is_err());
    // A pipe that nobody writes to does not stop the program.
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    assert!(message(open(&at("pipe"))).contains("is no regular file"));
    assert!(message(open_own_to_read(&at("pipe"))).contains("is no regular file"));
}

#[test]
fn what_another_user_has_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("x"), "theirs").unwrap();
    fs::create_dir(at("d")).unwrap();
    if !(give_away(&at("x")) && give_away(&at("d"))) {
        return;
    }
    let words = format!("belongs to another user (uid {ANOTHER}): have it removed, or use another folder");
    for message in [message(open(&at("x"))), message(append(&at("x"))), message(own_folder(&at("d")))] {
        assert!(message.ends_with(&words), "{message}");
    }
    assert!(message(open_own_to_read(&at("x"))).ends_with(&words));
    // It may be read, and locked.
    open_to_read(&at("x")).unwrap();
    let (lock, own) = open_lock(&at("x")).unwrap();
    assert!(!own);
    lock.try_lock().unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"theirs");
    // Nor does a new file become open to all because theirs was.
    fs::set_permissions(at("x"), Permissions::from_mode(0o666)).unwrap();
    let new = create_new(&at("new")).unwrap();
    new.take_permissions_of(&at("x"));
    assert_eq!(fs::metadata(at("new")).unwrap().permissions().mode() & 0o002, 0);
    chown(at("x"), Some(0), None).unwrap();
    new.take_permissions_of(&at("x"));
    assert_eq!(fs::metadata(at("new")).unwrap().permissions().mode() & 0o777, 0o666);
}

#[test]
fn another_users_link_is_followed_in_that_users_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink("mine", &link).unwrap();
    assert!(may_follow(&link).unwrap());
    if !give_away(&link) {
        return;
    }
    assert!(!may_follow(&link).unwrap());
    assert!(give_away(folder.path()));
    assert!(may_follow(&link).unwrap());
}

#[test]
fn others_cannot_put_anything_into_a_folder_of_the_programs() {
    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("a/b/new"), folder.path().join("old"));
    own_folder(&new).unwrap();
    fs::create_dir(&old).unwrap();
    fs::set_permissions(&old, Permissions::from_mode(0o777)).unwrap();
    own_folder(&old).unwrap();
    for path in [&new, &old] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & OTHERS_WRITE, 0, "{path:?}");
    }
    own_folder(&new).unwrap();
}

#[test]
fn folders_are_created_as_by_the_standard_library() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    create_folders(&at("a/b/c")).unwrap();
    create_folders(&at("a/b/c")).unwrap();
    create_folders(&at("a/b/../d/e")).unwrap();
    assert!(at("a/b/c").is_dir() && at("a/d/e").is_dir());
    create_folders(Path::new("")).unwrap();
    fs::write(at("file"), "").unwrap();
    for name in ["file", "file/x", "file/x/y"] {
        let (own, std) = (create_folders(&at(name)), fs::create_dir_all(at(name)));
        assert_eq!(own.unwrap_err().kind(), std.unwrap_err().kind(), "{name}");
    }
}
