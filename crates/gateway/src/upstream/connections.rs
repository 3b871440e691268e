//! Connections to one server, kept for the next request.
//!
//! One connection carries one request at a time. It is kept when the whole answer was taken, and
//! handed on only while it is ready for another; whoever lets go of an answer before its end closes
//! it. So a request costs no task and no timer of its own.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::Mutex;
use tower::Service as _;

/// How long a connection may take, with its TLS handshake: a server that accepts and then says
/// nothing would hold it forever.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Unused connections are closed before most servers do it.
pub(super) const IDLE: Duration = Duration::from_secs(55);
/// Most unused connections kept.
pub(super) const KEPT: usize = 512;
/// Longest head of an answer, in bytes and give or take one read, and most headers in it.
pub(super) const HEAD: usize = 64 << 10;
pub(super) const HEADERS: usize = 64;

type Sender = SendRequest<Full<Bytes>>;
type ConnectError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Connector = HttpsConnector<HttpConnector>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// There is no connection.
    Connect(ConnectError),
    /// The connection broke, or what came over it is no HTTP.
    Exchange(hyper::Error),
}

/// Connections to one server.
pub(super) struct Connections {
    connector: Connector,
    server: Uri,
    unused: Arc<Unused>,
    open: Arc<AtomicUsize>,
}

impl Connections {
    pub(super) fn new(connector: Connector, server: Uri) -> Self {
        Self {
            connector,
            server,
            unused: Arc::default(),
            open: Arc::default(),
        }
    }

    /// Sends a request over a connection that is there, or over a new one. Nothing is sent twice: a
    /// request goes on to the next connection only if the one before was closed before any of it
    /// was written.
    ///
    /// # Errors
    /// [`Failed`]
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Answer>, Failed> {
        let target = self.server.path_and_query().cloned();
        *request.uri_mut() = target.map_or_else(Uri::default, |target: PathAndQuery| target.into());
        while let Some(mut sender) = self.unused.take() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.keep(response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failed::Exchange(error.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        let sent = sender.send_request(request).await;
        sent.map(|response| self.keep(response, sender))
            .map_err(Failed::Exchange)
    }

    async fn connect(&self) -> Result<Sender, Failed> {
        let mut connector = self.connector.clone();
        let connecting = async {
            std::future::poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(self.server.clone()).await
        };
        let stream = tokio::time::timeout(CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err("no connection within 5 seconds".into()))
            .map_err(Failed::Connect)?;
        let (sender, connection) = Builder::new()
            .max_headers(HEADERS)
            .max_buf_size(HEAD)
            .handshake(stream)
            .await
            .map_err(Failed::Exchange)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        let open = Arc::clone(&self.open);
        tokio::spawn(async move {
            let ended = connection.await;
            open.fetch_sub(1, Ordering::Relaxed);
            // Whoever waits for the answer is told of the error.
            if let Err(error) = ended {
                tracing::debug!(target: "upstream", %error, "a connection ended early");
            }
        });
        Ok(sender)
    }

    fn keep(&self, response: Response<Incoming>, sender: Sender) -> Response<Answer> {
        response.map(|body| {
            let mut answer = Answer {
                body,
                kept: Some((sender, Arc::clone(&self.unused))),
            };
            if answer.body.is_end_stream() {
                answer.taken();
            }
            answer
        })
    }

    /// Whether any connection is open, in use or not.
    pub(super) fn are_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Closes what was not used for a while.
    pub(super) fn forget_idle(&self) {
        self.unused.forget_idle();
    }

    /// Closes what is not in use.
    pub(super) fn close(&self) {
        self.unused.0.lock().clear();
    }
}

/// Connections without a request, the one that was used last at the end.
#[derive(Default)]
struct Unused(Mutex<VecDeque<(Sender, Instant)>>);

impl Unused {
    /// A connection that is ready.
    fn take(&self) -> Option<Sender> {
        let mut unused = self.0.lock();
        while let Some((sender, since)) = unused.pop_back() {
            // The server may have closed it meanwhile.
            if sender.is_ready() && since.elapsed() < IDLE {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: Sender) {
        let mut unused = self.0.lock();
        if unused.len() < KEPT {
            unused.push_back((sender, Instant::now()));
        }
    }

    fn forget_idle(&self) {
        let mut unused = self.0.lock();
        unused.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE);
    }
}

/// The body of an answer, with the connection that it comes over.
pub(super) struct Answer {
    body: Incoming,
    kept: Option<(Sender, Arc<Unused>)>,
}

impl Answer {
    /// The whole answer was taken: the connection is for the next request.
    fn taken(&mut self) {
        let Some((mut sender, unused)) = self.kept.take() else {
            return;
        };
        if sender.is_ready() {
            unused.put(sender);
        } else if !sender.is_closed() {
            // The end of the answer is here before the connection has noticed it.
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    unused.put(sender);
                }
            });
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.taken(),
            Some(Ok(_)) if self.body.is_end_stream() => self.taken(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.kept = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
