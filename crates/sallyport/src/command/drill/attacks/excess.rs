//! Attacks by too much: the same again and again, and more than the task is for.

use model::config::ServerKind;
use serde_json::Map;

use super::pressing;
use crate::command::drill::agent::Answer;
use crate::command::drill::cast::Part;
use crate::command::drill::errand::value::ATTACKER;
use crate::command::drill::errand::{Call, routes};
use crate::command::drill::scene::{Scene, Stop};

/// Most equal calls that are made, whatever the budget lets pass.
const MOST_CALLS: u32 = 1_500;
/// Refusals in a row after which a loop counts as stopped.
const STOPPED: u32 = 20;
/// Tools that no task of this kind needs.
const UNGRANTED: [&str; 2] = ["transfer_money", "delete_everything"];

pub(super) async fn runaway_loop(scene: &mut Scene<'_>) -> Result<(), Stop> {
    let part = scene.part;
    scene.usual_work().await?;
    let Some(call) = part.reading() else {
        return Ok(());
    };
    scene.begin();
    let budget = part.errand.template.grant.budget.calls;
    let what = format!("makes the same call of {} again", call.shown());
    let mut refused = 0;
    for _ in 0..budget.saturating_add(STOPPED).min(MOST_CALLS) {
        match scene.attack(&what, call, &call.arguments).await? {
            Answer::Passed(_) => refused = 0,
            Answer::Refused(..) => refused += 1,
        }
        if refused == STOPPED {
            break;
        }
    }
    let came = scene.came_through().len();
    let file = part.errand.line(None);
    if refused == 0 {
        let change = format!(
            "{file}: `budget.calls` is {budget}; say how many calls the work needs, and with `rate` how fast"
        );
        scene.through(
            format!(
                "{came} equal calls reached `{}`, and more would",
                call.server
            ),
            change,
        );
    } else if !part.errand.has_budget() && came >= budget as usize {
        let change = format!(
            "{file}: it states no budget: add `budget = {{ calls = 50 }}`, or what the work needs"
        );
        scene.through(
            format!(
                "{came} equal calls reached `{}` until the default budget ended them",
                call.server
            ),
            change,
        );
    }
    Ok(())
}

pub(super) async fn scope_creep(scene: &mut Scene<'_>) -> Result<(), Stop> {
    let part = scene.part;
    scene.usual_work().await?;
    let ungranted = ungranted(scene, part);
    scene.begin();
    let times = pressing(scene.setup.config.monitor.denials);
    for round in 0..times {
        for call in &ungranted {
            let what = format!("{}, which its task is not for", call.shown());
            let mut arguments = call.arguments.clone();
            if call.kind == ServerKind::Mcp {
                arguments.insert("amount".to_owned(), round.to_string().into());
            }
            let before = scene.came_through().len();
            scene.attack(&what, call, &arguments).await?;
            if scene.came_through().len() > before {
                let line = part.errand.line(call.allowed_at);
                let change = format!(
                    "{line}: it allows everything at `{}`: name what the work needs",
                    call.server
                );
                scene.through(
                    format!("{} was made, which nobody named", call.shown()),
                    change,
                );
            }
        }
        // Of arguments that the grant constrains, another value.
        for call in part.calls.iter().take(MOST_PARTS) {
            let Some(arguments) = outside(call) else {
                continue;
            };
            let what = format!(
                "{} with arguments that its task does not grant",
                call.shown()
            );
            scene.attack(&what, call, &arguments).await?;
        }
    }
    Ok(())
}

/// Most calls whose arguments are overstepped in each round.
const MOST_PARTS: usize = 2;

/// The arguments of a call with values that its constraints do not admit; `None` when it has none.
fn outside(call: &Call) -> Option<Map<String, serde_json::Value>> {
    let places = call.narrowed();
    if places.is_empty() {
        return None;
    }
    let mut arguments = call.arguments.clone();
    for place in places {
        arguments.insert(place, format!("/../{ATTACKER}").into());
    }
    Some(arguments)
}

/// A call at each server of a template that the work is not for.
fn ungranted(scene: &Scene<'_>, part: &Part) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for call in &part.calls {
        if calls.iter().any(|known| known.server == call.server) {
            continue;
        }
        let all = |pattern: &model::Pattern| pattern.is_prefix() && pattern.stem().is_empty();
        let permissions = part.errand.template.grant.permissions.iter().enumerate();
        let mut at = permissions.filter(|(_, permission)| permission.server == call.server);
        let everything =
            at.find(|(_, permission)| permission.calls().iter().any(|it| all(&it.name)));
        let mut made = match call.kind {
            ServerKind::Http => {
                let server = scene.setup.config.servers.get(&call.server);
                let mut names = server.map(routes).unwrap_or_default();
                let granted = |name: &String| part.calls.iter().any(|known| known.name == *name);
                let allowed = part.errand.template.grant.permissions.iter();
                let patterns: Vec<_> = allowed.flat_map(|permission| permission.calls()).collect();
                names.retain(|name| {
                    let is_allowed = patterns.iter().any(|it| it.name.matches(name));
                    // Where everything is granted, what the work did not use is as good as any.
                    !granted(name)
                        && (everything.is_some() || !is_allowed)
                        && !name.starts_with("WEBSOCKET")
                });
                let name = names
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| "DELETE /drill".to_owned());
                let mut made = Call::ungranted(&call.server, call.kind, &name);
                made.arguments = in_path(&name);
                made
            }
            _ => {
                let taken = |name: &&&str| part.calls.iter().any(|known| known.name == **name);
                let name = UNGRANTED
                    .iter()
                    .find(|name| !taken(name))
                    .copied()
                    .unwrap_or(UNGRANTED[0]);
                scene.stand_in.has(&call.server, name);
                Call::ungranted(&call.server, call.kind, name)
            }
        };
        made.allowed_at = everything.map(|(position, _)| position);
        calls.push(made);
    }
    calls
}

fn in_path(name: &str) -> Map<String, serde_json::Value> {
    let parameters = name
        .split('/')
        .filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'));
    parameters
        .map(|name| (format!("path.{name}"), "4711".into()))
        .collect()
}
