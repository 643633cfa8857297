//! One HTTP exchange, as a stream of events.
//!
//! It runs in its own thread, so that the receiver can check several times a second (for a signal,
//! a cancelled run) even while the network is silent. When the receiver is dropped the thread ends
//! with the next bytes, or with the time limit.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, http};

use super::Patience;

/// Bytes per event.
const CHUNK: usize = 1 << 17;

/// Chunks that may wait for the disk: 1 MB.
const QUEUE: usize = 8;

/// A web page (a network's login page, say) is smaller than this; no weight file is.
const PAGE: u64 = 1 << 20;

/// Events of an exchange: a head, bytes, and an end; or a fault at any point.
pub(super) enum Event {
    /// The server accepted; its description of the bytes to come.
    Head(ResponseHead),
    /// The next bytes.
    Bytes(Vec<u8>),
    /// The server has sent everything that it announced.
    End,
    /// Nothing exists at or beyond the requested offset (416).
    OutOfRange,
    /// A failure.
    Fault(Fault),
}

/// The server's description of the bytes to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ResponseHead {
    /// Their offset in the file: 0 if the server does not support ranges.
    pub start: u64,
    /// The size of the whole file, if known.
    pub total: Option<u64>,
}

/// Why an exchange failed.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// In plain words, without the address.
    pub reason: String,
    /// Whether a retry may help.
    pub kind: FaultKind,
}

/// Whether a retry may help.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FaultKind {
    /// No.
    Final,
    /// Nobody answered: unlikely, unless the server has answered before.
    Unreachable,
    /// Yes.
    Transient,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind }
    }
}

/// The server and proxy on the way to a file, for messages.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// The server.
    server: String,
    /// The proxy before it, if any.
    proxy: Option<String>,
}

/// Proxy variables, in ureq's order.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

impl Way {
    /// The way to `base`; `mirror` is the variable that set it, if any.
    pub(super) fn to(base: &str, mirror: Option<&str>) -> Way {
        let uri = base.parse::<http::Uri>().unwrap_or_default();
        let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", uri.host().unwrap_or("the server"));
        let server = match mirror {
            Some(variable) => format!("the mirror {host} ({variable})"),
            None => host,
        };
        let proxy = proxy(base).filter(|proxy| !proxy.is_no_proxy(&uri)).map(|proxy| {
            let names = |variable: &&&str| std::env::var(variable).is_ok_and(|it| Proxy::new(&it).is_ok());
            let variable = PROXY_VARIABLES.iter().find(names).unwrap_or(&PROXY_VARIABLES[0]);
            format!("the proxy {}:{} ({variable})", proxy.host(), proxy.port())
        });
        Way { server, proxy }
    }

    /// The first host to be contacted.
    fn first(&self) -> &str {
        self.proxy.as_deref().unwrap_or(&self.server)
    }

    /// The fault of an unreachable host: repairing the proxy, or avoiding it, is up to the user.
    fn unreachable(&self, what: impl std::fmt::Display) -> Fault {
        let advice =
            if self.proxy.is_some() { "; mend the variable, or unset it if there is no proxy" } else { "" };
        Fault::new(FaultKind::Unreachable, format!("{what}{advice}"))
    }

    /// The server, and the proxy used.
    fn through(&self) -> String {
        match &self.proxy {
            Some(proxy) => format!("{}, through {proxy},", self.server),
            None => self.server.clone(),
        }
    }
}

fn proxy(base: &str) -> Option<Proxy> {
    if is_loopback(base) { None } else { Proxy::try_from_env() }
}

/// An HTTP client: the system's proxy variables and certificates, and time limits.
pub(super) fn agent(base: &str, patience: &Patience) -> Agent {
    let proxy = proxy(base);
    Agent::new_with_config(
        Agent::config_builder()
            .http_status_as_error(false)
            // Of redirects too.
            .https_only(base.starts_with("https:"))
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(root_certificates(base)).build())
            // A compressed body would change the meaning of byte offsets.
            .accept_encoding("identity")
            .user_agent(concat!("tl/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.stall))
            .timeout_per_read(Some(patience.stall))
            .build(),
    )
}

/// Starts `GET url` from byte `from` on.
pub(super) fn start(agent: &Agent, url: &str, from: u64, patience: &Patience, way: &Way) -> Receiver<Event> {
    let (sender, receiver) = sync_channel(QUEUE);
    let (agent, url, patience, way) = (agent.clone(), url.to_string(), patience.clone(), way.clone());
    thread::spawn(move || {
        if let Err(fault) = exchange(&agent, &url, from, &patience, &way, &sender) {
            // The receiver is gone: nobody to tell.
            let _ = sender.send(Event::Fault(fault));
        }
    });
    receiver
}

fn exchange(
    agent: &Agent,
    url: &str,
    from: u64,
    patience: &Patience,
    way: &Way,
    events: &SyncSender<Event>,
) -> Result<(), Fault> {
    let mut request = agent.get(url);
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let response = request.call().map_err(|error| explain(error, patience.stall, way))?;
    let head = match response.status().as_u16() {
        200 | 206 => read_head(&response)?,
        416 => {
            let _ = events.send(Event::OutOfRange);
            return Ok(());
        }
        status => return Err(refused(status, way)),
    };
    if events.send(Event::Head(head)).is_err() {
        return Ok(());
    }
    let mut body = response.into_body().into_reader();
    let mut pace = Pace::default();
    loop {
        let mut chunk = vec![0; CHUNK];
        let start = Instant::now();
        let read = match body.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(explain(error.into(), patience.stall, way)),
        };
        pace.check(start.elapsed(), read, patience)
            .map_err(|reason| Fault::new(FaultKind::Transient, format!("{} {reason}", way.through())))?;
        chunk.truncate(read);
        let event = if read == 0 { Event::End } else { Event::Bytes(chunk) };
        if events.send(event).is_err() || read == 0 {
            return Ok(());
        }
    }
}

/// How fast a server sends: one that drips is never silent.
#[derive(Debug, Default)]
struct Pace {
    /// Time spent waiting for it, not for the disk.
    waited: Duration,
    /// Bytes that came in that time.
    came: u64,
}

impl Pace {
    /// Counts a read. An end of the stream (`read` is 0) is never too slow.
    fn check(&mut self, took: Duration, read: usize, patience: &Patience) -> Result<(), String> {
        self.waited += took;
        self.came += read as u64;
        if self.waited < patience.stall {
            return Ok(());
        }
        let Pace { waited, came } = std::mem::take(self);
        if came < patience.least && read > 0 {
            return Err(format!("sent only {came} bytes in {:.1} s", waited.as_secs_f32()));
        }
        Ok(())
    }
}

/// The offset of this response's bytes, and the total size.
fn read_head(response: &http::Response<Body>) -> Result<ResponseHead, Fault> {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let length = header("content-length").and_then(|value| value.trim().parse::<u64>().ok());
    if response.status() == 206 {
        let Some((start, total)) = header("content-range").and_then(parse_content_range) else {
            return Err(Fault::new(FaultKind::Transient, "the server sent a part without saying which"));
        };
        let total = total.or_else(|| length.and_then(|length| start.checked_add(length)));
        return Ok(ResponseHead { start, total });
    }
    let page = header("content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    if page && length.is_none_or(|length| length < PAGE) {
        let reason =
            "the answer is a web page and no weight file (a login page of the network, or a proxy's?)";
        return Err(Fault::new(FaultKind::Final, reason));
    }
    Ok(ResponseHead { start: 0, total: length })
}

/// `bytes 100-199/200` → (100, Some(200)); the total may be `*`.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.trim().parse::<u64>().ok()?, end.trim().parse::<u64>().ok()?);
    let total = match total.trim() {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    (start <= end && total.is_none_or(|total| end < total)).then_some((start, total))
}

fn refused(status: u16, way: &Way) -> Fault {
    let words = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let words = words.map(|words| format!(" ({words})")).unwrap_or_default();
    let reason = format!("{} answered {status}{words}", way.through());
    // Too early, too many requests, and the server's own failures are temporary; "no" and "not
    // here" are not.
    let passes = matches!(status, 408 | 425 | 429) || status >= 500;
    Fault::new(if passes { FaultKind::Transient } else { FaultKind::Final }, reason)
}

/// ureq's errors in plain words.
fn explain(error: ureq::Error, stall: Duration, way: &Way) -> Fault {
    use FaultKind::{Final, Transient};
    use std::io::ErrorKind;

    // An unknown authority: a retry does not help, knowing where to put the certificate does.
    let untrusted = |words: String| {
        let advice = "if your network has a certificate authority of its own, name its file in SSL_CERT_FILE";
        Fault::new(Final, format!("the connection to {} is not secure: {words}; {advice}", way.through()))
    };
    let first = way.first();
    match error {
        ureq::Error::HostNotFound => way.unreachable(format!("the name of {first} cannot be resolved")),
        ureq::Error::ConnectionFailed => way.unreachable(format!("there is no connection to {first}")),
        ureq::Error::ConnectProxyFailed(words) => {
            way.unreachable(format!("{first} refuses the connection to {} ({})", way.server, words.trim()))
        }
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            way.unreachable(format!("{first} does not answer"))
        }
        ureq::Error::Timeout(_) => {
            Fault::new(Transient, format!("{} sent nothing for {} s", way.through(), stall.as_secs_f32()))
        }
        ureq::Error::Rustls(error) => untrusted(error.to_string()),
        // The resolver's errors have no kind; std begins them all like this.
        ureq::Error::Io(error) if error.to_string().starts_with("failed to lookup address") => {
            way.unreachable(format!("the name of {first} cannot be resolved"))
        }
        ureq::Error::Io(error) => match error.kind() {
            // rustls reports an untrusted certificate through an I/O error.
            ErrorKind::InvalidData => untrusted(error.to_string()),
            ErrorKind::ConnectionRefused => way.unreachable(format!("{first} refuses the connection")),
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown => {
                way.unreachable(format!("the network of {first} cannot be reached"))
            }
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
                Fault::new(Transient, format!("the connection to {} broke", way.through()))
            }
            _ => Fault::new(Transient, format!("{}: {error}", way.through().trim_end_matches(','))),
        },
        ureq::Error::RequireHttpsOnly(_) => {
            let words = "it redirects to an address without https";
            Fault::new(Final, format!("the connection to {} is not secure: {words}", way.through()))
        }
        ureq::Error::TooManyRedirects => Fault::new(Final, format!("{} redirects in circles", way.server)),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Fault::new(Final, "the address is not valid"),
        other => Fault::new(Transient, format!("{}: {other}", way.through().trim_end_matches(','))),
    }
}

/// The system's certificates, because a closed network has its own authority; on a machine without
/// any (a bare container) the ones shipped with ureq.
fn root_certificates(base: &str) -> RootCerts {
    if !base.starts_with("https:") {
        return RootCerts::WebPki;
    }
    let found = rustls_native_certs::load_native_certs().certs;
    let found: Vec<_> = found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    match found.is_empty() {
        true => RootCerts::WebPki,
        false => RootCerts::new_with_certs(&found),
    }
}

/// A proxy cannot reach this machine's own servers.
fn is_loopback(base: &str) -> bool {
    let Ok(uri) = base.parse::<http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_and_checked() {
        assert_eq!(parse_content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(parse_content_range("bytes 0-0/*"), Some((0, None)));
        assert_eq!(parse_content_range("bytes 5-4/10"), None);
        assert_eq!(parse_content_range("bytes 5-10/10"), None);
        assert_eq!(parse_content_range("bytes */10"), None);
        assert_eq!(parse_content_range("bytes 99999999999999999999-1/2"), None);
        assert_eq!(parse_content_range(""), None);
    }

    #[test]
    fn a_server_has_to_send_a_kilobyte_a_second() {
        let (patience, second) = (Patience::default(), Duration::from_secs(1));
        let mut pace = Pace::default();
        // Two minutes of the least, then of a byte less.
        for _ in 0..120 {
            pace.check(second, 1024, &patience).unwrap();
        }
        for _ in 0..59 {
            pace.check(second, 1024, &patience).unwrap();
        }
        let reason = pace.check(second, 1023, &patience).unwrap_err();
        assert_eq!(reason, "sent only 61439 bytes in 60.0 s");
        // Much at once, then nothing for a while; and the end of a file.
        for _ in 0..100 {
            pace.check(Duration::ZERO, 1 << 17, &patience).unwrap();
            pace.check(59 * second, 1, &patience).unwrap();
        }
        Pace::default().check(90 * second, 0, &patience).unwrap();
    }

    #[test]
    fn loopback_hosts_are_known() {
        for base in ["http://127.0.0.1:80/", "http://localhost/x/", "https://[::1]:8/"] {
            assert!(is_loopback(base), "{base}");
        }
        assert!(!is_loopback("https://download.pytorch.org/models/"));
        assert!(!is_loopback("http://localhost.example.com/"));
    }

    fn way(proxy: Option<&str>) -> Way {
        Way { server: "example.com".into(), proxy: proxy.map(str::to_string) }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_said_so() {
        // RFC 6761: no resolver knows a name under `.invalid`.
        let found = std::net::ToSocketAddrs::to_socket_addrs("tl.invalid:80").unwrap_err();
        let fault = explain(found.into(), Duration::ZERO, &way(None));
        assert_eq!(
            (fault.kind, &*fault.reason),
            (FaultKind::Unreachable, "the name of example.com cannot be resolved")
        );
    }

    #[test]
    fn whoever_is_at_fault_is_named() {
        let error = |kind: std::io::ErrorKind| ureq::Error::Io(kind.into());
        let cases = [
            (ureq::Error::HostNotFound, "the name of WHO cannot be resolved"),
            (error(std::io::ErrorKind::ConnectionRefused), "WHO refuses the connection"),
            (error(std::io::ErrorKind::HostUnreachable), "the network of WHO cannot be reached"),
            (ureq::Error::Timeout(ureq::Timeout::Connect), "WHO does not answer"),
            (ureq::Error::ConnectionFailed, "there is no connection to WHO"),
        ];
        for (error, words) in cases {
            let again = match &error {
                ureq::Error::Io(error) => ureq::Error::Io(error.kind().into()),
                ureq::Error::HostNotFound => ureq::Error::HostNotFound,
                ureq::Error::ConnectionFailed => ureq::Error::ConnectionFailed,
                _ => ureq::Error::Timeout(ureq::Timeout::Connect),
            };
            let fault = explain(error, Duration::ZERO, &way(None));
            assert_eq!(fault.reason, words.replace("WHO", "example.com"));
            let fault = explain(again, Duration::ZERO, &way(Some("the proxy p:3 (https_proxy)")));
            let words = words.replace("WHO", "the proxy p:3 (https_proxy)");
            assert_eq!(fault.reason, format!("{words}; mend the variable, or unset it if there is no proxy"));
            assert_eq!(fault.kind, FaultKind::Unreachable);
        }
        let through = way(Some("the proxy p:3 (https_proxy)"));
        let fault = explain(ureq::Error::ConnectProxyFailed("403/403".into()), Duration::ZERO, &through);
        assert!(
            fault
                .reason
                .starts_with("the proxy p:3 (https_proxy) refuses the connection to example.com (403/403)")
        );
        // Behind a proxy it may be either.
        let fault = refused(403, &through);
        assert_eq!(
            fault.reason,
            "example.com, through the proxy p:3 (https_proxy), answered 403 (Forbidden)"
        );
        let tls = std::io::Error::new(std::io::ErrorKind::InvalidData, "invalid peer certificate");
        let fault = explain(tls.into(), Duration::ZERO, &through);
        let words =
            "the connection to example.com, through the proxy p:3 (https_proxy), is not secure: invalid peer";
        assert!(fault.reason.starts_with(words), "{}", fault.reason);
    }

    #[test]
    fn passing_troubles_are_tried_again() {
        let refused = |status| refused(status, &way(None));
        assert_eq!(refused(503).kind, FaultKind::Transient);
        assert_eq!(refused(429).kind, FaultKind::Transient);
        assert_eq!(refused(404).kind, FaultKind::Final);
        assert_eq!(refused(404).reason, "example.com answered 404 (Not Found)");
        assert_eq!(refused(599).reason, "example.com answered 599");
        let mirror = Way::to("http://me:secret@127.0.0.1:8/models/", Some("TL_WEIGHTS_URL"));
        assert_eq!(mirror.server, "the mirror 127.0.0.1:8 (TL_WEIGHTS_URL)");
        assert_eq!(mirror.proxy, None);
    }
}
