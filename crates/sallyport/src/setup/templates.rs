//! What templates must be beyond their format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use model::config::{Config, ServerKind};
use model::expression;
use model::grant::{CallPermission, Constraint, Permission, PermissionKind};
use model::{Mistake, Pattern, Proof, Template, TemplateName};
use serde_json::Value;

use super::Remark;
use super::config::last_line;
use super::identity;
use super::proxy;
use super::rates;
use super::remarks::Remarks;
use super::toml_text::{closest, place};

/// Longest life of a task that nothing is said about.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Values that lead out of a folder when a parameter with such a value is part of a path.
const ESCAPES: [&str; 6] = ["..", "../..", "x/..", "x/../..", "/", "../x"];

/// Adds the places that the parser of templates does not know itself.
pub(crate) fn with_places(text: &str, mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    for mistake in &mut mistakes {
        if mistake.span.is_none() && mistake.message.ends_with("is not a duration") {
            mistake.span = place(text, &["ttl"]);
        }
    }
    mistakes
}

/// Checks everything about a template that its format cannot say.
pub(crate) fn check(
    file: &Path,
    text: &str,
    template: &Template,
    config: Option<&Config>,
) -> Vec<Remark> {
    let mut checking = Checking {
        text,
        template,
        config,
        used: BTreeSet::new(),
        remarks: Remarks::new(file, text),
    };
    checking.head();
    if let Some(config) = config {
        rates::check_template(&mut checking.remarks, template, config);
    }
    for (index, permission) in template.grant.permissions.iter().enumerate() {
        checking.permission(&index.to_string(), permission);
    }
    checking.parameters();
    checking.remarks.into_list()
}

/// Servers that no template mentions: nobody can use them.
pub(crate) fn unused_servers(
    file: &Path,
    text: &str,
    config: &Config,
    templates: &BTreeMap<TemplateName, Template>,
) -> Vec<Remark> {
    if templates.is_empty() {
        let mistake = Mistake::new(file, "there are no templates, so no task can be opened")
            .hint("write `templates/NAME.toml`; `sallyport init` has one to start from");
        return vec![Remark::advice(mistake)];
    }
    let granted: BTreeSet<&str> = templates
        .values()
        .flat_map(|template| &template.grant.permissions)
        .map(|permission| permission.server.as_str())
        .collect();
    let unused = config
        .servers
        .keys()
        .filter(|name| !granted.contains(name.as_str()));
    unused
        .map(|name| {
            let mistake = Mistake::new(file, format!("no template grants the server `{name}`"))
                .at(place(text, &["servers", name.as_str()]))
                .hint(format!(
                    "add `[[allow]]` with `server = \"{name}\"` to a template"
                ));
            Remark::advice(mistake)
        })
        .collect()
}

/// The keys that say what may be done at servers of a kind, in words.
fn names_of(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::Mcp => "`tools`, `resources` or `prompts`",
        ServerKind::Http => "`endpoints`, such as `GET /customers/{id}`",
        ServerKind::Llm => "`models`",
        ServerKind::A2a => "`skills`",
        ServerKind::Postgres => "`tables`, such as `public.customers`",
    }
}

/// The key that says what may be called.
fn called(kind: PermissionKind) -> &'static str {
    match kind {
        PermissionKind::Mcp => "tools",
        PermissionKind::Http => "endpoints",
        PermissionKind::Llm => "models",
        PermissionKind::A2a => "skills",
        PermissionKind::Postgres => "tables",
    }
}

struct Checking<'a> {
    text: &'a str,
    template: &'a Template,
    config: Option<&'a Config>,
    /// The parameters that were met in constraints.
    used: BTreeSet<String>,
    remarks: Remarks<'a>,
}

impl Checking<'_> {
    fn head(&mut self) {
        let template = self.template;
        if template.description.trim().is_empty() {
            self.remarks.advice(
                &["description"],
                "the description is empty",
                "say in words what such a task is for",
            );
        }
        if template.agents.is_empty() && template.segments.is_empty() {
            self.remarks.advice(
                &[],
                "no agent may open tasks from this template",
                "add `agents = [\"NAME\"]` or `segments = [\"NAME\"]`",
            );
        }
        if template.ttl > LONG {
            self.remarks.advice(
                &["ttl"],
                "a task that lives longer than a day is almost standing access",
                "use the shortest time in which the work can be done",
            );
        }
        if template.grant.proof == Proof::Bearer {
            self.remarks.advice(
                &["proof"],
                "with `bearer` whoever holds a token of such a task can use it",
                "leave `proof` out, and start the client with `sallyport connect`",
            );
        }
        if let Some(config) = self.config {
            identity::check_template(&mut self.remarks, template, config);
        }
        if template.grant.budget.calls == 0 {
            self.remarks.mistake(
                &["budget", "calls"],
                "with `calls = 0` such a task could do nothing",
                "leave it out to have the default",
            );
        }
        if template.grant.permissions.is_empty() {
            self.remarks.advice(
                &[],
                "such a task may do nothing",
                "add `[[allow]]` with `server` and `tools`, `resources` or `prompts`",
            );
        }
    }

    fn permission(&mut self, index: &str, permission: &Permission) {
        if let Some(config) = self.config
            && !config.servers.contains_key(&permission.server)
        {
            let known: Vec<&str> = config.servers.keys().map(|name| name.as_str()).collect();
            let hint = match closest(permission.server.as_str(), &known) {
                Some(close) => format!("did you mean `{close}`?"),
                None if known.is_empty() => "add `[servers.NAME]` to sallyport.toml".to_owned(),
                None => format!("sallyport.toml has: {}", known.join(", ")),
            };
            self.remarks.mistake(
                &["allow", index, "server"],
                format!("there is no server `{}`", permission.server),
                hint,
            );
        }
        if let Some(server) = self
            .config
            .and_then(|config| config.servers.get(&permission.server))
            && server.kind.permission() != permission.kind
            && *permission != Permission::new(permission.kind, permission.server.clone())
        {
            let kind = server.kind;
            self.remarks.mistake(
                &["allow", index, "server"],
                format!(
                    "server `{}` is of the kind `{}`, which has nothing of what is allowed here",
                    permission.server,
                    kind.as_str()
                ),
                format!("allow it {}", names_of(kind)),
            );
        }
        let empty = permission.calls().is_empty()
            && permission.tables.is_empty()
            && permission.resources.is_empty()
            && permission.prompts.is_empty()
            && permission.server_requests.is_empty()
            && !permission.connect;
        if empty {
            self.remarks.advice(
                &["allow", index, "server"],
                "this `[[allow]]` allows nothing",
                "add `tools`, `resources`, `prompts`, `endpoints`, `models`, `skills` or `tables`",
            );
        }
        if let Some(config) = self.config.filter(|_| permission.connect) {
            proxy::connect(&mut self.remarks, config, index, permission);
        }
        if permission.calls().is_empty() {
            for key in ["arguments", "other_arguments", "max_calls"] {
                if self.is_written(index, key) {
                    self.remarks.mistake(
                        &["allow", index, key],
                        format!("`{key}` is about what is called, but nothing is allowed to be called here"),
                        "add `tools`, `endpoints`, `models` or `skills`",
                    );
                }
            }
        }
        for (key, patterns) in [
            ("resources", &permission.resources),
            ("prompts", &permission.prompts),
        ] {
            self.no_parameters(&["allow", index, key], patterns.iter());
        }
        self.no_parameters(
            &["allow", index, called(permission.kind)],
            permission.calls().iter().map(|call| &call.name),
        );
        // All calls of one `[[allow]]` share their constraints.
        if let Some(tool) = permission.calls().first() {
            self.tool(index, tool);
        }
    }

    /// Whether an `[[allow]]` has a key: what was parsed does not tell when there are no tools.
    fn is_written(&self, index: &str, key: &str) -> bool {
        let Ok(document) = toml::de::DeTable::parse(self.text) else {
            return false;
        };
        let allow = document
            .get_ref()
            .get("allow")
            .and_then(|all| all.get_ref().as_array());
        allow
            .zip(index.parse::<usize>().ok())
            .and_then(|(all, index)| all.get(index))
            .and_then(|one| one.get_ref().as_table())
            .is_some_and(|table| table.contains_key(key))
    }

    fn no_parameters<'p>(&mut self, path: &[&str], patterns: impl Iterator<Item = &'p Pattern>) {
        for (position, pattern) in patterns.enumerate() {
            if pattern.to_string().contains("${") {
                let position = position.to_string();
                let path = [path, &[position.as_str()]].concat();
                self.remarks.mistake(
                    &path,
                    "parameters are filled in only within constraints of arguments",
                    "write the name out, or end it with `*`",
                );
            }
        }
    }

    fn tool(&mut self, index: &str, tool: &CallPermission) {
        if tool.max_calls == Some(0) {
            self.remarks.mistake(
                &["allow", index, "max_calls"],
                "with `max_calls = 0` these tools could not be called",
                "leave the tools out instead",
            );
        }
        for (argument, constraint) in &tool.arguments {
            self.constraint(
                &["allow", index, "arguments", argument],
                argument,
                constraint,
            );
        }
    }

    fn constraint(&mut self, path: &[&str], argument: &str, constraint: &Constraint) {
        let under = |key: &'static str| [path, &[key]].concat();
        if let Some(Value::String(text)) = &constraint.equals {
            self.filled(&under("equals"), text);
        }
        if let Some(choices) = &constraint.one_of {
            if choices.is_empty() {
                self.remarks.mistake(
                    &under("one_of"),
                    "no value is one of none",
                    "list the values that may be passed",
                );
            }
            for choice in choices {
                if let Value::String(text) = choice {
                    self.filled(&under("one_of"), text);
                }
            }
        }
        if let Some(prefix) = &constraint.prefix {
            self.filled(&under("prefix"), prefix);
            if is_like_path(argument, prefix) {
                self.remarks.advice(
                    &under("prefix"),
                    "`prefix` does not keep a path in a folder: `..` and similar names get out",
                    "use `below`, which compares segment by segment",
                );
            }
        }
        if let Some(below) = &constraint.below {
            self.filled(&under("below"), below);
            // What the decision cannot compare with refuses every call.
            if let Err(error) = policy::path::Folder::parse(&without_parameters(below)) {
                self.remarks.mistake(
                    &under("below"),
                    format!("the folder cannot be compared with: {error}"),
                    "write the folder out, from its root on",
                );
            }
            for name in parameters_in(below) {
                self.stays_inside(&under("below"), &name);
            }
        }
        if let Some(expression) = &constraint.regex {
            self.filled(&under("regex"), expression);
            let sample = without_parameters(expression);
            if let Err(error) = expression::whole(&sample) {
                self.remarks.mistake(
                    &under("regex"),
                    format!(
                        "not a regular expression: {}",
                        last_line(&error.to_string())
                    ),
                    "see https://docs.rs/regex for the syntax",
                );
            }
        }
        let limits = constraint.min.as_ref().zip(constraint.max.as_ref());
        if let Some((min, max)) = limits
            && let Some((low, high)) = min.as_f64().zip(max.as_f64())
            && low > high
        {
            self.remarks.mistake(
                &under("min"),
                format!("no number is at least {min} and at most {max}"),
                "exchange `min` and `max`",
            );
        }
    }

    /// Notes the parameters in a text, and reports those that the template does not have.
    fn filled(&mut self, path: &[&str], text: &str) {
        for name in parameters_in(text) {
            if !self.template.parameters.contains_key(&name) {
                let known: Vec<&str> = self
                    .template
                    .parameters
                    .keys()
                    .map(String::as_str)
                    .collect();
                let hint = match closest(&name, &known) {
                    Some(close) => format!("did you mean `${{{close}}}`?"),
                    None => format!("add `[parameters.{name}]`"),
                };
                let shown = name.escape_debug().to_string();
                self.remarks
                    .mistake(path, format!("there is no parameter `{shown}`"), hint);
            }
            self.used.insert(name);
        }
        if text.matches("${").count() > parameters_in(text).len() {
            self.remarks.mistake(
                path,
                "`${` begins a parameter, but no `}` ends it",
                "write `${name}`",
            );
        }
    }

    /// A parameter in a folder's name must not be able to lead out of it.
    fn stays_inside(&mut self, path: &[&str], name: &str) {
        let Some(parameter) = self.template.parameters.get(name) else {
            return;
        };
        let Ok(pattern) = expression::whole(&parameter.pattern) else {
            return;
        };
        if let Some(escape) = ESCAPES.iter().find(|value| pattern.is_match(value)) {
            self.remarks.mistake(
                path,
                format!("the value `{escape}` of parameter `{name}` would lead out of the folder"),
                format!(
                    "narrow the `pattern` of `{name}`, for example to `[A-Za-z0-9][A-Za-z0-9_-]*`"
                ),
            );
        }
    }

    fn parameters(&mut self) {
        let template = self.template;
        for (name, parameter) in &template.parameters {
            let here = ["parameters", name.as_str()];
            match expression::whole(&parameter.pattern) {
                Err(error) => self.remarks.mistake(
                    &["parameters", name, "pattern"],
                    format!(
                        "not a regular expression: {}",
                        last_line(&error.to_string())
                    ),
                    "see https://docs.rs/regex for the syntax",
                ),
                Ok(pattern) => {
                    if let Some(default) = &parameter.default
                        && !pattern.is_match(default)
                    {
                        self.remarks.mistake(
                            &["parameters", name, "default"],
                            format!(
                                "the default does not match the pattern `{}`",
                                parameter.pattern
                            ),
                            "change one of them; without a default the parameter must be given",
                        );
                    }
                }
            }
            if !self.used.contains(name) {
                self.remarks.advice(
                    &here,
                    format!("the parameter `{name}` narrows nothing"),
                    format!("use `${{{name}}}` in a constraint, or remove it"),
                );
            }
        }
    }
}

/// The names between `${` and `}`, in order, each as often as it stands there.
fn parameters_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        names.push(name.to_owned());
        rest = after;
    }
    names
}

/// The text with a letter in the place of each parameter.
fn without_parameters(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((_, after)) = after.split_once('}') else {
            break;
        };
        plain.push_str(before);
        plain.push('x');
        rest = after;
    }
    plain + rest
}

fn is_like_path(argument: &str, prefix: &str) -> bool {
    let name = argument
        .rsplit('/')
        .next()
        .unwrap_or(argument)
        .to_ascii_lowercase();
    let named = [
        "path",
        "file",
        "folder",
        "dir",
        "directory",
        "url",
        "uri",
        "source",
        "destination",
    ]
    .iter()
    .any(|word| name == *word || name.ends_with(&format!("_{word}")));
    named || prefix.starts_with(['/', '~', '.']) || prefix.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Severity;

    const CONFIG: &str = "trust_domain = \"a\"\n[servers.files]\nurl = \"https://a/mcp\"\n";

    fn remarks(text: &str) -> Vec<(Severity, usize, String)> {
        let file = Path::new("templates/x.toml");
        let config = Config::parse(Path::new("sallyport.toml"), CONFIG).unwrap();
        let template = Template::parse(TemplateName::parse("x").unwrap(), file, text).unwrap();
        check(file, text, &template, Some(&config))
            .into_iter()
            .map(|remark| {
                let line = remark.mistake.line_in(text).unwrap_or(0);
                (remark.severity, line, remark.mistake.message)
            })
            .collect()
    }

    const GOOD: &str = "description = \"Work on a ticket\"\nagents = [\"support-*\"]\nttl = \"30m\"\n\
        [parameters.ticket]\npattern = \"[0-9]{1,6}\"\n\
        [[allow]]\nserver = \"files\"\ntools = [\"read_text_file\"]\n\
        arguments = { path = { below = \"/srv/${ticket}\" } }\n";

    #[test]
    fn a_good_template_has_no_remarks() {
        assert_eq!(remarks(GOOD), []);
    }

    #[test]
    fn each_mistake_is_found_where_it_is() {
        for (from, to, line, severity, words) in [
            (
                "server = \"files\"",
                "server = \"fils\"",
                7,
                Severity::Mistake,
                "no server `fils`",
            ),
            (
                "${ticket}",
                "${tickt}",
                9,
                Severity::Mistake,
                "no parameter `tickt`",
            ),
            (
                "${ticket}",
                "${ticket",
                9,
                Severity::Mistake,
                "no `}` ends it",
            ),
            (
                "below = \"/srv/${ticket}\"",
                "below = \"/srv\"",
                4,
                Severity::Advice,
                "narrows nothing",
            ),
            (
                "[0-9]{1,6}",
                "[0-9",
                5,
                Severity::Mistake,
                "not a regular expression",
            ),
            (
                "[0-9]{1,6}",
                "[./]+",
                9,
                Severity::Mistake,
                "lead out of the folder",
            ),
            (
                "{1,6}\"",
                "{1,6}\"\ndefault = \"x\"",
                6,
                Severity::Mistake,
                "does not match",
            ),
            (
                "below",
                "prefix",
                9,
                Severity::Advice,
                "`prefix` does not keep",
            ),
            (
                "below = \"/srv/",
                "below = \"/srv/../",
                9,
                Severity::Mistake,
                "cannot be compared with",
            ),
            (
                "below = \"/srv/${ticket}\"",
                "regex = \"(${ticket}\"",
                9,
                Severity::Mistake,
                "not a regular",
            ),
            (
                "path = {",
                "n = { min = 3, max = 2 }, path = {",
                9,
                Severity::Mistake,
                "no number",
            ),
            (
                "path = {",
                "n = { one_of = [] }, path = {",
                9,
                Severity::Mistake,
                "one of none",
            ),
            (
                "tools = [\"read_text_file\"]",
                "tools = [\"a\", \"r_${ticket}\"]",
                8,
                Severity::Mistake,
                "only within",
            ),
            (
                "tools = [\"read_text_file\"]",
                "resources = [\"*\"]",
                9,
                Severity::Mistake,
                "nothing is allowed to be called",
            ),
            (
                "agents = [\"support-*\"]",
                "agents = []",
                0,
                Severity::Advice,
                "no agent may open",
            ),
            ("30m", "72h", 3, Severity::Advice, "longer than a day"),
            (
                "ttl = \"30m\"",
                "ttl = \"30m\"\nproof = \"bearer\"",
                4,
                Severity::Advice,
                "whoever holds",
            ),
            (
                "server = \"files\"",
                "server = \"files\"\nmax_calls = 0",
                8,
                Severity::Mistake,
                "max_calls = 0",
            ),
        ] {
            let found = remarks(&GOOD.replacen(from, to, 1));
            assert!(
                found.iter().any(|(how, at, what)| {
                    *how == severity && *at == line && what.contains(words)
                }),
                "{to}: {found:#?}"
            );
        }
    }

    #[test]
    fn servers_that_nobody_can_use_are_named() {
        let file = Path::new("sallyport.toml");
        let config = Config::parse(file, CONFIG).unwrap();
        let none = unused_servers(file, CONFIG, &config, &BTreeMap::new());
        assert!(none[0].mistake.message.contains("no templates"));
        let name = TemplateName::parse("x").unwrap();
        let other = GOOD.replace("\"files\"", "\"mail\"");
        let template = Template::parse(name.clone(), file, &other).unwrap();
        let unused = unused_servers(file, CONFIG, &config, &BTreeMap::from([(name, template)]));
        assert_eq!(unused[0].mistake.line_in(CONFIG), Some(2));
    }
}
