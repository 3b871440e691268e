//! Credentials in texts: by the form that their issuer gave them, or assigned to a telling name and random
//! enough. What is found is never quoted (R6).

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;
use serde::Deserialize;

use super::rules;

/// Most credentials that are reported of one text.
const MOST: usize = 64;
/// Parts of values that are examples, not secrets.
const PLACEHOLDERS: [&str; 14] = [
    "example",
    "changeme",
    "placeholder",
    "your_",
    "your-",
    "yourtoken",
    "xxxx",
    "****",
    "....",
    "1234567890",
    "abcdefgh",
    "redacted",
    "dummy",
    "${",
];

/// A credential in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Whose credential it is, such as `github-token`.
    pub kind: &'static str,
    /// The first byte of it.
    pub start: usize,
    /// The first byte after it.
    pub end: usize,
}

#[derive(Deserialize)]
struct Written {
    secret: Vec<WrittenForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenForm {
    id: String,
    keyword: Vec<String>,
    regex: String,
    #[serde(default)]
    entropy: f64,
}

struct Forms {
    keywords: AhoCorasick,
    /// For each keyword, the form that it is of.
    of: Vec<usize>,
    forms: Vec<(&'static str, Regex, f64)>,
}

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let written: Written = toml::from_str(include_str!("../../rules/secrets.toml"))
        .expect("the forms that come with the program are sound");
    let mut keywords = Vec::new();
    let mut of = Vec::new();
    let mut forms = Vec::new();
    for (at, form) in written.secret.into_iter().enumerate() {
        of.extend(form.keyword.iter().map(|_| at));
        keywords.extend(form.keyword);
        let regex =
            rules::compile(&form.regex).expect("the forms that come with the program are sound");
        // Read once, and there as long as the process.
        forms.push((&*form.id.leak(), regex, form.entropy));
    }
    Forms {
        keywords: AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&keywords)
            .expect("the forms that come with the program are few"),
        of,
        forms,
    }
});

/// The credentials in a text, at most 64, in order and without overlap.
#[must_use]
pub fn find(text: &str) -> Vec<Secret> {
    let forms = &*FORMS;
    let mut wanted = vec![false; forms.forms.len()];
    for hit in forms.keywords.find_overlapping_iter(text) {
        wanted[forms.of[hit.pattern().as_usize()]] = true;
    }
    let mut found: Vec<Secret> = Vec::new();
    let wanted = forms.forms.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    for ((kind, regex, least), _) in wanted {
        for captures in regex.captures_iter(text).take(MOST) {
            let Some(value) = captures.get(1).or_else(|| captures.get(0)) else {
                continue;
            };
            let (start, end) = (value.start(), value.end());
            let overlaps = found
                .iter()
                .any(|other| start < other.end && other.start < end);
            if !overlaps
                && entropy(value.as_str()) >= *least
                && !is_placeholder(value.as_str(), kind)
            {
                found.push(Secret { kind, start, end });
            }
        }
    }
    found.sort_unstable_by_key(|secret| secret.start);
    found.truncate(MOST);
    found
}

fn is_placeholder(value: &str, kind: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let generic = matches!(kind, "assigned-secret" | "password-in-url");
    // A word with signs is no random value: `os.environ.get`, `config/secret-name`.
    let is_code = generic
        && (!value.bytes().any(|byte| byte.is_ascii_digit())
            || value.matches(['.', '-', '_', '/']).count() > value.len() / 6);
    let example = PLACEHOLDERS.iter().any(|part| lower.contains(part));
    is_code || (example && (generic || kind == "aws-access-key"))
}

/// The Shannon entropy of the bytes of a value, in bits per byte.
#[must_use]
pub fn entropy(value: &str) -> f64 {
    let mut counts = [0u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let all = value.len().max(1) as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / all;
            -share * share.log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<&'static str> {
        find(text).into_iter().map(|secret| secret.kind).collect()
    }

    #[test]
    fn forms_of_issuers_are_known() {
        // Put together here, so that nothing in this file looks like a credential to others.
        let letters = "a8Kd02LmQpZx7Vn4Rt6Yb1Wc9Hs3Jf5Ge0Uo";
        for (text, kind) in [
            (
                format!("key {}{}", "AK".to_owned() + "IA", "Q3EGRLN7ZXWV5TBK"),
                "aws-access-key",
            ),
            (
                format!("x={}{letters}", "gh".to_owned() + "p_"),
                "github-token",
            ),
            (
                format!("{}{}", "gl".to_owned() + "pat-", &letters[..20]),
                "gitlab-token",
            ),
            (
                format!("{}{}", "AI".to_owned() + "za", &letters[..35]),
                "google-api-key",
            ),
            (
                format!("{}{}", "sk_".to_owned() + "live_", &letters[..24]),
                "stripe-key",
            ),
            (
                format!("{}{letters}{letters}", "sk-".to_owned() + "proj-"),
                "openai-key",
            ),
            (
                format!("{}{letters}{letters}", "sk-".to_owned() + "ant-api03-"),
                "anthropic-key",
            ),
            (format!("{}{letters}", "np".to_owned() + "m_"), "npm-token"),
            (
                format!("postgres://app:{}@db.internal/x", &letters[..12]),
                "password-in-url",
            ),
            (
                format!("DB_PASSWORD = \"{}\"", &letters[..24]),
                "assigned-secret",
            ),
            (
                format!(
                    "-----BEGIN {0}-----\n{1}{1}\n-----END {0}-----",
                    "PRIVATE ".to_owned() + "KEY",
                    letters
                ),
                "private-key",
            ),
        ] {
            assert_eq!(kinds(&text), [kind], "{text}");
        }
    }

    #[test]
    fn examples_and_words_are_no_secrets() {
        for text in [
            "AKIAIOSFODNN7EXAMPLE",
            "password: correct-horse-battery-staple",
            "token = os.environ.get(\"GITHUB_TOKEN\")",
            "secret: ${{ secrets.DEPLOY_TOKEN_FOR_PRODUCTION }}",
            "api_key=your_api_key_goes_here_0123",
            "postgres://user:password@localhost",
            "sk-learn-is-a-library-for-machine-learning-in-python",
        ] {
            assert_eq!(kinds(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn randomness_has_entropy() {
        assert_eq!(entropy("aaaa"), 0.0);
        assert!((entropy("abcd") - 2.0).abs() < 1e-9);
        assert_eq!(entropy(""), 0.0);
    }
}
