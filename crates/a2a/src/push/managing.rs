//! The requests about webhooks. Reading and listing are answered from what is kept here: the other agent
//! knows none of it.

use gateway::pipeline::Permit;
use http::{Response, StatusCode};
use model::Operation;
use model::record::Ended;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use gateway::Body;

use super::hook::{self, Asked, Hook};
use super::{Full, Registering, Registration, hash};
use crate::card::Card;
use crate::method::{Dialect, Method};
use crate::owned::{Begun, Kind};
use crate::refusal::{Fault, Refusal, json_response};
use crate::request::{Binding, Call};
use crate::site::Site;
use crate::visit::{Visit, no_push};
use crate::watch::Watch;

impl Visit {
    /// Answers a request that reads webhooks.
    pub(crate) async fn read_pushes(&self, mut call: Call) -> Result<Response<Body>, Refusal> {
        let site = self.site().await?;
        if !site.pushes() {
            return Err(no_push());
        }
        let Asked { task, id, .. } = hook::asked(call.method, call.dialect, &mut call.params)?;
        self.find(Kind::Task, &task)?;
        let name = call.method.name(call.dialect);
        let mut permit = self.attempt(name, Operation::Converse).await?;
        // Nothing leaves for the upstream, but whoever ended the task is heard all the same.
        let dispatch = permit
            .dispatch()
            .map_err(|denied| Refusal::denied(&denied))?;
        drop(dispatch);
        let pushes = &self.shared.pushes;
        let kept = pushes.of_task(self.caller.principal(), &self.route.server, &task);
        let shown = |it: &Registration| it.hook.shown(call.dialect, &task);
        let result = match (call.method, id) {
            (Method::ListPush, _) => {
                let all: Vec<Value> = kept.iter().map(shown).collect();
                match call.dialect {
                    Dialect::V1 => json!({ "configs": all, "nextPageToken": "" }),
                    Dialect::V03 => all.into(),
                }
            }
            (_, Some(id)) => kept
                .iter()
                .find(|it| it.hook.id == id)
                .map(shown)
                .ok_or_else(no_such)?,
            // 0.3 lets the name be left out where there is only one.
            (_, None) => kept.first().map(shown).ok_or_else(no_such)?,
        };
        let answer = match &call.binding {
            Binding::JsonRpc(id) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Binding::Rest => result,
        };
        let text = answer.to_string().into_bytes();
        let mut digest = permit.digest();
        digest.update(&text);
        permit.finish(Ended::Answered, digest);
        Ok(json_response(StatusCode::OK, text))
    }

    /// Prepares a request that registers or removes a webhook: what the other agent is asked for, and
    /// what the caller is answered when that has worked.
    pub(crate) async fn change_push(
        &self,
        site: &Site,
        card: &Card,
        call: &mut Call,
        watch: &mut Watch,
    ) -> Result<Permit, Refusal> {
        if !site.pushes() || !card.pushes {
            return Err(no_push());
        }
        let Asked { task, id, hook } = hook::asked(call.method, call.dialect, &mut call.params)?;
        let begun = self.find(Kind::Task, &task)?;
        let name = call.method.name(call.dialect);
        let Some(hook) = hook else {
            let pushes = &self.shared.pushes;
            let kept = pushes.of_task(self.caller.principal(), &self.route.server, &task);
            let known = kept
                .into_iter()
                .find(|it| Some(&it.hook.id) == id.as_ref())
                .ok_or_else(no_such)?;
            let permit = self.attempt(name, Operation::Converse).await?;
            // From now on nothing is delivered to it, whatever the other agent says.
            pushes.remove(&known.address);
            call.params = removal(call.dialect, &task, &known.given_id());
            watch.own = Some(match call.dialect {
                Dialect::V1 => json!({}),
                Dialect::V03 => Value::Null,
            });
            return Ok(permit);
        };
        let (registering, given, hook) =
            self.register(site, call.dialect, hook, Some(&task), begun)?;
        let permit = self.attempt(name, Operation::Converse).await?;
        watch.own = Some(hook.shown(call.dialect, &task));
        watch.registering = Some(registering);
        call.params = match given {
            Value::Object(params) => params,
            _ => Map::new(),
        };
        Ok(permit)
    }

    /// Registers a webhook here; returns it as it is registered, and what the other agent is given in its
    /// place.
    pub(crate) fn register(
        &self,
        site: &Site,
        dialect: Dialect,
        mut hook: Hook,
        task: Option<&str>,
        begun: Begun,
    ) -> Result<(Registering, Value, Hook), Refusal> {
        let world = self.shared.pipeline.live().world();
        let segment = world
            .agent(&self.caller.agent)
            .and_then(|facts| facts.segment.clone());
        site.allows(&hook.url, segment.as_ref())
            .map_err(|denial| Refusal::by_rule(&denial))?;
        let (address, token) = (secret()?, secret()?);
        if hook.id.is_empty() {
            // A name that says nothing, for an agent that does not choose one.
            hook.id = gateway::hex(&hash(&address)[12..20]);
        }
        let registration = Registration {
            address: hash(&address),
            token: hash(&token),
            principal: self.caller.principal(),
            proof: self.caller.proof,
            server: self.route.server.clone(),
            task: task.map(str::to_owned),
            begun,
            hook: hook.clone(),
        };
        let base = site.about.push_url.as_deref().unwrap_or(&self.base_url);
        let url = Zeroizing::new(format!(
            "{base}/a2a/{}{}{}",
            self.route.server,
            super::BEHIND,
            address.as_str()
        ));
        let given = hook::given(dialect, &registration.given_id(), task, &url, &token);
        let registering = self
            .shared
            .pushes
            .register(registration)
            .map_err(|Full(why)| Refusal::new(Fault::TooMany, why))?;
        Ok((registering, given, hook))
    }
}

/// 32 random bytes that can stand in a URL and in a header.
fn secret() -> Result<Zeroizing<String>, Refusal> {
    use base64::Engine as _;
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut bytes[..])
        .map_err(|_| Refusal::new(Fault::TooMany, "there is no randomness: try again"))?;
    let encoder = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    Ok(Zeroizing::new(encoder.encode(&bytes[..])))
}

fn no_such() -> Refusal {
    Refusal::new(Fault::TaskNotFound, "there is no such webhook")
}

/// The parameters that remove a webhook at the other agent.
fn removal(dialect: Dialect, task: &str, id: &str) -> Map<String, Value> {
    let pairs = match dialect {
        Dialect::V1 => [("taskId", task), ("id", id)],
        Dialect::V03 => [("id", task), ("pushNotificationConfigId", id)],
    };
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}
