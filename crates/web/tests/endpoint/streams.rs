//! Answers that are looked at while they pass.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;

use crate::support::*;

const GONE: &str = "[redacted: github-token]";

/// A stream in pieces of this size.
fn stream(kind: &str, whole: &str, size: usize) -> Vec<Step> {
    let mut steps = vec![chunked(kind, "etag: \"1\"\r\n")];
    steps.extend(whole.as_bytes().chunks(size).map(chunk));
    steps.push(last_chunk());
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_split_over_chunks_is_taken_out() {
    let secret = secret();
    for kind in ["text/event-stream", "application/x-ndjson"] {
        let whole = format!("data: {{\"k\":\"{secret}\"}}\n\ndata: {{\"end\":true}}\n\n");
        for size in [1, 5, 17, 4_000] {
            let api = Api::answering(stream(kind, &whole, size)).await;
            let gateway = Gateway::before(&api, "", "").await;
            let got = gateway.get().await;
            assert!(got.complete);
            assert_eq!(got.text(), whole.replace(&secret, GONE), "{kind} {size}");
            assert_eq!((got.header("etag"), got.header("content-length")), ("", ""));
            assert_eq!(gateway.found(), ["secret-github-token"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_leaves_when_it_is_complete_and_a_canary_ends_the_stream() {
    let steps = vec![
        chunked("text/event-stream", ""),
        chunk("data: one\n\n"),
        Step::Wait(Duration::from_millis(300)),
        chunk(format!("data: {}", &CANARY[..9])),
        Step::Wait(Duration::from_millis(1_500)),
        chunk(format!("{}\n\n", &CANARY[9..])),
        Step::Forever("b\r\ndata: two\n\n\r\n".into()),
    ];
    let api = Api::answering(steps).await;
    let gateway = Gateway::before(&api, "", "").await;
    let request = Request::get(gateway.url("/x"));
    let mut answer = gateway.begin(request, "").await;
    let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: one\n\n");
    let rest = read(answer).await;
    assert!(!rest.complete, "half an answer does not look whole");
    assert_eq!(rest.text(), "", "nothing of it left");
    assert_eq!(gateway.found(), ["canary"]);
    let results = gateway.results().await;
    assert_eq!(
        (&results[0]["ended"], &results[0]["notes"]["blocked"]),
        (&"cut".into(), &"http-answer".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_comes_bit_by_bit_is_not_waited_for() {
    let steps = vec![
        chunked("text/plain", ""),
        chunk("so far, so go"),
        Step::Wait(Duration::from_secs(60)),
    ];
    let api = Api::answering(steps).await;
    let gateway = Gateway::before(&api, "", "").await;
    let mut answer = gateway.begin(Request::get(gateway.url("/x")), "").await;
    let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "so far, so ", "half a word waits for its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_passes_through_a_window() {
    let secret = secret();
    let filler = "lorem ipsum dolor\n".repeat(80_000);
    let whole = format!("{filler}{secret}\n{filler}");
    let api = Api::answering(answer("text/plain", "etag: \"1\"\r\n", &whole)).await;
    let gateway = Gateway::before(&api, "", "").await;
    let got = gateway.get().await;
    assert!(got.complete && got.text() == whole.replace(&secret, GONE));
    assert_eq!((got.header("content-length"), got.header("etag")), ("", ""));
    assert_eq!(gateway.found(), ["secret-github-token"]);
    // Where it has to be looked at as a whole, a line without end is none that could be.
    let line = "a".repeat(3 << 20);
    let api = Api::answering(answer("text/plain", "", &line)).await;
    let gateway = Gateway::before(&api, "", "unscanned = \"block\"").await;
    let got = gateway.get().await;
    assert_eq!(
        (got.status.as_u16(), got.rule()),
        (403, "content_blocked".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_keeps_its_length_since_nothing_is_taken_out_of_it() {
    let noise: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let api = Api::answering(answer("application/zip", "etag: \"1\"\r\n", &noise)).await;
    let gateway = Gateway::before(&api, "", "").await;
    let got = gateway.get().await;
    assert!(got.complete && got.body == noise);
    assert_eq!(
        (got.header("content-length"), got.header("etag")),
        ("3000000", "\"1\"")
    );
    assert_eq!(gateway.found(), ["not-all-scanned"]);
    let mut spoilt = noise;
    spoilt.splice(
        2_000_000..2_000_000,
        format!("\u{0}{}\u{0}", secret()).into_bytes(),
    );
    let api = Api::answering(answer("application/zip", "", &spoilt)).await;
    let gateway = Gateway::before(&api, "", "").await;
    let got = gateway.get().await;
    assert!(
        !got.complete && !got.text().contains(&secret()),
        "it is broken off"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_do_not_pass() {
    let steps = vec![
        chunked("text/event-stream", "trailer: x-late\r\n"),
        chunk("data: one\n\n"),
        Step::Write(format!("0\r\nx-late: {CANARY}\r\n\r\n").into()),
    ];
    let api = Api::answering(steps).await;
    let gateway = Gateway::before(&api, "", "").await;
    let mut answer = gateway
        .begin(Request::get(gateway.url("/x")).header("te", "trailers"), "")
        .await;
    while let Some(frame) = answer.frame().await {
        assert!(frame.unwrap().is_data());
    }
    assert!(gateway.found().is_empty());
}
