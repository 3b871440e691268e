//! Answers that are looked at as a whole.

use http::Request;

use crate::support::*;

const GONE: &str = "[redacted: github-token]";

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_taken_out_and_the_rest_is_as_it_was() {
    let secret = secret();
    let json = format!(r#"{{ "n": 1.50, "k": "{secret}", "more": ["a"] }}"#);
    let head = "etag: \"1\"\r\ncontent-md5: x\r\naccept-ranges: bytes\r\nx-own: 1\r\n";
    let api = Api::answering(answer("application/json", head, &json)).await;
    let gateway = Gateway::before(&api, "", "").await;
    let got = gateway.get().await;
    assert_eq!(got.text(), json.replace(&secret, GONE));
    assert_eq!(got.header("content-length"), got.body.len().to_string());
    for gone in ["etag", "content-md5", "accept-ranges"] {
        assert_eq!(got.header(gone), "", "{gone}: it is about another answer");
    }
    assert_eq!((got.header("x-own"), got.status.as_u16()), ("1", 200));
    assert_eq!(gateway.found(), ["secret-github-token"]);
    let results = gateway.results().await;
    assert_eq!(
        (&results[0]["ended"], &results[0]["notes"]["redacted"]),
        (&"answered".into(), &true.into())
    );
    assert_eq!(results[0]["bytes"], got.body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_harmless_passes_byte_for_byte_with_its_headers() {
    let body = b"{\"n\": 1.50,\r\n \"t\": \"caf\\u00e9\" }  ";
    let head = "etag: \"1\"\r\ncontent-md5: x\r\n";
    let api = Api::answering(answer("application/json", head, body)).await;
    let gateway = Gateway::before(&api, "", "").await;
    let got = gateway.get().await;
    assert_eq!(got.body, &body[..]);
    assert_eq!(
        (got.header("etag"), got.header("content-md5")),
        ("\"1\"", "x")
    );
    assert_eq!(got.header("content-length"), body.len().to_string());
    assert!(gateway.found().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_blocked_wherever_it_is() {
    for (kind, head, body) in [
        (
            "application/json",
            String::new(),
            format!(r#"{{"k":"{CANARY}"}}"#),
        ),
        (
            "image/png",
            String::new(),
            format!("\u{0}\u{1}{CANARY}\u{0}"),
        ),
        ("text/html", String::new(), format!("<!-- {CANARY} -->")),
        (
            "text/plain",
            format!("x-trace: {CANARY}\r\n"),
            "harmless".to_owned(),
        ),
        (
            "text/plain",
            format!("{CANARY}: 1\r\n"),
            "harmless".to_owned(),
        ),
    ] {
        let api = Api::answering(answer(kind, &head, &body)).await;
        let gateway = Gateway::before(&api, "", "").await;
        let got = gateway.get().await;
        assert_eq!(
            (got.status.as_u16(), got.rule()),
            (403, "content_blocked".to_owned()),
            "{kind} {head}"
        );
        assert!(!got.text().contains(CANARY) && !format!("{:?}", got.headers).contains(CANARY));
        assert_eq!(
            got.header("proxy-status"),
            "sallyport; error=http_request_denied"
        );
        assert!(gateway.found().contains(&"canary".to_owned()));
        let results = gateway.results().await;
        assert_eq!(results[0]["notes"]["blocked"], "http-answer");
        assert_eq!(
            (&results[0]["ended"], &results[0]["bytes"]),
            (&"upstream_error".into(), &0.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_in_the_status_line_do_not_pass() {
    let bytes = format!("HTTP/1.1 200 {CANARY}\r\ncontent-length: 2\r\n\r\nok");
    let api = Api::answering(vec![Step::Write(bytes.into())]).await;
    let gateway = Gateway::before(&api, "", "").await;
    let request = Request::get(gateway.url("/x"));
    let answer = gateway.begin(request, "").await;
    let phrase = answer.extensions().get::<hyper::ext::ReasonPhrase>();
    assert!(
        phrase.is_none_or(|phrase| phrase.as_bytes() == b"OK"),
        "{phrase:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_with_a_credential_does_not_pass() {
    let secret = secret();
    let head = format!("x-key: {secret}\r\nx-own: 1\r\nlocation: /v1/x?t={secret}\r\n");
    let api = Api::answering(answer("text/plain", &head, "ok")).await;
    let gateway = Gateway::before(&api, "", "").await;
    let got = gateway.get().await;
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "ok"));
    assert_eq!(
        (
            got.header("x-key"),
            got.header("location"),
            got.header("x-own")
        ),
        ("", "", "1")
    );
    assert_eq!(gateway.results().await[0]["notes"]["redacted_headers"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_not_asked_for_and_do_not_pass() {
    // A gzip bomb: nobody opens it.
    let bomb = [
        &b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"[..],
        &[0; 10_000],
    ]
    .concat();
    for coding in [
        "gzip",
        "br",
        "deflate",
        "zstd",
        "identity\r\ncontent-encoding: gzip",
    ] {
        let head = format!("content-encoding: {coding}\r\n");
        let api = Api::answering(answer("application/json", &head, &bomb)).await;
        let gateway = Gateway::before(&api, "", "").await;
        let got = gateway.get().await;
        assert_eq!(got.status.as_u16(), 502, "{coding}");
        assert!(got.text().contains("compressed"), "{}", got.text());
        assert!(
            api.requests.lock()[0]
                .1
                .contains("accept-encoding: identity")
        );
    }
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let api = Api::answering(vec![Step::Write(head.into())]).await;
    let gateway = Gateway::before(&api, "", "").await;
    assert_eq!(gateway.get().await.status.as_u16(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_look_into_is_what_the_configuration_says() {
    let picture = [&b"\x89PNG\r\n\x1a\n"[..], &[0, 1, 2, 0xff, 7].repeat(500)].concat();
    let api = Api::answering(answer("image/png", "", &picture)).await;
    for (more, inspection, status, found) in [
        ("", "", 200, vec!["not-all-scanned"]),
        ("", "unscanned = \"block\"", 403, vec!["not-all-scanned"]),
        (
            "opaque_answers = [\"image/*\"]",
            "unscanned = \"block\"",
            200,
            vec![],
        ),
        (
            "opaque_answers = [\"image/gif\"]",
            "unscanned = \"block\"",
            403,
            vec!["not-all-scanned"],
        ),
    ] {
        let gateway = Gateway::before(&api, more, inspection).await;
        let got = gateway.get().await;
        assert_eq!(got.status.as_u16(), status, "{more} {inspection}");
        assert!(status != 200 || got.body == picture);
        assert_eq!(gateway.found(), found, "{more} {inspection}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_asked_for_only_where_that_is_allowed() {
    let part = "content-range: bytes 0-9/40\r\n";
    let head = |body: &str| {
        let text = format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-type: text/plain\r\n{part}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        vec![Step::Write(text.into())]
    };
    let secret = secret();
    for (more, body, status, asked) in [
        // It was not asked for, so it is none that could be passed on.
        ("", "harmless", 502, false),
        ("ranges = true", "harmless", 206, true),
        // What is left would be another part.
        ("ranges = true", &secret, 403, true),
    ] {
        let api = Api::answering(head(body)).await;
        let gateway = Gateway::before(&api, more, "").await;
        let request = Request::get(gateway.url("/x")).header("range", "bytes=0-9");
        let got = read(gateway.begin(request, "").await).await;
        assert_eq!(got.status.as_u16(), status, "{more} {body}");
        assert_eq!(
            api.requests.lock()[0].1.contains("range: bytes"),
            asked,
            "{more}"
        );
        if status == 206 {
            assert_eq!(
                (got.header("content-range"), got.text().as_str()),
                ("bytes 0-9/40", body)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_keep_their_length_and_their_headers_are_looked_at() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1234\r\netag: \"1\"\r\n\r\n";
    let api = Api::answering(vec![Step::Write(head.into())]).await;
    let gateway = Gateway::before(&api, "", "").await;
    let got = gateway.send("HEAD", "").await;
    assert_eq!(
        (
            got.status.as_u16(),
            got.header("content-length"),
            got.header("etag")
        ),
        (200, "1234", "\"1\"")
    );
    let head = format!("HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\nx-trace: {CANARY}\r\n\r\n");
    let api = Api::answering(vec![Step::Write(head.into())]).await;
    let gateway = Gateway::before(&api, "", "").await;
    assert_eq!(gateway.get().await.status.as_u16(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_policy_leaves_everything_as_it_comes() {
    let secret = secret();
    let api = Api::answering(answer(
        "text/plain",
        &format!("x-key: {secret}\r\n"),
        &secret,
    ))
    .await;
    let off = "rules = false\nsecrets = \"ignore\"\ncanaries = \"ignore\"\nunscanned = \"ignore\"";
    let gateway = Gateway::before(&api, "", off).await;
    let request = Request::get(gateway.url("/x")).header("range", "bytes=0-9");
    let got = read(gateway.begin(request, "").await).await;
    assert_eq!(
        (got.text(), got.header("x-key")),
        (secret.clone(), secret.as_str())
    );
    assert!(api.requests.lock()[0].1.contains("range: bytes"));
    assert!(gateway.found().is_empty());
}
