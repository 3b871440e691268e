//! Carries messages of the client to the server, and what comes back to the client.

use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::mcp::agreement::LAST_EVENT;
use gateway::mcp::annotations::Annotations;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use model::ApprovalId;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::mpsc;

use super::channel::{Channel, GATEWAY, NOTIFICATION};
use super::http::read;
use super::message::{self, Kind, Line};
use super::mirror;
use super::session::Session;
use super::stream::{ANSWER, Place, Stream, has_type};
use super::trouble::Trouble;
use crate::output;

/// Tries to find a stream again that ended before the answer came.
const RESUMPTIONS: u32 = 6;
/// How long a stream is read on after its answer came.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Carries messages.
pub(super) struct Carrier {
    channel: Channel,
    session: Session,
    /// Held while a lost session is replaced.
    replacing: tokio::sync::Mutex<()>,
    annotations: Annotations,
    out: mpsc::Sender<Bytes>,
}

/// What became of an answer.
enum Relayed {
    /// It was delivered.
    Delivered,
    /// It says that a person must approve the request first, and was held back.
    Asked { request: ApprovalId, answer: Bytes },
}

/// The answers that are still to come for what was sent.
struct Awaited {
    ids: Vec<Value>,
    /// The method of the one request.
    method: Option<String>,
    /// Whether streams of this era can be taken up again.
    resumable: bool,
    /// An answer that the client did not ask for and does not get.
    withheld: Option<Value>,
}

impl Carrier {
    /// Carries over a channel; what comes back goes out line by line.
    pub(super) fn new(channel: Channel, out: mpsc::Sender<Bytes>) -> Self {
        let (session, replacing, annotations) = Default::default();
        Self {
            channel,
            session,
            replacing,
            annotations,
            out,
        }
    }

    /// The channel that it carries over.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Writes a line to the client.
    pub(super) async fn write(&self, line: Bytes) {
        // When the client reads no more, the end of the output says so.
        let _ = self.out.send(line).await;
    }

    /// Carries requests and relays everything that comes back for them. Every request gets an
    /// answer, and be it one that says what went wrong.
    pub(super) async fn carry(&self, line: &Line) {
        let mut awaited = Awaited::of(line);
        if let Err(trouble) = self.exchange(line, &mut awaited).await {
            for id in &awaited.ids {
                self.write(trouble.answer(id)).await;
            }
        }
    }

    /// Carries what wants no answer. The client cannot be told when that fails, so standard error
    /// is.
    pub(super) async fn notify(&self, line: &Line) {
        let mut awaited = Awaited::of(line);
        let sent = tokio::time::timeout(NOTIFICATION, self.exchange(line, &mut awaited)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => {
                output::note(format_args!("a message was not delivered: {trouble}"))
            }
            Err(_) => output::note("a message was not delivered: no answer for too long"),
        }
    }

    async fn exchange(&self, line: &Line, awaited: &mut Awaited) -> Result<(), Trouble> {
        let is_request = matches!(line.kind, Kind::Request { .. }) && !line.is_initialize();
        let patience = self.channel.patience().filter(|_| is_request);
        let end = patience.map(|patience| Instant::now() + patience);
        loop {
            let relayed = self.exchange_once(line, awaited, end.is_some()).await?;
            let Relayed::Asked { request, answer } = relayed else {
                return Ok(());
            };
            output::note(format_args!(
                "a person must approve a request first: `sallyport approvals show {request}`"
            ));
            let approved = match end {
                Some(end) => self.channel.is_approved(request, end).await,
                None => false,
            };
            // Approved, it is sent once more, and decided anew.
            if !approved {
                return self.deliver(answer, awaited).await;
            }
        }
    }

    async fn exchange_once(
        &self,
        line: &Line,
        awaited: &mut Awaited,
        holds: bool,
    ) -> Result<Relayed, Trouble> {
        let session = self.session.number();
        let mut answer = self.post(line).await?;
        if answer.status() == StatusCode::NOT_FOUND
            && awaited.resumable
            && !line.is_initialize()
            && let Some(session) = session
        {
            self.replace_session(session).await?;
            answer = self.post(line).await?;
        }
        if let Kind::Request { id, .. } = &line.kind
            && line.is_initialize()
            && answer.status().is_success()
        {
            self.session.begin(&line.bytes, id, answer.headers());
        }
        if holds && answer.status().is_success() && has_type(&answer, "application/json") {
            let text = read(answer.into_body(), ANSWER).await?;
            if let Some(request) = asked_for(&text) {
                return Ok(Relayed::Asked {
                    request,
                    answer: text,
                });
            }
            self.deliver_whole(text, awaited).await?;
        } else {
            self.relay(answer, awaited).await?;
        }
        Ok(Relayed::Delivered)
    }

    async fn post(&self, line: &Line) -> Result<Response<Incoming>, Trouble> {
        self.channel
            .send(Method::POST, &self.headers(line), &line.bytes)
            .await
    }

    fn headers(&self, line: &Line) -> HeaderMap {
        let mut headers = match &line.kind {
            Kind::Request {
                method,
                revision: Some(revision),
                ..
            }
            | Kind::Notification {
                method,
                revision: Some(revision),
            } => {
                let params = line.body.get("params").and_then(Value::as_object);
                mirror::headers(&self.annotations, revision, method, params)
            }
            _ if line.is_initialize() => HeaderMap::new(),
            _ => self.session_headers(),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        headers
    }

    fn session_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.session.add_headers(&mut headers);
        headers
    }

    async fn relay(
        &self,
        answer: Response<Incoming>,
        awaited: &mut Awaited,
    ) -> Result<(), Trouble> {
        if !answer.status().is_success() {
            return self.refusal(answer, awaited).await;
        }
        if Stream::is(&answer) {
            return self
                .relay_stream(Stream::new(answer.into_body()), awaited)
                .await;
        }
        let text = match has_type(&answer, "application/json") {
            true => read(answer.into_body(), ANSWER).await?,
            false => Bytes::new(),
        };
        self.deliver_whole(text, awaited).await
    }

    /// Delivers all that an answer says, which must be what was asked for.
    async fn deliver_whole(&self, text: Bytes, awaited: &mut Awaited) -> Result<(), Trouble> {
        if !text.is_empty() {
            self.deliver(text, awaited).await?;
        }
        if awaited.ids.is_empty() {
            return Ok(());
        }
        Err(Trouble::Unexpected {
            what: GATEWAY,
            why: "there was no answer in it".to_owned(),
        })
    }

    /// Relays a stream until the answers came, and picks it up where it broke off.
    async fn relay_stream(&self, mut stream: Stream, awaited: &mut Awaited) -> Result<(), Trouble> {
        let mut place = Place::default();
        let mut failures = 0;
        loop {
            let broken = loop {
                match stream.next(&mut place).await {
                    Ok(Some(message)) => {
                        failures = 0;
                        self.deliver(message, awaited).await?;
                        if awaited.ids.is_empty() {
                            self.read_on(stream, place, awaited).await;
                            return Ok(());
                        }
                    }
                    Ok(None) => break Trouble::BrokenOff("the stream ended".to_owned()),
                    Err(trouble) => break trouble,
                }
            };
            if awaited.ids.is_empty() {
                return Ok(());
            }
            stream = loop {
                if !awaited.resumable || place.last.is_none() || failures == RESUMPTIONS {
                    return Err(broken);
                }
                tokio::time::sleep(place.pause(failures)).await;
                failures += 1;
                match self.listen_from(&place).await {
                    Ok(answer) if Stream::is(&answer) && answer.status().is_success() => {
                        break Stream::new(answer.into_body());
                    }
                    Ok(answer) if answer.status().is_client_error() => return Err(broken),
                    _ => {}
                }
            };
        }
    }

    /// A stream should end when the answer came; what comes behind it all the same is relayed, but
    /// not waited for.
    async fn read_on(&self, mut stream: Stream, mut place: Place, awaited: &mut Awaited) {
        let rest = async {
            while let Ok(Some(message)) = stream.next(&mut place).await {
                if self.deliver(message, awaited).await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(AFTERWARDS, rest).await;
    }

    /// Opens a stream of the session, from some place on.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn listen_from(&self, place: &Place) -> Result<Response<Incoming>, Trouble> {
        let mut headers = self.session_headers();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = &place.last {
            headers.insert(LAST_EVENT, last.clone());
        }
        self.channel
            .send(Method::GET, &headers, &Bytes::new())
            .await
    }

    /// Relays what the server says of itself, from some place on, until the stream ends. Returns
    /// whether anything came.
    pub(super) async fn relay_announcements(&self, body: Incoming, place: &mut Place) -> bool {
        let mut stream = Stream::new(body);
        let mut awaited = Awaited {
            ids: Vec::new(),
            method: None,
            resumable: true,
            withheld: None,
        };
        let mut any = false;
        while let Ok(Some(message)) = stream.next(place).await {
            any = true;
            if let Err(trouble) = self.deliver(message, &mut awaited).await {
                output::note(format_args!(
                    "a message of the server was dropped: {trouble}"
                ));
            }
        }
        any
    }

    /// Which session there is, counted; none when there is none that can be lost.
    pub(super) fn session(&self) -> Option<u64> {
        self.session.number()
    }

    /// Begins another session in place of one that the server forgot, with the client's own words.
    ///
    /// # Errors
    /// [`Trouble::SessionLost`]
    pub(super) async fn replace_session(&self, lost: u64) -> Result<(), Trouble> {
        let _replacing = self.replacing.lock().await;
        if self.session.number() != Some(lost) {
            return Ok(());
        }
        let failed = |why: String| Trouble::SessionLost(why);
        let (bytes, id) = self
            .session
            .begun_with()
            .ok_or_else(|| failed("the client did not begin one".to_owned()))?;
        let line = Line::read(bytes)
            .map_err(|_| failed("the client's `initialize` cannot be read again".to_owned()))?;
        let answer = self
            .post(&line)
            .await
            .map_err(|trouble| failed(trouble.to_string()))?;
        if !answer.status().is_success() {
            return Err(failed(format!("HTTP {}", answer.status())));
        }
        self.session.begin(&line.bytes, &id, answer.headers());
        let mut awaited = Awaited {
            withheld: Some(id),
            ..Awaited::of(&line)
        };
        self.relay(answer, &mut awaited)
            .await
            .map_err(|trouble| failed(trouble.to_string()))?;
        let ready =
            Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        if let Ok(line) = Line::read(ready) {
            self.post(&line)
                .await
                .map_err(|trouble| failed(trouble.to_string()))?;
        }
        output::note("the server had ended the session; a new one was begun");
        Ok(())
    }

    /// Tells the server that the session is over.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) async fn end_session(&self) -> Result<(), Trouble> {
        if self.session.number().is_none() {
            return Ok(());
        }
        self.channel
            .send(Method::DELETE, &self.session_headers(), &Bytes::new())
            .await
            .map(drop)
    }

    /// Delivers one message of the server, or several in one array, as one line.
    async fn deliver(&self, text: Bytes, awaited: &mut Awaited) -> Result<(), Trouble> {
        let line = message::one_line(text).ok_or_else(|| Trouble::Unexpected {
            what: GATEWAY,
            why: "a message that is not JSON".to_owned(),
        })?;
        for answered in answers(&line) {
            let Some(position) = awaited.ids.iter().position(|id| *id == answered) else {
                continue;
            };
            awaited.ids.swap_remove(position);
            self.learn(&line, awaited.method.as_deref());
            if awaited.withheld.as_ref() == Some(&answered) {
                return Ok(());
            }
        }
        self.write(line).await;
        Ok(())
    }

    /// What answers say that later messages need.
    fn learn(&self, line: &[u8], method: Option<&str>) {
        if !matches!(method, Some("initialize" | "tools/list")) {
            return;
        }
        let answer: Value = serde_json::from_slice(line).unwrap_or_default();
        match (method, answer.get("result")) {
            (Some("initialize"), Some(result)) => self.session.agreed(result),
            (_, Some(result)) => mirror::learn(&self.annotations, result),
            (_, None) => {}
        }
    }

    /// Passes a refusal on: the gateway's and the server's own errors as they are, except that
    /// those without an id get that of the request.
    async fn refusal(
        &self,
        answer: Response<Incoming>,
        awaited: &mut Awaited,
    ) -> Result<(), Trouble> {
        let status = answer.status();
        let text = read(answer.into_body(), ANSWER).await?;
        let body: Value = serde_json::from_slice(&text).unwrap_or_default();
        let said = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let refused = || Trouble::Refused {
            what: GATEWAY,
            request: "the message",
            status: status.as_u16(),
            reason: body
                .pointer("/error/message")
                .and_then(Value::as_str)
                .map(str::to_owned)
                .or_else(|| said("detail"))
                .or_else(|| said("title"))
                .unwrap_or_else(|| "it gave no reason".to_owned()),
            remedy: said("remedy"),
        };
        let Some(error) = body
            .get("error")
            .filter(|error| error.get("code").is_some())
        else {
            return Err(refused());
        };
        if awaited.ids.is_empty() || awaited.withheld.is_some() {
            return Err(refused());
        }
        for id in std::mem::take(&mut awaited.ids) {
            self.write(message::error(&id, error)).await;
        }
        Ok(())
    }
}

impl Awaited {
    fn of(line: &Line) -> Self {
        let (ids, method, revision) = match &line.kind {
            Kind::Request {
                id,
                method,
                revision,
            } => (vec![id.clone()], Some(method.clone()), revision.as_ref()),
            Kind::Notification { revision, .. } => (Vec::new(), None, revision.as_ref()),
            Kind::Batch(ids) => (ids.clone(), None, None),
            Kind::Answer => (Vec::new(), None, None),
        };
        Self {
            ids,
            method,
            resumable: revision.is_none(),
            withheld: None,
        }
    }
}

/// The request for approval that a refusal of the gateway names, if it waits.
fn asked_for(answer: &[u8]) -> Option<ApprovalId> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let request = answer.pointer("/error/data/access_request/task")?;
    let waits = request.get("status")?.as_str()? == "pending";
    let id = ApprovalId::parse(request.get("id")?.as_str()?).ok()?;
    waits.then_some(id)
}

/// The ids of the answers in a line.
fn answers(line: &[u8]) -> Vec<Value> {
    #[derive(Deserialize)]
    struct Peek {
        id: Option<Value>,
        method: Option<IgnoredAny>,
    }
    let peeks = match line.first() {
        Some(b'[') => serde_json::from_slice::<Vec<Peek>>(line).unwrap_or_default(),
        _ => serde_json::from_slice::<Peek>(line).into_iter().collect(),
    };
    peeks
        .into_iter()
        .filter(|peek| peek.method.is_none())
        .filter_map(|peek| peek.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_refusal_that_waits_for_a_person_is_held() {
        let id = "apr_0190b6a0000070008000000000000000";
        let refusal = |status: &str| {
            let task = json!({ "id": id, "status": status });
            let data = json!({ "access_request": { "task": task } });
            json!({ "id": 1, "error": { "code": 403, "message": "", "data": data } }).to_string()
        };
        let found = asked_for(refusal("pending").as_bytes());
        assert_eq!(found.map(|id| id.to_string()).as_deref(), Some(id));
        assert_eq!(asked_for(refusal("denied").as_bytes()), None);
        assert_eq!(asked_for(br#"{"id":1,"result":{}}"#), None);
        assert_eq!(asked_for(b"x"), None);
    }

    #[test]
    fn answers_are_told_from_requests_of_the_server() {
        assert_eq!(
            answers(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            [json!(1)]
        );
        assert_eq!(answers(br#"{"id":"a","error":{"code":1}}"#), [json!("a")]);
        assert_eq!(
            answers(br#"[{"id":1,"result":{}},{"method":"x"}]"#),
            [json!(1)]
        );
        assert_eq!(
            answers(br#"{"id":1,"method":"roots/list"}"#),
            [] as [Value; 0]
        );
        assert_eq!(answers(br#"{"id":null,"error":{}}"#), [] as [Value; 0]);
        assert_eq!(answers(b"7"), [] as [Value; 0]);
    }
}
