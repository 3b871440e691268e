//! Where a request leads: what two could read differently, and what is sent behind a CONNECT.

use std::io::Read as _;

use super::{Desk, local};
use crate::support::tunnels::{answer, head, send};

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_two_could_read_differently_lead_nowhere() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let port = desk.crm.port;
    let auth = format!("proxy-authorization: Bearer {token}\r\n");
    let status = |line: &str, more: &str| {
        let request = format!("{line}\r\n{auth}{more}\r\n");
        head(&mut send(&desk.proxy, request.as_bytes())).status
    };
    let host = format!("host: localhost:{port}\r\n");
    for target in [
        format!("localhost.:{port}"),
        format!("agent@localhost:{port}"),
        format!("localhost:{port}@evil.example:443"),
        format!("localhost:0{port}"),
        format!("localhost:{port}/"),
        format!("localhost%2e:{port}"),
        format!("http://localhost:{port}/"),
        format!("/localhost:{port}"),
        "localhost".to_owned(),
        format!("127.1:{port}"),
        format!("0x7f000001:{port}"),
        format!("[::ffff:127.0.0.1%25lo]:{port}"),
        format!("loc\u{430}lhost:{port}"),
        "*".to_owned(),
    ] {
        let status = status(&format!("CONNECT {target} HTTP/1.1"), &host);
        assert!(matches!(status, 400 | 404 | 421), "{target}: {status}");
    }
    // Names that mean this machine to the resolver, but are not the one in the configuration.
    for target in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("localhost.localdomain:{port}"),
        "169.254.169.254:80".to_owned(),
        desk.gateway.control.replace("http://", ""),
        format!("localhost:{}", desk.hidden.port),
    ] {
        let line = format!("CONNECT {target} HTTP/1.1");
        assert_eq!(
            status(&line, &format!("host: {target}\r\n")),
            403,
            "{target}"
        );
    }
    let good = format!("CONNECT LocalHost:{port} HTTP/1.1");
    assert_eq!(status(&good, &host), 200, "case means nothing");
    let old = format!("CONNECT localhost:{port} HTTP/1.0");
    assert_eq!(status(&old, ""), 200, "old clients send no Host");
    for more in [
        "host: evil.example\r\n".to_owned(),
        format!("host: localhost:{port}\r\nhost: evil.example\r\n"),
        String::new(),
    ] {
        assert_eq!(status(&good, &more), 421, "{more}");
    }
    for more in [
        "content-length: 4\r\n",
        "transfer-encoding: chunked\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
    ] {
        assert_eq!(status(&good, &format!("{host}{more}")), 400, "{more}");
    }
    let clear = format!("localhost:{}", desk.clear.port);
    for line in [
        format!("GET http://{clear}/v1/count HTTP/1.1"),
        format!("GET http://localhost:{port}/v1/count HTTP/1.1"),
    ] {
        let host = line.split(['/', ' ']).nth(3).unwrap().to_owned();
        let status = status(&line, &format!("host: {host}\r\n"));
        assert_eq!(status, 403, "{line}: not by that name, nor without TLS");
    }
    assert_eq!(
        status(
            &format!("GET https://localhost:{port}/v1/count HTTP/1.1"),
            &host
        ),
        400
    );
    assert_eq!(desk.seen(&desk.crm) + desk.seen(&desk.hidden), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_connect_belongs_to_the_tunnel_or_to_nobody() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let auth = format!("proxy-authorization: Bearer {token}\r\n");
    let clear = format!("127.0.0.1:{}", desk.clear.port);
    let behind = format!("GET http://{clear}/v1/count HTTP/1.1\r\nhost: {clear}\r\n{auth}\r\n");
    for refused in [local(&desk.hidden), local(&desk.narrow)] {
        let request =
            format!("CONNECT {refused} HTTP/1.1\r\nhost: {refused}\r\n{auth}\r\n{behind}");
        let mut stream = send(&desk.proxy, request.as_bytes());
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        assert!(all.starts_with("HTTP/1.1 403"), "{all}");
        assert_eq!(
            all.matches("HTTP/1.1").count(),
            1,
            "one answer, then the end: {all}"
        );
    }
    assert_eq!(desk.seen(&desk.clear), 0);
    // Behind one that is opened, the same bytes are a request inside, which names a path and nothing else.
    let request = format!("CONNECT {clear} HTTP/1.1\r\nhost: {clear}\r\n{auth}\r\n{behind}");
    let mut stream = send(&desk.proxy, request.as_bytes());
    assert_eq!(head(&mut stream).status, 200);
    assert_eq!(answer(&mut stream).0, 400);
    assert_eq!(desk.seen(&desk.clear), 0);
}
