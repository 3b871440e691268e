//! What each act does. All of them are safe to do twice: what is stopped already stays stopped.

use std::sync::Arc;

use bytes::Bytes;
use gateway::outbound::{Post, Reach};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use model::approval::ApprovalLevel;
use model::{AgentName, Lifecycle, ServerName};
use response::{Act, Run};
use serde_json::json;
use store::LevelOf;

use super::{Responder, evidence};
use crate::engine::{Actor, Engine, EngineError, Hold};

/// Carries out an act; what came of it, in words. `key` names this attempt's act, the same each time.
pub(super) async fn carry_out(
    responder: &Arc<Responder>,
    actor: Actor,
    act: &Act,
    because: &str,
    key: &str,
    run: Option<&Run>,
) -> Result<String, EngineError> {
    let engine = &responder.engine;
    let why = || Some(because.to_owned());
    match act {
        Act::EndTask { task } => {
            let ended = engine.revoke_task(actor, *task, why()).await?;
            Ok(with(ended.now.status.as_str().to_owned(), &ended.warnings))
        }
        Act::EndTasks { agent } => {
            is_there(engine, agent)?;
            let open = engine.open_tasks_of(agent);
            let mut warnings = Vec::new();
            for task in &open {
                let ended = engine.revoke_task(actor.clone(), *task, why()).await?;
                warnings.extend(ended.warnings);
            }
            Ok(with(format!("{} tasks ended", open.len()), &warnings))
        }
        Act::RevokeTokens { agent } => {
            let done = engine.revoke_tokens(actor, agent.clone(), why()).await?;
            Ok(with("its tokens are refused".to_owned(), &done.warnings))
        }
        Act::Quarantine { agent, sub_agents } => {
            quarantine(engine, &actor, agent, *sub_agents, because).await
        }
        Act::DisableTool { server, tool } => {
            let hold = Hold::Tool(server.clone(), tool.clone());
            let done = engine.hold(actor, hold, why()).await?;
            Ok(with("nobody can use it".to_owned(), &done.warnings))
        }
        Act::DisableServer { server } => {
            let done = engine.disable_server(actor, server.clone()).await?;
            Ok(with("nobody can reach it".to_owned(), &done.warnings))
        }
        Act::RaiseApproval { agent, level } => raise(engine, actor, agent, *level, because).await,
        Act::IsolateSegment { segment } => {
            let hold = Hold::Segment(segment.clone());
            let done = engine.hold(actor, hold, why()).await?;
            Ok(with("it is cut off".to_owned(), &done.warnings))
        }
        Act::RotateCredential { server } => rotate(responder, server, because, key).await,
        Act::CollectEvidence {
            agent,
            task,
            incident,
        } => {
            let about = evidence::About {
                agent: agent.clone(),
                task: *task,
                incident: incident.clone(),
            };
            evidence::collect(responder, about, key).await
        }
        Act::Notify { channel, text } => {
            let current = responder.current.load_full();
            let about = super::telling::About { text, key, run };
            current
                .teller
                .tell(channel, &about)
                .await
                .map_err(|error| EngineError::conflict(error.to_string(), error.remedy()))
        }
    }
}

/// What came of it, and what is still owed.
fn with(done: String, warnings: &[String]) -> String {
    match warnings {
        [] => done,
        warnings => format!("{done}; {}", warnings.join("; ")),
    }
}

fn is_there(engine: &Engine, agent: &AgentName) -> Result<Lifecycle, EngineError> {
    let world = engine.live().world();
    let facts = world.agent(agent);
    facts
        .map(|facts| facts.lifecycle)
        .ok_or_else(|| EngineError::not_found("agent", agent))
}

async fn quarantine(
    engine: &Arc<Engine>,
    actor: &Actor,
    agent: &AgentName,
    sub_agents: bool,
    because: &str,
) -> Result<String, EngineError> {
    is_there(engine, agent)?;
    // Before anything ends: later nobody knows any more who acted under whom.
    let below = match sub_agents {
        true => engine.sub_agents(agent),
        false => Default::default(),
    };
    let mut stopped = Vec::new();
    let mut warnings = Vec::new();
    for one in std::iter::once(agent).chain(&below) {
        match is_there(engine, one)? {
            // Retired is final, and more than stopped.
            Lifecycle::Retired => stopped.push(format!("`{one}` is retired already")),
            _ => {
                let because = Some(because.to_owned());
                let done = engine
                    .quarantine_agent(actor.clone(), one.clone(), because)
                    .await?;
                warnings.extend(done.warnings);
                stopped.push(format!("`{one}` is stopped"));
            }
        }
    }
    Ok(with(stopped.join(", "), &warnings))
}

async fn raise(
    engine: &Arc<Engine>,
    actor: Actor,
    agent: &AgentName,
    level: ApprovalLevel,
    because: &str,
) -> Result<String, EngineError> {
    let now = jiff::Timestamp::now();
    let levels = engine.live().approvals().levels();
    let present = levels
        .agent(agent)
        .filter(|raised| raised.until.is_none_or(|until| now < until));
    if present.is_some_and(|raised| raised.level >= level && raised.until.is_none()) {
        return Ok("it is as high already".to_owned());
    }
    // What somebody raised further for a time is not lowered, and what is raised now has no end.
    let level = present.map_or(level, |raised| raised.level.max(level));
    let of = LevelOf::Agent(agent.clone());
    let done = engine
        .set_approval_level(actor, of, level, None, because)
        .await?;
    Ok(with(format!("it is `{level}` now"), &done.warnings))
}

/// Has whoever keeps a server's credential replace it, and reads it anew.
async fn rotate(
    responder: &Arc<Responder>,
    server: &ServerName,
    because: &str,
    key: &str,
) -> Result<String, EngineError> {
    let engine = &responder.engine;
    let known = engine.servers();
    if !known.contains_key(server) {
        return Err(EngineError::not_found("server", server));
    }
    let current = responder.current.load_full();
    let rotation = current.settings.rotations.get(server);
    let asked = match rotation.and_then(|rotation| rotation.hook.as_ref()) {
        None => "its credential was",
        Some(url) => {
            let body = json!({ "server": server, "because": because, "key": key }).to_string();
            let mut headers = HeaderMap::new();
            let kind = HeaderValue::from_static("application/json");
            headers.insert(CONTENT_TYPE, kind);
            current
                .teller
                .sign_rotation(server, body.as_bytes(), &mut headers);
            let post = Post {
                method: Method::POST,
                url: url.clone(),
                // Where it is, is for whoever writes the configuration to say.
                reach: Reach::Any,
                headers,
                body: Bytes::from(body),
            };
            let failed = |why: String| {
                EngineError::conflict(
                    format!("whoever keeps the credential did not replace it: {why}"),
                    "replace it by hand, then `sallyport reload`",
                )
            };
            match current.teller.outbound().send(post).await {
                Ok(status) if status.is_success() => "it was replaced, and was",
                Ok(status) => return Err(failed(format!("status {}", status.as_u16()))),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    };
    let Some(reload) = responder.reload.get() else {
        return Err(EngineError::conflict(
            "the setup cannot be read anew here",
            "restart the process",
        ));
    };
    reload().await.map_err(|error| {
        EngineError::conflict(
            error.to_string(),
            "correct the setup, then `sallyport reload`",
        )
    })?;
    let record = model::record::Record::change(
        jiff::Timestamp::now(),
        "sallyport",
        "server.credential_reread",
        server.as_str(),
    )
    .with("because", because)
    .with("replaced", rotation.is_some_and(|it| it.hook.is_some()));
    engine.record_or_owe(&record).await;
    Ok(format!("{asked} read anew"))
}
