//! The policies that can matter to a request, found by their scope.
//!
//! Cedar's authorizer visits every policy of a set. Nearly all policies name in their scope who or
//! what they are about, and one that names something else cannot apply: it is neither satisfied nor
//! evaluated further. So only those are handed to the authorizer whose scope names the request's
//! principal, resource or something that these belong to, or names nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};

use crate::entities::{Verb, principal_type, resource_type};

/// Most references to policies that assembled sets hold in all; beyond it they are made anew.
const ASSEMBLED: usize = 1 << 18;

/// Policies by scope.
pub(crate) struct Index {
    policies: Vec<Policy>,
    by_principal: Scoped<Scoped<Vec<Entry>>>,
    /// Sets that were assembled before, by the positions of their policies.
    assembled: papaya::HashMap<Box<[u32]>, Arc<PolicySet>>,
    references: AtomicUsize,
}

/// Values for a scope that names an entity, and for one that names none.
#[derive(Default)]
struct Scoped<T> {
    any: T,
    named: HashMap<EntityUid, T>,
}

impl<T: Default> Scoped<T> {
    fn entry(&mut self, named: Option<EntityUid>) -> &mut T {
        match named {
            Some(named) => self.named.entry(named).or_default(),
            None => &mut self.any,
        }
    }

    fn reached<'a>(&'a self, scope: &'a [EntityUid]) -> impl Iterator<Item = &'a T> {
        let named = scope.iter().filter_map(|uid| self.named.get(uid));
        std::iter::once(&self.any).chain(named)
    }
}

/// A policy, and the actions that its scope lets it apply to, as a bit each.
struct Entry {
    policy: u32,
    verbs: u16,
}

impl Index {
    /// Indexes policies. They are static, since what is compiled links no templates, and their ids
    /// differ.
    pub(crate) fn new(policies: impl IntoIterator<Item = Policy>) -> Self {
        let policies: Vec<Policy> = policies.into_iter().collect();
        let mut by_principal: Scoped<Scoped<Vec<Entry>>> = Scoped::default();
        for (position, policy) in policies.iter().enumerate() {
            let (principal, principal_is) = match policy.principal_constraint() {
                PrincipalConstraint::Any => (None, None),
                PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) => (Some(uid), None),
                PrincipalConstraint::Is(kind) => (None, Some(kind)),
                PrincipalConstraint::IsIn(kind, uid) => (Some(uid), Some(kind)),
            };
            let (resource, resource_is) = match policy.resource_constraint() {
                ResourceConstraint::Any => (None, None),
                ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) => (Some(uid), None),
                ResourceConstraint::Is(kind) => (None, Some(kind)),
                ResourceConstraint::IsIn(kind, uid) => (Some(uid), Some(kind)),
            };
            let verbs = verbs(&policy.action_constraint(), resource_is.as_ref());
            if verbs == 0 || principal_is.is_some_and(|kind| kind != *principal_type()) {
                continue;
            }
            let policy = u32::try_from(position).expect("policies come from files of bounded size");
            by_principal
                .entry(principal)
                .entry(resource)
                .push(Entry { policy, verbs });
        }
        Self {
            policies,
            by_principal,
            assembled: papaya::HashMap::new(),
            references: AtomicUsize::new(0),
        }
    }

    /// How many policies there are.
    pub(crate) fn len(&self) -> usize {
        self.policies.len()
    }

    /// The ids of all policies.
    #[cfg(test)]
    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        self.policies.iter().map(|policy| policy.id().to_string())
    }

    /// The set of all policies that can matter to a request. `principal` and `resource` are the
    /// request's, each with all that it is `in`.
    pub(crate) fn candidates(
        &self,
        principal: &[EntityUid],
        resource: &[EntityUid],
        verb: Verb,
    ) -> Arc<PolicySet> {
        let bit = 1_u16 << verb as u16;
        let mut found: Vec<u32> = self
            .by_principal
            .reached(principal)
            .flat_map(|by_resource| by_resource.reached(resource))
            .flatten()
            .filter(|entry| entry.verbs & bit != 0)
            .map(|entry| entry.policy)
            .collect();
        found.sort_unstable();
        self.assemble(found)
    }

    fn assemble(&self, found: Vec<u32>) -> Arc<PolicySet> {
        let assembled = self.assembled.pin();
        if let Some(set) = assembled.get(found.as_slice()) {
            return Arc::clone(set);
        }
        let policies = found.iter().map(|at| self.policies[*at as usize].clone());
        let set = PolicySet::from_policies(policies).expect("static policies whose ids differ");
        let set = Arc::new(set);
        let size = found.len() + 1;
        if self.references.fetch_add(size, Ordering::Relaxed) + size > ASSEMBLED {
            assembled.clear();
            self.references.store(size, Ordering::Relaxed);
        }
        assembled.insert(found.into_boxed_slice(), Arc::clone(&set));
        set
    }
}

fn verbs(action: &ActionConstraint, resource_is: Option<&EntityTypeName>) -> u16 {
    let named = |verb: Verb| match action {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid == verb.uid(),
        ActionConstraint::In(uids) => uids.contains(verb.uid()),
    };
    Verb::ALL
        .into_iter()
        .filter(|verb| named(*verb))
        .filter(|verb| resource_is.is_none_or(|kind| kind == resource_type(*verb)))
        .fold(0, |bits, verb| bits | 1_u16 << verb as u16)
}
