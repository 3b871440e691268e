//! The words of refusals. They tell what the caller may know: its own task and grant, and nothing
//! about servers, agents or policies beyond that.

use model::grant::ServerRequest;
use model::{
    ApprovalLevel, Constraint, Denial, Operation, Proof, Rule, ServerName, TableAccess, TaskStatus,
};

use crate::arguments::Refused;
use crate::constraint::Broken;
use crate::tools::Unapproved;

/// Longest piece of text of others that is quoted, in characters.
const QUOTED: usize = 120;

const ASK_FOR_MORE: &str = "open a task from a template that allows it, or ask the owner of this \
    task's template to add it";

const ASK_FOR_INSPECTION: &str = "ask an operator to have tunnels to it looked into (`inspect = true`), \
    so that what is granted of its endpoints counts, or the owner of this task's template to add \
    `connect = true`";

fn denial(rule: Rule, reason: impl Into<String>, remedy: impl Into<String>) -> Denial {
    Denial {
        rule,
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

/// Text of others, shortened and with control characters escaped.
fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .take(QUOTED)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(QUOTED).is_some() {
        quoted.push('…');
    }
    quoted
}

pub(crate) fn agent_not_active() -> Denial {
    denial(
        Rule::AgentNotActive,
        "the agent is not active",
        "ask the agent's sponsor or an operator; `sallyport agent show` tells them its state",
    )
}

/// Who else is held back, and why, is not the agent's to know.
pub(crate) fn held_back() -> Denial {
    denial(
        Rule::AgentNotActive,
        "the agent is stopped by an operator, alone or with others",
        "wait until an operator releases it; the task goes on then, if its time is not over",
    )
}

/// For a tool that the task does grant.
pub(crate) fn tool_disabled(operation: &Operation, held: &str) -> Denial {
    let what = match operation {
        Operation::Query { .. } => format!("the table `{}`", quote(held)),
        other => what(other),
    };
    denial(
        Rule::ToolQuarantined,
        format!("{what} is disabled"),
        "wait until an operator enables it again",
    )
}

pub(crate) fn task_ended(status: TaskStatus) -> Denial {
    let reason = format!("the task is {}", status.as_str());
    denial(Rule::TaskNotOpen, reason, "open a new task")
}

pub(crate) fn task_of_others() -> Denial {
    let remedy = "use a task that was opened for this agent and instance";
    denial(Rule::TaskNotOpen, "the task is not the caller's", remedy)
}

pub(crate) fn proof_too_weak(demanded: Proof) -> Denial {
    let (reason, remedy) = match demanded {
        Proof::Certificate => (
            "the task demands the agent's certificate on every connection, and this call came without it",
            "connect with the agent's SVID (`sallyport agent svid`), and use an access token that is bound to it \
             (RFC 8705)",
        ),
        Proof::Dpop | Proof::Bearer => (
            "the task demands a DPoP proof on every call, and this call came without one",
            "use a DPoP-bound access token and send a fresh proof with each call (RFC 9449)",
        ),
    };
    denial(Rule::ProofTooWeak, reason, remedy)
}

pub(crate) fn server_not_granted(server: &ServerName) -> Denial {
    let reason = format!("the task does not grant the server `{server}`");
    denial(Rule::ServerNotGranted, reason, ASK_FOR_MORE)
}

const ASK_A_PERSON: &str = "ask an operator to approve it, then send the same again";

/// The template wants a person to approve it.
pub(crate) fn template_asks(operation: &Operation) -> Denial {
    let reason = format!(
        "the task allows {} only with a person's approval",
        what(operation)
    );
    denial(Rule::ApprovalNeeded, reason, ASK_A_PERSON)
}

/// A policy wants a person to approve it.
pub(crate) fn policy_asks(operation: &Operation) -> Denial {
    let reason = format!(
        "the organisation's policies allow {} only with a person's approval",
        what(operation)
    );
    denial(Rule::ApprovalNeeded, reason, ASK_A_PERSON)
}

/// An operator, or what was noticed, has raised how much needs a person.
pub(crate) fn level_asks(level: ApprovalLevel) -> Denial {
    let reason = match level {
        ApprovalLevel::All => "everything that this task does needs a person's approval now",
        _ => "everything that changes something needs a person's approval now",
    };
    denial(Rule::ApprovalNeeded, reason, ASK_A_PERSON)
}

/// For a tool that the task does grant.
pub(crate) fn tool_quarantined(server: &ServerName, tool: &str, why: Unapproved) -> Denial {
    let reason = match why {
        Unapproved::New => "was not approved yet",
        Unapproved::Changed => "was changed by its server since it was approved",
        Unapproved::Rejected => "was changed by its server, and the change was rejected",
    };
    denial(
        Rule::ToolQuarantined,
        format!("the definition of tool `{}` {reason}", quote(tool)),
        format!(
            "list the tools, and ask an operator to look at it: `sallyport mcp review {server}`"
        ),
    )
}

/// For a server that the task does grant: that it exists is no news to the caller.
pub(crate) fn server_disabled(server: &ServerName) -> Denial {
    let reason = format!("the server `{server}` is disabled");
    denial(
        Rule::ServerNotGranted,
        reason,
        "wait until an operator enables it again",
    )
}

/// What an operation touches, in words.
fn what(operation: &Operation) -> String {
    match operation {
        Operation::CallTool { tool, .. } => format!("the tool `{}`", quote(tool)),
        Operation::ReadResource { uri } => format!("the resource `{}`", quote(uri)),
        Operation::GetPrompt { name } => format!("the prompt `{}`", quote(name)),
        Operation::Converse => "it".to_owned(),
        Operation::Answer { request } => format!("{} requests", request_word(*request)),
        Operation::Request { endpoint, .. } => format!("the endpoint `{}`", quote(endpoint)),
        Operation::Generate { model, .. } => format!("the model `{}`", quote(model)),
        Operation::Message { skill, .. } => format!("the skill `{}`", quote(skill)),
        Operation::Query { statement } => format!("the tables `{}`", quote(&statement.target())),
        Operation::Connect { authority } => {
            format!("an unseen tunnel to `{}`", quote(authority))
        }
    }
}

pub(crate) fn table_not_granted(server: &ServerName, access: &TableAccess) -> Denial {
    let table = quote(&access.table);
    let columns = access.columns.as_ref().map_or_else(String::new, |columns| {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        format!(" (columns `{}`)", quote(&columns.join(", ")))
    });
    let operation = access.operation;
    let reason = format!(
        "the task does not grant {operation} on `{table}`{columns} of the server `{server}`"
    );
    denial(Rule::NotGranted, reason, ASK_FOR_MORE)
}

pub(crate) fn not_granted(server: &ServerName, operation: &Operation) -> Denial {
    let what = what(operation);
    let reason = format!("the task does not grant {what} of the server `{server}`");
    let remedy = match operation {
        Operation::Connect { .. } => ASK_FOR_INSPECTION,
        _ => ASK_FOR_MORE,
    };
    denial(Rule::NotGranted, reason, remedy)
}

/// The word of the schema for a request of a server.
pub(crate) fn request_word(request: ServerRequest) -> &'static str {
    match request {
        ServerRequest::Sampling => "sampling",
        ServerRequest::Elicitation => "elicitation",
        ServerRequest::Roots => "roots",
    }
}

pub(crate) fn argument_refused(refused: &Refused<'_>) -> Denial {
    let (reason, remedy) = match refused {
        Refused::Unnamed(name) => (
            format!("the task does not allow the argument `{}`", quote(name)),
            "leave it out".to_owned(),
        ),
        Refused::Missing(key) => (
            format!("the argument `{}` is missing or empty", quote(key)),
            "pass it: this task allows the tool only with it".to_owned(),
        ),
        Refused::Shape(key) => (
            format!(
                "the arguments have another shape than `{}` needs",
                quote(key)
            ),
            "pass objects and arrays as the tool's schema has them, not as text".to_owned(),
        ),
        Refused::Broken(key, broken, constraint) => (
            format!("the argument `{}` {}", quote(key), breaks(broken)),
            match broken {
                Broken::Unusable => {
                    "ask the owner of this task's template to correct it".to_owned()
                }
                _ => format!("pass {}", wanted(constraint)),
            },
        ),
    };
    denial(Rule::ArgumentRefused, reason, remedy)
}

fn breaks(broken: &Broken) -> String {
    match broken {
        Broken::Value => "has a value that this task does not allow".to_owned(),
        Broken::NotText => "is not text".to_owned(),
        Broken::Prefix => "does not begin as this task demands".to_owned(),
        Broken::Ambiguous(why) => format!("could be read in more than one way as a path: {why}"),
        Broken::NotBelow => "is not in the folder that this task allows".to_owned(),
        Broken::NoMatch => "does not match the pattern that this task demands".to_owned(),
        Broken::NotNumber => "is not a number".to_owned(),
        Broken::TooSmall => "is smaller than this task allows".to_owned(),
        Broken::TooLarge => "is larger than this task allows".to_owned(),
        Broken::Empty => "is an empty array".to_owned(),
        Broken::Unusable => "has a constraint in this task that cannot be used".to_owned(),
    }
}

fn wanted(constraint: &Constraint) -> String {
    let mut parts = Vec::new();
    if let Some(value) = &constraint.equals {
        parts.push(format!("`{}`", quote(&value.to_string())));
    }
    if let Some(values) = &constraint.one_of {
        let text: Vec<String> = values.iter().take(8).map(ToString::to_string).collect();
        parts.push(format!("one of `{}`", quote(&text.join(", "))));
    }
    if let Some(prefix) = &constraint.prefix {
        parts.push(format!("text that begins with `{}`", quote(prefix)));
    }
    if let Some(folder) = &constraint.below {
        parts.push(format!("a plain path in `{}`", quote(folder)));
    }
    if let Some(regex) = &constraint.regex {
        parts.push(format!("text that matches `{}`", quote(regex)));
    }
    if let Some(min) = &constraint.min {
        parts.push(format!("a number of at least {min}"));
    }
    if let Some(max) = &constraint.max {
        parts.push(format!("a number of at most {max}"));
    }
    if parts.is_empty() {
        parts.push("at least one value".to_owned());
    }
    parts.join(", and ")
}

pub(crate) fn call_budget_exhausted(operation: &Operation, max: u32) -> Denial {
    let what = what(operation);
    let reason = format!("the task allows {max} calls of {what}, and all were made");
    denial(
        Rule::BudgetExhausted,
        reason,
        "open a new task for further work",
    )
}

pub(crate) fn budget_exhausted(calls: u32) -> Denial {
    let reason = format!("the task allows {calls} calls in all, and all were made");
    denial(
        Rule::BudgetExhausted,
        reason,
        "open a new task for further work",
    )
}

pub(crate) fn amount_exhausted(name: &str, limit: u64) -> Denial {
    let reason = format!("the task allows {limit} {name} in all, and this would go beyond it");
    denial(
        Rule::BudgetExhausted,
        reason,
        "ask for less at once, or open a new task for further work",
    )
}

pub(crate) fn policy_forbids() -> Denial {
    denial(
        Rule::PolicyForbids,
        "an organisation policy forbids it",
        "do without it, or ask an operator; the decision's record names the policy",
    )
}

pub(crate) fn no_policy_permits() -> Denial {
    denial(
        Rule::NoPolicyPermits,
        "no organisation policy permits it",
        "ask an operator to add a policy that permits it",
    )
}

pub(crate) fn policy_error() -> Denial {
    denial(
        Rule::PolicyError,
        "an organisation policy could not be evaluated, so nothing it could be about is permitted",
        "ask an operator to correct it; the decision's record names the policy",
    )
}
