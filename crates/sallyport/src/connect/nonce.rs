//! What a server wants to see in the next proof (RFC 9449 §8 and §9).

use std::sync::{Mutex, PoisonError};

use http::Response;

/// The nonce that a server gave last; each server has its own.
#[derive(Default)]
pub(crate) struct LastNonce(Mutex<Option<String>>);

impl LastNonce {
    /// What to put into the next proof, if the server wants anything.
    pub(crate) fn last(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes note of one.
    pub(crate) fn set(&self, nonce: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce);
    }

    /// Takes note of the one that an answer brings; says whether it is another one than was used, so that the
    /// same may be tried once more.
    pub(crate) fn learn<B>(&self, answer: &Response<B>, used: Option<&str>) -> bool {
        let nonce = answer.headers().get("dpop-nonce");
        let Some(nonce) = nonce.and_then(|nonce| nonce.to_str().ok()) else {
            return false;
        };
        let is_new = used != Some(nonce);
        if is_new {
            self.set(nonce.to_owned());
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_kept_until_there_is_another() {
        let last = LastNonce::default();
        let answer = |nonce: Option<&str>| {
            let mut answer = Response::new(());
            if let Some(nonce) = nonce {
                let value = nonce.parse().unwrap();
                answer.headers_mut().insert("dpop-nonce", value);
            }
            answer
        };
        assert!(!last.learn(&answer(None), None));
        assert_eq!(last.last(), None);
        assert!(last.learn(&answer(Some("a")), None));
        assert!(!last.learn(&answer(Some("a")), Some("a")));
        assert!(!last.learn(&answer(None), Some("a")));
        assert_eq!(last.last().as_deref(), Some("a"));
        assert!(last.learn(&answer(Some("b")), Some("a")));
        assert_eq!(last.last().as_deref(), Some("b"));
    }
}
