//! Push notifications, kept inside: what an agent registers is kept here, and the other agent is told of
//! an address of the gateway instead, with a token of its own. What arrives there is checked, recorded as
//! an action of the task that it is for, and only then delivered.
//!
//! - `hook`: webhooks as they are written;
//! - `managing`: the requests about them;
//! - `notified`: what arrives;
//! - this file: who registered what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use gateway::caller::Principal;
use gateway::hex;
use gateway::inspection::Following;
use model::{Proof, ServerName};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::kept::{Change, Keeping};
use crate::owned::Begun;

pub mod hook;
mod managing;
mod notified;

use hook::Hook;
pub(crate) use notified::BEHIND;

/// Most webhooks of one task of another agent.
const PER_TASK: usize = 8;
/// Most webhooks of one principal at one agent.
const PER_PRINCIPAL: usize = 64;
/// How many notifications may come at once, and how many a second after that, for one webhook.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 20.0;

/// The SHA-256 hash of a secret of ours; the secret itself is nowhere but with whom it was given to.
pub type Hash = [u8; 32];

/// The hash of a secret.
#[must_use]
pub fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// A webhook, by whom it was registered, and how the other agent reaches it.
#[derive(Clone, PartialEq)]
pub struct Registration {
    /// The hash of what stands in the address that the other agent was given.
    pub address: Hash,
    /// The hash of the token that the other agent was given.
    pub token: Hash,
    /// Who registered it.
    pub principal: Principal,
    /// How that was proved.
    pub proof: Proof,
    /// At which agent.
    pub server: ServerName,
    /// The other agent's task, once it is known.
    pub task: Option<String>,
    /// What began with it.
    pub begun: Begun,
    /// The webhook.
    pub hook: Hook,
}

impl Registration {
    /// How the other agent calls it. The beginning of the hash says nothing about what was hashed.
    #[must_use]
    pub fn given_id(&self) -> String {
        format!("sallyport-{}", hex(&self.address[..12]))
    }
}

struct Entry {
    registration: Registration,
    /// Whether the other agent has confirmed it, or used it.
    settled: bool,
    allowance: f64,
    since: Instant,
    /// What was looked at of the notifications so far.
    following: Option<Arc<Mutex<Following>>>,
}

/// All webhooks.
#[derive(Default)]
pub struct Pushes {
    entries: Mutex<Entries>,
    keeping: Keeping,
}

#[derive(Default)]
struct Entries {
    by_address: HashMap<Hash, Entry>,
    /// The addresses of each principal at each agent.
    by_owner: HashMap<(Principal, ServerName), Vec<Hash>>,
}

impl Entries {
    fn insert(&mut self, entry: Entry) {
        let it = &entry.registration;
        let owner = (it.principal, it.server.clone());
        self.by_owner.entry(owner).or_default().push(it.address);
        self.by_address.insert(it.address, entry);
    }

    fn remove(&mut self, address: &Hash) -> bool {
        let Some(Entry {
            registration: it, ..
        }) = self.by_address.remove(address)
        else {
            return false;
        };
        let owner = (it.principal, it.server);
        if let Some(addresses) = self.by_owner.get_mut(&owner) {
            addresses.retain(|one| one != address);
            if addresses.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        true
    }

    fn of(&self, owner: &(Principal, ServerName)) -> impl Iterator<Item = &Registration> {
        let addresses = self.by_owner.get(owner).into_iter().flatten();
        addresses.filter_map(|address| Some(&self.by_address.get(address)?.registration))
    }
}

/// Why a webhook is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full(pub &'static str);

/// What became of a notification's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// There is no such address at this agent, or the token is not the one that goes with it.
    Unknown,
    /// More come than may.
    TooMany,
}

/// A webhook that is being registered: dropped before it is settled, it is gone.
pub struct Registering {
    pushes: Arc<Pushes>,
    address: Hash,
}

impl Pushes {
    /// Says where it is kept over a restart.
    pub(crate) fn keep_with(&self, keeping: Keeping) {
        self.keeping.take_over(keeping);
    }

    /// Waits until what was registered is kept; false when it could not be.
    pub(crate) async fn kept(&self) -> bool {
        self.keeping.flush().await
    }

    /// Registers a webhook; one of the same name and task takes the place of the earlier one.
    ///
    /// # Errors
    /// [`Full`]
    pub fn register(self: &Arc<Self>, registration: Registration) -> Result<Registering, Full> {
        let mut entries = self.entries.lock();
        let owner = (registration.principal, registration.server.clone());
        let mut replaced = None;
        let (mut all, mut of_task) = (0, 0);
        for it in entries.of(&owner) {
            all += 1;
            if it.task.is_some() && it.task == registration.task {
                of_task += 1;
                if it.hook.id == registration.hook.id {
                    replaced = Some(it.address);
                }
            }
        }
        if replaced.is_none() && of_task >= PER_TASK {
            return Err(Full("the task has 8 webhooks already: remove one first"));
        }
        if replaced.is_none() && all >= PER_PRINCIPAL {
            return Err(Full("64 webhooks are registered already: remove one first"));
        }
        if let Some(replaced) = replaced {
            entries.remove(&replaced);
            self.keeping.note(Change::Unregistered(replaced));
        }
        let address = registration.address;
        let entry = Entry {
            registration,
            settled: false,
            allowance: BURST,
            since: Instant::now(),
            following: None,
        };
        entries.insert(entry);
        Ok(Registering {
            pushes: Arc::clone(self),
            address,
        })
    }

    /// Takes in what was registered before a restart.
    pub fn restore(&self, registration: Registration) {
        let entry = Entry {
            settled: true,
            allowance: BURST,
            since: Instant::now(),
            following: None,
            registration,
        };
        self.entries.lock().insert(entry);
    }

    /// The other agent has given out the task that a webhook is for. What it was for first stays.
    pub fn bind(&self, address: &Hash, task: &str) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.by_address.get_mut(address) {
            if entry.registration.task.is_none() {
                entry.registration.task = Some(task.to_owned());
            }
            self.settle(entry);
        }
    }

    fn settle(&self, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.settled, true) {
            let kept = Box::new(entry.registration.clone());
            self.keeping.note(Change::Registered(kept));
        }
    }

    /// What is registered at an address, for whoever has its token. Each time counts.
    ///
    /// # Errors
    /// [`NotFound`]
    pub fn arrived(
        &self,
        server: &ServerName,
        address: &str,
        token: &str,
    ) -> Result<Registration, NotFound> {
        let mut entries = self.entries.lock();
        let entry = entries
            .by_address
            .get_mut(&hash(address))
            .filter(|entry| entry.registration.server == *server)
            .filter(|entry| bool::from(entry.registration.token.ct_eq(&hash(token))))
            .ok_or(NotFound::Unknown)?;
        let now = Instant::now();
        let since = now.duration_since(std::mem::replace(&mut entry.since, now));
        entry.allowance = (entry.allowance + since.as_secs_f64() * PER_SECOND).min(BURST);
        if entry.allowance < 1.0 {
            return Err(NotFound::TooMany);
        }
        entry.allowance -= 1.0;
        Ok(entry.registration.clone())
    }

    /// What follows the notifications for a webhook from one to the next; none when it was removed.
    pub(crate) fn following(
        &self,
        address: &Hash,
        begin: impl FnOnce() -> Following,
    ) -> Option<Arc<Mutex<Following>>> {
        let mut entries = self.entries.lock();
        let entry = entries.by_address.get_mut(address)?;
        let following = &mut entry.following;
        let known = following.get_or_insert_with(|| Arc::new(Mutex::new(begin())));
        Some(Arc::clone(known))
    }

    /// The webhooks of a task that this principal registered, in the order of their names.
    #[must_use]
    pub fn of_task(&self, of: Principal, at: &ServerName, task: &str) -> Vec<Registration> {
        let entries = self.entries.lock();
        let mut found: Vec<Registration> = entries
            .of(&(of, at.clone()))
            .filter(|it| it.task.as_deref() == Some(task))
            .cloned()
            .collect();
        found.sort_by(|one, other| one.hook.id.cmp(&other.hook.id));
        found
    }

    /// Forgets a webhook: nothing is delivered to it any more.
    pub fn remove(&self, address: &Hash) {
        if self.entries.lock().remove(address) {
            self.keeping.note(Change::Unregistered(*address));
        }
    }

    /// Forgets the webhooks of principals that are gone.
    pub fn retain(&self, alive: impl Fn(&Principal) -> bool) {
        let mut entries = self.entries.lock();
        entries
            .by_owner
            .retain(|(principal, _), _| alive(principal));
        entries
            .by_address
            .retain(|_, entry| alive(&entry.registration.principal));
    }
}

impl Registering {
    /// The other agent has given out the task that it is for.
    pub fn bind(&self, task: &str) {
        self.pushes.bind(&self.address, task);
    }

    /// The other agent has it.
    pub fn settle(&self) {
        let mut entries = self.pushes.entries.lock();
        if let Some(entry) = entries.by_address.get_mut(&self.address) {
            self.pushes.settle(entry);
        }
    }
}

impl Drop for Registering {
    fn drop(&mut self) {
        let mut entries = self.pushes.entries.lock();
        let entry = entries.by_address.get(&self.address);
        if entry.is_some_and(|it| !it.settled) {
            entries.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::{InstanceId, TaskId};

    fn principal(n: u8) -> Principal {
        Principal {
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [n; 10]),
            task: TaskId::new(Timestamp::UNIX_EPOCH, [n; 10]),
        }
    }

    fn desk() -> ServerName {
        ServerName::parse("desk").unwrap()
    }

    fn registration(of: u8, address: &str, task: Option<&str>, id: &str) -> Registration {
        Registration {
            address: hash(address),
            token: hash("token"),
            principal: principal(of),
            proof: Proof::Dpop,
            server: desk(),
            task: task.map(str::to_owned),
            begun: Begun {
                skill: "a".to_owned(),
                sub_task: None,
            },
            hook: Hook {
                id: id.to_owned(),
                url: "https://h/".to_owned(),
                token: None,
                authentication: None,
            },
        }
    }

    #[test]
    fn an_address_is_of_use_only_with_its_token_and_at_its_agent() {
        let pushes = Arc::new(Pushes::default());
        let registering = pushes
            .register(registration(1, "x", Some("t"), "a"))
            .unwrap();
        registering.settle();
        drop(registering);
        let found = |server: &str, address, token| {
            let server = ServerName::parse(server).unwrap();
            pushes.arrived(&server, address, token).err()
        };
        assert_eq!(found("desk", "x", "token"), None);
        for (server, address, token) in [
            ("desk", "y", "token"),
            ("desk", "x", "other"),
            ("desk", "x", ""),
            ("other", "x", "token"),
        ] {
            assert_eq!(found(server, address, token), Some(NotFound::Unknown));
        }
        assert!(pushes.of_task(principal(2), &desk(), "t").is_empty());
        assert_eq!(pushes.of_task(principal(1), &desk(), "t").len(), 1);
        pushes.retain(|it| *it != principal(1));
        assert_eq!(found("desk", "x", "token"), Some(NotFound::Unknown));
    }

    #[test]
    fn what_was_not_settled_is_gone_and_what_was_used_stays() {
        let pushes = Arc::new(Pushes::default());
        drop(pushes.register(registration(1, "x", None, "")).unwrap());
        assert!(pushes.arrived(&desk(), "x", "token").is_err());
        let registering = pushes.register(registration(1, "y", None, "")).unwrap();
        pushes.bind(&hash("y"), "t");
        pushes.bind(&hash("y"), "another");
        drop(registering);
        let found = pushes.arrived(&desk(), "y", "token").unwrap();
        assert_eq!(found.task.as_deref(), Some("t"));
    }

    #[test]
    fn webhooks_and_notifications_are_bounded() {
        let pushes = Arc::new(Pushes::default());
        for n in 0..PER_TASK {
            let id = n.to_string();
            pushes
                .register(registration(1, &id, Some("t"), &id))
                .unwrap()
                .settle();
        }
        let more = |address: &str, task, id| pushes.register(registration(1, address, task, id));
        assert!(more("new", Some("t"), "new").is_err());
        more("again", Some("t"), "0").unwrap().settle();
        assert!(
            pushes.arrived(&desk(), "0", "token").is_err(),
            "it was replaced"
        );
        more("elsewhere", Some("u"), "new").unwrap().settle();
        let flood = (0..200).filter(|_| pushes.arrived(&desk(), "again", "token").is_ok());
        let through = flood.count();
        assert!((100..150).contains(&through), "{through}");
    }
}
