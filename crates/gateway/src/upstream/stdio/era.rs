//! Which revisions a program speaks: it is asked once with `server/discover`, as clients do
//! (2026-07-28 `basic/versioning`, Backward Compatibility), and the verdict is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use super::child::{Child, ended};
use super::command::Haste;
use super::home::Home;
use super::input::Letter;
use super::outlet;
use super::router::{Era, Part};
use crate::caller::Principal;
use crate::mcp::raw::Members;
use crate::mcp::revision::Revision;
use crate::upstream::UpstreamError;

/// How long a program may take to start and answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long silence is taken for a program of the legacy era: it may only have been slow.
const SILENT: Duration = Duration::from_secs(60);
/// How long an answer is: programs get upgraded.
const ANSWERED: Duration = Duration::from_secs(3_600);

const DISCOVER: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"sallyport","version":"0.1.0"}}}}"#;

/// Why there is no child for requests of the modern era.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoChild {
    /// The program speaks only revisions before 2026-07-28.
    LegacyOnly,
    /// It cannot be reached.
    Failed(UpstreamError),
}

impl From<UpstreamError> for NoChild {
    fn from(error: UpstreamError) -> Self {
        Self::Failed(error)
    }
}

/// What is known of a program.
#[derive(Default)]
pub(super) struct Eras {
    known: Mutex<Option<Verdict>>,
    /// One asks, the others wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Verdict {
    era: Era,
    until: Option<Instant>,
}

impl Eras {
    /// The era, if it is known.
    pub(super) fn known(&self) -> Option<Era> {
        let verdict = (*self.known.lock())?;
        verdict
            .until
            .is_none_or(|until| Instant::now() < until)
            .then_some(verdict.era)
    }

    fn remember(&self, era: Era, time: Option<Duration>) {
        let until = time.map(|time| Instant::now() + time);
        *self.known.lock() = Some(Verdict { era, until });
    }
}

/// Starts a child for requests of the modern era, after finding out whether there is one. Goes on
/// when the client does not wait for it: the next one profits.
pub(super) async fn start(
    home: &Arc<Home>,
    eras: &Arc<Eras>,
    principal: Principal,
) -> Result<Arc<Child>, NoChild> {
    match eras.known() {
        Some(Era::Legacy) => return Err(NoChild::LegacyOnly),
        Some(Era::Modern) => return Ok(home.start(principal, Era::Modern)?),
        None => {}
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (own_home, own_eras) = (Arc::clone(home), Arc::clone(eras));
    home.tasks().spawn(async move {
        let found = find_out(&own_home, &own_eras, principal).await;
        if let Err(Ok(child)) = sender.send(found) {
            child.end(Haste::Gentle, &ended());
        }
    });
    receiver
        .await
        .unwrap_or(Err(NoChild::Failed(UpstreamError::Disabled)))
}

async fn find_out(
    home: &Arc<Home>,
    eras: &Eras,
    principal: Principal,
) -> Result<Arc<Child>, NoChild> {
    let _one = eras.asking.lock().await;
    match eras.known() {
        Some(Era::Legacy) => return Err(NoChild::LegacyOnly),
        Some(Era::Modern) => return Ok(home.start(principal, Era::Modern)?),
        None => {}
    }
    let child = home.start(principal, Era::Modern)?;
    let asked = ask(&child).await;
    let verdict = match &asked {
        Ok(Some(part)) => Ok(judge(part)),
        Ok(None) => Err(ended()),
        Err(error) => Err(error.clone()),
    };
    match verdict {
        Ok(Era::Modern) => {
            eras.remember(Era::Modern, None);
            Ok(child)
        }
        Ok(Era::Legacy) => {
            child.end(Haste::Now, &ended());
            eras.remember(Era::Legacy, Some(ANSWERED));
            Err(NoChild::LegacyOnly)
        }
        Err(UpstreamError::Timeout) => {
            child.end(Haste::Now, &ended());
            home.warn("its program does not answer `server/discover`: taken for one of revisions before 2026-07-28");
            eras.remember(Era::Legacy, Some(SILENT));
            Err(NoChild::LegacyOnly)
        }
        Err(error) => {
            child.end(Haste::Now, &ended());
            Err(NoChild::Failed(error))
        }
    }
}

async fn ask(child: &Arc<Child>) -> Result<Option<Part>, UpstreamError> {
    let message = Members::read(DISCOVER).expect("the request is a JSON object");
    let (sink, mut parts) = outlet::outlet();
    let asked = child.router.lock().request(&message, sink, true);
    let (number, line) = asked.map_err(|_| ended())?;
    let until = Instant::now() + PATIENCE;
    child
        .tell(Letter::with_request(line, child, number), until)
        .await?;
    match tokio::time::timeout_at(until.into(), parts.next()).await {
        Ok(Some(Part::Failed(error))) => Err(error),
        Ok(part) => Ok(part),
        Err(_) => Err(UpstreamError::Timeout),
    }
}

/// What an answer to `server/discover` says. Errors that only the modern era has are its too; any
/// other error is what a program says that does not know the request.
fn judge(part: &Part) -> Era {
    let Part::Answer { message, code } = part else {
        return Era::Legacy;
    };
    let is_modern = match code {
        Some(code) => (-32_022..=-32_020).contains(code),
        None => serde_json::from_slice::<Value>(message)
            .ok()
            .and_then(|answer| {
                let supported = answer.get("result")?.get("supportedVersions")?.as_array()?;
                let modern = |text: &Value| text.as_str().and_then(Revision::parse);
                Some(supported.iter().filter_map(modern).any(Revision::is_modern))
            })
            .unwrap_or(false),
    };
    if is_modern { Era::Modern } else { Era::Legacy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str, code: Option<i64>) -> Era {
        judge(&Part::Answer {
            message: text.to_owned().into(),
            code,
        })
    }

    #[test]
    fn only_what_says_so_is_modern() {
        let both = r#"{"result":{"supportedVersions":["2025-11-25","2026-07-28"]}}"#;
        assert_eq!(judged(both, None), Era::Modern);
        assert_eq!(judged("", Some(-32_022)), Era::Modern);
        for legacy in [
            r#"{"result":{"supportedVersions":["2025-11-25"]}}"#,
            r#"{"result":{"supportedVersions":"2026-07-28"}}"#,
            r#"{"result":{}}"#,
            r#"{"result":null}"#,
        ] {
            assert_eq!(judged(legacy, None), Era::Legacy, "{legacy}");
        }
        for code in [-32_601, -32_602, -32_000, 0, -32_023] {
            assert_eq!(judged("", Some(code)), Era::Legacy, "{code}");
        }
    }

    #[test]
    fn the_question_is_readable() {
        assert!(Members::read(DISCOVER).is_ok());
    }

    #[test]
    fn verdicts_run_out() {
        let eras = Eras::default();
        assert_eq!(eras.known(), None);
        eras.remember(Era::Legacy, Some(Duration::ZERO));
        assert_eq!(eras.known(), None);
        eras.remember(Era::Modern, None);
        assert_eq!(eras.known(), Some(Era::Modern));
    }
}
