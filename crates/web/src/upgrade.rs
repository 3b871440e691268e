//! After an upgrade: what either side says passes to the other until one of them ends, or the gateway ends it.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use gateway::inspection::{About, Media, Passing, Terms, Verdict, What};
use gateway::slots::Slot;
use hyper::upgrade::{OnUpgrade, Upgraded as Connection};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use model::Denial;
use model::record::Ended;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::account::Account;
use crate::watch::Watch;

/// Bytes that are moved at once.
const PIECE: usize = 16 << 10;
/// How long the two sides may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// The two sides of a connection that was upgraded.
pub(crate) struct Upgraded {
    pub(crate) agent: OnUpgrade,
    pub(crate) api: OnUpgrade,
    pub(crate) account: Account,
    /// What messages are looked at with, if they are.
    pub(crate) watch: Option<Watch>,
    /// Longest message of the agent, and of the API, in bytes.
    pub(crate) longest: (usize, usize),
    /// When the task is over.
    pub(crate) expires: Timestamp,
    pub(crate) slot: Slot,
}

impl Upgraded {
    /// Joins the sides until one of them ends, and records it.
    pub(crate) async fn run(self) {
        let Self {
            agent,
            api,
            mut account,
            watch,
            longest,
            expires,
            slot,
        } = self;
        let signal = account.permit.signal();
        let joined = async {
            let Ok((agent, api)) = tokio::try_join!(agent, api) else {
                return Ended::UpstreamFailed;
            };
            match watch {
                Some(watch) => messages(agent, api, &mut account, &watch, longest).await,
                None => bytes(agent, api, &mut account).await,
            }
        };
        let ended = tokio::select! {
            biased;
            () = signal.cut() => Ended::Cut,
            () = tokio::time::sleep(gateway::wait(expires)) => Ended::Cut,
            ended = joined => ended,
        };
        account.finish(ended);
        drop(slot);
    }
}

type Socket = WebSocketStream<TokioIo<Connection>>;

/// Passes on messages (RFC 6455), each looked at as a whole. The two connections have their own pings.
async fn messages(
    agent: Connection,
    api: Connection,
    account: &mut Account,
    watch: &Watch,
    (asked, told): (usize, usize),
) -> Ended {
    let speaks = |longest| {
        WebSocketConfig::default()
            .read_buffer_size(PIECE)
            .write_buffer_size(0)
            .max_message_size(Some(longest))
            .max_frame_size(Some(longest))
    };
    let socket = |connection, role, longest| {
        Socket::from_raw_socket(TokioIo::new(connection), role, Some(speaks(longest)))
    };
    let (mut to_agent, mut from_agent) = socket(agent, Role::Server, asked).await.split();
    let (mut to_api, mut from_api) = socket(api, Role::Client, told).await.split();
    let terms = Terms {
        alterable: true,
        opaque: false,
    };
    let looks = || watch.inspection.passing(Media::text(), terms);
    let refused = {
        let mut up = Relay {
            about: watch.about_what_is_asked(),
            looks: looks(),
        };
        let mut down = Relay {
            about: watch.about(),
            looks: looks(),
        };
        let up = up.run(&mut from_agent, &mut to_api, |_| {});
        let down = down.run(&mut from_api, &mut to_agent, |bytes| account.see(bytes));
        tokio::pin!(up, down);
        // Whoever ends first ends both, once the other has said farewell too.
        let ended = tokio::select! {
            first = &mut up => match first {
                Ok(()) => tokio::time::timeout(FAREWELL, down).await,
                refused => Ok(refused),
            },
            first = &mut down => match first {
                Ok(()) => tokio::time::timeout(FAREWELL, up).await,
                refused => Ok(refused),
            },
        };
        ended.unwrap_or(Ok(())).err()
    };
    let Some((what, denial)) = refused else {
        return Ended::Answered;
    };
    account.permit.note("blocked", what.as_str());
    let farewell = CloseFrame {
        code: CloseCode::Policy,
        reason: reason(&denial).into(),
    };
    let close = Message::Close(Some(farewell));
    // Whoever does not listen any more needs no words.
    let _ = tokio::time::timeout(FAREWELL, async {
        let _ = to_agent.send(close.clone()).await;
        let _ = to_api.send(close).await;
    })
    .await;
    Ended::Cut
}

/// Why a socket is closed, in the 123 bytes that there are for it (RFC 6455 §5.5).
fn reason(denial: &Denial) -> String {
    let text = &denial.reason;
    text[..text.floor_char_boundary(123)].to_owned()
}

/// One direction.
struct Relay<'a> {
    about: About<'a>,
    looks: Passing,
}

impl Relay<'_> {
    /// Passes messages on until there are no more.
    ///
    /// # Errors
    /// What must not pass, and why.
    async fn run(
        &mut self,
        from: &mut SplitStream<Socket>,
        to: &mut SplitSink<Socket, Message>,
        mut see: impl FnMut(&[u8]),
    ) -> Result<(), (What, Denial)> {
        while let Some(Ok(message)) = from.next().await {
            let looked = match &message {
                Message::Text(text) => self.look(&Media::text(), text.as_bytes()),
                Message::Binary(bytes) => self.look(&Media::plain(), bytes),
                Message::Close(_) => Verdict::Pass,
                // Each connection answers its own.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            let onward = match looked {
                Verdict::Pass => message,
                Verdict::Redacted(other) => changed(&message, other),
                Verdict::Blocked(denial) => return Err((self.about.what, denial)),
            };
            if matches!(onward, Message::Text(_) | Message::Binary(_)) {
                see(&onward.clone().into_data());
            }
            if to.send(onward).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn look(&mut self, media: &Media, bytes: &[u8]) -> Verdict<Vec<u8>> {
        self.looks.message(&self.about, media, bytes)
    }
}

/// A message of the same kind with another content.
fn changed(message: &Message, other: Vec<u8>) -> Message {
    match message {
        Message::Text(_) => Message::text(String::from_utf8_lossy(&other).into_owned()),
        _ => Message::binary(other),
    }
}

/// Passes on bytes, whatever they are.
async fn bytes(agent: Connection, api: Connection, account: &mut Account) -> Ended {
    let (mut from_agent, mut to_agent) = tokio::io::split(TokioIo::new(agent));
    let (mut from_api, mut to_api) = tokio::io::split(TokioIo::new(api));
    let sent = copy(&mut from_agent, &mut to_api, |_| {});
    let received = copy(&mut from_api, &mut to_agent, |bytes| account.see(bytes));
    tokio::select! {
        // Whoever ends first ends both: WebSocket closes with a handshake of its own before.
        _ = sent => Ended::Answered,
        _ = received => Ended::Answered,
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut see: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        see(&piece[..length]);
        to.write_all(&piece[..length]).await?;
        to.flush().await?;
    }
}
