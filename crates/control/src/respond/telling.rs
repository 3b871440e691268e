//! Telling people: webhooks, tickets and e-mail. Where they are is for whoever writes the configuration to
//! say, so they may be anywhere; redirects lead nowhere all the same.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use bytes::Bytes;
use gateway::outbound::{Outbound, Post, Reach};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{
    AsyncSendmailTransport, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
};
use model::ServerName;
use model::config::{Channel, Response};
use response::Run;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// The header with the HMAC-SHA-256 of the body, in hexadecimal.
static SIGNATURE: HeaderName = HeaderName::from_static("x-sallyport-signature");
/// The header that names what is told, the same each time that it is tried.
static KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long an e-mail may take.
const MAIL: std::time::Duration = std::time::Duration::from_secs(20);

/// What is told.
pub(super) struct About<'a> {
    /// The words; the first line is the title.
    pub(super) text: &'a str,
    /// Names it, the same each time that it is tried.
    pub(super) key: &'a str,
    /// The run that it is about.
    pub(super) run: Option<&'a Run>,
}

impl About<'_> {
    fn title(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

/// Why nobody was told.
#[derive(Debug, thiserror::Error)]
pub enum TellingError {
    /// There is no such channel.
    #[error("there is no channel `{0}`")]
    Unknown(String),
    /// A channel cannot be used as it is configured.
    #[error("channel `{channel}`: {why}")]
    Channel {
        /// The channel.
        channel: String,
        /// Why not; never a secret.
        why: String,
    },
    /// It was not taken.
    #[error("channel `{channel}` did not take it: {why}")]
    Refused {
        /// The channel.
        channel: String,
        /// Why.
        why: String,
    },
}

impl TellingError {
    /// What to do about it, in words.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unknown(name) => {
                format!(
                    "add `[response.channels.{}]` to the configuration",
                    name.escape_debug()
                )
            }
            Self::Channel { .. } => "correct the channel in the configuration".to_owned(),
            Self::Refused { .. } => "see that it is up, and tell people by other ways".to_owned(),
        }
    }
}

/// The channels, with their secrets.
pub struct Teller {
    channels: BTreeMap<String, Ready>,
    rotations: BTreeMap<ServerName, hmac::Key>,
    outbound: Outbound,
}

enum Ready {
    Webhook {
        url: String,
        key: Option<Box<hmac::Key>>,
    },
    Ticket {
        url: String,
        credential: Option<(HeaderName, HeaderValue)>,
        title: String,
        text: String,
        fields: BTreeMap<String, String>,
    },
    Email {
        to: Vec<Mailbox>,
        from: Mailbox,
        server: Option<AsyncSmtpTransport<Tokio1Executor>>,
    },
}

impl Teller {
    /// Reads the channels of a configuration, with their secrets.
    ///
    /// # Errors
    /// [`TellingError::Channel`] for the first that cannot be used.
    pub fn new(settings: &Response) -> Result<Self, TellingError> {
        let mut channels = BTreeMap::new();
        for (name, channel) in &settings.channels {
            let ready = ready(channel).map_err(|why| TellingError::Channel {
                channel: name.clone(),
                why,
            })?;
            channels.insert(name.clone(), ready);
        }
        let mut rotations = BTreeMap::new();
        for (server, rotation) in &settings.rotations {
            if let Some(secret) = &rotation.secret {
                let key = key(secret).map_err(|why| TellingError::Channel {
                    channel: format!("rotations.{server}"),
                    why,
                })?;
                rotations.insert(server.clone(), key);
            }
        }
        let outbound = Outbound::new(None).map_err(|error| TellingError::Channel {
            channel: "all".to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self {
            channels,
            rotations,
            outbound,
        })
    }

    pub(super) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Signs what whoever keeps a server's credential is asked.
    pub(super) fn sign_rotation(&self, server: &ServerName, body: &[u8], headers: &mut HeaderMap) {
        if let Some(key) = self.rotations.get(server) {
            sign(key, body, headers);
        }
    }

    /// Tells people by a channel; in words how.
    ///
    /// # Errors
    /// [`TellingError`]
    pub(super) async fn tell(
        &self,
        channel: &str,
        about: &About<'_>,
    ) -> Result<String, TellingError> {
        let ready = self
            .channels
            .get(channel)
            .ok_or_else(|| TellingError::Unknown(channel.to_owned()))?;
        let refused = |why: String| TellingError::Refused {
            channel: channel.to_owned(),
            why,
        };
        match ready {
            Ready::Webhook { url, key } => {
                let body = webhook_body(about).to_string();
                let mut headers = headers(about);
                if let Some(key) = key {
                    sign(key, body.as_bytes(), &mut headers);
                }
                self.post(url, headers, body).await.map_err(refused)?;
            }
            Ready::Ticket {
                url,
                credential,
                title,
                text,
                fields,
            } => {
                let mut body: Map<String, Value> = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), value.as_str().into()))
                    .collect();
                body.insert(title.clone(), about.title().into());
                body.insert(text.clone(), about.text.into());
                let mut headers = headers(about);
                if let Some((name, value)) = credential {
                    headers.insert(name, value.clone());
                }
                let body = Value::Object(body).to_string();
                self.post(url, headers, body).await.map_err(refused)?;
            }
            Ready::Email { to, from, server } => {
                let message = mail(to, from, about).map_err(refused)?;
                let sent = async {
                    match server {
                        Some(server) => server
                            .send(message)
                            .await
                            .map(drop)
                            .map_err(|it| it.to_string()),
                        None => AsyncSendmailTransport::<Tokio1Executor>::new()
                            .send(message)
                            .await
                            .map_err(|it| it.to_string()),
                    }
                };
                match tokio::time::timeout(MAIL, sent).await {
                    Ok(sent) => sent.map_err(refused)?,
                    Err(_) => return Err(refused("it took longer than 20 seconds".to_owned())),
                }
            }
        }
        Ok(format!("`{channel}` was told"))
    }

    async fn post(&self, url: &str, headers: HeaderMap, body: String) -> Result<(), String> {
        let post = Post {
            method: Method::POST,
            url: url.to_owned(),
            reach: Reach::Any,
            headers,
            body: Bytes::from(body),
        };
        match self.outbound.send(post).await {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("status {}", status.as_u16())),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn ready(channel: &Channel) -> Result<Ready, String> {
    match channel {
        Channel::Webhook { url, secret } => Ok(Ready::Webhook {
            url: target(url)?,
            key: secret.as_ref().map(key).transpose()?.map(Box::new),
        }),
        Channel::Ticket {
            url,
            credential,
            title,
            text,
            fields,
        } => Ok(Ready::Ticket {
            url: target(url)?,
            credential: credential
                .as_ref()
                .map(gateway::upstream::credential_header)
                .transpose()?,
            title: title.clone(),
            text: text.clone(),
            fields: fields.clone(),
        }),
        Channel::Email {
            to,
            from,
            server,
            user,
            password,
        } => {
            let mailbox = |text: &String| {
                text.parse::<Mailbox>()
                    .map_err(|error| format!("`{}` is no address: {error}", text.escape_debug()))
            };
            if to.is_empty() {
                return Err("`to` names nobody".to_owned());
            }
            Ok(Ready::Email {
                to: to.iter().map(mailbox).collect::<Result<_, _>>()?,
                from: mailbox(from)?,
                server: server
                    .as_deref()
                    .map(|url| mail_server(url, user.as_deref(), password.as_ref()))
                    .transpose()?,
            })
        }
    }
}

fn target(url: &str) -> Result<String, String> {
    gateway::outbound::Origin::of(url)
        .map(|_| url.to_owned())
        .map_err(|why| format!("`url`: {why}"))
}

fn key(secret: &model::config::Secret) -> Result<hmac::Key, String> {
    let value = gateway::upstream::read_secret(secret)?;
    if value.len() < 16 {
        return Err("the secret is shorter than 16 bytes".to_owned());
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &value))
}

fn mail_server(
    url: &str,
    user: Option<&str>,
    password: Option<&model::config::Secret>,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let clear = |host: &str| {
        let host = host.split(':').next().unwrap_or_default();
        matches!(host, "127.0.0.1" | "localhost")
    };
    let (host, secure) = match (url.strip_prefix("smtps://"), url.strip_prefix("smtp://")) {
        (Some(host), _) => (host, true),
        (None, Some(host)) => (host, false),
        _ => return Err("`server` is like `smtps://mail.example.org`".to_owned()),
    };
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => {
            let port = port.parse::<u16>();
            (
                name,
                Some(port.map_err(|_| "the port of `server` is none".to_owned())?),
            )
        }
        None => (host, None),
    };
    let failed = |error: lettre::transport::smtp::Error| error.to_string();
    let mut builder = if secure {
        AsyncSmtpTransport::<Tokio1Executor>::relay(name).map_err(failed)?
    } else if clear(host) {
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(name)
    } else {
        AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(name).map_err(failed)?
    };
    if let Some(port) = port {
        builder = builder.port(port);
    }
    match (user, password) {
        (Some(user), Some(password)) => {
            let password = gateway::upstream::read_secret(password)?;
            let password = Zeroizing::new(
                String::from_utf8(password.to_vec())
                    .map_err(|_| "the password is no text".to_owned())?,
            );
            builder = builder.credentials(Credentials::new(
                user.to_owned(),
                password.as_str().to_owned(),
            ));
        }
        (None, None) => {}
        _ => return Err("`user` and `password` go together".to_owned()),
    }
    Ok(builder.timeout(Some(MAIL)).build())
}

fn headers(about: &About<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json);
    if let Ok(key) = HeaderValue::from_str(about.key) {
        headers.insert(&KEY, key);
    }
    headers
}

fn sign(key: &hmac::Key, body: &[u8], headers: &mut HeaderMap) {
    let tag = gateway::hex(hmac::sign(key, body).as_ref());
    if let Ok(value) = HeaderValue::from_str(&tag) {
        headers.insert(&SIGNATURE, value);
    }
}

fn webhook_body(about: &About<'_>) -> Value {
    let mut body = json!({ "text": about.text, "key": about.key });
    if let Some(run) = about.run {
        body["playbook"] = run.playbook.as_str().into();
        body["run"] = run.id.as_str().into();
        body["about"] = serde_json::to_value(&run.about).unwrap_or_default();
    }
    body
}

fn mail(to: &[Mailbox], from: &Mailbox, about: &About<'_>) -> Result<Message, String> {
    let mut message = Message::builder()
        .from(from.clone())
        .subject(format!("[Sallyport] {}", about.title()))
        .header(header::ContentType::TEXT_PLAIN)
        .message_id(Some(format!("<{}@sallyport>", about.key.replace('/', "."))));
    for one in to {
        message = message.to(one.clone());
    }
    message
        .body(about.text.to_owned())
        .map_err(|it| it.to_string())
}
