//! The arguments of a call against the constraints of a tool permission.

use std::collections::BTreeMap;

use model::{CallPermission, Constraint};
use serde_json::{Map, Value};

use crate::constraint::{Broken, CompiledConstraint};

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The member of this name, or the element of this index.
    Name(Box<str>),
    /// Every member or element.
    Each,
}

/// Where a constraint applies: an argument name, or a JSON Pointer (RFC 6901) with `*` for every
/// member or element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(pub(crate) Vec<Step>);

impl Pointer {
    /// Reads a key; `None` when it is a pointer with an escape that RFC 6901 does not know.
    pub(crate) fn parse(key: &str) -> Option<Self> {
        let Some(steps) = key.strip_prefix('/') else {
            return Some(Self(vec![Step::Name(key.into())]));
        };
        let step = |step: &str| match step {
            "*" => Some(Step::Each),
            _ => unescape(step).map(Step::Name),
        };
        steps
            .split('/')
            .map(step)
            .collect::<Option<Vec<_>>>()
            .map(Self)
    }

    /// The top-level argument that it is about; `None` for every one.
    pub(crate) fn first(&self) -> Option<&str> {
        match self.0.first() {
            Some(Step::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether it is about this whole top-level argument, and not only a part of it.
    fn is_whole(&self, argument: &str) -> bool {
        let (first, rest) = match self.0.split_first() {
            Some((first, rest)) => (first, rest),
            None => return false,
        };
        let named = match first {
            Step::Each => true,
            Step::Name(name) => **name == *argument,
        };
        named && rest.iter().all(|step| *step == Step::Each)
    }
}

/// RFC 6901 §4: `~1` is `/` and `~0` is `~`.
fn unescape(step: &str) -> Option<Box<str>> {
    if !step.contains('~') {
        return Some(step.into());
    }
    let mut out = String::with_capacity(step.len());
    let mut rest = step.chars();
    while let Some(c) = rest.next() {
        out.push(match c {
            '~' => match rest.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out.into())
}

/// One constraint with its place.
#[derive(Debug)]
pub(crate) struct ArgumentRule {
    pub(crate) key: Box<str>,
    /// `None` when the key is not usable: then nothing satisfies the rule.
    pub(crate) pointer: Option<Pointer>,
    pub(crate) constraint: CompiledConstraint,
}

/// All constraints of one tool permission.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) rules: Vec<ArgumentRule>,
    pub(crate) others: bool,
}

/// Why arguments are refused. Names only what the grant or the caller itself named.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refused<'a> {
    /// An argument that no constraint names was passed.
    Unnamed(&'a str),
    /// A constrained argument was left out.
    Missing(&'a str),
    /// Something on the way to the constrained part is not an object or array.
    Shape(&'a str),
    /// A value breaks its constraint.
    Broken(&'a str, Broken, &'a Constraint),
}

impl Arguments {
    pub(crate) fn new(tool: &CallPermission) -> Self {
        Self::of(&tool.arguments, tool.allows_other_arguments())
    }

    fn of(constraints: &BTreeMap<String, Constraint>, others: bool) -> Self {
        let rules = constraints
            .iter()
            .map(|(key, constraint)| ArgumentRule {
                key: key.as_str().into(),
                pointer: Pointer::parse(key),
                constraint: CompiledConstraint::new(constraint),
            })
            .collect();
        Self { rules, others }
    }

    /// Checks a call's arguments.
    pub(crate) fn check<'a>(
        &'a self,
        arguments: &'a Map<String, Value>,
    ) -> Result<(), Refused<'a>> {
        if !self.others
            && let Some(name) = arguments.keys().find(|name| !self.names(name))
        {
            return Err(Refused::Unnamed(name));
        }
        self.rules.iter().try_for_each(|rule| rule.check(arguments))
    }

    /// Whether some constraint is about a top-level argument or a part of it.
    pub(crate) fn names(&self, argument: &str) -> bool {
        self.pointers()
            .any(|pointer| pointer.first().is_none_or(|first| first == argument))
    }

    /// Whether some constraint is about a whole top-level argument.
    pub(crate) fn constrains(&self, argument: &str) -> bool {
        self.pointers().any(|pointer| pointer.is_whole(argument))
    }

    fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.rules.iter().filter_map(|rule| rule.pointer.as_ref())
    }
}

impl ArgumentRule {
    fn check<'a>(&'a self, arguments: &'a Map<String, Value>) -> Result<(), Refused<'a>> {
        let unusable = || Refused::Broken(&self.key, Broken::Unusable, self.constraint.written());
        let pointer = self.pointer.as_ref().ok_or_else(unusable)?;
        let (first, rest) = pointer.0.split_first().ok_or_else(unusable)?;
        match first {
            Step::Name(name) => self.member(arguments.get(&**name), rest),
            Step::Each => self.each(arguments.values(), rest),
        }
    }

    fn member<'a>(&'a self, value: Option<&'a Value>, rest: &[Step]) -> Result<(), Refused<'a>> {
        match value {
            Some(value) => self.walk(value, rest),
            None if self.constraint.written().optional => Ok(()),
            None => Err(Refused::Missing(&self.key)),
        }
    }

    fn each<'a>(
        &'a self,
        mut values: impl ExactSizeIterator<Item = &'a Value>,
        rest: &[Step],
    ) -> Result<(), Refused<'a>> {
        if values.len() == 0 && !self.constraint.written().optional {
            return Err(Refused::Missing(&self.key));
        }
        values.try_for_each(|value| self.walk(value, rest))
    }

    /// Follows the steps. What is there but has not the shape that the steps need is refused even
    /// if the constraint is optional: it is not left out, only out of the constraint's sight.
    fn walk<'a>(&'a self, value: &'a Value, steps: &[Step]) -> Result<(), Refused<'a>> {
        let Some((step, rest)) = steps.split_first() else {
            return self
                .constraint
                .check(value)
                .map_err(|broken| Refused::Broken(&self.key, broken, self.constraint.written()));
        };
        match (step, value) {
            (Step::Name(name), Value::Object(members)) => self.member(members.get(&**name), rest),
            (Step::Name(name), Value::Array(elements)) => {
                let index = index(name).ok_or(Refused::Shape(&self.key))?;
                self.member(elements.get(index), rest)
            }
            (Step::Each, Value::Object(members)) => self.each(members.values(), rest),
            (Step::Each, Value::Array(elements)) => self.each(elements.iter(), rest),
            _ => Err(Refused::Shape(&self.key)),
        }
    }
}

/// RFC 6901 §4: digits without leading zeros.
fn index(step: &str) -> Option<usize> {
    let digits = step.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (step == "0" || !step.starts_with('0'));
    plain.then(|| step.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(tool: Value) -> Arguments {
        let mut tool = tool;
        tool["name"] = json!("t");
        Arguments::new(&serde_json::from_value(tool).unwrap())
    }

    fn check(tool: Value, given: Value) -> bool {
        let Value::Object(given) = given else {
            panic!("arguments are objects")
        };
        arguments(tool).check(&given).is_ok()
    }

    #[test]
    fn constrained_arguments_must_be_there_and_others_must_not() {
        let tool = json!({"arguments": {"path": {"prefix": "/a"}}});
        assert!(check(tool.clone(), json!({"path": "/a/b"})));
        assert!(!check(tool.clone(), json!({})));
        assert!(!check(tool.clone(), json!({"path": "/b"})));
        assert!(!check(tool.clone(), json!({"path": "/a/b", "Path": "/b"})));
        assert!(!check(tool, json!({"path": null})));
        let open = json!({"arguments": {"path": {"prefix": "/a"}}, "other_arguments": "allow"});
        assert!(check(open, json!({"path": "/a", "more": 1})));
        let optional = json!({"arguments": {"path": {"prefix": "/a", "optional": true}}});
        assert!(check(optional.clone(), json!({})));
        assert!(!check(optional, json!({"path": null})));
        assert!(check(json!({}), json!({"anything": {}})));
        assert!(!check(
            json!({"other_arguments": "refuse"}),
            json!({"anything": {}})
        ));
    }

    #[test]
    fn pointers_reach_inside() {
        let tool =
            json!({"arguments": {"/files/*/path": {"below": "/a"}, "/o/a~1b": {"equals": 1}}});
        let given = |files: Value| json!({"files": files, "o": {"a/b": 1}});
        assert!(check(
            tool.clone(),
            given(json!([{"path": "/a/x"}, {"path": ["/a/y"], "more": 1}]))
        ));
        assert!(check(tool.clone(), given(json!({"k": {"path": "/a/x"}}))));
        for bad in [
            json!([{"path": "/a/x"}, {"path": "/b"}]),
            json!([{"path": "/a/x"}, {}]),
            json!([]),
            json!("/b"),
            json!([["/b"]]),
            json!(null),
            json!([{"path": {"path": "/a"}}]),
        ] {
            assert!(!check(tool.clone(), given(bad.clone())), "{bad}");
        }
        assert!(check(
            json!({"arguments": {"/l/1": {"equals": "b"}}}),
            json!({"l": ["a", "b"]})
        ));
        assert!(!check(
            json!({"arguments": {"/l/01": {"equals": "b"}}}),
            json!({"l": ["a", "b"]})
        ));
    }

    #[test]
    fn optional_does_not_excuse_another_shape() {
        let tool = json!({"arguments": {"/o/path": {"below": "/a", "optional": true}}});
        assert!(check(tool.clone(), json!({})));
        assert!(check(tool.clone(), json!({"o": {}})));
        for bad in [
            json!({"o": "{\"path\":\"/b\"}"}),
            json!({"o": [{"path": "/b"}]}),
            json!({"o": null}),
        ] {
            assert!(!check(tool.clone(), bad));
        }
    }

    #[test]
    fn a_star_at_the_top_is_every_argument() {
        let tool = json!({"arguments": {"/*": {"regex": "[a-z]+"}}});
        assert!(check(tool.clone(), json!({"x": "a", "y": "b"})));
        assert!(!check(tool.clone(), json!({"x": "a", "y": "B"})));
        assert!(!check(tool, json!({})));
        assert!(check(
            json!({"arguments": {"*": {"equals": 1}}}),
            json!({"*": 1})
        ));
    }

    #[test]
    fn unknown_escapes_refuse_everything() {
        let tool = json!({"arguments": {"/a~2": {}}, "other_arguments": "allow"});
        assert!(!check(tool, json!({"a~2": 1})));
    }

    #[test]
    fn only_whole_arguments_count_as_constrained() {
        let tool = arguments(json!({"arguments": {"path": {}, "/files/*": {}, "/o/x": {}}}));
        assert!(tool.constrains("path") && tool.constrains("files"));
        assert!(!tool.constrains("o") && tool.names("o"));
    }
}
