//! An MCP server with one tool, `echo`, that answers as fast as one can, so that what is measured is what stands in
//! front of it.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::{REVISION, Whole};

/// What of a message the answer depends on.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params<'a> {
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    /// Reads a message; one that is none has no method.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// The text that a call of the tool has, as it is in its JSON; `None` for all else.
    #[must_use]
    pub fn called_with(&self) -> Option<&'a str> {
        let is_call = self.method == "tools/call";
        is_call.then(|| self.params.arguments.text.map_or("null", RawValue::get))
    }

    /// The answer. The tool gives back its text, or else what is given here, in JSON.
    #[must_use]
    pub fn answer(&self, instead: Option<&str>) -> Response<Whole> {
        let result = match (&*self.method, self.called_with()) {
            (_, Some(text)) => {
                let text = instead.unwrap_or(text);
                format!(
                    r#"{{"content":[{{"type":"text","text":{text}}}],"resultType":"complete"}}"#
                )
            }
            ("tools/list", _) => json!({
                "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }],
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private"
            })
            .to_string(),
            ("server/discover", _) => json!({
                "supportedVersions": [REVISION], "capabilities": { "tools": {} },
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private"
            })
            .to_string(),
            _ => "null".to_owned(),
        };
        let id = self.id.map_or("null", RawValue::get);
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let mut response = Response::new(Whole::new(Bytes::from(answer)));
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}
