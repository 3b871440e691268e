//! Agents and their instances: registering, enrolling, stopping and releasing.

use std::sync::Arc;
use std::time::Duration;

use gateway::live::Cut;
use identity::{PublicKey, secret};
use jiff::{SignedDuration, Timestamp};
use model::record::Record;
use model::{Agent, AgentName, Instance, InstanceId, Lifecycle, SegmentName, TaskStatus};
use policy::AgentFacts;
use store::StoreError;
use zeroize::Zeroizing;

use super::restriction::Restriction;
use super::{Actor, Engine, EngineError, Restricted, random, to_the_end};

/// How long an enrolment token lives when nobody says otherwise.
const ENROLMENT_LIFE: Duration = Duration::from_secs(15 * 60);
/// How long it may live at most.
const LONGEST_ENROLMENT: Duration = Duration::from_secs(24 * 60 * 60);

impl Engine {
    /// Registers an agent.
    ///
    /// # Errors
    /// [`EngineError`] when the sponsor is no e-mail address, the name is or was in use, a limit is
    /// reached, or the log or the store cannot be written.
    pub async fn register_agent(
        self: &Arc<Self>,
        actor: Actor,
        name: AgentName,
        sponsor: &str,
        segment: Option<SegmentName>,
    ) -> Result<Agent, EngineError> {
        if !is_email(sponsor) {
            return Err(EngineError::invalid(
                "`sponsor` must be the e-mail address of the human who answers for the agent",
            ));
        }
        let now = Timestamp::now();
        let agent = Agent {
            name,
            sponsor: sponsor.to_owned(),
            segment,
            lifecycle: Lifecycle::Registered,
            registered_at: now,
        };
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            if engine.store.agent(&agent.name).await?.is_some() {
                return Err(StoreError::AgentExists(agent.name).into());
            }
            let counts = engine.store.agent_counts().await?;
            let known: u64 = counts.iter().map(|(_, count)| count).sum();
            if known >= engine.settings.limits.agents as u64 {
                return Err(EngineError::TooMany(format!(
                    "there are {known} agents already"
                )));
            }
            let record = Record::change(
                now,
                actor.to_string(),
                "agent.registered",
                agent.name.as_str(),
            )
            .with("sponsor", agent.sponsor.as_str())
            .with("segment", agent.segment.as_ref().map(SegmentName::as_str));
            engine.record(record).await?;
            engine.store.insert_agent(&agent).await?;
            engine.publish_agent(&agent);
            Ok(agent)
        })
        .await
    }

    /// Makes an enrolment token for an agent; earlier ones that were not used are void then.
    /// Returns the token, which nothing keeps, and until when it can be used.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent, it is stopped, `life` is over a day, or the
    /// log or the store cannot be written.
    pub async fn make_enrolment(
        self: &Arc<Self>,
        actor: Actor,
        agent: AgentName,
        life: Option<Duration>,
    ) -> Result<(Zeroizing<String>, Timestamp), EngineError> {
        let life = life.unwrap_or(ENROLMENT_LIFE);
        if life.is_zero() || life > LONGEST_ENROLMENT {
            return Err(EngineError::invalid(
                "an enrolment token lives for at least a second and at most a day",
            ));
        }
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            let known = engine.known_agent(&agent).await?;
            may_enroll(&known)?;
            let now = Timestamp::now();
            let expires = now + SignedDuration::from_secs(life.as_secs() as i64);
            let token = secret::generate(secret::ENROLMENT);
            let record =
                Record::change(now, actor.to_string(), "enrolment.created", agent.as_str())
                    .with("expires_at", expires.to_string());
            engine.record(record).await?;
            let hash = secret::hash(&token);
            engine
                .store
                .create_enrolment(&hash, &agent, expires)
                .await?;
            Ok((token, expires))
        })
        .await
    }

    /// Enrols an instance with a one-time token and its public key. Of any number of callers with
    /// one token exactly one succeeds; a token is used up even when the agent turns out to be
    /// stopped.
    ///
    /// # Errors
    /// [`EngineError`] when the key or the token is not accepted, the agent is stopped or has too
    /// many instances, the key is in use, or the log or the store cannot be written.
    pub async fn enroll(self: &Arc<Self>, token: &str, jwk: &str) -> Result<Instance, EngineError> {
        let key = PublicKey::parse_jwk(jwk)
            .map_err(|error| EngineError::invalid(format!("`public_jwk`: {error}")))?;
        if !token.starts_with(secret::ENROLMENT) {
            return Err(EngineError::EnrolmentRefused);
        }
        let hash = secret::hash(token);
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            let now = Timestamp::now();
            let agent = engine.store.consume_enrolment(&hash, now).await?;
            let agent = agent.ok_or(EngineError::EnrolmentRefused)?;
            let mut agent = engine.known_agent(&agent).await?;
            may_enroll(&agent)?;
            let limit = engine.settings.limits.instances_per_agent;
            let thumbprint = key.thumbprint();
            let (enabled, in_use) = engine.store.enrolled(&agent.name, &thumbprint).await?;
            if in_use {
                return Err(StoreError::KeyInUse.into());
            }
            let full = || EngineError::TooMany(format!("the agent has {limit} enabled instances"));
            if enabled >= u64::from(limit) {
                return Err(full());
            }
            let instance = Instance {
                id: InstanceId::new(now, random()),
                agent: agent.name.clone(),
                public_jwk: key.to_jwk().to_string(),
                thumbprint,
                enrolled_at: now,
                disabled: false,
            };
            let record = Record::change(
                now,
                instance.id.to_string(),
                "instance.enrolled",
                instance.id.to_string(),
            )
            .with("agent", agent.name.as_str())
            .with("thumbprint", instance.thumbprint.as_str());
            engine.record(record).await?;
            if !engine.store.insert_instance(&instance, limit).await? {
                return Err(full());
            }
            if agent.lifecycle == Lifecycle::Registered {
                engine
                    .store
                    .set_lifecycle(&agent.name, Lifecycle::Active, None)
                    .await?;
                agent.lifecycle = Lifecycle::Active;
                engine.publish_agent(&agent);
            }
            Ok(instance)
        })
        .await
    }

    /// Stops an agent until it is released: nothing of it is forwarded any more when this returns,
    /// and what was streaming is cut. Its tasks stay open, and can be used again after a release.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent or it is retired.
    pub async fn quarantine_agent(
        self: &Arc<Self>,
        actor: Actor,
        agent: AgentName,
        because: Option<String>,
    ) -> Result<Restricted<Agent>, EngineError> {
        self.stop_agent(
            actor,
            agent,
            Lifecycle::Quarantined,
            "agent.quarantined",
            because,
        )
        .await
    }

    /// Ends an agent for good: what [`Self::quarantine_agent`] does, and its open tasks are
    /// revoked. Its name is not used again.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent.
    pub async fn retire_agent(
        self: &Arc<Self>,
        actor: Actor,
        agent: AgentName,
        because: Option<String>,
    ) -> Result<Restricted<Agent>, EngineError> {
        self.stop_agent(actor, agent, Lifecycle::Retired, "agent.retired", because)
            .await
    }

    async fn stop_agent(
        self: &Arc<Self>,
        actor: Actor,
        name: AgentName,
        next: Lifecycle,
        change: &'static str,
        because: Option<String>,
    ) -> Result<Restricted<Agent>, EngineError> {
        let because = super::tasks::words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let facts = engine.live().world().agent(&name).cloned();
            let facts = facts.ok_or_else(|| EngineError::not_found("agent", &name))?;
            if facts.lifecycle == Lifecycle::Retired && next != Lifecycle::Retired {
                return Err(EngineError::conflict(
                    format!("agent `{name}` is retired"),
                    "a retired agent has no access; register another one under a new name",
                ));
            }
            // First of all it holds, whatever else is going on; then the same again in its turn.
            engine.publish_lifecycle(&name, next).await;
            let _alone = engine.changes.write().await;
            engine.publish_lifecycle(&name, next).await;
            let now = Timestamp::now();
            let record = Record::change(now, actor.to_string(), change, name.as_str())
                .with("because", because.as_str());
            let restriction = Restriction::Lifecycle(name.clone(), next);
            let (mut warnings, _) = engine.write_restriction(restriction, &record).await;
            if next == Lifecycle::Retired {
                for task in engine.live().tasks() {
                    if task.task().agent == name {
                        let id = task.task().id;
                        let because = "the agent was retired";
                        let more = engine
                            .end_live(&actor, id, TaskStatus::Revoked, because)
                            .await;
                        warnings.extend(more);
                    }
                }
                engine.sweep();
            }
            Ok(Restricted {
                now: engine.agent_now(&name, facts).await,
                warnings,
            })
        })
        .await
    }

    /// Lets a quarantined agent go on.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent, it is not quarantined, or the log or the store
    /// cannot be written.
    pub async fn release_agent(
        self: &Arc<Self>,
        actor: Actor,
        name: AgentName,
        because: Option<String>,
    ) -> Result<Agent, EngineError> {
        let because = super::tasks::words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.may_give()?;
            let mut agent = engine.known_agent(&name).await?;
            if agent.lifecycle != Lifecycle::Quarantined {
                return Err(EngineError::conflict(
                    format!(
                        "agent `{name}` is {}, not quarantined",
                        agent.lifecycle.as_str()
                    ),
                    "only a quarantined agent can be released",
                ));
            }
            let (enabled, _) = engine.store.enrolled(&name, "").await?;
            agent.lifecycle = if enabled > 0 {
                Lifecycle::Active
            } else {
                Lifecycle::Registered
            };
            let record = Record::change(
                Timestamp::now(),
                actor.to_string(),
                "agent.released",
                name.as_str(),
            )
            .with("lifecycle", agent.lifecycle.as_str())
            .with("because", because);
            engine.record(record).await?;
            engine
                .store
                .set_lifecycle(&name, agent.lifecycle, None)
                .await?;
            engine.publish_agent(&agent);
            Ok(agent)
        })
        .await
    }

    /// Disables an instance for good: its tokens and proofs are refused when this returns, and what
    /// was streaming is cut.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such instance.
    pub async fn disable_instance(
        self: &Arc<Self>,
        actor: Actor,
        id: InstanceId,
        because: Option<String>,
    ) -> Result<Restricted<Instance>, EngineError> {
        let because = super::tasks::words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            // A store that cannot be read does not keep an instance from being disabled.
            let known = engine.store.instance(&id).await;
            if matches!(known, Ok(None)) {
                return Err(EngineError::not_found("instance", id));
            }
            engine.live().disable_instance(id).await;
            let _alone = engine.changes.write().await;
            let agent = known
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .map(|it| it.agent.as_str());
            let record = Record::change(
                Timestamp::now(),
                actor.to_string(),
                "instance.disabled",
                id.to_string(),
            )
            .with("agent", agent)
            .with("because", because);
            let (warnings, _) = engine
                .write_restriction(Restriction::Instance(id), &record)
                .await;
            match known {
                Ok(Some(known)) => Ok(Restricted {
                    now: Instance {
                        disabled: true,
                        ..known
                    },
                    warnings,
                }),
                Ok(None) | Err(_) => Err(EngineError::Held(warnings.join("; "))),
            }
        })
        .await
    }

    /// An agent as the store has it.
    pub(super) async fn known_agent(&self, name: &AgentName) -> Result<Agent, EngineError> {
        let agent = self.store.agent(name).await?;
        agent.ok_or_else(|| EngineError::not_found("agent", name))
    }

    /// What gives is refused while something that takes is not stored: otherwise what is stored
    /// later would undo what was given in between, or the other way round.
    pub(super) fn may_give(&self) -> Result<(), EngineError> {
        if self.owed.has_unstored() {
            return Err(EngineError::conflict(
                "restrictions that hold could not be stored yet",
                "make the store writable again (see /readyz), then repeat the request",
            ));
        }
        Ok(())
    }

    /// Makes an agent live as it is.
    pub(super) fn publish_agent(&self, agent: &Agent) {
        let facts = AgentFacts {
            lifecycle: agent.lifecycle,
            segment: agent.segment.clone(),
            sponsor: agent.sponsor.clone(),
        };
        self.live()
            .change_world(|world| world.with_agent(agent.name.clone(), facts.clone()));
    }

    /// Makes a restriction of an agent hold for the very next action, and cuts what is under way.
    async fn publish_lifecycle(&self, name: &AgentName, next: Lifecycle) {
        self.live().change_world(|world| match world.agent(name) {
            // Retired is final, also for a quarantine that arrives at the same time.
            Some(facts) if facts.lifecycle.may_become(next) => world.with_agent(
                name.clone(),
                AgentFacts {
                    lifecycle: next,
                    ..facts.clone()
                },
            ),
            _ => world.clone(),
        });
        self.live().cut(Cut::Agent(name)).await;
    }

    /// An agent as it is in effect: what the store has, with the lifecycle that is live.
    async fn agent_now(&self, name: &AgentName, facts: AgentFacts) -> Agent {
        let live = self
            .live()
            .world()
            .agent(name)
            .map_or(facts.lifecycle, |facts| facts.lifecycle);
        match self.store.agent(name).await {
            Ok(Some(agent)) => Agent {
                lifecycle: live,
                ..agent
            },
            _ => Agent {
                name: name.clone(),
                sponsor: facts.sponsor,
                segment: facts.segment,
                lifecycle: live,
                registered_at: Timestamp::UNIX_EPOCH,
            },
        }
    }
}

fn may_enroll(agent: &Agent) -> Result<(), EngineError> {
    match agent.lifecycle {
        Lifecycle::Registered | Lifecycle::Active => Ok(()),
        state => Err(EngineError::conflict(
            format!("agent `{}` is {}", agent.name, state.as_str()),
            "an operator can release a quarantined agent; a retired one is gone for good",
        )),
    }
}

/// Whether a text has the form of an e-mail address: what RFC 5321 §4.1.2 calls a dot-string, `@`,
/// and a domain of at least one label.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 254
        && local.len() <= 64
        && local.split('.').all(atom)
        && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sponsors_are_people_who_can_be_written_to() {
        for good in ["ada@example.org", "a.b+c@x", "O'Neil@mail.example"] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "", "ada", "@x", "ada@", "a b@x", "a@b@c", ".a@x", "a..b@x", "a@-x", "a@x.", "a@x\n",
            "ä@x", "<a@x>", &long,
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }
}
