//! The protected resources and their metadata (RFC 9728), and the challenges that lead there.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use model::config::ServerKind;
use model::{Proof, ServerName, TaskId};
use serde_json::json;

use crate::caller::Unauthenticated;
use crate::front::Settings;
use crate::problem::problem;
use crate::sources::Wrong;
use crate::{Body, full};

/// Where RFC 9728 puts the metadata: in front of the resource's path.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The kinds of servers, each with its own path.
const KINDS: [ServerKind; 5] = [
    ServerKind::Mcp,
    ServerKind::Http,
    ServerKind::Llm,
    ServerKind::A2a,
    ServerKind::Postgres,
];

/// One protected server as clients address it: `/<kind>/<server>`, or `/tasks/<task>/<kind>/<server>`
/// for clients that can name their task only by the URL. Databases are not reached over HTTP; their
/// route only names what tokens are made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What it speaks.
    pub kind: ServerKind,
    /// The server.
    pub server: ServerName,
    /// The task, when the URL names it.
    pub task: Option<TaskId>,
}

impl Route {
    /// Reads the path of a resource; `None` when it is no route. Only the one spelling that
    /// [`Self::path`] writes is accepted.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (route, rest) = Self::read(path)?;
        rest.is_empty().then_some(route)
    }

    /// Reads the path of a request: the route, and what is behind it, from its `/` on. An MCP server
    /// has nothing behind it, and a database is not here.
    #[must_use]
    pub fn split(path: &str) -> Option<(Self, &str)> {
        let (route, rest) = Self::read(path)?;
        let there = match route.kind {
            ServerKind::Mcp => rest.is_empty(),
            ServerKind::Http | ServerKind::Llm | ServerKind::A2a => true,
            ServerKind::Postgres => false,
        };
        there.then_some((route, rest))
    }

    fn read(path: &str) -> Option<(Self, &str)> {
        let (task, rest) = match path.strip_prefix("/tasks/") {
            Some(rest) => {
                let (task, rest) = rest.split_once('/')?;
                (Some(TaskId::parse(task).ok()?), rest)
            }
            None => (None, path.strip_prefix('/')?),
        };
        let (kind, rest) = rest.split_once('/')?;
        let kind = KINDS.into_iter().find(|known| known.as_str() == kind)?;
        let (server, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let server = ServerName::parse(server).ok()?;
        Some((Self { kind, server, task }, rest))
    }

    /// The path of the route.
    #[must_use]
    pub fn path(&self) -> String {
        let (kind, server) = (self.kind.as_str(), &self.server);
        match &self.task {
            Some(task) => format!("/tasks/{task}/{kind}/{server}"),
            None => format!("/{kind}/{server}"),
        }
    }

    /// The scope of its tokens: the kind's word.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        self.kind.as_str()
    }

    /// The route that a resource URL (RFC 8707) names at this gateway.
    #[must_use]
    pub fn of_resource(base_url: &str, resource: &str) -> Option<Self> {
        Self::parse(resource.strip_prefix(base_url)?)
    }

    /// The resource URL, which is the audience of its tokens.
    #[must_use]
    pub fn resource(&self, base_url: &str) -> String {
        format!("{base_url}{}", self.path())
    }

    /// The URL of its metadata.
    #[must_use]
    pub fn metadata_url(&self, base_url: &str) -> String {
        format!("{base_url}{WELL_KNOWN}{}", self.path())
    }

    /// The route that a metadata path is about.
    #[must_use]
    pub fn of_metadata_path(path: &str) -> Option<Self> {
        Self::parse(path.strip_prefix(WELL_KNOWN)?)
    }
}

/// The scopes that tokens for servers carry.
#[must_use]
pub fn scopes() -> [&'static str; 5] {
    KINDS.map(ServerKind::as_str)
}

/// The metadata document (RFC 9728 §2). It is the same for every well-formed route, so it tells
/// nobody which servers and tasks exist.
#[must_use]
pub fn metadata(route: &Route, settings: &Settings) -> Response<Body> {
    let name = format!("Sallyport: {} server {}", route.kind.as_str(), route.server);
    let resource = route.resource(&settings.base_url);
    let certificates = settings.certificates;
    describe(
        &resource,
        route.scope(),
        &name,
        &settings.issuer,
        certificates,
    )
}

/// The metadata document of a protected resource, by its URL, the scope of its tokens and its name.
/// `certificates` says whether tokens for it can be bound to certificates (RFC 8705 §3.3).
#[must_use]
pub fn describe(
    resource: &str,
    scope: &str,
    name: &str,
    issuer: &str,
    certificates: bool,
) -> Response<Body> {
    let document = json!({
        "resource": resource,
        "authorization_servers": [issuer],
        "scopes_supported": [scope],
        "bearer_methods_supported": ["header"],
        "resource_name": name,
        "dpop_signing_alg_values_supported": ["ES256", "EdDSA"],
        "dpop_bound_access_tokens_required": false,
        "tls_client_certificate_bound_access_tokens": certificates,
    });
    let mut response = Response::new(full(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=300"),
    );
    headers.insert(
        http::header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response
}

/// The answer to a request without a caller: 401 with a challenge (RFC 6750 §3, RFC 9449 §7.1,
/// RFC 9728 §5.1); 400 when the credentials were malformed.
#[must_use]
pub fn challenge(refused: &Unauthenticated, route: &Route, base_url: &str) -> Response<Body> {
    let metadata = route.metadata_url(base_url);
    let mut challenge = format!(
        "resource_metadata=\"{metadata}\", scope=\"{}\"",
        route.scope()
    );
    if let Some(error) = refused.error {
        let reason: String = refused
            .reason
            .chars()
            .filter(|c| c.is_ascii() && !matches!(c, '"' | '\\') && !c.is_control())
            .collect();
        challenge.push_str(&format!(
            ", error=\"{error}\", error_description=\"{reason}\""
        ));
    }
    let status = match refused.error {
        Some("invalid_request") => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNAUTHORIZED,
    };
    let mut response = match route.kind {
        ServerKind::Mcp => json_rpc(refused, status),
        _ => problem(status, &refused.reason, &refused.denial().remedy),
    };
    if refused.is_wrong() {
        response.extensions_mut().insert(Wrong);
    }
    let headers = response.headers_mut();
    let mut add = |scheme: &str, more: &str| {
        if let Ok(value) = HeaderValue::try_from(format!("{scheme} {challenge}{more}")) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    };
    // Bearer first: clients that know nothing of DPoP read the first challenge only.
    if refused.scheme == Proof::Bearer || refused.error.is_none() {
        add("Bearer", "");
    }
    if refused.scheme == Proof::Dpop {
        add("DPoP", ", algs=\"ES256 EdDSA\"");
    }
    if let Some(nonce) = refused
        .nonce
        .as_deref()
        .and_then(|n| HeaderValue::from_str(n).ok())
    {
        headers.insert(HeaderName::from_static("dpop-nonce"), nonce);
    }
    response
}

/// The refusal as a JSON-RPC error.
fn json_rpc(refused: &Unauthenticated, status: StatusCode) -> Response<Body> {
    let denial = refused.denial();
    let body = json!({
        "jsonrpc": "2.0",
        "id": null,
        "error": {
            "code": 401,
            "message": refused.reason,
            "data": { "rule": denial.rule.as_str(), "remedy": denial.remedy },
        },
    });
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_one_spelling() {
        for good in [
            "/mcp/files",
            "/tasks/task_0190b6a0000070008000000000000000/mcp/files",
        ] {
            assert_eq!(Route::parse(good).unwrap().path(), good);
        }
        for bad in [
            "/mcp/",
            "/mcp/files/",
            "//mcp/files",
            "/mcp/../files",
            "/mcp/%66iles",
            "/MCP/files",
            "/tasks/x/mcp/files",
            "/tasks//mcp/files",
            "mcp/files",
            "",
        ] {
            assert_eq!(Route::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn metadata_stands_in_front_of_the_path() {
        let route = Route::parse("/mcp/files").unwrap();
        let url = route.metadata_url("http://127.0.0.1:8601");
        assert_eq!(
            url,
            "http://127.0.0.1:8601/.well-known/oauth-protected-resource/mcp/files"
        );
        assert_eq!(
            Route::of_metadata_path("/.well-known/oauth-protected-resource/mcp/files"),
            Some(route)
        );
    }
}
