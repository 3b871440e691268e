//! Conditions: comparisons of variables, in the grammar of STIX patterns (CACAO 2.0, §4.8; STIX 2.1, §9),
//! as far as it is about single values: `__a__:value = 'x'`, `!=`, `<`, `<=`, `>`, `>=`, `IN ('x', 'y')`,
//! `NOT`, `AND`, `OR` and parentheses. A variable without a value is like an empty text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::variable::Name;

/// Longest condition, in bytes, and how deep it is nested at most.
const BYTES: usize = 2_000;
const DEPTH: usize = 16;

/// What decides which way to go.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A comparison.
    Compare {
        /// The variable.
        variable: Name,
        /// How it is compared.
        by: By,
        /// With what.
        with: Vec<Literal>,
    },
    /// The opposite.
    Not(Box<Condition>),
    /// Both.
    And(Box<Condition>, Box<Condition>),
    /// One of them.
    Or(Box<Condition>, Box<Condition>),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// They are the same.
    Equal,
    /// They are not.
    Unequal,
    /// The variable is less.
    Less,
    /// The variable is not more.
    AtMost,
    /// The variable is more.
    More,
    /// The variable is not less.
    AtLeast,
    /// The variable is one of several.
    In,
}

/// A value that is written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Truth(bool),
}

impl Literal {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
        }
    }
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES {
            return Err(format!("a condition has at most {BYTES} bytes"));
        }
        let mut parser = Parser {
            tokens: tokens(text)?,
            at: 0,
            depth: 0,
        };
        let condition = parser.or()?;
        match parser.tokens.get(parser.at) {
            None => Ok(condition),
            Some(token) => Err(format!("nothing can follow before {token}")),
        }
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, values: &BTreeMap<Name, Option<String>>) -> bool {
        match self {
            Self::Not(inner) => !inner.holds(values),
            Self::And(one, other) => one.holds(values) && other.holds(values),
            Self::Or(one, other) => one.holds(values) || other.holds(values),
            Self::Compare { variable, by, with } => {
                let value = values.get(variable).cloned().flatten().unwrap_or_default();
                let equal = |literal: &Literal| value == literal.text();
                let ordered = |literal: &Literal| match literal {
                    Literal::Number(number) => value.parse::<i64>().ok().map(|it| it.cmp(number)),
                    literal => Some(value.as_str().cmp(literal.text().as_str())),
                };
                let Some(first) = with.first() else {
                    return false;
                };
                // What is no number is neither more nor less than one.
                match by {
                    By::Equal => equal(first),
                    By::Unequal => !equal(first),
                    By::In => with.iter().any(equal),
                    By::Less => ordered(first).is_some_and(std::cmp::Ordering::is_lt),
                    By::AtMost => ordered(first).is_some_and(std::cmp::Ordering::is_le),
                    By::More => ordered(first).is_some_and(std::cmp::Ordering::is_gt),
                    By::AtLeast => ordered(first).is_some_and(std::cmp::Ordering::is_ge),
                }
            }
        }
    }

    /// The variables that it is about.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<Name> {
        match self {
            Self::Compare { variable, .. } => BTreeSet::from([variable.clone()]),
            Self::Not(inner) => inner.variables(),
            Self::And(one, other) | Self::Or(one, other) => {
                let mut all = one.variables();
                all.extend(other.variables());
                all
            }
        }
    }
}

impl fmt::Display for Condition {
    /// In words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |name: &Name| name.as_str().trim_matches('_').replace('_', " ");
        match self {
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::And(one, other) => write!(f, "{one} and {other}"),
            Self::Or(one, other) => write!(f, "({one} or {other})"),
            Self::Compare { variable, by, with } => {
                let name = plain(variable);
                let values: Vec<String> =
                    with.iter().map(|it| format!("`{}`", it.text())).collect();
                let empty = matches!(&with[..], [Literal::Text(text)] if text.is_empty());
                match by {
                    By::Equal if empty => write!(f, "the {name} is not known"),
                    By::Unequal if empty => write!(f, "the {name} is known"),
                    By::Equal => write!(f, "the {name} is {}", values.join(" ")),
                    By::Unequal => write!(f, "the {name} is not {}", values.join(" ")),
                    By::In => write!(f, "the {name} is one of {}", values.join(", ")),
                    By::Less => write!(f, "the {name} is less than {}", values.join(" ")),
                    By::AtMost => write!(f, "the {name} is at most {}", values.join(" ")),
                    By::More => write!(f, "the {name} is more than {}", values.join(" ")),
                    By::AtLeast => write!(f, "the {name} is at least {}", values.join(" ")),
                }
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Variable(Name),
    Literal(Literal),
    By(By),
    Word(&'static str),
    Open,
    Close,
    Comma,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "`{name}`"),
            Self::Literal(literal) => write!(f, "`{}`", literal.text()),
            Self::By(_) => f.write_str("a comparison"),
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
            Self::Comma => f.write_str("`,`"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '=' => (
                Token::By(By::Equal),
                if rest.starts_with("==") { 2 } else { 1 },
            ),
            '!' if rest.starts_with("!=") => (Token::By(By::Unequal), 2),
            '<' if rest.starts_with("<>") => (Token::By(By::Unequal), 2),
            '<' if rest.starts_with("<=") => (Token::By(By::AtMost), 2),
            '>' if rest.starts_with(">=") => (Token::By(By::AtLeast), 2),
            '<' => (Token::By(By::Less), 1),
            '>' => (Token::By(By::More), 1),
            '\'' => quoted(rest)?,
            _ => word(rest)?,
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// A text in single quotes, in which `\'` and `\\` stand for what follows the backslash.
fn quoted(rest: &str) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' => return Ok((Token::Literal(Literal::Text(text)), at + 1)),
            '\\' => match characters.next() {
                Some((_, escaped @ ('\'' | '\\'))) => text.push(escaped),
                _ => return Err("after a backslash comes a quote or a backslash".to_owned()),
            },
            other => text.push(other),
        }
    }
    Err("a quoted text has no end".to_owned())
}

fn word(rest: &str) -> Result<(Token, usize), String> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '+');
    let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
    let word = &rest[..length];
    if let Some(name) = word.strip_suffix(":value") {
        let name = Name::parse(name).map_err(|error| error.to_string())?;
        return Ok((Token::Variable(name), length));
    }
    let token = match word {
        "AND" => Token::Word("AND"),
        "OR" => Token::Word("OR"),
        "NOT" => Token::Word("NOT"),
        "IN" => Token::By(By::In),
        "true" | "false" => Token::Literal(Literal::Truth(word == "true")),
        _ => match word.parse::<i64>() {
            Ok(number) => Token::Literal(Literal::Number(number)),
            Err(_) => {
                let shown: String = rest.chars().take(20).flat_map(char::escape_debug).collect();
                return Err(format!(
                    "`{shown}` cannot be understood: variables are written `__name__:value`, texts \
                     in single quotes, and words of the language in capitals"
                ));
            }
        },
    };
    Ok((token, length))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn eat(&mut self, token: &Token) -> bool {
        let there = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(there);
        there
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    fn or(&mut self) -> Result<Condition, String> {
        let mut left = self.and()?;
        while self.eat(&Token::Word("OR")) {
            left = Condition::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Condition, String> {
        let mut left = self.one()?;
        while self.eat(&Token::Word("AND")) {
            left = Condition::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("a condition is nested at most {DEPTH} deep"));
        }
        let condition = self.inner();
        self.depth -= 1;
        condition
    }

    fn inner(&mut self) -> Result<Condition, String> {
        if self.eat(&Token::Word("NOT")) {
            return Ok(Condition::Not(Box::new(self.one()?)));
        }
        if self.eat(&Token::Open) {
            let inner = self.or()?;
            return if self.eat(&Token::Close) {
                Ok(inner)
            } else {
                Err("a parenthesis is not closed".to_owned())
            };
        }
        let Some(Token::Variable(variable)) = self.next() else {
            return Err(
                "a comparison begins with a variable, such as `__agent__:value`".to_owned(),
            );
        };
        let negated = self.eat(&Token::Word("NOT"));
        let Some(Token::By(by)) = self.next() else {
            return Err(format!("`{variable}` is compared with nothing"));
        };
        let with = if by == By::In {
            self.list()?
        } else {
            vec![self.literal()?]
        };
        let compare = Condition::Compare { variable, by, with };
        Ok(if negated {
            Condition::Not(Box::new(compare))
        } else {
            compare
        })
    }

    fn literal(&mut self) -> Result<Literal, String> {
        match self.next() {
            Some(Token::Literal(literal)) => Ok(literal),
            _ => Err("a comparison ends with a text, a number, `true` or `false`".to_owned()),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, String> {
        if !self.eat(&Token::Open) {
            return Err("`IN` is followed by a list in parentheses".to_owned());
        }
        let mut list = vec![self.literal()?];
        while self.eat(&Token::Comma) {
            list.push(self.literal()?);
        }
        if self.eat(&Token::Close) {
            Ok(list)
        } else {
            Err("a list is not closed".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(text: &str) -> bool {
        let values = BTreeMap::from([
            (
                Name::parse("__severity__").unwrap(),
                Some("high".to_owned()),
            ),
            (Name::parse("__count__").unwrap(), Some("10".to_owned())),
            (Name::parse("__task__").unwrap(), None),
        ]);
        Condition::parse(text).unwrap().holds(&values)
    }

    #[test]
    fn conditions_hold_as_they_are_written() {
        for yes in [
            "__severity__:value = 'high'",
            "__severity__:value IN ('high', 'critical')",
            "__severity__:value NOT IN ('low')",
            "__task__:value = ''",
            "NOT __task__:value != ''",
            "__count__:value >= 10 AND __count__:value < 11",
            "__count__:value > 9 AND (__task__:value = 'x' OR __severity__:value != 'low')",
            "__count__:value = 10",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "__count__:value > 9 AND __task__:value != ''",
            "__severity__:value > 5",
            "__severity__:value <= 5",
            "__missing__:value = 'x'",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_condition_says_why() {
        for bad in [
            "",
            "true",
            "'a' = 'a'",
            "__a__ = 'x'",
            "__a__:value = __b__:value",
            "__a__:value = 'x",
            "__a__:value = 'x' '",
            "(__a__:value = 'x'",
            "__a__:value IN 'x'",
            "__a__:value = 'x' and __a__:value = 'y'",
            "__a__:value; rm -rf /",
            &"(".repeat(100),
        ] {
            assert!(Condition::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn they_are_read_aloud() {
        let shown = |text: &str| Condition::parse(text).unwrap().to_string();
        assert_eq!(shown("__task__:value != ''"), "the task is known");
        assert_eq!(
            shown("__severity__:value IN ('high','critical') AND __count__:value > 3"),
            "the severity is one of `high`, `critical` and the count is more than `3`"
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}", spiced in "[_a:value='()<>!=, NOTANDRI]{0,60}") {
            let _ = Condition::parse(&text);
            let _ = Condition::parse(&spiced);
        }
    }
}
