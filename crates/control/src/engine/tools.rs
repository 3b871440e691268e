//! Tools of MCP servers: what is approved of them, by a first contact or by a person, and what waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gateway::front::BoxFuture;
use gateway::inspection::{Listed, Observed, PinBook, What};
use jiff::Timestamp;
use model::ServerName;
use model::config::{Server, ServerKind};
use model::inspection::{FirstContact, Response, Severity};
use model::record::Record;
use monitor::tools::{Definition, Hash, Inspector, Known};
use monitor::{Asi, Atlas, Finding, Subject};
use parking_lot::Mutex;
use policy::{Quarantined, ServerTools, ToolStanding};
use store::{ApprovedTool, ListedTool, StoredTool};

use super::{Engine, EngineError, to_the_end};

/// Most tools of one server that are known, approved or not.
const TOOLS: usize = 1_024;
/// Most that is kept of one server's unapproved definitions, in bytes.
const LISTED_BYTES: u64 = 8 << 20;
/// Most definitions of one listing that are read for what hides in them.
const INSPECTED: usize = 256;
/// How long a first contact lasts at most: a listing may have many pages.
const FIRST_CONTACT: Duration = Duration::from_secs(60);
/// How often a server may change its tools, in this time, before its changes are not looked at any more
/// until the time is over; they are not shown either.
const CHANGES: (u32, Duration) = (30, Duration::from_secs(60));
/// Most names in one record.
const RECORDED: usize = 200;
/// Who approves at a first contact.
const FIRST: &str = "first contact";

/// What is remembered of servers while the process runs.
#[derive(Default)]
pub(super) struct Contacts(Mutex<HashMap<ServerName, Contact>>);

struct Contact {
    /// When the first listing was seen.
    began: Instant,
    /// Since when changes are counted, and how many there were.
    counted: (Instant, u32),
}

impl Contacts {
    /// Counts a change; `None` when there were too many. Else, when the first listing was seen.
    fn count(&self, server: &ServerName) -> Option<Instant> {
        let now = Instant::now();
        let mut contacts = self.0.lock();
        let contact = contacts.entry(server.clone()).or_insert(Contact {
            began: now,
            counted: (now, 0),
        });
        if contact.counted.0.elapsed() > CHANGES.1 {
            contact.counted = (now, 0);
        }
        contact.counted.1 += 1;
        (contact.counted.1 <= CHANGES.0).then_some(contact.began)
    }
}

/// The engine as the one who keeps what was approved.
pub(super) struct Book(pub(super) Weak<Engine>);

impl PinBook for Book {
    fn listed(&self, listed: Listed) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(engine) = self.0.upgrade() else {
                return;
            };
            let server = listed.server.clone();
            // To its end, even when the agent that caused it goes away.
            let taken = to_the_end(async move { engine.take_listing(listed).await });
            if let Err(error) = taken.await {
                tracing::error!(%server, %error, "what a server listed was not kept, and is not shown");
            }
        })
    }
}

/// A definition that changes something, with what was seen in it.
struct Read {
    definition: Definition,
    hash: [u8; 32],
    findings: Vec<Finding>,
}

impl Read {
    fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// What a listing changes.
#[derive(Default)]
struct Changes {
    approved: Vec<(String, Hash)>,
    quarantined: Vec<(String, Hash)>,
    restored: Vec<(String, Hash)>,
    rows: Vec<StoredTool>,
    /// How many found no room.
    left_out: usize,
}

impl Engine {
    /// Takes in what a server listed: see [`PinBook::listed`].
    async fn take_listing(self: &Arc<Self>, listed: Listed) -> Result<(), EngineError> {
        let Listed {
            server,
            definitions,
            complete,
        } = listed;
        let Some(began) = self.contacts.count(&server) else {
            tracing::warn!(%server, "the server changes its tools too often: its changes are not shown");
            return Ok(());
        };
        let read = self.read_definitions(&server, definitions).await?;
        let _alone = self.changes.write().await;
        let Some(known) = self.live().world().tools(&server).map(Arc::clone) else {
            return Ok(());
        };
        let now = Timestamp::now();
        let first = !known.met && began.elapsed() <= FIRST_CONTACT;
        let trusts = first && known.first_contact == FirstContact::TrustFirst;
        let mut next = ServerTools::clone(&known);
        next.met |= complete || !first;
        let changes = self.compare(&server, read, &mut next, trusts, now).await?;
        // What takes something away holds before it is written, and whatever breaks.
        let mut taken = ServerTools::clone(&known);
        for (name, _) in &changes.quarantined {
            if let Some(standing) = next.tools.get(name) {
                let approved = known.tools.get(name).and_then(|known| known.approved);
                let standing = ToolStanding {
                    approved,
                    ..*standing
                };
                taken.tools.insert(name.clone(), standing);
            }
        }
        self.publish_tools(&server, taken);
        for (change, names) in [
            ("tools.approved", &changes.approved),
            ("tools.quarantined", &changes.quarantined),
            ("tools.restored", &changes.restored),
        ] {
            if !names.is_empty() {
                self.record(record(FIRST, change, &server, now, names))
                    .await?;
            }
        }
        let met = (next.met && !known.met).then_some((&server, now));
        self.store.keep_tools(&changes.rows, met).await?;
        self.publish_tools(&server, next);
        if changes.left_out > 0 {
            tracing::warn!(%server, count = changes.left_out, "tools found no room, and are not shown");
        }
        Ok(())
    }

    /// Reads definitions for what hides in them, and reports it.
    async fn read_definitions(
        &self,
        server: &ServerName,
        definitions: Vec<Definition>,
    ) -> Result<Vec<Read>, EngineError> {
        let world = Arc::clone(&self.live().world());
        let rules = Arc::clone(&self.pipeline.inspection().rules());
        let of = server.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut names = Known::default();
            for (server, _) in world.servers() {
                let tools = world.tools(server).map(|tools| &tools.tools);
                let approved = tools.into_iter().flatten();
                for (tool, _) in approved.filter(|(_, standing)| standing.approved.is_some()) {
                    names.add(server, tool);
                }
            }
            for definition in &definitions {
                names.add(&of, definition.name());
            }
            let inspector = Inspector::new(rules.scanner(), &names);
            let each = definitions.into_iter().enumerate();
            each.map(|(count, definition)| Read {
                hash: definition.hash().into(),
                findings: if count < INSPECTED {
                    inspector.inspect(&of, &definition)
                } else {
                    vec![not_inspected(&of, &definition)]
                },
                definition,
            })
            .collect::<Vec<_>>()
        });
        read.await.map_err(|_| EngineError::Ending)
    }

    /// What definitions change of what is known of a server's tools.
    async fn compare(
        &self,
        server: &ServerName,
        read: Vec<Read>,
        next: &mut ServerTools,
        trusts: bool,
        now: Timestamp,
    ) -> Result<Changes, EngineError> {
        let mut changes = Changes::default();
        let mut room = LISTED_BYTES.saturating_sub(self.store.listed_bytes(server).await?);
        for one in read {
            let name = one.definition.name().to_owned();
            let length = one.definition.canonical().len() as u64;
            let before = next.tools.get(&name).copied();
            if (before.is_none() && next.tools.len() >= TOOLS) || length > room {
                changes.left_out += 1;
                continue;
            }
            let mut row = match before {
                Some(_) => self.store.tool(server, &name).await?,
                None => None,
            }
            .unwrap_or_else(|| StoredTool {
                server: server.clone(),
                tool: name.clone(),
                approved: None,
                listed: None,
            });
            let before = before.unwrap_or_default();
            let hash = Hash::from(one.hash);
            let standing = if before.approved == Some(one.hash) {
                // It is again what was approved, after something else was rejected.
                row.listed = None;
                changes.restored.push((name.clone(), hash));
                ToolStanding {
                    quarantined: None,
                    ..before
                }
            } else if trusts
                && before == ToolStanding::default()
                && one.worst() < Some(Severity::High)
            {
                row.approved = Some(ApprovedTool {
                    definition: text(&one.definition)?,
                    hash: one.hash,
                    by: FIRST.to_owned(),
                    at: now,
                });
                changes.approved.push((name.clone(), hash));
                self.observe(server, &one, Response::Report, None);
                ToolStanding {
                    approved: Some(one.hash),
                    quarantined: None,
                }
            } else {
                room -= length;
                row.listed = Some(ListedTool {
                    definition: text(&one.definition)?,
                    hash: one.hash,
                    at: now,
                    rejected: false,
                    findings: serde_json::to_string(&one.findings).map_err(EngineError::invalid)?,
                });
                changes.quarantined.push((name.clone(), hash));
                self.observe(server, &one, Response::Block, before.approved);
                ToolStanding {
                    quarantined: Some(Quarantined {
                        hash: one.hash,
                        rejected: false,
                    }),
                    ..before
                }
            };
            next.tools.insert(name, standing);
            changes.rows.push(row);
        }
        Ok(changes)
    }

    /// Reports what was seen in a definition, and that it is new or changed.
    fn observe(
        &self,
        server: &ServerName,
        read: &Read,
        response: Response,
        approved: Option<[u8; 32]>,
    ) {
        let sink = self.pipeline.inspection().sink();
        let put = |finding: Finding| {
            sink.put(Observed {
                at: Timestamp::now(),
                what: What::ToolDefinition,
                decision: None,
                response,
                finding,
            });
        };
        read.findings.iter().cloned().for_each(put);
        if response == Response::Block {
            put(waiting(server, &read.definition, approved.is_some()));
        }
    }

    /// Publishes what is known of a server's tools.
    pub(super) fn publish_tools(&self, server: &ServerName, tools: ServerTools) {
        let tools = Arc::new(tools);
        self.live()
            .change_world(|world| world.with_tools(server.clone(), Arc::clone(&tools)));
        self.live().tell_tools_changed();
    }

    /// Makes live what was approved before, at the start and after each change of the configuration.
    pub(super) fn publish_pins(
        &self,
        servers: &BTreeMap<ServerName, Server>,
        stored: &BTreeMap<ServerName, ServerTools>,
    ) {
        self.live().change_world(|world| {
            let tools = servers
                .iter()
                .filter(|(_, server)| server.kind == ServerKind::Mcp)
                .map(|(name, server)| {
                    let known = world.tools(name).map(|known| ServerTools::clone(known));
                    let known = known.or_else(|| stored.get(name).cloned());
                    let tools = ServerTools {
                        first_contact: server.pins,
                        ..known.unwrap_or_default()
                    };
                    (name.clone(), Arc::new(tools))
                })
                .collect();
            world.with_all_tools(tools)
        });
    }

    /// What the store says of all servers' tools.
    pub(super) async fn stored_pins(
        store: &store::Store,
    ) -> Result<BTreeMap<ServerName, ServerTools>, EngineError> {
        let mut pins: BTreeMap<ServerName, ServerTools> = BTreeMap::new();
        for one in store.tool_hashes().await? {
            let standing = ToolStanding {
                approved: one.approved,
                quarantined: one
                    .listed
                    .map(|(hash, rejected)| Quarantined { hash, rejected }),
            };
            let of_server = pins.entry(one.server).or_default();
            of_server.tools.insert(one.tool, standing);
        }
        for server in store.met_servers().await? {
            pins.entry(server).or_default().met = true;
        }
        Ok(pins)
    }
}

/// The record of a change of several tools.
fn record(
    actor: &str,
    change: &str,
    server: &ServerName,
    now: Timestamp,
    names: &[(String, Hash)],
) -> Record {
    let shown: Vec<serde_json::Value> = names
        .iter()
        .take(RECORDED)
        .map(|(name, hash)| {
            serde_json::json!({
                "tool": monitor::text::escaped(name, 64),
                "definition": hash.to_string(),
            })
        })
        .collect();
    Record::change(now, actor, change, server.as_str())
        .with("count", names.len())
        .with("tools", shown)
}

fn text(definition: &Definition) -> Result<String, EngineError> {
    serde_json::to_string(definition).map_err(EngineError::invalid)
}

fn subject(server: &ServerName, definition: &Definition) -> Subject {
    Subject {
        server: Some(server.clone()),
        target: Some(monitor::text::escaped(definition.name(), 128)),
        ..Subject::default()
    }
}

fn waiting(server: &ServerName, definition: &Definition, changed: bool) -> Finding {
    let (rule, severity, how) = if changed {
        (
            "tool-changed",
            Severity::High,
            "was changed since it was approved",
        )
    } else {
        ("tool-new", Severity::Low, "is new")
    };
    Finding {
        rule: rule.to_owned(),
        severity,
        asi: Some(Asi::Asi04),
        atlas: Atlas::parse(Atlas::SUPPLY_CHAIN).ok(),
        subject: subject(server, definition),
        evidence: None,
        explanation: format!(
            "The definition {how}: agents neither see nor call the tool until somebody has looked at it \
             (`sallyport mcp review {server}`)"
        ),
    }
}

fn not_inspected(server: &ServerName, definition: &Definition) -> Finding {
    Finding {
        rule: "tool-not-inspected".to_owned(),
        severity: Severity::High,
        asi: Some(Asi::Asi04),
        atlas: Atlas::parse(Atlas::DENIAL_OF_SERVICE).ok(),
        subject: subject(server, definition),
        evidence: None,
        explanation: format!(
            "The server listed more than {INSPECTED} new definitions at once; this one was not read, so \
             read it yourself"
        ),
    }
}
