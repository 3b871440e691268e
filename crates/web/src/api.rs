//! One API of the configuration, ready for use.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use gateway::upstream::Web;
use http::HeaderName;
use model::config::CallToken;
use model::name::TrustDomain;

use crate::openapi;
use crate::redaction::Redaction;
use crate::routes::{Route, Routes};

/// One API.
pub(crate) struct Api {
    pub(crate) web: Arc<Web>,
    pub(crate) routes: Routes,
    /// By the name of the endpoint.
    pub(crate) redactions: HashMap<String, Redaction>,
    /// Headers of requests that pass besides the common ones.
    pub(crate) headers: Vec<HeaderName>,
    /// The longest body that may pass though nobody can look into it; none may if absent.
    pub(crate) opaque_bytes: Option<u64>,
    pub(crate) call_token: Option<CallTokens>,
    /// Whether agents may ask for parts of answers.
    pub(crate) ranges: bool,
    /// Kinds of content that may pass though nobody can look into them.
    pub(crate) opaque_answers: Vec<String>,
}

/// How credentials for single requests are made.
pub(crate) struct CallTokens {
    pub(crate) audience: String,
    pub(crate) header: HeaderName,
    pub(crate) trust_domain: TrustDomain,
}

impl Api {
    pub(crate) fn new(web: Arc<Web>, trust_domain: &TrustDomain) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let settings = &web.server().http;
        let mut routes = Vec::new();
        for written in &settings.routes {
            match Route::parse(written) {
                Ok(route) => routes.push(route),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        if let Some(file) = &settings.openapi {
            match read(file).and_then(|text| openapi::routes(&text)) {
                Ok(declared) => routes.extend(declared),
                Err(why) => wrong.push(format!("`openapi` {}: {why}", file.display())),
            }
        }
        let routes = Routes::new(routes);
        if routes.is_empty() && wrong.is_empty() {
            wrong.push(
                "it has neither `routes` nor `openapi`, so nothing could be requested".to_owned(),
            );
        }
        let mut redactions = HashMap::new();
        for (endpoint, expressions) in &settings.redact {
            if !routes.names().any(|name| name == *endpoint) {
                wrong.push(format!("`redact` names `{endpoint}`, which is no endpoint"));
            }
            match Redaction::parse(expressions) {
                Ok(redaction) => drop(redactions.insert(endpoint.clone(), redaction)),
                Err(why) => wrong.push(why),
            }
        }
        let mut headers = Vec::new();
        for name in &settings.headers {
            match crate::headers::may_be_passed(name) {
                Ok(name) => headers.push(name),
                Err(why) => wrong.push(format!("`headers`: `{}` {why}", name.escape_debug())),
            }
        }
        let call_token = settings.call_token.as_ref().and_then(|written| {
            match tokens(written, &web, trust_domain) {
                Ok(tokens) => Some(tokens),
                Err(why) => {
                    wrong.push(why);
                    None
                }
            }
        });
        for pattern in &settings.opaque_answers {
            if !is_kind(pattern) {
                let pattern = pattern.escape_debug();
                wrong.push(format!(
                    "`opaque_answers`: `{pattern}` is no kind of content; write `image/png` or `image/*`"
                ));
            }
        }
        if settings.opaque_bytes.is_some() && !settings.opaque_bodies {
            wrong.push("it has `opaque_bytes` without `opaque_bodies = true`".to_owned());
        }
        if call_token.is_some() && web.server().credential.is_some() {
            wrong.push("it has both `credential` and `call_token`; keep one".to_owned());
        }
        if !wrong.is_empty() {
            let name = web.name();
            return Err(wrong
                .into_iter()
                .map(|why| format!("server `{name}`: {why}"))
                .collect());
        }
        let (ranges, opaque_answers) = (settings.ranges, settings.opaque_answers.clone());
        let opaque_bytes = settings.opaque_bodies.then(|| settings.opaque_bytes());
        Ok(Self {
            web,
            routes,
            redactions,
            headers,
            opaque_bytes,
            call_token,
            ranges,
            opaque_answers,
        })
    }
}

/// Whether a text is `type/subtype` or `type/*` (RFC 9110 §8.3.1).
fn is_kind(text: &str) -> bool {
    let token = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed)
    };
    text.split_once('/')
        .is_some_and(|(kind, sub)| token(kind) && (sub == "*" || token(sub)))
}

fn tokens(
    written: &CallToken,
    web: &Web,
    trust_domain: &TrustDomain,
) -> Result<CallTokens, String> {
    let header = HeaderName::try_from(written.header.as_str())
        .map_err(|_| "the `header` of `call_token` is no header name".to_owned())?;
    Ok(CallTokens {
        audience: written.audience.clone().unwrap_or_else(|| web.base_url()),
        header,
        trust_domain: trust_domain.clone(),
    })
}

pub(crate) fn read(file: &Path) -> Result<String, String> {
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let length = opened
        .take(openapi::LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if length as u64 > openapi::LONGEST {
        return Err(format!("it is longer than {} bytes", openapi::LONGEST));
    }
    Ok(text)
}
