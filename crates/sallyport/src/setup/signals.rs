//! What `[signals]` must be beyond its format.

use model::config::{Config, Secret, ServerKind, SignalTransmitter};
use model::name::ServerName;

use super::remarks::Remarks;

/// Checks it.
pub(super) fn check(remarks: &mut Remarks<'_>, config: &Config) {
    let signals = &config.signals;
    for (name, receiver) in &signals.receivers {
        let at = |member: &'static str| ["signals", "receivers", name.as_str(), member];
        named(remarks, "receivers", name);
        url(remarks, &at("audience"), &receiver.audience);
        token(remarks, &at("token"), &receiver.token);
        match (&receiver.server, &receiver.push) {
            (Some(server), Some(path)) => {
                server_of(remarks, &at("server"), config, server);
                self::path(remarks, &at("push"), path);
            }
            (None, None) => {}
            _ => remarks.mistake(
                &["signals", "receivers", name.as_str()],
                "`server` and `push` belong together: where events can be pushed to, and the path there",
                "give both, or none for a receiver that polls",
            ),
        }
    }
    for (name, transmitter) in &signals.transmitters {
        let at = |member: &'static str| ["signals", "transmitters", name.as_str(), member];
        named(remarks, "transmitters", name);
        url(remarks, &at("issuer"), &transmitter.issuer);
        if let Some(server) = &transmitter.server {
            server_of(remarks, &at("server"), config, server);
        }
        if let Some(keys) = &transmitter.keys {
            path(remarks, &at("keys"), keys);
        }
        if let Some(keys) = &transmitter.jwks_uri {
            place(remarks, &at("jwks_uri"), keys, transmitter.private);
        }
        if transmitter.discover {
            place(
                remarks,
                &at("issuer"),
                &transmitter.issuer,
                transmitter.private,
            );
        }
        if let Some(oauth) = &transmitter.oauth {
            let at =
                |member: &'static str| ["signals", "transmitters", name.as_str(), "oauth", member];
            place(
                remarks,
                &at("token_endpoint"),
                &oauth.token_endpoint,
                transmitter.private,
            );
            token(remarks, &at("client_secret"), &oauth.client_secret);
        }
        whereabouts(remarks, config, name, transmitter);
        if let Some(polled) = &transmitter.poll {
            path(remarks, &at("poll"), polled);
        }
        if let Some(secret) = &transmitter.token {
            token(remarks, &at("token"), secret);
        }
        if transmitter.poll.is_none() && transmitter.token.is_none() {
            remarks.mistake(
                &["signals", "transmitters", name.as_str()],
                "nothing can come from it: it is not polled, and may not push",
                "add `poll = \"/path\"`, or a `token` that it shows when it pushes",
            );
        }
    }
}

/// Where the keys of a transmitter are, and who it is asked as, must be said once.
fn whereabouts(
    remarks: &mut Remarks<'_>,
    config: &Config,
    name: &str,
    transmitter: &SignalTransmitter,
) {
    let at = ["signals", "transmitters", name];
    let ways = [
        transmitter.keys.is_some(),
        transmitter.jwks_uri.is_some(),
        transmitter.discover,
    ];
    let ways = ways.into_iter().filter(|way| *way).count();
    if ways > 1 {
        remarks.mistake(
            &at,
            "`keys`, `jwks_uri` and `discover` say in several ways where its keys are",
            "name one",
        );
    }
    let elsewhere = transmitter.jwks_uri.is_some() || transmitter.discover;
    if transmitter.server.is_none() && (!elsewhere || transmitter.poll.is_some()) {
        remarks.mistake(
            &at,
            "without a `server` it cannot be asked for keys or events",
            "add `server`, or, for one that pushes, `jwks_uri` or `discover = true`",
        );
    }
    if transmitter.oauth.is_some() && transmitter.poll.is_none() {
        remarks.mistake(
            &at,
            "`oauth` is of no use: it is asked for no events",
            "leave it out, or add `poll`",
        );
    }
    let server = transmitter.server.as_ref();
    let server = server.and_then(|server| config.servers.get(server));
    if transmitter.oauth.is_some() && server.is_some_and(|server| server.credential.is_some()) {
        remarks.mistake(
            &at,
            "its server has a `credential`, which would take the place of the tokens of `oauth`",
            "leave out one of them",
        );
    }
}

/// A place that is reached over TLS, unless it may be without.
fn place(remarks: &mut Remarks<'_>, path: &[&str], text: &str, private: bool) {
    match gateway::outbound::Origin::of(text) {
        Ok((origin, _)) if origin.is_secure() || private => {}
        Ok(_) => remarks.mistake(
            path,
            format!("`{}` is not https", text.escape_debug()),
            "use https; or say `private = true`, if it is in your own network",
        ),
        Err(why) => remarks.mistake(
            path,
            format!("`{}` cannot be used: {why}", text.escape_debug()),
            "write it like `https://idp.example.com/oauth/token`",
        ),
    }
}

/// Names stand in paths and records.
fn named(remarks: &mut Remarks<'_>, kind: &str, name: &str) {
    if ServerName::parse(name).is_err() {
        remarks.mistake(
            &["signals", kind, name],
            "a name here has 1 to 63 of a-z, 0-9 and `-`",
            "use another name",
        );
    }
}

fn url(remarks: &mut Remarks<'_>, path: &[&str], text: &str) {
    let uri = text.parse::<http::Uri>().ok();
    if !uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) {
        remarks.mistake(
            path,
            format!("`{}` is not a URL", text.escape_debug()),
            "write it exactly as the other side does, such as `https://idp.example.com`",
        );
    }
}

fn path(remarks: &mut Remarks<'_>, at: &[&str], path: &str) {
    if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
        remarks.mistake(
            at,
            format!("`{}` is not a path", path.escape_debug()),
            "a path begins with `/` and comes behind the server's `url`",
        );
    }
}

fn token(remarks: &mut Remarks<'_>, path: &[&str], secret: &Secret) {
    if let Secret::Plain(_) = secret {
        remarks.mistake(
            path,
            "a token must not stand in the configuration in plain text",
            "use `{ file = \"…\" }` or `{ env = \"…\" }`",
        );
    }
}

fn server_of(remarks: &mut Remarks<'_>, path: &[&str], config: &Config, name: &ServerName) {
    let known = config.servers.get(name);
    if !known.is_some_and(|server| server.kind == ServerKind::Http) {
        remarks.mistake(
            path,
            format!("there is no server `{name}` of the kind `http`"),
            "add it under `[servers]`, with its `url`, `ca` and `credential`",
        );
    }
}
