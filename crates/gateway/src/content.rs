//! The content of what passes: hashed for the record, and kept in the vault where the configuration says
//! so. Written once for all enforcement points: what an action asks for is taken in by the pipeline, what
//! the agent gets by the [`Digest`] that it passes through.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use bytes::Bytes;
use model::config::{Config, RecordContent, WhenFull};
use model::{Denial, Rule, ServerName, Task};
use serde_json::{Value, json};
use vault::{Capture, Kept, Limits, Payload, Vault};

use crate::hex;
use crate::live::LiveTask;

/// What an action asks for, as the decision saw it.
pub(crate) const ARGUMENTS: &str = "arguments";
/// What the agent got.
const ANSWER: &str = "answer";

/// How the content at each server is treated.
#[derive(Default)]
pub struct Contents {
    vault: OnceLock<Arc<Vault>>,
    treated: ArcSwap<Treated>,
}

#[derive(Default)]
struct Treated {
    servers: BTreeMap<ServerName, RecordContent>,
    when_full: WhenFull,
    keep_days: u32,
}

/// What is done with the content of one action.
#[derive(Clone)]
pub(crate) enum Treatment {
    /// Nothing.
    Nothing,
    /// It is hashed.
    Hashed,
    /// It is hashed, and kept.
    Sealed(Arc<Vault>),
}

/// What the vault may hold, by a configuration.
#[must_use]
pub fn limits(config: &model::config::Vault) -> Limits {
    Limits {
        payload_bytes: config.payload_bytes,
        task_bytes: config.task_bytes,
        agent_bytes: config.agent_bytes,
        total_bytes: config.total_bytes,
    }
}

impl Contents {
    /// Says where content is kept; once, before anything is served.
    pub fn keep_in(&self, vault: Arc<Vault>) {
        // The first one stays: what is sealed in it would be lost otherwise.
        let _ = self.vault.set(vault);
    }

    /// Where content is kept, if it can be.
    #[must_use]
    pub fn vault(&self) -> Option<&Arc<Vault>> {
        self.vault.get()
    }

    /// Takes a configuration into use, for the very next action.
    pub fn configure(&self, config: &Config) {
        let servers = config.servers.iter();
        self.treated.store(Arc::new(Treated {
            servers: servers
                .map(|(name, server)| (name.clone(), server.record_content))
                .collect(),
            when_full: config.vault.when_full,
            keep_days: config.vault.keep_days,
        }));
        if let Some(vault) = self.vault() {
            vault.set_limits(limits(&config.vault));
        }
    }

    /// For how many days content is kept.
    #[must_use]
    pub fn keep_days(&self) -> u32 {
        self.treated.load().keep_days
    }

    pub(crate) fn of(&self, server: &ServerName) -> Treatment {
        match (self.treated.load().servers.get(server), self.vault()) {
            (Some(RecordContent::None), _) => Treatment::Nothing,
            (Some(RecordContent::Sealed), Some(vault)) => Treatment::Sealed(Arc::clone(vault)),
            _ => Treatment::Hashed,
        }
    }

    /// Why an action at a server is denied because its content could not be kept, if it is.
    pub(crate) fn refuses(&self, task: &Task, server: &ServerName) -> Option<Denial> {
        let treated = self.treated.load();
        let sealed = treated.servers.get(server) == Some(&RecordContent::Sealed);
        if treated.when_full == WhenFull::Drop || !sealed {
            return None;
        }
        let closed = || Err(vault::NotKept::Closed);
        let vault = self.vault();
        let kept = vault.map_or_else(closed, |vault| vault.would_keep(&task.id, &task.agent));
        let why = kept.err()?;
        tracing::warn!(%server, task = %task.id, %why, "an action is denied: its content could not be kept");
        Some(Denial {
            rule: Rule::AuditUnavailable,
            reason: "what passes at this server is kept, and could not be now".to_owned(),
            remedy: "an operator can see to the vault's limits and disk; then retry".to_owned(),
        })
    }
}

impl Treatment {
    /// The salted hash of a part, if there is to be one.
    pub(crate) fn hash(&self, task: &LiveTask, part: &[u8]) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Hashed | Self::Sealed(_) => Some(hex(hmac::sign(task.salt(), part).as_ref())),
        }
    }

    /// A part as a payload, if it is to be kept.
    pub(crate) fn payload(
        &self,
        part: &'static str,
        content: &Bytes,
        hash: Option<String>,
    ) -> Option<Payload> {
        match self {
            Self::Nothing | Self::Hashed => None,
            Self::Sealed(vault) => Some(vault.payload(part, content, hash)),
        }
    }
}

/// What the record of a result says of its content: hashes, lengths, and what is in the vault.
pub(crate) fn noted(kept: &[Kept]) -> Value {
    let parts = kept.iter().map(|kept| {
        let mut part = json!({ "part": kept.part, "bytes": kept.bytes });
        if let Some(hash) = &kept.hash {
            part["hash"] = hash.as_str().into();
        }
        match &kept.kept {
            Ok(bytes) => part["kept"] = (*bytes).into(),
            Err(why) => part["not_kept"] = why.to_string().into(),
        }
        part
    });
    parts.collect()
}

/// The salted hash and the length of an answer, taken while it passes; and the answer itself, where it is
/// kept.
#[derive(Clone)]
pub struct Digest {
    context: Option<hmac::Context>,
    bytes: u64,
    capture: Option<Capture>,
}

impl Digest {
    /// Begins a hash that is keyed with the salt of a task. Nothing of what is taken in is kept: for an
    /// action's answer see [`crate::pipeline::Permit::digest`].
    #[must_use]
    pub fn new(task: &LiveTask) -> Self {
        Self::of(&Treatment::Hashed, task)
    }

    pub(crate) fn of(treatment: &Treatment, task: &LiveTask) -> Self {
        let hashed = || hmac::Context::with_key(task.salt());
        let (context, capture) = match treatment {
            Treatment::Nothing => (None, None),
            Treatment::Hashed => (Some(hashed()), None),
            Treatment::Sealed(vault) => (Some(hashed()), Some(vault.capture())),
        };
        Self {
            context,
            bytes: 0,
            capture,
        }
    }

    /// Takes in the next bytes of the answer.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if let Some(context) = &mut self.context {
            context.update(bytes);
        }
        if let Some(capture) = &mut self.capture {
            capture.push(bytes);
        }
    }

    /// The salted hash of what was taken in so far, in hexadecimal; nothing where nothing is hashed.
    #[must_use]
    pub fn tag(&self) -> String {
        let signed = |context: &hmac::Context| hex(context.clone().sign().as_ref());
        self.context.as_ref().map_or_else(String::new, signed)
    }

    /// The length, the salted hash if there is to be one, and the payload if it is kept.
    pub(crate) fn finish(self) -> (u64, Option<String>, Option<Payload>) {
        let hash = self.context.map(|context| hex(context.sign().as_ref()));
        let capture = self.capture.filter(|_| self.bytes > 0);
        let payload = capture.map(|capture| capture.into_payload(ANSWER, hash.clone()));
        (self.bytes, hash, payload)
    }
}
