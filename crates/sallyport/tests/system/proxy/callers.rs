//! Who gets in, and what is said in a tunnel: another token, another task, another host.

use std::io::{Read as _, Write as _};

use super::{Desk, basic, local};
use crate::support::http::Call;
use crate::support::tunnels::{answer, encrypt, head, send};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token_made_for_the_proxy() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let other = desk.task().await;
    let token = desk.token(&task, false).await;
    let target = local(&desk.crm);
    let with = |header: &str| {
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{header}\r\n");
        head(&mut send(&desk.proxy, request.as_bytes()))
    };
    let show = |value: &str| with(&format!("proxy-authorization: {value}\r\n"));
    let none = with("");
    assert_eq!(none.status, 407, "{none:?}");
    let text = none.text.to_ascii_lowercase();
    for scheme in [
        "basic realm=",
        "bearer resource_metadata=",
        "dpop resource_metadata=",
    ] {
        assert!(
            text.contains(&format!("proxy-authenticate: {scheme}")),
            "{none:?}"
        );
    }
    assert!(text.contains("connection: close"), "{none:?}");
    let metadata = Call::get(&format!(
        "{}/.well-known/oauth-protected-resource",
        desk.url()
    ));
    let metadata = metadata.send().await.unwrap().json();
    assert_eq!(metadata["resource"], desk.url());
    assert_eq!(metadata["authorization_servers"][0], desk.gateway.control);

    let server = desk.agent.token_of_kind("http", "crm", &task, false).await;
    for bad in [
        "Bearer x".to_owned(),
        basic("agent", "x"),
        // One for a server at the gateway, and one of a task that the user name does not name.
        format!("Bearer {}", server.text),
        basic(&other, &token),
    ] {
        assert_eq!(show(&bad).status, 407, "{bad}");
    }
    // And the other way round.
    let at_gateway = Call::get(&format!("{}/customers/7", server.resource))
        .header("authorization", &format!("Bearer {token}"))
        .send()
        .await
        .unwrap();
    assert_eq!(at_gateway.status, 401);
    for good in [
        format!("Bearer {token}"),
        basic("", &token),
        basic("anyone", &token),
        basic(&task, &token),
    ] {
        assert_eq!(show(&good).status, 200, "{good}");
    }

    // Bound to the key: the proof is for this tunnel, and good once.
    let bound = desk.token(&task, true).await;
    let proved = |htu: &str, method: &str| {
        let proof = desk
            .agent
            .proof(method, &format!("{}/{htu}", desk.url()), Some(&bound));
        format!("proxy-authorization: DPoP {bound}\r\ndpop: {proof}\r\n")
    };
    assert_eq!(show(&format!("Bearer {bound}")).status, 407);
    assert_eq!(show(&basic("agent", &bound)).status, 407);
    assert_eq!(show(&format!("DPoP {bound}")).status, 407);
    assert_eq!(with(&proved(&local(&desk.hidden), "CONNECT")).status, 407);
    assert_eq!(with(&proved(&target, "GET")).status, 407);
    let once = proved(&target, "CONNECT");
    assert_eq!(with(&once).status, 200);
    assert_eq!(with(&once).status, 407, "a proof is good once");
    assert_eq!(desk.seen(&desk.crm), 0);
    let clear = format!("127.0.0.1:{}", desk.clear.port);
    let request = format!("GET http://{clear}/v1/count HTTP/1.1\r\nhost: {clear}\r\n\r\n");
    assert_eq!(head(&mut send(&desk.proxy, request.as_bytes())).status, 407);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_looked_into_is_for_one_host_and_one_task() {
    let desk = Desk::new().await;
    let (mine, theirs) = (desk.task().await, desk.task().await);
    let (token, foreign) = (
        desk.token(&mine, false).await,
        desk.token(&theirs, false).await,
    );
    let trusted = desk.authority(&token).await;
    assert_eq!(trusted.header("content-type"), "application/x-pem-file");
    let others = desk.authority(&foreign).await;
    assert_ne!(trusted.body, others.body);
    let target = local(&desk.crm);
    // The authority of another task, and the API's own, are not trusted for this one.
    for (token, roots) in [
        (&foreign, &trusted.body[..]),
        (&token, &others.body[..]),
        (&token, &std::fs::read(desk.pki.authority()).unwrap()[..]),
    ] {
        let (_, stream) = desk.connect(&target, token);
        assert!(encrypt(stream, roots, "localhost").is_err());
    }
    // TLS for another host.
    let (_, stream) = desk.connect(&target, &token);
    assert!(encrypt(stream, &trusted.body, "evil.example").is_err());
    let (_, mut stream) = desk.connect(&target, &token);
    stream
        .write_all(b"GET /v1/count HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));

    let ask = |line: &str, headers: &str| {
        let (opened, stream) = desk.connect(&target, &token);
        assert_eq!(opened.status, 200, "{opened:?}");
        let mut stream = encrypt(stream, &trusted.body, "localhost").unwrap();
        write!(stream, "{line} HTTP/1.1\r\n{headers}\r\n").unwrap();
        answer(&mut stream)
    };
    let host = format!("host: {target}\r\n");
    for (line, headers, expected) in [
        ("GET /v1/count", "host: evil.example\r\n".to_owned(), 421),
        ("GET /v1/count", "host: localhost\r\n".to_owned(), 421),
        ("GET /v1/count", format!("{host}{host}"), 421),
        ("GET http://evil.example/v1/count", host.clone(), 400),
        ("GET https://localhost/v1/count", host.clone(), 400),
        ("CONNECT evil.example:443", host.clone(), 400),
        ("GET /count", host.clone(), 404),
        ("GET /v2/count", host.clone(), 404),
        ("GET /v1/../v1/count", host.clone(), 400),
        ("GET /%76%31/count", host.clone(), 404),
        ("GET //v1/count", host.clone(), 404),
        ("GET /v1/Count", host.clone(), 400),
        ("DELETE /v1/customers/7", host.clone(), 403),
        ("GET /v1/count", host.clone(), 200),
    ] {
        let (status, body) = ask(line, &headers);
        assert_eq!(status, expected, "{line} {headers}: {body}");
    }
    assert_eq!(desk.seen(&desk.crm), 1);
    // Two requests behind each other in one tunnel are two decisions.
    let (_, stream) = desk.connect(&target, &token);
    let mut stream = encrypt(stream, &trusted.body, "localhost").unwrap();
    write!(
        stream,
        "GET /v1/customers/7 HTTP/1.1\r\n{host}\r\nGET /v1/customers/8 HTTP/1.1\r\n{host}\r\n"
    )
    .unwrap();
    assert_eq!(answer(&mut stream).0, 200);
    assert_eq!(answer(&mut stream).0, 403);
}
