//! What `sallyport.toml` must be beyond its format.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use model::Mistake;
use model::config::{Config, Confine, Fallback, Listener, Secret, Server, ServerKind};
use model::name::ServerName;

use super::Remark;
use super::approvals;
use super::asked;
use super::confine;
use super::http2;
use super::identity;
use super::proxy;
use super::rates;
use super::remarks::Remarks;
use super::signals;
use super::vault;
use super::watching;

/// Checks everything about a configuration that its format cannot say.
pub(crate) fn check(file: &Path, text: &str, folder: &Path, config: &Config) -> Vec<Remark> {
    let mut checking = Checking {
        folder,
        remarks: Remarks::new(file, text),
    };
    checking.listener("control", &config.control);
    checking.listener("gateway", &config.gateway);
    let mut listeners = vec![
        ("control", config.control.listen),
        ("gateway", config.gateway.listen),
    ];
    let has_databases = config
        .servers
        .values()
        .any(|server| server.kind == ServerKind::Postgres);
    if has_databases {
        checking.listener("postgres", &config.postgres);
        listeners.push(("postgres", config.postgres.listen));
    }
    if let Some(proxy) = &config.proxy {
        checking.listener("proxy", &proxy.listener());
        listeners.push(("proxy", proxy.listen));
    }
    proxy::check(&mut checking.remarks, config);
    for (position, (name, address)) in listeners.iter().enumerate() {
        let same = |(_, other): &&(&str, SocketAddr)| collide(*other, *address);
        if let Some((other, _)) = listeners[..position].iter().find(same) {
            checking.remarks.mistake(
                &[name, "listen"],
                format!("{other} and {name} both listen on {address}"),
                "give each a port of its own",
            );
        }
    }
    checking.limits(config);
    rates::check(&mut checking.remarks, config);
    approvals::check(&mut checking.remarks, config);
    watching::check(&mut checking.remarks, config);
    signals::check(&mut checking.remarks, config);
    vault::check(&mut checking.remarks, config);
    identity::check(&mut checking.remarks, config);
    for (index, pattern) in config.redaction.patterns.iter().enumerate() {
        if let Err(error) = regex::Regex::new(pattern) {
            checking.remarks.mistake(
                &["redaction", "patterns", &index.to_string()],
                format!(
                    "not a regular expression: {}",
                    last_line(&error.to_string())
                ),
                "see https://docs.rs/regex for the syntax",
            );
        }
    }
    for (name, server) in &config.servers {
        checking.server(name, server);
    }
    asked::check(&mut checking.remarks, folder, config);
    confine::check(
        &mut checking.remarks,
        folder,
        config,
        crate::confined::Kernel::probe(),
    );
    if config.servers.is_empty() {
        let mistake = Mistake::new(file, "no server is protected yet")
            .hint("add a `[servers.NAME]` section with `command` or `url`");
        checking.remarks.push(Remark::advice(mistake));
    }
    checking.remarks.into_list()
}

/// Two listeners on one address; port 0 is a new port each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// The last line of an error that draws pictures.
pub(crate) fn last_line(text: &str) -> &str {
    let line = text.lines().last().unwrap_or(text).trim();
    line.strip_prefix("error: ").unwrap_or(line)
}

struct Checking<'a> {
    folder: &'a Path,
    remarks: Remarks<'a>,
}

impl Checking<'_> {
    fn listener(&mut self, name: &str, listener: &Listener) {
        let listen = listener.listen;
        if !listen.ip().is_loopback() && listener.tls.is_none() {
            self.remarks.mistake(
                &[name, "listen"],
                format!("{listen} can be reached from elsewhere, but has no TLS"),
                format!("add `[{name}.tls]` with `cert` and `key`, or listen on 127.0.0.1"),
            );
        }
        if listener.public_url.is_none() && (listen.ip().is_unspecified() || listen.port() == 0) {
            self.remarks.advice(
                &[name, "listen"],
                format!("clients cannot reach a URL made from {listen}"),
                "set `public_url` to the URL that clients use",
            );
        }
        let (checked, like) = match (&listener.public_url, name) {
            (None, _) => (Ok(()), ""),
            (Some(url), "postgres") => (
                check_database_url(url),
                "postgres://gateway.example.org:8602",
            ),
            (Some(url), _) => (check_base_url(url), "https://gateway.example.org"),
        };
        if let Err(wrong) = checked {
            let hint = format!("write it like `{like}`");
            self.remarks.mistake(&[name, "public_url"], wrong, hint);
        }
        for (index, origin) in listener.allowed_origins.iter().enumerate() {
            if let Err(wrong) = check_base_url(origin) {
                self.remarks.mistake(
                    &[name, "allowed_origins", &index.to_string()],
                    wrong,
                    "write it like `https://app.example.org`",
                );
            }
        }
        if let Some(tls) = &listener.tls {
            for (key, path) in [("cert", &tls.cert), ("key", &tls.key)] {
                self.file(&[name, "tls", key], path);
            }
        }
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        let sizes = [
            ("request_bytes", limits.request_bytes),
            ("response_bytes", limits.response_bytes),
            ("json_depth", limits.json_depth),
            ("sessions", limits.sessions),
            ("sessions_per_task", limits.sessions_per_task),
            ("connections", limits.connections),
            ("streams_per_task", limits.streams_per_task),
        ];
        for (name, value) in sizes {
            if value == 0 {
                self.remarks.mistake(
                    &["limits", name],
                    format!("with `{name} = 0` nothing could be served"),
                    "leave it out to have the default",
                );
            }
        }
        let times = [
            ("session_idle_seconds", limits.session_idle_seconds),
            ("request_seconds", limits.request_seconds),
            ("upstream_seconds", limits.upstream_seconds),
        ];
        for (name, value) in times {
            if !(1..=86_400).contains(&value) {
                self.remarks.mistake(
                    &["limits", name],
                    format!("`{name}` is {value}; it must be between 1 second and one day"),
                    "leave it out to have the default",
                );
            }
        }
        if limits.recheck_seconds > 86_400 {
            self.remarks.mistake(
                &["limits", "recheck_seconds"],
                "tools are to be compared with what was approved at least once a day, or never",
                "use a value up to 86400, 0 for never, or leave it out to have the default",
            );
        }
        if limits.json_depth > 120 {
            self.remarks.mistake(
                &["limits", "json_depth"],
                "deeper nesting than 120 is not supported",
                "use a value up to 120",
            );
        }
    }

    fn server(&mut self, name: &ServerName, server: &Server) {
        if server.kind == ServerKind::Mcp {
            self.mcp_server(name, server);
        } else {
            self.remote_server(name, server);
        }
        http2::check(&mut self.remarks, name, server);
        for (variable, secret) in &server.environment {
            let path = ["servers", name.as_str(), "environment", variable.as_str()];
            self.secret(&path, secret);
            if let Secret::Plain(_) = secret
                && sounds_secret(variable)
            {
                self.remarks.mistake(
                    &path,
                    format!("`{variable}` sounds like a secret, but stands here in plain text"),
                    "use `{ file = \"…\" }` or `{ env = \"…\" }`",
                );
            }
        }
        for (position, fallback) in server.llm.fallbacks.iter().enumerate() {
            self.fallback(name, position, fallback);
        }
        if let Some(password) = &server.postgres.password {
            let path = ["servers", name.as_str(), "postgres", "password"];
            self.secret(&path, password);
            if let Secret::Plain(_) = password {
                self.remarks.mistake(
                    &path,
                    "a password must not stand in the configuration in plain text",
                    "use `{ file = \"…\" }` or `{ env = \"…\" }`",
                );
            }
        }
        if let Some(credential) = &server.credential {
            let path = ["servers", name.as_str(), "credential", "value"];
            self.credential(&path, &credential.value);
            if http::HeaderName::try_from(credential.header.as_str()).is_err() {
                self.remarks.mistake(
                    &["servers", name.as_str(), "credential", "header"],
                    format!(
                        "`{}` is not a header name",
                        credential.header.escape_debug()
                    ),
                    "leave it out to have `authorization`",
                );
            }
        }
    }

    fn credential(&mut self, path: &[&str], value: &Secret) {
        self.secret(path, value);
        if let Secret::Plain(_) = value {
            self.remarks.mistake(
                path,
                "a credential must not stand in the configuration in plain text",
                "use `{ file = \"…\" }` or `{ env = \"…\" }`",
            );
        }
    }

    /// Another address of a provider of models.
    fn fallback(&mut self, name: &ServerName, position: usize, fallback: &Fallback) {
        let path = ["servers", name.as_str(), "llm", "fallbacks"];
        let uri = fallback.url.parse::<http::Uri>().ok();
        let usable = uri.filter(|uri| {
            let plain = uri.authority().is_some_and(|at| !at.as_str().contains('@'));
            plain && matches!(uri.scheme_str(), Some("http" | "https"))
        });
        match usable {
            None => self.remarks.mistake(
                &path,
                format!("address {} is not an http or https URL", position + 1),
                "write it like `https://api.example.org/v1`, without a user name",
            ),
            Some(uri) => {
                let clear = uri.scheme_str() == Some("http") && !is_loopback_host(&uri);
                if clear && fallback.credential.is_some() {
                    self.remarks.advice(
                        &path,
                        "the credential travels to this address unencrypted",
                        "use https",
                    );
                }
            }
        }
        if let Some(credential) = &fallback.credential {
            self.credential(&path, &credential.value);
        }
        if let Some(ca) = &fallback.ca {
            self.file(&path, ca);
        }
    }

    fn mcp_server(&mut self, name: &ServerName, server: &Server) {
        let here = ["servers", name.as_str()];
        match (&server.url, server.command.is_empty()) {
            (None, true) => self.remarks.mistake(
                &here,
                format!("server `{name}` has neither `command` nor `url`"),
                "give `command = [\"program\", \"argument\"]` for stdio or `url` for HTTP",
            ),
            (Some(_), false) => self.remarks.mistake(
                &["servers", name.as_str(), "url"],
                format!("server `{name}` has both `command` and `url`"),
                "keep the one that the gateway shall use",
            ),
            (Some(url), true) => self.http_server(name, url, server),
            (None, false) => self.stdio_server(name, server),
        }
    }

    /// A server that is always elsewhere.
    fn remote_server(&mut self, name: &ServerName, server: &Server) {
        let kind = server.kind.as_str();
        if !server.command.is_empty() {
            self.remarks.mistake(
                &["servers", name.as_str(), "command"],
                format!("`command` is for MCP servers; `{name}` is of the kind `{kind}`"),
                "give its `url`",
            );
        }
        match &server.url {
            None => self.remarks.mistake(
                &["servers", name.as_str()],
                format!("server `{name}` has no `url`"),
                "say where it is",
            ),
            Some(url) if server.kind != ServerKind::Postgres => self.http_server(name, url, server),
            Some(_) => {}
        }
    }

    fn http_server(&mut self, name: &ServerName, url: &str, server: &Server) {
        let path = ["servers", name.as_str(), "url"];
        let uri = url
            .parse::<http::Uri>()
            .ok()
            .filter(|uri| uri.host().is_some());
        match uri {
            Some(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => {
                if uri
                    .authority()
                    .is_some_and(|authority| authority.as_str().contains('@'))
                {
                    self.remarks.mistake(
                        &path,
                        "the URL has a user name or password in it",
                        "use `credential`, with the value in a file or in the environment",
                    );
                }
                let clear = uri.scheme_str() == Some("http") && !is_loopback_host(&uri);
                if clear && server.credential.is_some() {
                    self.remarks.advice(
                        &path,
                        "the credential travels to this server unencrypted",
                        "use https",
                    );
                }
            }
            _ => self.remarks.mistake(
                &path,
                format!("`{}` is not an http or https URL", url.escape_debug()),
                "write it like `https://mcp.example.org/mcp`",
            ),
        }
        if let Some(ca) = &server.ca {
            self.file(&["servers", name.as_str(), "ca"], ca);
        }
        for (key, given) in [
            ("directory", server.directory.is_some()),
            ("environment", !server.environment.is_empty()),
            ("confine", server.confine != Confine::default()),
        ] {
            if given {
                self.remarks.mistake(
                    &["servers", name.as_str(), key],
                    format!("`{key}` is for servers that the gateway starts; `{name}` has a `url`"),
                    "remove it",
                );
            }
        }
    }

    fn stdio_server(&mut self, name: &ServerName, server: &Server) {
        if server.credential.is_some() {
            self.remarks.mistake(
                &["servers", name.as_str(), "credential"],
                "`credential` is for servers over HTTP",
                "give secrets to a program through `environment`",
            );
        }
        if server.ca.is_some() {
            self.remarks.mistake(
                &["servers", name.as_str(), "ca"],
                "`ca` is for servers over HTTP",
                "remove it",
            );
        }
        if let Some(directory) = &server.directory
            && !self.folder.join(directory).is_dir()
        {
            self.remarks.mistake(
                &["servers", name.as_str(), "directory"],
                format!("there is no folder `{}`", directory.display()),
                "paths are relative to the configuration file",
            );
        }
        let program = &server.command[0];
        let start = self
            .folder
            .join(server.directory.as_deref().unwrap_or(Path::new("")));
        if !is_program(program, &start) {
            self.remarks.advice(
                &["servers", name.as_str(), "command", "0"],
                format!(
                    "the program `{}` was not found on this machine",
                    program.escape_debug()
                ),
                "install it, or give its full path",
            );
        }
    }

    fn secret(&mut self, path: &[&str], secret: &Secret) {
        match secret {
            Secret::File(file) => self.file(path, file),
            Secret::Env(name) if std::env::var_os(name).is_none() => self.remarks.advice(
                path,
                format!("the environment variable `{name}` is not set here"),
                "set it where `sallyport serve` runs",
            ),
            Secret::Env(_) | Secret::Plain(_) => {}
        }
    }

    fn file(&mut self, path: &[&str], file: &Path) {
        if let Err(error) = std::fs::File::open(self.folder.join(file)) {
            self.remarks.mistake(
                path,
                format!("`{}` cannot be read: {error}", file.display()),
                "paths are relative to the configuration file",
            );
        }
    }
}

/// A URL without path, query, fragment, user or trailing slash.
pub(super) fn check_base_url(text: &str) -> Result<(), String> {
    let shown = text.escape_debug();
    let uri: http::Uri = text
        .parse()
        .map_err(|_| format!("`{shown}` is not a URL"))?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    match uri.scheme_str() {
        Some(scheme @ ("http" | "https")) if text == format!("{scheme}://{authority}") => {
            if authority.contains('@') {
                Err(format!("`{shown}` has a user name in it"))
            } else {
                Ok(())
            }
        }
        Some("http" | "https") => Err(format!(
            "`{shown}` has more than scheme, host and port, or a trailing slash"
        )),
        _ => Err(format!("`{shown}` is not an http or https URL")),
    }
}

/// Whether a text is the URL of a listener for databases, without a database.
fn check_database_url(text: &str) -> Result<(), String> {
    let shown = text.escape_debug();
    match postgres::upstream::Address::parse(&format!("{text}/x")) {
        Ok(_) if text.starts_with("postgres://") && !text.contains(['?', '#']) => Ok(()),
        _ => Err(format!(
            "`{shown}` is not a postgres URL with just host and port"
        )),
    }
}

/// Whether a URL points at this machine.
pub(crate) fn is_loopback_host(uri: &http::Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    host == "localhost"
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn sounds_secret(variable: &str) -> bool {
    let name = variable.to_ascii_lowercase();
    [
        "token",
        "secret",
        "password",
        "passwd",
        "api_key",
        "apikey",
        "private_key",
        "credential",
    ]
    .iter()
    .any(|word| name.contains(word))
}

fn is_program(name: &str, start: &Path) -> bool {
    if name.contains('/') {
        return start.join(name).is_file();
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// Makes the paths of a configuration independent of where the process runs.
pub(crate) fn make_absolute(config: &mut Config, folder: &Path) {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let fix = |path: &mut PathBuf| *path = folder.join(&*path);
    let fix_secret = |secret: &mut Secret| {
        if let Secret::File(path) = secret {
            *path = folder.join(&*path);
        }
    };
    fix(&mut config.data_dir);
    let listeners = [
        &mut config.control,
        &mut config.gateway,
        &mut config.postgres,
    ];
    let certificates = listeners.map(|listener| &mut listener.tls);
    let proxy = config.proxy.iter_mut().map(|proxy| &mut proxy.tls);
    for tls in certificates.into_iter().chain(proxy).flatten() {
        fix(&mut tls.cert);
        fix(&mut tls.key);
    }
    config.signals.secrets_mut().for_each(fix_secret);
    let transmitters = config.signals.transmitters.values_mut();
    transmitters
        .filter_map(|transmitter| transmitter.ca.as_mut())
        .for_each(fix);
    for channel in config.response.channels.values_mut() {
        channel.secrets_mut().for_each(fix_secret);
    }
    let rotations = config.response.rotations.values_mut();
    rotations
        .filter_map(|rotation| rotation.secret.as_mut())
        .for_each(fix_secret);
    for server in config.servers.values_mut() {
        if !server.command.is_empty() {
            let directory = folder.join(server.directory.take().unwrap_or_default());
            server.digests = std::mem::take(&mut server.digests)
                .into_iter()
                .map(|(path, digest)| (directory.join(path), digest))
                .collect();
            server.directory = Some(directory);
            let confine = &mut server.confine;
            let lists = confine.read.iter_mut().chain(&mut confine.write);
            lists.flatten().for_each(fix);
        }
        server.secrets_mut().for_each(fix_secret);
        server.ca.iter_mut().for_each(fix);
        server.http.openapi.iter_mut().for_each(fix);
        for target in &mut server.a2a.push {
            target.ca.iter_mut().for_each(fix);
        }
        for fallback in &mut server.llm.fallbacks {
            fallback.ca.iter_mut().for_each(fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remarks(text: &str) -> Vec<(usize, String)> {
        let file = Path::new("sallyport.toml");
        let config = Config::parse(file, text).unwrap();
        check(file, text, Path::new("/nonexistent"), &config)
            .into_iter()
            .map(|remark| {
                let line = remark.mistake.line_in(text).unwrap_or(0);
                (line, remark.mistake.message)
            })
            .collect()
    }

    #[test]
    fn a_listener_that_others_can_reach_needs_tls() {
        let found = remarks("trust_domain = \"a\"\n[gateway]\nlisten = \"0.0.0.0:8601\"\n");
        assert!(
            found
                .iter()
                .any(|(line, what)| *line == 3 && what.contains("no TLS")),
            "{found:?}"
        );
    }

    #[test]
    fn secrets_never_stand_inline() {
        let found = remarks(
            "trust_domain = \"a\"\n[servers.x]\nurl = \"https://u:p@x.example/mcp\"\n\
             credential = { value = { plain = \"hunter2\" } }\n\
             [servers.y]\ncommand = [\"/bin/true\"]\n\
             environment = { GITHUB_TOKEN = { plain = \"hunter2\" }, MODE = { plain = \"fast\" } }\n",
        );
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        for line in [3, 4, 7] {
            assert!(lines.contains(&line), "line {line}: {found:?}");
        }
        assert!(
            !found
                .iter()
                .any(|(_, what)| what.contains("hunter2") || what.contains("MODE"))
        );
    }

    #[test]
    fn http_2_is_asked_for_only_where_it_can_be_spoken() {
        let found = remarks(
            "trust_domain = \"a\"\n[servers.x]\nurl = \"https://x.example/mcp\"\nhttp2 = true\n\
             [servers.y]\nkind = \"http\"\nurl = \"http://127.0.0.1:1\"\nhttp2 = \"auto\"\n\
             [servers.z]\nkind = \"http\"\nurl = \"http://127.0.0.1:1\"\nhttp2 = true\n",
        );
        let about: Vec<usize> = found
            .iter()
            .filter(|(_, what)| what.contains("`http2`") || what.contains("HTTP/1.1"))
            .map(|(line, _)| *line)
            .collect();
        assert_eq!(about, [4, 8], "{found:?}");
    }

    #[test]
    fn base_urls_have_one_form() {
        for good in [
            "https://a.example",
            "http://127.0.0.1:8600",
            "https://[::1]:1",
        ] {
            assert_eq!(check_base_url(good), Ok(()), "{good}");
        }
        for bad in [
            "https://a.example/",
            "https://a.example/x",
            "a.example",
            "ftp://a",
            "https://u@a",
            "",
        ] {
            assert!(check_base_url(bad).is_err(), "{bad}");
        }
        for good in ["postgres://gw.example.org:8602", "postgres://[::1]"] {
            assert_eq!(check_database_url(good), Ok(()), "{good}");
        }
        for bad in [
            "https://gw.example.org",
            "postgresql://gw.example.org",
            "postgres://gw.example.org/",
            "postgres://gw.example.org?x",
            "postgres://a@gw.example.org",
        ] {
            assert!(check_database_url(bad).is_err(), "{bad}");
        }
    }
}
