//! Nonces in proofs that are for the control listener (RFC 9449 §8).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use identity::dpop::Proofs;
use identity::nonce::Nonces;
use jiff::Timestamp;

use crate::engine::Engine;
use crate::http_api::Shared;

/// What takes proofs here: with nonces of its own, demanded when those of the gateway are.
pub(crate) fn proofs(engine: &Engine, remembered: usize) -> Proofs {
    let secret = engine
        .keys()
        .secret("nonces of the control listener")
        .expect("a key that signs can be written down");
    let demand = engine.pipeline().nonces().clone();
    Proofs::new(remembered).with_nonces(Nonces::new(&secret, demand))
}

/// Offers the nonce for the next proof to whoever sent one, and at the token endpoint to everyone.
pub(crate) async fn offer(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let proves = request.headers().contains_key("dpop") || request.uri().path() == "/oauth/token";
    let mut answer = next.run(request).await;
    if proves
        && let Some(nonce) = shared.proofs.nonce(Timestamp::now())
        && let Ok(nonce) = HeaderValue::from_str(&nonce)
    {
        answer.headers_mut().insert("dpop-nonce", nonce);
    }
    answer
}
