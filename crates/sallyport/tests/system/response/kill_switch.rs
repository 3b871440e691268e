//! Nothing is forwarded after the command returns, whatever is going on; streams are cut.

use super::*;

/// Agents that call without pause, and say on each call whether the switch had been thrown before it.
struct Load {
    after: Arc<AtomicU64>,
    tried_after: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(agent: &Arc<Agent>, token: &Token) -> Self {
        let (after, tried_after, stop): (Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicU64>) =
            Default::default();
        let callers = (0..6).map(|_| {
            let (agent, token) = (Arc::clone(agent), token.clone());
            let (after, tried, stop) = (
                Arc::clone(&after),
                Arc::clone(&tried_after),
                Arc::clone(&stop),
            );
            tokio::spawn(async move {
                while stop.load(Ordering::SeqCst) == 0 {
                    // Read before the request is made: a request with 1 was made after the switch.
                    let tag = after.load(Ordering::SeqCst);
                    let status = get(&agent, &token, &format!("/tag/{tag}")).await;
                    if tag == 1 {
                        assert_ne!(status, 200, "it was answered after the switch");
                        tried.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        let callers = callers.collect();
        Self {
            after,
            tried_after,
            stop,
            callers,
        }
    }

    /// Goes on calling for a while, then ends.
    async fn end(self) {
        while self.tried_after.load(Ordering::SeqCst) < 30 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self.stop.store(1, Ordering::SeqCst);
        for caller in self.callers {
            caller.await.unwrap();
        }
    }
}

/// Throws a switch while an agent of the segment `support` calls and streams, and sees that nothing gets
/// through afterwards; then releases it, and sees that it works again.
async fn holds(throw: &[&str], release: Option<&[&str]>, changes: &[&str]) {
    let mut desk = Desk::start("").await;
    let (agent, task, token) = desk.clerk("front", "support").await;
    let (other, _, others) = desk.clerk("bystander", "elsewhere").await;
    let agent = Arc::new(agent);
    let streaming = {
        let (agent, token) = (Arc::clone(&agent), token.clone());
        tokio::spawn(async move { get(&agent, &token, "/stream").await })
    };
    let load = Load::begin(&agent, &token);
    let upstream = &desk.upstream;
    desk.gateway
        .wait_until("all of it is under way", async |_| {
            upstream.asked("/tag/0") > 20 && upstream.asked("/stream") == 1
        })
        .await;
    desk.must(throw);
    load.after.store(1, Ordering::SeqCst);
    load.end().await;
    assert_eq!(desk.upstream.asked("/tag/1"), 0, "{throw:?}");
    // It ends: what was streaming was cut.
    streaming.await.unwrap();
    let spared = get(&other, &others, "/other").await;
    let all = throw.contains(&"--all")
        || throw.contains(&"crm") && !throw.contains(&"tool")
        || throw.contains(&"core");
    assert_eq!(spared == 200, !all, "{throw:?} {spared}");
    // It holds over a crash too.
    desk.gateway.kill();
    desk.gateway.restart().await;
    if release.is_some() {
        assert_ne!(get(&agent, &token, "/tag/1").await, 200, "{throw:?}");
    }
    match release {
        Some(release) => {
            desk.must(release);
            let token = agent.token_of_kind("http", "crm", &task, false).await;
            assert_eq!(get(&agent, &token, "/tag/2").await, 200, "{release:?}");
        }
        None => {
            assert_eq!(get(&agent, &token, "/tag/1").await, 401, "{throw:?}");
            // A token of the second in which they were revoked is refused too.
            desk.gateway
                .wait_until("a new token works", async |_| {
                    let token = agent.token_of_kind("http", "crm", &task, false).await;
                    get(&agent, &token, "/tag/2").await == 200
                })
                .await;
        }
    }
    assert_eq!(desk.upstream.asked("/tag/1"), 0, "{throw:?}");
    let records = desk.gateway.records();
    for change in changes {
        let there = records.iter().any(|it| it["change"] == **change);
        assert!(there, "{change} is not on record");
    }
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_agents_are_stopped_at_once() {
    let throw = ["agent", "quarantine", "--all", "--because", "drill"];
    let release = ["agent", "release", "--all"];
    holds(
        &throw,
        Some(&release),
        &["agents.stopped", "agents.released"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_agents_is_cut_off() {
    let throw = ["segment", "isolate", "support", "--because", "drill"];
    let release = ["segment", "release", "support"];
    holds(
        &throw,
        Some(&release),
        &["segment.isolated", "segment.released"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_servers_is_cut_off() {
    let throw = ["segment", "isolate", "core"];
    let release = ["segment", "release", "core"];
    holds(
        &throw,
        Some(&release),
        &["segment.isolated", "segment.released"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_cut_off() {
    let throw = ["server", "disable", "crm"];
    let release = ["server", "enable", "crm"];
    holds(
        &throw,
        Some(&release),
        &["server.disabled", "server.enabled"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_tool_is_disabled() {
    let throw = ["tool", "disable", "crm", "GET /tag/{n}"];
    let release = ["tool", "enable", "crm", "GET /tag/{n}"];
    holds(&throw, Some(&release), &["tool.disabled", "tool.enabled"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refused_that_were_given_so_far() {
    let throw = ["agent", "revoke-tokens", "front", "--because", "drill"];
    holds(&throw, None, &["agent.tokens_revoked"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_held_back_and_says_so() {
    let desk = Desk::start("").await;
    for arguments in [
        &["segment", "isolate", "typo"][..],
        &["segment", "release", "core"],
        &["tool", "disable", "typo", "x"],
        &["tool", "enable", "crm", "GET /tag/{n}"],
        &["agent", "release", "--all"],
        &["agent", "revoke-tokens", "typo"],
        &["agent", "quarantine"],
    ] {
        let output = desk.gateway.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
    }
    assert!(
        desk.must(&["segment", "list"])
            .contains("nothing is held back")
    );
    desk.must(&[
        "tool",
        "disable",
        "crm",
        "GET /other",
        "--because",
        "why not",
    ]);
    assert!(desk.must(&["tool", "list"]).contains("why not"));
}
