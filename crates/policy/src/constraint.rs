//! Constraints on arguments, ready for use.

use std::cmp::Ordering;
use std::sync::OnceLock;

use model::{Constraint, expression};
use regex::Regex;
use serde_json::Value;

use crate::number;
use crate::path::{Ambiguous, Folder, normalise};

/// What a value breaks, in the order of checking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is not the value, or not one of the values, that are allowed.
    Value,
    /// It is not text.
    NotText,
    /// It does not begin with the prefix.
    Prefix,
    /// It could be read in two ways as a path.
    Ambiguous(Ambiguous),
    /// It is not below the folder.
    NotBelow,
    /// It does not match the regular expression.
    NoMatch,
    /// It is not a number.
    NotNumber,
    /// It is below the minimum.
    TooSmall,
    /// It is above the maximum.
    TooLarge,
    /// It is an array without elements.
    Empty,
    /// The constraint itself cannot be used, so nothing satisfies it.
    Unusable,
}

/// A constraint, compiled. Regular expressions are compiled when first needed: there may be very
/// many open tasks, and most never get to use most of their constraints.
#[derive(Debug)]
pub(crate) struct CompiledConstraint {
    written: Constraint,
    below: Option<Result<Folder, Ambiguous>>,
    regex: OnceLock<Option<Regex>>,
}

impl CompiledConstraint {
    pub(crate) fn new(written: &Constraint) -> Self {
        Self {
            below: written.below.as_deref().map(Folder::parse),
            regex: OnceLock::new(),
            written: written.clone(),
        }
    }

    pub(crate) fn written(&self) -> &Constraint {
        &self.written
    }

    pub(crate) fn below(&self) -> Option<&Result<Folder, Ambiguous>> {
        self.below.as_ref()
    }

    /// Checks a value: it must satisfy all parts; an array, as a whole or in every element.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Broken> {
        let whole = self.check_whole(value);
        match value {
            Value::Array(elements) if whole.is_err() => {
                if elements.is_empty() && !self.written.optional {
                    return Err(Broken::Empty);
                }
                elements.iter().try_for_each(|element| self.check(element))
            }
            _ => whole,
        }
    }

    /// Checks a value without looking into it, should it be an array.
    pub(crate) fn check_whole(&self, value: &Value) -> Result<(), Broken> {
        let written = &self.written;
        let is = |allowed: &Value| number::same(allowed, value);
        if written.equals.as_ref().is_some_and(|allowed| !is(allowed))
            || written
                .one_of
                .as_ref()
                .is_some_and(|allowed| !allowed.iter().any(is))
        {
            return Err(Broken::Value);
        }
        if written.prefix.is_some() || self.below.is_some() || written.regex.is_some() {
            let text = value.as_str().ok_or(Broken::NotText)?;
            self.check_text(text)?;
        }
        if written.min.is_some() || written.max.is_some() {
            let given = value.as_number().ok_or(Broken::NotNumber)?;
            if let Some(min) = &written.min
                && !matches!(
                    number::compare(given, min),
                    Some(Ordering::Greater | Ordering::Equal)
                )
            {
                return Err(Broken::TooSmall);
            }
            if let Some(max) = &written.max
                && !matches!(
                    number::compare(given, max),
                    Some(Ordering::Less | Ordering::Equal)
                )
            {
                return Err(Broken::TooLarge);
            }
        }
        Ok(())
    }

    fn check_text(&self, text: &str) -> Result<(), Broken> {
        if let Some(prefix) = &self.written.prefix
            && !text.starts_with(prefix.as_str())
        {
            return Err(Broken::Prefix);
        }
        if let Some(below) = &self.below {
            let folder = below.as_ref().map_err(|_| Broken::Unusable)?;
            let location = normalise(text).map_err(Broken::Ambiguous)?;
            if !folder.contains(&location) {
                return Err(Broken::NotBelow);
            }
        }
        if let Some(pattern) = &self.written.regex {
            let regex = self.regex.get_or_init(|| expression::whole(pattern).ok());
            let regex = regex.as_ref().ok_or(Broken::Unusable)?;
            if !regex.is_match(text) {
                return Err(Broken::NoMatch);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn constraint(written: Value) -> CompiledConstraint {
        CompiledConstraint::new(&serde_json::from_value(written).unwrap())
    }

    fn holds(written: Value, value: Value) -> bool {
        constraint(written).check(&value).is_ok()
    }

    #[test]
    fn every_part_must_hold() {
        assert!(holds(json!({"equals": 1}), json!(1.0)));
        assert!(!holds(json!({"equals": "1"}), json!(1)));
        assert!(holds(json!({"one_of": ["a", null]}), json!(null)));
        assert!(!holds(json!({"one_of": []}), json!("a")));
        assert!(holds(json!({"prefix": "a", "regex": "[ab]+"}), json!("ab")));
        assert!(!holds(
            json!({"prefix": "a", "regex": "[ab]+"}),
            json!("abc")
        ));
        assert!(!holds(json!({"min": 1, "prefix": "1"}), json!("1")));
        assert!(holds(json!({}), json!({"x": []})));
    }

    #[test]
    fn text_constraints_refuse_other_kinds() {
        for kind in [
            json!({"prefix": ""}),
            json!({"below": "/"}),
            json!({"regex": ".*"}),
        ] {
            for value in [json!(1), json!(null), json!(true), json!({"/": "/"})] {
                assert!(!holds(kind.clone(), value));
            }
        }
        assert!(!holds(json!({"min": 0}), json!("5")));
    }

    #[test]
    fn expressions_match_from_end_to_end() {
        assert!(holds(json!({"regex": "a|ab"}), json!("ab")));
        for (regex, value) in [
            ("a|b", "ax"),
            ("a|b", "xb"),
            ("(?m)^a$", "a\nb"),
            ("a$", "a\n"),
            ("a", "A"),
        ] {
            assert!(
                !holds(json!({"regex": regex}), json!(value)),
                "{regex} {value:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_refuses_everything() {
        for written in [
            json!({"regex": "("}),
            json!({"regex": "a)|(?:b"}),
            json!({"regex": "(?x)a # b"}),
            json!({"regex": "((a{999}){999}){999}"}),
            json!({"below": "/srv/../etc"}),
            json!({"below": ""}),
        ] {
            for value in ["", "a", "b", "/etc", "/srv"] {
                assert!(!holds(written.clone(), json!(value)), "{written}");
            }
        }
    }

    #[test]
    fn bounds_are_exact() {
        assert!(holds(json!({"max": u64::MAX}), json!(u64::MAX)));
        assert!(!holds(
            json!({"max": 9_007_199_254_740_992_u64}),
            json!(9_007_199_254_740_993_u64)
        ));
        assert!(!holds(
            json!({"max": 9_007_199_254_740_992.0}),
            json!(9_007_199_254_740_993_u64)
        ));
        assert!(holds(json!({"min": -0.5, "max": 1}), json!(0)));
        assert!(!holds(json!({"max": 1}), json!(1.000_000_1)));
    }

    #[test]
    fn arrays_hold_in_every_element() {
        let below = json!({"below": "/srv/a"});
        assert!(holds(below.clone(), json!(["/srv/a/x", "/srv/a/y"])));
        assert!(holds(below.clone(), json!([["/srv/a/x"]])));
        assert!(!holds(below.clone(), json!(["/srv/a/x", "/etc/passwd"])));
        assert!(!holds(below.clone(), json!(["/srv/a/x", []])));
        assert!(!holds(below, json!([])));
        assert!(holds(
            json!({"below": "/srv/a", "optional": true}),
            json!([])
        ));
        assert!(holds(json!({"equals": ["a", "b"]}), json!(["a", "b"])));
        assert!(!holds(json!({"equals": ["a", "b"]}), json!(["b", "a"])));
    }

    proptest! {
        #[test]
        fn matching_is_what_a_full_span_match_is(regex in "[ab|()*?.^$]{0,6}", text in "[ab\n]{0,4}") {
            if let Ok(plain) = Regex::new(&regex) {
                // Some match of the expression covers the whole text only if the anchored form matches.
                let spans_all = plain.find(&text).is_some_and(|found| found.as_str() == text);
                let anchored = holds(json!({"regex": regex}), json!(text));
                if spans_all { prop_assert!(anchored); }
                if anchored { prop_assert!(plain.is_match(&text)); }
            } else {
                let accepted = holds(json!({"regex": regex}), json!(text));
                prop_assert!(!accepted);
            }
        }
    }
}
