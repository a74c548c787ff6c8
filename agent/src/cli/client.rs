//! Asks the agent: one HTTP/1.1 request over its socket, one answer, done. Blocking, no runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

/// The agent's own socket, unless `--socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/stentor/agent.sock";

/// An agent that says nothing for this long is not going to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl Endpoint {
    /// `unix:///path`, `/path`, `tcp://host:port` or `http://host:port`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        for scheme in ["tcp://", "http://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return Self::Tcp(rest.trim_end_matches('/').to_owned());
            }
        }
        Self::Unix(PathBuf::from(text.strip_prefix("unix://").unwrap_or(text)))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Why there is no answer. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no agent listens on {0}: is it running (`systemctl status stentor`)? Another socket is chosen with --socket"
    )]
    NotRunning(String),
    #[error("no permission to open {0}: the agent's socket is for root; use sudo")]
    Permission(String),
    #[error("can not reach the agent at {0}: {1}")]
    Connect(String, std::io::Error),
    #[error(
        "the agent at {0} said nothing for {limit} s; is it stuck (`systemctl status stentor`)?",
        limit = PATIENCE.as_secs()
    )]
    Silent(String),
    #[error("the agent at {0} broke off: {1}")]
    Broken(String, std::io::Error),
    #[error("the agent at {0} gave no valid answer: {1}")]
    NotHttp(String, String),
    /// The agent answered with an error; the text is its own.
    #[error("{text}")]
    Refused { status: u16, text: String },
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The JSON of a 200, or the agent's error text.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::NotHttp`].
    pub fn json<T: DeserializeOwned>(self, from: &Endpoint) -> Result<T, ClientError> {
        if self.status == 200 {
            serde_json::from_slice(&self.body)
                .map_err(|error| ClientError::NotHttp(from.to_string(), error.to_string()))
        } else {
            Err(ClientError::Refused {
                status: self.status,
                text: error_text(&self.body),
            })
        }
    }
}

/// Errors are a JSON string, or an object with a `message`.
fn error_text(body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value
            .get("message")
            .and_then(|m| m.as_str())
            .map_or_else(|| value.to_string(), str::to_owned),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// # Errors
/// [`ClientError`].
pub fn get(endpoint: &Endpoint, path: &str) -> Result<Answer, ClientError> {
    ask(endpoint, "GET", path, &[])
}

/// # Errors
/// [`ClientError`].
pub fn post(endpoint: &Endpoint, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
    ask(endpoint, "POST", path, body)
}

fn ask(endpoint: &Endpoint, method: &str, path: &str, body: &[u8]) -> Result<Answer, ClientError> {
    let request = [
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .as_bytes(),
        body,
    ]
    .concat();
    let octets = match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(|error| no_connection(path, error))?;
            let limits = stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
            limits.and_then(|()| exchange(stream, &request))
        }
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address)
                .map_err(|error| ClientError::Connect(endpoint.to_string(), error))?;
            let limits = stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
            limits.and_then(|()| exchange(stream, &request))
        }
    }
    .map_err(|error| match error.kind() {
        // What the kernel says when a socket's time is over.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent(endpoint.to_string()),
        _ => ClientError::Broken(endpoint.to_string(), error),
    })?;
    parse(&octets).map_err(|why| ClientError::NotHttp(endpoint.to_string(), why.to_owned()))
}

fn no_connection(path: &Path, error: std::io::Error) -> ClientError {
    let shown = path.display().to_string();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning(shown),
        ErrorKind::PermissionDenied => ClientError::Permission(shown),
        _ => ClientError::Connect(shown, error),
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets)?;
    Ok(octets)
}

/// Status line, headers, body to the end: the request asked for the connection to close. Bodies in chunks
/// are taken too.
fn parse(octets: &[u8]) -> Result<Answer, &'static str> {
    let end = octets
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .ok_or("the header does not end")?;
    let (head, body) = octets.split_at(end);
    let body = body.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| "the header is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or("there is no status")?;
    let mut chunked = false;
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let body = match (chunked, length) {
        (true, _) => dechunk(body).ok_or("the chunks do not add up")?,
        (false, Some(length)) => body.get(..length).ok_or("the body is cut off")?.to_vec(),
        (false, None) => body.to_vec(),
    };
    Ok(Answer { status, body })
}

fn dechunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(body.get(..end)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(out);
        }
        let start = end.checked_add(2)?;
        let stop = start.checked_add(size)?;
        out.extend_from_slice(body.get(start..stop)?);
        body = body.get(stop.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_length_and_in_chunks_are_read() {
        let whole = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull").unwrap();
        assert_eq!((whole.status, whole.body.as_slice()), (200, b"null".as_slice()));
        let chunked =
            parse(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\"no\r\n1\r\n\"\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!(
            (chunked.status, chunked.body.as_slice()),
            (500, b"\"no\"".as_slice())
        );
    }

    #[test]
    fn a_cut_answer_is_an_error_at_every_length() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull";
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn error_bodies_are_a_string_or_have_a_message() {
        assert_eq!(error_text(b"\"no peers\""), "no peers");
        assert_eq!(
            error_text(br#"{"code":602,"message":"afi is required"}"#),
            "afi is required"
        );
        assert_eq!(error_text(b"plain\n"), "plain");
    }

    #[test]
    fn endpoints_are_paths_or_addresses() {
        assert_eq!(
            Endpoint::parse("unix:///run/a.sock"),
            Endpoint::Unix("/run/a.sock".into())
        );
        assert_eq!(
            Endpoint::parse("/run/a.sock"),
            Endpoint::Unix("/run/a.sock".into())
        );
        assert_eq!(
            Endpoint::parse("tcp://[::1]:80"),
            Endpoint::Tcp("[::1]:80".into())
        );
    }
}
