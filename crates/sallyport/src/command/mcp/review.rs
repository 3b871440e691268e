//! `sallyport mcp review`: tools that are new or have changed.

use control::api::{ReviewTool, ReviewedTool, ToolState};
use model::ServerName;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, BAD, CODE, FAINT, GOOD, STRONG, WARN, paint};

/// Shortest part of a hash that names a definition, in digits.
const SHORT: usize = 8;
/// Most lines of a definition that are shown without `--all`.
const LINES: usize = 60;

/// Arguments of `sallyport mcp review`.
#[derive(clap::Args)]
#[command(after_help = "\
Without --accept and --reject it shows what waits. TOOL@HASH accepts exactly the definition that was
shown: if the server has changed it again since, nothing is accepted.

Examples:
  sallyport mcp review
  sallyport mcp review files --accept read_file@3fa1c2d4
  sallyport mcp review files --reject send_all
  sallyport mcp review --all --json | jq '.[] | select(.state == \"changed\")'")]
pub(crate) struct Args {
    /// The MCP server; all when absent
    server: Option<ServerName>,
    /// Accept what the server lists as this tool
    #[arg(long, value_name = "TOOL[@HASH]", requires = "server")]
    accept: Vec<String>,
    /// Reject what the server lists as this tool; of one that was approved, take the approval back
    #[arg(long, value_name = "TOOL[@HASH]", requires = "server")]
    reject: Vec<String>,
    /// Accept everything of the server that waits
    #[arg(long, requires = "server", conflicts_with_all = ["accept", "reject"])]
    accept_all: bool,
    /// Also show what was approved and what was rejected, and definitions as a whole
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let filter = [("server", args.server.as_ref().map(ToString::to_string))];
    let mut tools: Vec<ReviewedTool> = client.list("/v1/tools", &filter, usize::MAX)?;
    if let Some(server) = &args.server
        && (args.accept_all || !args.accept.is_empty() || !args.reject.is_empty())
    {
        return decide(args, &client, server, &tools);
    }
    if !args.all {
        tools.retain(|tool| tool.state.waits());
    }
    tools.sort_by(|a, b| (a.state, &a.server, &a.tool).cmp(&(b.state, &b.server, &b.tool)));
    if args.json {
        return output::json(&tools);
    }
    if tools.is_empty() {
        return output::line(paint(GOOD, "nothing waits for a review"));
    }
    for tool in &tools {
        show(tool, args.all)?;
    }
    let waiting = tools.iter().filter(|tool| tool.state.waits()).count();
    if waiting > 0 {
        output::line(paint(
            FAINT,
            "agents neither see nor call these tools until they are accepted",
        ))?;
    }
    Ok(())
}

fn decide(
    args: &Args,
    client: &Client,
    server: &ServerName,
    tools: &[ReviewedTool],
) -> Result<(), Failure> {
    let mut decisions = Vec::new();
    if args.accept_all {
        decisions.extend(
            tools
                .iter()
                .filter(|tool| tool.state.waits())
                .map(|tool| ("accept", tool)),
        );
    }
    for named in &args.accept {
        decisions.push(("accept", find(tools, named)?));
    }
    for named in &args.reject {
        decisions.push(("reject", find(tools, named)?));
    }
    let mut done = Vec::new();
    for (verb, tool) in decisions {
        let definition = tool.listed.as_ref().or(tool.approved.as_ref());
        let body = ReviewTool {
            tool: tool.tool.clone(),
            definition: definition.cloned().unwrap_or_default(),
        };
        let now: ReviewedTool =
            client.post(&format!("/v1/servers/{server}/tools/{verb}"), &body)?;
        if !args.json {
            output::line(format_args!(
                "{} of {server} is {}",
                paint(STRONG, output::visible(&now.tool)),
                state(now.state)
            ))?;
        }
        done.push(now);
    }
    if args.json {
        return output::json(&done);
    }
    if done.is_empty() {
        output::line(paint(
            FAINT,
            format_args!("nothing of {server} waits for a review"),
        ))?;
    }
    Ok(())
}

/// The tool that `TOOL` or `TOOL@HASH` names.
fn find<'a>(tools: &'a [ReviewedTool], named: &str) -> Result<&'a ReviewedTool, Failure> {
    let by_name = |name: &str| tools.iter().find(|tool| tool.tool == name);
    if let Some(tool) = by_name(named) {
        return Ok(tool);
    }
    if let Some((name, hash)) = named.rsplit_once('@')
        && let Some(tool) = by_name(name)
    {
        let definition = tool.listed.as_deref().or(tool.approved.as_deref());
        if hash.len() >= SHORT && definition.is_some_and(|all| all.starts_with(hash)) {
            return Ok(tool);
        }
        return Err(Failure::new(format!(
            "the definition of `{}` is not `{}` (any more)",
            output::visible(name),
            output::visible(hash)
        ))
        .hint("look at it again: `sallyport mcp review` shows what the server lists now"));
    }
    Err(
        Failure::new(format!("no tool `{}` is known of the server", output::visible(named)))
            .hint("`sallyport mcp review --all` shows those that are; one is known once an agent has listed the tools"),
    )
}

fn show(tool: &ReviewedTool, whole: bool) -> Result<(), Failure> {
    let name = output::visible(&tool.tool);
    let hash = tool.listed.as_ref().or(tool.approved.as_ref());
    let short = hash.map(|hash| hash.chars().take(SHORT).collect::<String>());
    let short = short.unwrap_or_default();
    output::line(format_args!(
        "{} of {}: {} {}",
        paint(STRONG, &name),
        tool.server,
        state(tool.state),
        paint(FAINT, &short)
    ))?;
    if let (Some(by), Some(at)) = (&tool.approved_by, tool.approved_at) {
        output::line(format_args!(
            "  approved by {} at {}",
            output::visible(by),
            output::instant(at)
        ))?;
    }
    if let Some(at) = tool.listed_at {
        output::line(format_args!(
            "  listed like this since {}",
            output::instant(at)
        ))?;
    }
    for finding in &tool.findings {
        let style = output::severity_style(finding.severity);
        output::line(format_args!(
            "  {} {}: {}",
            paint(style, format_args!("{:<8}", finding.severity)),
            finding.rule,
            output::visible(&finding.explanation)
        ))?;
        if let Some(evidence) = &finding.evidence {
            let quote = output::visible(&evidence.quote);
            let place = output::visible(&evidence.place);
            output::line(format_args!(
                "           in {place}: {}",
                paint(FAINT, quote)
            ))?;
        }
    }
    if tool.state.waits() || whole {
        let most = if whole { usize::MAX } else { LINES };
        for line in tool.text.lines().take(most) {
            output::line(format_args!("    {}", coloured(line)))?;
        }
        let more = tool.text.lines().count().saturating_sub(most);
        if more > 0 {
            output::line(paint(
                FAINT,
                format_args!("    … {more} more lines: `--all` shows them"),
            ))?;
        }
    }
    if tool.state.waits() {
        let command = format!(
            "sallyport mcp review {} --accept '{name}@{short}'",
            tool.server
        );
        output::line(format_args!("  accept it: {}", paint(CODE, command)))?;
    }
    output::line("")
}

/// A line of a difference in the colour of what it says.
fn coloured(line: &str) -> String {
    let visible = output::visible(line);
    match line.as_bytes().first() {
        Some(b'+') => paint(GOOD, visible),
        Some(b'-') => paint(BAD, visible),
        Some(b'@') => paint(FAINT, visible),
        _ => visible,
    }
}

fn state(state: ToolState) -> String {
    let style = match state {
        ToolState::Approved => GOOD,
        ToolState::Rejected => BAD,
        ToolState::Changed | ToolState::New => WARN,
    };
    paint(style, state.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, hash: &str) -> ReviewedTool {
        ReviewedTool {
            server: ServerName::parse("files").unwrap(),
            tool: name.to_owned(),
            state: ToolState::Changed,
            approved: None,
            approved_by: None,
            approved_at: None,
            listed: Some(hash.to_owned()),
            listed_at: None,
            findings: Vec::new(),
            text: String::new(),
        }
    }

    #[test]
    fn a_hash_must_be_the_one_that_was_shown() {
        let tools = [tool("read", "3fa1c2d4e5"), tool("odd@name", "99aabbccdd")];
        assert_eq!(find(&tools, "read").unwrap().tool, "read");
        assert_eq!(find(&tools, "read@3fa1c2d4").unwrap().tool, "read");
        assert_eq!(find(&tools, "odd@name").unwrap().tool, "odd@name");
        assert_eq!(find(&tools, "odd@name@99aabbcc").unwrap().tool, "odd@name");
        for bad in ["read@3fa1c2d5", "read@3f", "write", "@"] {
            assert!(find(&tools, bad).is_err(), "{bad}");
        }
    }
}
