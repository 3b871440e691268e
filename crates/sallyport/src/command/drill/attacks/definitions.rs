//! Attacks through what MCP servers say of their tools.

use crate::command::drill::cast::Part;
use crate::command::drill::errand::Call;
use crate::command::drill::scene::{Scene, Stop};

/// Why a template's tools cannot be poisoned.
pub(super) fn has_none(part: &Part) -> Option<String> {
    part.of_mcp()
        .is_none()
        .then(|| "it uses no tool of an MCP server".to_owned())
}

pub(super) async fn poisoning(scene: &mut Scene<'_>) -> Result<(), Stop> {
    let part = scene.part;
    let Some(call) = part.of_mcp() else {
        return Ok(());
    };
    // Nothing of the server was seen before.
    scene.stand_in.poison(&call.server);
    scene.begin();
    look_and_call(scene, call, "a description with hidden orders").await
}

pub(super) async fn rug_pull(scene: &mut Scene<'_>) -> Result<(), Stop> {
    scene.usual_work().await?;
    let part = scene.part;
    let Some(call) = part.of_mcp() else {
        return Ok(());
    };
    scene.stand_in.poison(&call.server);
    scene.begin();
    look_and_call(scene, call, "the changed description").await
}

async fn look_and_call(scene: &mut Scene<'_>, call: &Call, what: &str) -> Result<(), Stop> {
    let change = format!(
        "sallyport.toml: [servers.{}] pins = \"review\", so that each definition waits for somebody who reads it",
        call.server
    );
    let shown = scene.agent.tools(&call.server).await?;
    if shown.contains(&call.name) {
        scene.through(format!("the agent was shown {what}"), change.clone());
    } else {
        scene.held("tool_quarantined");
    }
    let calls = format!("calls {} as it is told", call.shown());
    scene.attack(&calls, call, &call.arguments).await?;
    let came = scene.came_through();
    if came
        .iter()
        .any(|(server, came)| server == call.server.as_str() && came.name() == call.name)
    {
        scene.through(format!("{} was called", call.shown()), change);
    }
    Ok(())
}
