//! The management API: who may do what, lists, tasks, recovery, and what every request must pass.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod common;

use std::time::Duration;

use common::{CONTROL, Plane, borrowed, resource};
use http::StatusCode;
use jiff::Timestamp;
use model::TaskStatus;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn nobody_gets_in_without_the_right_credentials() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let mcp = instance.token(&plane, task, "files").await;
    let answer = instance.ask(&plane, &[("resource", CONTROL)]).await.ok();
    let token = answer["access_token"].as_str().unwrap();
    let path = format!("/v1/tasks/{task}");
    let url = format!("{CONTROL}{path}");
    let operator = format!("Bearer {}", plane.operator);
    let almost = format!("Bearer {}x", plane.operator);
    let as_bearer = format!("Bearer {token}");
    let bound = format!("DPoP {token}");
    let other_audience = format!("DPoP {mcp}");
    let good = instance.proof("GET", &url, Some(token));
    let attacks: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("nothing", vec![]),
        ("an empty one", vec![("authorization", "Bearer ")]),
        (
            "almost the operator's token",
            vec![("authorization", &almost)],
        ),
        (
            "the operator's token as basic",
            vec![("authorization", "Basic eDp5")],
        ),
        (
            "two of them",
            vec![("authorization", &operator), ("authorization", &operator)],
        ),
        (
            "a bound token as bearer",
            vec![("authorization", &as_bearer)],
        ),
        ("no proof", vec![("authorization", &bound)]),
        (
            "two proofs",
            vec![("authorization", &bound), ("dpop", &good), ("dpop", &good)],
        ),
    ];
    for (attack, headers) in attacks {
        let answer = plane.call("GET", &path, &headers, "").await;
        assert_eq!(answer.refusal(), "unauthenticated", "{attack}");
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers.get_all("www-authenticate").iter().count(), 2);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let strange = identity::InstanceKey::generate().unwrap();
    let foreign = strange
        .sign_dpop("GET", &url, Some(token), None, Timestamp::now(), "j")
        .unwrap();
    for (attack, authorization, proof) in [
        (
            "another method",
            &bound,
            instance.proof("POST", &url, Some(token)),
        ),
        (
            "another path",
            &bound,
            instance.proof("GET", &format!("{CONTROL}/v1/tasks"), Some(token)),
        ),
        (
            "another token",
            &bound,
            instance.proof("GET", &url, Some(&mcp)),
        ),
        ("another key", &bound, foreign),
        (
            "another audience",
            &other_audience,
            instance.proof("GET", &url, Some(&mcp)),
        ),
    ] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("dpop", proof.as_str()),
        ];
        let answer = plane.call("GET", &path, &headers, "").await;
        assert_eq!(answer.refusal(), "unauthenticated", "{attack}");
    }
    let headers = [("authorization", bound.as_str()), ("dpop", good.as_str())];
    plane.call("GET", &path, &headers, "").await.ok();
    let replayed = plane.call("GET", &path, &headers, "").await;
    assert_eq!(replayed.refusal(), "unauthenticated", "a replay");
    let form = instance.form(&[("token", token)]);
    plane
        .post_form("/oauth/revoke", &borrowed(&form), None)
        .await
        .ok();
    let proof = instance.proof("GET", &url, Some(token));
    let headers = [("authorization", bound.as_str()), ("dpop", proof.as_str())];
    assert_eq!(
        plane.call("GET", &path, &headers, "").await.refusal(),
        "unauthenticated"
    );
}

#[tokio::test]
async fn an_instance_does_its_own_work_and_nothing_else() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let twin = plane.instance("support-1").await;
    let other = plane.instance("support-2").await;
    let wanted = json!({
        "template": "ticket", "parameters": { "ticket": "4711" }, "purpose": "ticket 4711",
    });
    let opened = instance.manage(&plane, "POST", "/v1/tasks", wanted).await;
    assert_eq!(opened.status, StatusCode::CREATED);
    let opened = opened.ok();
    assert_eq!(opened["instance"], instance.id.to_string());
    assert_eq!(
        opened["grant"]["permissions"][0]["tools"][0]["arguments"]["path"]["below"],
        "/srv/tickets/4711"
    );
    let path = format!("/v1/tasks/{}", opened["id"].as_str().unwrap());
    instance
        .manage(&plane, "GET", &path, Value::Null)
        .await
        .ok();
    for stranger in [&twin, &other] {
        for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/complete"))] {
            let refused = stranger.manage(&plane, method, &path, Value::Null).await;
            assert_eq!(refused.refusal(), "not_found", "{path}");
        }
    }
    for (method, path) in [
        ("GET", "/v1/tasks"),
        ("GET", "/v1/agents"),
        ("GET", "/v1/status"),
        ("GET", "/v1/templates"),
        ("POST", "/v1/agents/support-2/quarantine"),
        ("POST", &format!("{path}/revoke")),
        ("POST", "/v1/servers/files/disable"),
        ("POST", "/v1/keys/rotate"),
        ("POST", "/v1/reload"),
    ] {
        let refused = instance.manage(&plane, method, path, Value::Null).await;
        assert_eq!(refused.refusal(), "forbidden", "{method} {path}");
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
    }
    for for_others in [
        json!({ "template": "open", "agent": "support-2" }),
        json!({ "template": "open", "instance": twin.id }),
    ] {
        let refused = instance
            .manage(&plane, "POST", "/v1/tasks", for_others)
            .await;
        assert_eq!(refused.refusal(), "forbidden");
    }
    let done = instance
        .manage(&plane, "POST", &format!("{path}/complete"), json!({}))
        .await
        .ok();
    assert_eq!(done["status"], "completed");
    let again = instance
        .manage(&plane, "POST", &format!("{path}/complete"), json!({}))
        .await
        .ok();
    assert_eq!(again["ended_at"], done["ended_at"]);
    assert_eq!(plane.changes("task.completed").len(), 1);
}

#[tokio::test]
async fn templates_bind_who_may_open_what() {
    let plane = Plane::new().await;
    let outsider = plane.instance("triage").await;
    let insider = plane.instance("support-1").await;
    let open = json!({ "template": "open" });
    let hidden = outsider.manage(&plane, "POST", "/v1/tasks", open).await;
    let missing = outsider
        .manage(
            &plane,
            "POST",
            "/v1/tasks",
            json!({ "template": "nothing" }),
        )
        .await;
    assert_eq!(
        hidden.refusal(),
        "not_found",
        "an agent learns nothing of others' templates"
    );
    assert_eq!(missing.refusal(), "not_found");
    let told = plane
        .operate(
            "POST",
            "/v1/tasks",
            json!({ "template": "open", "agent": "triage" }),
        )
        .await;
    assert_eq!(told.refusal(), "forbidden", "the operator is told");
    for wrong in [
        json!({ "template": "ticket" }),
        json!({ "template": "ticket", "parameters": { "ticket": "../.." } }),
        json!({ "template": "ticket", "parameters": { "ticket": "1", "more": "2" } }),
        json!({ "template": "open", "ttl_seconds": 1_801 }),
        json!({ "template": "open", "ttl_seconds": 0 }),
        json!({ "template": "open", "purpose": "a bell\u{7}" }),
        json!({ "template": "open", "purpose": "x".repeat(2_001) }),
        json!({ "template": "open", "budget": 9 }),
    ] {
        let refused = insider
            .manage(&plane, "POST", "/v1/tasks", wrong.clone())
            .await;
        assert_eq!(refused.refusal(), "invalid_request", "{wrong}");
    }
    plane.register("support-9").await;
    let early = plane
        .operate(
            "POST",
            "/v1/tasks",
            json!({ "template": "open", "agent": "support-9" }),
        )
        .await;
    assert_eq!(early.refusal(), "conflict", "no instance has enrolled");
    assert!(plane.changes("task.opened").is_empty());
}

#[tokio::test]
async fn open_tasks_are_limited() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let limits = control::Limits {
        open_tasks: 3,
        open_tasks_per_agent: 2,
        ..Default::default()
    };
    let plane = Plane::start(dir, limits).await;
    plane.instance("support-1").await;
    plane.instance("support-2").await;
    plane.instance("support-3").await;
    let first = plane.task("support-1", "open").await;
    plane.task("support-1", "open").await;
    let open = |agent: &str| json!({ "template": "open", "agent": agent });
    let refused = plane.operate("POST", "/v1/tasks", open("support-1")).await;
    assert_eq!(refused.refusal(), "limit_reached");
    plane.task("support-2", "open").await;
    let refused = plane.operate("POST", "/v1/tasks", open("support-3")).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    plane
        .operate("POST", &format!("/v1/tasks/{first}/revoke"), Value::Null)
        .await
        .ok();
    plane.task("support-3", "open").await;
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let plane = Plane::new().await;
    plane.instance("support-1").await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(plane.task("support-1", "open").await.to_string());
    }
    let mut seen = Vec::new();
    let mut path = "/v1/tasks?limit=2&status=open&agent=support-1".to_owned();
    loop {
        let page = plane.operate("GET", &path, Value::Null).await.ok();
        let items = page["items"].as_array().unwrap();
        seen.extend(
            items
                .iter()
                .map(|task| task["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/tasks?limit=2&status=open&agent=support-1&before={next}");
    }
    seen.sort();
    tasks.sort();
    assert_eq!(seen, tasks);
    plane.register("support-2").await;
    let page = plane
        .operate("GET", "/v1/agents?limit=1", Value::Null)
        .await
        .ok();
    assert_eq!(page["next"], "support-2");
    let page = plane
        .operate("GET", "/v1/agents?limit=1&before=support-2", Value::Null)
        .await
        .ok();
    assert_eq!(page["items"][0]["name"], "support-1");
    assert!(page.get("next").is_none());
    let page = plane
        .operate("GET", "/v1/instances?agent=support-2", Value::Null)
        .await
        .ok();
    assert_eq!(page["items"], json!([]));
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "before=x",
        "status=x",
        "nothing=1",
        "agent=a&agent=b",
    ] {
        let refused = plane
            .operate("GET", &format!("/v1/tasks?{bad}"), Value::Null)
            .await;
        assert_eq!(refused.refusal(), "invalid_request", "{bad}");
    }
}

#[tokio::test]
async fn a_restart_restores_what_open_tasks_have_used() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let ended = plane.task("support-1", "open").await;
    plane
        .operate("POST", &format!("/v1/tasks/{ended}/complete"), Value::Null)
        .await
        .ok();
    let token = instance.token(&plane, task, "files").await;
    for _ in 0..3 {
        instance
            .attempt(&plane, task, &token, "/x")
            .await
            .ok()
            .unwrap();
    }
    // Three before a snapshot, two after it: both must come back, none of them twice.
    plane.engine.save_usage().await.unwrap();
    for _ in 0..2 {
        instance
            .attempt(&plane, task, &token, "/x")
            .await
            .ok()
            .unwrap();
    }
    let plane = plane.restart().await;
    let live = plane.engine.live().task(&task).unwrap();
    assert_eq!(live.usage().calls(), 5);
    assert!(plane.engine.live().task(&ended).is_none());
    // Once more without any snapshot in between.
    instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let plane = plane.restart().await;
    assert_eq!(plane.engine.live().task(&task).unwrap().usage().calls(), 6);
    let shown = plane
        .operate("GET", &format!("/v1/tasks/{task}"), Value::Null)
        .await
        .ok();
    assert_eq!(shown["calls"], 6);
}

#[tokio::test]
async fn a_restart_restores_what_actions_used_up_and_what_they_held_back() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    let rows = |rows| model::Spent {
        rows,
        ..model::Spent::default()
    };
    let attempt = || instance.attempt_expecting(&plane, task, &token, "/x", rows(50));
    let mut ended = attempt().await.unwrap();
    ended.spend(rows(3)).unwrap();
    ended.spend(rows(4)).unwrap();
    drop(ended);
    // The process ends before this one does: nobody knows what it used.
    std::mem::forget(attempt().await.unwrap());
    let used = |plane: &Plane| plane.engine.live().task(&task).unwrap().usage().spent();
    assert_eq!(used(&plane), rows(7));
    let plane = plane.restart().await;
    assert_eq!(used(&plane), rows(57));
}

#[tokio::test]
async fn tasks_expire_by_themselves_and_while_nobody_runs() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "brief").await;
    let token = instance.token(&plane, task, "files").await;
    let permit = instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let stop = CancellationToken::new();
    let (engine, stopped) = (std::sync::Arc::clone(&plane.engine), stop.clone());
    let run = tokio::spawn(async move { engine.run(stopped).await });
    tokio::time::timeout(Duration::from_secs(5), permit.signal().cut())
        .await
        .unwrap();
    let asleep = plane.task("support-1", "brief").await;
    stop.cancel();
    run.await.unwrap();
    assert_eq!(plane.changes("task.expired").len(), 1);
    assert_eq!(plane.changes("sallyport.stopped").len(), 1);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let plane = plane.restart().await;
    let stored = plane.engine.store().task(&asleep).await.unwrap().unwrap();
    assert_eq!(stored.status, TaskStatus::Expired);
    assert!(stored.ended_at.is_some());
    assert_eq!(plane.changes("task.expired").len(), 2);
}

#[tokio::test]
async fn a_disabled_server_stays_so_through_reloads_and_restarts() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    plane
        .operate("POST", "/v1/servers/files/disable", Value::Null)
        .await
        .ok();
    assert!(instance.attempt(&plane, task, &token, "/x").await.is_err());
    plane
        .engine
        .reload(plane.operator(), common::setup(common::PERMIT))
        .await
        .unwrap();
    assert!(
        instance.attempt(&plane, task, &token, "/x").await.is_err(),
        "after a reload"
    );
    let plane = plane.restart().await;
    assert!(
        instance.attempt(&plane, task, &token, "/x").await.is_err(),
        "after a restart"
    );
    plane
        .operate("POST", "/v1/servers/files/enable", Value::Null)
        .await
        .ok();
    instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let missing = plane
        .operate("POST", "/v1/servers/nowhere/disable", Value::Null)
        .await;
    assert_eq!(missing.refusal(), "not_found");
}

#[tokio::test]
async fn a_reload_cuts_what_was_decided_by_other_policies() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    let permit = instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let same = plane
        .engine
        .reload(plane.operator(), common::setup(common::PERMIT))
        .await
        .unwrap();
    assert!(!same.cut && !permit.signal().is_cut(), "nothing changed");
    let forbid = format!("{}\nforbid(principal, action, resource);", common::PERMIT);
    let changed = plane
        .engine
        .reload(plane.operator(), common::setup(&forbid))
        .await
        .unwrap();
    assert!(changed.cut && permit.signal().is_cut());
    assert_eq!(plane.changes("setup.reloaded").len(), 2);
    let fewer = control::Setup {
        servers: Default::default(),
        ..common::setup(&forbid)
    };
    plane.engine.reload(plane.operator(), fewer).await.unwrap();
    let gone = instance
        .ask(&plane, &[("resource", &resource(task, "files"))])
        .await;
    assert_eq!(gone.refusal(), "invalid_target");
    plane.break_log().await;
    let refused = plane
        .engine
        .reload(plane.operator(), common::setup(common::PERMIT))
        .await;
    assert!(matches!(
        refused,
        Err(control::EngineError::AuditUnavailable(_))
    ));
    assert!(
        plane.engine.servers().is_empty(),
        "everything stays as it was"
    );
}

#[tokio::test]
async fn keys_rotate_and_old_tokens_stay_good() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    let rotated = plane
        .operate("POST", "/v1/keys/rotate", Value::Null)
        .await
        .ok();
    let keys = plane.call("GET", "/oauth/jwks", &[], "").await.ok();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert_eq!(
        plane.changes("keys.rotated")[0].subject,
        rotated["kid"].as_str().unwrap()
    );
    instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
}

#[tokio::test]
async fn browsers_and_strange_hosts_are_turned_away() {
    let plane = Plane::new().await;
    let bearer = format!("Bearer {}", plane.operator);
    for (method, path) in [
        ("GET", "/v1/status"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
        ("POST", "/oauth/token"),
        ("POST", "/v1/agents"),
    ] {
        let headers = [
            ("origin", "http://127.0.0.1:8600"),
            ("authorization", &*bearer),
        ];
        let answer = plane.call(method, path, &headers, "").await;
        assert_eq!(answer.refusal(), "origin_refused", "{path}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example:8600",
        "10.0.0.1:8600",
        "",
    ] {
        let headers = [("host", host), ("authorization", &*bearer)];
        let answer = plane.call("GET", "/v1/status", &headers, "").await;
        assert_eq!(answer.refusal(), "host_refused", "{host}");
    }
    let headers = [("host", "localhost:8600"), ("authorization", &*bearer)];
    plane.call("GET", "/v1/status", &headers, "").await.ok();
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_a_problem() {
    let plane = Plane::new().await;
    let bearer = format!("Bearer {}", plane.operator);
    let json = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
    ];
    for body in ["{", "null", "{\"name\":\"a\",\"name\":\"b\"}", "\u{0}"] {
        let answer = plane.call("POST", "/v1/agents", &json, body).await;
        assert_eq!(answer.refusal(), "invalid_request", "{body}");
    }
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    let answer = plane.call("POST", "/v1/agents", &json, long).await;
    assert_eq!(
        (answer.status, answer.refusal()),
        (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request")
    );
    let answer = plane.call("POST", "/v1/agents", &json[..1], "{}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = plane.call("GET", "/v1/nothing", &json, "").await;
    assert_eq!(
        (answer.status, answer.refusal()),
        (StatusCode::NOT_FOUND, "not_found")
    );
    let answer = plane.call("DELETE", "/v1/agents", &json, "").await;
    assert_eq!(
        (answer.status, answer.refusal()),
        (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
    );
    for path in [
        "/v1/agents/Nobody",
        "/v1/agents/nobody",
        "/v1/tasks/task_x",
        "/v1/agents/..%2f",
    ] {
        let answer = plane.call("GET", path, &json, "").await;
        assert_eq!(answer.refusal(), "not_found", "{path}");
    }
    let answer = plane.operate("POST", "/v1/reload", Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let plane = Plane::new().await;
    plane.instance("support-1").await;
    plane.task("support-1", "open").await;
    assert_eq!(
        plane.call("GET", "/livez", &[], "").await.body,
        json!("ok\n")
    );
    let ready = plane.call("GET", "/readyz", &[], "").await.ok();
    assert_eq!(ready, json!({ "ready": true, "problems": [] }));
    let metrics = plane.call("GET", "/metrics", &[], "").await.ok();
    assert!(
        metrics
            .as_str()
            .unwrap()
            .contains("sallyport_open_tasks 1\n"),
        "{metrics}"
    );
    let status = plane.operate("GET", "/v1/status", Value::Null).await.ok();
    assert_eq!(
        (&status["open_tasks"], &status["ready"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(status["agents"], json!({ "active": 1 }));
    assert_eq!(status["servers"], json!({ "total": 3, "disabled": 0 }));
    plane.break_store().await;
    let ready = plane.call("GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.body["ready"], false);
    assert!(!ready.body["problems"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn refusals_are_recorded_and_bounded() {
    let plane = Plane::new().await;
    for _ in 0..500 {
        plane
            .call("GET", "/v1/status", &[("authorization", "Bearer x")], "")
            .await;
    }
    plane.control.write_counts();
    plane.break_log().await;
    let records = common::records(&plane.dir.path().join("log"));
    let refusals = records.iter().filter_map(|record| match &record.event {
        model::record::Event::Refusal(refusal) => Some(refusal.times),
        _ => None,
    });
    let refusals: Vec<u64> = refusals.collect();
    assert!(refusals.len() <= 300, "{}", refusals.len());
    assert_eq!(refusals.iter().sum::<u64>(), 500, "every one is told of");
}
