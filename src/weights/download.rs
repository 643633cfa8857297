//! Weight files: from the cache, or downloaded into it.
//!
//! The cache is PyTorch's own folder with PyTorch's own file names, so a file fetched by either
//! serves both. Every file is checked against the sha256 digits in its name, each time: a damaged
//! file in the cache is fetched again, and replaced only by a good one. Torchvision's names have
//! eight digits: enough against accidents, not against somebody who makes a file to fit. Against
//! that stands the connection, which is encrypted all the way if it begins so.
//!
//! A download grows in `NAME.partial`, which survives a broken connection, Ctrl-C and a power cut;
//! the next run resumes it. Two processes never write to it at once.

mod cache;
mod partial;
mod progress;
#[cfg(test)]
mod tests;
mod transfer;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use std::{env, thread};

use self::partial::{Hold, Partial};
pub use self::progress::{DownloadBar, DownloadProgress, Silent};
use self::transfer::{Event, Fault, FaultKind, Way};
use crate::error::{Error, Result};
use crate::text::path_text::path_text;
use crate::text::words::shown;
use crate::util::digest::{digits_in_name, sha256_of_file};

/// The address of torchvision's weights.
pub const BASE_URL: &str = "https://download.pytorch.org/models/";

/// The environment variable that replaces [`BASE_URL`].
pub const URL_VARIABLE: &str = "TL_WEIGHTS_URL";

/// No torchvision file is a fifth of this; it keeps an endless response from filling the disk.
const MAX_BYTES: u64 = 16 << 30;

/// A try that brought this much is no failure: a bad connection may break any number of times.
const PROGRESS: u64 = 1 << 20;

/// The longest time between two checks for a signal.
const POLL: Duration = Duration::from_millis(100);

/// PyTorch's cache of weight files:
/// `${TORCH_HOME:-${XDG_CACHE_HOME:-~/.cache}/torch}/hub/checkpoints`.
///
/// # Errors
/// [`Error::Run`] if neither variable is set and there is no home folder.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    cache::folder(set("TORCH_HOME"), set("XDG_CACHE_HOME"), env::home_dir())
}

/// The path of a file in the cache, if one of that name is there. Nothing is read or checked: for
/// listings.
pub fn cached(file_name: &str) -> Option<PathBuf> {
    Some(cache_dir().ok()?.join(file_name)).filter(|path| path.is_file())
}

/// The path of a weight file in the cache, downloaded if necessary, and always checked.
///
/// `file_name` is a published name such as `resnet18-f37072fd.pth`. The address before it is
/// [`BASE_URL`], or `TL_WEIGHTS_URL` (`http://`, `https://` or `file://`).
///
/// # Errors
/// [`Error::Usage`] for a name without digits or a wrong `TL_WEIGHTS_URL`, [`Error::Interrupted`]
/// when `progress` asks for it, [`Error::Io`] or [`Error::File`] if the cache cannot be written,
/// and [`Error::Run`], with the address and the place to put the file, if the download fails.
pub fn fetch(file_name: &str, progress: &dyn DownloadProgress) -> Result<PathBuf> {
    let base = env::var(URL_VARIABLE).ok().filter(|base| !base.trim().is_empty());
    Source::new(base.as_deref().unwrap_or(BASE_URL), cache_dir()?)?.fetch(file_name, progress)
}

/// Time limits and retries.
#[derive(Debug, Clone)]
struct Patience {
    /// For a connection.
    connect: Duration,
    /// For the next byte.
    stall: Duration,
    /// Bytes that have to come within that time, on average.
    least: u64,
    /// Tries in a row without progress.
    tries: u32,
    /// Wait after the first of them; doubled after each.
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(60),
            // 1 KiB a second: a telephone's modem was faster, and 100 MB take a day.
            least: 60 << 10,
            tries: 5,
            pause: Duration::from_millis(500),
        }
    }
}

/// Source and destination of files.
struct Source {
    /// Ends with a slash.
    base: String,
    /// `?` and the rest of the address, which may be a token; goes behind the file's name.
    query: String,
    cache: PathBuf,
    patience: Patience,
}

/// One file being downloaded.
struct DownloadJob<'a> {
    name: &'a str,
    digits: &'a str,
    url: String,
    target: PathBuf,
    progress: &'a dyn DownloadProgress,
    /// Whether the address is the user's.
    mirror: bool,
}

impl Source {
    fn new(base: &str, cache: PathBuf) -> Result<Self> {
        let base = base.trim();
        if !["http://", "https://", "file://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(Error::usage(format!(
                "{URL_VARIABLE} is '{}': expected an address that starts with https://, http:// or file://",
                shown(&without_secrets(base))
            )));
        }
        // A folder's name may have a question mark.
        let (base, query) = match base.find(['?', '#']).filter(|_| !base.starts_with("file:")) {
            Some(at) => base.split_at(at),
            None => (base, ""),
        };
        let query = query.split('#').next().unwrap_or_default().to_string();
        let base = format!("{}/", base.trim_end_matches('/'));
        Ok(Self { base, query, cache, patience: Patience::default() })
    }

    fn is_mirror(&self) -> bool {
        self.base != BASE_URL
    }

    fn fetch(&self, name: &str, progress: &dyn DownloadProgress) -> Result<PathBuf> {
        let digits = digits_in_name(name).filter(|_| !name.contains(['/', '\\'])).ok_or_else(|| {
            Error::usage(format!(
                "cannot fetch '{name}': expected a file name that ends in the first digits of its sha256, like \
                 resnet18-f37072fd.pth"
            ))
        })?;
        let (url, target) = (format!("{}{name}{}", self.base, self.query), self.cache.join(name));
        let job = DownloadJob { name, digits, url, target, progress, mirror: self.is_mirror() };
        let damaged = match job.check_cached()? {
            Cached::Good => return Ok(job.target),
            Cached::Missing => None,
            Cached::Damaged(hex) => Some(hex),
        };
        if let Some(hex) = &damaged {
            progress.notice(&format!(
                "{}: damaged (its sha256 starts with {}, not with {digits}); downloading it again",
                path_text(&job.target),
                &hex[..digits.len()],
            ));
        }
        let result = self.download(&job);
        progress.end();
        match (result, damaged) {
            (Err(Error::Run(message)), Some(_)) => {
                Err(Error::run(format!("{message}; the file that is there now is damaged")))
            }
            (result, _) => result.map(|()| job.target),
        }
    }

    fn download(&self, job: &DownloadJob) -> Result<()> {
        cache::create(&self.cache)?;
        let Some(mut partial) = self.hold(job)? else {
            return Ok(());
        };
        if partial.len() > MAX_BYTES {
            partial.restart()?;
        }
        // An earlier run may have stopped just before it put the file in place.
        if job.fits(&partial.hex()) {
            return partial.place(&job.target);
        }
        let mut started_over = false;
        loop {
            match self.base.strip_prefix("file://") {
                Some(folder) => job.copy(&Path::new(folder).join(job.name), &mut partial)?,
                None => self.download_bytes(job, &mut partial)?,
            }
            let hex = partial.hex();
            if job.fits(&hex) {
                return partial.place(&job.target);
            }
            // Parts of two responses may be parts of two files; only a file from one response is
            // known to be wrong.
            if !partial.is_pieced() || started_over {
                return Err(job.wrong_file(partial, &hex));
            }
            job.progress.notice(&format!("{}: the parts do not fit together; starting over", job.name));
            partial.restart()?;
            started_over = true;
        }
    }

    /// Locks the partial file, waiting for another process that holds it. `None` if that process
    /// has put a good file in place.
    fn hold(&self, job: &DownloadJob) -> Result<Option<Partial>> {
        let path = self.cache.join(format!("{}.partial", job.name));
        let mut waited = false;
        loop {
            match Partial::try_hold(&path)? {
                Hold::Ours(partial) => {
                    if matches!(job.check_cached()?, Cached::Good) {
                        partial.discard();
                        return Ok(None);
                    }
                    return Ok(Some(partial));
                }
                Hold::Taken if !waited => {
                    waited = true;
                    job.progress.notice(&format!("another process is downloading {}; waiting", job.name));
                }
                Hold::Taken => job.pause(2 * POLL)?,
            }
        }
    }

    /// Downloads until the server has sent everything, however often the connection breaks.
    fn download_bytes(&self, job: &DownloadJob, partial: &mut Partial) -> Result<()> {
        let agent = transfer::agent(&self.base, &self.patience);
        let way = Way::to(&self.base, self.is_mirror().then_some(URL_VARIABLE));
        let (mut failures, mut answered) = (0, false);
        loop {
            let before = partial.len();
            let fault = match self.exchange(&agent, &way, job, partial)? {
                Exchange::Complete => return Ok(()),
                Exchange::StartOver => Fault::new(FaultKind::Transient, "the server has a shorter file"),
                Exchange::Broken(fault) => fault,
            };
            let gained = partial.len().saturating_sub(before);
            answered |= gained > 0 || fault.kind == FaultKind::Transient;
            failures = if gained >= PROGRESS { 1 } else { failures + 1 };
            let tries = match fault.kind {
                FaultKind::Final => 1,
                FaultKind::Unreachable if !answered => self.patience.tries.min(2),
                _ => self.patience.tries,
            };
            if failures >= tries {
                return Err(job.unreachable(&match partial.len() {
                    0 => fault.reason,
                    len => format!(
                        "{}; the {} that came are kept, and the next run goes on from there",
                        fault.reason,
                        indicatif::DecimalBytes(len)
                    ),
                }));
            }
            let pause = self.patience.pause * 2u32.pow(failures.min(16) - 1);
            let at = match partial.len() {
                0 => String::new(),
                len => format!(" at {}", indicatif::DecimalBytes(len)),
            };
            job.progress.notice(&format!("{}: {}{at}; trying again", job.name, fault.reason));
            job.pause(pause)?;
        }
    }

    /// One request, from the end of the partial file on.
    fn exchange(
        &self,
        agent: &ureq::Agent,
        way: &Way,
        job: &DownloadJob,
        partial: &mut Partial,
    ) -> Result<Exchange> {
        let events = transfer::start(agent, &job.url, partial.len(), &self.patience, way);
        let mut total = None;
        let broken = |reason: &str| Ok(Exchange::Broken(Fault::new(FaultKind::Transient, reason)));
        loop {
            job.check_signal()?;
            let event = match events.recv_timeout(POLL) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return broken("the connection broke"),
            };
            match event {
                Event::Head(head) => {
                    if head.start == 0 {
                        // The server does not support ranges, or nothing is there yet.
                        partial.restart()?;
                    } else if head.start != partial.len() {
                        partial.restart()?;
                        return broken("the server sent another part than asked for");
                    }
                    if head.total.is_some_and(|total| total > MAX_BYTES) {
                        return Err(job.endless());
                    }
                    partial.next_piece();
                    total = head.total;
                    job.progress.begin(job.name, &job.target, partial.len(), total);
                }
                Event::Bytes(bytes) => {
                    if partial.len() + bytes.len() as u64 > MAX_BYTES {
                        return Err(job.endless());
                    }
                    partial.append(&bytes)?;
                    job.progress.advance(partial.len());
                }
                Event::End => {
                    return match total.is_some_and(|total| partial.len() < total) {
                        true => broken("the connection broke"),
                        false => Ok(Exchange::Complete),
                    };
                }
                Event::OutOfRange if partial.len() == 0 => {
                    return broken("the server answered 416 (Range Not Satisfiable)");
                }
                Event::OutOfRange => {
                    partial.restart()?;
                    return Ok(Exchange::StartOver);
                }
                Event::Fault(fault) => return Ok(Exchange::Broken(fault)),
            }
        }
    }
}

/// Outcome of a request.
enum Exchange {
    Complete,
    /// The partial file was longer than the server's, and was emptied.
    StartOver,
    Broken(Fault),
}

/// State of a file in the cache.
enum Cached {
    Missing,
    Good,
    /// With its actual digest.
    Damaged(String),
}

impl DownloadJob<'_> {
    fn fits(&self, hex: &str) -> bool {
        hex.starts_with(self.digits)
    }

    fn check_cached(&self) -> Result<Cached> {
        match fs::metadata(&self.target) {
            Ok(found) if found.is_dir() => {
                return Err(Error::file(
                    &self.target,
                    "is a folder, where a weight file should be; move it away",
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Cached::Missing),
            Err(error) => return Err(Error::io("read", &self.target)(error)),
        }
        let hex = sha256_of_file(&self.target)?;
        Ok(if self.fits(&hex) { Cached::Good } else { Cached::Damaged(hex) })
    }

    /// Copies the file from a folder.
    fn copy(&self, from: &Path, partial: &mut Partial) -> Result<()> {
        partial.restart()?;
        let mut file = File::open(from).map_err(Error::io("read", from))?;
        let total = file.metadata().map_err(Error::io("read", from))?.len();
        self.progress.begin(self.name, &self.target, 0, Some(total));
        let mut chunk = vec![0; 1 << 17];
        loop {
            self.check_signal()?;
            match file.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => partial.append(&chunk[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", from)(error)),
            }
            self.progress.advance(partial.len());
            if partial.len() > MAX_BYTES {
                return Err(self.endless());
            }
        }
    }

    fn check_signal(&self) -> Result<()> {
        match self.progress.interrupted() {
            None => Ok(()),
            Some(signal) => {
                let message =
                    format!("stopped while downloading {}; the next run goes on from there", self.name);
                Err(Error::Interrupted { signal, message })
            }
        }
    }

    /// Sleeps, interrupted by a signal.
    fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check_signal()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                left => thread::sleep(left.min(POLL)),
            }
        }
    }

    fn unreachable(&self, reason: &str) -> Error {
        Error::run(format!(
            "cannot download {}: {reason}; fetch {} by other means and put it at {}, or name {} mirror in \
             {URL_VARIABLE}",
            self.name,
            without_secrets(&self.url),
            path_text(&self.target),
            if self.mirror { "another" } else { "a" },
        ))
    }

    fn wrong_file(&self, partial: Partial, hex: &str) -> Error {
        let size = partial.len();
        partial.discard();
        let found = &hex[..self.digits.len()];
        Error::run(format!(
            "{} is not the file that its name promises: expected a sha256 that starts with {}, found {found} \
             ({size} bytes, deleted); a proxy, a login page or an incomplete mirror may have answered in its \
             place: fetch the file by other means and put it at {}",
            without_secrets(&self.url),
            self.digits,
            path_text(&self.target),
        ))
    }

    fn endless(&self) -> Error {
        self.unreachable("the server sends more than any weight file has")
    }
}

/// An address without credentials: `https://user:secret@host/?token=x` without `user:secret@`, and
/// `…` for the query.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| *scheme != "file") else {
        return url.to_string();
    };
    let (rest, query) = rest.find('?').map_or((rest, ""), |at| (&rest[..at], "?…"));
    let host_end = rest.find('/').unwrap_or(rest.len());
    let rest = rest[..host_end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
    format!("{scheme}://{rest}{query}")
}
