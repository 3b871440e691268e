//! Revision 2026-07-28, in which each request stands for itself.

use std::sync::Arc;

use model::config::Limits;
use serde_json::{Value, json};

use crate::support::upstream::{self, event, events, json_reply, result_of, stream};
use crate::support::{Double, Gateway, next};

#[tokio::test]
async fn what_passes_passes_untouched_and_credentials_do_not() {
    let text =
        r#"{"jsonrpc":"2.0", "id":1,"result":{"resultType":"complete","content":[],"x":1.50e0}}"#;
    let double = Double::answering(move |_| async move {
        let mut reply = json_reply(200, &Value::Null);
        *reply.body_mut() = {
            use http_body_util::BodyExt;
            http_body_util::Full::new(bytes::Bytes::from_static(text.as_bytes())).boxed()
        };
        reply
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (headers, body) = crate::support::modern(
        "tools/call",
        json!({ "name": "echo", "arguments": { "n": 1 } }),
    );
    let body = body.replace("\"n\":1", "\"n\" : 1.0e0");
    let mut headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    headers.extend([
        ("cookie", "session=agent-secret"),
        ("x-api-key", "agent-secret"),
        ("baggage", "a=b"),
    ]);
    let answered = gateway
        .raw(gateway.signed(&agent, "POST", &headers), body.clone())
        .await;
    assert_eq!(
        answered.text(),
        text,
        "the answer's bytes are the upstream's"
    );
    assert!(!answered.headers.contains_key("set-cookie"));
    assert!(!answered.headers.contains_key("www-authenticate"));
    let seen = &double.seen()[0];
    assert_eq!(seen.body, body, "the request's bytes are the agent's");
    assert_eq!(seen.headers["authorization"], "Bearer upstream-credential");
    for secret in ["dpop", "cookie", "x-api-key", "baggage"] {
        assert!(!seen.headers.contains_key(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_denied_action_never_reaches_the_upstream() {
    let double = Double::with_result(json!({ "content": [], "resultType": "complete" })).await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let denied = gateway.tool(&agent, "delete_everything", json!({})).await;
    assert_eq!((denied.status.as_u16(), denied.code()), (200, 403));
    assert_eq!(denied.rule(), "not_granted");
    let data = &denied.json()["error"]["data"];
    assert!(
        data["decision"].as_str().unwrap().starts_with("dec_"),
        "{data}"
    );
    assert!(!data["remedy"].as_str().unwrap().is_empty());
    let outside = gateway
        .tool(&agent, "read", json!({ "path": "/etc/passwd" }))
        .await;
    assert_eq!(outside.rule(), "argument_refused");
    let read = gateway
        .call(
            &agent,
            "resources/read",
            json!({ "uri": "file:///etc/passwd" }),
        )
        .await;
    assert_eq!(read.rule(), "not_granted");
    assert_eq!(double.count(), 0);
    let inside = gateway
        .tool(&agent, "read", json!({ "path": "/data/a" }))
        .await;
    assert!(inside.json()["result"].is_object());
    assert_eq!(double.count(), 1);
}

#[tokio::test]
async fn listings_show_what_the_task_may_use() {
    let tools = json!([
        { "name": "read", "inputSchema": { "type": "object", "properties": {
            "path": { "type": "string", "x-mcp-header": "Path" } } } },
        { "name": "delete_everything", "inputSchema": { "type": "object" } },
        { "name": "echo", "inputSchema": { "type": "object", "properties": {
            "bad": { "type": "number", "x-mcp-header": "Bad" } } } },
    ]);
    let result = json!({
        "tools": tools, "resultType": "complete", "ttlMs": 5, "cacheScope": "public",
    });
    for as_stream in [false, true] {
        let result = result.clone();
        let double = Double::answering(move |seen| {
            let message = json!({ "jsonrpc": "2.0", "id": seen.json()["id"], "result": result });
            async move {
                if as_stream {
                    events(&[event(&message)])
                } else {
                    json_reply(200, &message)
                }
            }
        })
        .await;
        let gateway = Gateway::before(&double).await;
        let agent = gateway.agent();
        let listed = gateway.call(&agent, "tools/list", json!({})).await;
        let text = listed.text();
        let message: Value = serde_json::from_str(text.trim_start_matches("data: ")).unwrap();
        let names: Vec<_> = message["result"]["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["read"], "not granted, and not sound, are not shown");
        assert_eq!(message["result"]["cacheScope"], "private");
        // What the listing said is now demanded of calls.
        let call = gateway
            .tool(&agent, "read", json!({ "path": "/data/a" }))
            .await;
        assert_eq!((call.status.as_u16(), call.code()), (400, -32_020));
        assert_eq!(double.count(), 1);
    }
}

#[tokio::test]
async fn streams_pass_event_by_event() {
    let pieces = [
        ": hello\n\n",
        "id: 1\nretry: 10\ndata:\n\n",
        "event: message\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\r\n\r\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":1,\ndata: \"result\":{\"content\":[]}}\n\n",
    ];
    let double =
        Double::answering(move |_| async move { events(&pieces.map(str::to_owned)) }).await;
    let gateway = Gateway::before(&double).await;
    let answered = gateway.tool(&gateway.agent(), "echo", json!({})).await;
    assert_eq!(answered.text(), pieces.concat());
    assert_eq!(answered.headers["content-type"], "text/event-stream");
    assert_eq!(answered.headers["x-accel-buffering"], "no");
}

#[tokio::test]
async fn what_a_server_may_not_say_is_withheld() {
    let double = Double::answering(|_| async move {
        events(&[
            event(&json!({ "jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {} })),
            event(&json!({ "jsonrpc": "2.0", "method": "notifications/made/up" })),
            event(&json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated",
                "params": { "uri": "file:///etc/passwd" } })),
            event(&json!({ "jsonrpc": "2.0", "id": 77, "result": { "other": "agent's" } })),
            event(&json!({ "jsonrpc": "2.0", "id": 1, "result": { "content": [] } })),
        ])
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let answered = gateway.tool(&gateway.agent(), "echo", json!({})).await;
    let expected = event(&json!({ "jsonrpc": "2.0", "id": 1, "result": { "content": [] } }));
    assert_eq!(answered.text(), expected);
}

#[tokio::test]
async fn requests_for_input_are_decided_one_by_one() {
    let double = Double::answering(|seen| async move {
        let only_sampling = seen.json()["params"]["arguments"]["only"] == "sampling";
        let mut requests = json!({
            "s": { "method": "sampling/createMessage", "params": {} },
            "x": { "method": "made/up", "params": {} },
        });
        if !only_sampling {
            requests["e"] = json!({ "method": "elicitation/create", "params": { "a": 1 } });
        }
        result_of(
            &seen,
            &json!({
                "resultType": "input_required", "inputRequests": requests, "requestState": "opaque",
            }),
        )
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let (agent, other) = (gateway.agent(), gateway.agent());
    let asked = gateway.tool(&agent, "echo", json!({})).await.json();
    let requests = asked["result"]["inputRequests"].as_object().unwrap();
    assert_eq!(
        requests.keys().collect::<Vec<_>>(),
        ["e"],
        "sampling is not granted"
    );
    let refused = gateway
        .tool(&agent, "echo", json!({ "only": "sampling" }))
        .await;
    assert_eq!(refused.rule(), "not_granted");

    let retry = json!({ "name": "echo", "arguments": {}, "requestState": "opaque",
        "inputResponses": { "e": {} } });
    let before = double.count();
    let stolen = gateway.call(&other, "tools/call", retry.clone()).await;
    assert_eq!((stolen.status.as_u16(), stolen.code()), (400, -32_602));
    let mut tampered = retry.clone();
    tampered["requestState"] = json!("opaque-tampered");
    assert_eq!(
        gateway.call(&agent, "tools/call", tampered).await.code(),
        -32_602
    );
    assert_eq!(double.count(), before, "neither reached the upstream");
    assert!(gateway.call(&agent, "tools/call", retry).await.json()["result"].is_object());
}

#[tokio::test]
async fn tasks_of_a_server_belong_to_whom_they_were_given() {
    let double = Double::answering(|seen| async move {
        let result = match seen.json()["method"].as_str().unwrap() {
            "tools/call" => json!({ "resultType": "task", "taskId": "t-1", "status": "working" }),
            _ => json!({ "resultType": "complete", "taskId": "t-1", "status": "working" }),
        };
        result_of(&seen, &result)
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let (agent, other) = (gateway.agent(), gateway.agent());
    let get = json!({ "taskId": "t-1" });
    let early = gateway.call(&agent, "tasks/get", get.clone()).await;
    assert_eq!(
        (early.status.as_u16(), early.code()),
        (400, -32_021),
        "no extension declared"
    );
    gateway.tool(&agent, "echo", json!({})).await;
    assert!(gateway.call(&agent, "tasks/get", get.clone()).await.json()["result"].is_object());
    assert!(gateway.call(&other, "tasks/get", get).await.json()["error"].is_object());
    assert_eq!(double.count(), 2);
}

#[tokio::test]
async fn errors_of_the_protocol_pass_and_others_are_neutral() {
    let double = Double::answering(|seen| async move {
        let id = seen.json()["id"].clone();
        let error =
            |code| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": "m" } });
        match seen.json()["params"]["arguments"]["case"].as_u64().unwrap() {
            0 => json_reply(400, &error(-32_602)),
            1 => json_reply(404, &error(-32_601)),
            2 => json_reply(401, &error(-32_000)),
            3 => json_reply(500, &json!("stack trace at /srv/secret")),
            4 => upstream::empty(http::StatusCode::ACCEPTED),
            5 => json_reply(200, &json!({ "jsonrpc": "2.0", "id": 99, "result": {} })),
            _ => json_reply(
                400,
                &json!({ "error": { "code": -32_000, "message": "old" }, "id": null }),
            ),
        }
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    for (case, status, code) in [
        (0, 400, -32_602),
        (1, 404, -32_601),
        (2, 502, 502),
        (3, 502, 502),
        (4, 502, 502),
        (5, 502, 502),
        (6, 400, -32_000),
    ] {
        let answered = gateway.tool(&agent, "echo", json!({ "case": case })).await;
        assert_eq!(
            (answered.status.as_u16(), answered.code()),
            (status, code),
            "case {case}"
        );
        assert!(!answered.text().contains("secret"), "case {case}");
        assert!(
            !answered.headers.contains_key("www-authenticate"),
            "case {case}"
        );
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_with_an_error() {
    let double = Double::answering(|seen| async move {
        if seen.json()["params"]["arguments"]["stream"] == true {
            let (sender, reply) = stream();
            for _ in 0..100 {
                sender
                    .send(format!("data: {}\n", "x".repeat(1_000)))
                    .unwrap();
            }
            std::mem::forget(sender);
            reply
        } else {
            result_of(&seen, &json!({ "content": "x".repeat(100_000) }))
        }
    })
    .await;
    let limits = Limits {
        response_bytes: 10_000,
        ..Limits::default()
    };
    let gateway = Gateway::with(&double, limits).await;
    let agent = gateway.agent();
    let whole = gateway.tool(&agent, "echo", json!({})).await;
    assert_eq!((whole.status.as_u16(), whole.code()), (502, 502));
    let streamed = gateway
        .tool(&agent, "echo", json!({ "stream": true }))
        .await;
    assert!(
        streamed.text().contains("more than 10000 bytes"),
        "{}",
        streamed.text()
    );
}

#[tokio::test]
async fn streams_of_a_task_are_counted_and_closed_ones_are_not() {
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    let double = Double::answering(move |seen| {
        let (sender, reply) = stream();
        let id = seen.json()["id"].clone();
        sender
            .send(event(&json!({ "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": { "_meta": { "io.modelcontextprotocol/subscriptionId": id } } })))
            .unwrap();
        held.lock().unwrap().push(sender);
        async move { reply }
    })
    .await;
    let limits = Limits {
        streams_per_task: 2,
        ..Limits::default()
    };
    let gateway = Gateway::with(&double, limits).await;
    let agent = gateway.agent();
    let listen = || async {
        let params = json!({ "notifications": { "toolsListChanged": true } });
        let (headers, body) = crate::support::modern("subscriptions/listen", params);
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        gateway
            .send(
                http::Method::POST,
                gateway.signed(&agent, "POST", &headers),
                body.into(),
            )
            .await
    };
    let mut first = listen().await;
    assert!(next(first.body_mut()).await.contains("acknowledged"));
    let second = listen().await;
    assert_eq!(listen().await.status(), 429);
    drop(second);
    for _ in 0..200 {
        if listen().await.status() == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("a closed stream is still counted");
}
