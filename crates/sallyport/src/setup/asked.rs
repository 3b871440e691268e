//! What `a2a` of a server must be.

use std::path::Path;

use gateway::outbound::Origin;
use model::config::{A2a, Config, ServerKind};

use super::config::check_base_url;
use super::remarks::Remarks;

/// Checks what is said of other agents.
pub(super) fn check(remarks: &mut Remarks<'_>, folder: &Path, config: &Config) {
    for (name, server) in &config.servers {
        let about = &server.a2a;
        if server.kind != ServerKind::A2a {
            if *about != A2a::default() {
                remarks.mistake(
                    &["servers", name.as_str(), "a2a"],
                    format!("`a2a` is for servers of that kind; `{name}` is none"),
                    "remove it, or say `kind = \"a2a\"`",
                );
            }
            continue;
        }
        if let Some(url) = &about.push_url
            && let Err(wrong) = check_base_url(url)
        {
            remarks.mistake(
                &["servers", name.as_str(), "a2a", "push_url"],
                wrong,
                "write it like `https://gateway.example.org`",
            );
        }
        for (index, target) in about.push.iter().enumerate() {
            let index = index.to_string();
            let here = ["servers", name.as_str(), "a2a", "push", &index, "origin"];
            if let Err(wrong) = check_base_url(&target.origin) {
                remarks.mistake(&here, wrong, "write it like `https://hooks.example.org`");
                continue;
            }
            match Origin::of(&target.origin) {
                Err(wrong) => remarks.mistake(
                    &here,
                    format!("nothing can be delivered there: {wrong}"),
                    "write it like `https://hooks.example.org`",
                ),
                Ok((origin, _)) if !origin.is_secure() && !target.private => remarks.advice(
                    &here,
                    "notifications travel there unencrypted, with the webhook's token",
                    "use https",
                ),
                Ok(_) => {}
            }
            if let Some(ca) = &target.ca
                && let Err(error) = std::fs::File::open(folder.join(ca))
            {
                remarks.mistake(
                    &["servers", name.as_str(), "a2a", "push", &index, "ca"],
                    format!("`{}` cannot be read: {error}", ca.display()),
                    "paths are relative to the configuration file",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::remarks::messages;

    fn remarks(text: &str) -> Vec<String> {
        messages(text, |remarks, config| {
            check(remarks, Path::new("/"), config);
        })
    }

    #[test]
    fn places_for_notifications_are_origins_of_agents() {
        let agent = "[servers.x]\nkind = \"a2a\"\nurl = \"https://a\"\n";
        let push = |origin: &str| format!("{agent}[[servers.x.a2a.push]]\norigin = \"{origin}\"\n");
        assert!(remarks(&push("https://hooks.example.org:8443")).is_empty());
        for bad in [
            "https://a/path",
            "ftp://a",
            "https://u@a",
            "a",
            "https://a/",
        ] {
            assert_eq!(remarks(&push(bad)).len(), 1, "{bad}");
        }
        assert_eq!(
            remarks(&push("http://hooks.example.org")).len(),
            1,
            "advice"
        );
        let other = "[servers.x]\nurl = \"https://a\"\n[servers.x.a2a]\npublic_card = true\n";
        assert_eq!(remarks(other).len(), 1);
    }
}
