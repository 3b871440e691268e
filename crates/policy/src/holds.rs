//! What is held back by hand: everything, segments, and single tools. It holds for the very next action,
//! whatever grants and policies say, until it is released.

use std::collections::{BTreeMap, BTreeSet};

use model::{Operation, SegmentName, ServerName};

/// What is held back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Whether all agents are stopped.
    pub all: bool,
    /// The segments that are cut off: their agents may do nothing, and nobody reaches their servers.
    pub segments: BTreeSet<SegmentName>,
    /// The tools, endpoints, models, skills, resources, prompts, tables and ends of tunnels that nobody may
    /// use, by server.
    pub tools: BTreeMap<ServerName, BTreeSet<String>>,
}

impl Holds {
    /// Whether an agent of this segment is stopped.
    #[must_use]
    pub fn stops(&self, segment: Option<&SegmentName>) -> bool {
        self.all || self.cuts_off(segment)
    }

    /// Whether a segment is cut off.
    #[must_use]
    pub fn cuts_off(&self, segment: Option<&SegmentName>) -> bool {
        segment.is_some_and(|segment| self.segments.contains(segment))
    }

    /// Whether a tool of a server may be used by nobody.
    #[must_use]
    pub fn holds_tool(&self, server: &ServerName, tool: &str) -> bool {
        // What is about the server itself has no name.
        !tool.is_empty()
            && self
                .tools
                .get(server)
                .is_some_and(|tools| tools.contains(tool))
    }

    /// What of an operation at a server nobody may use, if anything is: as the operation names it.
    ///
    /// Tables are held by `schema.name`, or by their name alone in every schema; tunnels by host and port, or by
    /// the host alone at every port; both without regard to case, since a hold that is written differently
    /// must not hold nothing.
    #[must_use]
    pub fn holds_back<'a>(&self, server: &ServerName, operation: &'a Operation) -> Option<&'a str> {
        let held = self.tools.get(server)?;
        let any = |is: &dyn Fn(&str) -> bool| held.iter().any(|name| is(name));
        match operation {
            Operation::Query { statement } => {
                let mut tables = statement
                    .accesses
                    .iter()
                    .map(|access| access.table.as_str());
                tables.find(|table| any(&|name| is_table(name, table)))
            }
            Operation::Connect { authority } => {
                any(&|name| is_authority(name, authority)).then_some(authority.as_str())
            }
            Operation::CallTool { tool: name, .. }
            | Operation::ReadResource { uri: name }
            | Operation::GetPrompt { name }
            | Operation::Request { endpoint: name, .. }
            | Operation::Generate { model: name, .. }
            | Operation::Message { skill: name, .. } => {
                // What is about the server itself has no name.
                (!name.is_empty() && held.contains(name)).then_some(name.as_str())
            }
            Operation::Converse | Operation::Answer { .. } => None,
        }
    }

    /// Holds a tool back, or lets it be used again.
    pub fn set_tool(&mut self, server: &ServerName, tool: &str, held: bool) {
        if held {
            let tools = self.tools.entry(server.clone()).or_default();
            tools.insert(tool.to_owned());
        } else if let Some(tools) = self.tools.get_mut(server) {
            tools.remove(tool);
            if tools.is_empty() {
                self.tools.remove(server);
            }
        }
    }

    /// Cuts a segment off, or lets it go on.
    pub fn set_segment(&mut self, segment: &SegmentName, held: bool) {
        if held {
            self.segments.insert(segment.clone());
        } else {
            self.segments.remove(segment);
        }
    }
}

/// Whether a held name is that of a table (`schema.name`). A name without a schema is that of a table in any.
fn is_table(held: &str, table: &str) -> bool {
    held.eq_ignore_ascii_case(table)
        || table
            .split_once('.')
            .is_some_and(|(_, name)| held.eq_ignore_ascii_case(name))
}

/// Whether a held name is that of the end of a tunnel (`host:port`). A host without a port is held at every
/// port.
fn is_authority(held: &str, authority: &str) -> bool {
    let plain = |host: &str| {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        host.to_ascii_lowercase()
    };
    held.eq_ignore_ascii_case(authority)
        || authority.rsplit_once(':').is_some_and(|(host, port)| {
            let of_held = match held.rsplit_once(':') {
                // A name, or an IPv6 address with its brackets or without them.
                None => held,
                Some((host, _))
                    if held.ends_with(']') || host.contains(':') && !held.starts_with('[') =>
                {
                    held
                }
                Some((host, held_port)) if held_port == port => host,
                Some(_) => return false,
            };
            plain(of_held) == plain(host)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_held_by_its_name_and_a_tunnel_by_its_host() {
        for (held, is) in [
            ("public.orders", true),
            ("PUBLIC.Orders", true),
            ("orders", true),
            ("crm.orders", false),
            ("order", false),
            ("public", false),
            ("public.", false),
            ("", false),
        ] {
            assert_eq!(is_table(held, "public.orders"), is, "{held}");
        }
        for (held, is) in [
            ("api.example.org:443", true),
            ("API.example.org", true),
            ("api.example.org.", true),
            ("api.example.org.:443", true),
            ("api.example.org:444", false),
            ("example.org", false),
            ("xapi.example.org", false),
            ("443", false),
            (":443", false),
            ("", false),
        ] {
            assert_eq!(is_authority(held, "api.example.org:443"), is, "{held}");
        }
        assert!(is_authority("[2001:db8::1]", "[2001:db8::1]:443"));
        assert!(is_authority("[2001:db8::1]:443", "[2001:db8::1]:443"));
        assert!(is_authority("2001:DB8::1", "[2001:db8::1]:443"));
        assert!(!is_authority("[2001:db8::1]:80", "[2001:db8::1]:443"));
    }

    #[test]
    fn a_statement_is_held_back_by_each_of_its_tables() {
        let server = ServerName::parse("crm").unwrap();
        let access = |table: &str| model::TableAccess {
            table: table.to_owned(),
            operation: model::TableOperation::Select,
            columns: None,
        };
        let operation = Operation::Query {
            statement: model::Statement {
                text: String::new(),
                shape: String::new(),
                accesses: vec![access("public.customers"), access("public.orders")],
                steering: model::Steering::Unknown,
            },
        };
        let mut holds = Holds::default();
        assert_eq!(holds.holds_back(&server, &operation), None);
        holds.set_tool(&server, "orders", true);
        assert_eq!(holds.holds_back(&server, &operation), Some("public.orders"));
        let other = ServerName::parse("erp").unwrap();
        assert_eq!(holds.holds_back(&other, &operation), None);
        assert_eq!(holds.holds_back(&server, &Operation::Converse), None);
    }

    #[test]
    fn what_is_held_is_released_by_the_same_name_and_no_other() {
        let (a, b) = (
            SegmentName::parse("a").unwrap(),
            SegmentName::parse("b").unwrap(),
        );
        let (files, git) = (
            ServerName::parse("files").unwrap(),
            ServerName::parse("git").unwrap(),
        );
        let mut holds = Holds::default();
        assert!(!holds.stops(Some(&a)) && !holds.stops(None));
        holds.set_segment(&a, true);
        assert!(holds.stops(Some(&a)) && !holds.stops(Some(&b)) && !holds.stops(None));
        holds.set_tool(&files, "write", true);
        assert!(holds.holds_tool(&files, "write"));
        assert!(!holds.holds_tool(&files, "writ") && !holds.holds_tool(&git, "write"));
        holds.set_tool(&git, "write", false);
        holds.set_tool(&files, "write", false);
        holds.set_segment(&b, false);
        holds.set_segment(&a, false);
        assert_eq!(holds, Holds::default());
        holds.all = true;
        assert!(holds.stops(None) && holds.stops(Some(&b)) && !holds.cuts_off(Some(&b)));
    }
}
