//! Whole bodies, taken in within their limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this many bytes need no room among the large ones, so that those cannot crowd them
/// out.
const SMALL: usize = 64 << 10;
/// Least room for large bodies, in bytes.
const LEAST_ROOM: usize = 512 << 20;

/// The memory for large bodies of all requests and answers. Each has its own limit, but there can be
/// as many as connections.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

/// A large body, which takes up room until the last who reads it is done.
struct Large {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    /// Room for at least eight bodies of this many bytes.
    pub fn new(longest: usize) -> Self {
        let kibibytes = longest.saturating_mul(8).max(LEAST_ROOM) >> 10;
        Self(Arc::new(Semaphore::new(
            kibibytes.min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Takes room for a body that has grown to this length; what it has already is in `taken`.
    fn take(&self, length: usize, taken: &mut Option<OwnedSemaphorePermit>) -> Result<(), Broken> {
        let held = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = length.div_ceil(1 << 10).saturating_sub(held);
        if length <= SMALL || missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| Broken::NoRoom)?;
        let more = Arc::clone(&self.0)
            .try_acquire_many_owned(missing)
            .map_err(|_| Broken::NoRoom)?;
        match taken {
            Some(taken) => taken.merge(more),
            None => *taken = Some(more),
        }
        Ok(())
    }
}

/// Why a body is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It is longer than the limit.
    TooLong,
    /// The sender broke off.
    Off,
    /// It is large, and there is no room for more of those.
    NoRoom,
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// All of it is here.
    Whole,
    /// It is longer than the limit: what is here is more than that.
    TooLong,
    /// It has begun, and pauses.
    Pausing,
}

/// A body that is taken in bit by bit; one that arrives in one piece is not copied.
#[derive(Default)]
pub struct Gathering {
    first: Bytes,
    more: BytesMut,
    taken: Option<OwnedSemaphorePermit>,
}

impl Gathering {
    /// Takes in what comes, until the end, the limit, or a pause of this length. Whoever gives up waiting for
    /// this loses nothing: what came is in here, the rest is still in the body.
    ///
    /// # Errors
    /// [`Broken::Off`] and [`Broken::NoRoom`]
    pub async fn take<B>(
        &mut self,
        body: &mut B,
        limit: usize,
        room: &Room,
        pause: Option<Duration>,
    ) -> Result<Came, Broken>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        loop {
            let frame = match pause.filter(|_| self.length() > 0) {
                None => body.frame().await,
                Some(pause) => match tokio::time::timeout(pause, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => return Ok(Came::Pausing),
                },
            };
            let Some(frame) = frame else {
                return Ok(Came::Whole);
            };
            let Ok(data) = frame.map_err(|_| Broken::Off)?.into_data() else {
                continue;
            };
            let length = self.length() + data.len();
            if length <= limit {
                room.take(length, &mut self.taken)?;
            }
            if self.length() == 0 {
                self.first = data;
            } else {
                if !self.first.is_empty() {
                    self.more
                        .extend_from_slice(&std::mem::take(&mut self.first));
                }
                self.more.extend_from_slice(&data);
            }
            if length > limit {
                return Ok(Came::TooLong);
            }
        }
    }

    fn length(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// What has come.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        let bytes = if self.more.is_empty() {
            self.first
        } else {
            self.more.freeze()
        };
        match self.taken {
            Some(_room) => Bytes::from_owner(Large { bytes, _room }),
            None => bytes,
        }
    }
}

/// Collects a body; one that arrives in one piece is not copied.
///
/// # Errors
/// [`Broken`]
pub async fn collect<B>(mut body: B, limit: usize, room: &Room) -> Result<Bytes, Broken>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut gathering = Gathering::default();
    match gathering.take(&mut body, limit, room, None).await? {
        Came::TooLong => Err(Broken::TooLong),
        Came::Whole | Came::Pausing => Ok(gathering.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[tokio::test]
    async fn what_came_is_kept_when_it_is_waited_for_no_longer() {
        use http_body::Frame;
        use http_body_util::StreamBody;
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let piece = receiver.recv().await?;
            let frame = Frame::data(Bytes::from_static(piece.as_bytes()));
            Some((Ok::<_, std::convert::Infallible>(frame), receiver))
        });
        let mut body = StreamBody::new(Box::pin(stream));
        let room = Room::new(1 << 20);
        let pause = Some(Duration::from_millis(20));
        let mut gathering = Gathering::default();
        sender.send("one ").unwrap();
        let came = gathering.take(&mut body, 10, &room, pause).await;
        assert_eq!(came, Ok(Came::Pausing));
        sender.send("two ").unwrap();
        let never = gathering.take(&mut body, 10, &room, None);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), never)
                .await
                .is_err()
        );
        sender.send("three").unwrap();
        let came = gathering.take(&mut body, 10, &room, pause).await;
        assert_eq!(came, Ok(Came::TooLong));
        assert_eq!(gathering.into_bytes(), "one two three");
    }

    #[tokio::test]
    async fn there_is_only_so_much_room_for_large_bodies() {
        let room = Room::new(1 << 20);
        let large = || Full::new(Bytes::from(vec![0; 128 << 20]));
        let whole = |body| collect(body, 256 << 20, &room);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(whole(large()).await.unwrap());
        }
        let part = held[0].slice(1..3);
        assert_eq!(whole(large()).await, Err(Broken::NoRoom));
        let small = Full::new(Bytes::from(vec![b'x'; SMALL]));
        assert!(whole(small).await.is_ok(), "small ones always fit");
        held.clear();
        assert!(whole(large()).await.is_ok(), "room comes back");
        let mut all = Vec::new();
        while let Ok(body) = whole(large()).await {
            all.push(body);
        }
        assert_eq!(all.len(), 3, "a part keeps the whole");
        drop(part);
        assert!(whole(large()).await.is_ok());
    }
}
