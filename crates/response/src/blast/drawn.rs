//! A blast radius as a graph: for Graphviz, for Mermaid, and as nodes and edges in JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Blast, Of};

/// Longest label, in characters.
const LABEL: usize = 60;
/// Most targets that are drawn for one server and agent; more are one node that says how many.
const DRAWN: usize = 12;

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For Graphviz.
    Dot,
    /// For Mermaid.
    Mermaid,
    /// Nodes and edges.
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: &'static str,
    label: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    from: usize,
    to: usize,
    touched: bool,
    label: String,
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    known: BTreeMap<(&'static str, String), usize>,
    edges: Vec<Edge>,
}

impl Graph {
    fn node(&mut self, kind: &'static str, key: &str, label: &str) -> usize {
        let nodes = &mut self.nodes;
        *self.known.entry((kind, key.to_owned())).or_insert_with(|| {
            nodes.push(Node {
                kind,
                label: short(label),
            });
            nodes.len() - 1
        })
    }

    fn edge(&mut self, from: usize, to: usize, touched: bool, label: &str) {
        let known = self
            .edges
            .iter_mut()
            .find(|edge| (edge.from, edge.to) == (from, to));
        match known {
            // What was touched is drawn as that, reachable or not.
            Some(edge) if edge.touched || !touched => {}
            Some(edge) => {
                edge.touched = true;
                edge.label = short(label);
            }
            None => self.edges.push(Edge {
                from,
                to,
                touched,
                label: short(label),
            }),
        }
    }
}

/// Text of others, which a drawing must not be able to act on.
fn short(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(LABEL).map(clean).collect();
    if text.chars().count() > LABEL {
        short.push('…');
    }
    short
}

impl Blast {
    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        let root = match &self.of {
            Of::Agent(agent) => graph.node("agent", agent.as_str(), agent.as_str()),
            Of::Task(task) => {
                let task = task.to_string();
                graph.node("task", &task, &task)
            }
        };
        let mut drawn: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut may_draw = |agent: &str, server: &str| {
            let count = drawn
                .entry((agent.to_owned(), server.to_owned()))
                .or_default();
            *count += 1;
            *count <= DRAWN
        };
        for touched in &self.touched {
            let agent = graph.node("agent", touched.agent.as_str(), touched.agent.as_str());
            if agent != root {
                graph.edge(root, agent, true, "acts through");
            }
            let name = touched.server.as_str();
            let server = graph.node("server", name, name);
            graph.edge(agent, server, true, "");
            if touched.target.is_empty() {
                continue;
            }
            let (target, label) = if may_draw(touched.agent.as_str(), name) {
                let key = format!("{name}/{}", touched.target);
                let label = match (touched.calls, touched.refused) {
                    (calls, 0) => format!("{calls}×"),
                    (calls, refused) => format!("{calls}×, {refused} refused"),
                };
                (graph.node("target", &key, &touched.target), label)
            } else {
                (graph.node("more", name, "and more"), String::new())
            };
            graph.edge(server, target, true, &label);
        }
        for reachable in &self.reachable {
            let agent = graph.node("agent", reachable.agent.as_str(), reachable.agent.as_str());
            let mut from = root;
            for through in &reachable.through {
                let next = graph.node("agent", through.as_str(), through.as_str());
                if next != from {
                    graph.edge(from, next, false, "can ask");
                }
                from = next;
            }
            if agent != from {
                graph.edge(from, agent, false, "");
            }
            let name = reachable.server.as_str();
            let server = graph.node("server", name, name);
            graph.edge(agent, server, false, &reachable.by);
            if reachable.permitted == Some(false) {
                continue;
            }
            let target = if may_draw(reachable.agent.as_str(), name) {
                let key = format!("{name}/{}", reachable.target);
                graph.node("target", &key, &reachable.target)
            } else {
                graph.node("more", name, "and more")
            };
            graph.edge(server, target, false, &reachable.what);
        }
        graph
    }

    /// Draws it.
    #[must_use]
    pub fn drawn(&self, form: Form) -> String {
        let graph = self.graph();
        match form {
            Form::Dot => dot(&graph),
            Form::Mermaid => mermaid(&graph),
            Form::Json => as_json(&graph).to_string(),
        }
    }

    /// The nodes and edges.
    #[must_use]
    pub fn nodes_and_edges(&self) -> Value {
        as_json(&self.graph())
    }
}

/// A text in quotes, for Graphviz.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn dot(graph: &Graph) -> String {
    let mut text =
        String::from("digraph blast_radius {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    for (number, node) in graph.nodes.iter().enumerate() {
        let shape = match node.kind {
            "agent" => "shape=oval, style=bold",
            "task" => "shape=note",
            "server" => "shape=box",
            _ => "shape=plaintext",
        };
        let _ = writeln!(
            text,
            "  n{number} [label={}, {shape}];",
            quoted(&node.label)
        );
    }
    for edge in &graph.edges {
        let style = if edge.touched { "solid" } else { "dashed" };
        let _ = writeln!(
            text,
            "  n{} -> n{} [style={style}, label={}];",
            edge.from,
            edge.to,
            quoted(&edge.label)
        );
    }
    text.push_str("}\n");
    text
}

/// A text in quotes, for Mermaid, in which nothing is markup.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 2);
    plain.push('"');
    for character in text.chars() {
        match character {
            'a'..='z'
            | 'A'..='Z'
            | '0'..='9'
            | ' '
            | '-'
            | '_'
            | '.'
            | ','
            | '/'
            | ':'
            | '×'
            | '…' => {
                plain.push(character);
            }
            other => {
                let _ = write!(plain, "#{};", u32::from(other));
            }
        }
    }
    plain.push('"');
    plain
}

fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for (number, node) in graph.nodes.iter().enumerate() {
        let label = plain(&node.label);
        let _ = match node.kind {
            "agent" => writeln!(text, "  n{number}([{label}])"),
            "task" => writeln!(text, "  n{number}>{label}]"),
            "server" => writeln!(text, "  n{number}[{label}]"),
            _ => writeln!(text, "  n{number}({label})"),
        };
    }
    for edge in &graph.edges {
        let line = if edge.touched { "-->" } else { "-.->" };
        let label = match edge.label.is_empty() {
            true => String::new(),
            false => format!("|{}|", plain(&edge.label)),
        };
        let _ = writeln!(text, "  n{} {line}{label} n{}", edge.from, edge.to);
    }
    text
}

fn as_json(graph: &Graph) -> Value {
    let nodes: Vec<Value> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(number, node)| json!({ "id": number, "kind": node.kind, "label": node.label }))
        .collect();
    let edges: Vec<Value> = graph
        .edges
        .iter()
        .map(|edge| {
            json!({
                "from": edge.from, "to": edge.to, "label": edge.label,
                "kind": if edge.touched { "touched" } else { "reachable" },
            })
        })
        .collect();
    json!({ "nodes": nodes, "edges": edges })
}
