//! Step 8: what became of a request. Dropped before it is finished, the permit itself records that the
//! agent went away, or that the request was cut.

use gateway::pipeline::{Digest, Permit};
use model::record::Ended;
use tokio_util::sync::DropGuard;

/// What is recorded of one request.
pub(crate) struct Account {
    pub(crate) permit: Permit,
    digest: Digest,
    /// How it ends if all of the answer passes.
    pub(crate) ended: Ended,
    /// Ends what of the request is still on its way: nothing passes once this is finished.
    pub(crate) upload: Option<DropGuard>,
}

impl Account {
    pub(crate) fn new(permit: Permit, digest: Digest) -> Self {
        Self {
            permit,
            digest,
            ended: Ended::Answered,
            upload: None,
        }
    }

    /// Takes in what the agent gets.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// Records how it ended.
    pub(crate) fn finish(self, ended: Ended) {
        drop(self.upload);
        self.permit.finish(ended, self.digest);
    }
}
