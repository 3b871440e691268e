//! Forms (`application/x-www-form-urlencoded`) as RFC 6749 §3.2 wants them read: every parameter at
//! most once, parameters without a value as if they were not there.

use std::collections::BTreeMap;

use axum::body::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use zeroize::Zeroizing;

use super::error::OAuthError;

/// Most parameters of a form.
const PARAMETERS: usize = 32;

/// A form that was read.
pub(super) struct Form(BTreeMap<String, Vec<Zeroizing<String>>>);

impl Form {
    /// Reads the body of a request.
    pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, OAuthError> {
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(OAuthError::request(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let body =
            std::str::from_utf8(body).map_err(|_| OAuthError::request("the body is not a form"))?;
        let mut form: BTreeMap<String, Vec<Zeroizing<String>>> = BTreeMap::new();
        let mut count = 0;
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            count += 1;
            if count > PARAMETERS {
                return Err(OAuthError::request("too many parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(OAuthError::request(
                    "the form is not encoded as UTF-8 with % and +",
                ));
            };
            if !value.is_empty() {
                form.entry(name.to_string()).or_default().push(value);
            }
        }
        // RFC 8707 §2 lets `resource` stand more than once; whoever takes it says how often.
        if let Some((name, _)) = form
            .iter()
            .find(|(name, all)| all.len() > 1 && *name != "resource")
        {
            let name: String = name.chars().take(40).collect();
            return Err(OAuthError::request(format!(
                "parameter {name} stands more than once"
            )));
        }
        Ok(Self(form))
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(|value| value.as_str())
    }

    /// The value of a parameter that must be there.
    pub(super) fn need(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name)
            .ok_or_else(|| OAuthError::request(format!("parameter {name} is missing")))
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .get(name)
            .into_iter()
            .flatten()
            .map(|value| value.as_str())
            .collect()
    }
}

/// Decodes one name or value; none when an escape is broken or the result is not UTF-8.
fn decode(text: &str) -> Option<Zeroizing<String>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    std::str::from_utf8(&decoded)
        .ok()
        .map(|text| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &'static str) -> Result<Form, OAuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8"
                .parse()
                .unwrap(),
        );
        Form::read(&headers, &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_parameter_stands_once() {
        assert!(read("a=1&a=2").is_err());
        assert!(read("a=1&%61=1").is_err());
        let form = read("a=1&a=&b=&resource=x&resource=y").ok().unwrap();
        assert_eq!(form.get("a"), Some("1"));
        assert_eq!(form.get("b"), None);
        assert_eq!(form.all("resource"), ["x", "y"]);
    }

    #[test]
    fn only_forms_are_forms() {
        let json = Form::read(&HeaderMap::new(), &Bytes::from_static(b"a=1"));
        assert!(json.is_err());
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "%c3=1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let many: String = (0..=PARAMETERS).map(|n| format!("p{n}=1&")).collect();
        assert!(read(many.leak()).is_err());
    }

    #[test]
    fn escapes_are_decoded_once() {
        let form = read("a=%25+%2B%C3%A4&b=x%2526").ok().unwrap();
        assert_eq!(form.get("a"), Some("% +ä"));
        assert_eq!(form.get("b"), Some("x%26"));
    }

    proptest! {
        #[test]
        fn decoding_never_panics_and_undoes_encoding(text in "\\PC{0,40}", junk in "[%+a-f0-9]{0,20}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let decoded = decode(&encoded).unwrap();
            prop_assert_eq!(decoded.as_str(), text.as_str());
            let _ = decode(&junk);
        }
    }
}
