//! Real clients that know of nothing but HTTPS_PROXY, behind `sallyport connect proxy`.

use std::process::Command;

use serde_json::{Value, json};

use super::{Desk, local};
use crate::support::packages;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_know_only_of_proxies_are_decided_request_by_request() {
    let desk = Desk::new().await;
    let home = packages::install("proxy");
    let folder = packages::folder("proxy");
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let python = vec![
        text(home.join("venv/bin/python")),
        text(folder.join("drive.py")),
    ];
    let node = vec![
        text(home.join("node_modules/.bin/node")),
        text(folder.join("drive.mjs")),
        text(home.clone()),
    ];
    let crm = format!("https://{}/v1", local(&desk.crm));
    let clear = format!("http://127.0.0.1:{}/v1", desk.clear.port);
    for (client, program) in [
        ("requests", &python),
        ("httpx", &python),
        ("fetch", &node),
        ("undici", &node),
    ] {
        let plan = json!({ "client": client, "requests": [
            { "url": format!("{crm}/customers/7") },
            { "url": format!("{crm}/customers/8") },
            { "url": format!("{crm}/customers/7"), "method": "DELETE" },
            { "url": format!("https://{}/v1/customers/7", local(&desk.hidden)) },
            { "url": "https://example.invalid/" },
            { "url": format!("https://{}/v1/customers/7", local(&desk.narrow)) },
            { "url": format!("{clear}/customers/7") },
            { "url": format!("{clear}/stream") },
        ]});
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let output = desk.behind_proxy(&program, &plan.to_string());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{client}: {stderr}");
        let results: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let status = |index: usize| results[index]["status"].as_u64();
        let said = |index: usize| results[index].to_string();
        assert_eq!(status(0), Some(200), "{client}: {}", said(0));
        let body: Value = serde_json::from_str(results[0]["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["ssn"], "(redacted)", "{client}");
        let headers = body["received"]["headers"].as_object().unwrap();
        let credential = headers["authorization"].as_str().unwrap();
        assert!(credential.starts_with("Bearer ey"), "{client}: {headers:?}");
        for gone in ["proxy-authorization", "dpop", "proxy-connection"] {
            assert!(!headers.contains_key(gone), "{client}: {headers:?}");
        }
        assert_eq!(status(1), Some(403), "{client}: {}", said(1));
        assert!(
            said(1).contains("argument_refused"),
            "{client}: {}",
            said(1)
        );
        assert_eq!(status(2), Some(403), "{client}: {}", said(2));
        assert!(said(2).contains("not_granted"), "{client}: {}", said(2));
        // What the client makes of a refused CONNECT.
        for index in [3, 4, 5] {
            let error = results[index]["error"].as_str().unwrap_or_default();
            assert!(!error.is_empty(), "{client}: {}", said(index));
        }
        if client == "requests" {
            assert!(
                said(4).contains("403 the task grants no server at `example.invalid:443`"),
                "{}",
                said(4)
            );
            assert!(said(5).contains("an unseen tunnel"), "{}", said(5));
        }
        assert_eq!(status(6), Some(200), "{client}: {}", said(6));
        assert_eq!(status(7), Some(403), "{client}: {}", said(7));
    }
    assert_eq!(desk.seen(&desk.hidden), 0);
    assert_eq!(desk.seen(&desk.narrow), 0);
    assert_eq!(desk.seen(&desk.crm), 4);
    for record in desk.intents("GET /customers/{id}") {
        assert_eq!(record["proof"], "dpop", "{record}");
    }
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_websockets_go_through_it_and_exit_codes_come_back() {
    let desk = Desk::new().await;
    let home = packages::install("proxy");
    let crm = format!("https://{}/v1", local(&desk.crm));
    let curl = |url: &str, more: &[&str]| {
        let program = [&["curl", "-sS", "--fail-with-body"], more, &[url]].concat();
        desk.behind_proxy(&program, "")
    };
    let got = curl(&format!("{crm}/customers/7"), &[]);
    assert!(got.status.success(), "{got:?}");
    assert!(String::from_utf8_lossy(&got.stdout).contains("(redacted)"));
    let refused = curl(&format!("{crm}/customers/8"), &[]);
    assert_eq!(
        refused.status.code(),
        Some(22),
        "curl's own code: {refused:?}"
    );
    assert!(String::from_utf8_lossy(&refused.stdout).contains("argument_refused"));
    let redirected = curl(&format!("{crm}/here"), &["-L"]);
    assert!(redirected.status.success(), "{redirected:?}");
    assert!(String::from_utf8_lossy(&redirected.stdout).contains("/v1/customers/7?x=1"));
    let away = curl(&format!("{crm}/away"), &["-L"]);
    assert!(
        String::from_utf8_lossy(&away.stdout).contains("points elsewhere"),
        "{away:?}"
    );
    // In the clear, as an absolute URL and through a tunnel.
    let clear = format!("http://127.0.0.1:{}/v1/customers/7", desk.clear.port);
    for more in [&[][..], &["--proxytunnel"]] {
        let got = curl(&clear, more);
        assert!(got.status.success(), "{more:?}: {got:?}");
    }
    let socket = json!({ "client": "websockets", "requests": [
        { "url": format!("wss://{}/v1/feed", local(&desk.crm)), "json": "ping" },
        { "url": format!("wss://{}/v1/count", local(&desk.crm)), "json": "ping" },
    ]});
    let python = home.join("venv/bin/python");
    let script = packages::folder("proxy").join("drive.py");
    let program = [python.to_str().unwrap(), script.to_str().unwrap()];
    let output = desk.behind_proxy(&program, &socket.to_string());
    let results: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results[0]["status"], 101, "{results:?}");
    assert_eq!(results[0]["body"], "\"ping\"", "{results:?}");
    assert!(
        results[1]["error"].as_str().unwrap().contains("404"),
        "{results:?}"
    );
    assert_eq!(desk.intents("WEBSOCKET /feed").len(), 1);
    let exit = desk.behind_proxy(&["sh", "-c", "exit 7"], "");
    assert_eq!(exit.status.code(), Some(7));
    let open: Vec<Value> = desk.gateway.run_json(&["task", "list", "--json"])["items"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(open.iter().all(|task| task["status"] != "open"), "{open:?}");
}

/// Python's own client: CONNECT of HTTP/1.0 without a Host, and a verifier that demands all of RFC 5280.
const STRICT: &str = r#"
import base64, http.client, json, ssl, sys
proxy, port, token, authority = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.verify_flags |= ssl.VERIFY_X509_STRICT
client = http.client.HTTPSConnection(proxy, context=context)
basic = base64.b64encode(f"agent:{token}".encode()).decode()
client.set_tunnel("localhost", int(port), {"Proxy-Authorization": f"Basic {basic}"})
client.request("GET", "/v1/customers/7")
print(json.load(client.getresponse())["ssn"])
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_verifier_takes_the_certificate_of_the_task() {
    let desk = Desk::new().await;
    let token = desk.token(&desk.task().await, false).await;
    let file = desk.gateway.dir().join("task-ca.pem");
    std::fs::write(&file, desk.authority(&token).await.body).unwrap();
    let output = Command::new("python3")
        .args([
            "-c",
            STRICT,
            &desk.proxy,
            &desk.crm.port.to_string(),
            &token,
        ])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "(redacted)",
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_proxy_is_encrypted_where_it_must_be() {
    let desk = Desk::encrypted().await;
    let authority = desk.pki.authority();
    let url = format!("https://{}/v1/customers/7", local(&desk.crm));
    let output = desk.behind_proxy_with(
        &["--ca", authority.to_str().unwrap()],
        &["curl", "-sS", "--fail-with-body", &url],
        "",
    );
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("(redacted)"));
    // Without the authority that its certificate is of, nothing is sent there.
    let output = desk.behind_proxy(&["curl", "-sS", &url], "");
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the gateway"),
        "{output:?}"
    );
}
