//! The file format of templates, and filling in parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{DEFAULT_PROOF, FillError, Parameter, Template};
use crate::agent::Proof;
use crate::expression;
use crate::grant::{
    Budget, CallPermission, Constraint, Grant, NeedsApproval, OtherArguments, Permission,
    PermissionKind, ServerRequest, TablePermission, TrustedInputs,
};
use crate::inspection::Inspection;
use crate::mistake::Mistake;
use crate::money::Usd;
use crate::name::{SegmentName, ServerName, TemplateName};
use crate::pattern::Pattern;
use crate::rate::Rate;
use crate::statement::TableOperation;

/// Longest purpose, in characters.
const LONGEST_PURPOSE: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    description: String,
    #[serde(default)]
    agents: Vec<Pattern>,
    #[serde(default)]
    segments: Vec<SegmentName>,
    ttl: String,
    #[serde(default)]
    proof: Option<Proof>,
    #[serde(default)]
    rate: Option<Rate>,
    #[serde(default)]
    budget: WrittenBudget,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    purpose: Option<String>,
    #[serde(default)]
    purpose_trusted: bool,
    #[serde(default)]
    inspection: Inspection,
    #[serde(default)]
    allow: Vec<Allow>,
}

/// A budget, in which money may also be written in dollars.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBudget {
    calls: Option<u32>,
    tokens: Option<u64>,
    micro_usd: Option<u64>,
    usd: Option<Usd>,
    rows: Option<u64>,
    bytes: Option<u64>,
}

impl WrittenBudget {
    fn budget(self, file: &Path) -> Result<Budget, Vec<Mistake>> {
        if self.usd.is_some() && self.micro_usd.is_some() {
            let message = "the budget states money twice, as `usd` and as `micro_usd`";
            return Err(vec![Mistake::new(file, message).hint("keep one of them")]);
        }
        Ok(Budget {
            calls: self.calls.unwrap_or(Budget::default().calls),
            tokens: self.tokens,
            micro_usd: self.usd.map(Usd::micro).or(self.micro_usd),
            rows: self.rows,
            bytes: self.bytes,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allow {
    server: ServerName,
    #[serde(default)]
    tools: Vec<Pattern>,
    #[serde(default)]
    arguments: BTreeMap<String, Constraint>,
    #[serde(default)]
    other_arguments: Option<OtherArguments>,
    #[serde(default)]
    max_calls: Option<u32>,
    #[serde(default)]
    endpoints: Vec<Pattern>,
    #[serde(default)]
    models: Vec<Pattern>,
    #[serde(default)]
    skills: Vec<Pattern>,
    #[serde(default)]
    tables: Vec<Pattern>,
    #[serde(default)]
    operations: BTreeSet<TableOperation>,
    #[serde(default)]
    columns: Option<BTreeSet<String>>,
    #[serde(default)]
    rows: Option<String>,
    #[serde(default)]
    resources: Vec<Pattern>,
    #[serde(default)]
    prompts: Vec<Pattern>,
    #[serde(default)]
    server_requests: Vec<ServerRequest>,
    #[serde(default)]
    approval: Option<NeedsApproval>,
    #[serde(default)]
    connect: bool,
}

pub(super) fn parse(name: TemplateName, file: &Path, text: &str) -> Result<Template, Vec<Mistake>> {
    let written: Written = toml::from_str(text)
        .map_err(|error| vec![Mistake::new(file, error.message()).at(error.span())])?;
    let ttl = written
        .ttl
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|ttl| Duration::try_from(ttl).ok())
        .filter(|ttl| !ttl.is_zero())
        .ok_or_else(|| {
            vec![
                Mistake::new(file, format!("`{}` is not a duration", written.ttl))
                    .hint("write it like `30m`, `2h` or `1h 30m`"),
            ]
        })?;
    let budget = written.budget.budget(file)?;
    if let Some(purpose) = &written.purpose {
        let fits = (1..=LONGEST_PURPOSE).contains(&purpose.trim().chars().count());
        if !fits || purpose.chars().any(char::is_control) {
            let message = format!("`purpose` is 1 to {LONGEST_PURPOSE} characters on one line");
            return Err(vec![Mistake::new(file, message).hint(
                "leave it out where whoever opens a task is to say what it is for",
            )]);
        }
        if written.purpose_trusted {
            let message =
                "`purpose_trusted` is about purposes that others write, and `purpose` fixes it";
            return Err(vec![
                Mistake::new(file, message).hint("keep one of the two"),
            ]);
        }
    }
    let permissions = written
        .allow
        .into_iter()
        .map(|allow| allow.permission(file))
        .collect::<Result<_, _>>()?;
    Ok(Template {
        name,
        description: written.description,
        agents: written.agents,
        segments: written.segments,
        ttl,
        parameters: written.parameters,
        purpose: written.purpose.map(|text| text.trim().to_owned()),
        purpose_trusted: written.purpose_trusted,
        inspection: written.inspection,
        grant: Grant {
            permissions,
            budget,
            proof: written.proof.unwrap_or(DEFAULT_PROOF),
            rate: written.rate,
            // What they are is known when a task opens: it depends on who opens it.
            trusted_inputs: TrustedInputs::default(),
        },
    })
}

impl Allow {
    /// The permission; what it is about says of which kind it is.
    fn permission(self, file: &Path) -> Result<Permission, Vec<Mistake>> {
        let http = if self.endpoints.is_empty() {
            "connect"
        } else {
            "endpoints"
        };
        let kinds = [
            (
                PermissionKind::Http,
                http,
                self.connect || !self.endpoints.is_empty(),
            ),
            (PermissionKind::Llm, "models", !self.models.is_empty()),
            (PermissionKind::A2a, "skills", !self.skills.is_empty()),
            (PermissionKind::Postgres, "tables", !self.tables.is_empty()),
        ];
        let named: Vec<_> = kinds.iter().filter(|(_, _, is_named)| *is_named).collect();
        let is_mcp = !(self.tools.is_empty()
            && self.resources.is_empty()
            && self.prompts.is_empty()
            && self.server_requests.is_empty());
        let kind = match named[..] {
            [] => PermissionKind::Mcp,
            [(kind, ..)] if !is_mcp => *kind,
            [(_, first, _), ..] => {
                let message = format!(
                    "one `[[allow]]` is about one kind of server; `{first}` does not go with the rest"
                );
                let hint = "write one `[[allow]]` for each";
                return Err(vec![Mistake::new(file, message).hint(hint)]);
            }
        };
        let calls = |names: Vec<Pattern>| -> Vec<CallPermission> {
            let call = |name| CallPermission {
                name,
                arguments: self.arguments.clone(),
                other_arguments: self.other_arguments,
                max_calls: self.max_calls,
            };
            names.into_iter().map(call).collect()
        };
        let operations = if self.operations.is_empty() {
            BTreeSet::from([TableOperation::Select])
        } else {
            self.operations
        };
        let table = |name| TablePermission {
            name,
            operations: operations.clone(),
            columns: self.columns.clone(),
            rows: self.rows.clone(),
        };
        Ok(Permission {
            tools: calls(self.tools),
            endpoints: calls(self.endpoints),
            models: calls(self.models),
            skills: calls(self.skills),
            tables: self.tables.into_iter().map(table).collect(),
            resources: self.resources,
            prompts: self.prompts,
            server_requests: self.server_requests,
            approval: self.approval,
            connect: self.connect,
            ..Permission::new(kind, self.server)
        })
    }
}

pub(super) fn fill(
    template: &Template,
    given: &BTreeMap<String, String>,
) -> Result<(Grant, BTreeMap<String, String>), FillError> {
    for name in given.keys() {
        if !template.parameters.contains_key(name) {
            let known: Vec<&str> = template.parameters.keys().map(String::as_str).collect();
            return Err(FillError::Unknown {
                given: name.clone(),
                template: template.name.clone(),
                known: known.join(", "),
            });
        }
    }
    let mut values = BTreeMap::new();
    for (name, parameter) in &template.parameters {
        let value = given
            .get(name)
            .or(parameter.default.as_ref())
            .ok_or_else(|| FillError::Missing(name.clone()))?;
        let pattern = expression::whole(&parameter.pattern);
        if !pattern.is_ok_and(|pattern| pattern.is_match(value)) {
            return Err(FillError::Mismatch {
                name: name.clone(),
                pattern: parameter.pattern.clone(),
            });
        }
        values.insert(name.clone(), value.clone());
    }
    let mut grant = template.grant.clone();
    for permission in &mut grant.permissions {
        for call in permission.calls_mut() {
            for constraint in call.arguments.values_mut() {
                fill_constraint(constraint, &values);
            }
        }
        for rows in permission
            .tables
            .iter_mut()
            .filter_map(|table| table.rows.as_mut())
        {
            *rows = substitute(rows, &values, sql_literal);
        }
    }
    Ok((grant, values))
}

fn fill_constraint(constraint: &mut Constraint, values: &BTreeMap<String, String>) {
    let fill = |text: &mut String| *text = substitute(text, values, str::to_owned);
    if let Some(serde_json::Value::String(text)) = &mut constraint.equals {
        fill(text);
    }
    for value in constraint.one_of.iter_mut().flatten() {
        if let serde_json::Value::String(text) = value {
            fill(text);
        }
    }
    constraint.prefix.iter_mut().for_each(fill);
    constraint.below.iter_mut().for_each(fill);
    if let Some(text) = &mut constraint.regex {
        *text = substitute(text, values, regex::escape);
    }
}

/// A value as a literal of standard SQL, whatever it holds.
fn sql_literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn substitute(
    text: &str,
    values: &BTreeMap<String, String>,
    escape: impl Fn(&str) -> String,
) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        match after.split_once('}') {
            Some((name, after)) if values.contains_key(name) => {
                filled.push_str(&escape(&values[name]));
                rest = after;
            }
            _ => {
                filled.push_str("${");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = r#"
        description = "Work on one support ticket"
        agents = ["support-*"]
        ttl = "30m"
        [parameters.ticket]
        pattern = "[0-9]{1,6}"
        [[allow]]
        server = "files"
        tools = ["read_text_file"]
        arguments = { path = { below = "/srv/tickets/${ticket}" } }
    "#;

    fn ticket() -> Template {
        let name = TemplateName::parse("ticket").unwrap();
        Template::parse(name, Path::new("templates/ticket.toml"), TICKET).unwrap()
    }

    #[test]
    fn a_parameter_narrows_the_grant() {
        let given = BTreeMap::from([("ticket".to_owned(), "4711".to_owned())]);
        let (grant, _) = ticket().fill(&given).unwrap();
        let constraint = &grant.permissions[0].tools[0].arguments["path"];
        assert_eq!(constraint.below.as_deref(), Some("/srv/tickets/4711"));
    }

    #[test]
    fn money_is_written_in_dollars_or_in_millionths() {
        let budget = |line: &str| {
            let text = TICKET.replace("ttl = \"30m\"", &format!("ttl = \"30m\"\nbudget = {line}"));
            let name = TemplateName::parse("ticket").unwrap();
            Template::parse(name, Path::new("t.toml"), &text).map(|read| read.grant.budget)
        };
        assert_eq!(budget("{ usd = 0.50 }").unwrap().micro_usd, Some(500_000));
        assert_eq!(budget("{ micro_usd = 7 }").unwrap().micro_usd, Some(7));
        assert_eq!(budget("{ tokens = 7 }").unwrap().calls, 1_000);
        for bad in [
            "{ usd = 1, micro_usd = 1 }",
            "{ usd = -1 }",
            "{ usd = 0.0000001 }",
        ] {
            assert!(budget(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_an_agent_says_when_it_opens_a_task_steers_nothing_unless_the_template_says_so() {
        use crate::template::Opener;
        let template = |lines: &str, parameter: &str| {
            let text = TICKET
                .replace("ttl = \"30m\"", &format!("ttl = \"30m\"\n{lines}"))
                .replace("pattern =", &format!("{parameter}\npattern ="));
            let name = TemplateName::parse("ticket").unwrap();
            Template::parse(name, Path::new("t.toml"), &text)
        };
        let given = BTreeMap::from([("ticket".to_owned(), "4711".to_owned())]);
        let trusts = |lines: &str, parameter: &str, given: &BTreeMap<_, _>, opener| {
            let trusted = template(lines, parameter)
                .unwrap()
                .trusted_inputs(given, opener);
            (trusted.purpose, trusted.parameters.contains("ticket"))
        };
        assert_eq!(trusts("", "", &given, Opener::Operator), (true, true));
        assert_eq!(trusts("", "", &given, Opener::Agent), (false, false));
        assert_eq!(trusts("", "", &given, Opener::Delegating), (false, false));
        let open = ("purpose_trusted = true", "trusted = true");
        assert_eq!(trusts(open.0, open.1, &given, Opener::Agent), (true, true));
        assert_eq!(
            trusts(open.0, open.1, &given, Opener::Delegating),
            (false, false)
        );
        let fixed = ("purpose = \"Answer tickets\"", "default = \"1\"");
        for opener in [Opener::Agent, Opener::Delegating] {
            let nothing = BTreeMap::new();
            assert_eq!(trusts(fixed.0, fixed.1, &nothing, opener), (true, true));
            assert_eq!(trusts(fixed.0, fixed.1, &given, opener), (true, false));
        }
        assert!(template("purpose = \"a\"\npurpose_trusted = true", "").is_err());
        assert!(template("purpose = \"a\\nb\"", "").is_err());
    }

    #[test]
    fn a_tunnel_is_allowed_only_in_so_many_words() {
        let allowed = |line: &str| {
            let text =
                format!("description = \"x\"\nttl = \"5m\"\n[[allow]]\nserver = \"crm\"\n{line}\n");
            let name = TemplateName::parse("t").unwrap();
            Template::parse(name, Path::new("t.toml"), &text)
                .map(|read| read.grant.permissions[0].clone())
        };
        let tunnel = allowed("connect = true").unwrap();
        assert_eq!((tunnel.kind, tunnel.connect), (PermissionKind::Http, true));
        for narrower in [
            "endpoints = [\"*\"]",
            "endpoints = [\"CONNECT *\"]",
            "connect = false",
        ] {
            assert!(!allowed(narrower).unwrap().connect, "{narrower}");
        }
        assert!(allowed("connect = true\ntools = [\"x\"]").is_err());
        assert!(allowed("connect = true\nmodels = [\"x\"]").is_err());
    }

    #[test]
    fn values_that_would_widen_it_are_refused() {
        for value in ["../..", "", "4711/..", "4711\n", "47117117"] {
            let given = BTreeMap::from([("ticket".to_owned(), value.to_owned())]);
            assert!(
                matches!(ticket().fill(&given), Err(FillError::Mismatch { .. })),
                "{value:?}"
            );
        }
        assert_eq!(
            ticket().fill(&BTreeMap::new()),
            Err(FillError::Missing("ticket".to_owned()))
        );
    }
}
