//! The environment by which programs find the proxy and trust what it says.

use serde_json::{Map, Value};

use super::authority::Certificates;
use crate::failure::Failure;
use crate::output;

/// Variables with their values.
pub(super) struct Environment(Vec<(&'static str, String)>);

impl Environment {
    /// For a proxy at this URL, and the files with its certificates if there are any.
    pub(super) fn new(url: &str, certificates: Option<&Certificates>) -> Self {
        // curl reads HTTP_PROXY in small letters only; others read either.
        let mut all: Vec<_> = ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"]
            .map(|name| (name, url.to_owned()))
            .into();
        // Node reads none of them by itself.
        all.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
        if let Some(certificates) = certificates {
            let bundle = certificates.bundle().display().to_string();
            for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
                all.push((name, bundle.clone()));
            }
            let own = certificates.own().display().to_string();
            all.push(("NODE_EXTRA_CA_CERTS", own));
        }
        Self(all)
    }

    /// All of them.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Prints them, for a shell or for a program.
    ///
    /// # Errors
    /// [`Failure`] when nobody reads.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            let all = self.pairs();
            let all = all.map(|(name, value)| (name.to_owned(), Value::from(value)));
            return output::json_line(&all.collect::<Map<_, _>>());
        }
        for (name, value) in self.pairs() {
            output::line(format_args!("export {name}={}", quoted(value)))?;
        }
        Ok(())
    }
}

/// A word of a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        for text in ["http://task:a-b_c@127.0.0.1:1", "a'b $(c) `d` \\ \"e\"", ""] {
            let script = format!("printf %s {}", quoted(text));
            let read = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&read.stdout), text);
        }
    }

    #[test]
    fn without_certificates_nothing_is_said_of_them() {
        let names: Vec<_> = Environment::new("http://x", None)
            .pairs()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "HTTPS_PROXY",
                "HTTP_PROXY",
                "https_proxy",
                "http_proxy",
                "NODE_USE_ENV_PROXY"
            ]
        );
    }
}
