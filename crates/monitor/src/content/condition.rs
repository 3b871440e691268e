//! Conditions of rules: `any of them`, `2 of (a*, b)`, `near(a, b, 80) and not c`.

use super::rules::RuleError;

/// Longest condition, in bytes.
const LONGEST: usize = 2_048;
/// Deepest nesting of a condition.
const DEEPEST: usize = 24;
/// Most hits of one term that are looked at: more than anybody could write to keep the one that matters
/// from being looked at, without the text being odd for its length alone.
pub(super) const NEAR_HITS: usize = 1_024;
/// How many hits are tried that end late enough to be near.
const NEAR_TRIES: usize = 8;

/// A condition over the terms of a rule, by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Term(usize),
    AtLeast(usize, Vec<usize>),
    /// Each of the terms has a hit, all within a number of bytes of the first one's.
    Near(Vec<usize>, usize),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

impl Condition {
    /// Reads a condition over named terms.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str, terms: &[String]) -> Result<Self, RuleError> {
        if text.len() > LONGEST {
            return Err(RuleError::Condition(format!(
                "it is longer than {LONGEST} bytes"
            )));
        }
        let mut reader = Reader {
            tokens: tokens(text)?,
            at: 0,
            terms,
        };
        let condition = reader.any(0)?;
        match reader.tokens.get(reader.at) {
            None => Ok(condition),
            Some(more) => Err(wrong(format!("nothing is expected before `{more}`"))),
        }
    }

    /// Whether it could hold when only these terms can have hits.
    pub(super) fn may_hold(&self, possible: &[bool]) -> bool {
        let may = |term: &usize| possible.get(*term).copied().unwrap_or(false);
        match self {
            Self::Term(term) => may(term),
            Self::AtLeast(count, terms) => terms.iter().filter(|term| may(term)).count() >= *count,
            Self::Near(terms, _) => terms.iter().all(may),
            Self::All(all) => all.iter().all(|one| one.may_hold(possible)),
            Self::Any(any) => any.iter().any(|one| one.may_hold(possible)),
            Self::Not(_) => true,
        }
    }

    /// Whether it holds for hits: for each term, the bytes where it was found, sorted by their ends.
    pub(super) fn holds(&self, hits: &[Vec<(usize, usize)>]) -> bool {
        let found = |term: &usize| hits.get(*term).is_some_and(|hits| !hits.is_empty());
        match self {
            Self::Term(term) => found(term),
            Self::AtLeast(count, terms) => {
                terms.iter().filter(|term| found(term)).count() >= *count
            }
            Self::Near(terms, within) => near(terms, *within, hits),
            Self::All(all) => all.iter().all(|one| one.holds(hits)),
            Self::Any(any) => any.iter().any(|one| one.holds(hits)),
            Self::Not(one) => !one.holds(hits),
        }
    }
}

/// The hits are sorted by where they end, so that each search for a near one is short.
fn near(terms: &[usize], within: usize, hits: &[Vec<(usize, usize)>]) -> bool {
    let Some((first, others)) = terms.split_first() else {
        return false;
    };
    let of = |term: &usize| hits.get(*term).map_or(&[][..], Vec::as_slice);
    of(first).iter().any(|(start, end)| {
        others.iter().all(|other| {
            let hits = of(other);
            let late = hits.partition_point(|(_, to)| to.saturating_add(within) < *start);
            let latest = end.saturating_add(within);
            hits[late..]
                .iter()
                .take(NEAR_TRIES)
                .any(|(from, _)| *from <= latest)
        })
    })
}

fn wrong(text: impl Into<String>) -> RuleError {
    RuleError::Condition(text.into())
}

fn tokens(text: &str) -> Result<Vec<String>, RuleError> {
    let mut out = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '*' => word.push(c),
            _ => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                match c {
                    '(' | ')' | ',' => out.push(c.to_string()),
                    _ if c.is_ascii_whitespace() => {}
                    _ => return Err(wrong(format!("`{}` is not expected", c.escape_debug()))),
                }
            }
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    Ok(out)
}

struct Reader<'a> {
    tokens: Vec<String>,
    at: usize,
    terms: &'a [String],
}

impl Reader<'_> {
    fn next(&mut self) -> Result<String, RuleError> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| wrong("it ends too early"))
    }

    fn is(&mut self, token: &str) -> bool {
        let is = self.tokens.get(self.at).is_some_and(|next| next == token);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, token: &str) -> Result<(), RuleError> {
        if self.is(token) {
            Ok(())
        } else {
            Err(wrong(format!("`{token}` is missing")))
        }
    }

    fn any(&mut self, depth: usize) -> Result<Condition, RuleError> {
        if depth > DEEPEST {
            return Err(wrong(format!("it is nested deeper than {DEEPEST}")));
        }
        let mut any = vec![self.all(depth)?];
        while self.is("or") {
            any.push(self.all(depth)?);
        }
        Ok(one_or(any, Condition::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Condition, RuleError> {
        let mut all = vec![self.one(depth)?];
        while self.is("and") {
            all.push(self.one(depth)?);
        }
        Ok(one_or(all, Condition::All))
    }

    fn one(&mut self, depth: usize) -> Result<Condition, RuleError> {
        if depth > DEEPEST {
            return Err(wrong(format!("it is nested deeper than {DEEPEST}")));
        }
        let token = self.next()?;
        match token.as_str() {
            "not" => Ok(Condition::Not(Box::new(self.one(depth + 1)?))),
            "(" => {
                let inner = self.any(depth + 1)?;
                self.expect(")")?;
                Ok(inner)
            }
            "near" => self.near(),
            "any" => self.of(Some(1)),
            "all" => self.of(None),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                let count = number.parse().map_err(|_| wrong("a number is too large"))?;
                self.of(Some(count))
            }
            name => Ok(Condition::Term(self.term(name)?)),
        }
    }

    fn of(&mut self, count: Option<usize>) -> Result<Condition, RuleError> {
        self.expect("of")?;
        let terms = if self.is("them") {
            (0..self.terms.len()).collect()
        } else {
            self.expect("(")?;
            self.set()?
        };
        let count = count.unwrap_or(terms.len());
        if count == 0 || count > terms.len() {
            return Err(wrong(format!(
                "{count} of {} terms can never say anything",
                terms.len()
            )));
        }
        Ok(Condition::AtLeast(count, terms))
    }

    /// Names, or beginnings of names with `*`, up to the closing parenthesis.
    fn set(&mut self) -> Result<Vec<usize>, RuleError> {
        let mut set = Vec::new();
        loop {
            let name = self.next()?;
            match name.strip_suffix('*') {
                Some(begin) => {
                    let before = set.len();
                    let named =
                        (0..self.terms.len()).filter(|term| self.terms[*term].starts_with(begin));
                    set.extend(named);
                    if set.len() == before {
                        return Err(wrong(format!("no term begins with `{begin}`")));
                    }
                }
                None => set.push(self.term(&name)?),
            }
            if self.is(")") {
                set.sort_unstable();
                set.dedup();
                return Ok(set);
            }
            self.expect(",")?;
        }
    }

    fn near(&mut self) -> Result<Condition, RuleError> {
        self.expect("(")?;
        let mut terms = Vec::new();
        loop {
            let token = self.next()?;
            if let Ok(within) = token.parse::<usize>() {
                self.expect(")")?;
                if terms.len() < 2 {
                    return Err(wrong("`near` needs two terms and a number of bytes"));
                }
                return Ok(Condition::Near(terms, within));
            }
            terms.push(self.term(&token)?);
            self.expect(",")?;
        }
    }

    fn term(&self, name: &str) -> Result<usize, RuleError> {
        self.terms
            .iter()
            .position(|term| term == name)
            .ok_or_else(|| wrong(format!("there is no term `{name}`")))
    }
}

fn one_or(mut many: Vec<Condition>, or: fn(Vec<Condition>) -> Condition) -> Condition {
    if many.len() == 1 {
        many.swap_remove(0)
    } else {
        or(many)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms() -> Vec<String> {
        ["a1", "a2", "b"].map(str::to_owned).to_vec()
    }

    fn holds(text: &str, hits: &[&[(usize, usize)]]) -> bool {
        let hits: Vec<Vec<_>> = hits.iter().map(|hits| hits.to_vec()).collect();
        Condition::parse(text, &terms()).unwrap().holds(&hits)
    }

    #[test]
    fn conditions_mean_what_they_say() {
        let (none, one): (&[_], &[_]) = (&[], &[(5, 9)]);
        assert!(holds("any of them", &[none, one, none]));
        assert!(!holds("all of them", &[none, one, one]));
        assert!(holds("2 of them", &[none, one, one]));
        assert!(holds("any of (a*)", &[none, one, none]));
        assert!(!holds("any of (a*)", &[none, none, one]));
        assert!(holds("b and not any of (a1, a2)", &[none, none, one]));
        assert!(!holds("b and not (a1 or a2)", &[one, none, one]));
        assert!(
            holds("a1 and a2 or b", &[none, none, one]),
            "and binds tighter"
        );
    }

    #[test]
    fn nearness_is_the_gap_between_them() {
        let far: &[_] = &[(100, 104)];
        assert!(holds("near(a1, b, 90)", &[far, &[], &[(5, 10)]]));
        assert!(!holds("near(a1, b, 89)", &[far, &[], &[(5, 10)]]));
        assert!(
            holds("near(b, a1, 90)", &[far, &[], &[(5, 10)]]),
            "in either order"
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [
            "",
            "c",
            "a1 and",
            "(a1",
            "a1)",
            "0 of them",
            "4 of them",
            "any of (z*)",
            "any them",
            "near(a1, 5)",
            "near(a1, b)",
            "a1 b",
            "a1 & b",
            "not",
            "99999999999999999999999 of them",
        ] {
            assert!(Condition::parse(bad, &terms()).is_err(), "{bad}");
        }
        let deep = format!("{}a1{}", "(".repeat(100), ")".repeat(100));
        assert!(Condition::parse(&deep, &terms()).is_err());
        assert!(Condition::parse(&format!("{}a1", "not ".repeat(100)), &terms()).is_err());
    }

    #[test]
    fn many_hits_of_one_term_do_not_hide_the_near_one() {
        let mut many: Vec<(usize, usize)> = (0..900).map(|n| (n * 10, n * 10 + 4)).collect();
        many.push((50_000, 50_004));
        assert!(holds("near(a1, b, 20)", &[&many, &[], &[(50_010, 50_012)]]));
        assert!(holds("near(b, a1, 20)", &[&many, &[], &[(50_010, 50_012)]]));
        assert!(!holds(
            "near(a1, b, 20)",
            &[&many, &[], &[(40_000, 40_002)]]
        ));
    }

    proptest! {
        #[test]
        fn what_holds_was_possible(
            text in "(a1|a2|b|not a1|near\\(a1, b, 5\\)|2 of them)( (and|or) (a1|a2|b|not b)){0,3}",
            found in prop::collection::vec(any::<bool>(), 3),
        ) {
            let condition = Condition::parse(&text, &terms()).unwrap();
            let hits: Vec<Vec<_>> = found.iter().map(|yes| yes.then_some((1, 2)).into_iter().collect()).collect();
            prop_assert!(!condition.holds(&hits) || condition.may_hold(&found));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[a-z0-9(),* ]{0,80}") {
            if let Ok(condition) = Condition::parse(&text, &terms()) {
                condition.holds(&[vec![], vec![(0, 1)], vec![(2, 3)]]);
            }
        }
    }
}
