//! Errors of the token service (RFC 6749 §5.2, with the codes of RFC 8707, 9396 and 9449).

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use identity::dpop;
use model::{Denial, Rule};
use serde_json::json;

use crate::engine::EngineError;

/// An error as clients of OAuth expect it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OAuthError {
    /// The `error`.
    pub(super) code: &'static str,
    /// The reason, in words.
    pub(super) description: String,
    status: StatusCode,
    /// How long until the same may pass, where waiting is all that it takes.
    retry_after: Option<Duration>,
}

impl OAuthError {
    fn new(code: &'static str, description: impl Into<String>) -> Self {
        let status = match code {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            code,
            description: description.into(),
            status,
            retry_after: None,
        }
    }

    /// The request is malformed.
    pub(super) fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    /// The client is not who it says.
    pub(super) fn client(description: impl Into<String>) -> Self {
        Self::new("invalid_client", description)
    }

    /// The client may not have any token.
    pub(super) fn unauthorized(description: impl Into<String>) -> Self {
        Self::new("unauthorized_client", description)
    }

    /// The task cannot be used any more.
    pub(super) fn grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }

    /// Another kind of grant than those that are supported.
    pub(super) fn grant_type() -> Self {
        Self::new(
            "unsupported_grant_type",
            "only client_credentials is supported",
        )
    }

    /// Nothing can be had from the authorization endpoint (RFC 6749 §4.1.2.1).
    pub(super) fn response_type() -> Self {
        Self::new(
            "unsupported_response_type",
            "there is no authorization by browser here: use client_credentials at the token endpoint",
        )
    }

    /// The resource is malformed, unknown, or not the task's (RFC 8707 §2).
    pub(super) fn target(description: impl Into<String>) -> Self {
        Self::new("invalid_target", description)
    }

    /// The scope is not the resource's.
    pub(super) fn scope(description: impl Into<String>) -> Self {
        Self::new("invalid_scope", description)
    }

    /// The authorization details are not as they must be (RFC 9396 §5).
    pub(super) fn details(description: impl Into<String>) -> Self {
        Self::new("invalid_authorization_details", description)
    }

    /// The proof of possession is missing or wrong (RFC 9449 §5).
    pub(super) fn proof(description: impl Into<String>) -> Self {
        Self::new("invalid_dpop_proof", description)
    }

    /// The proof must carry a nonce (RFC 9449 §8), which the answer brings.
    pub(super) fn nonce() -> Self {
        Self::new("use_dpop_nonce", dpop::ProofError::NonceNeeded.to_string())
    }

    /// It comes too soon after others. RFC 6749 has no code for it; the status is that of RFC 6585 §4.
    pub(super) fn too_fast(denial: &Denial, wait: Duration) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(wait),
            ..Self::new("temporarily_unavailable", &denial.reason)
        }
    }

    /// Something that the service needs does not work.
    pub(super) fn unavailable(error: &EngineError) -> Self {
        tracing::error!(%error, "the token service cannot answer");
        Self::new(
            "temporarily_unavailable",
            "the service cannot answer now; see /readyz",
        )
    }

    /// The refusal as it is recorded.
    pub(super) fn denial(&self) -> Denial {
        Denial {
            rule: match self.code {
                "invalid_client" => Rule::Unauthenticated,
                "unauthorized_client" => Rule::AgentNotActive,
                "invalid_grant" => Rule::TaskNotOpen,
                "invalid_target" => Rule::ServerNotGranted,
                "invalid_dpop_proof" => Rule::ProofTooWeak,
                "use_dpop_nonce" => Rule::NonceNeeded,
                "temporarily_unavailable" if self.retry_after.is_some() => Rule::RateLimited,
                "temporarily_unavailable" => Rule::AuditUnavailable,
                _ => Rule::ProtocolViolation,
            },
            reason: format!("{}: {}", self.code, self.description),
            remedy: "correct the request; the error says what is wrong with it".to_owned(),
        }
    }
}

impl From<EngineError> for OAuthError {
    fn from(error: EngineError) -> Self {
        Self::unavailable(&error)
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        // The characters of RFC 6749 §5.2: printable ASCII without quotes and backslashes.
        let allowed = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        let description: String = self.description.chars().filter(allowed).collect();
        let body = json!({ "error": self.code, "error_description": description });
        let mut response = no_store((self.status, Json(body)).into_response());
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"sallyport\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, gateway::pace::retry_after(wait));
        }
        response
    }
}

/// Forbids to keep an answer (RFC 6749 §5.1).
pub(super) fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
