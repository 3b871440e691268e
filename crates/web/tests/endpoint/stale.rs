//! Connections that the API closes just when they are used again.

use crate::support::*;

/// Answers the first request of its first connections, and closes them when the second one comes.
async fn forgetful(connections: usize, before: &'static str) -> Api {
    Api::new(move |number| {
        let fine = answer("text/plain", "", "fine");
        let mut closing = vec![Step::Close];
        if !before.is_empty() {
            closing.insert(0, Step::Write(before.into()));
        }
        match number < connections {
            true => vec![fine, closing],
            false => vec![fine.clone(), fine],
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_repeated_is_asked_once_more_over_a_fresh_connection() {
    for method in ["GET", "PUT"] {
        let api = forgetful(1, "").await;
        let gateway = Gateway::before(&api, "", "").await;
        let body = if method == "PUT" { "{\"a\":1}" } else { "" };
        assert_eq!(gateway.send(method, body).await.status.as_u16(), 200);
        let got = gateway.send(method, body).await;
        assert_eq!(
            (got.status.as_u16(), got.text().as_str()),
            (200, "fine"),
            "{method}"
        );
        let line = format!("{method} /v1/x HTTP/1.1");
        let asked: Vec<(usize, String)> = [0, 0, 1].map(|number| (number, line.clone())).into();
        assert_eq!(api.asked(), asked);
        let requests = api.requests.lock().clone();
        assert_eq!(requests[1].1, requests[2].1, "the same request");
        let results = gateway.results().await;
        assert_eq!(results.len(), 2, "one intent, one result");
        assert!(results[0]["notes"].get("retried").is_none());
        assert_eq!(
            results[1]["notes"]["retried"],
            "the connection had been closed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_repeated_is_not() {
    let api = forgetful(1, "").await;
    let gateway = Gateway::before(&api, "", "").await;
    assert_eq!(gateway.send("POST", "{}").await.status.as_u16(), 200);
    let got = gateway.send("POST", "{}").await;
    assert_eq!(got.status.as_u16(), 502);
    assert_eq!(
        got.header("proxy-status"),
        "sallyport; error=destination_unavailable"
    );
    assert_eq!(api.asked().len(), 2);
    assert_eq!(gateway.results().await[1]["ended"], "upstream_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_once_more_and_not_again() {
    // Connections are closed as soon as they are made: the first one does not count as kept.
    let api = Api::new(|number| match number {
        0 => vec![answer("text/plain", "", "fine"), vec![Step::Close]],
        _ => vec![vec![Step::Close]],
    })
    .await;
    let gateway = Gateway::before(&api, "", "").await;
    assert_eq!(gateway.get().await.status.as_u16(), 200);
    assert_eq!(gateway.get().await.status.as_u16(), 502);
    assert_eq!(api.asked().len(), 3);
    assert_eq!(gateway.get().await.status.as_u16(), 502);
    assert_eq!(
        api.asked().len(),
        4,
        "a new connection that fails is no kept one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_is_an_answer() {
    let api = forgetful(1, "HTTP/1.1 200 O").await;
    let gateway = Gateway::before(&api, "", "").await;
    assert_eq!(gateway.get().await.status.as_u16(), 200);
    assert_eq!(gateway.get().await.status.as_u16(), 502);
    assert_eq!(api.asked().len(), 2);
}
