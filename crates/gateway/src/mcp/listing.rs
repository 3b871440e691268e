//! Listings, cut down to what the caller's task may ever use.

use serde_json::value::RawValue;

use super::raw::{self, Members};
use super::revision::Method;

/// How the items of a listing are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The member that has the items.
    pub(crate) items: &'static str,
    /// The member of an item that names it.
    pub(crate) named_by: &'static str,
}

impl Listing {
    /// The listing that a method answers with.
    #[must_use]
    pub(crate) fn of(method: Method) -> Option<Self> {
        let (items, named_by) = match method {
            Method::ListTools => ("tools", "name"),
            Method::ListPrompts => ("prompts", "name"),
            Method::ListResources => ("resources", "uri"),
            Method::ListTemplates => ("resourceTemplates", "uriTemplate"),
            Method::ListTasks => ("tasks", "taskId"),
            _ => return None,
        };
        Some(Self { items, named_by })
    }

    /// Cuts a result down to the items that `keep` says yes to, by position and name; `None` when nothing
    /// changes.
    /// Whatever has no name is not kept. With `private`, the result also says that nobody may
    /// share it (2026-07-28 `server/utilities/caching`).
    ///
    /// # Errors
    /// [`Unusable`] when the result is no listing.
    pub(crate) fn cut(
        self,
        result: &RawValue,
        private: bool,
        mut keep: impl FnMut(usize, &str, &Members<'_>) -> bool,
    ) -> Result<Option<Vec<u8>>, Unusable> {
        let result = Members::of(result).ok_or(Unusable)?;
        // Requests for input are decided one by one, and a listing has no room for them.
        if result.get("inputRequests").is_some() {
            return Err(Unusable);
        }
        let all = raw::items(result.get(self.items).ok_or(Unusable)?).ok_or(Unusable)?;
        let mut kept = Vec::with_capacity(all.len());
        for (position, item) in all.iter().enumerate() {
            let Some(members) = Members::of(item) else {
                continue;
            };
            if members
                .text(self.named_by)
                .is_some_and(|name| keep(position, &name, &members))
            {
                kept.push(item.get().as_bytes());
            }
        }
        let mut changed: Vec<(&str, &[u8])> = Vec::new();
        let items;
        if kept.len() < all.len() {
            items = raw::array(kept.into_iter());
            changed.push((self.items, &items));
        }
        if private && result.text("cacheScope").as_deref() != Some("private") {
            changed.push(("cacheScope", b"\"private\""));
        }
        Ok((!changed.is_empty()).then(|| result.with(&changed)))
    }
}

/// A result is not what its method answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer is not what the method answers with")]
pub(crate) struct Unusable;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, private: bool) -> Result<Option<String>, Unusable> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let listing = Listing::of(Method::ListTools).unwrap();
        let out = listing.cut(raw, private, |_, name, _| name.starts_with("ok"))?;
        Ok(out.map(|out| String::from_utf8(out).unwrap()))
    }

    #[test]
    fn what_is_kept_keeps_its_bytes() {
        let out = cut(
            r#"{ "tools":[ {"name":"ok", "x": 1.0e0},{"name":"no"}, 7, {"n":"ok"} ],"nextCursor":"c" }"#,
            false,
        );
        assert_eq!(
            out.unwrap().unwrap(),
            r#"{"tools":[{"name":"ok", "x": 1.0e0}],"nextCursor":"c"}"#
        );
        assert_eq!(
            cut(r#"{"tools":[{"name":"ok1"},{"name":"ok2"}]}"#, false),
            Ok(None)
        );
    }

    #[test]
    fn what_is_cut_is_private() {
        let public = r#"{"cacheScope":"public","tools":[]}"#;
        assert_eq!(
            cut(public, true).unwrap().unwrap(),
            r#"{"cacheScope":"private","tools":[]}"#
        );
        let silent = r#"{"tools":[]}"#;
        assert_eq!(
            cut(silent, true).unwrap().unwrap(),
            r#"{"tools":[],"cacheScope":"private"}"#
        );
        assert_eq!(
            cut(r#"{"tools":[],"cacheScope":"private"}"#, true),
            Ok(None)
        );
    }

    #[test]
    fn what_is_no_listing_is_not_passed_on() {
        for bad in [
            "[]",
            "{}",
            r#"{"tools":{}}"#,
            r#"{"tools":[],"tools":[{"name":"x"}]}"#,
            r#"{"tools":[],"resultType":"input_required","inputRequests":{"a":{}}}"#,
            "null",
        ] {
            assert_eq!(cut(bad, false), Err(Unusable), "{bad}");
        }
    }
}
