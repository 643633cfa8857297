//! Downloads from a loopback server that misbehaves as real ones do.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::util::digest::Hasher;

/// The server's response to one request.
struct Answer {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
    /// Whether the connection then stays open and silent instead of closing.
    stall: bool,
    /// Bytes of the body to send at once, and the pause after them; all if absent.
    drip: Option<(usize, Duration)>,
}

impl Answer {
    fn new(status: &'static str, body: &[u8]) -> Self {
        let headers = vec![format!("Content-Length: {}", body.len())];
        Self { status, headers, body: body.to_vec(), stall: false, drip: None }
    }

    /// The whole file, or the requested part.
    fn file(content: &[u8], range: Option<u64>) -> Self {
        let Some(start) = range else {
            return Self::new("200 OK", content);
        };
        let total = content.len();
        match content.get(start as usize..) {
            Some(part) if !part.is_empty() => {
                let mut answer = Self::new("206 Partial Content", part);
                answer.headers.push(format!("Content-Range: bytes {start}-{}/{total}", total - 1));
                answer
            }
            _ => {
                let mut answer = Self::new("416 Range Not Satisfiable", b"");
                answer.headers.push(format!("Content-Range: bytes */{total}"));
                answer
            }
        }
    }

    /// Announces everything but sends only the first bytes.
    fn cut(mut self, after: usize) -> Self {
        self.body.truncate(after);
        self
    }

    fn send(self, stream: &mut TcpStream) -> io::Result<()> {
        let headers: String = self.headers.iter().map(|header| format!("{header}\r\n")).collect();
        write!(stream, "HTTP/1.1 {}\r\n{headers}Connection: close\r\n\r\n", self.status)?;
        let (at_once, pause) = self.drip.unwrap_or((usize::MAX, Duration::ZERO));
        for part in self.body.chunks(at_once) {
            stream.write_all(part)?;
            stream.flush()?;
            thread::sleep(pause);
        }
        if self.stall {
            thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    }
}

/// The path, and the requested offset.
type Request = (String, Option<u64>);

/// A server on its own port; it ends with the test process.
struct Server {
    base: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer(n, range)` answers the `n`th request, counted from 0.
    fn start(answer: impl Fn(usize, Option<u64>) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/models/", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (path, range) = read_request(&stream);
                let mut log = log.lock().unwrap();
                let answer = answer(log.len(), range);
                log.push((path, range));
                drop(log);
                // A client may hang up early.
                thread::spawn(move || answer.send(&mut stream).ok());
            }
        });
        Self { base, seen }
    }

    fn ranges(&self) -> Vec<Option<u64>> {
        self.seen.lock().unwrap().iter().map(|(_, range)| *range).collect()
    }
}

fn read_request(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_string();
    let mut range = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        if name.eq_ignore_ascii_case("range") {
            range = Some(value.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap());
        }
    }
    (path, range)
}

/// Bytes that differ for every size and offset, and their file name.
fn file(len: usize) -> (Vec<u8>, String) {
    let content: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let name = format!("net-{}.pth", &hex(&content)[..8]);
    (content, name)
}

fn hex(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.hex()
}

fn source(base: &str, cache: &TempDir) -> Source {
    let mut source = Source::new(base, cache.path().join("hub/checkpoints")).unwrap();
    source.patience.pause = Duration::from_millis(1);
    source.patience.stall = Duration::from_millis(300);
    source
}

/// Records its calls, and may interrupt.
#[derive(Default)]
struct Recorder {
    notices: RefCell<Vec<String>>,
    begun: RefCell<Vec<(u64, Option<u64>)>>,
    last: Cell<u64>,
    stop_at: Option<u64>,
}

impl DownloadProgress for Recorder {
    fn begin(&self, _: &str, _: &Path, done: u64, total: Option<u64>) {
        self.begun.borrow_mut().push((done, total));
    }
    fn advance(&self, done: u64) {
        assert!(done > self.last.get() || self.begun.borrow().last().unwrap().0 == 0);
        self.last.set(done);
    }
    fn notice(&self, message: &str) {
        self.notices.borrow_mut().push(message.into());
    }
    fn interrupted(&self) -> Option<i32> {
        self.stop_at.is_some_and(|bytes| self.last.get() >= bytes).then_some(2)
    }
}

fn partial_of(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.partial", path.file_name().unwrap().to_str().unwrap()))
}

#[test]
fn a_file_is_fetched_once_and_then_taken_from_the_cache() {
    let (content, name) = file(300_000);
    let served = content.clone();
    let server = Server::start(move |_, range| Answer::file(&served, range));
    let cache = TempDir::new().unwrap();
    let source = source(&server.base, &cache);
    let seen = Recorder::default();
    let path = source.fetch(&name, &seen).unwrap();
    assert_eq!(path, cache.path().join("hub/checkpoints").join(&name));
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(*seen.begun.borrow(), [(0, Some(300_000))]);
    assert_eq!(seen.last.get(), 300_000);
    assert!(!partial_of(&path).exists());
    source.fetch(&name, &Silent).unwrap();
    assert_eq!(*server.seen.lock().unwrap(), [(format!("/models/{name}"), None)]);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_connection_that_breaks_often_is_resumed_where_it_broke() {
    let (content, name) = file(10 << 20);
    let served = content.clone();
    // More often than the limit on tries in a row: each brings a megabyte, so none counts as
    // failed.
    let server = Server::start(move |_, range| Answer::file(&served, range).cut((1 << 20) + 5));
    let cache = TempDir::new().unwrap();
    let path = source(&server.base, &cache).fetch(&name, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    let ranges = server.ranges();
    assert_eq!(ranges[..3], [None, Some((1 << 20) + 5), Some((2 << 20) + 10)]);
    assert_eq!(ranges.len(), 10);
}

#[test]
fn an_earlier_runs_part_is_gone_on_with() {
    let (content, name) = file(5_000);
    let served = content.clone();
    let server = Server::start(move |_, range| Answer::file(&served, range));
    let cache = TempDir::new().unwrap();
    let source = source(&server.base, &cache);
    fs::create_dir_all(&source.cache).unwrap();
    fs::write(source.cache.join(format!("{name}.partial")), &content[..1_234]).unwrap();
    let path = source.fetch(&name, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(server.ranges(), [Some(1_234)]);
}

#[test]
fn a_part_is_not_written_through_a_link_nor_if_it_is_another_users() {
    let (content, name) = file(5_000);
    let served = content.clone();
    let server = Server::start(move |_, range| Answer::file(&served, range));
    let cache = TempDir::new().unwrap();
    let source = source(&server.base, &cache);
    fs::create_dir_all(&source.cache).unwrap();
    let (mine, part) = (cache.path().join("mine"), source.cache.join(format!("{name}.partial")));
    fs::write(&mine, "mine").unwrap();
    std::os::unix::fs::symlink(&mine, &part).unwrap();
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains(".partial is a link, and is not written through"), "{message}");
    fs::remove_file(&part).unwrap();
    fs::hard_link(&mine, &part).unwrap();
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains("or has a second name"), "{message}");
    fs::remove_file(&part).unwrap();
    fs::write(&part, "theirs").unwrap();
    let given = std::os::unix::fs::chown(&part, Some(54_321), None).is_ok();
    if given {
        let message = source.fetch(&name, &Silent).unwrap_err().to_string();
        assert!(message.contains("is another user's download that was stopped"), "{message}");
        assert_eq!(fs::read(&part).unwrap(), b"theirs");
        // A complete file of another user's is read as any.
        fs::write(source.cache.join(&name), &content).unwrap();
        std::os::unix::fs::chown(source.cache.join(&name), Some(54_321), None).unwrap();
        source.fetch(&name, &Silent).unwrap();
    } else {
        eprintln!("skipped: a file of another user's can only be made by root");
    }
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
}

#[test]
fn a_complete_part_needs_no_network() {
    let (content, name) = file(5_000);
    let cache = TempDir::new().unwrap();
    let source = source("http://127.0.0.1:1/", &cache);
    fs::create_dir_all(&source.cache).unwrap();
    fs::write(source.cache.join(format!("{name}.partial")), &content).unwrap();
    assert_eq!(fs::read(source.fetch(&name, &Silent).unwrap()).unwrap(), content);
}

#[test]
fn another_files_part_and_too_long_a_part_are_started_over() {
    let (content, name) = file(5_000);
    for left in [vec![7; 1_000], vec![7; 9_000], vec![7; 5_000]] {
        let served = content.clone();
        let server = Server::start(move |_, range| Answer::file(&served, range));
        let cache = TempDir::new().unwrap();
        let source = source(&server.base, &cache);
        fs::create_dir_all(&source.cache).unwrap();
        fs::write(source.cache.join(format!("{name}.partial")), &left).unwrap();
        assert_eq!(fs::read(source.fetch(&name, &Silent).unwrap()).unwrap(), content);
        assert_eq!(server.ranges(), [Some(left.len() as u64), None]);
    }
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let (content, name) = file(2_000);
    let served = content.clone();
    let server =
        Server::start(move |n, _| Answer::file(&served, None).cut(if n < 2 { 1_500 } else { usize::MAX }));
    let cache = TempDir::new().unwrap();
    let path = source(&server.base, &cache).fetch(&name, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(server.ranges(), [None, Some(1_500), Some(1_500)]);
}

#[test]
fn a_server_that_answers_another_part_is_not_believed() {
    let (content, name) = file(2_000);
    let served = content.clone();
    let server = Server::start(move |n, range| match n {
        0 => Answer::file(&served, None).cut(900),
        1 => Answer::file(&served, Some(400)),
        _ => Answer::file(&served, range),
    });
    let cache = TempDir::new().unwrap();
    let path = source(&server.base, &cache).fetch(&name, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(server.ranges(), [None, Some(900), None]);
}

#[test]
fn a_wrong_file_is_deleted_and_refused_with_both_digests() {
    let (content, name) = file(2_000);
    let wrong = content[..1_999].to_vec();
    let found = hex(&wrong)[..8].to_string();
    let server = Server::start(move |_, range| Answer::file(&wrong, range));
    let cache = TempDir::new().unwrap();
    let source = source(&server.base, &cache);
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains(&format!("starts with {}, found {found}", &name[4..12])), "{message}");
    assert!(message.contains("1999 bytes"), "{message}");
    assert_eq!(fs::read_dir(&source.cache).unwrap().count(), 0);
    assert_eq!(server.ranges(), [None]);
}

#[test]
fn a_wrong_file_over_a_bad_line_is_refused_too() {
    let (content, name) = file(2_000);
    let wrong = content[..1_999].to_vec();
    let server =
        Server::start(move |n, range| Answer::file(&wrong, range).cut(if n % 2 == 0 { 700 } else { 9_999 }));
    let cache = TempDir::new().unwrap();
    let message = source(&server.base, &cache).fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains("is not the file that its name promises"), "{message}");
    assert_eq!(server.ranges(), [None, Some(700), None, Some(700)]);
}

#[test]
fn a_login_page_leaves_the_part_alone() {
    let (content, name) = file(2_000);
    let server = Server::start(|_, _| {
        let mut answer = Answer::new("200 OK", b"<html>Welcome to the hotel</html>");
        answer.headers.push("Content-Type: text/html; charset=utf-8".into());
        answer
    });
    let cache = TempDir::new().unwrap();
    let source = source(&server.base, &cache);
    fs::create_dir_all(&source.cache).unwrap();
    let partial = source.cache.join(format!("{name}.partial"));
    fs::write(&partial, &content[..1_800]).unwrap();
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains("web page"), "{message}");
    assert_eq!(fs::read(&partial).unwrap(), &content[..1_800]);
}

#[test]
fn refusals_are_final_and_name_the_address_and_the_place() {
    for status in ["404 Not Found", "403 Forbidden"] {
        let server = Server::start(move |_, _| Answer::new(status, b"no"));
        let cache = TempDir::new().unwrap();
        let source = source(&server.base, &cache);
        let message = source.fetch("net-01234567.pth", &Silent).unwrap_err().to_string();
        assert!(message.contains(status.split(' ').next().unwrap()), "{message}");
        assert!(message.contains(&format!("{}net-01234567.pth", server.base)), "{message}");
        assert!(message.contains(&source.cache.join("net-01234567.pth").display().to_string()), "{message}");
        assert_eq!(server.ranges().len(), 1);
        assert_eq!(fs::read_dir(&source.cache).unwrap().count(), 0);
    }
}

#[test]
fn answers_without_end_are_given_up_on() {
    let circle = Server::start(|_, _| Answer {
        headers: vec!["Location: again".into(), "Content-Length: 0".into()],
        ..Answer::new("302 Found", b"")
    });
    let cache = TempDir::new().unwrap();
    let message = source(&circle.base, &cache).fetch("net-01234567.pth", &Silent).unwrap_err().to_string();
    assert!(message.contains("redirects in circles"), "{message}");
    assert!(circle.ranges().len() < 20, "{}", circle.ranges().len());

    let talkative = Server::start(|_, _| Answer {
        headers: (0..100_000).map(|index| format!("X-Header-{index}: {index}")).collect(),
        ..Answer::new("200 OK", b"")
    });
    let message = source(&talkative.base, &cache).fetch("net-01234567.pth", &Silent).unwrap_err().to_string();
    assert!(message.contains("header") && message.len() < 500, "{message}");
    assert_eq!(fs::read_dir(cache.path().join("hub/checkpoints")).unwrap().count(), 0);
}

#[test]
fn a_servers_own_trouble_is_tried_again_but_not_for_ever() {
    let (content, name) = file(2_000);
    let served = content.clone();
    let server = Server::start(move |n, range| match n {
        0 => Answer::new("500 Internal Server Error", b""),
        1 => Answer::new("503 Service Unavailable", b""),
        _ => Answer::file(&served, range),
    });
    let cache = TempDir::new().unwrap();
    let seen = Recorder::default();
    source(&server.base, &cache).fetch(&name, &seen).unwrap();
    assert_eq!(seen.notices.borrow().len(), 2);

    let server = Server::start(|_, _| Answer::new("500 Internal Server Error", b""));
    let cache = TempDir::new().unwrap();
    let message = source(&server.base, &cache).fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains("500 (Internal Server Error)"), "{message}");
    assert_eq!(server.ranges().len(), 5);
}

#[test]
fn a_silent_server_is_given_up_on() {
    let (content, name) = file(2_000);
    let served = content.clone();
    let server = Server::start(move |n, range| match n {
        0 => Answer { stall: true, ..Answer::file(&served, range).cut(700) },
        _ => Answer::file(&served, range),
    });
    let cache = TempDir::new().unwrap();
    let seen = Recorder::default();
    let path = source(&server.base, &cache).fetch(&name, &seen).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert!(seen.notices.borrow()[0].contains("sent nothing for 0.3 s"), "{:?}", seen.notices.borrow());
}

#[test]
fn a_server_that_drips_is_given_up_on_and_gone_on_with() {
    let (content, name) = file(100_000);
    let served = content.clone();
    let server = Server::start(move |n, range| match n {
        0..2 => Answer { drip: Some((1, Duration::from_millis(5))), ..Answer::file(&served, range) },
        // Slow, and fast enough.
        _ => Answer { drip: Some((5000, Duration::from_millis(10))), ..Answer::file(&served, range) },
    });
    let cache = TempDir::new().unwrap();
    let mut source = source(&server.base, &cache);
    (source.patience.tries, source.patience.least) = (2, 1000);
    let seen = Recorder::default();
    let message = source.fetch(&name, &seen).unwrap_err().to_string();
    let part = fs::metadata(source.cache.join(format!("{name}.partial"))).unwrap().len();
    assert!(message.contains("(TL_WEIGHTS_URL) sent only ") && message.contains(" bytes in 0."), "{message}");
    let kept = format!("; the {part} B that came are kept, and the next run goes on from there");
    assert!(message.contains(&kept), "{message}");
    assert!(seen.notices.borrow()[0].contains("trying again"), "{:?}", seen.notices.borrow());
    let path = source.fetch(&name, &Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(server.ranges()[2], Some(part));
}

#[test]
fn no_server_at_all_is_said_soon() {
    // A port that was just free.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cache = TempDir::new().unwrap();
    let source = source(&format!("http://user:secret@127.0.0.1:{port}"), &cache);
    let message = source.fetch("net-01234567.pth", &Silent).unwrap_err().to_string();
    let url = format!("http://127.0.0.1:{port}/net-01234567.pth");
    assert!(message.contains("refuses the connection") && message.contains(&url), "{message}");
}

#[test]
fn a_damaged_file_in_the_cache_is_replaced_only_by_a_good_one() {
    let (content, name) = file(2_000);
    let served = content.clone();
    let server = Server::start(move |n, range| match n {
        0 => Answer::new("404 Not Found", b""),
        _ => Answer::file(&served, range),
    });
    let cache = TempDir::new().unwrap();
    let source = source(&server.base, &cache);
    fs::create_dir_all(&source.cache).unwrap();
    let path = source.cache.join(&name);
    fs::write(&path, b"half a fi").unwrap();
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.ends_with("the file that is there now is damaged"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"half a fi");
    let seen = Recorder::default();
    source.fetch(&name, &seen).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert!(seen.notices.borrow()[0].contains("damaged"), "{:?}", seen.notices.borrow());
}

#[test]
fn a_signal_keeps_the_part() {
    let (content, name) = file(1 << 20);
    let served = content.clone();
    let server =
        Server::start(move |_, range| Answer { stall: true, ..Answer::file(&served, range).cut(1 << 19) });
    let cache = TempDir::new().unwrap();
    let source = source(&server.base, &cache);
    let seen = Recorder { stop_at: Some(1 << 19), ..Recorder::default() };
    let error = source.fetch(&name, &seen).unwrap_err();
    assert_eq!(error.exit_code(), 130);
    assert_eq!(fs::read(source.cache.join(format!("{name}.partial"))).unwrap(), &content[..1 << 19]);
}

#[test]
fn two_at_once_fetch_one_file() {
    let (content, name) = file(1 << 20);
    let served = content.clone();
    let server = Server::start(move |_, range| {
        thread::sleep(Duration::from_millis(100));
        Answer::file(&served, range)
    });
    let cache = TempDir::new().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let path = source(&server.base, &cache).fetch(&name, &Silent).unwrap();
                assert_eq!(fs::read(path).unwrap(), content);
            });
        }
    });
    assert_eq!(server.ranges(), [None]);
    assert_eq!(fs::read_dir(cache.path().join("hub/checkpoints")).unwrap().count(), 1);
}

#[test]
fn a_folder_is_a_mirror_too() {
    let (content, name) = file(2_000);
    let (mirror, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = source(&format!("file://{}", mirror.path().display()), &cache);
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains(&mirror.path().join(&name).display().to_string()), "{message}");
    fs::write(mirror.path().join(&name), &content[1..]).unwrap();
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains("is not the file that its name promises"), "{message}");
    fs::write(mirror.path().join(&name), &content).unwrap();
    assert_eq!(fs::read(source.fetch(&name, &Silent).unwrap()).unwrap(), content);
}

#[test]
fn a_cache_that_cannot_be_a_folder_is_said() {
    let cache = TempDir::new().unwrap();
    fs::write(cache.path().join("hub"), b"a file").unwrap();
    let message =
        source("http://127.0.0.1:1/", &cache).fetch("net-01234567.pth", &Silent).unwrap_err().to_string();
    assert!(message.contains("hub/checkpoints"), "{message}");
}

#[test]
fn names_and_addresses_are_checked() {
    let cache = TempDir::new().unwrap();
    let source = source("http://127.0.0.1:1", &cache);
    for name in ["net.pth", "../net-01234567.pth", "", "net-0123.pth"] {
        assert_eq!(source.fetch(name, &Silent).unwrap_err().exit_code(), 2, "{name}");
    }
    let error = Source::new("mirror.example.com/models", cache.path().into()).map(drop).unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    let error =
        Source::new("ftp://me:secret@host/?token=1\u{1b}", cache.path().into()).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("TL_WEIGHTS_URL is 'ftp://host/?…': expected"), "{error}");
    assert_eq!(without_secrets("https://me:pw@host/a@b"), "https://host/a@b");
    assert_eq!(without_secrets("https://host/a@b"), "https://host/a@b");
    assert_eq!(without_secrets("https://me:p?w@host/a"), "https://me:p?…", "a raw ? ends the host");
    assert_eq!(without_secrets("file:///folder?/a@b"), "file:///folder?/a@b");
}

#[test]
fn a_token_stays_behind_the_files_name_and_in_no_message() {
    let (content, name) = file(1_000);
    let served = content.clone();
    let server = Server::start(move |n, range| match n {
        0 => Answer::new("403 Forbidden", b""),
        _ => Answer::file(&served, range),
    });
    let cache = TempDir::new().unwrap();
    let source = source(&format!("{}?sig=secret&v=2#part", server.base), &cache);
    let message = source.fetch(&name, &Silent).unwrap_err().to_string();
    assert!(message.contains("answered 403") && !message.contains("secret"), "{message}");
    assert!(message.contains(&format!("/models/{name}?…")), "{message}");
    assert_eq!(fs::read(source.fetch(&name, &Silent).unwrap()).unwrap(), content);
    let paths: Vec<String> = server.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, vec![format!("/models/{name}?sig=secret&v=2"); 2]);
}

#[test]
fn a_connection_that_begins_with_https_stays_so() {
    let server = Server::start(|n, range| match n {
        0 => {
            let mut answer = Answer::new("302 Found", b"");
            answer.headers.push("Location: there".into());
            answer
        }
        _ => Answer::file(b"12345678", range),
    });
    let patience = Patience::default();
    let first = |base: &str| {
        let agent = transfer::agent(base, &patience);
        transfer::start(&agent, &format!("{}net.pth", server.base), 0, &patience, &Way::to(base, None))
            .recv()
            .unwrap()
    };
    // What the agent of an encrypted address asks for, a redirect's address included, is encrypted.
    let Event::Fault(fault) = first("https://localhost/") else { panic!("http was asked for") };
    assert_eq!(fault.kind, FaultKind::Final);
    assert!(
        fault.reason.ends_with("is not secure: it redirects to an address without https"),
        "{}",
        fault.reason
    );
    assert!(server.seen.lock().unwrap().is_empty());
    assert!(matches!(first(&server.base), Event::Head(_)));
    assert_eq!(server.seen.lock().unwrap().len(), 2);
}

#[test]
fn the_cache_is_pytorchs() {
    let some = |path: &str| Some(PathBuf::from(path));
    let path = |torch, cache, home| cache::folder(torch, cache, home).map(|path| path.display().to_string());
    assert_eq!(path(some("/t"), some("/x"), some("/h")).unwrap(), "/t/hub/checkpoints");
    assert_eq!(path(None, some("/x"), some("/h")).unwrap(), "/x/torch/hub/checkpoints");
    assert_eq!(path(None, None, some("/h")).unwrap(), "/h/.cache/torch/hub/checkpoints");
    assert_eq!(path(some("~/t"), None, some("/h")).unwrap(), "/h/t/hub/checkpoints");
    assert!(path(None, None, None).unwrap_err().to_string().contains("TORCH_HOME"));
}
