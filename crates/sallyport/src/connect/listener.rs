//! The stream on which a server of the legacy era speaks without being asked (2025-11-25
//! `basic/transports`, Listening for Messages from the Server).

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::carrier::Carrier;
use super::stream::{Place, Stream};
use super::trouble::Trouble;

/// A stream that ends earlier counts as a failure.
const SHORT: Duration = Duration::from_secs(5);

/// Listens until the server says that it has nothing to say this way, or the task has ended.
pub(super) async fn listen(carrier: Arc<Carrier>) {
    let mut place = Place::default();
    let mut failures = 0;
    let mut session = carrier.session();
    loop {
        if carrier.session() != session {
            // Places belong to their session.
            session = carrier.session();
            place = Place::default();
        }
        let started = Instant::now();
        match carrier.listen_from(&place).await {
            Ok(answer) if answer.status().is_success() && Stream::is(&answer) => {
                let any = carrier
                    .relay_announcements(answer.into_body(), &mut place)
                    .await;
                let lasted = any || started.elapsed() >= SHORT;
                failures = if lasted { 0 } else { failures + 1 };
            }
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                let Some(lost) = session else { return };
                if carrier.replace_session(lost).await.is_err() {
                    return;
                }
            }
            Ok(answer) if is_final(answer.status()) => return,
            Err(Trouble::TaskEnded(_)) => return,
            Err(Trouble::Refused { status, .. }) if (400..500).contains(&status) => return,
            _ => failures += 1,
        }
        tokio::time::sleep(place.pause(failures)).await;
    }
}

/// Whether asking again would change nothing: above all, that there is no such stream (405).
fn is_final(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
}
