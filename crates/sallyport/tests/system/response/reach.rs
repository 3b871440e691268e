//! Blast radii: what was touched, and what could have been reached.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_blast_radius_has_what_was_touched_and_what_could_have_been() {
    let desk = Desk::start("").await;
    let (agent, task, token) = desk.clerk("front", "support").await;
    let (other, _, others) = desk.clerk("bystander", "elsewhere").await;
    for _ in 0..3 {
        assert_eq!(get(&agent, &token, "/tag/1").await, 200);
    }
    assert_ne!(get(&agent, &token, "/secret").await, 200);
    assert_eq!(get(&other, &others, "/other").await, 200);
    for of in ["front", &task] {
        let found = desk.gateway.run_json(&["blast-radius", of, "--json"]);
        let touched = found["touched"].as_array().unwrap();
        let tag = touched
            .iter()
            .find(|it| it["target"] == "GET /tag/{n}")
            .unwrap();
        assert_eq!(
            (&tag["calls"], &tag["refused"]),
            (&json!(3), &json!(0)),
            "{found}"
        );
        assert!(touched.iter().any(|it| it["refused"] == 1), "{found}");
        assert!(touched.iter().all(|it| it["agent"] == "front"), "{found}");
        let reachable = found["reachable"].as_array().unwrap();
        let targets: Vec<&str> = reachable
            .iter()
            .map(|it| it["target"].as_str().unwrap())
            .collect();
        for target in ["GET /tag/{n}", "GET /stream", "GET /other"] {
            assert!(targets.contains(&target), "{found}");
        }
        assert!(!targets.contains(&"GET /secret"), "{found}");
        assert!(
            reachable
                .iter()
                .all(|it| it["permitted"] == true && it["segment"] == "core"),
            "{found}"
        );
    }
    let dot = desk.must(&["blast-radius", "front", "--format", "dot"]);
    assert!(
        dot.starts_with("digraph") && dot.contains("GET /tag/{n}"),
        "{dot}"
    );
    let mermaid = desk.must(&["blast-radius", "front", "--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart LR"), "{mermaid}");
    let list = desk.must(&["blast-radius", "front"]);
    assert!(
        list.contains("Touched") && list.contains("Could have reached"),
        "{list}"
    );
    // What is cut off is out of reach; what was touched stays.
    desk.must(&["segment", "isolate", "core"]);
    let found = desk.gateway.run_json(&["blast-radius", "front", "--json"]);
    assert_eq!(found["reachable"], json!([]), "{found}");
    assert!(!found["touched"].as_array().unwrap().is_empty());
    assert!(!desk.gateway.run(&["blast-radius", "typo"]).status.success());
}
