//! Answers: JSON with the status each outcome has.

use bgp_speaker::net::{AskError, Ended};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::query::Invalid;

/// A folder sent to be planned with may be this large.
const LARGEST_BODY: usize = 64 << 20;

/// An answer that is no 200.
#[derive(Debug)]
pub(super) enum Error {
    Invalid(Invalid),
    /// 500 with this text, as a JSON string.
    Failed(String),
    /// 501.
    Disabled,
    NotFound(String),
    MethodNotAllowed(&'static str),
    /// 400.
    BadRequest(String),
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        Self::Failed(ended.to_string())
    }
}

impl From<AskError> for Error {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Request(unknown) => Self::BadRequest(unknown.to_string()),
            AskError::Ended(ended) => ended.into(),
        }
    }
}

pub(super) type Answer = Result<Bytes, Error>;

/// # Errors
/// What is wrong with the body; never what is in it.
pub(super) async fn read<T: serde::de::DeserializeOwned>(body: Incoming) -> Result<T, Error> {
    let octets = Limited::new(body, LARGEST_BODY)
        .collect()
        .await
        .map_err(|error| Error::BadRequest(format!("the request's body can not be read: {error}")))?
        .to_bytes();
    serde_json::from_slice(&octets).map_err(|error| {
        // The text of the error could quote a Secret.
        Error::BadRequest(format!(
            "the request's body is not what is expected here (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

pub(super) fn json<T: Serialize>(value: &T) -> Answer {
    serde_json::to_vec(value)
        .map(|mut octets| {
            octets.push(b'\n');
            octets.into()
        })
        .map_err(|error| Error::Failed(error.to_string()))
}

pub(super) fn respond(done: Answer) -> Response<Full<Bytes>> {
    let text = |text: String| serde_json::Value::from(text).to_string() + "\n";
    let (status, body, allow) = match done {
        Ok(body) => (StatusCode::OK, body, None),
        Err(Error::Invalid(invalid)) => {
            let body = serde_json::to_vec(&invalid).unwrap_or_default();
            (StatusCode::UNPROCESSABLE_ENTITY, body.into(), None)
        }
        Err(Error::Failed(why)) => (StatusCode::INTERNAL_SERVER_ERROR, text(why).into(), None),
        Err(Error::Disabled) => (
            StatusCode::NOT_IMPLEMENTED,
            text("BGP control plane is disabled".to_owned()).into(),
            None,
        ),
        Err(Error::NotFound(path)) => (
            StatusCode::NOT_FOUND,
            text(format!("path {path} was not found")).into(),
            None,
        ),
        Err(Error::MethodNotAllowed(allowed)) => (
            StatusCode::METHOD_NOT_ALLOWED,
            text(format!("only {allowed} is possible here")).into(),
            Some(allowed),
        ),
        Err(Error::BadRequest(why)) => (StatusCode::BAD_REQUEST, text(why).into(), None),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(allowed) = allow {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}
