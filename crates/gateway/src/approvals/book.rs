//! What one task has asked people for, and what they allowed it.

use jiff::Timestamp;
use model::ApprovalId;
use model::approval::{Allowance, Approval, ApprovalStatus};
use model::config::Approvals as Settings;
use model::provenance::Asked;
use policy::{Allowed, InvalidAllowance};

use super::call::{Call, Of};

/// The book of one task. Bounded: it never holds more entries than requests of the task that were filed,
/// whose number is limited.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: Vec<Entry>,
    /// How many requests were made in all.
    made: usize,
    /// Whether it was said that too many were.
    warned: bool,
}

#[derive(Debug)]
struct Entry {
    id: ApprovalId,
    /// What it is about.
    of: Of,
    tag: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It waits for a person, and is kept at the desk or about to be.
    Waiting { filed: bool, until: Timestamp },
    /// A person allowed it.
    Allowed {
        allowed: Allowed,
        left: u32,
        until: Timestamp,
    },
    /// A person refused it.
    Refused,
}

/// How a call stands that no approval lets through.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A request waits, or is to be filed.
    Waiting {
        /// Its id.
        id: ApprovalId,
        /// Whether it is at the desk already.
        filed: bool,
        /// Until when it waits.
        until: Timestamp,
    },
    /// A person refused exactly this.
    Refused(ApprovalId),
    /// The task has asked too often.
    TooMany {
        /// Why, in words.
        why: String,
        /// Whether this is the first time.
        first: bool,
    },
}

impl Book {
    /// Uses an approval that covers a call, if there is one: the count goes down at once.
    pub(crate) fn take(
        &mut self,
        call: &Call,
        asked: &[Asked],
        now: Timestamp,
    ) -> Option<ApprovalId> {
        self.entries.iter_mut().find_map(|entry| {
            let same = entry.tag == call.tag;
            let about = same || entry.of == call.of;
            match &mut entry.state {
                State::Allowed {
                    allowed,
                    left,
                    until,
                } if about && *left > 0 && now < *until && allowed.covers(same, asked) => {
                    *left -= 1;
                    Some(entry.id)
                }
                _ => None,
            }
        })
    }

    /// The request for a call: the one that there is, or a new one with this id.
    pub(crate) fn request(
        &mut self,
        call: &Call,
        id: ApprovalId,
        now: Timestamp,
        ends: Timestamp,
        settings: &Settings,
    ) -> Standing {
        self.entries.retain(|entry| match &entry.state {
            State::Waiting { until, .. } => now < *until,
            State::Allowed { left, until, .. } => *left > 0 && now < *until,
            State::Refused => true,
        });
        let mut waiting = 0;
        for entry in &self.entries {
            let same = entry.tag == call.tag;
            match &entry.state {
                State::Waiting { filed, until } if same => {
                    return Standing::Waiting {
                        id: entry.id,
                        filed: *filed,
                        until: *until,
                    };
                }
                State::Refused if same => return Standing::Refused(entry.id),
                State::Waiting { .. } => waiting += 1,
                _ => {}
            }
        }
        let why = if waiting >= settings.waiting_per_task {
            Some(format!(
                "{waiting} requests of this task wait for a person already"
            ))
        } else if self.made >= settings.requests_per_task {
            Some(format!(
                "the task has asked for approval {} times already",
                self.made
            ))
        } else {
            None
        };
        if let Some(why) = why {
            let first = !std::mem::replace(&mut self.warned, true);
            return Standing::TooMany { why, first };
        }
        self.made += 1;
        let wait =
            jiff::SignedDuration::from_secs(settings.wait_seconds.min(i64::MAX as u64) as i64);
        let until = now.saturating_add(wait).unwrap_or(ends).min(ends);
        self.entries.push(Entry {
            id,
            of: call.of.clone(),
            tag: call.tag.clone(),
            state: State::Waiting {
                filed: false,
                until,
            },
        });
        Standing::Waiting {
            id,
            filed: false,
            until,
        }
    }

    /// Says that a request is at the desk.
    pub(crate) fn filed(&mut self, id: ApprovalId) {
        if let Some(State::Waiting { filed, .. }) = self.state_of(id) {
            *filed = true;
        }
    }

    /// Forgets a request that could not be filed.
    pub(crate) fn forget(&mut self, id: ApprovalId) {
        self.entries.retain(|entry| {
            entry.id != id || !matches!(entry.state, State::Waiting { filed: false, .. })
        });
    }

    /// Takes over what a person allowed.
    pub(crate) fn allow(
        &mut self,
        id: ApprovalId,
        allowance: &Allowance,
        used: u32,
    ) -> Result<(), InvalidAllowance> {
        let allowed = Allowed::new(&allowance.covers)?;
        if let Some(state) = self.state_of(id) {
            *state = State::Allowed {
                allowed,
                left: allowance.uses.saturating_sub(used),
                until: allowance.until,
            };
        }
        Ok(())
    }

    /// Takes over that a person refused something, or took it back.
    pub(crate) fn refuse(&mut self, id: ApprovalId) {
        if let Some(state) = self.state_of(id) {
            *state = State::Refused;
        }
    }

    /// Forgets a request that was taken back. It stays counted.
    pub(crate) fn withdraw(&mut self, id: ApprovalId) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// Takes over what was filed before a restart.
    pub(crate) fn restore(&mut self, approval: &Approval) -> Result<(), InvalidAllowance> {
        self.made += 1;
        let allowance = approval.decided.as_ref().and_then(|it| it.allows.as_ref());
        let state = match (approval.status, allowance) {
            (ApprovalStatus::Pending, _) => State::Waiting {
                filed: true,
                until: approval.expires_at,
            },
            (ApprovalStatus::Approved, Some(allowance)) => State::Allowed {
                allowed: Allowed::new(&allowance.covers)?,
                left: allowance.uses.saturating_sub(approval.used),
                until: allowance.until,
            },
            (ApprovalStatus::Denied, _) => State::Refused,
            _ => return Ok(()),
        };
        self.entries.push(Entry {
            id: approval.id,
            of: Of::restored(approval),
            tag: approval.call.clone(),
            state,
        });
        Ok(())
    }

    fn state_of(&mut self, id: ApprovalId) -> Option<&mut State> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id);
        entry.map(|entry| &mut entry.state)
    }
}
