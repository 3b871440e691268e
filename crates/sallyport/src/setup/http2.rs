//! Which version of HTTP a server is spoken to with.

use model::config::{Http2, Server, ServerKind};
use model::name::ServerName;

use super::remarks::Remarks;

/// Checks that `http2` says something that holds for the server.
pub(super) fn check(remarks: &mut Remarks<'_>, name: &ServerName, server: &Server) {
    let path = ["servers", name.as_str(), "http2"];
    let clear = server
        .url
        .as_deref()
        .is_some_and(|url| url.starts_with("http://"));
    match (server.http2, server.kind) {
        (Http2::Never, _) => {}
        (_, ServerKind::Mcp | ServerKind::Postgres) => remarks.mistake(
            &path,
            format!(
                "`http2` is not for servers of the kind `{}`",
                server.kind.as_str()
            ),
            "leave it out",
        ),
        (Http2::Offered, _) if clear => remarks.advice(
            &path,
            "without TLS nothing is offered, so that HTTP/1.1 is spoken",
            "write `http2 = true` if the server speaks HTTP/2 without TLS, or use https",
        ),
        _ => {}
    }
}
