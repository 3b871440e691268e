use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use model::ServerName;
use model::config::Config;
use model::inspection::Response;
use monitor::content::{Canaries, Canary, Scanner};
use proptest::prelude::*;

use super::*;
use crate::caller::Caller;
use crate::inspection::{Observed, Rules, What};

const CANARY: &str = "kdhgnbvcqwrjpmkfhdgb";
const ALTERABLE: Terms = Terms {
    alterable: true,
    opaque: false,
};

/// A credential as a public service writes it, of nobody.
fn secret() -> String {
    format!(
        "{}{}",
        "gh".to_owned() + "p_",
        "1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P7q8R"
    )
}

/// An inspection, and whose answers it looks at.
struct Desk {
    inspection: Arc<Inspection>,
    caller: Caller,
    server: ServerName,
    findings: tokio::sync::mpsc::Receiver<Observed>,
}

impl Desk {
    fn new(policy: &str) -> Self {
        let inspection = Arc::new(Inspection::default());
        let canary = Canary {
            text: CANARY.to_owned(),
            label: "row 17".to_owned(),
            minted_at: Timestamp::UNIX_EPOCH,
        };
        inspection.set_canaries(Canaries::watch(vec![canary]).unwrap());
        let text = format!("trust_domain = \"a\"\n[inspection]\n{policy}\n");
        let config = Config::parse(std::path::Path::new("x.toml"), &text).unwrap();
        inspection.set_rules(Rules::new(
            Scanner::shared(),
            &config,
            std::collections::BTreeMap::new(),
        ));
        Self {
            caller: Caller::of_nobody(),
            server: "crm".parse().unwrap(),
            findings: inspection.sink().take().unwrap(),
            inspection,
        }
    }

    fn with<R>(&self, act: impl FnOnce(&Arc<Inspection>, &About<'_>) -> R) -> R {
        let about = About {
            what: What::HttpAnswer,
            caller: &self.caller,
            server: &self.server,
            target: "GET /x",
            decision: None,
        };
        act(&self.inspection, &about)
    }

    fn look(&self, kind: &str, terms: Terms, bytes: &[u8]) -> Verdict<Vec<u8>> {
        let media = media(kind);
        self.with(|inspection, about| inspection.body(about, &media, terms, bytes))
    }

    /// What passes of a body: all, other bytes, or nothing.
    fn passes(&self, kind: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.look(kind, ALTERABLE, bytes) {
            Verdict::Pass => Some(bytes.to_vec()),
            Verdict::Redacted(other) => Some(other),
            Verdict::Blocked(_) => None,
        }
    }

    fn found(&mut self) -> Vec<String> {
        let mut rules = Vec::new();
        while let Ok(one) = self.findings.try_recv() {
            rules.push(one.finding.rule);
        }
        rules
    }
}

fn media(kind: &str) -> Media {
    let value = http::HeaderValue::from_str(kind).unwrap();
    Media::of(&[(http::header::CONTENT_TYPE, value)].into_iter().collect())
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.expect("something passes")).unwrap()
}

#[test]
fn a_credential_is_taken_out_whatever_the_body_is() {
    let desk = Desk::new("");
    let secret = secret();
    let escaped = secret.replacen("hp_", "\\u0068p\\u005f", 1);
    let percent = secret.replacen("hp_", "%68p_", 1);
    let reference = secret.replacen("hp_", "&#104;p_", 1);
    for (kind, body, expected) in [
        (
            "application/json",
            format!(r#"{{"n":1.50,"k":"{secret}"}}"#),
            r#"{"n":1.50,"k":"X"}"#,
        ),
        (
            "application/json",
            format!(r#"{{"k":"{escaped}"}}"#),
            r#"{"k":"X"}"#,
        ),
        // What it is called says nothing.
        (
            "image/png",
            format!(r#"{{"k":"{escaped}"}}"#),
            r#"{"k":"X"}"#,
        ),
        ("text/plain", format!("a {secret} b"), "a X b"),
        ("", format!("a {secret} b"), "a X b"),
        (
            "text/html",
            format!("<p>Hi</p><p>{secret}</p><p>!</p>"),
            "<p>Hi</p><p>X</p><p>!</p>",
        ),
        ("text/html", format!("<p>{reference}</p>"), "<p>X</p>"),
        (
            "application/xml",
            format!("<k v=\"{reference}\"/>"),
            "<k v=\"X\"/>",
        ),
        (
            "application/x-www-form-urlencoded",
            format!("a=b&token={percent}&c=d"),
            "a=b&token=X&c=d",
        ),
        ("text/csv", format!("a,{secret},b\n"), "a,X,b\n"),
        // It begins like JSON and is none.
        (
            "application/json",
            format!("{{\"k\":\"{escaped}\",}}"),
            "{\"k\":\"X\",}",
        ),
    ] {
        let passed = text(desk.passes(kind, body.as_bytes()));
        let passed = passed.replace("[redacted: github-token]", "X");
        assert_eq!(passed, expected, "{kind}: {body}");
    }
    assert_eq!(
        desk.look("text/plain", ALTERABLE, b"nothing of the kind"),
        Verdict::Pass
    );
}

#[test]
fn characters_are_read_as_their_readers_do() {
    let mut desk = Desk::new("");
    let said = format!("grüße {} und mehr", secret());
    let utf16 = |mark: bool, big: bool| -> Vec<u8> {
        let order = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        let mark = mark.then_some(0xfeff);
        mark.into_iter()
            .chain(said.encode_utf16())
            .flat_map(order)
            .collect()
    };
    let expected = "grüße [redacted: github-token] und mehr";
    // Declared or marked: taken out, and in UTF-8 then.
    for (kind, body) in [
        ("text/plain; charset=utf-16le", utf16(false, false)),
        ("text/plain; charset=utf-16be", utf16(false, true)),
        ("text/plain", utf16(true, false)),
        ("application/octet-stream", utf16(true, true)),
    ] {
        assert_eq!(text(desk.passes(kind, &body)), expected, "{kind}");
    }
    let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(&said);
    assert_eq!(
        text(desk.passes("text/plain; charset=iso-8859-1", &latin)),
        expected
    );
    // Neither: it is no text, so it passes as it is or not at all.
    for (kind, body) in [
        ("text/plain", utf16(false, false)),
        ("application/json", utf16(false, true)),
        ("text/plain; charset=utf-7", said.clone().into_bytes()),
        // Readers who do not believe what is declared find it.
        ("text/plain; charset=utf-16", said.clone().into_bytes()),
    ] {
        assert_eq!(desk.passes(kind, &body), None, "{kind}");
    }
    assert!(desk.found().contains(&"secret-github-token".to_owned()));
    // Bytes that are no UTF-8 stay what they are where nothing is taken out.
    let odd = b"caf\xe9 and more";
    assert_eq!(desk.passes("text/plain", odd).unwrap(), odd);
}

#[test]
fn nul_bytes_hide_nothing() {
    let desk = Desk::new("");
    let spread: Vec<u8> = secret().bytes().flat_map(|byte| [byte, 0]).collect();
    for kind in ["text/plain", "application/json", "application/octet-stream"] {
        assert_eq!(desk.passes(kind, &spread), None, "{kind}");
    }
    let canary = format!("{}\0{}", &CANARY[..7], &CANARY[7..]);
    assert_eq!(desk.passes("text/plain", canary.as_bytes()), None);
}

#[test]
fn what_is_no_text_is_what_the_policy_says() {
    let picture = [
        &b"\x89PNG\r\n\x1a\n"[..],
        &[0, 1, 2, 0xff, 0xfe, 7].repeat(400),
    ]
    .concat();
    for (policy, passes, rules) in [
        ("", true, vec!["not-all-scanned"]),
        ("unscanned = \"ignore\"", true, vec![]),
        ("unscanned = \"block\"", false, vec!["not-all-scanned"]),
    ] {
        let mut desk = Desk::new(policy);
        assert_eq!(
            desk.passes("image/png", &picture).is_some(),
            passes,
            "{policy}"
        );
        assert_eq!(desk.found(), rules, "{policy}");
        let opaque = Terms {
            opaque: true,
            ..ALTERABLE
        };
        assert_eq!(desk.look("image/png", opaque, &picture), Verdict::Pass);
        assert!(desk.found().is_empty());
    }
    // What is printable in it is looked at all the same.
    let with_canary = [&picture[..], CANARY.as_bytes(), &picture].concat();
    let desk = Desk::new("unscanned = \"ignore\"");
    assert_eq!(desk.passes("image/png", &with_canary), None);
}

#[test]
fn of_what_cannot_be_altered_nothing_is_taken_out() {
    let desk = Desk::new("");
    let part = Terms {
        alterable: false,
        ..ALTERABLE
    };
    let body = format!("a {} b", secret());
    let Verdict::Blocked(denial) = desk.look("text/plain", part, body.as_bytes()) else {
        panic!("it passed");
    };
    assert!(denial.reason.contains("secret-github-token"), "{denial:?}");
    assert_eq!(desk.look("text/plain", part, b"harmless"), Verdict::Pass);
}

#[test]
fn a_long_document_is_looked_at_all_over() {
    let mut desk = Desk::new("");
    let filler = "lorem ipsum ".repeat(200_000);
    let body = format!(r#"{{"a":"{filler}","k":"{}","b":"{filler}"}}"#, secret());
    let passed = text(desk.passes("application/json", body.as_bytes()));
    assert!(!passed.contains(&secret()) && passed.contains("[redacted: github-token]"));
    assert_eq!(desk.found(), ["secret-github-token"]);
}

/// Passes pieces on; what left after each, and what was said of it in the end.
fn pass(desk: &Desk, kind: &str, pieces: &[&[u8]]) -> (Vec<Bytes>, bool) {
    let media = media(kind);
    let terms = Terms {
        alterable: media.is_alterable(pieces.first().copied().unwrap_or_default()),
        opaque: false,
    };
    desk.with(|inspection, about| {
        let mut passing = inspection.passing(media, terms);
        let mut left = Vec::new();
        for piece in pieces {
            match passing.push(about, piece) {
                Ok(bytes) => left.push(bytes),
                Err(_) => return (left, false),
            }
        }
        match passing.end(about) {
            Ok(bytes) => left.push(bytes),
            Err(_) => return (left, false),
        }
        (left, true)
    })
}

fn joined(left: &[Bytes]) -> String {
    String::from_utf8_lossy(&left.concat()).into_owned()
}

#[test]
fn pieces_do_not_cut_a_credential_apart() {
    let desk = Desk::new("");
    let secret = secret();
    for kind in ["text/plain", "text/event-stream", "application/x-ndjson"] {
        let whole = match kind {
            "text/event-stream" => {
                format!("event: a\ndata: {{\"k\":\"{secret}\"}}\n\ndata: end\n\n")
            }
            "application/x-ndjson" => format!("{{\"k\":\"{secret}\"}}\n{{\"k\":1}}\n"),
            _ => format!("a line\nwith {secret} in it\nand more"),
        };
        for size in [1, 3, 7, 20, 1_000] {
            let pieces: Vec<&[u8]> = whole.as_bytes().chunks(size).collect();
            let (left, ended) = pass(&desk, kind, &pieces);
            assert!(ended, "{kind}");
            let expected = whole.replace(&secret, "[redacted: github-token]");
            assert_eq!(joined(&left), expected, "{kind} {size}");
            let at = whole.find(&secret).unwrap() / size;
            let before: Vec<Bytes> = left[..=at.min(left.len() - 1)].to_vec();
            assert!(
                !joined(&before).contains("ghp"),
                "{kind} {size}: it left before it was known"
            );
        }
    }
}

#[test]
fn what_is_complete_does_not_wait() {
    let desk = Desk::new("");
    let (left, _) = pass(
        &desk,
        "text/event-stream",
        &[b"data: 1\n\ndata: 2", b"\n\n", b"data: 3\r\n\r\n"],
    );
    assert_eq!(left, ["data: 1\n\n", "data: 2\n\n", "data: 3\r\n\r\n", ""]);
    let (left, _) = pass(&desk, "text/plain", &[b"one\ntwo", b" three\n", b"four"]);
    assert_eq!(left, ["one\n", "two three\n", "", "four"]);
    desk.with(|inspection, about| {
        let mut words = inspection.passing(media("text/plain"), ALTERABLE);
        assert_eq!(words.push(about, b"so far, so goo").unwrap(), "");
        assert_eq!(words.pause(about).unwrap(), "so far, so ");
        assert!(words.is_holding());
        assert_eq!(words.pause(about).unwrap(), "", "half a word waits");
        let mut documents = inspection.passing(media("application/json"), ALTERABLE);
        assert_eq!(documents.push(about, b"{\"a\":1}{\"b\"").unwrap(), "");
        assert_eq!(documents.pause(about).unwrap(), "");
        assert_eq!(documents.push(about, b":2}").unwrap(), "");
        assert_eq!(documents.pause(about).unwrap(), "{\"a\":1}{\"b\":2}");
    });
}

#[test]
fn a_private_key_is_held_to_its_end() {
    let desk = Desk::new("");
    let words = ["PRIVATE ", "KEY"].concat();
    let lines = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n".repeat(20);
    let whole = format!("before\n-----BEGIN {words}-----\n{lines}-----END {words}-----\nafter\n");
    let pieces: Vec<&[u8]> = whole.as_bytes().chunks(50).collect();
    let (left, ended) = pass(&desk, "text/plain", &pieces);
    assert!(
        ended && !joined(&left).contains("MIIE"),
        "{}",
        joined(&left)
    );
    assert!(joined(&left).starts_with("before\n") && joined(&left).ends_with("after\n"));
}

#[test]
fn a_line_without_end_passes_through_a_window() {
    let mut desk = Desk::new("");
    let filler = "abcdefg,".repeat(20_000);
    for before in [0, 30_000, 60_000, 61_439, 65_500] {
        let whole = format!("{} {} {filler}", &filler[..before], secret());
        let pieces: Vec<&[u8]> = whole.as_bytes().chunks(1_460).collect();
        let (left, ended) = pass(&desk, "text/plain", &pieces);
        assert!(ended);
        let expected = whole.replace(&secret(), "[redacted: github-token]");
        assert!(joined(&left) == expected, "{before}");
        assert!(
            left.iter().filter(|piece| !piece.is_empty()).count() > 1,
            "nothing waits for the end"
        );
    }
    assert!(desk.found().contains(&"not-all-scanned".to_owned()));
    let strict = Desk::new("unscanned = \"block\"");
    let (left, ended) = pass(&strict, "text/plain", &[filler.as_bytes()]);
    assert!(!ended && left.is_empty());
}

#[test]
fn a_canary_ends_a_stream_before_it_leaves() {
    let mut desk = Desk::new("");
    let whole = format!("data: one\n\ndata: {CANARY}\n\ndata: three\n\n");
    let pieces: Vec<&[u8]> = whole.as_bytes().chunks(4).collect();
    let (left, ended) = pass(&desk, "text/event-stream", &pieces);
    assert!(!ended);
    assert_eq!(joined(&left), "data: one\n\n");
    assert_eq!(desk.found(), ["canary"]);
    // Over several lines it is known once its last part comes.
    let spread = format!("{}\n{}\nend\n", &CANARY[..8], &CANARY[8..]);
    let (left, ended) = pass(
        &desk,
        "text/plain",
        &[&spread.as_bytes()[..9], &spread.as_bytes()[9..]],
    );
    assert_eq!((joined(&left).trim_end(), ended), (&CANARY[..8], false));
}

#[test]
fn binary_streams_say_once_that_nobody_can_look_into_them() {
    let mut desk = Desk::new("");
    let noise: Vec<u8> = (0..400_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let pieces: Vec<&[u8]> = noise.chunks(8_192).collect();
    let (left, ended) = pass(&desk, "application/octet-stream", &pieces);
    assert!(ended && left.concat() == noise);
    assert_eq!(desk.found(), ["not-all-scanned"]);
}

#[test]
fn headers_in_which_something_is_taken_out_do_not_pass() {
    let desk = Desk::new("");
    let secret = secret();
    let headers = |all: &[(&'static str, &str)]| -> http::HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                http::HeaderName::from_static(name),
                http::HeaderValue::from_str(value).unwrap(),
            )
        };
        all.iter().map(pair).collect()
    };
    let look =
        |all: &[(&'static str, &str)]| desk.with(|it, about| it.headers(about, &headers(all)));
    let escaped = format!("/x?t={}", secret.replacen("hp_", "%68p_", 1));
    let found = look(&[
        ("x-a", "1"),
        ("x-key", &secret),
        ("location", &escaped),
        ("etag", "\"5e1f\""),
    ]);
    let names = [
        http::HeaderName::from_static("x-key"),
        http::header::LOCATION,
    ];
    assert_eq!(found, Verdict::Redacted(names.to_vec()));
    assert_eq!(
        look(&[
            ("x-a", "1"),
            ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"")
        ]),
        Verdict::Pass
    );
    assert!(matches!(look(&[("x-trace", CANARY)]), Verdict::Blocked(_)));
}

#[test]
fn an_idle_policy_looks_at_nothing_and_a_strict_one_waits() {
    let of = |policy: &str| {
        let desk = Desk::new(policy);
        desk.with(|it, about| (it.is_idle(about), it.is_strict(about)))
    };
    assert_eq!(of(""), (false, false));
    assert_eq!(of("unscanned = \"block\""), (false, true));
    let off = "rules = false\nsecrets = \"ignore\"\ncanaries = \"ignore\"\nunscanned = \"ignore\"";
    assert_eq!(of(off), (true, false));
    assert_eq!(Response::default(), Response::Report);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_harmless_passes_byte_for_byte(
        body in prop::collection::vec(any::<u8>(), 0..2_000), size in 1usize..300,
        kind in prop::sample::select(vec!["text/plain", "text/event-stream", "application/x-ndjson", "image/png", ""]),
    ) {
        let desk = Desk::new("secrets = \"ignore\"");
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        let (left, ended) = pass(&desk, kind, &pieces);
        prop_assert!(ended);
        prop_assert_eq!(left.concat(), &body[..]);
        prop_assert_eq!(desk.passes(kind, &body), Some(body));
    }
}
