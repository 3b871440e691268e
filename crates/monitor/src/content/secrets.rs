//! Credentials in texts: by the form that their issuer gave them, or assigned to a telling name and random
//! enough. What is found is never quoted (R6).

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;
use serde::Deserialize;

use super::rules;
use super::spans::Spans;

/// Most credentials that are found in one text: more than that is a list of them.
const MOST: usize = 4_096;
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
    /// The keywords in lower case, each with the form that it is of.
    keywords: Vec<(String, usize)>,
    finds: AhoCorasick,
    forms: Vec<Form>,
}

struct Form {
    kind: &'static str,
    regex: Regex,
    entropy: f64,
}

/// How much before a keyword of a generic form is read with it, in bytes.
const BEFORE: usize = 64;
/// How much after it, in bytes.
const AFTER: usize = 320;
/// How much is read at once, so that keywords beside each other are not each read with all the others.
const WINDOW: usize = 1_024;

impl Form {
    /// Whether it knows a credential only by what stands around it. Such expressions begin with anything,
    /// so they are tried only around their keywords.
    fn is_generic(&self) -> bool {
        is_generic(self.kind)
    }
}

fn is_generic(kind: &str) -> bool {
    matches!(kind, "assigned-secret" | "password-in-url")
}

static FORMS: LazyLock<Forms> = LazyLock::new(|| {
    let written: Written = toml::from_str(include_str!("../../rules/secrets.toml"))
        .expect("the forms that come with the program are sound");
    let mut keywords = Vec::new();
    let mut forms = Vec::new();
    for (at, form) in written.secret.into_iter().enumerate() {
        let of_form = form
            .keyword
            .iter()
            .map(|word| (word.to_ascii_lowercase(), at));
        keywords.extend(of_form);
        let regex =
            rules::compile(&form.regex).expect("the forms that come with the program are sound");
        forms.push(Form {
            // Read once, and there as long as the process.
            kind: &*form.id.leak(),
            regex,
            entropy: form.entropy,
        });
    }
    Forms {
        finds: AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(keywords.iter().map(|(word, _)| word))
            .expect("the forms that come with the program are few"),
        keywords,
        forms,
    }
});

/// The words of which one stands beside each credential, in lower case, with the number of its form.
pub(super) fn keywords() -> Vec<(String, usize)> {
    FORMS.keywords.clone()
}

/// The credentials in a text, at most [`MOST`], in order and without overlap.
#[must_use]
pub fn find(text: &str) -> Vec<Secret> {
    find_of(text, &vec![true; FORMS.forms.len()])
}

/// The credentials of some forms, by their number.
pub(super) fn find_of(text: &str, possible: &[bool]) -> Vec<Secret> {
    let forms = &*FORMS;
    let mut wanted = vec![false; forms.forms.len()];
    let mut around: Vec<(usize, usize)> = Vec::new();
    if !possible.contains(&true) {
        return Vec::new();
    }
    for hit in forms.finds.find_overlapping_iter(text) {
        let (_, form) = forms.keywords[hit.pattern().as_usize()];
        if !possible.get(form).copied().unwrap_or(false) {
            continue;
        }
        wanted[form] = true;
        if forms.forms[form].is_generic() {
            around.push((form, hit.start()));
        }
    }
    let mut found = Found::default();
    for (form, wanted) in forms.forms.iter().zip(wanted) {
        if wanted && !form.is_generic() {
            look(form, text, (0, text.len()), &mut found);
        }
    }
    let mut done = vec![0; forms.forms.len()];
    for (form, at) in around {
        if (at + AFTER).min(text.len()) > done[form] {
            let start = boundary(text, at.saturating_sub(BEFORE));
            let end = boundary(text, (at + WINDOW).min(text.len()));
            look(&forms.forms[form], text, (start, end), &mut found);
            done[form] = end;
        }
    }
    let mut all = found.all;
    all.sort_unstable_by_key(|secret| secret.start);
    all
}

#[derive(Default)]
struct Found {
    all: Vec<Secret>,
    spans: Spans,
}

/// Looks for one form in a part of a text.
fn look(form: &Form, text: &str, (from, to): (usize, usize), found: &mut Found) {
    for captures in form.regex.captures_iter(&text[from..to]) {
        let Some(value) = captures.get(1).or_else(|| captures.get(0)) else {
            continue;
        };
        if entropy(value.as_str()) < form.entropy
            || is_placeholder(value.as_str(), form.kind)
            || (form.is_generic() && is_position(&text[from..from + value.start()]))
        {
            continue;
        }
        let (start, end) = (from + value.start(), from + value.end());
        if found.all.len() < MOST && found.spans.take(start, end) {
            found.all.push(Secret {
                kind: form.kind,
                start,
                end,
            });
        }
    }
}

fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Whether what a value is assigned to, which the text before it ends with, is a place in a list, which is
/// called a token too.
fn is_position(before: &str) -> bool {
    let name: String = before
        .chars()
        .rev()
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(60)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let name: String = name.chars().rev().collect();
    [
        "page", "next", "prev", "cursor", "continu", "sync", "resume", "start", "progress",
        "upload",
    ]
    .iter()
    .any(|part| name.contains(part))
}

fn is_placeholder(value: &str, kind: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let generic = is_generic(kind);
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
            "nextPageToken: CiAKGjBpNDd2Nmp2Zml2cXRwYjBpOXA2hbc8",
            "sk-learn-is-a-library-for-machine-learning-in-python",
        ] {
            assert_eq!(kinds(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn a_crowd_of_examples_does_not_hide_one() {
        let letters = "a8Kd02LmQpZx7Vn4Rt6Yb1Wc9Hs3Jf5Ge0Uo";
        let crowd = "AKIAIOSFODNN7EXAMPLE password: changeme-changeme-changeme1 ".repeat(500);
        let text = format!("{crowd}DB_PASSWORD={} {crowd}", &letters[..24]);
        assert_eq!(kinds(&text), ["assigned-secret"]);
    }

    #[test]
    fn randomness_has_entropy() {
        assert_eq!(entropy("aaaa"), 0.0);
        assert!((entropy("abcd") - 2.0).abs() < 1e-9);
        assert_eq!(entropy(""), 0.0);
    }
}
