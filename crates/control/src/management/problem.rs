//! Errors of the management API (RFC 9457).

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use store::StoreError;
use vault::VaultError;

use crate::api::Problem;
use crate::engine::EngineError;

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    status: StatusCode,
    rule: &'static str,
    detail: String,
    remedy: String,
    /// How long until the same may pass, where waiting is all that it takes.
    retry_after: Option<Duration>,
}

impl Refused {
    pub(crate) fn new(
        status: StatusCode,
        rule: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status,
            rule,
            detail: detail.into(),
            remedy: remedy.into(),
            retry_after: None,
        }
    }

    /// It comes too soon after others.
    pub(crate) fn too_fast(denial: &model::Denial, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                denial.rule.as_str(),
                &denial.reason,
                &denial.remedy,
            )
        }
    }

    /// The request cannot be read.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        let remedy = "correct the request and send it again";
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail, remedy)
    }

    /// There is nothing there.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        let remedy = "check the path; the API is described in docs/api.md";
        Self::new(StatusCode::NOT_FOUND, "not_found", detail, remedy)
    }

    /// Nobody is known who asks.
    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            detail,
            "send the operator's token as a bearer token, or an access token of an instance with \
             a DPoP proof",
        )
    }

    /// Whoever asks must say a nonce in the proof (RFC 9449 §9).
    pub(crate) fn nonce_needed(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            model::Rule::NonceNeeded.as_str(),
            detail,
            "send the same again with a new proof that has the nonce in it",
        )
    }

    /// The caller is known and may not.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            detail,
            "ask an operator to do it",
        )
    }

    /// The reason as it is recorded.
    pub(crate) fn denial(&self) -> model::Denial {
        model::Denial {
            rule: match self.status {
                StatusCode::FORBIDDEN => model::Rule::NotGranted,
                StatusCode::TOO_MANY_REQUESTS => model::Rule::RateLimited,
                _ if self.rule == model::Rule::NonceNeeded.as_str() => model::Rule::NonceNeeded,
                _ => model::Rule::Unauthenticated,
            },
            reason: self.detail.clone(),
            remedy: self.remedy.clone(),
        }
    }
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        let status = match &error {
            EngineError::NotFound { .. }
            | EngineError::Vault(VaultError::Nothing { .. } | VaultError::NothingOf { .. }) => {
                StatusCode::NOT_FOUND
            }
            EngineError::Vault(VaultError::Destroyed { .. }) => StatusCode::GONE,
            EngineError::Invalid(_) | EngineError::Redaction(_) => StatusCode::BAD_REQUEST,
            EngineError::Conflict { .. }
            | EngineError::Store(StoreError::AgentExists(_) | StoreError::KeyInUse) => {
                StatusCode::CONFLICT
            }
            EngineError::Forbidden { .. } => StatusCode::FORBIDDEN,
            EngineError::EnrolmentRefused => StatusCode::UNAUTHORIZED,
            EngineError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(%error, "a request could not be carried out");
        }
        Self::new(status, error.rule(), error.to_string(), error.remedy())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = refusal(self.status, self.rule, &self.detail, &self.remedy);
        if let Some(wait) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, gateway::pace::retry_after(wait));
        }
        response
    }
}

/// The answer to a request that was refused.
pub(crate) fn refusal(status: StatusCode, rule: &str, detail: &str, remedy: &str) -> Response {
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("Refused").to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
        rule: rule.to_owned(),
        remedy: remedy.to_owned(),
    };
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if status == StatusCode::UNAUTHORIZED {
        headers.append(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"sallyport\""),
        );
        let dpop = match rule == model::Rule::NonceNeeded.as_str() {
            true => {
                "DPoP realm=\"sallyport\", algs=\"ES256 EdDSA\", scope=\"tasks\", error=\"use_dpop_nonce\""
            }
            false => "DPoP realm=\"sallyport\", algs=\"ES256 EdDSA\", scope=\"tasks\"",
        };
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(dpop));
    }
    response
}
