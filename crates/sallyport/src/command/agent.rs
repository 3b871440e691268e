//! `sallyport agent`: who there is, and who may act.

use clap::Subcommand;
use control::api::{
    Agent, Because, Changed, Enrolment, Hold, Instance, MakeEnrolment, RegisterAgent, TokensRevoked,
};
use model::{AgentName, InstanceId, SegmentName};
use serde_json::json;

use super::holds::{self, Order};
use super::{enroll, risk, svid};
use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, CODE, FAINT, GOOD, instant, paint, state};

/// Arguments of `sallyport agent`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport agent register triage --sponsor ada@example.org --segment customer-service
  sallyport agent list
  sallyport agent quarantine triage      nothing of it is forwarded any more, at once
  sallyport agent release triage")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Register an agent, and make a token with which its first instance enrols
    Register(Register),
    /// List the agents
    List(List),
    /// Show one agent and its instances
    Show(One),
    /// Stop an agent, or all of them: nothing of it is forwarded any more
    Quarantine(Stop),
    /// Let a quarantined agent act again
    Release(Stop),
    /// Refuse every token that an agent was given so far
    RevokeTokens(Change),
    /// Retire an agent for good; its name is not used again
    Retire(Change),
    /// See, set or clear how bad an agent looks
    Risk(risk::Args),
    /// Make a new enrolment token for a further instance
    Enrolment(NewEnrolment),
    /// Enrol this machine as an instance of an agent
    Enroll(enroll::Args),
    /// Get a short-lived certificate for this machine's instance (an X.509-SVID), or renew it
    Svid(svid::Args),
    /// List the instances of an agent
    Instances(One),
    /// Disable one instance for good
    DisableInstance(DisableInstance),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport agent register triage --sponsor ada@example.org
  sallyport agent register triage --sponsor ada@example.org --segment customer-service --json")]
struct Register {
    /// Its name: a-z, 0-9 and `-`; never one that was used before
    name: AgentName,
    /// The human who answers for it, as an e-mail address
    #[arg(long, value_name = "EMAIL")]
    sponsor: String,
    /// The segment that it belongs to
    #[arg(long)]
    segment: Option<SegmentName>,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport agent list --json | jq -r '.[].name'")]
struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  sallyport agent show triage\n  sallyport agent quarantine triage"
)]
struct One {
    /// The agent
    name: AgentName,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport agent quarantine triage --because 'odd calls since 9:40'
  sallyport agent release triage
  sallyport agent quarantine --all      everything stops; `release --all` lets it go on")]
struct Stop {
    /// The agent
    #[arg(required_unless_present = "all")]
    name: Option<AgentName>,
    /// All agents at once, those that are registered later too; each keeps its own state
    #[arg(long, conflicts_with = "name")]
    all: bool,
    #[command(flatten)]
    order: Order,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport agent retire triage --because 'replaced by support-bot'
  sallyport agent revoke-tokens triage --because 'incident 7'")]
struct Change {
    /// The agent
    name: AgentName,
    #[command(flatten)]
    order: Order,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sallyport agent enrolment triage --ttl 5m")]
struct NewEnrolment {
    /// The agent
    name: AgentName,
    /// How long the token can be used, at most a day
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = super::duration)]
    ttl: std::time::Duration,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  sallyport agent disable-instance inst_0190b6a0000070008000000000000000"
)]
struct DisableInstance {
    /// The instance
    id: InstanceId,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Register(args) => register(args),
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Quarantine(args) => stop(args, true),
        Command::Release(args) => stop(args, false),
        Command::Retire(args) => change(&args.order, &args.name, "retire"),
        Command::RevokeTokens(args) => revoke_tokens(args),
        Command::Risk(args) => risk::run(args),
        Command::Enrolment(args) => enrolment(args),
        Command::Enroll(args) => enroll::run(args),
        Command::Svid(args) => svid::run(args),
        Command::Instances(args) => instances(args),
        Command::DisableInstance(args) => disable_instance(args),
    }
}

fn register(args: &Register) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = RegisterAgent {
        name: args.name.clone(),
        sponsor: args.sponsor.clone(),
        segment: args.segment.clone(),
    };
    let agent: Agent = client.post("/v1/agents", &request)?;
    let enrolment: Enrolment = client.post(
        &format!("/v1/agents/{}/enrolment", agent.name),
        &MakeEnrolment::default(),
    )?;
    if args.json {
        return output::json(&json!({ "agent": agent, "enrolment": enrolment }));
    }
    let name = paint(output::STRONG, &agent.name);
    output::line(format_args!(
        "{} {name}  {}",
        paint(GOOD, "registered"),
        paint(FAINT, &agent.spiffe_id)
    ))?;
    invite(&enrolment)
}

fn enrolment(args: &NewEnrolment) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let request = MakeEnrolment {
        ttl_seconds: Some(args.ttl.as_secs()),
    };
    let enrolment: Enrolment =
        client.post(&format!("/v1/agents/{}/enrolment", args.name), &request)?;
    if args.json {
        output::json(&enrolment)
    } else {
        invite(&enrolment)
    }
}

/// Says how to use an enrolment token.
fn invite(enrolment: &Enrolment) -> Result<(), Failure> {
    output::line(format_args!(
        "\nEnrol one instance until {}, where the agent runs:\n",
        instant(enrolment.expires_at)
    ))?;
    let command = format!(
        "SALLYPORT_ENROLMENT_TOKEN={} sallyport agent enroll --control {}",
        enrolment.token, enrolment.control
    );
    output::line(format_args!("  {}\n", paint(CODE, command)))?;
    output::line(paint(
        FAINT,
        "The token is shown this once and can be used once.",
    ))
}

fn list(args: &List) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let agents: Vec<Agent> = client.list("/v1/agents", &[], usize::MAX)?;
    if args.json {
        return output::json(&agents);
    }
    let rows = agents.iter().map(|agent| {
        vec![
            agent.name.to_string(),
            state(agent.lifecycle.as_str()),
            agent
                .segment
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            agent.sponsor.clone(),
            instant(agent.registered_at),
        ]
    });
    output::table(
        &["agent", "state", "segment", "sponsor", "registered"],
        rows.collect(),
        "no agents yet; `sallyport agent register NAME --sponsor EMAIL` adds one",
    )
}

fn show(args: &One) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let agent: Agent = client.get(&format!("/v1/agents/{}", args.name))?;
    let instances = instances_of(&client, &args.name)?;
    if args.json {
        return output::json(&json!({ "agent": agent, "instances": instances }));
    }
    sheet(&agent)?;
    output::line("")?;
    print_instances(&instances)
}

fn sheet(agent: &Agent) -> Result<(), Failure> {
    output::sheet(&[
        ("agent", paint(output::STRONG, &agent.name)),
        ("state", state(agent.lifecycle.as_str())),
        ("identity", agent.spiffe_id.clone()),
        ("sponsor", agent.sponsor.clone()),
        (
            "segment",
            agent
                .segment
                .as_ref()
                .map_or_else(|| "none".to_owned(), ToString::to_string),
        ),
        ("registered", instant(agent.registered_at)),
        (
            "rate",
            agent.pace.as_ref().map(super::pace).unwrap_or_default(),
        ),
    ])
}

fn stop(args: &Stop, stop: bool) -> Result<(), Failure> {
    match (&args.name, stop) {
        (Some(name), true) => change(&args.order, name, "quarantine"),
        (Some(name), false) => change(&args.order, name, "release"),
        (None, true) => holds::hold(&args.order, Hold::All),
        (None, false) => holds::release(&args.order, Hold::All),
    }
}

fn revoke_tokens(args: &Change) -> Result<(), Failure> {
    let order = &args.order;
    let because = Because {
        because: order.because.clone(),
    };
    let path = format!("/v1/agents/{}/tokens/revoke", args.name);
    let done: Changed<TokensRevoked> = Client::new(&order.control)?.post(&path, &because)?;
    if order.json {
        return output::json(&done);
    }
    output::line(format_args!(
        "every token that {} was given so far is refused",
        paint(output::STRONG, &done.now.agent)
    ))?;
    super::warn(&done.warnings);
    Ok(())
}

fn change(order: &Order, name: &AgentName, verb: &str) -> Result<(), Failure> {
    let client = Client::new(&order.control)?;
    let path = format!("/v1/agents/{name}/{verb}");
    let because = order.because.clone();
    let changed: Changed<Agent> = client.post(&path, &Because { because })?;
    if order.json {
        return output::json(&changed);
    }
    output::line(format_args!(
        "{} is {}",
        changed.now.name,
        state(changed.now.lifecycle.as_str())
    ))?;
    super::warn(&changed.warnings);
    Ok(())
}

fn instances(args: &One) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let instances = instances_of(&client, &args.name)?;
    if args.json {
        output::json(&instances)
    } else {
        print_instances(&instances)
    }
}

fn instances_of(client: &Client, agent: &AgentName) -> Result<Vec<Instance>, Failure> {
    client.list(
        "/v1/instances",
        &[("agent", Some(agent.to_string()))],
        usize::MAX,
    )
}

fn print_instances(instances: &[Instance]) -> Result<(), Failure> {
    let rows = instances.iter().map(|instance| {
        vec![
            instance.id.to_string(),
            state(if instance.disabled {
                "disabled"
            } else {
                "active"
            }),
            instant(instance.enrolled_at),
            paint(FAINT, &instance.thumbprint),
        ]
    });
    output::table(
        &["instance", "state", "enrolled", "key"],
        rows.collect(),
        "no instances yet; `sallyport agent enrolment NAME` makes a token to enrol one",
    )
}

fn disable_instance(args: &DisableInstance) -> Result<(), Failure> {
    let client = Client::new(&args.control)?;
    let changed: Changed<Instance> =
        client.post(&format!("/v1/instances/{}/disable", args.id), &json!({}))?;
    if args.json {
        return output::json(&changed);
    }
    output::line(format_args!("{} is {}", changed.now.id, state("disabled")))?;
    super::warn(&changed.warnings);
    Ok(())
}
