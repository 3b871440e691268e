//! The enforcement points: one for each kind of server.

use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway::front::{Door, HttpDoor, Settings};
use gateway::mcp;
use gateway::pipeline::Pipeline;
use gateway::upstream::Upstreams;
use model::config::Config;

use crate::failure::Failure;

/// All enforcement points.
pub(super) type Doors = Arc<[Arc<dyn Door>]>;

/// All enforcement points, and those of them that are on the gateway's HTTP listener.
///
/// # Errors
/// [`Failure`] with every server that cannot be used.
pub(super) fn all(
    config: &Config,
    pipeline: &Arc<Pipeline>,
    settings: &Arc<ArcSwap<Settings>>,
) -> Result<(Doors, Vec<Arc<dyn HttpDoor>>), Failure> {
    let failed = |wrong: Vec<String>| Failure::new(wrong.join("\n"));
    let upstreams = Upstreams::new(config)
        .map_err(|wrong| failed(wrong.iter().map(ToString::to_string).collect()))?;
    let mcp = Arc::new(mcp::Endpoint::new(
        Arc::clone(pipeline),
        Arc::new(upstreams),
        Arc::clone(settings),
    ));
    let doors: [Arc<dyn Door>; 1] = [mcp.clone()];
    let http: Vec<Arc<dyn HttpDoor>> = vec![mcp];
    Ok((Arc::new(doors), http))
}

/// Takes a configuration into use at all of them: everywhere, or nowhere.
///
/// # Errors
/// Every server that cannot be used, and why; then nothing has changed.
pub(super) fn reload(doors: &Doors, config: &Config) -> Result<(), Vec<String>> {
    let mut commits = Vec::with_capacity(doors.len());
    let mut wrong = Vec::new();
    for door in doors.iter() {
        match door.prepare(config) {
            Ok(commit) => commits.push(commit),
            Err(errors) => wrong.extend(errors),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    for commit in commits {
        commit();
    }
    Ok(())
}
