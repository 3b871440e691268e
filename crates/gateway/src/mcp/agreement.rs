//! The era of a request, and the agreement of headers with body that 2026-07-28 demands
//! (`basic/transports/streamable-http`, Request Metadata and Server Validation).
//!
//! What is authorised is always the body; the headers must say the same, because the upstream or
//! something in front of it may act on them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Map, Value, json};

use super::annotations::Annotated;
use super::message::Id;
use super::refusal::Refusal;
use super::revision::{Method, Revision};

/// `MCP-Protocol-Version`
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Method`
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// `Mcp-Session-Id`
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// `Last-Event-ID`
pub const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// What the headers begin with that repeat arguments.
pub const PARAM_PREFIX: &str = "mcp-param-";

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// JSON-RPC: the parameters are not acceptable.
pub const INVALID_PARAMS: i64 = -32_602;
/// JSON-RPC: no such method.
pub const METHOD_NOT_FOUND: i64 = -32_601;
/// JSON-RPC: not a request.
pub const INVALID_REQUEST: i64 = -32_600;
/// JSON-RPC: not JSON.
pub const PARSE_ERROR: i64 = -32_700;
/// MCP 2026-07-28: headers and body disagree.
pub const HEADER_MISMATCH: i64 = -32_020;
/// MCP 2026-07-28: a capability of the client is needed.
pub const MISSING_CAPABILITY: i64 = -32_021;
/// MCP 2026-07-28: the revision is not served.
pub const UNSUPPORTED_VERSION: i64 = -32_022;

/// How a message is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28 and later: the message stands for itself.
    Modern,
    /// The handshake era; the revision that the header names, if it names one.
    Legacy(Option<Revision>),
}

/// The one value of a header, without white space around it.
///
/// # Errors
/// What is wrong with it, in words: it is there twice, or has characters that it may not have.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(format!("header `{name}` is there more than once"));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim_matches([' ', '\t']))),
        Err(_) => Err(format!(
            "header `{name}` has characters that it may not have"
        )),
    }
}

fn mismatch(id: Option<&Id>, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, id, HEADER_MISMATCH, message)
}

/// Tells the era of one message.
///
/// # Errors
/// A [`Refusal`] when the version header cannot be read.
pub fn era(
    headers: &HeaderMap,
    method: Option<&str>,
    params: Option<&Map<String, Value>>,
    id: Option<&Id>,
) -> Result<Era, Refusal> {
    let version = single(headers, &VERSION).map_err(|problem| mismatch(id, problem))?;
    let meta = params
        .and_then(|params| params.get("_meta"))
        .and_then(Value::as_object);
    if meta.is_some_and(|m| m.contains_key(META_VERSION) || m.contains_key(META_CAPABILITIES)) {
        return Ok(Era::Modern);
    }
    let Some(version) = version else {
        return Ok(Era::Legacy(None));
    };
    match Revision::parse(version) {
        Some(revision) if revision.is_modern() => Ok(Era::Modern),
        Some(revision) => Ok(Era::Legacy(Some(revision))),
        // The handshake settles the revision in the body, whatever the header says.
        None if method == Some("initialize") => Ok(Era::Legacy(None)),
        None if headers.contains_key(SESSION) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            id,
            INVALID_REQUEST,
            format!("protocol version `{}` is not known here", shorten(version)),
        )),
        None => Ok(Era::Modern),
    }
}

/// Checks a modern request up to the point where its method is known: version, metadata, method.
///
/// # Errors
/// A [`Refusal`] with the status and code that 2026-07-28 prescribes.
pub fn check_modern(
    headers: &HeaderMap,
    id: &Id,
    method: &str,
    params: &Map<String, Value>,
) -> Result<Method, Refusal> {
    let bad = |problem: String| mismatch(Some(id), problem);
    let version = single(headers, &VERSION)
        .map_err(bad)?
        .ok_or_else(|| mismatch(Some(id), "header `MCP-Protocol-Version` is missing"))?;
    let invalid =
        |problem: &str| Refusal::new(StatusCode::BAD_REQUEST, Some(id), INVALID_PARAMS, problem);
    let meta = params
        .get("_meta")
        .and_then(Value::as_object)
        .ok_or_else(|| invalid("`params._meta` is missing"))?;
    let stated = meta
        .get(META_VERSION)
        .and_then(Value::as_str)
        .ok_or_else(|| {
            invalid("`params._meta` has no `io.modelcontextprotocol/protocolVersion`")
        })?;
    if stated != version {
        return Err(mismatch(
            Some(id),
            "header `MCP-Protocol-Version` and the body name different versions",
        ));
    }
    if !meta.get(META_CAPABILITIES).is_some_and(Value::is_object) {
        return Err(invalid(
            "`params._meta` has no `io.modelcontextprotocol/clientCapabilities`",
        ));
    }
    let Some(revision) = Revision::parse(version).filter(|revision| revision.is_modern()) else {
        let mut refusal = Refusal::new(
            StatusCode::BAD_REQUEST,
            Some(id),
            UNSUPPORTED_VERSION,
            "this protocol version is not served",
        );
        refusal.data = Some(Box::new(
            json!({ "supported": Revision::MODERN, "requested": shorten(version) }),
        ));
        return Err(refusal);
    };
    match single(headers, &METHOD).map_err(bad)? {
        None => return Err(mismatch(Some(id), "header `Mcp-Method` is missing")),
        Some(named) if named != method => {
            return Err(mismatch(
                Some(id),
                "header `Mcp-Method` and the body name different methods",
            ));
        }
        Some(_) => {}
    }
    let known = Method::of(revision, method).ok_or_else(|| method_not_found(revision, id))?;
    check_name(headers, id, known, params)?;
    Ok(known)
}

/// The refusal of a method that the revision does not have.
#[must_use]
pub fn method_not_found(revision: Revision, id: &Id) -> Refusal {
    let status = if revision.is_modern() {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    };
    let message = format!("revision {revision} has no such method");
    Refusal::new(status, Some(id), METHOD_NOT_FOUND, message)
}

fn check_name(
    headers: &HeaderMap,
    id: &Id,
    method: Method,
    params: &Map<String, Value>,
) -> Result<(), Refusal> {
    let bad = |problem: String| mismatch(Some(id), problem);
    let header = single(headers, &NAME).map_err(bad)?;
    let Some(parameter) = method.named_by() else {
        return Ok(());
    };
    let stated = params.get(parameter).and_then(Value::as_str);
    match (header, stated) {
        (None, None) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            Some(id),
            INVALID_PARAMS,
            format!("`params.{parameter}` is missing"),
        )),
        (None, Some(_)) => Err(mismatch(Some(id), "header `Mcp-Name` is missing")),
        (Some(header), stated) => {
            let decoded = decode(header).map_err(bad)?;
            if stated == Some(decoded.as_ref()) {
                Ok(())
            } else {
                Err(mismatch(
                    Some(id),
                    format!("header `Mcp-Name` and `params.{parameter}` differ"),
                ))
            }
        }
    }
}

/// Checks the headers that repeat arguments, for a tool whose annotations are known.
///
/// # Errors
/// A [`Refusal`] with -32020 when one is missing, superfluous, unreadable or different.
pub fn check_arguments(
    headers: &HeaderMap,
    id: &Id,
    annotated: &[Annotated],
    arguments: &Map<String, Value>,
) -> Result<(), Refusal> {
    for parameter in annotated {
        let name = &parameter.header;
        let header = single(headers, name).map_err(|problem| mismatch(Some(id), problem))?;
        let value = parameter.value(arguments).filter(|value| !value.is_null());
        let agrees = match (header, value) {
            (None, None) => true,
            (Some(header), Some(value)) => {
                let decoded = decode(header).map_err(|problem| mismatch(Some(id), problem))?;
                says(&decoded, value)
            }
            _ => false,
        };
        if !agrees {
            return Err(mismatch(
                Some(id),
                format!("header `{name}` and the argument that it repeats differ"),
            ));
        }
    }
    Ok(())
}

/// Whether a header's decoded text stands for an argument's value.
fn says(text: &str, value: &Value) -> bool {
    match value {
        Value::String(value) => text == value,
        Value::Bool(value) => text == if *value { "true" } else { "false" },
        Value::Number(number) => {
            let whole = |n: f64| n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_991.0;
            match (text.parse::<i64>(), number.as_i64()) {
                (Ok(a), Some(b)) => a == b,
                _ => match (plain_number(text), number.as_f64()) {
                    #[expect(
                        clippy::float_cmp,
                        reason = "both are whole numbers that f64 holds exactly"
                    )]
                    (Some(a), Some(b)) => whole(a) && whole(b) && a == b,
                    _ => false,
                },
            }
        }
        _ => false,
    }
}

/// Digits with an optional sign and fraction: nothing that only some number readers take.
fn plain_number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (plain && digits.starts_with(|c: char| c.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Decodes a value that may be in the `=?base64?…?=` form (Value Encoding).
fn decode(text: &str) -> Result<Cow<'_, str>, String> {
    let inner = text
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    let Some(inner) = inner else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = STANDARD
        .decode(inner)
        .map_err(|_| "a header value in the base64 form cannot be decoded".to_owned())?;
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| "a header value in the base64 form is not UTF-8".to_owned())
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    fn params(mut more: Value) -> Map<String, Value> {
        more["_meta"] = json!({ META_VERSION: "2026-07-28", META_CAPABILITIES: {} });
        more.as_object().unwrap().clone()
    }

    fn check(
        of: &[(&'static str, &str)],
        method: &str,
        p: &Map<String, Value>,
    ) -> Result<Method, (u16, i64)> {
        check_modern(&headers(of), &Id::Number(1), method, p)
            .map_err(|refusal| (refusal.status.as_u16(), refusal.code))
    }

    const V: (&str, &str) = ("mcp-protocol-version", "2026-07-28");

    #[test]
    fn the_body_decides_and_the_headers_agree() {
        let call = params(json!({ "name": "read" }));
        let m = ("mcp-method", "tools/call");
        assert_eq!(
            check(&[V, m, ("mcp-name", "read")], "tools/call", &call),
            Ok(Method::CallTool)
        );
        let encoded = ("mcp-name", "=?base64?cmVhZA==?=");
        assert_eq!(
            check(&[V, m, encoded], "tools/call", &call),
            Ok(Method::CallTool)
        );
        for wrong in [
            "Read",
            "",
            "=?base64?cmVhZA?=",
            "=?base64?%%%%?=",
            "=?BASE64?cmVhZA==?=",
        ] {
            let refused = check(&[V, m, ("mcp-name", wrong)], "tools/call", &call);
            assert_eq!(refused, Err((400, HEADER_MISMATCH)), "{wrong}");
        }
        assert_eq!(
            check(&[V, m], "tools/call", &call),
            Err((400, HEADER_MISMATCH))
        );
        let other = ("mcp-method", "tools/list");
        assert_eq!(
            check(&[V, other], "tools/call", &call),
            Err((400, HEADER_MISMATCH))
        );
        assert_eq!(
            check(&[V], "tools/list", &params(json!({}))),
            Err((400, HEADER_MISMATCH))
        );
        let twice = [V, m, ("mcp-name", "read"), ("mcp-name", "write")];
        let mut map = headers(&twice[..3]);
        map.append(NAME, HeaderValue::from_static("write"));
        assert!(check_modern(&map, &Id::Number(1), "tools/call", &call).is_err());
    }

    #[test]
    fn the_prescribed_codes() {
        let m = ("mcp-method", "tools/list");
        let empty = Map::new();
        assert_eq!(
            check(&[V, m], "tools/list", &empty),
            Err((400, INVALID_PARAMS))
        );
        assert_eq!(
            check(&[m], "tools/list", &params(json!({}))),
            Err((400, HEADER_MISMATCH))
        );
        let mut p = params(json!({}));
        p["_meta"]
            .as_object_mut()
            .unwrap()
            .remove(META_CAPABILITIES);
        assert_eq!(check(&[V, m], "tools/list", &p), Err((400, INVALID_PARAMS)));
        let mut p = params(json!({}));
        p["_meta"][META_VERSION] = json!("v999");
        assert_eq!(
            check(&[V, m], "tools/list", &p),
            Err((400, HEADER_MISMATCH))
        );
        let old = [("mcp-protocol-version", "v999"), m];
        assert_eq!(
            check(&old, "tools/list", &p),
            Err((400, UNSUPPORTED_VERSION))
        );
        for removed in ["ping", "initialize", "unknown/method"] {
            let m = ("mcp-method", removed);
            assert_eq!(
                check(&[V, m], removed, &params(json!({}))),
                Err((404, METHOD_NOT_FOUND))
            );
        }
    }

    #[test]
    fn the_era_is_told_by_metadata_first() {
        let meta = params(json!({}));
        let legacy = headers(&[("mcp-protocol-version", "2025-11-25")]);
        let of = |h: &HeaderMap, m, p| era(h, Some(m), p, None).map_err(|r| r.code);
        assert_eq!(of(&legacy, "tools/list", Some(&meta)), Ok(Era::Modern));
        assert_eq!(
            of(&legacy, "ping", None),
            Ok(Era::Legacy(Some(Revision::V2025_11_25)))
        );
        assert_eq!(
            of(&HeaderMap::new(), "initialize", None),
            Ok(Era::Legacy(None))
        );
        let unknown = headers(&[("mcp-protocol-version", "2031-01-01")]);
        assert_eq!(of(&unknown, "tools/list", None), Ok(Era::Modern));
        assert_eq!(of(&unknown, "initialize", None), Ok(Era::Legacy(None)));
        let session = headers(&[
            ("mcp-protocol-version", "2031-01-01"),
            ("mcp-session-id", "x"),
        ]);
        assert_eq!(of(&session, "tools/list", None), Err(INVALID_REQUEST));
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        for (text, value) in [
            ("42", json!(42)),
            ("42.0", json!(42)),
            ("-7", json!(-7)),
            ("42", json!(42.0)),
        ] {
            assert!(says(text, &value), "{text} {value}");
        }
        for (text, value) in [
            ("43", json!(42)),
            ("", json!(0)),
            ("inf", json!(1)),
            ("1e1", json!(10)),
            ("0x1", json!(1)),
            ("1", json!("2")),
        ] {
            assert!(!says(text, &value), "{text} {value}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_agrees_and_nothing_else(name in "\\PC{1,20}", other in "\\PC{1,20}") {
            let header = format!("=?base64?{}?=", STANDARD.encode(&name));
            let call = params(json!({ "name": name }));
            let m = ("mcp-method", "tools/call");
            let ok = check(&[V, m, ("mcp-name", &header)], "tools/call", &call);
            prop_assert_eq!(ok, Ok(Method::CallTool));
            if other != name {
                let call = params(json!({ "name": other }));
                let refused = check(&[V, m, ("mcp-name", &header)], "tools/call", &call);
                prop_assert_eq!(refused, Err((400, HEADER_MISMATCH)));
            }
        }
    }
}
