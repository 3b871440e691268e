//! What a tunnel may use up, and what ends it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use super::{Desk, local};
use crate::support::tunnels::{answer, encrypt};

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_tunnel_is_one_action_to_its_own_host_whose_bytes_count() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let target = local(&desk.opaque);
    let (refused, _) = desk.connect(&local(&desk.narrow), &token);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.text.contains("an unseen tunnel"), "{refused:?}");

    // The certificate is the API's own, and it sees nothing of the proxy's token.
    let (opened, stream) = desk.connect(&target, &token);
    assert_eq!(opened.status, 200, "{opened:?}");
    let mut stream = encrypt(stream, &trusted, "localhost").unwrap();
    let host = format!("host: {target}\r\n");
    write!(
        stream,
        "GET /v1/anything/at/all HTTP/1.1\r\n{host}connection: close\r\n\r\n"
    )
    .unwrap();
    let (status, body) = answer(&mut stream);
    assert_eq!(status, 200);
    assert!(!body.contains(&token) && !body.contains("proxy-authorization"));
    drop(stream);

    // Not TLS, or TLS for somebody else: nothing reaches the API.
    let seen = desk.seen(&desk.opaque);
    let (_, stream) = desk.connect(&target, &token);
    assert!(encrypt(stream, &trusted, "evil.example").is_err());
    let (_, mut stream) = desk.connect(&target, &token);
    stream.write_all(b"GET /v1/count HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(desk.seen(&desk.opaque), seen);

    // More bytes than the task has: cut in the middle.
    let (_, stream) = desk.connect(&target, &token);
    let mut stream = encrypt(stream, &trusted, "localhost").unwrap();
    write!(stream, "GET /v1/flood HTTP/1.1\r\n{host}\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 200_000, "{}", rest.len());
    let (over, _) = desk.connect(&target, &token);
    assert_eq!(over.status, 429, "{over:?}");
    let records = desk.gateway.records();
    let result = |by: &str| {
        let mut results = records.iter().filter(|record| record["event"] == "result");
        results
            .find(|record| record["notes"]["ended_by"] == by)
            .unwrap_or_else(|| panic!("no result ended by {by}"))
    };
    let cut = result("budget");
    assert_eq!(cut["ended"], "cut");
    assert!(cut["spent"]["bytes"].as_u64().unwrap() > 100_000, "{cut}");
    assert_eq!(result("first message")["ended"], "not_forwarded");
    let permitted = desk.intents(&target);
    assert!(
        permitted
            .iter()
            .filter(|record| record["permitted"] == true)
            .count()
            >= 4
    );
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_closes_tunnels_of_both_kinds_and_what_streams_in_them() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let authority = desk.authority(&token).await.body;
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let mut open = Vec::new();
    for (api, roots) in [(&desk.crm, &authority[..]), (&desk.opaque, &trusted[..])] {
        let target = local(api);
        let (_, stream) = desk.connect(&target, &token);
        let mut stream = encrypt(stream, roots, "localhost").unwrap();
        write!(stream, "GET /v1/stream HTTP/1.1\r\nhost: {target}\r\n\r\n").unwrap();
        let mut some = [0; 200];
        stream.read_exact(&mut some).unwrap();
        assert!(
            some.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&some)
        );
        open.push(stream);
    }
    // Opened, and nothing said inside yet.
    let (_, mut silent) = desk.connect(&local(&desk.crm), &token);
    assert!(
        desk.gateway
            .run(&["task", "revoke", &task])
            .status
            .success()
    );
    for mut stream in open {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let (after, _) = desk.connect(&local(&desk.crm), &token);
    assert!(matches!(after.status, 403 | 407), "{after:?}");
    assert!(matches!(desk.authority(&token).await.status, 403 | 407));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_of_tunnels_that_nobody_looks_into_is_disabled() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let target = local(&desk.opaque);
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let mut disable = vec![target.clone(), "LOCALHOST".to_owned()];
    while let Some(name) = disable.pop() {
        let (opened, stream) = desk.connect(&target, &token);
        assert_eq!(opened.status, 200, "{opened:?}");
        let mut stream = encrypt(stream, &trusted, "localhost").unwrap();
        write!(stream, "GET /v1/stream HTTP/1.1\r\nhost: {target}\r\n\r\n").unwrap();
        let mut some = [0; 200];
        stream.read_exact(&mut some).unwrap();
        let run = |change: &str| {
            let done = desk.gateway.run(&["tool", change, "opaque", &name]);
            assert!(done.status.success(), "{done:?}");
        };
        run("disable");
        // What streamed is cut, and the very next tunnel is refused.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"0\r\n\r\n"));
        let (refused, _) = desk.connect(&target, &token);
        assert_eq!(refused.status, 403, "{name}: {refused:?}");
        // Other servers go on.
        let (other, _) = desk.connect(&local(&desk.crm), &token);
        assert_eq!(other.status, 200, "{other:?}");
        run("enable");
    }
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_its_task() {
    let desk = Desk::new().await;
    let body = json!({ "template": "clerk", "parameters": { "customer": "7" }, "ttl_seconds": 4 });
    let opened = desk.agent.manage("/v1/tasks", &body).await;
    let task = opened.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(opened.json()["proxy"], desk.url());
    let token = desk.token(&task, false).await;
    let authority = desk.authority(&token).await.body;
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let opened = [(&desk.crm, &authority[..]), (&desk.opaque, &trusted[..])].map(|(api, roots)| {
        let target = local(api);
        let (opened, stream) = desk.connect(&target, &token);
        assert_eq!(opened.status, 200, "{opened:?}");
        let mut stream = encrypt(stream, roots, "localhost").unwrap();
        write!(stream, "GET /v1/stream HTTP/1.1\r\nhost: {target}\r\n\r\n").unwrap();
        stream
    });
    for mut stream in opened {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.starts_with(b"HTTP/1.1 200") && !all.ends_with(b"0\r\n\r\n"));
    }
    let (after, _) = desk.connect(&local(&desk.crm), &token);
    assert!(matches!(after.status, 403 | 407), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_bounded_in_number_and_in_silence() {
    let desk = Desk::with("idle_seconds = 2\n[limits]\nstreams_per_task = 3\n").await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let target = local(&desk.opaque);
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let mut open: Vec<TcpStream> = (0..3)
        .map(|_| {
            let (opened, stream) = desk.connect(&target, &token);
            assert_eq!(opened.status, 200, "{opened:?}");
            stream
        })
        .collect();
    let (flood, _) = desk.connect(&target, &token);
    assert_eq!(flood.status, 429, "{flood:?}");
    let other = desk.token(&desk.task().await, false).await;
    assert_eq!(
        desk.connect(&target, &other).0.status,
        200,
        "another task has its own"
    );
    // One that is closed makes room; half of one does not keep the other half open for good.
    drop(open.pop());
    let half = open.pop().unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    drop(half);
    let mut last = open.pop().unwrap();
    let mut stream = encrypt(&mut last, &trusted, "localhost").unwrap();
    // Silent from here on, on both sides.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let (again, _) = desk.connect(&target, &token);
    assert_eq!(again.status, 200, "{again:?}");
    let idle =
        desk.gateway.records().into_iter().any(|record| {
            record["event"] == "result" && record["notes"]["ended_by"] == "idle_seconds"
        });
    assert!(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_becomes_of_tunnels() {
    let desk = Desk::new().await;
    let token = desk.token(&desk.task().await, false).await;
    let (target, narrow) = (local(&desk.opaque), local(&desk.narrow));
    assert_eq!(desk.connect(&target, &token).0.status, 200);
    assert_eq!(desk.connect(&narrow, &token).0.status, 403);
    let file = desk.gateway.config();
    let reload = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = desk.gateway.run(&["reload"]);
        assert!(output.status.success(), "{output:?}");
    };
    // Another server at the same host and port, of whatever kind: a tunnel could not be held to one.
    let before = std::fs::read_to_string(&file).unwrap();
    let twin = format!("[servers.twin]\nurl = \"https://{target}/mcp\"\n");
    reload(&format!("{before}{twin}"));
    let (shared, _) = desk.connect(&target, &token);
    assert_eq!(shared.status, 403, "{shared:?}");
    assert!(shared.text.contains("more than one server"), "{shared:?}");
    // Looked into, both are reached by what is granted of their endpoints.
    let inspected = before.replace("inspect = false", "inspect = true");
    reload(&format!("{inspected}{twin}"));
    let authority = desk.authority(&token).await.body;
    for (target, status) in [(&narrow, 200), (&target, 403)] {
        let (opened, stream) = desk.connect(target, &token);
        assert_eq!(opened.status, 200, "{opened:?}");
        let mut stream = encrypt(stream, &authority, "localhost").unwrap();
        write!(stream, "GET /v1/count HTTP/1.1\r\nhost: {target}\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).0, status, "{target}");
    }
    // Gone from the configuration, gone from the proxy.
    let gone = before.replace(&target, "localhost:1");
    reload(&gone);
    assert_eq!(desk.connect(&target, &token).0.status, 403);
}
