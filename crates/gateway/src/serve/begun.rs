//! What a connection in clear begins with, which says what is spoken on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What a client that knows that HTTP/2 is spoken here sends first (RFC 9113 §3.4). No request of
/// HTTP/1.1 begins so.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which version of HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1, or 1.0.
    One,
    /// HTTP/2.
    Two,
}

/// A connection whose first bytes were read already; they are read again.
pub(super) struct Begun<S> {
    first: [u8; PREFACE.len()],
    /// Where the next of them is, and where they end.
    next: usize,
    end: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> Begun<S> {
    /// Reads until it is clear what is spoken.
    pub(super) async fn read(mut stream: S) -> io::Result<(Version, Self)> {
        let mut first = [0; PREFACE.len()];
        let mut end = 0;
        let version = loop {
            let length = stream.read(&mut first[end..]).await?;
            end += length;
            if length == 0 || first[..end] != PREFACE[..end] {
                break Version::One;
            }
            if end == PREFACE.len() {
                break Version::Two;
            }
        };
        let begun = Self {
            first,
            next: 0,
            end,
            stream,
        };
        Ok((version, begun))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.next < self.end {
            let length = buffer.remaining().min(self.end - self.next);
            buffer.put_slice(&self.first[self.next..self.next + length]);
            self.next += length;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
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
    use tokio::io::AsyncWriteExt as _;

    /// What is made of bytes that arrive in pieces of this length; they must all be read again.
    async fn version(sent: &'static [u8], piece: usize) -> Version {
        let (ours, mut theirs) = tokio::io::duplex(piece);
        let sending = tokio::spawn(async move {
            theirs.write_all(sent).await.unwrap();
        });
        let (version, mut begun) = Begun::read(ours).await.unwrap();
        let mut all = Vec::new();
        begun.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, sent);
        sending.await.unwrap();
        version
    }

    #[tokio::test]
    async fn only_the_whole_preface_is_http_2_and_nothing_is_lost() {
        for piece in [1, 7, 24, 100] {
            let two = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            assert_eq!(version(two, piece).await, Version::Two);
            for one in [
                &b"GET / HTTP/1.1\r\n\r\n"[..],
                b"PROPFIND / HTTP/1.1\r\nhost: x\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
                b"PRI * HTTP/1.1\r\n\r\n",
                b"PRI",
                b"",
            ] {
                assert_eq!(version(one, piece).await, Version::One);
            }
        }
    }
}
