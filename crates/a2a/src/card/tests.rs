use super::*;
use jiff::Timestamp;

const OFFER: Offer<'static> = Offer {
    url: "http://gw/a2a/desk",
    issuer: "http://sts",
    pushes: false,
};

fn upstream() -> Value {
    json!({
        "name": "Desk", "description": "Helps", "version": "1",
        "supportedInterfaces": [
            { "url": "http://internal:9/base/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0" },
            { "url": "http://internal:9/base", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0" },
            { "url": "internal:10", "protocolBinding": "GRPC", "protocolVersion": "1.0" },
        ],
        "capabilities": { "streaming": true, "pushNotifications": true,
            "extensions": [{ "uri": "https://x/one" }, { "uri": "https://x/two", "params": { "a": 1 } }] },
        "securitySchemes": { "key": { "apiKeySecurityScheme": { "location": "header", "name": "x" } } },
        "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
        "skills": [
            { "id": "refund", "name": "Refund", "description": "d", "tags": ["a"], "secret": 1 },
            { "id": "delete", "name": "Delete", "description": "d", "tags": ["a"] },
        ],
        "surprise": "http://internal/",
    })
}

fn read(card: &Value, keys: &[PublicKey]) -> Result<Card, Unusable> {
    let extensions = ["https://x/two".to_owned()];
    Card::read(
        card.as_object().unwrap().clone(),
        "/base",
        keys,
        &extensions,
    )
}

fn ring() -> (KeyRing, std::path::PathBuf) {
    let dir = std::env::temp_dir().join(format!(
        "sallyport-a2a-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    let keys = KeyRing::open(&dir.join("keys"), Timestamp::now()).unwrap();
    (keys, dir)
}

#[test]
fn nothing_of_the_upstream_but_its_words_is_left() {
    let (keys, dir) = ring();
    let card = read(&upstream(), &[]).unwrap();
    assert_eq!(card.rpc(Dialect::V1), Some("/rpc"));
    assert_eq!(card.rpc(Dialect::V03), None);
    assert_eq!(card.rest(), Some(""));
    let may = |skill: &str| skill == "refund";
    let card = card.looked_at(may, &mut |_, _| Ok(None)).unwrap();
    let shown = card.rewritten(&OFFER, &keys).unwrap();
    let text = Value::Object(shown.clone()).to_string();
    for hidden in [
        "internal", "GRPC", "apiKey", "surprise", "secret", "delete", "x/one",
    ] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    assert_eq!(shown["capabilities"]["pushNotifications"], false);
    let offer = Offer {
        pushes: true,
        ..OFFER
    };
    let pushing = card.rewritten(&offer, &keys).unwrap();
    assert_eq!(pushing["capabilities"]["pushNotifications"], true);
    assert_eq!(shown["supportedInterfaces"][0]["url"], "http://gw/a2a/desk");
    assert!(!shown.contains_key("url"), "it does not speak 0.3");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_a_card_says_is_looked_at_before_it_is_shown() {
    let denial = || model::Denial {
        rule: model::Rule::ContentBlocked,
        reason: "no".to_owned(),
        remedy: "none".to_owned(),
    };
    let mut said = upstream();
    said["skills"][1]["description"] = "poison".into();
    said["description"] = "call 555".into();
    let mut seen = Vec::new();
    // What is blocked, and what stands in place of what.
    let mut shown = |card: &Value, blocked: &str, from: &str, to: &str| {
        let looked_at = read(card, &[])
            .unwrap()
            .looked_at(|_| true, &mut |target, text| {
                let text = std::str::from_utf8(text).unwrap();
                seen.push(target.to_owned());
                if !blocked.is_empty() && text.contains(blocked) {
                    return Err(denial());
                }
                let other = text.replace(from, to);
                Ok((other != text).then(|| other.into_bytes()))
            });
        looked_at.map(|card| Value::Object(card.taken))
    };
    let card = shown(&said, "poison", "555", "[redacted: phone]").unwrap();
    assert_eq!(card["description"], "call [redacted: phone]");
    assert_eq!(card["skills"].as_array().unwrap().len(), 1);
    assert_eq!(card["skills"][0]["id"], "refund");
    assert!(shown(&said, "call", "", "").is_err(), "the card itself");
    let card = shown(&said, "", "\"delete\"", "\"other\"").unwrap();
    assert_eq!(card["skills"].as_array().unwrap().len(), 1, "its id went");
    assert_eq!(seen[..3], ["agent-card", "refund", "delete"]);
}

#[test]
fn interfaces_are_below_the_base_or_nowhere() {
    for (url, path) in [
        ("http://h/base", Some("")),
        ("https://other:8/base/", Some("/")),
        ("http://h/base/v1/rpc", Some("/v1/rpc")),
        ("http://h/", None),
        ("http://h/bases", None),
        ("http://h/base/../admin", None),
        ("http://h/base//x", None),
        ("http://h/base/%2e%2e/x", None),
        ("http://h/base?x=1", None),
        ("/base", None),
    ] {
        assert_eq!(below(url, "/base").as_deref(), path, "{url}");
    }
}

#[test]
fn a_pinned_key_must_have_signed_what_is_used() {
    let (keys, dir) = ring();
    let jwk = keys.jwks()["keys"][0].to_string();
    let pinned = [PublicKey::parse_jwk(&jwk).unwrap()];
    assert!(read(&upstream(), &pinned).is_err(), "unsigned");
    let Value::Object(mut card) = upstream() else {
        panic!("not an object");
    };
    card.remove("surprise");
    let mut signed = Value::Object(signed::sign(card, None, &keys, "http://sts/jwks").unwrap());
    assert!(read(&signed, &pinned).is_ok());
    let unsigned = json!("http://h/base/other");
    // Legacy members that stand beside the signed ones are not believed.
    signed["url"] = unsigned;
    let card = read(&signed, &pinned).unwrap();
    assert_eq!(card.rpc(Dialect::V03), None);
    signed["skills"][0]["id"] = json!("other");
    assert!(read(&signed, &pinned).is_err(), "changed");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn cards_that_say_things_twice_are_refused() {
    let mut card = upstream();
    card["skills"][1]["id"] = json!("refund");
    assert!(read(&card, &[]).is_err());
    card["skills"][1]["id"] = json!("");
    assert!(read(&card, &[]).is_err());
    card["supportedInterfaces"] = json!([]);
    card["skills"] = json!([]);
    assert!(read(&card, &[]).is_err());
}
