//! A2A: what agents send to agents, and what they answer.

use a2a::card::Card;
use a2a::message;
use a2a::method::{Dialect, Method};
use a2a::owned::{Begun, Owned};
use a2a::push::hook::{self, Hook};
use a2a::request::{self, Binding};
use a2a::watch::{Watch, told};
use gateway::caller::Principal;
use gateway::mcp::message::Id;
use http::Method as HttpMethod;
use jiff::Timestamp;
use model::json::parse;
use model::{InstanceId, ServerName, TaskId};
use serde_json::{Map, Value};

use crate::{LIMITS, parts, text};

const DIALECTS: [Dialect; 2] = [Dialect::V1, Dialect::V03];
const METHODS: [Method; 11] = [
    Method::Send,
    Method::Stream,
    Method::GetTask,
    Method::ListTasks,
    Method::Cancel,
    Method::Subscribe,
    Method::SetPush,
    Method::GetPush,
    Method::ListPush,
    Method::DeletePush,
    Method::Card,
];

fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match parse(bytes, LIMITS) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

/// Messages in both dialects, over both bindings: what was read is read alike a second time, and what a path means is
/// written as that path.
pub fn message(bytes: &[u8]) {
    let [line, body] = parts(bytes);
    let target = text(line).and_then(|line| line.split_once(' '));
    if let Some((method, target)) = target
        && let Ok(http) = HttpMethod::from_bytes(method.as_bytes())
    {
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        if let Some((method, params)) = request::rest_target(&http, path) {
            if let Some((again, written)) = request::rest_path(method, &params) {
                assert_eq!((again, written.as_str()), (http, path));
            }
            let _ = request::rest(method, params, query, body, LIMITS);
        }
    }
    let Ok(mut call) = request::json_rpc(if body.is_empty() { bytes } else { body }, LIMITS) else {
        return;
    };
    let mut other = call.params.clone();
    let _ = message::read(Dialect::V03, &mut other);
    if let Ok(first) = message::read(Dialect::V1, &mut call.params) {
        // But for the skill that it names, which is taken out of it.
        let mut again = call.params.clone();
        let second = message::read(Dialect::V1, &mut again).ok();
        let ids = second.map(|said| (said.task, said.context));
        assert_eq!(ids, Some((first.task, first.context)));
        message::mark(&mut call.params, "skill", None);
        let metadata = &call.params["message"]["metadata"];
        assert_eq!(metadata[message::SKILL], "skill");
    }
}

/// Webhooks that are registered, and notifications that arrive at one.
pub fn push(bytes: &[u8]) {
    let [config, notification] = parts(bytes);
    for dialect in DIALECTS {
        if let Some(mut params) = object(config) {
            for method in [
                Method::SetPush,
                Method::GetPush,
                Method::ListPush,
                Method::DeletePush,
            ] {
                let _ = hook::asked(method, dialect, &mut params.clone());
            }
            if let Ok(read) = Hook::read(dialect, "params", &mut params) {
                // What is shown of it is what the caller said.
                let shown = read.shown(dialect, "task");
                assert!(shown.to_string().contains("\"url\""));
            }
        }
    }
    if let Ok(told) = told(notification, LIMITS) {
        let plain = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-');
        assert!(told.state.is_none_or(|state| state.bytes().all(plain)));
    }
}

/// Answers and events: whatever is passed on is an object, and ids are given to nobody else. The first byte says what was
/// asked, and how; events are lines.
pub fn answer(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    let server = ServerName::parse("other").expect("a label");
    let principal = |number| Principal {
        instance: InstanceId::new(Timestamp::UNIX_EPOCH, [number; 10]),
        task: TaskId::new(Timestamp::UNIX_EPOCH, [number; 10]),
    };
    let owned = Owned::default();
    let method = METHODS[usize::from(how >> 2) % METHODS.len()];
    let begun = matches!(method, Method::Send | Method::Stream).then(|| Begun {
        skill: "skill".to_owned(),
        sub_task: None,
    });
    let watch = Watch {
        method,
        dialect: DIALECTS[usize::from(how & 1)],
        binding: match how & 2 {
            0 => Binding::Rest,
            _ => Binding::JsonRpc(Id::Number(1)),
        },
        principal: principal(1),
        server: server.clone(),
        skill: "skill".to_owned(),
        about: None,
        fresh: begun.is_some(),
        begun,
        own: None,
        registering: None,
        limits: LIMITS,
    };
    for event in bytes.split(|byte| *byte == b'\n') {
        let Ok(seen) = watch.look(event, &owned) else {
            continue;
        };
        assert!(seen.changed.is_none_or(|changed| changed.is_object()));
        for name in text(event)
            .into_iter()
            .flat_map(|text| text.split('"'))
            .take(64)
        {
            for kind in [a2a::owned::Kind::Task, a2a::owned::Kind::Context] {
                assert!(owned.find(principal(2), &server, kind, name).is_none());
            }
        }
    }
}

/// Cards: interfaces are used by their path, whatever host the card names.
pub fn card(bytes: &[u8]) {
    let Some(members) = object(bytes) else { return };
    let Ok(card) = Card::read(members, "/base", &[], &[]) else {
        return;
    };
    for dialect in DIALECTS {
        assert!(
            card.rpc(dialect)
                .is_none_or(|path| path.is_empty() || path.starts_with('/'))
        );
    }
    assert!(
        card.rest()
            .is_none_or(|path| path.is_empty() || path.starts_with('/'))
    );
}
