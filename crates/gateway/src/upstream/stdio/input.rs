//! What is on its way to a program: the lines that wait, and their way through the pipe.
//!
//! Whoever gives up on a line takes it back (R5): one that still waits is never written, and one that
//! is half written is spoilt, so that the program finds no message in it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::child::{Child, ended};
use crate::upstream::UpstreamError;

/// Most lines that wait to be written to a child.
const LINES: usize = 256;
/// How long a child may leave its input unread before requests are refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ends a line that is given up half way. A JSON object is complete only with its last brace, so what
/// comes before it and this make none.
const SPOILT: &[u8] = b"!\n";

/// A line for a child.
pub(super) struct Letter {
    line: Bytes,
    request: Option<Request>,
}

/// The request in a line. When the line does not arrive there will be no answer, so that the router
/// need not wait for one.
struct Request {
    child: Arc<Child>,
    number: u64,
    arrived: bool,
}

impl Letter {
    /// A line that carries no request.
    pub(super) fn new(line: Bytes) -> Self {
        Self {
            line,
            request: None,
        }
    }

    /// A line with the request that the child's router gave this number.
    pub(super) fn with_request(line: Bytes, child: &Arc<Child>, number: u64) -> Self {
        let request = Request {
            child: Arc::clone(child),
            number,
            arrived: false,
        };
        Self {
            line,
            request: Some(request),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.arrived {
            // The child never heard of the request, so it is not told either.
            let _ = self.child.router.lock().abandon(self.number);
        }
    }
}

/// Lines on their way to a child: limited in number, and by the semaphore in kibibytes.
pub(super) struct Input {
    lines: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    kibibytes: u32,
}

/// A line that waits.
pub(super) struct Waiting {
    letter: Letter,
    _room: OwnedSemaphorePermit,
    /// Told when it is written; closed when who waits for that gives up. None when nobody waits.
    written: Option<oneshot::Sender<()>>,
}

impl Input {
    /// Room for two messages of this many bytes.
    pub(super) fn new(longest: usize) -> (Self, mpsc::Receiver<Waiting>) {
        let kibibytes = kibibytes(longest).saturating_mul(2).max(1 << 13);
        let (sender, lines) = mpsc::channel(LINES);
        let input = Self {
            lines: sender,
            room: Arc::new(Semaphore::new(kibibytes as usize)),
            kibibytes,
        };
        (input, lines)
    }

    /// Hands a line over, and waits until it is in the pipe. Dropping the future takes it back.
    ///
    /// # Errors
    /// [`UpstreamError::Timeout`] when the child does not read its input, and
    /// [`UpstreamError::Unreachable`] when it has ended.
    pub(super) async fn tell(&self, letter: Letter, until: Instant) -> Result<(), UpstreamError> {
        let weight = kibibytes(letter.line.len()).min(self.kibibytes);
        let (written, is_written) = oneshot::channel();
        let handing = async {
            let room = Arc::clone(&self.room)
                .acquire_many_owned(weight)
                .await
                .ok()?;
            let waiting = Waiting {
                letter,
                _room: room,
                written: Some(written),
            };
            self.lines.send(waiting).await.ok()
        };
        match timeout(PATIENCE, handing).await {
            Ok(Some(())) => {}
            Ok(None) => return Err(ended()),
            Err(_) => return Err(UpstreamError::Timeout),
        }
        match timeout_at(until, is_written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(UpstreamError::Timeout),
        }
    }

    /// Hands a line over if that needs no waiting, and does not wait for its being written.
    pub(super) fn mention(&self, line: Bytes) {
        let weight = kibibytes(line.len()).min(self.kibibytes);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(weight) {
            let waiting = Waiting {
                letter: Letter::new(line),
                _room: room,
                written: None,
            };
            // A child that does not read will not miss it.
            let _ = self.lines.try_send(waiting);
        }
    }
}

fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10))
        .unwrap_or(u32::MAX)
        .min(1 << 22)
}

/// Writes lines as the child reads them, until the pipe breaks; then the one who sees to the child's
/// end learns it from the process.
pub(super) async fn write(
    mut pipe: impl AsyncWrite + Unpin,
    mut lines: mpsc::Receiver<Waiting>,
) -> io::Result<()> {
    while let Some(Waiting {
        mut letter,
        _room,
        written,
    }) = lines.recv().await
    {
        let Some(mut written) = written else {
            pipe.write_all(&letter.line).await?;
            continue;
        };
        if write_unless(written.closed(), &mut pipe, &letter.line).await? {
            if let Some(request) = &mut letter.request {
                request.arrived = true;
            }
            // Who waited may have given up at this very moment.
            let _ = written.send(());
        }
    }
    Ok(())
}

/// Writes a line unless it is given up before its end. Whether it was written.
async fn write_unless(
    given_up: impl Future<Output = ()>,
    pipe: &mut (impl AsyncWrite + Unpin),
    line: &[u8],
) -> io::Result<bool> {
    let mut given_up = pin!(given_up);
    let mut rest = line;
    while !rest.is_empty() {
        tokio::select! {
            biased;
            () = &mut given_up => {
                if rest.len() < line.len() {
                    pipe.write_all(SPOILT).await?;
                }
                return Ok(false);
            }
            count = pipe.write(rest) => match count? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => rest = &rest[count..],
            },
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn letter(line: &'static str) -> Letter {
        Letter::new(Bytes::from_static(line.as_bytes()))
    }

    /// Lets the other tasks run until they wait.
    async fn pause() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_taken_back_or_spoilt() {
        let (input, lines) = Input::new(1 << 10);
        let (pipe, mut program) = tokio::io::duplex(4);
        tokio::spawn(write(pipe, lines));
        let mut half = Box::pin(input.tell(letter("{\"a\":1}\n"), soon()));
        let mut queued = Box::pin(input.tell(letter("{\"b\":2}\n"), soon()));
        tokio::select! {
            biased;
            _ = &mut half => panic!("written"),
            _ = &mut queued => panic!("written"),
            () = pause() => {}
        }
        drop((half, queued));
        input.mention(Bytes::from_static(b"{\"c\":3}\n"));
        let mut read = vec![0; 14];
        program.read_exact(&mut read).await.unwrap();
        assert_eq!(read, b"{\"a\"!\n{\"c\":3}\n");
    }

    #[tokio::test(start_paused = true)]
    async fn who_tells_something_waits_until_it_is_in_the_pipe() {
        let (input, lines) = Input::new(1 << 10);
        let (pipe, mut program) = tokio::io::duplex(4);
        let writing = tokio::spawn(write(pipe, lines));
        let told = input.tell(letter("{\"a\":1}\n"), soon());
        let mut read = vec![0; 8];
        let (told, _) = tokio::join!(told, async {
            pause().await;
            program.read_exact(&mut read).await
        });
        assert_eq!(told, Ok(()));
        let late = input.tell(letter("{\"b\":2}\n"), soon()).await;
        assert_eq!(late, Err(UpstreamError::Timeout));
        drop(program);
        let _ = writing.await.unwrap();
        let gone = input.tell(letter("{}\n"), soon()).await;
        assert_eq!(gone, Err(ended()));
    }
}
