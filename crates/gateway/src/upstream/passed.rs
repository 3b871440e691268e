//! What has passed over a connection, as far as it says whether a request was heard: one that is kept for the next
//! request can be closed by the server just when that is on its way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What has passed over one connection of HTTP/1.1.
#[derive(Debug, Clone, Default)]
pub(super) struct Passed(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that came.
    came: AtomicU64,
    /// How many had come when the last request began.
    before: AtomicU64,
    /// Whether something came since the last bytes were sent: then the next ones begin a request.
    answered: AtomicBool,
}

impl Passed {
    /// Whether there was an answer before, and nothing of one came since the last request began.
    pub(super) fn is_unanswered(&self) -> bool {
        let before = self.0.before.load(Ordering::Relaxed);
        before > 0 && self.0.came.load(Ordering::Relaxed) == before
    }

    fn came(&self, bytes: usize) {
        if bytes > 0 {
            self.0.came.fetch_add(bytes as u64, Ordering::Relaxed);
            self.0.answered.store(true, Ordering::Relaxed);
        }
    }

    fn went(&self, bytes: usize) {
        if bytes > 0 && self.0.answered.swap(false, Ordering::Relaxed) {
            let came = self.0.came.load(Ordering::Relaxed);
            self.0.before.store(came, Ordering::Relaxed);
        }
    }
}

/// A connection that counts what passes.
pub(super) struct Counted<S> {
    stream: TokioIo<S>,
    passed: Passed,
}

impl<S> Counted<S> {
    /// Counts what passes over a connection.
    pub(super) fn of(stream: S) -> TokioIo<Self> {
        TokioIo::new(Self {
            stream: TokioIo::new(stream),
            passed: Passed::default(),
        })
    }
}

impl<S: Connection> Connection for Counted<S> {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(self.passed.clone())
    }
}

impl<S: hyper::rt::Read + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.passed.came(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: hyper::rt::Write + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let went = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.passed.went(went);
        Poll::Ready(Ok(went))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let went = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, pieces))?;
        self.passed.went(went);
        Poll::Ready(Ok(went))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_request_without_an_answer_is_unanswered() {
        let passed = Passed::default();
        passed.went(10);
        assert!(!passed.is_unanswered(), "the first request of a connection");
        passed.came(5);
        passed.came(5);
        assert!(!passed.is_unanswered());
        passed.went(10);
        passed.went(10);
        assert!(passed.is_unanswered());
        passed.came(1);
        assert!(!passed.is_unanswered(), "half an answer");
    }
}
