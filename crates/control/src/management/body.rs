//! Reading requests: strict JSON in, one page of a list out.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use model::json::{Limits, parse};
use serde::de::DeserializeOwned;

use super::problem::Refused;
use crate::api::{DEFAULT_LIMIT, MOST_LIMIT, Page};

const LIMITS: Limits = Limits {
    bytes: 64 << 10,
    depth: 16,
};

/// The body of a request, read strictly. An empty one is read as `{}`.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let kind = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| too_long(&error))?;
        let bytes = if bytes.is_empty() {
            Bytes::from_static(b"{}")
        } else if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
            bytes
        } else {
            return Err(Refused::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid_request",
                "the body must be application/json",
                "send it with `Content-Type: application/json`",
            ));
        };
        let value = parse(&bytes, LIMITS).map_err(|error| Refused::invalid(error.to_string()))?;
        let body = serde_json::from_value(value);
        body.map(Self)
            .map_err(|error| Refused::invalid(error.to_string()))
    }
}

fn too_long(error: &BytesRejection) -> Refused {
    Refused::new(
        error.status(),
        "invalid_request",
        "the body could not be read: it is too long, or broke off",
        "send at most 64 KiB",
    )
}

/// A part of a list, with filters.
pub(super) struct Part<F, C> {
    /// Entries at most.
    pub(super) limit: u32,
    /// The last entry of the page before.
    pub(super) before: Option<C>,
    /// Filters of the list.
    pub(super) filter: F,
}

impl<S, F, C> FromRequestParts<S> for Part<F, C>
where
    S: Send + Sync,
    F: DeserializeOwned,
    C: std::str::FromStr<Err: std::fmt::Display>,
{
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let _ = state;
        let query: Query<Vec<(String, String)>> =
            Query::try_from_uri(&parts.uri).map_err(|error| Refused::invalid(error.to_string()))?;
        let mut fields = serde_json::Map::new();
        let mut limit = DEFAULT_LIMIT;
        let mut before = None;
        for (name, value) in query.0 {
            match name.as_str() {
                "limit" => {
                    limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MOST_LIMIT).contains(limit))
                        .ok_or_else(|| {
                            Refused::invalid(format!("`limit` is a number from 1 to {MOST_LIMIT}"))
                        })?;
                }
                "before" => {
                    let cursor = value.parse::<C>();
                    before = Some(
                        cursor.map_err(|error| Refused::invalid(format!("`before`: {error}")))?,
                    );
                }
                _ => {
                    if fields.insert(name, value.into()).is_some() {
                        return Err(Refused::invalid("a query parameter stands more than once"));
                    }
                }
            }
        }
        let filter = serde_json::from_value(fields.into())
            .map_err(|error| Refused::invalid(format!("the query: {error}")))?;
        Ok(Self {
            limit,
            before,
            filter,
        })
    }
}

/// A page of what was read with one entry more than asked for, so that it is known whether more
/// follows.
pub(super) fn page<T, A>(
    mut found: Vec<T>,
    limit: u32,
    cursor: impl Fn(&T) -> String,
    shown: impl Fn(T) -> A,
) -> Page<A> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(cursor) } else { None };
    Page {
        items: found.into_iter().map(shown).collect(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_next() {
        let numbers = |count: u32| (0..count).collect::<Vec<_>>();
        let page_of = |count| page(numbers(count), 2, u32::to_string, |number| number);
        assert_eq!(
            page_of(3),
            Page {
                items: vec![0, 1],
                next: Some("1".to_owned())
            }
        );
        assert_eq!(
            page_of(2),
            Page {
                items: vec![0, 1],
                next: None
            }
        );
        assert_eq!(
            page_of(0),
            Page {
                items: vec![],
                next: None
            }
        );
    }
}
