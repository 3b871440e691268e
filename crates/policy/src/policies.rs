//! The organisation's policies: compiled, checked against the schema, and asked.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Entities, EntityUid, Policy, PolicyId, PolicySet,
    Request,
};
use model::{Mistake, ServerName};

use crate::candidates::Index;
use crate::contexts::Circumstances;
use crate::entities::{Known, Touched, Verb, store};

mod compiling;

const SCHEMA: &str = include_str!("sallyport.cedarschema");

/// The annotation of a policy that wants a person's approval.
const APPROVAL: &str = "approval";

/// Most requests that are kept prepared; beyond it they are prepared anew.
const PREPARED: usize = 1 << 14;
/// Longest target that is kept prepared, in bytes.
const PREPARED_TARGET: usize = 512;

/// Compiled policies.
///
/// A policy is known by its file's name without ending and its `@id("…")`, or else its position
/// in the file from 1 on: `baseline/no-finance`, `baseline/2`.
pub struct Policies {
    index: Index,
    version: String,
    /// The ids of those with `@approval("always")`.
    asking: HashSet<PolicyId>,
    prepared: papaya::HashMap<Key, Arc<Prepared>>,
    authorizer: Authorizer,
}

/// Everything of a request that does not change from call to call.
pub(crate) struct Prepared {
    /// Keep the addresses in the key from being used for others.
    _known: (Arc<Known>, Arc<Known>),
    resource: EntityUid,
    entities: Entities,
    candidates: Arc<PolicySet>,
}

/// Agents and servers are told apart by where they are kept: a change of what Cedar sees of one
/// makes a new one.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    agent: usize,
    server: usize,
    verb: Verb,
    target: Box<str>,
}

#[derive(Hash)]
struct Lookup<'a> {
    agent: usize,
    server: usize,
    verb: Verb,
    target: &'a str,
}

impl papaya::Equivalent<Key> for Lookup<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.agent == key.agent
            && self.server == key.server
            && self.verb == key.verb
            && *self.target == *key.target
    }
}

/// What the policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) answer: Answer,
    /// The ids of the policies that determined it, sorted.
    pub(crate) policies: Vec<String>,
}

/// The ways that policies answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Some policy permits it and none forbids it.
    Permitted,
    /// It is permitted if a person approves it: every policy that permits it says so, or every one that
    /// forbids it forbids it only without.
    Asks,
    /// Some policy forbids it.
    Forbidden,
    /// No policy permits it.
    NotPermitted,
    /// Some policy whose scope covers the request could not be evaluated.
    Failed,
}

impl Policies {
    /// Compiles policy files: their paths and texts. No file at all is a valid set that permits
    /// nothing.
    ///
    /// # Errors
    /// Every mistake in them, with its place: what does not parse, does not fit the schema (strict
    /// validation), can never apply, or has an id twice.
    pub fn compile(sources: &[(PathBuf, String)]) -> Result<Self, Vec<Mistake>> {
        let policies = compiling::compile(sources)?;
        Ok(Self::of(policies, compiling::version(sources)))
    }

    fn of(policies: impl IntoIterator<Item = Policy>, version: String) -> Self {
        let policies: Vec<Policy> = policies.into_iter().collect();
        let asking = policies
            .iter()
            .filter(|policy| policy.annotation(APPROVAL).is_some())
            .map(|policy| policy.id().clone())
            .collect();
        Self {
            index: Index::new(policies),
            asking,
            version,
            prepared: papaya::HashMap::new(),
            authorizer: Authorizer::new(),
        }
    }

    /// Names the policies and the schema: 32 hexadecimal digits of a SHA-256 hash over both.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no policy, so that nothing is permitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The schema that policies are checked against, in Cedar's schema syntax.
    #[must_use]
    pub fn schema() -> &'static str {
        SCHEMA
    }

    /// Asks the policies, or knows what they said. `target` is the tool, URI or prompt at the server.
    pub(crate) fn ask(
        &self,
        agent: &Arc<Known>,
        (name, server): (&ServerName, &Arc<Known>),
        verb: Verb,
        target: &str,
        circumstances: &Circumstances,
    ) -> Verdict {
        let prepared = self.prepare(agent, (name, server), verb, target);
        circumstances.verdict(prepared, |prepared, context| {
            self.judge(agent, verb, prepared, context)
        })
    }

    fn judge(&self, agent: &Known, verb: Verb, prepared: &Prepared, context: Context) -> Verdict {
        let request = Request::new(
            agent.uid().clone(),
            verb.uid().clone(),
            prepared.resource.clone(),
            context,
            None,
        );
        let Ok(request) = request else {
            // Only a schema can refuse a request, and none is passed.
            return Verdict {
                answer: Answer::Failed,
                policies: Vec::new(),
            };
        };
        judge(
            &self.authorizer,
            &request,
            &prepared.candidates,
            &prepared.entities,
            &self.asking,
        )
    }

    fn prepare(
        &self,
        agent: &Arc<Known>,
        (name, server): (&ServerName, &Arc<Known>),
        verb: Verb,
        target: &str,
    ) -> Arc<Prepared> {
        let lookup = Lookup {
            agent: Arc::as_ptr(agent).addr(),
            server: Arc::as_ptr(server).addr(),
            verb,
            target,
        };
        let map = self.prepared.pin();
        if let Some(prepared) = map.get(&lookup) {
            return Arc::clone(prepared);
        }
        let touched = Touched::new(name, server, verb, target);
        let prepared = Arc::new(Prepared {
            candidates: self.index.candidates(agent.scope(), &touched.scope, verb),
            entities: store(agent, server, &touched),
            resource: touched.uid,
            _known: (Arc::clone(agent), Arc::clone(server)),
        });
        if target.len() <= PREPARED_TARGET {
            if map.len() >= PREPARED {
                map.clear();
            }
            let Lookup {
                agent,
                server,
                verb,
                target,
            } = lookup;
            let key = Key {
                agent,
                server,
                verb,
                target: target.into(),
            };
            map.insert(key, Arc::clone(&prepared));
        }
        prepared
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies")
            .field("len", &self.len())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Asks the authorizer, failing closed: Cedar skips a policy that cannot be evaluated, which would
/// let a broken `forbid` permit.
fn judge(
    authorizer: &Authorizer,
    request: &Request,
    policies: &PolicySet,
    entities: &Entities,
    asking: &HashSet<PolicyId>,
) -> Verdict {
    let response = authorizer.is_authorized(request, policies, entities);
    let diagnostics = response.diagnostics();
    let mut failed = diagnostics.errors().map(failed_policy).peekable();
    if failed.peek().is_some() {
        let mut policies: Vec<String> = failed.collect();
        policies.sort_unstable();
        return Verdict {
            answer: Answer::Failed,
            policies,
        };
    }
    // Those that ask are few, mostly none: then nothing more than before is looked at.
    let asks = !asking.is_empty()
        && diagnostics.reason().next().is_some()
        && diagnostics.reason().all(|id| asking.contains(id));
    let mut reasons: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
    reasons.sort_unstable();
    let answer = match response.decision() {
        cedar_policy::Decision::Allow if asks => Answer::Asks,
        cedar_policy::Decision::Allow => Answer::Permitted,
        cedar_policy::Decision::Deny if reasons.is_empty() => Answer::NotPermitted,
        cedar_policy::Decision::Deny if asks => {
            return with_approval(authorizer, request, policies, entities, asking, reasons);
        }
        cedar_policy::Decision::Deny => Answer::Forbidden,
    };
    Verdict {
        answer,
        policies: reasons,
    }
}

/// What the policies say when only those forbid that a person can lift: without these, it must be
/// permitted.
fn with_approval(
    authorizer: &Authorizer,
    request: &Request,
    policies: &PolicySet,
    entities: &Entities,
    asking: &HashSet<PolicyId>,
    mut forbidding: Vec<String>,
) -> Verdict {
    let others = policies.policies().filter(|policy| {
        policy.effect() == cedar_policy::Effect::Permit || !asking.contains(policy.id())
    });
    // A part of a set whose ids differ.
    let verdict = match PolicySet::from_policies(others.cloned()) {
        Ok(others) => judge(authorizer, request, &others, entities, asking),
        Err(_) => Verdict {
            answer: Answer::Failed,
            policies: Vec::new(),
        },
    };
    match verdict.answer {
        Answer::Permitted | Answer::Asks => {
            forbidding.extend(verdict.policies);
            forbidding.sort_unstable();
            forbidding.dedup();
            Verdict {
                answer: Answer::Asks,
                policies: forbidding,
            }
        }
        _ => verdict,
    }
}

fn failed_policy(error: &AuthorizationError) -> String {
    match error {
        AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
    }
}

#[cfg(test)]
mod tests;
