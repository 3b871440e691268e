//! Payloads on their way into the vault.

use bytes::Bytes;
use model::{AgentName, DecisionId, TaskId};

use crate::error::NotKept;
use crate::room::Taken;

/// The smallest step in which a payload that gathers takes up room, in bytes.
const STEP: usize = 4 << 10;

/// A payload that gathers while it passes: only its beginning, when it is long.
#[derive(Debug)]
pub struct Capture {
    bytes: Vec<u8>,
    whole: u64,
    limit: usize,
    /// None once there was no room.
    room: Option<Taken>,
}

impl Capture {
    pub(crate) fn new(limit: usize, room: Option<Taken>) -> Self {
        Self {
            bytes: Vec::new(),
            whole: 0,
            limit,
            room,
        }
    }

    /// Takes in the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.whole += bytes.len() as u64;
        let left = self.limit.saturating_sub(self.bytes.len());
        let bytes = &bytes[..bytes.len().min(left)];
        let Some(room) = &mut self.room else { return };
        let wanted = self.bytes.len() + bytes.len();
        if wanted > self.bytes.capacity() {
            let more = (wanted - self.bytes.len())
                .max(self.bytes.capacity())
                .max(STEP);
            let more = more.min(self.limit.saturating_sub(self.bytes.len()));
            if !room.grow(self.bytes.len() + more - self.bytes.capacity()) {
                self.room = None;
                self.bytes = Vec::new();
                return;
            }
            self.bytes.reserve_exact(more);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The payload, with the salted hash of all of it.
    #[must_use]
    pub fn into_payload(self, part: &'static str, hash: Option<String>) -> Payload {
        let content = match self.room {
            Some(room) => Ok((Bytes::from(self.bytes), room)),
            None => Err(NotKept::NoRoom),
        };
        Payload {
            part,
            whole: self.whole,
            hash,
            content,
        }
    }
}

/// A copy takes up room of its own.
impl Clone for Capture {
    fn clone(&self) -> Self {
        let room = self
            .room
            .as_ref()
            .and_then(|taken| taken.room().take(self.bytes.len()));
        Self {
            bytes: match room {
                Some(_) => self.bytes.clone(),
                None => Vec::new(),
            },
            whole: self.whole,
            limit: self.limit,
            room,
        }
    }
}

/// One payload of an action.
#[derive(Debug)]
pub struct Payload {
    pub(crate) part: &'static str,
    /// The length of all of it.
    pub(crate) whole: u64,
    pub(crate) hash: Option<String>,
    /// As much of it as is kept.
    pub(crate) content: Result<(Bytes, Taken), NotKept>,
}

impl Payload {
    fn refused(&mut self, why: &NotKept) -> Kept {
        Kept {
            part: self.part,
            bytes: self.whole,
            hash: self.hash.take(),
            kept: Err(why.clone()),
        }
    }
}

/// What became of one payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which part of the action it is.
    pub part: &'static str,
    /// The length of all of it, in bytes.
    pub bytes: u64,
    /// The salted hash of all of it.
    pub hash: Option<String>,
    /// How much of it is kept, from its beginning and for sure; or why none of it is.
    pub kept: Result<u64, NotKept>,
}

type Told = Box<dyn FnOnce(Vec<Kept>) + Send>;

/// The payloads of one action.
pub struct Bundle {
    pub(crate) task: TaskId,
    pub(crate) agent: AgentName,
    pub(crate) decision: DecisionId,
    pub(crate) payloads: Vec<Payload>,
    /// Why they are not kept, if this goes before it was told anything.
    pub(crate) otherwise: NotKept,
    told: Option<Told>,
}

impl Bundle {
    /// The payloads of an action. `told` learns what became of them once that is certain: always, exactly
    /// once, and on whatever thread; it must not block.
    #[must_use]
    pub fn new(
        task: TaskId,
        agent: AgentName,
        decision: DecisionId,
        payloads: Vec<Payload>,
        told: impl FnOnce(Vec<Kept>) + Send + 'static,
    ) -> Self {
        Self {
            task,
            agent,
            decision,
            payloads,
            otherwise: NotKept::Closed,
            told: Some(Box::new(told)),
        }
    }

    /// Tells what became of them.
    pub(crate) fn tell(mut self, kept: Vec<Kept>) {
        if let Some(told) = self.told.take() {
            told(kept);
        }
    }

    /// Tells that none of them is kept.
    pub(crate) fn refuse(mut self, why: NotKept) {
        self.otherwise = why;
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            let why = self.otherwise.clone();
            let payloads = self.payloads.iter_mut();
            told(payloads.map(|payload| payload.refused(&why)).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Room;
    use jiff::Timestamp;
    use std::sync::Arc;
    use std::sync::mpsc;

    fn content(payload: Payload) -> Result<Vec<u8>, NotKept> {
        payload.content.map(|(bytes, _)| bytes.to_vec())
    }

    #[test]
    fn a_long_payload_is_kept_by_its_beginning() {
        let room = Room::new(1 << 20);
        let mut capture = Capture::new(10, room.take(0));
        for part in ["abc", "defgh", "ijklm", "n"] {
            capture.push(part.as_bytes());
        }
        let payload = capture.into_payload("answer", None);
        assert_eq!(payload.whole, 14);
        assert_eq!(content(payload).unwrap(), b"abcdefghij");
        assert!(room.take(1 << 20).is_some(), "the room is free again");
    }

    #[test]
    fn without_room_nothing_gathers_and_that_is_said() {
        let room = Room::new(STEP * 2);
        let mut first = Capture::new(1 << 20, room.take(0));
        first.push(&[b'x'; STEP]);
        let copy = first.clone();
        let mut second = Capture::new(1 << 20, room.take(0));
        second.push(b"y");
        assert_eq!(
            content(second.into_payload("answer", None)),
            Err(NotKept::NoRoom)
        );
        drop(copy);
        first.push(&[b'x'; STEP]);
        assert_eq!(
            content(first.into_payload("answer", None)).unwrap(),
            [b'x'; STEP * 2]
        );
        assert!(Arc::clone(&room).take(STEP * 2).is_some());
    }

    #[test]
    fn whoever_hands_payloads_over_is_always_told() {
        let (sender, told) = mpsc::channel();
        let id = |n| DecisionId::new(Timestamp::UNIX_EPOCH, [n; 10]);
        let bundle = || {
            let sender = sender.clone();
            let payload = Payload {
                part: "request",
                whole: 3,
                hash: None,
                content: Err(NotKept::NoRoom),
            };
            let task = TaskId::new(Timestamp::UNIX_EPOCH, [1; 10]);
            Bundle::new(
                task,
                AgentName::parse("a").unwrap(),
                id(1),
                vec![payload],
                move |kept| {
                    sender.send(kept).unwrap();
                },
            )
        };
        drop(bundle());
        assert_eq!(told.recv().unwrap()[0].kept, Err(NotKept::Closed));
        bundle().refuse(NotKept::VaultFull);
        assert_eq!(told.recv().unwrap()[0].kept, Err(NotKept::VaultFull));
        bundle().tell(Vec::new());
        assert!(told.recv().unwrap().is_empty());
        assert!(told.try_recv().is_err(), "exactly once each");
    }
}
