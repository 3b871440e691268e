//! What a person allowed, matched against what is asked about.
//!
//! Nothing here grants anything: what is matched has passed every other part of a decision already.

use model::approval::{Covers, ValueSet};
use model::provenance::{Asked, Reason};
use serde_json::Value;

use crate::arguments::{Pointer, Step};
use crate::constraint::CompiledConstraint;

/// Most sets of one allowance.
const MOST_SETS: usize = 16;
/// Most values that a set names.
const MOST_VALUES: usize = 64;

/// What a person allowed, ready for use.
#[derive(Debug)]
pub struct Allowed(Compiled);

#[derive(Debug)]
enum Compiled {
    Call,
    Values(Vec<(Pointer, Set)>),
}

#[derive(Debug)]
struct Set {
    is: CompiledConstraint,
    domain: Option<String>,
}

/// Why something cannot be allowed in this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAllowance {
    /// The argument is not named as it must be.
    #[error("`{0}` names no argument; write its name, or a path such as `/items/*/url`")]
    Argument(String),
    /// A set without a word about what is in it.
    #[error(
        "nothing says which values of `{0}` are allowed; name them, or a domain, folder or prefix"
    )]
    Open(String),
    /// Something that two readers could take differently.
    #[error(
        "`prefix` for `{0}` would also be the beginning of other hosts or folders; use `below` or `domain`"
    )]
    Prefix(String),
    /// The constraint itself cannot be used.
    #[error(
        "what is said about `{0}` can hold for no value; look at its folder, domain or expression"
    )]
    Unusable(String),
    /// Too many sets or values.
    #[error("at most {MOST_SETS} arguments with {MOST_VALUES} values each can be allowed at once")]
    TooMany,
}

impl Allowed {
    /// Reads what a person allowed.
    ///
    /// # Errors
    /// [`InvalidAllowance`] when it is more than they can have meant, or nothing at all.
    pub fn new(covers: &Covers) -> Result<Self, InvalidAllowance> {
        let sets = match covers {
            Covers::Call => return Ok(Self(Compiled::Call)),
            Covers::Values(sets) => sets,
        };
        if sets.len() > MOST_SETS {
            return Err(InvalidAllowance::TooMany);
        }
        let read = |(argument, set): (&String, &ValueSet)| {
            let pointer = Pointer::parse(argument)
                .filter(|pointer| pointer.first().is_some_and(|first| !first.is_empty()))
                .ok_or_else(|| InvalidAllowance::Argument(argument.clone()))?;
            Set::new(argument, set).map(|set| (pointer, set))
        };
        let sets = sets.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self(Compiled::Values(sets)))
    }

    /// Whether it covers a call in which these values are asked about. `same` says whether the call is
    /// the very one that it was given for.
    #[must_use]
    pub fn covers(&self, same: bool, asked: &[Asked]) -> bool {
        match &self.0 {
            Compiled::Call => same,
            Compiled::Values(sets) => asked.iter().all(|one| {
                // What a reader cannot see, no description of what can be seen was meant for.
                !matches!(
                    one.reason,
                    Reason::Deceptive | Reason::TooMany | Reason::Computed | Reason::AnyRows
                ) && sets
                    .iter()
                    .any(|(place, set)| is_at(place, &one.argument) && set.has(&one.exact))
            }),
        }
    }
}

/// Whether a value at this JSON pointer is at a place, or inside it.
fn is_at(place: &Pointer, pointer: &str) -> bool {
    let Some(steps) = Pointer::parse(pointer).filter(|_| pointer.starts_with('/')) else {
        return false;
    };
    place.0.len() <= steps.0.len()
        && place.0.iter().zip(&steps.0).all(|(place, step)| {
            *place == Step::Each
                || matches!((place, step), (Step::Name(a), Step::Name(b)) if a == b)
        })
}

impl Set {
    fn new(argument: &str, written: &ValueSet) -> Result<Self, InvalidAllowance> {
        let is = &written.is;
        let named = argument.to_owned();
        let says_something = is.equals.is_some()
            || is.one_of.is_some()
            || is.prefix.is_some()
            || is.below.is_some()
            || is.regex.is_some()
            || is.min.is_some()
            || is.max.is_some()
            || written.domain.is_some();
        if !says_something {
            return Err(InvalidAllowance::Open(named));
        }
        if is
            .one_of
            .as_ref()
            .is_some_and(|values| values.len() > MOST_VALUES)
        {
            return Err(InvalidAllowance::TooMany);
        }
        if let Some(prefix) = &is.prefix {
            let of_place = prefix.contains('/') || prefix.contains('\\') || prefix.contains(':');
            if prefix.is_empty() || of_place {
                return Err(InvalidAllowance::Prefix(named));
            }
        }
        let compiled = CompiledConstraint::new(is);
        let usable = compiled.below().is_none_or(Result::is_ok)
            && is
                .regex
                .as_deref()
                .is_none_or(|regex| model::expression::whole(regex).is_ok())
            && is.one_of.as_ref().is_none_or(|values| !values.is_empty())
            && written.domain.as_deref().is_none_or(is_domain);
        if !usable {
            return Err(InvalidAllowance::Unusable(named));
        }
        Ok(Self {
            is: compiled,
            domain: written
                .domain
                .as_ref()
                .map(|domain| domain.to_ascii_lowercase()),
        })
    }

    fn has(&self, value: &Value) -> bool {
        let in_domain = |domain: &String| {
            value
                .as_str()
                .and_then(domain_of)
                .is_some_and(|own| own.eq_ignore_ascii_case(domain))
        };
        !value.is_null()
            && self.is.check_whole(value).is_ok()
            && self.domain.as_ref().is_none_or(in_domain)
    }
}

/// Whether a text is a domain name of at least two labels, without a port.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// The domain of a mail address, or the host of a URL over HTTPS, if there is only one way to read it.
fn domain_of(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("https://") {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let host = &rest[..end];
        let plain = rest.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        return (plain && is_domain(host)).then_some(host);
    }
    let (local, domain) = text.split_once('@')?;
    let plain = (1..=64).contains(&local.len())
        && local
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        && is_domain(domain);
    plain.then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn allowed(covers: Value) -> Result<Allowed, InvalidAllowance> {
        Allowed::new(&serde_json::from_value(covers).unwrap())
    }

    fn asked(argument: &str, exact: Value) -> Asked {
        Asked {
            argument: argument.to_owned(),
            value: exact.to_string(),
            reason: Reason::Nowhere,
            seen: Vec::new(),
            incomplete: false,
            exact,
        }
    }

    fn covers(set: Value, argument: &str, exact: Value) -> bool {
        let allowed = allowed(json!({ "values": set })).unwrap();
        allowed.covers(false, &[asked(argument, exact)])
    }

    #[test]
    fn the_very_call_is_only_the_very_call() {
        let call = allowed(json!("call")).unwrap();
        let one = [asked("/to", json!("x"))];
        assert!(call.covers(true, &one) && call.covers(true, &[]));
        assert!(!call.covers(false, &one) && !call.covers(false, &[]));
    }

    #[test]
    fn every_value_must_be_in_the_set_of_its_argument() {
        let both = allowed(json!({"values": {
            "to": {"domain": "corp.example"}, "amount": {"is": {"max": 100}}
        }}))
        .unwrap();
        let to = |text: &str| asked("/to/0", json!(text));
        assert!(both.covers(false, &[to("ann@corp.example"), asked("/amount", json!(7))]));
        assert!(!both.covers(
            false,
            &[to("ann@corp.example"), asked("/amount", json!(700))]
        ));
        assert!(!both.covers(false, &[to("x@evil.example"), asked("/amount", json!(7))]));
        assert!(!both.covers(false, &[asked("/cc", json!("ann@corp.example"))]));
        assert!(!both.covers(false, &[asked("/amount", json!("7"))]));
        let none = allowed(json!({"values": {}})).unwrap();
        assert!(none.covers(false, &[]) && !none.covers(false, &[to("ann@corp.example")]));
    }

    #[test]
    fn places_reach_inside_and_not_beside() {
        let set = json!({"/items/*/url": {"domain": "corp.example"}});
        let url = json!("https://corp.example/a");
        assert!(covers(set.clone(), "/items/3/url", url.clone()));
        assert!(!covers(set.clone(), "/items/3/to", url.clone()));
        assert!(!covers(set, "/items/3", url));
        assert!(covers(
            json!({"a/b": {"is": {"one_of": ["x"]}}}),
            "/a~1b/0",
            json!("x")
        ));
    }

    #[test]
    fn a_domain_is_exactly_this_one() {
        let set = json!({"to": {"domain": "Corp.example"}});
        for good in [
            "ann@corp.example",
            "a.b+c@CORP.EXAMPLE",
            "https://corp.example",
            "https://corp.example/a?b#c",
        ] {
            assert!(covers(set.clone(), "/to", json!(good)), "{good}");
        }
        for bad in [
            "ann@corp.example.evil.example",
            "ann@evil.example,bob@corp.example",
            "ann@evil.example@corp.example",
            "\"ann@evil.example\"@corp.example",
            "ann@sub.corp.example",
            "ann@corp.example ",
            "http://corp.example/",
            "https://corp.example@evil.example/",
            "https://corp.example:8443/",
            "https://corp.example\\@evil.example/",
            "https://evil.example/?https://corp.example",
            "https://corp.example.evil.example/",
            "corp.example",
            "аnn@corp.example",
        ] {
            assert!(!covers(set.clone(), "/to", json!(bad)), "{bad}");
        }
        assert!(!covers(set, "/to", json!(["ann@corp.example"])));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (covers, says) in [
            (json!({"values": {"to": {}}}), "which values"),
            (
                json!({"values": {"": {"domain": "a.example"}}}),
                "names no argument",
            ),
            (
                json!({"values": {"/*": {"domain": "a.example"}}}),
                "names no argument",
            ),
            (json!({"values": {"to": {"domain": "example"}}}), "no value"),
            (
                json!({"values": {"to": {"domain": "a.example/x"}}}),
                "no value",
            ),
            (
                json!({"values": {"to": {"is": {"one_of": []}}}}),
                "no value",
            ),
            (
                json!({"values": {"to": {"is": {"regex": "("}}}}),
                "no value",
            ),
            (
                json!({"values": {"p": {"is": {"below": "/srv/../x"}}}}),
                "no value",
            ),
            (
                json!({"values": {"u": {"is": {"prefix": "https://a.example"}}}}),
                "below",
            ),
            (
                json!({"values": {"p": {"is": {"prefix": "/srv/a"}}}}),
                "below",
            ),
            (json!({"values": {"p": {"is": {"prefix": ""}}}}), "below"),
        ] {
            let error = allowed(covers.clone()).unwrap_err();
            assert!(error.to_string().contains(says), "{covers}: {error}");
        }
        let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        let many = json!({"values": {"to": {"is": {"one_of": many}}}});
        assert_eq!(allowed(many).unwrap_err(), InvalidAllowance::TooMany);
    }

    #[test]
    fn what_no_reader_sees_is_in_no_set() {
        let set = allowed(json!({"values": {"to": {"is": {"regex": ".*"}}}})).unwrap();
        let mut one = asked("/to", json!("a\u{200b}b"));
        assert!(set.covers(false, std::slice::from_ref(&one)));
        one.reason = Reason::Deceptive;
        assert!(!set.covers(false, &[one]));
    }

    proptest! {
        #[test]
        fn a_domain_that_is_accepted_ends_the_address(local in "[a-z@.,\"<> ]{0,8}", domain in "[a-z.@]{1,12}") {
            let text = format!("{local}@{domain}");
            if let Some(found) = domain_of(&text) {
                prop_assert_eq!(text.matches('@').count(), 1);
                prop_assert!(text.ends_with(found) && is_domain(found));
            }
        }
    }
}
