use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A stream of a client in a test.
#[derive(Debug, Clone, Default)]
struct Tray(Rc<RefCell<(Vec<Part>, bool)>>);

impl PartialEq for Tray {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Sink for Tray {
    fn put(&self, part: Part) {
        self.0.borrow_mut().0.push(part);
    }

    fn is_closed(&self) -> bool {
        self.0.borrow().1
    }
}

impl Tray {
    fn leave(&self) {
        self.0.borrow_mut().1 = true;
    }

    fn take(&self) -> Vec<Part> {
        std::mem::take(&mut self.0.borrow_mut().0)
    }

    /// The only message that came, as JSON.
    fn one(&self) -> Value {
        let parts = self.take();
        assert_eq!(parts.len(), 1, "{parts:?}");
        match &parts[0] {
            Part::Answer { message, .. } | Part::Aside(message) => read(message),
            Part::Failed(error) => panic!("{error}"),
        }
    }
}

const BOUNDS: Bounds = Bounds {
    pending: 4,
    asked: 2,
    kept: 2,
    kept_bytes: 200,
};

fn router(era: Era) -> Router<Tray> {
    Router::new(era, BOUNDS)
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn ask(router: &mut Router<Tray>, message: &Value) -> (u64, Value, Tray) {
    let tray = Tray::default();
    let (number, line) = try_ask(router, message, &tray, false).unwrap();
    (number, read(&line), tray)
}

fn try_ask(
    router: &mut Router<Tray>,
    message: &Value,
    tray: &Tray,
    quiet: bool,
) -> Result<(u64, Bytes), Refused> {
    let text = message.to_string();
    router.request(
        &Members::read(text.as_bytes()).unwrap(),
        tray.clone(),
        quiet,
    )
}

fn call(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": "x"}})
}

fn route(router: &mut Router<Tray>, line: &Value) -> Routed<Tray> {
    router.route(&Bytes::from(line.to_string()))
}

#[test]
fn ids_are_made_unique_and_restored_with_their_type() {
    let mut router = router(Era::Modern);
    let (one, line, first) = ask(&mut router, &call("a"));
    assert_eq!(line["id"], one);
    assert_eq!(line["params"], json!({"name": "x"}));
    let (two, _, second) = ask(&mut router, &call("a"));
    let (three, _, third) = ask(&mut router, &call(7));
    for (number, result) in [(two, "second"), (three, "third"), (one, "first")] {
        let answer = json!({"jsonrpc": "2.0", "id": number, "result": {"r": result}});
        assert_eq!(route(&mut router, &answer), Routed::Answered);
        // A second answer reaches nobody.
        assert_eq!(route(&mut router, &answer), Routed::Dropped);
    }
    assert_eq!(
        first.one(),
        json!({"jsonrpc": "2.0", "id": "a", "result": {"r": "first"}})
    );
    assert_eq!(second.one()["result"]["r"], "second");
    assert_eq!(
        third.one(),
        json!({"jsonrpc": "2.0", "id": 7, "result": {"r": "third"}})
    );
}

#[test]
fn every_line_for_the_child_is_exactly_one_line() {
    let mut modern = router(Era::Modern);
    let text = "{\n\"jsonrpc\":\"2.0\",\r\n\"id\":1,\"method\":\"x\",\"params\":{\n\"a\":\"\\n\"}}";
    let message = Members::read(text.as_bytes()).unwrap();
    let (number, line) = modern.request(&message, Tray::default(), false).unwrap();
    let note = Members::read(b"{\"jsonrpc\":\"2.0\",\n\"method\":\"notifications/x\"}").unwrap();
    let Routed::Reply(ping) = route(&mut modern, &json!({"id": 1, "method": "ping"})) else {
        panic!("a ping is answered");
    };
    let Routed::Reply(other) = route(&mut modern, &json!({"id": 2, "method": "roots/list"})) else {
        panic!("any other request is refused");
    };
    let lines = [
        line,
        modern.notification(&note).unwrap(),
        ping,
        other,
        modern.abandon(number).unwrap(),
    ];
    for line in lines {
        assert_eq!(
            line.iter().filter(|byte| **byte == b'\n').count(),
            1,
            "{line:?}"
        );
        assert!(line.ends_with(b"\n") && !line.contains(&b'\r'), "{line:?}");
        read(&line);
    }
}

#[test]
fn a_session_may_not_use_an_id_twice_at_once() {
    let mut router = router(Era::Legacy);
    let (_, _, first) = ask(&mut router, &call(1));
    let again = try_ask(&mut router, &call(1), &Tray::default(), false);
    assert_eq!(again, Err(Refused::IdInUse));
    // Text and number are different ids.
    ask(&mut router, &call("1"));
    first.leave();
    ask(&mut router, &call(1));
}

#[test]
fn more_than_the_bounds_allow_is_refused() {
    let mut router = router(Era::Modern);
    for id in 0..4 {
        ask(&mut router, &call(id));
    }
    let refused = try_ask(&mut router, &call(9), &Tray::default(), false);
    assert_eq!(refused, Err(Refused::TooMany));
    for bad in [
        json!({"method": "x"}),
        json!({"id": null, "method": "x"}),
        json!({"id": 1}),
    ] {
        let refused = try_ask(
            &mut Router::new(Era::Modern, BOUNDS),
            &bad,
            &Tray::default(),
            false,
        );
        assert_eq!(refused, Err(Refused::NotAMessage), "{bad}");
    }
}

#[test]
fn an_answer_that_is_none_fails_its_request() {
    let mut router = router(Era::Legacy);
    let (number, _, tray) = ask(&mut router, &call(1));
    let both = json!({"id": number, "result": {}, "error": {}});
    assert_eq!(route(&mut router, &both), Routed::NotAMessage);
    assert!(matches!(
        tray.take()[..],
        [Part::Failed(UpstreamError::Protocol(_))]
    ));
    assert!(!router.is_busy());
}

#[test]
fn errors_carry_their_code() {
    let mut router = router(Era::Modern);
    let (number, _, tray) = ask(&mut router, &call("q"));
    let answer = json!({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "?"}});
    route(&mut router, &answer);
    let parts = tray.take();
    let [
        Part::Answer {
            code: Some(-32_601),
            message,
        },
    ] = &parts[..]
    else {
        panic!("{parts:?}")
    };
    assert_eq!(read(message)["id"], "q");
}

#[test]
fn progress_finds_its_request_in_both_eras() {
    let with_token = |id: i64, token: Value| json!({"id": id, "method": "tools/call", "params": {"_meta": {"progressToken": token, "k": 1}}});
    let mut modern = router(Era::Modern);
    let (one, line, first) = ask(&mut modern, &with_token(1, json!("t")));
    let (_, _, second) = ask(&mut modern, &with_token(2, json!("t")));
    assert_eq!(
        line["params"]["_meta"],
        json!({"progressToken": one, "k": 1})
    );
    let progress = |token: Value| json!({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
    route(&mut modern, &progress(json!(one)));
    assert_eq!(first.one()["params"]["progressToken"], "t");
    assert_eq!(route(&mut modern, &progress(json!("t"))), Routed::Dropped);
    assert_eq!(second.take(), []);

    let mut legacy = router(Era::Legacy);
    let (_, line, tray) = ask(&mut legacy, &with_token(1, json!("t")));
    assert_eq!(line["params"]["_meta"]["progressToken"], "t");
    let (_, _, other) = ask(&mut legacy, &with_token(2, json!(7)));
    route(&mut legacy, &progress(json!(7)));
    assert_eq!(other.one()["params"]["progressToken"], 7);
    assert_eq!(tray.take(), []);
}

#[test]
fn a_quiet_stream_gets_nothing_but_its_answer() {
    for era in [Era::Legacy, Era::Modern] {
        let mut router = router(era);
        let tray = Tray::default();
        let message = json!({"id": 1, "method": "x", "params": {"_meta": {"progressToken": 1}}});
        let (number, _) = try_ask(&mut router, &message, &tray, true).unwrap();
        let progress = json!({"method": "notifications/progress", "params": {"progressToken": 1}});
        route(&mut router, &progress);
        route(
            &mut router,
            &json!({"method": "notifications/message", "params": {}}),
        );
        assert_eq!(tray.take(), []);
        route(&mut router, &json!({"id": number, "result": {}}));
        assert_eq!(tray.one()["id"], 1);
    }
}

#[test]
fn subscriptions_keep_their_clients_names() {
    let mut router = router(Era::Modern);
    let listen = json!({"id": "sub", "method": "subscriptions/listen", "params": {}});
    let (number, _, tray) = ask(&mut router, &listen);
    let (_, _, call) = ask(&mut router, &call(1));
    let tagged = |tag: Value| json!({"method": "notifications/tools/list_changed", "params": {"_meta": {SUBSCRIPTION: tag}}});
    route(&mut router, &tagged(json!(number)));
    assert_eq!(tray.one()["params"]["_meta"][SUBSCRIPTION], "sub");
    for strange in [json!(99), json!(-1), json!("sub"), json!(null)] {
        assert_eq!(route(&mut router, &tagged(strange)), Routed::Dropped);
    }
    // What has no tag belongs to a request, never to the subscription.
    route(
        &mut router,
        &json!({"method": "notifications/message", "params": {}}),
    );
    assert_eq!(tray.take(), []);
    assert_eq!(call.one()["method"], "notifications/message");
    let end = json!({"id": number, "result": {"_meta": {SUBSCRIPTION: number}}});
    assert_eq!(route(&mut router, &end), Routed::Answered);
    assert_eq!(
        tray.one(),
        json!({"id": "sub", "result": {"_meta": {SUBSCRIPTION: "sub"}}})
    );
}

#[test]
fn what_belongs_to_no_request_waits_for_the_sessions_stream() {
    let mut router = router(Era::Legacy);
    let changed =
        |n: i32| json!({"method": "notifications/tools/list_changed", "params": {"n": n}});
    let (_, _, tray) = ask(&mut router, &call(1));
    assert_eq!(route(&mut router, &changed(1)), Routed::Kept);
    assert_eq!(route(&mut router, &changed(2)), Routed::Kept);
    assert_eq!(route(&mut router, &changed(3)), Routed::Dropped);
    let stream = Tray::default();
    assert!(router.listen(stream.clone()));
    assert!(!router.listen(Tray::default()), "one stream only");
    assert_eq!(stream.take().len(), 2);
    assert_eq!(
        route(&mut router, &changed(4)),
        Routed::Delivered(stream.clone())
    );
    stream.leave();
    assert!(router.listen(Tray::default()), "the first one is gone");
    assert_eq!(tray.take(), []);
}

#[test]
fn requests_of_the_server_are_answered_once_and_bounded() {
    let mut router = router(Era::Legacy);
    let (_, _, tray) = ask(&mut router, &call(1));
    let asks = |id: Value| json!({"jsonrpc": "2.0", "id": id, "method": "roots/list"});
    assert_eq!(
        route(&mut router, &asks(json!("r"))),
        Routed::Delivered(tray.clone())
    );
    assert!(
        matches!(route(&mut router, &asks(json!("r"))), Routed::Reply(_)),
        "the same id twice"
    );
    route(&mut router, &asks(json!(2)));
    assert!(
        matches!(route(&mut router, &asks(json!(3))), Routed::Reply(_)),
        "over the bound"
    );
    assert_eq!(tray.take().len(), 2);
    let answer = br#"{"jsonrpc":"2.0","id":"r","result":{}}"#;
    let answer = Members::read(answer).unwrap();
    assert!(router.response(&answer).is_some());
    assert!(router.response(&answer).is_none(), "it waits no more");
    let unasked = Members::read(br#"{"id":77,"result":{}}"#).unwrap();
    assert!(router.response(&unasked).is_none());
}

#[test]
fn a_cancellation_names_the_childs_number_and_ends_the_wait() {
    for era in [Era::Legacy, Era::Modern] {
        let mut router = router(era);
        let (number, _, tray) = ask(&mut router, &call("c"));
        let cancel = json!({"method": "notifications/cancelled", "params": {"requestId": "c"}});
        let text = cancel.to_string();
        let cancel = Members::read(text.as_bytes()).unwrap();
        let line = router.notification(&cancel).unwrap();
        assert_eq!(read(&line)["params"]["requestId"], number);
        assert_eq!(tray.one()["error"]["code"], CANCELLED);
        assert_eq!(router.notification(&cancel), None, "nothing left to cancel");
        assert_eq!(
            route(&mut router, &json!({"id": number, "result": {}})),
            Routed::Dropped
        );
    }
    // Two clients of one principal with the same id: nobody's request ends by mistake.
    let mut modern = router(Era::Modern);
    let (_, _, first) = ask(&mut modern, &call("c"));
    let (_, _, second) = ask(&mut modern, &call("c"));
    let cancel = br#"{"method":"notifications/cancelled","params":{"requestId":"c"}}"#;
    assert_eq!(modern.notification(&Members::read(cancel).unwrap()), None);
    assert_eq!((first.take(), second.take()), (vec![], vec![]));
}

#[test]
fn closing_fails_what_waits_and_lets_nothing_in() {
    let mut router = router(Era::Legacy);
    let (_, _, tray) = ask(&mut router, &call(1));
    assert!(router.is_busy());
    router.close(&UpstreamError::Disabled);
    assert_eq!(tray.take(), [Part::Failed(UpstreamError::Disabled)]);
    assert!(!router.is_busy());
    let refused = try_ask(&mut router, &call(2), &Tray::default(), false);
    assert_eq!(refused, Err(Refused::Ended));
    assert!(!router.listen(Tray::default()));
    let note = Members::read(br#"{"method":"notifications/x"}"#).unwrap();
    assert_eq!(router.notification(&note), None);
}

#[test]
fn a_client_that_left_keeps_nothing_busy() {
    let mut router = router(Era::Legacy);
    let (_, _, tray) = ask(&mut router, &call(1));
    tray.leave();
    assert!(!router.is_busy());
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u8),
    Answer(usize),
    Tell(Value),
    Cancel(u8),
    Abandon(u64),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let method = prop_oneof![
        Just("notifications/progress"),
        Just("notifications/message"),
        Just("notifications/cancelled"),
        Just("x/y"),
    ];
    let id = prop_oneof![
        Just(Value::Null),
        (0i64..9).prop_map(Value::from),
        Just(json!("a"))
    ];
    prop_oneof![
        (0u8..4).prop_map(Step::Ask),
        (0usize..9).prop_map(Step::Answer),
        (method, id.clone(), id).prop_map(|(method, id, token)| {
            let params = json!({"progressToken": token, "requestId": token,
                "_meta": {SUBSCRIPTION: token}});
            Step::Tell(match id {
                Value::Null => json!({"method": method, "params": params}),
                id => json!({"id": id, "method": method, "params": params}),
            })
        }),
        (0u8..4).prop_map(Step::Cancel),
        (0u64..12).prop_map(Step::Abandon),
        (0usize..9).prop_map(Step::Leave),
    ]
}

proptest! {
    /// Whatever happens, each answer goes to who asked for it, at most once, and nothing grows.
    #[test]
    fn answers_reach_only_who_asked(
        modern in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut router = router(if modern { Era::Modern } else { Era::Legacy });
        let mut asked: Vec<(u64, u8, Tray)> = Vec::new();
        let mut answered: HashMap<u64, usize> = HashMap::new();
        for step in steps {
            match step {
                Step::Ask(id) => {
                    let tray = Tray::default();
                    if let Ok((number, _)) = try_ask(&mut router, &call(id), &tray, false) {
                        asked.push((number, id, tray));
                    }
                }
                Step::Answer(index) => if let Some((number, ..)) = asked.get(index) {
                    let answer = json!({"id": number, "result": {"for": number}});
                    if route(&mut router, &answer) == Routed::Answered {
                        *answered.entry(*number).or_default() += 1;
                    }
                },
                Step::Tell(message) => drop(route(&mut router, &message)),
                Step::Cancel(id) => {
                    let text = json!({"method": "notifications/cancelled", "params": {"requestId": id}});
                    let text = text.to_string();
                    router.notification(&Members::read(text.as_bytes()).unwrap());
                }
                Step::Abandon(number) => drop(router.abandon(number)),
                Step::Leave(index) => if let Some((_, _, tray)) = asked.get(index) {
                    tray.leave();
                },
            }
            prop_assert!(router.pending.len() <= BOUNDS.pending);
            prop_assert!(router.asked.len() <= BOUNDS.asked);
            prop_assert!(router.kept.len() <= BOUNDS.kept && router.kept_bytes <= BOUNDS.kept_bytes);
        }
        for (number, id, tray) in asked {
            let mut ends = 0;
            for part in tray.take() {
                if let Part::Answer { message, code } = part {
                    ends += 1;
                    let message = read(&message);
                    prop_assert_eq!(&message["id"], &json!(id));
                    prop_assert!(code == Some(CANCELLED) || message["result"]["for"] == number);
                }
            }
            prop_assert!(ends <= 1 && answered.get(&number).is_none_or(|times| *times == 1));
        }
    }

    #[test]
    fn no_line_makes_it_panic(modern in any::<bool>(), text in "[\\[\\]{}\",:0-9a\\\\ ]{0,60}") {
        let mut router = router(if modern { Era::Modern } else { Era::Legacy });
        ask(&mut router, &call(0));
        router.route(&Bytes::from(text));
    }
}
