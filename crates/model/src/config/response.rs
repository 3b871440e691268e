//! What is done about incidents: `[response]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::inspection::Severity;
use crate::name::ServerName;

/// What is done about incidents, how far by itself, and who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Response {
    /// The mode of steps that take something away, where nothing else is said.
    pub mode: Mode,
    /// Modes by act, such as `agent.quarantine`; `PLAYBOOK/ACT` holds for one playbook only.
    pub modes: BTreeMap<String, Mode>,
    /// Which playbook is run for which findings. The first that fits counts.
    pub triggers: Vec<Trigger>,
    /// Who is told, and how.
    pub channels: BTreeMap<String, Channel>,
    /// How the credentials of servers are replaced.
    pub rotations: BTreeMap<ServerName, Rotation>,
}

/// How far the process goes by itself, the most careful last.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is done at once.
    Automatic,
    /// It is done when a person says so.
    #[default]
    OnApproval,
    /// It is noted what would be done, and nothing else.
    ObserveOnly,
}

impl Mode {
    /// The word in the configuration, the API and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::OnApproval => "on-approval",
            Self::ObserveOnly => "observe-only",
        }
    }
}

/// Which playbook is run for which findings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The playbook.
    pub playbook: String,
    /// Patterns of the rules that saw something, such as `instruction-*`; with none, all.
    #[serde(default)]
    pub rules: Vec<crate::Pattern>,
    /// How bad the incident is at least.
    #[serde(default = "Trigger::high")]
    pub severity: Severity,
}

impl Trigger {
    fn high() -> Severity {
        Severity::High
    }
}

/// How people are told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Channel {
    /// A POST of JSON: `{"text": …, "playbook": …, "run": …, "incident": …, "key": …}`.
    Webhook {
        /// Where to.
        url: String,
        /// Key of the HMAC-SHA-256 over the body, sent in `X-Sallyport-Signature` in hexadecimal.
        #[serde(default)]
        secret: Option<Secret>,
    },
    /// A POST that opens a ticket: members of `fields` are sent as they are, with the text in the
    /// member that `text` names and the first line of it in the one that `title` names.
    Ticket {
        /// Where to.
        url: String,
        /// The header that carries the credential.
        #[serde(default)]
        credential: Option<super::Credential>,
        /// The member for the first line.
        #[serde(default = "Channel::title")]
        title: String,
        /// The member for the text.
        #[serde(default = "Channel::description")]
        text: String,
        /// Further members.
        #[serde(default)]
        fields: BTreeMap<String, String>,
    },
    /// An e-mail through a mail server (SMTP), or through the program `sendmail` without one.
    Email {
        /// To whom.
        to: Vec<String>,
        /// From whom.
        from: String,
        /// The mail server: `smtps://host`, `smtp://host` with STARTTLS, or `smtp://127.0.0.1:25`
        /// without, on this machine.
        #[serde(default)]
        server: Option<String>,
        /// The user at the mail server.
        #[serde(default)]
        user: Option<String>,
        /// The user's password.
        #[serde(default)]
        password: Option<Secret>,
    },
}

impl Channel {
    fn title() -> String {
        "title".to_owned()
    }

    fn description() -> String {
        "description".to_owned()
    }

    /// The secrets that it names.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Secret> {
        match self {
            Self::Webhook { secret, .. } => secret.iter_mut().collect::<Vec<_>>(),
            Self::Ticket { credential, .. } => {
                credential.iter_mut().map(|it| &mut it.value).collect()
            }
            Self::Email { password, .. } => password.iter_mut().collect(),
        }
        .into_iter()
    }
}

/// How a server's credential is replaced: whoever keeps it is asked to, then its file is read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rotation {
    /// A URL that is POSTed to, and that answers when the new credential is in its place. Without one
    /// the file is only read again.
    pub hook: Option<String>,
    /// The key of the HMAC-SHA-256 over the body, as for webhooks.
    pub secret: Option<Secret>,
}
