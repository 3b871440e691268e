//! Regular expressions in templates: they match a value from end to end.

use regex::{Regex, RegexBuilder};

/// Largest compiled expression, in bytes.
const LIMIT: usize = 1 << 20;

/// Compiles an expression so that it must match a text from end to end.
///
/// # Errors
/// [`regex::Error`] when it is none, or its compiled form is larger than 1 MiB.
pub fn whole(expression: &str) -> Result<Regex, regex::Error> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(LIMIT).build();
    // On its own first: `a)|(?:b` is no expression, but would be one between the anchors.
    build(expression)?;
    build(&format!(r"\A(?:{expression})\z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_anchors() {
        assert!(whole("a|b").unwrap().is_match("b"));
        for (expression, text) in [
            ("a|b", "xb"),
            ("a", "a\n"),
            ("(?m)a", "a\nb"),
            ("(?s).", ""),
        ] {
            assert!(!whole(expression).unwrap().is_match(text), "{expression}");
        }
        for unusable in ["a)|(?:b", "(?x)a #", "(", "(?:a{1000}){1000}"] {
            let refused = whole(unusable).map_or(true, |regex| !regex.is_match("xb"));
            assert!(refused, "{unusable}");
        }
        assert!(whole("a)|(?:b").is_err());
    }
}
