//! What of an agent's headers is looked at, and what of them the provider gets.

use gateway::single;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use model::config::Surface;

use crate::refusal::Refusal;

/// The version of the API (Anthropic).
pub(crate) const VERSION: &str = "anthropic-version";
/// Features that are not part of the API's version (Anthropic).
const BETA: &str = "anthropic-beta";
/// Most of those features, and the longest name of one in bytes.
const MOST_BETAS: usize = 32;
const BETA_BYTES: usize = 80;

/// The features that the agent asks for in a header.
pub(crate) fn betas(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let mut betas = Vec::new();
    for value in headers.get_all(BETA) {
        let names = value.to_str().unwrap_or("?").split(',').map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            if name.len() > BETA_BYTES || !name.bytes().all(plain) || betas.len() >= MOST_BETAS {
                let reason = format!("the header `{BETA}` is not a list of features");
                return Err(Refusal::malformed("", reason));
            }
            betas.push(name.to_owned());
        }
    }
    Ok(betas)
}

/// What of the agent's headers the provider gets: chosen, not filtered.
pub(crate) fn chosen(headers: &HeaderMap, surface: Surface, betas: &[String]) -> HeaderMap {
    let mut chosen = HeaderMap::new();
    chosen.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if surface == Surface::Anthropic {
        let date =
            |text: &&str| text.bytes().all(|b| b.is_ascii_digit() || b == b'-') && text.len() == 10;
        let version = single(headers, VERSION).filter(date);
        if let Ok(version) = HeaderValue::from_str(version.unwrap_or("2023-06-01")) {
            chosen.insert(VERSION, version);
        }
        if !betas.is_empty()
            && let Ok(betas) = HeaderValue::from_str(&betas.join(","))
        {
            chosen.insert(BETA, betas);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_of_agents_do_not_travel_on() {
        let agent = headers(&[
            ("authorization", "Bearer t"),
            ("x-api-key", "t"),
            ("dpop", "p"),
            ("cookie", "c"),
            ("openai-organization", "org-evil"),
            ("openai-project", "proj-evil"),
            ("anthropic-version", "2023-06-01\tx"),
            ("x-forwarded-for", "1.2.3.4"),
        ]);
        let openai = chosen(&agent, Surface::OpenAi, &[]);
        assert_eq!(openai.keys().collect::<Vec<_>>(), ["content-type"]);
        let anthropic = chosen(
            &agent,
            Surface::Anthropic,
            &["files-api-2025-04-14".to_owned()],
        );
        assert_eq!(anthropic["anthropic-version"], "2023-06-01");
        assert_eq!(anthropic.len(), 3);
    }

    #[test]
    fn features_are_a_list_of_plain_names() {
        let of = |value| betas(&headers(&[(BETA, value)]));
        assert_eq!(of("a-1, b-2").unwrap(), ["a-1", "b-2"]);
        assert!(of("a b").is_err());
        assert!(of("a;q=1").is_err());
    }
}
