//! What the configuration says of certificates of agents, and what templates need of it.

use model::config::{Config, Identity, ServerKind};
use model::{Proof, Template};

use super::remarks::Remarks;

/// Checks how long certificates are good.
pub(super) fn check(remarks: &mut Remarks<'_>, config: &Config) {
    let seconds = config.identity.svid_seconds;
    let (shortest, longest) = (Identity::SHORTEST, Identity::LONGEST);
    if !(shortest..=longest).contains(&seconds) {
        remarks.mistake(
            &["identity", "svid_seconds"],
            format!("`svid_seconds` is {seconds}; it must be between {shortest} and {longest}"),
            "leave it out to have certificates that are good for an hour",
        );
    }
}

/// A template that demands certificates is of use only where clients can show one.
pub(super) fn check_template(remarks: &mut Remarks<'_>, template: &Template, config: &Config) {
    if template.grant.proof != Proof::Certificate {
        return;
    }
    let permissions = template.grant.permissions.iter();
    let (databases, others): (Vec<_>, Vec<_>) =
        permissions.partition(|one| ServerKind::of(one.kind) == ServerKind::Postgres);
    let needed = [
        (
            "postgres",
            !databases.is_empty() && config.postgres.tls.is_none(),
        ),
        (
            "control",
            !others.is_empty() && config.control.tls.is_none(),
        ),
        (
            "gateway",
            !others.is_empty() && config.gateway.tls.is_none(),
        ),
    ];
    for (listener, _) in needed.iter().filter(|(_, lacks)| *lacks) {
        remarks.mistake(
            &["proof"],
            format!(
                "`certificate` demands client certificates, and the listener `{listener}` has no TLS to show them in"
            ),
            format!("add `[{listener}.tls]` with `cert` and `key` to sallyport.toml, or leave `proof` out"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::remarks::messages;
    use super::*;

    #[test]
    fn certificates_are_short_lived_but_not_too_short() {
        for good in [
            "",
            "[identity]\nsvid_seconds = 60\n",
            "[identity]\nsvid_seconds = 86400\n",
        ] {
            assert!(messages(good, check).is_empty(), "{good}");
        }
        for bad in [0, 59, 86_401, u64::from(u32::MAX)] {
            let said = messages(&format!("[identity]\nsvid_seconds = {bad}\n"), check);
            assert_eq!(said.len(), 1, "{bad}");
            assert!(said[0].contains("between 60 and 86400"));
        }
    }

    #[test]
    fn where_certificates_are_demanded_listeners_have_tls() {
        let said = |kind: &str, config: &str| {
            let template = format!(
                "description = \"d\"\nagents = [\"a\"]\nttl = \"1h\"\nproof = \"certificate\"\n\
                 [[allow]]\nserver = \"s\"\n{kind}\n"
            );
            let file = std::path::Path::new("work.toml");
            let name = "work".parse().unwrap();
            let template = Template::parse(name, file, &template).unwrap();
            messages(config, |remarks, config| {
                check_template(remarks, &template, config)
            })
            .len()
        };
        let (tools, tables) = (
            "tools = [\"t\"]",
            "tables = [\"a.b\"]\noperations = [\"select\"]",
        );
        let tls = |name: &str| {
            format!("[{name}]\nlisten = \"127.0.0.1:1\"\ntls = {{ cert = \"c\", key = \"k\" }}\n")
        };
        assert_eq!(said(tools, ""), 2);
        assert_eq!(said(tools, &tls("gateway")), 1);
        assert_eq!(said(tools, &(tls("control") + &tls("gateway"))), 0);
        assert_eq!(said(tables, &(tls("control") + &tls("gateway"))), 1);
        assert_eq!(said(tables, &tls("postgres")), 0);
    }
}
