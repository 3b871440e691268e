//! The operator: asks the management API, as the command line does.

use std::path::Path;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;

use crate::{Failure, Whole, connect};

/// Who may do everything.
#[derive(Clone)]
pub struct Operator {
    address: String,
    authorization: String,
}

/// A connection of the operator's that is open already.
pub struct Line<'a> {
    operator: &'a Operator,
    sender: SendRequest<Whole>,
}

impl Operator {
    /// At the control listener with this address; the token is in a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn new(address: &str, token: &Path) -> Result<Self, Failure> {
        let token = std::fs::read_to_string(token)?;
        Ok(Self {
            address: address.to_owned(),
            authorization: format!("Bearer {}", token.trim()),
        })
    }

    /// Connects, so that what is measured begins with the request.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn line(&self) -> Result<Line<'_>, Failure> {
        Ok(Line {
            operator: self,
            sender: connect(&self.address).await?,
        })
    }

    /// Asks over a connection of its own.
    ///
    /// # Errors
    /// When the answer is no success.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        self.line().await?.ask(method, path, body).await
    }
}

impl Line<'_> {
    /// Asks.
    ///
    /// # Errors
    /// When the answer is no success.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.operator.address)
            .header(AUTHORIZATION, &self.operator.authorization);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let answer = self
            .sender
            .send_request(request.body(Whole::new(body))?)
            .await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body);
            return Err(format!("{path} is answered with {status}: {body}").into());
        }
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
