//! One request of an authenticated caller: what it attempts, and whether it may.

use std::sync::Arc;

use gateway::caller::Caller;
use gateway::inspection::{About, What};
use gateway::pipeline::Permit;
use gateway::resource::Route;
use gateway::slots::Slot;
use model::config::Limits;
use model::grant::PermissionKind;
use model::record::Ended;
use model::{Action, Denial, Grant, Operation, Rule, TaskStatus, json};
use serde_json::{Map, Value};

use crate::Shared;
use crate::card::{Card, Offer};
use crate::delegation::Delegation;
use crate::inspect;
use crate::message::{self, Said};
use crate::method::{Dialect, Method};
use crate::owned::{Begun, Kind};
use crate::push::hook::Hook;
use crate::refusal::{Fault, Refusal};
use crate::request::{Binding, Call};
use crate::site::Site;
use crate::watch::Watch;

/// One request of an authenticated caller.
pub(crate) struct Visit {
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Arc<Caller>,
    pub(crate) route: Route,
    pub(crate) limits: Limits,
    /// The URL of the gateway.
    pub(crate) base_url: String,
    /// The issuer of tokens.
    pub(crate) issuer: String,
}

/// A request that was permitted, ready to be forwarded.
pub(crate) struct Ready {
    pub(crate) permit: Permit,
    pub(crate) site: Arc<Site>,
    pub(crate) path: String,
    pub(crate) http: http::Method,
    pub(crate) body: Option<Value>,
    pub(crate) watch: Watch,
    pub(crate) slot: Slot,
}

impl Visit {
    /// The agent that is asked. One that is not configured and one that is not granted read the same,
    /// because the attempt to talk to it is denied before.
    pub(crate) async fn site(&self) -> Result<Arc<Site>, Refusal> {
        if let Some(site) = self.shared.site(&self.route.server) {
            return Ok(site);
        }
        let permit = self.attempt("agent-card", Operation::Converse).await?;
        drop(permit);
        Err(Refusal::of_permitted(
            Fault::InvalidAnswer,
            "the agent is not in use any more",
        ))
    }

    /// The other agent's card; fetching it is an attempt of its own.
    pub(crate) async fn card(&self, site: &Site) -> Result<Arc<Card>, Refusal> {
        let failed = |why: &str| {
            Refusal::of_permitted(
                Fault::InvalidAnswer,
                format!("the agent's card cannot be used: {why}"),
            )
        };
        if let Some(Ok(card)) = site.kept() {
            return Ok(card);
        }
        let mut permit = self.attempt("agent-card", Operation::Converse).await?;
        let dispatch = permit
            .dispatch()
            .map_err(|denied| Refusal::denied(&denied))?;
        let signal = permit.signal();
        let card = tokio::select! {
            biased;
            () = signal.cut() => return Err(Refusal::denied(&permit.cut_off())),
            card = site.card(&self.shared.room) => card,
        };
        drop(dispatch);
        let ended = match card {
            Ok(_) => Ended::Answered,
            Err(_) => Ended::UpstreamFailed,
        };
        let digest = permit.digest();
        permit.finish(ended, digest);
        card.map_err(|why| failed(&why))
    }

    /// The card as this caller may see it: signed, and with the skills that its task may ask for.
    pub(crate) async fn own_card(&self, method: &str) -> Result<Vec<u8>, Refusal> {
        let site = self.site().await?;
        let card = self.card(&site).await?;
        let mut permit = self.attempt(method, Operation::Converse).await?;
        // Nothing leaves for the upstream, but whoever ended the task is heard all the same.
        let dispatch = permit
            .dispatch()
            .map_err(|denied| Refusal::denied(&denied))?;
        drop(dispatch);
        let url = self.route.resource(&self.base_url);
        let offer = Offer {
            url: &url,
            issuer: &self.issuer,
            pushes: site.pushes(),
        };
        let looked_at = card.looked_at(|skill| self.may_ask(skill), &mut |target, document| {
            let about = About {
                what: What::ToolDefinition,
                ..inspect::about(&self.caller, &self.route.server, target, &permit)
            };
            let inspection = self.shared.pipeline.inspection();
            inspection.json(&about, document).taken()
        });
        let card = match looked_at {
            Ok(card) => card,
            Err(denial) => {
                let refusal = inspect::blocked(&mut permit, What::ToolDefinition, denial);
                let digest = permit.digest();
                permit.finish(Ended::UpstreamError, digest);
                return Err(refusal);
            }
        };
        let text = card
            .rewritten(&offer, &self.shared.keys)
            .map(|card| Value::Object(card).to_string().into_bytes())
            .map_err(|error| Refusal::of_permitted(Fault::InvalidAnswer, error.to_string()))?;
        let mut digest = permit.digest();
        digest.update(&text);
        permit.finish(Ended::Answered, digest);
        Ok(text)
    }

    fn may_ask(&self, skill: &str) -> bool {
        let item = policy::Listed::Skill(skill);
        self.shared
            .pipeline
            .may_list(&self.caller, &self.route.server, item)
    }

    /// Steps 4 and 5.
    pub(crate) async fn attempt(
        &self,
        method: &str,
        operation: Operation,
    ) -> Result<Permit, Refusal> {
        let action = Action::new(self.route.server.clone(), method, operation);
        self.shared
            .pipeline
            .attempt(&self.caller, action)
            .await
            .map_err(|denied| Refusal::denied(&denied))
    }

    /// Decides on a request, and makes it ready to be forwarded.
    pub(crate) async fn decide(&self, mut call: Call) -> Result<Ready, Refusal> {
        let site = self.site().await?;
        let card = self.card(&site).await?;
        let base = self.interface(&card, &call)?;
        let name = call.method.name(call.dialect);
        let limit = self.limits.streams_per_task;
        let slot = self
            .shared
            .slots
            .take(self.caller.task.task().id, limit)
            .ok_or_else(|| {
                let message = format!("the task has {limit} requests under way: wait for one");
                Refusal::new(Fault::TooMany, message)
            })?;
        let mut watch = Watch {
            method: call.method,
            dialect: call.dialect,
            binding: call.binding.clone(),
            principal: self.caller.principal(),
            server: self.route.server.clone(),
            skill: String::new(),
            about: None,
            begun: None,
            fresh: false,
            own: None,
            registering: None,
            limits: json::Limits {
                bytes: self.limits.response_bytes,
                depth: self.limits.json_depth,
            },
        };
        let permit = if call.method.sends() {
            self.message(&site, &card, &mut call, &mut watch, name)
                .await?
        } else if call.method.is_push() {
            self.change_push(&site, &card, &mut call, &mut watch)
                .await?
        } else {
            if let Some((id, begun)) = self.about(&mut call)? {
                watch.about = Some(id);
                watch.skill = begun.skill;
            }
            self.attempt(name, Operation::Converse).await?
        };
        let (http, path, body) = target(&call, base).ok_or_else(|| {
            Refusal::of_permitted(
                Fault::InvalidParams,
                "the task's id cannot stand in a URL: use the JSON-RPC binding",
            )
        })?;
        Ok(Ready {
            permit,
            site,
            path,
            http,
            body,
            watch,
            slot,
        })
    }

    /// Where the other agent takes such requests.
    fn interface<'c>(&self, card: &'c Card, call: &Call) -> Result<&'c str, Refusal> {
        let interface = match call.binding {
            Binding::JsonRpc(_) => card.rpc(call.dialect),
            Binding::Rest => card.rest(),
        };
        interface.ok_or_else(|| {
            let (binding, version) = match call.binding {
                Binding::JsonRpc(_) => ("JSON-RPC", call.dialect.version()),
                Binding::Rest => ("HTTP+JSON", Dialect::V1.version()),
            };
            let message = format!("the agent does not offer {binding} in version {version}");
            match call.binding {
                Binding::JsonRpc(_) => Refusal::new(Fault::Version, message),
                Binding::Rest => Refusal::new(Fault::Unsupported, message),
            }
        })
    }

    /// The operations on a task: it must be the caller's. One that is not does not exist.
    fn about(&self, call: &mut Call) -> Result<Option<(String, Begun)>, Refusal> {
        let names: &[&str] = match call.method {
            Method::GetTask => &["tenant", "id", "historyLength", "metadata"],
            Method::Cancel | Method::Subscribe => &["tenant", "id", "metadata"],
            _ => &[
                "tenant",
                "contextId",
                "status",
                "pageSize",
                "pageToken",
                "historyLength",
                "statusTimestampAfter",
                "lastUpdatedAfter",
                "includeArtifacts",
            ],
        };
        message::known("params", &mut call.params, names)?;
        message::no_tenant(&mut call.params)?;
        // What a task is, its messages said; what is about the task itself needs no more words.
        call.params.remove("metadata");
        if call.method == Method::ListTasks {
            if let Some(context) = message::id("params", &call.params, "contextId")? {
                self.find(Kind::Context, &context)?;
            }
            return Ok(None);
        }
        let id = message::id("params", &call.params, "id")?
            .ok_or_else(|| Refusal::new(Fault::InvalidParams, "`params.id` is missing"))?;
        let begun = self.find(Kind::Task, &id)?;
        Ok(Some((id, begun)))
    }

    pub(crate) fn find(&self, kind: Kind, id: &str) -> Result<Begun, Refusal> {
        self.shared
            .owned
            .find(self.caller.principal(), &self.route.server, kind, id)
            .ok_or_else(|| match kind {
                Kind::Task => Refusal::new(Fault::TaskNotFound, "there is no such task"),
                Kind::Context => Refusal::new(
                    Fault::InvalidParams,
                    "there is no such context: the agent that is asked gives it out, so leave it \
                     out of the first message",
                ),
            })
    }

    /// A message: which skill it asks for, whether it may, and under which sub-task it is carried out.
    async fn message(
        &self,
        site: &Arc<Site>,
        card: &Card,
        call: &mut Call,
        watch: &mut Watch,
        name: &str,
    ) -> Result<Permit, Refusal> {
        let said = message::read(call.dialect, &mut call.params)?;
        let hook = match said.push.clone() {
            None => None,
            Some(_) if !site.pushes() || !card.pushes => return Err(no_push()),
            Some(mut config) => {
                let place = "configuration";
                Some(Hook::read(call.dialect, place, &mut config)?)
            }
        };
        let before = self.conversation(&said)?;
        let skill = self.skill(card, before.as_ref(), &said)?;
        let uris = said.arguments.contains_key("file_uris");
        if uris && !uris_are_constrained(&self.caller.task.task().grant, &self.route, &skill) {
            return Err(Refusal::by_rule(&Denial {
                rule: Rule::ArgumentRefused,
                reason: "the message sends the other agent to a URI, and the grant does not say \
                         which ones it may be sent to"
                    .to_owned(),
                remedy: "constrain `file_uris` of this skill in the template, or send the bytes"
                    .to_owned(),
            }));
        }
        let operation = Operation::Message {
            skill: skill.clone(),
            arguments: said.arguments,
        };
        let permit = self.attempt(name, operation).await?;
        watch.fresh = before.is_none();
        let sub_task = match (&site.about.agent, &site.about.template) {
            (Some(agent), Some(template)) => {
                let open = before.and_then(|begun| begun.sub_task).filter(|id| {
                    let task = self.shared.pipeline.live().task(id);
                    task.is_some_and(|task| {
                        task.status_at(jiff::Timestamp::now()) == TaskStatus::Open
                    })
                });
                let wanted = Delegation {
                    parent: self.caller.task.task().id,
                    by: self.caller.instance,
                    agent: agent.clone(),
                    template: template.clone(),
                    purpose: format!("asked for `{skill}` by {}", self.caller.agent),
                };
                match open {
                    Some(open) => Some(open),
                    None => Some(self.shared.delegate(wanted).await?),
                }
            }
            _ => None,
        };
        let marked = sub_task.map(|task| task.to_string());
        message::mark(&mut call.params, &skill, marked.as_deref());
        watch.skill.clone_from(&skill);
        let begun = Begun { skill, sub_task };
        if let Some(hook) = hook {
            let task = said.task.as_deref();
            let (registering, given, _) =
                self.register(site, call.dialect, hook, task, begun.clone())?;
            message::push_to(call.dialect, &mut call.params, given);
            watch.registering = Some(registering);
        }
        watch.begun = Some(begun);
        Ok(permit)
    }

    /// What the message goes on with; all of it must be the caller's, and of one skill.
    fn conversation(&self, said: &Said) -> Result<Option<Begun>, Refusal> {
        let task = said.task.as_deref().map(|id| self.find(Kind::Task, id));
        let context = said
            .context
            .as_deref()
            .map(|id| self.find(Kind::Context, id));
        let mut before = task.transpose()?;
        let others = said.references.iter().map(|id| self.find(Kind::Task, id));
        for other in context.into_iter().chain(others) {
            let other = other?;
            match &before {
                Some(before) if before.skill != other.skill => {
                    return Err(Refusal::new(
                        Fault::InvalidParams,
                        "the message brings together what began under different skills",
                    ));
                }
                Some(_) => {}
                None => before = Some(other),
            }
        }
        Ok(before)
    }

    /// The skill: what the conversation began with, or the metadata names, or the only one there is.
    fn skill(&self, card: &Card, before: Option<&Begun>, said: &Said) -> Result<String, Refusal> {
        let wrong = |message: String| Err(Refusal::new(Fault::InvalidParams, message));
        match (before, &said.skill) {
            (Some(begun), Some(named)) if begun.skill != *named => wrong(
                "the conversation began under another skill than the message names: begin a new one"
                    .to_owned(),
            ),
            (Some(begun), _) => Ok(begun.skill.clone()),
            // What is not declared is denied first, unless everything is granted.
            (None, Some(named)) if !card.skills.contains(named) && self.may_ask(named) => {
                wrong("the agent's card declares no such skill".to_owned())
            }
            (None, Some(named)) => Ok(named.clone()),
            (None, None) => {
                let mut may = card.skills.iter().filter(|skill| self.may_ask(skill));
                match (may.next(), may.next()) {
                    (Some(only), None) => Ok(only.clone()),
                    _ => wrong(format!(
                        "say which skill is asked for: put its id under `{}` into the message's \
                         metadata",
                        message::SKILL
                    )),
                }
            }
        }
    }
}

/// The refusal of push notifications.
pub(crate) fn no_push() -> Refusal {
    Refusal::new(
        Fault::PushNotSupported,
        "push notifications are not offered: get the task, or subscribe to it",
    )
}

/// Whether each permission that could cover the skill says which URIs the other agent may be sent to.
fn uris_are_constrained(grant: &Grant, route: &Route, skill: &str) -> bool {
    let about = |key: &str| key == "file_uris" || key == "/file_uris" || key == "/file_uris/*";
    grant
        .permissions
        .iter()
        .filter(|it| it.kind == PermissionKind::A2a && it.server == route.server)
        .flat_map(|it| &it.skills)
        .filter(|call| call.name.matches(skill))
        .all(|call| !call.allows_other_arguments() || call.arguments.keys().any(|key| about(key)))
}

/// Method, path and body of the request for the upstream.
fn target(call: &Call, base: &str) -> Option<(http::Method, String, Option<Value>)> {
    match &call.binding {
        Binding::JsonRpc(id) => {
            let path = if base.is_empty() { "/" } else { base };
            let body = serde_json::json!({
                "jsonrpc": "2.0",
                "id": id,
                "method": call.method.name(call.dialect),
                "params": call.params,
            });
            Some((http::Method::POST, path.to_owned(), Some(body)))
        }
        Binding::Rest => {
            let (http, path) = crate::request::rest_path(call.method, &call.params)?;
            let body = match call.method {
                Method::Send | Method::Stream | Method::SetPush => {
                    Some(Value::Object(call.params.clone()))
                }
                Method::Cancel => Some(Value::Object(Map::new())),
                _ => None,
            };
            Some((http, format!("{}{path}", base.trim_end_matches('/')), body))
        }
    }
}
