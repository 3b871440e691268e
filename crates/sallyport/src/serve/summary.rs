//! What a person sees when Sallyport has started in a terminal.

use std::io::IsTerminal;
use std::path::Path;

use control::api::Status;
use model::config::Config;

use crate::output::{self, CODE, FAINT, GOOD, STRONG, WARN, paint};

/// Shows it, if somebody can see it.
pub(super) fn show(status: &Status, config: &Config, file: &Path) {
    if std::io::stderr().is_terminal() {
        output::note(text(status, config, file));
    }
}

fn text(status: &Status, config: &Config, file: &Path) -> String {
    let mut lines = vec![
        String::new(),
        format!(
            "  {}  {}",
            paint(GOOD.bold(), "Sallyport is ready"),
            paint(FAINT, format_args!("trust domain {}", status.trust_domain))
        ),
        String::new(),
    ];
    let mut row = |name: &str, value: String| {
        lines.push(format!(
            "  {}  {value}",
            paint(FAINT, format_args!("{name:<9}"))
        ));
    };
    row("control", status.control.clone());
    row("gateway", status.gateway.clone());
    if let Some(proxy) = &config.proxy {
        row("proxy", proxy.base_url());
    }
    let names: Vec<&str> = config.servers.keys().map(|name| name.as_str()).collect();
    let mut servers = if names.is_empty() {
        "none yet".to_owned()
    } else {
        names.join(", ")
    };
    if status.servers.disabled > 0 {
        let disabled = format!(" ({} disabled)", status.servers.disabled);
        servers.push_str(&paint(WARN, disabled));
    }
    row("servers", servers);
    row("templates", status.templates.to_string());
    row("policies", status.policies.to_string());
    let agents: u64 = status.agents.values().sum();
    row("agents", agents.to_string());
    row("audit log", format!("{} records", status.log_size));
    lines.push(String::new());
    let option = if file == Path::new("sallyport.toml") {
        String::new()
    } else {
        format!(" --config {}", file.display())
    };
    let (command, what) = if agents == 0 {
        (
            format!("sallyport agent register my-agent --sponsor you@example.org{option}"),
            "to let a first agent in",
        )
    } else {
        (
            format!("sallyport audit tail -f{option}"),
            "to see what agents do",
        )
    };
    lines.push(format!("  {} {what}:", paint(STRONG, "Next,")));
    lines.push(format!("    {}", paint(CODE, command)));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::Count;
    use std::collections::BTreeMap;

    #[test]
    fn it_says_where_and_what_next() {
        let config = Config::parse(
            Path::new("x"),
            "trust_domain = \"example.org\"\n[servers.files]\nurl = \"https://x.example/mcp\"\n",
        )
        .unwrap();
        let status = Status {
            version: "1".to_owned(),
            trust_domain: "example.org".to_owned(),
            control: "http://127.0.0.1:8600".to_owned(),
            gateway: "http://127.0.0.1:8601".to_owned(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            ready: true,
            problems: Vec::new(),
            policy_version: "7c".to_owned(),
            policies: 1,
            templates: 2,
            servers: Count {
                total: 1,
                disabled: 0,
            },
            agents: BTreeMap::new(),
            open_tasks: 0,
            log_size: 3,
            owed: 0,
            setup_problem: None,
            confinement_lacks: None,
        };
        let shown = text(&status, &config, Path::new("sallyport.toml"));
        insta::assert_snapshot!(anstream::adapter::strip_str(&shown).to_string());
    }
}
