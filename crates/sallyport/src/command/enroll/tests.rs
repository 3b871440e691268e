use serde_json::json;

use super::*;
use crate::connect::tests::fake::{Fake, Reply, json_reply};

fn args(control: &str, dir: &Path) -> Args {
    Args {
        token: Some("spe_secret\n".to_owned()),
        token_file: None,
        control: control.to_owned(),
        instance: Some(dir.to_owned()),
        ca: None,
    }
}

async fn enrol(args: Args) -> Result<(), Failure> {
    tokio::task::spawn_blocking(move || run(&args))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_made_here_and_only_its_public_half_is_sent() {
    let fake = Fake::start(|_| {
        json_reply(&json!({
            "id": "inst_0190b6a0000070008000000000000000",
            "agent": "triage",
            "control": "http://127.0.0.1:8600",
            "gateway": "http://127.0.0.1:8601",
        }))
        .with_status(201)
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("instance");
    enrol(args(fake.url(), &dir)).await.unwrap();
    let (about, key) = InstanceFolder::open(&dir).unwrap();
    assert_eq!(about.agent.to_string(), "triage");
    let sent = &fake.seen("POST", "/v1/enroll")[0];
    assert_eq!(sent.body["token"], "spe_secret");
    assert_eq!(sent.body["public_jwk"], key.public_jwk());
    assert!(sent.body["public_jwk"].get("d").is_none());
    // A second time would need another folder, and uses up no token.
    assert!(enrol(args(fake.url(), &dir)).await.is_err());
    assert_eq!(fake.seen("POST", "/v1/enroll").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_explained_and_leaves_nothing_behind() {
    let fake = Fake::start(|_| {
        json_reply(&json!({ "detail": "the token was used", "remedy": "make a new one" }))
            .with_status(403)
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("instance");
    let failure = enrol(args(fake.url(), &dir)).await.unwrap_err();
    assert!(failure.message().contains("the token was used"));
    assert_eq!(failure.remedy(), Some("make a new one"));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_in_clear_or_without_a_token() {
    let fake = Fake::start(|_| Reply::status(500)).await;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("instance");
    let clear = enrol(args("http://sallyport.example.org:8600", &dir))
        .await
        .unwrap_err();
    assert!(clear.message().contains("plain HTTP"));
    let other = Args {
        token: Some("spo_operator".to_owned()),
        ..args(fake.url(), &dir)
    };
    assert!(enrol(other).await.unwrap_err().message().contains("spe_"));
    let path = home.path().join("token");
    std::fs::write(&path, "spe_filed\n").unwrap();
    let filed = Args {
        token: None,
        token_file: Some(path),
        ..args(fake.url(), &dir)
    };
    assert!(enrol(filed).await.is_err());
    let sent = fake.seen("POST", "/v1/enroll");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].body["token"], "spe_filed");
}
