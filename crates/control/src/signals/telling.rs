//! From the log and the scores to events that wait for their receivers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::AgentName;
use model::record::Record;
use response::signals::{Event, Level, told};
use store::{SignalsTold, StoreError, WaitingSignal};
use tokio_util::sync::CancellationToken;

use super::{Signals, WAITING};

/// How often there is a look at what was heard, and at scores.
const TICK: Duration = Duration::from_millis(200);
/// How often the place in the log is kept when nothing was heard.
const KEEP: Duration = Duration::from_secs(30);
/// Most events that were heard and are not in the store yet. Beyond it they are read from the log later.
const HEARD: usize = 10_000;

impl Signals {
    /// Takes in a record of the log, in its order.
    pub(super) fn hear(&self, index: u64, record: &Record) {
        if let Some(event) = told::event(record, self.engine.settings().trust_domain.as_str()) {
            let mut heard = self.heard.lock();
            if heard.len() < HEARD {
                heard.push_back((index, event));
            } else {
                tracing::error!(index, "too many signals at once: this one is not told");
            }
        }
    }

    /// Tells what is in the log until `stop` is cancelled. Records from `from` on are heard; those before
    /// that were not told yet are read.
    pub(super) async fn tell(self: &Arc<Self>, from: u64, stop: CancellationToken) {
        let mut known = self.known(from).await;
        let before = self.read(known.position, from).await;
        known.position = from;
        let mut waiting: Vec<(String, Event)> = before;
        let mut kept = tokio::time::Instant::now();
        loop {
            // First the place, then what was heard: nothing before the place can come later.
            let position = self.engine.watch().followed().max(from);
            let heard = std::mem::take(&mut *self.heard.lock());
            let new = heard.into_iter().filter(|(index, _)| *index >= from);
            waiting.extend(new.map(|(index, event)| (format!("record-{index}"), event)));
            let levels = self.levels(&known.levels, &mut waiting);
            let due = !waiting.is_empty() || levels != known.levels || kept.elapsed() >= KEEP;
            if due {
                let told = Known { position, levels };
                match self.put(&waiting, &told).await {
                    Ok(()) => {
                        waiting.clear();
                        known = told;
                        kept = tokio::time::Instant::now();
                    }
                    Err(error) => {
                        // What is about scores is found again; the rest waits.
                        waiting.retain(|(id, _)| id.starts_with("record-"));
                        tracing::error!(%error, "signals were not kept; it is tried again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn known(&self, size: u64) -> Known {
        match self.store().signals_told().await {
            // A log that is told for the first time is not told from its beginning.
            Ok(None) => Known {
                position: size,
                levels: BTreeMap::new(),
            },
            Ok(Some(told)) => Known {
                position: told.position.min(size),
                levels: read_levels(&told.levels),
            },
            Err(error) => {
                tracing::error!(%error, "it is not known how far signals were told: earlier ones are left out");
                Known {
                    position: size,
                    levels: BTreeMap::new(),
                }
            }
        }
    }

    /// Events of records that were not told before the process ended.
    async fn read(self: &Arc<Self>, from: u64, to: u64) -> Vec<(String, Event)> {
        if from >= to {
            return Vec::new();
        }
        let signals = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let reader = match audit::Reader::open(signals.engine.watch().log_dir()) {
                Ok(reader) => reader,
                Err(error) => {
                    tracing::error!(%error, from, to, "records were not looked through for signals");
                    return Vec::new();
                }
            };
            let domain = signals.engine.settings().trust_domain.clone();
            let entries = reader.entries(from..to).map_while(Result::ok);
            let events = entries.filter_map(|(index, bytes)| {
                let record: Record = serde_json::from_slice(&bytes).ok()?;
                let event = told::event(&record, domain.as_str())?;
                Some((format!("record-{index}"), event))
            });
            events.collect()
        });
        reading.await.unwrap_or_default()
    }

    /// The levels of all agents that are not low, and events about those that have another one now.
    fn levels(
        &self,
        before: &BTreeMap<AgentName, Level>,
        into: &mut Vec<(String, Event)>,
    ) -> BTreeMap<AgentName, Level> {
        let now = Timestamp::now();
        let domain = self.engine.settings().trust_domain.as_str();
        let scores = self.engine.watch().agent_scores(now);
        let levels: BTreeMap<_, _> = scores
            .into_iter()
            .map(|(agent, score)| (agent, Level::of(score)))
            .filter(|(_, level)| *level != Level::Low)
            .collect();
        let level = |of: &BTreeMap<AgentName, Level>, agent| of.get(agent).copied();
        let agents = before
            .keys()
            .chain(levels.keys().filter(|it| !before.contains_key(*it)));
        for agent in agents {
            let was = level(before, agent).unwrap_or(Level::Low);
            let is = level(&levels, agent).unwrap_or(Level::Low);
            if let Some(event) = told::risk(domain, agent, was, is, now) {
                into.push((super::unique(), event));
            }
        }
        levels
    }

    /// Puts events into the streams that want them.
    async fn put(&self, events: &[(String, Event)], told: &Known) -> Result<(), StoreError> {
        let peers = self.peers.load_full();
        let mut signals = Vec::new();
        for (name, receiver) in &peers.receivers {
            let Some(stream) = self.open_stream(name) else {
                continue;
            };
            let wanted = events
                .iter()
                .filter(|(_, event)| stream.wants(&event.kind.uri()));
            signals.extend(wanted.map(|(id, event)| {
                let jti = format!("{id}.{}", stream.id);
                WaitingSignal {
                    receiver: name.clone(),
                    claims: self.claims(receiver, event, &jti).to_string(),
                    jti,
                }
            }));
        }
        let told = SignalsTold {
            position: told.position,
            levels: write_levels(&told.levels),
        };
        let dropped = self.store().keep_signals(&signals, &told, WAITING).await?;
        if dropped > 0 {
            tracing::error!(
                dropped,
                "too many signals wait for a receiver: the oldest were dropped"
            );
        }
        if !signals.is_empty() {
            self.tell_news();
        }
        Ok(())
    }
}

/// What was told last.
struct Known {
    position: u64,
    levels: BTreeMap<AgentName, Level>,
}

fn read_levels(text: &str) -> BTreeMap<AgentName, Level> {
    let words: BTreeMap<AgentName, String> = serde_json::from_str(text).unwrap_or_default();
    words
        .into_iter()
        .filter_map(|(agent, word)| Some((agent, Level::read(&word)?)))
        .collect()
}

fn write_levels(levels: &BTreeMap<AgentName, Level>) -> String {
    let words: BTreeMap<&AgentName, &str> = levels
        .iter()
        .map(|(agent, level)| (agent, level.as_str()))
        .collect();
    serde_json::to_string(&words).expect("a map with text keys")
}
