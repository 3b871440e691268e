//! The management API as the operator's commands use it.

use std::path::PathBuf;

use bytes::Bytes;
use control::api::{Page, Problem};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::command::ConfigArg;
use crate::connect::http::{Http, check_url};
use crate::connect::trouble::Trouble;
use crate::failure::Failure;
use crate::setup;

const WHAT: &str = "Sallyport";
/// The file with the operator's token in the data directory.
const TOKEN_FILE: &str = "operator.token";
/// Longest answer, in bytes: content from the vault may be long.
const ANSWER: usize = 512 << 20;
/// Most entries that are asked for at once.
const PAGE: usize = 200;

/// Where the control listener is, and who asks.
#[derive(clap::Args)]
#[command(next_help_heading = "Which Sallyport")]
pub(crate) struct ControlArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The control listener's URL, when it is another machine's; needs the operator's token in the
    /// file that SALLYPORT_OPERATOR_TOKEN_FILE names
    #[arg(long, value_name = "URL", env = "SALLYPORT_CONTROL")]
    control: Option<String>,
    /// The file with the operator's token, by default `operator.token` in the data directory
    #[arg(
        long,
        value_name = "FILE",
        env = "SALLYPORT_OPERATOR_TOKEN_FILE",
        hide_env_values = true
    )]
    token_file: Option<PathBuf>,
    /// Trust the certification authorities in this PEM file, instead of the public ones
    #[arg(long, value_name = "FILE", env = "SALLYPORT_CA_FILE")]
    ca: Option<PathBuf>,
}

/// The management API of one running Sallyport.
pub(crate) struct Client {
    http: Http,
    base: String,
    token: Zeroizing<String>,
    start: String,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// Finds out where the control listener is and reads the operator's token.
    ///
    /// # Errors
    /// [`Failure`] when there is no configuration, or no token that can be read.
    pub(crate) fn new(args: &ControlArgs) -> Result<Self, Failure> {
        let file = &args.config.config;
        let start = format!(
            "start it with `sallyport serve --config {}`",
            file.display()
        );
        let (base, token_file, start) = match (&args.control, &args.token_file) {
            (Some(url), Some(token)) => (
                url.clone(),
                token.clone(),
                "see that it runs there, and that the URL is right".to_owned(),
            ),
            (Some(_), None) => {
                return Err(Failure::usage("`--control` needs the operator's token")
                    .hint("name its file with `--token-file` or SALLYPORT_OPERATOR_TOKEN_FILE"));
            }
            (None, token) => {
                let config = setup::config_alone(file)?;
                let token = token
                    .clone()
                    .unwrap_or_else(|| config.data_dir.join(TOKEN_FILE));
                (config.control.base_url(), token, start)
            }
        };
        check_url("the control listener", &base).map_err(|failure| {
            Failure::new(failure.message())
                .hint("write it like `https://sallyport.example.org:8600`")
        })?;
        let token = std::fs::read_to_string(&token_file)
            .map(Zeroizing::new)
            .map_err(|error| {
                let failure = Failure::new(format!(
                    "the operator's token cannot be read from {}: {error}",
                    token_file.display()
                ));
                match error.kind() {
                    std::io::ErrorKind::NotFound => failure.hint(format!(
                        "it is made when Sallyport starts for the first time; {start}"
                    )),
                    _ => failure.hint("run this as the user that Sallyport runs as"),
                }
            })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("the client cannot be started: {error}")))?;
        Ok(Self {
            http: Http::new(args.ca.as_deref())?,
            base,
            token: Zeroizing::new(token.trim().to_owned()),
            start,
            runtime,
        })
    }

    /// Gets something.
    ///
    /// # Errors
    /// [`Failure`] with the reason and the remedy that the answer gives.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// Changes something.
    ///
    /// # Errors
    /// [`Failure`] with the reason and the remedy that the answer gives.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::new(format!("the request is no JSON: {error}")))?;
        self.ask(Method::POST, path, body.into())
    }

    /// Gets a list, page by page, until it ends or there are `most`.
    ///
    /// # Errors
    /// [`Failure`] with the reason and the remedy that the answer gives.
    pub(crate) fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        filters: &[(&str, Option<String>)],
        most: usize,
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        let mut before: Option<String> = None;
        while all.len() < most {
            let limit = Some(PAGE.min(most - all.len()).to_string());
            let page = [("limit", limit), ("before", before.take())];
            let page: Page<T> =
                self.get(&format!("{path}?{}", query(filters.iter().chain(&page))))?;
            let came = page.items.len();
            all.extend(page.items);
            before = page.next;
            if before.is_none() || came == 0 {
                break;
            }
        }
        all.truncate(most);
        Ok(all)
    }

    /// Gets one page of a list; the answer may take as long as the request says.
    ///
    /// # Errors
    /// [`Failure`] with the reason and the remedy that the answer gives.
    pub(crate) fn ask_list<T: DeserializeOwned>(
        &self,
        path: &str,
        filters: &[(&str, Option<String>)],
    ) -> Result<Page<T>, Failure> {
        self.get(&format!("{path}?{}", query(filters.iter())))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let bearer = Zeroizing::new(format!("Bearer {}", self.token.as_str()));
        let mut bearer = HeaderValue::try_from(bearer.as_str()).map_err(|_| {
            Failure::new("the operator's token has characters that no token has")
                .hint("see that the right file is named")
        })?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, bearer);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(gateway::full(body))
            .map_err(|error| Failure::new(format!("`{}{path}` is no URL: {error}", self.base)))?;
        let answer = self
            .runtime
            .block_on(self.http.ask_for(ANSWER, WHAT, request))
            .map_err(|trouble| match trouble {
                Trouble::Unreachable { url: _, why, .. } => {
                    Failure::new(format!("Sallyport does not answer at {}: {why}", self.base))
                        .hint(self.start.clone())
                }
                other => Failure::new(other.to_string()),
            })?;
        if !answer.status().is_success() {
            return Err(refused(&answer));
        }
        // `null` where nothing is to be told.
        let text: &[u8] = if answer.body().is_empty() {
            b"null"
        } else {
            answer.body()
        };
        serde_json::from_slice(text).map_err(|error| {
            Failure::new(format!(
                "the answer of {} cannot be understood: {error}",
                self.base
            ))
            .hint("see that this program and the one that runs there have the same version")
        })
    }
}

fn refused(answer: &Response<Bytes>) -> Failure {
    let problem: Option<Problem> = serde_json::from_slice(answer.body()).ok();
    match problem {
        Some(problem) => {
            let failure = Failure::new(problem.detail);
            if problem.remedy.is_empty() {
                failure
            } else {
                failure.hint(problem.remedy)
            }
        }
        None if answer.status() == StatusCode::UNAUTHORIZED => {
            Failure::new("the operator's token is not the one that Sallyport knows")
                .hint("read it from the data directory of the one that runs")
        }
        None => Failure::new(format!("it was refused with HTTP {}", answer.status())),
    }
}

/// A query string of the parameters that have a value.
pub(crate) fn query<'a>(parameters: impl Iterator<Item = &'a (&'a str, Option<String>)>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte));
                }
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded_and_empty_filters_left_out() {
        let parameters = [
            ("agent", Some("a&b=c ä".to_owned())),
            ("status", None),
            ("limit", Some("5".to_owned())),
        ];
        assert_eq!(query(parameters.iter()), "agent=a%26b%3Dc%20%C3%A4&limit=5");
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: "Not Found".to_owned(),
            status: 404,
            detail: "there is no agent `x`".to_owned(),
            rule: "unknown_agent".to_owned(),
            remedy: "register it first".to_owned(),
        };
        let mut answer = Response::new(Bytes::from(serde_json::to_vec(&problem).unwrap()));
        *answer.status_mut() = StatusCode::NOT_FOUND;
        let failure = refused(&answer);
        assert_eq!(failure.message(), "there is no agent `x`");
        assert_eq!(failure.remedy(), Some("register it first"));
    }
}
