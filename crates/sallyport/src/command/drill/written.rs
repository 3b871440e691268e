//! What the twin is configured with: the organisation's own settings, templates, annotations, policies, rules
//! and playbooks as they are, and a stand-in in the place of each server.

use std::net::SocketAddr;

use model::config::{Server, ServerKind};
use toml::{Table, Value};

use crate::setup::Setup;

/// The name of the template, and the agent, that drills add to look at policies alone.
pub(super) const STRANGER: &str = "zz-drill-stranger";

/// What reaches somebody, or needs what is not in the twin.
const REPLACED: [&str; 3] = ["proxy", "signals", "vault"];
/// What of `[response]` reaches somebody.
const OUTWARD: [&str; 2] = ["channels", "rotations"];
/// What a stand-in takes over from the server that it plays.
const TAKEN_OVER: [&str; 5] = ["kind", "description", "segment", "pins", "inspection"];
/// An address that nobody answers at, for servers that no stand-in plays.
const NOBODY: &str = "127.0.0.1:9";

/// The twin's `sallyport.toml`.
pub(super) fn configuration(
    mut original: Table,
    setup: &Setup,
    [control, gateway, postgres]: [SocketAddr; 3],
    url: impl Fn(ServerKind, &str) -> String,
) -> Table {
    for name in REPLACED {
        original.remove(name);
    }
    if let Some(Value::Table(response)) = original.get_mut("response") {
        for name in OUTWARD {
            response.remove(name);
        }
    }
    original.insert("data_dir".to_owned(), Value::String("data".to_owned()));
    for (name, address) in [
        ("control", control),
        ("gateway", gateway),
        ("postgres", postgres),
    ] {
        let mut listener = Table::new();
        listener.insert("listen".to_owned(), Value::String(address.to_string()));
        original.insert(name.to_owned(), Value::Table(listener));
    }
    let real = match original.remove("servers") {
        Some(Value::Table(servers)) => servers,
        _ => Table::new(),
    };
    let mut servers = Table::new();
    for (name, server) in &setup.config.servers {
        let written = real.get(name.as_str()).and_then(Value::as_table);
        let played = stand_in(server, written, url(server.kind, name.as_str()));
        servers.insert(name.to_string(), Value::Table(played));
    }
    original.insert("servers".to_owned(), Value::Table(servers));
    original
}

/// A server of the twin: what is decided about the real one, and the address of another.
fn stand_in(server: &Server, written: Option<&Table>, url: String) -> Table {
    let mut played = Table::new();
    let of = |key: &str| written.and_then(|written| written.get(key)).cloned();
    for key in TAKEN_OVER {
        if let Some(value) = of(key) {
            played.insert(key.to_owned(), value);
        }
    }
    let url = match server.kind {
        ServerKind::Postgres => format!("postgres://{NOBODY}/drill"),
        ServerKind::Mcp | ServerKind::Http => url,
        ServerKind::Llm | ServerKind::A2a => format!("http://{NOBODY}"),
    };
    played.insert("url".to_owned(), Value::String(url));
    // What one kind has besides, without credentials and addresses of others.
    let besides: (&str, &[&str]) = match server.kind {
        ServerKind::Http => ("http", &["call_token"]),
        ServerKind::Llm => ("llm", &["fallbacks"]),
        ServerKind::Postgres => ("postgres", &["password", "tls"]),
        ServerKind::Mcp | ServerKind::A2a => return played,
    };
    let (key, left_out) = besides;
    if let Some(Value::Table(mut table)) = of(key) {
        for name in left_out {
            table.remove(*name);
        }
        // Paths are relative to the real configuration.
        if let Some(file) = &server.http.openapi {
            let file = file.to_string_lossy().into_owned();
            table.insert("openapi".to_owned(), Value::String(file));
        }
        played.insert(key.to_owned(), Value::Table(table));
    }
    played
}

/// A template that grants an agent of no segment everything at all servers that a stand-in plays and that
/// belong to a segment; `None` when there are none.
pub(super) fn wide_template(setup: &Setup) -> Option<String> {
    let mut text = format!(
        "description = \"A drill: everything, for a stranger\"\nagents = [\"{STRANGER}\"]\nttl = \"10m\"\n"
    );
    let mut is_any = false;
    for (name, server) in &setup.config.servers {
        let what = match server.kind {
            ServerKind::Mcp => "tools",
            ServerKind::Http => "endpoints",
            _ => continue,
        };
        if server.segment.is_some() {
            is_any = true;
            text.push_str(&format!(
                "[[allow]]\nserver = \"{name}\"\n{what} = [\"*\"]\n"
            ));
        }
    }
    is_any.then_some(text)
}
