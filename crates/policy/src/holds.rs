//! What is held back by hand: everything, segments, and single tools. It holds for the very next action,
//! whatever grants and policies say, until it is released.

use std::collections::{BTreeMap, BTreeSet};

use model::{SegmentName, ServerName};

/// What is held back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Whether all agents are stopped.
    pub all: bool,
    /// The segments that are cut off: their agents may do nothing, and nobody reaches their servers.
    pub segments: BTreeSet<SegmentName>,
    /// The tools, endpoints, models, skills, resources and prompts that nobody may use, by server.
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

#[cfg(test)]
mod tests {
    use super::*;

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
