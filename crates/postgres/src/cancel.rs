//! Cancelling what a session carries out: clients know a number and a secret of the gateway's, never those
//! of the database.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::upstream::{self, Database};

/// The sessions that can be cancelled, by the number that their clients know.
#[derive(Clone, Default)]
pub(crate) struct Cancels(Arc<Mutex<HashMap<u32, Target>>>);

#[derive(Clone)]
pub(crate) struct Target {
    secret: Zeroizing<Vec<u8>>,
    database: Arc<Database>,
    process: u32,
    key: Bytes,
}

/// A session that can be cancelled, as long as this is not dropped.
pub(crate) struct Cancellable {
    all: Cancels,
    /// The number that the client knows.
    pub(crate) number: u32,
    /// The secret that the client knows.
    pub(crate) secret: Zeroizing<Vec<u8>>,
}

impl Cancels {
    /// Makes a session known, with a secret of so many bytes.
    pub(crate) fn add(
        &self,
        database: &Arc<Database>,
        (process, key): (u32, Bytes),
        length: usize,
    ) -> Cancellable {
        let mut secret = Zeroizing::new(vec![0; length]);
        getrandom::fill(&mut secret).expect("the operating system gives randomness");
        let mut all = self.0.lock();
        let number = loop {
            let mut number = [0; 4];
            getrandom::fill(&mut number).expect("the operating system gives randomness");
            let number = u32::from_be_bytes(number) >> 1;
            if number != 0 && !all.contains_key(&number) {
                break number;
            }
        };
        let target = Target {
            secret: secret.clone(),
            database: Arc::clone(database),
            process,
            key,
        };
        all.insert(number, target);
        drop(all);
        Cancellable {
            all: self.clone(),
            number,
            secret,
        }
    }

    /// The session that a client may cancel with this number and secret.
    pub(crate) fn find(&self, number: u32, secret: &[u8]) -> Option<Target> {
        let all = self.0.lock();
        let target = all.get(&number)?;
        let same: bool = target.secret.as_slice().ct_eq(secret).into();
        same.then(|| target.clone())
    }
}

impl Target {
    /// Asks the database to cancel.
    pub(crate) async fn cancel(&self) {
        let database = &self.database;
        let tls = database.tls.as_ref();
        upstream::cancel(&database.address, tls, self.process, &self.key).await;
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.number);
    }
}
