//! A grant, ready for deciding.

use std::collections::{BTreeMap, HashMap};

use model::grant::{Permission, PermissionKind, ServerRequest, TablePermission};
use model::{Budget, Grant, Pattern, Proof, ServerName};

use crate::arguments::Arguments;
use crate::contexts::Contexts;

/// A grant with its permissions found by server, its constraints compiled.
#[derive(Debug)]
pub struct CompiledGrant {
    pub(crate) proof: Proof,
    /// The budget over all permissions.
    pub(crate) budget: Budget,
    permissions: Vec<CompiledPermission>,
    servers: BTreeMap<ServerName, AtServer>,
    pub(crate) contexts: Contexts,
}

/// The positions of what a grant says about one server.
#[derive(Debug, Default)]
pub(crate) struct AtServer {
    /// The permissions, in order.
    pub(crate) permissions: Vec<usize>,
    /// Call permissions with one name, by it: permission, and position in it, in order.
    exact: HashMap<Box<str>, Vec<(usize, usize)>>,
    /// Call permissions with a `*`, in order.
    prefixes: Vec<(usize, usize)>,
}

#[derive(Debug)]
pub(crate) struct CompiledPermission {
    pub(crate) kind: PermissionKind,
    pub(crate) calls: Vec<CompiledCall>,
    pub(crate) tables: Vec<TablePermission>,
    pub(crate) resources: Vec<Pattern>,
    pub(crate) prompts: Vec<Pattern>,
    pub(crate) server_requests: Vec<ServerRequest>,
    /// Whether a person must approve what it allows.
    pub(crate) asks: bool,
    /// Whether tunnels may be opened; only ever at an HTTP API.
    pub(crate) connect: bool,
}

#[derive(Debug)]
pub(crate) struct CompiledCall {
    pub(crate) name: Pattern,
    pub(crate) arguments: Arguments,
    pub(crate) max_calls: Option<u32>,
}

impl CompiledGrant {
    /// Compiles a grant. A constraint that cannot be used (an invalid regular expression, a folder
    /// that could be read in two ways) refuses everything.
    #[must_use]
    pub fn new(grant: &Grant) -> Self {
        let mut servers: BTreeMap<ServerName, AtServer> = BTreeMap::new();
        for (position, permission) in grant.permissions.iter().enumerate() {
            servers
                .entry(permission.server.clone())
                .or_default()
                .add(position, permission);
        }
        Self {
            proof: grant.proof,
            budget: grant.budget,
            permissions: grant
                .permissions
                .iter()
                .map(CompiledPermission::new)
                .collect(),
            servers,
            contexts: Contexts::default(),
        }
    }

    /// Whether the tool permission at these positions has a constraint on the whole of a top-level
    /// argument, so that its value was checked in full.
    #[must_use]
    pub fn constrains(&self, permission: usize, tool: usize, argument: &str) -> bool {
        let permission = self.permissions.get(permission);
        let tool = permission.and_then(|permission| permission.calls.get(tool));
        tool.is_some_and(|tool| tool.arguments.constrains(argument))
    }

    /// Whether any tool permission has a constraint on the whole of a top-level argument.
    #[must_use]
    pub fn constrains_anywhere(&self, argument: &str) -> bool {
        let mut tools = self
            .permissions
            .iter()
            .flat_map(|permission| &permission.calls);
        tools.any(|tool| tool.arguments.constrains(argument))
    }

    /// What is granted of the tables of a database, in the order of the grant: for the enforcement point
    /// that has the database hold sessions to it.
    pub fn tables(&self, server: &ServerName) -> impl Iterator<Item = &TablePermission> {
        let positions = self
            .at(server)
            .map_or(&[][..], |at| at.permissions.as_slice());
        positions
            .iter()
            .map(|position| &self.permissions[*position])
            .flat_map(|permission| &permission.tables)
    }

    /// The budget over all permissions.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What is granted at a server; `None` when nothing is.
    pub(crate) fn at(&self, server: &ServerName) -> Option<&AtServer> {
        self.servers.get(server)
    }

    pub(crate) fn permission(&self, position: usize) -> &CompiledPermission {
        &self.permissions[position]
    }

    pub(crate) fn call(&self, (permission, tool): (usize, usize)) -> &CompiledCall {
        &self.permissions[permission].calls[tool]
    }

    /// The call permissions of a kind at a server whose name covers what is called, in the order of the
    /// grant.
    pub(crate) fn calls<'a>(
        &'a self,
        at: &'a AtServer,
        kind: PermissionKind,
        name: &'a str,
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        let named = at.exact.get(name).map_or(&[][..], Vec::as_slice);
        let covers = |position: &&(usize, usize)| self.call(**position).name.matches(name);
        let of_kind = move |position: &(usize, usize)| self.permissions[position.0].kind == kind;
        let mut exact = named.iter().copied().filter(of_kind).peekable();
        let mut prefix = at
            .prefixes
            .iter()
            .filter(covers)
            .copied()
            .filter(of_kind)
            .peekable();
        std::iter::from_fn(move || match (exact.peek(), prefix.peek()) {
            (Some(a), Some(b)) if b < a => prefix.next(),
            (Some(_), _) => exact.next(),
            (None, _) => prefix.next(),
        })
    }
}

impl AtServer {
    fn add(&mut self, position: usize, permission: &Permission) {
        self.permissions.push(position);
        for (tool, written) in permission.calls().iter().enumerate() {
            let place = (position, tool);
            if written.name.is_prefix() {
                self.prefixes.push(place);
            } else {
                self.exact
                    .entry(written.name.stem().into())
                    .or_default()
                    .push(place);
            }
        }
    }
}

impl CompiledPermission {
    fn new(permission: &Permission) -> Self {
        let calls = permission.calls().iter().map(|call| CompiledCall {
            name: call.name.clone(),
            arguments: Arguments::new(call),
            max_calls: call.max_calls,
        });
        Self {
            kind: permission.kind,
            calls: calls.collect(),
            tables: permission.tables.clone(),
            resources: permission.resources.clone(),
            prompts: permission.prompts.clone(),
            server_requests: permission.server_requests.clone(),
            asks: permission.approval.is_some(),
            connect: permission.connect && permission.kind == PermissionKind::Http,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn permissions_are_found_by_server_and_in_order() {
        let grant = json!({
            "permissions": [
                {"type": "sallyport_mcp", "server": "b", "tools": [{"name": "x*"}, {"name": "xy"}]},
                {"type": "sallyport_mcp", "server": "a", "tools": [{"name": "xy"}]},
                {"type": "sallyport_mcp", "server": "b", "tools": [{"name": "*", "arguments": {"p": {}}}]},
            ],
            "budget": {"calls": 1}, "proof": "dpop",
        });
        let grant = CompiledGrant::new(&serde_json::from_value(grant).unwrap());
        let b = grant.at(&ServerName::parse("b").unwrap()).unwrap();
        assert_eq!(b.permissions, [0, 2]);
        assert_eq!(
            grant
                .calls(b, PermissionKind::Mcp, "xy")
                .collect::<Vec<_>>(),
            [(0, 0), (0, 1), (2, 0)]
        );
        assert_eq!(
            grant.calls(b, PermissionKind::Mcp, "z").collect::<Vec<_>>(),
            [(2, 0)]
        );
        assert!(grant.at(&ServerName::parse("c").unwrap()).is_none());
        assert!(grant.constrains(2, 0, "p") && !grant.constrains(0, 0, "p"));
        assert!(!grant.constrains(9, 9, "p") && grant.constrains_anywhere("p"));
    }

    proptest! {
        #[test]
        fn finding_tools_is_scanning_all(names in proptest::collection::vec("[ab]{1,2}\\*?", 0..8), tool in "[ab]{1,3}") {
            let tools: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
            let grant = json!({
                "permissions": [{"type": "sallyport_mcp", "server": "s", "tools": tools}],
                "budget": {"calls": 1}, "proof": "dpop",
            });
            let grant: Grant = serde_json::from_value(grant).unwrap();
            let compiled = CompiledGrant::new(&grant);
            let at = compiled.at(&ServerName::parse("s").unwrap()).unwrap();
            let found: Vec<_> = compiled.calls(at, PermissionKind::Mcp, &tool).collect();
            let scanned: Vec<_> = grant.permissions[0].tools.iter().enumerate()
                .filter(|(_, written)| written.name.matches(&tool)).map(|(at, _)| (0, at)).collect();
            prop_assert_eq!(found, scanned);
        }
    }
}
