//! The enforcement points: one for each kind of server.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway::front::{Door, HttpDoor, Settings};
use gateway::mcp;
use gateway::pipeline::Pipeline;
use gateway::upstream::{Launcher, Upstreams};
use identity::KeyRing;
use model::config::Config;

use crate::failure::Failure;
use crate::setup::folder_of;

/// All enforcement points.
pub(super) type Doors = Arc<[Arc<dyn Door>]>;

/// The enforcement points of one process.
pub(super) struct Built {
    /// All of them.
    pub(super) doors: Doors,
    /// Those that are on the gateway's HTTP listener.
    pub(super) http: Vec<Arc<dyn HttpDoor>>,
    /// The one for agents, which opens parts of tasks.
    pub(super) a2a: Arc<a2a::Endpoint>,
    /// The one for providers of models, which remembers whose answers they keep.
    pub(super) llm: Arc<llm::Endpoint>,
    /// The one for databases, which has a listener of its own.
    pub(super) databases: Arc<postgres::Endpoint>,
    /// The forward proxy to HTTP APIs, which has a listener of its own.
    pub(super) proxy: Option<Arc<web::proxy::Proxy>>,
}

/// Builds all enforcement points.
///
/// # Errors
/// [`Failure`] with every server that cannot be used.
pub(super) fn all(
    file: &Path,
    config: &Config,
    pipeline: &Arc<Pipeline>,
    settings: &Arc<ArcSwap<Settings>>,
    keys: &Arc<KeyRing>,
) -> Result<Built, Failure> {
    let failed = |wrong: Vec<String>| Failure::new(wrong.join("\n"));
    let upstreams = Upstreams::with_launcher(config, Some(launcher(file)))
        .map_err(|wrong| failed(wrong.iter().map(ToString::to_string).collect()))?;
    let mcp = Arc::new(mcp::Endpoint::new(
        Arc::clone(pipeline),
        Arc::new(upstreams),
        Arc::clone(settings),
    ));
    let llm = llm::Endpoint::new(config, Arc::clone(pipeline), settings).map_err(failed)?;
    let llm = Arc::new(llm);
    let a2a = a2a::Endpoint::new(config, Arc::clone(pipeline), Arc::clone(keys), settings);
    let a2a = Arc::new(a2a.map_err(failed)?);
    let web = web::Endpoint::new(config, Arc::clone(pipeline), Arc::clone(keys), settings);
    let web = Arc::new(web.map_err(failed)?);
    let proxy = config.proxy.as_ref();
    let proxy = proxy.map(|proxy| Arc::new(web.proxy(Arc::clone(settings), proxy.base_url())));
    let databases = postgres::Endpoint::new(config, Arc::clone(pipeline), Arc::clone(settings));
    let databases = Arc::new(databases.map_err(failed)?);
    let doors: [Arc<dyn Door>; 5] = [
        mcp.clone(),
        web.clone(),
        llm.clone(),
        a2a.clone(),
        databases.clone(),
    ];
    let http: Vec<Arc<dyn HttpDoor>> = vec![mcp, web, llm.clone(), a2a.clone()];
    Ok(Built {
        doors: Arc::new(doors),
        http,
        a2a,
        llm,
        databases,
        proxy,
    })
}

/// What confines the programs that the gateway starts: this program, by another name. A file that took its
/// place since is not what runs, so it is named by what runs.
pub(crate) fn launcher(file: &Path) -> Launcher {
    let folder = folder_of(file);
    let mut fixed = vec![
        file.to_owned(),
        folder.join("templates"),
        folder.join("annotations"),
        folder.join("rules"),
        folder.join(crate::setup::rules::PINS),
        folder.join("policies"),
    ];
    fixed.extend(std::env::current_exe());
    Launcher {
        program: "/proc/self/exe".into(),
        arguments: vec!["confined".into()],
        fixed: fixed
            .into_iter()
            .map(|path| std::path::absolute(&path).unwrap_or(path))
            .collect(),
    }
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
