//! What the forward proxy must be, and what becomes of tunnels to each API.

use std::collections::BTreeMap;

use model::config::{Config, Server, ServerKind};
use model::grant::Permission;
use model::name::ServerName;
use web::proxy::target::Target;

use super::remarks::Remarks;

/// Checks `[proxy]`, and what servers say for it.
pub(super) fn check(remarks: &mut Remarks<'_>, config: &Config) {
    let apis = || {
        let servers = config.servers.iter();
        servers.filter(|(_, server)| server.kind == ServerKind::Http)
    };
    let Some(proxy) = &config.proxy else {
        for (name, _) in apis().filter(|(_, server)| server.http.inspect.is_some()) {
            remarks.advice(
                &["servers", name.as_str(), "http", "inspect"],
                "`inspect` is about tunnels through the forward proxy, and there is none",
                "add a section `[proxy]`",
            );
        }
        return;
    };
    for (name, value) in [
        ("idle_seconds", proxy.idle_seconds),
        ("tunnel_seconds", proxy.tunnel_seconds),
    ] {
        if !(1..=86_400).contains(&value) {
            remarks.mistake(
                &["proxy", name],
                format!("`{name}` is {value}; it must be between 1 second and one day"),
                "leave it out to have the default",
            );
        }
    }
    if apis().next().is_none() {
        remarks.advice(
            &["proxy"],
            "the proxy leads to servers of the kind `http`, and there is none",
            "add one, with `kind = \"http\"`",
        );
    }
    let all = places(config);
    for (name, server) in apis() {
        api(remarks, name, server, proxy.inspect, &all);
    }
}

fn api(
    remarks: &mut Remarks<'_>,
    name: &ServerName,
    server: &Server,
    inspect: bool,
    all: &BTreeMap<Target, Vec<&ServerName>>,
) {
    let path = ["servers", name.as_str(), "url"];
    // What is no URL at all is said elsewhere.
    let Some(url) = server.url.as_deref().and_then(|url| url.parse().ok()) else {
        return;
    };
    let target = match Target::of(&url) {
        Ok(target) => target,
        Err(why) => {
            remarks.advice(
                &path,
                format!("`{name}` cannot be reached through the proxy: {why}"),
                "write the host plainly",
            );
            return;
        }
    };
    let opaque = url.scheme_str() == Some("https") && !server.http.inspect.unwrap_or(inspect);
    let others: Vec<&str> = all
        .get(&target)
        .into_iter()
        .flatten()
        .filter(|other| **other != name)
        .map(|other| other.as_str())
        .collect();
    if opaque && !others.is_empty() {
        remarks.advice(
            &path,
            format!(
                "tunnels to `{target}` are not opened: they could not be held to `{name}`, since {} is \
                 there too",
                others.join(", ")
            ),
            "have them looked into, with `inspect = true`",
        );
    }
}

/// What `connect = true` gives in an `[[allow]]` of a template, or why it gives nothing.
pub(super) fn connect(
    remarks: &mut Remarks<'_>,
    config: &Config,
    index: &str,
    permission: &Permission,
) {
    let path = ["allow", index, "connect"];
    let server = config.servers.get(&permission.server);
    let inspect = server.and_then(|server| server.http.inspect);
    match &config.proxy {
        None => remarks.advice(
            &path,
            "tunnels are opened through the forward proxy, and there is none",
            "add a section `[proxy]` to sallyport.toml, or leave `connect` out",
        ),
        Some(proxy) if inspect.unwrap_or(proxy.inspect) => remarks.advice(
            &path,
            "tunnels to this server are looked into, so this gives nothing more",
            "leave it out",
        ),
        Some(_) => remarks.advice(
            &path,
            "what is requested in a tunnel that nobody looks into is neither decided nor recorded",
            "allow `endpoints`, and have tunnels looked into with `inspect = true`",
        ),
    }
}

/// The servers at each host and port.
fn places(config: &Config) -> BTreeMap<Target, Vec<&ServerName>> {
    let mut places: BTreeMap<Target, Vec<&ServerName>> = BTreeMap::new();
    for (name, server) in &config.servers {
        let fallbacks = server.llm.fallbacks.iter().map(|fallback| &fallback.url);
        for url in server.url.iter().chain(fallbacks) {
            let target = url.parse().ok().and_then(|url| Target::of(&url).ok());
            if let Some(target) = target {
                places.entry(target).or_default().push(name);
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::remarks::messages;
    use model::Template;
    use std::path::Path;

    fn remarks(text: &str) -> Vec<String> {
        messages(text, check)
    }

    const API: &str = "[servers.a]\nkind = \"http\"\nurl = \"https://api.example/v1\"\n";

    #[test]
    fn a_proxy_leads_somewhere_within_its_limits() {
        assert_eq!(remarks(API), Vec::<String>::new());
        assert_eq!(remarks(&format!("[proxy]\n{API}")), Vec::<String>::new());
        let found = remarks("[proxy]\nidle_seconds = 0\ntunnel_seconds = 90000\n");
        assert_eq!(found.len(), 3, "{found:?}");
        let inspected = format!("{API}[servers.a.http]\ninspect = true\n");
        assert!(remarks(&inspected)[0].contains("there is none"));
        assert!(remarks(&format!("[proxy]\n{inspected}")).is_empty());
    }

    #[test]
    fn what_a_template_gives_with_tunnels_is_said() {
        let template =
            "description = \"x\"\nttl = \"5m\"\n[[allow]]\nserver = \"a\"\nconnect = true\n";
        let said = |text: &str| {
            let text = format!("trust_domain = \"a\"\n{text}{API}");
            let config = Config::parse(Path::new("sallyport.toml"), &text).unwrap();
            let file = Path::new("templates/t.toml");
            let read = Template::parse("t".parse().unwrap(), file, template).unwrap();
            let mut remarks = Remarks::new(file, template);
            connect(&mut remarks, &config, "0", &read.grant.permissions[0]);
            let mistake = remarks.into_list().remove(0).mistake;
            assert_eq!(mistake.line_in(template), Some(5));
            mistake.message
        };
        assert!(said("").contains("there is none"));
        assert!(said("[proxy]\n").contains("neither decided nor recorded"));
        assert!(said("[proxy]\ninspect = true\n").contains("nothing more"));
    }

    #[test]
    fn a_tunnel_that_could_not_be_held_to_one_server_is_told_of() {
        let shared = "[servers.b]\nurl = \"https://API.example:443/mcp\"\n";
        let found = remarks(&format!("[proxy]\n{API}{shared}"));
        assert!(found[0].contains("since b is there too"), "{found:?}");
        assert!(remarks(&format!("[proxy]\ninspect = true\n{API}{shared}")).is_empty());
        let dotted = API.replace("api.example", "api.example.");
        let found = remarks(&format!("[proxy]\n{dotted}"));
        assert!(found[0].contains("cannot be reached"), "{found:?}");
    }
}
