//! After an upgrade: bytes pass both ways until one side ends, or the gateway ends it.

use gateway::slots::Slot;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use model::record::Ended;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::account::Account;

/// Bytes that are moved at once.
const PIECE: usize = 16 << 10;

/// The two sides of a connection that was upgraded.
pub(crate) struct Upgraded {
    pub(crate) agent: OnUpgrade,
    pub(crate) api: OnUpgrade,
    pub(crate) account: Account,
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
            expires,
            slot,
        } = self;
        let signal = account.permit.signal();
        let ended = tokio::select! {
            biased;
            () = signal.cut() => Ended::Cut,
            () = tokio::time::sleep(gateway::wait(expires)) => Ended::Cut,
            ended = join(agent, api, &mut account) => ended,
        };
        account.finish(ended);
        drop(slot);
    }
}

async fn join(agent: OnUpgrade, api: OnUpgrade, account: &mut Account) -> Ended {
    let Ok((agent, api)) = tokio::try_join!(agent, api) else {
        return Ended::UpstreamFailed;
    };
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
