//! A request written again for the provider, with as few changes as can be.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Asked;
use crate::surface::Api;

impl Asked {
    /// The body for a provider that calls the model `model`: with the length of the answer limited to
    /// `longest` if the request does not say how long it may be, and with the usage at the end of a
    /// stream. If nothing has to change, these are the bytes that came.
    #[must_use]
    pub fn body_for(&self, model: &str, longest: Option<u64>) -> Bytes {
        let longest = longest.filter(|_| self.longest.is_none());
        let limit = match self.api {
            Api::Chat => Some("max_completion_tokens"),
            Api::Responses => Some("max_output_tokens"),
            Api::Completions => Some("max_tokens"),
            _ => None,
        };
        let usage = self.stream && matches!(self.api, Api::Chat | Api::Completions);
        let reported = self
            .replaced
            .get("stream_options")
            .or_else(|| self.members.get("stream_options"));
        let reports = |options: &Value| options.get("include_usage") == Some(&Value::Bool(true));
        let replaced = self.replaced.iter();
        let mut changes: Vec<(&str, Value)> = replaced
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        if model != self.model {
            changes.push(("model", model.into()));
        }
        if usage && !reported.is_some_and(reports) {
            let options = reported.and_then(Value::as_object).cloned();
            let mut options = options.unwrap_or_default();
            options.insert("include_usage".to_owned(), true.into());
            changes.retain(|(name, _)| *name != "stream_options");
            changes.push(("stream_options", options.into()));
        }
        if let Some((name, longest)) = limit.zip(longest) {
            changes.push((name, longest.into()));
        }
        if changes.is_empty() {
            return self.body.clone();
        }
        // It was read before, so it is read again; should it not be, the copy says the same.
        let written = match serde_json::from_slice::<Written<'_>>(&self.body) {
            Ok(written) => written.with(&changes),
            Err(_) => {
                let mut members = self.members.clone();
                members.insert("model".to_owned(), self.model.clone().into());
                members.extend(
                    changes
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value)),
                );
                Value::Object(members).to_string()
            }
        };
        written.into()
    }
}

/// The members of a body, each with the text of its value.
struct Written<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Written<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Written<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(Written(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Written<'_> {
    /// The object with some members replaced or added; the others keep their text.
    fn with(&self, changes: &[(&str, Value)]) -> String {
        let changed = |name: &str| changes.iter().any(|(new, _)| *new == name);
        let kept = self.0.iter().filter(|(name, _)| !changed(name));
        let kept = kept.map(|(name, value)| (name.as_str(), value.get().to_owned()));
        let changes = changes
            .iter()
            .map(|(name, value)| (*name, value.to_string()));
        let mut text = String::from("{");
        for (name, value) in kept.chain(changes) {
            if text.len() > 1 {
                text.push(',');
            }
            // Names are plain: they were checked when the body was read.
            text.push('"');
            text.push_str(name);
            text.push_str("\":");
            text.push_str(&value);
        }
        text.push('}');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::chat;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn bytes_pass_as_they_came_unless_something_must_change() {
        let body = r#"{ "model":"m", "temperature":1.0, "seed":18446744073709551616 }"#;
        let asked = chat(body);
        assert_eq!(asked.body_for("m", None), body);
        let other = asked.body_for("n", Some(64));
        assert_eq!(
            other,
            r#"{"temperature":1.0,"seed":18446744073709551616,"model":"n","max_completion_tokens":64}"#
        );
        let said = chat(r#"{"model":"m","max_tokens":5}"#);
        assert_eq!(said.body_for("m", Some(64)), *said.body());
        let stream = chat(r#"{"model":"m","stream":true,"stream_options":{"x":1}}"#);
        assert_eq!(
            stream.body_for("m", None),
            r#"{"model":"m","stream":true,"stream_options":{"x":1,"include_usage":true}}"#
        );
        let reports =
            chat(r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
        assert_eq!(reports.body_for("m", None), *reports.body());
    }

    proptest! {
        #[test]
        fn what_is_forwarded_says_what_was_read(
            text in "[a-z\"\\\\{}\\[\\]é]{0,12}", number in any::<f64>(), stream in any::<bool>(),
        ) {
            let number = if number.is_finite() { number } else { 0.0 };
            let request = json!({"messages": [{"content": text}], "temperature": number,
                "model": "m", "stream": stream, "user": text});
            let asked = chat(&request.to_string());
            // As it reads: not every number survives being written by the library.
            let request: Value = serde_json::from_str(&request.to_string()).unwrap();
            let sent: Value = serde_json::from_slice(&asked.body_for("n", Some(5))).unwrap();
            prop_assert_eq!(&sent["model"], "n");
            prop_assert_eq!(&sent["max_completion_tokens"], 5);
            for member in ["messages", "temperature", "user", "stream"] {
                prop_assert_eq!(&sent[member], &request[member]);
            }
        }
    }
}
