//! The least HTTP client that tests need: everything about a request can be wrong.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::PATIENCE;

/// One request.
#[derive(Clone)]
pub struct Call {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

/// One answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer whose body is still coming.
pub struct Stream {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    buffer: Vec<u8>,
}

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Call {
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    pub fn post(url: &str) -> Self {
        Self::new("POST", url)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn method(&self) -> &str {
        &self.method
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let text: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(text.join("&"))
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the request and reads the whole answer.
    pub async fn send(self) -> Result<Answer, Failed> {
        let whole = async {
            let stream = self.open().await?;
            let body = stream.body.collect().await?.to_bytes();
            Ok(Answer {
                status: stream.status,
                headers: stream.headers,
                body,
            })
        };
        tokio::time::timeout(PATIENCE, whole).await?
    }

    /// Sends the request; resolves with the head of the answer.
    pub async fn open(self) -> Result<Stream, Failed> {
        let uri: Uri = self.url.parse()?;
        let authority = uri.authority().ok_or("no authority")?.to_string();
        let connection = TcpStream::connect(&authority).await?;
        connection.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(uri.path_and_query().map_or("/", |path| path.as_str()));
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", authority);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = sender
            .send_request(request.body(Full::new(self.body))?)
            .await?;
        let (head, body) = response.into_parts();
        Ok(Stream {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            buffer: Vec::new(),
        })
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; of an event stream, the last event's data.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        let last = text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .next_back();
        serde_json::from_str(last.unwrap_or(&text))
            .unwrap_or_else(|error| panic!("{error}: {} {text}", self.status))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Stream {
    /// The data of the next event that has any; `None` when the stream ends.
    pub async fn event(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let text = String::from_utf8(event).unwrap();
                let data: String = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("data:"))
                    .collect();
                if !data.trim().is_empty() {
                    return Some(serde_json::from_str(&data).unwrap());
                }
            }
            let next = tokio::time::timeout(PATIENCE, self.body.frame());
            match next.await.expect("the stream goes on") {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Whether the stream ends within a while without another event.
    pub async fn ends(&mut self, within: Duration) -> bool {
        let rest = async { while self.event().await.is_some() {} };
        tokio::time::timeout(within, rest).await.is_ok()
    }
}

fn encode(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
