//! What the configuration says of content that is kept.

use model::config::{Config, RecordContent, Vault};

use super::remarks::Remarks;

/// Checks that content can be kept as the configuration says.
pub(super) fn check(remarks: &mut Remarks<'_>, config: &Config) {
    let vault = &config.vault;
    let longest = Vault::LONGEST_PAYLOAD;
    if !(1..=longest).contains(&vault.payload_bytes) {
        remarks.mistake(
            &["vault", "payload_bytes"],
            format!(
                "`payload_bytes` is {}; it must be between 1 and {longest}",
                vault.payload_bytes
            ),
            "leave it out to have the default",
        );
    }
    if !(1..=3_650).contains(&vault.keep_days) {
        remarks.mistake(
            &["vault", "keep_days"],
            format!(
                "`keep_days` is {}; it must be between 1 and 3650",
                vault.keep_days
            ),
            "leave it out to have the default; `record_content` says whether content is kept at all",
        );
    }
    let narrower = [
        (
            "task_bytes",
            vault.task_bytes,
            vault.payload_bytes as u64,
            "payload_bytes",
        ),
        (
            "agent_bytes",
            vault.agent_bytes,
            vault.task_bytes,
            "task_bytes",
        ),
        (
            "total_bytes",
            vault.total_bytes,
            vault.agent_bytes,
            "agent_bytes",
        ),
    ];
    for (name, value, least, of) in narrower {
        if value < least {
            remarks.mistake(
                &["vault", name],
                format!("`{name}` is {value}, which is less than `{of}`, {least}"),
                format!("give it at least what `{of}` is"),
            );
        }
    }
    let mut servers = config.servers.values();
    let is_used = servers.any(|server| server.record_content == RecordContent::Sealed);
    if *vault != Vault::default() && !is_used {
        remarks.advice(
            &["vault"],
            "no server has its content kept, so `[vault]` has no effect yet",
            "write `record_content = \"sealed\"` in the section of a server",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::remarks::messages;

    #[test]
    fn limits_fit_into_each_other_and_are_of_use() {
        let sealed = "[servers.x]\nurl = \"https://x.example\"\nrecord_content = \"sealed\"\n";
        let of =
            |vault: &str, servers: &str| messages(&format!("[vault]\n{vault}\n{servers}"), check);
        assert!(of("keep_days = 7", sealed).is_empty());
        assert!(of("", "").is_empty());
        assert_eq!(of("keep_days = 7", "").len(), 1, "it has no effect");
        for bad in [
            "keep_days = 0",
            "payload_bytes = 0",
            "payload_bytes = 100000000",
            "task_bytes = 5",
            "agent_bytes = 10000000",
            "total_bytes = 10000000",
        ] {
            assert_eq!(of(bad, sealed).len(), 1, "{bad}");
        }
    }
}
