//! The agent: an MCP client that knows nothing of Sallyport. It speaks to `sallyport connect` over
//! pipes, one JSON-RPC message on each line.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::table::Outcome;
use crate::failure::Failure;

/// How long an answer may take; the server's first start is the slowest.
const ANSWER: Duration = Duration::from_secs(60);

/// A running agent.
pub(super) struct Agent {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    last: u64,
}

impl Agent {
    /// Starts the connector, and makes the handshake of MCP with the server behind it.
    ///
    /// # Errors
    /// [`Failure`] when there is no connection.
    pub(super) async fn connect(mut connector: Command) -> Result<(Self, String), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("the agent could not connect: {error}"))
        };
        let mut child = connector
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&"no pipes"));
        };
        let output = BufReader::new(output).lines();
        let mut agent = Self {
            child,
            input,
            output,
            last: 0,
        };
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "demo-agent", "version": "1" },
        });
        let answer = agent.request("initialize", hello).await?;
        let server = answer["result"]["serverInfo"]["name"]
            .as_str()
            .map(str::to_owned);
        let server = server.ok_or_else(|| failed(&answer))?;
        agent
            .send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await?;
        Ok((agent, server))
    }

    /// The names of the tools that it sees.
    ///
    /// # Errors
    /// [`Failure`] when it gets no list.
    pub(super) async fn tools(&mut self) -> Result<Vec<String>, Failure> {
        let answer = self.request("tools/list", json!({})).await?;
        let tools = answer["result"]["tools"].as_array();
        let tools = tools.ok_or_else(|| Failure::new(format!("no list of tools: {answer}")))?;
        Ok(tools
            .iter()
            .filter_map(|tool| tool["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer at all.
    pub(super) async fn call(&mut self, tool: &str, arguments: Value) -> Result<Outcome, Failure> {
        let answer = self
            .request(
                "tools/call",
                json!({ "name": tool, "arguments": arguments }),
            )
            .await?;
        if let Some(error) = answer.get("error") {
            let rule = error["data"]["rule"].as_str().unwrap_or("unknown_rule");
            let reason = error["message"].as_str().unwrap_or_default();
            return Ok(Outcome::refused(rule, reason));
        }
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        if result["isError"].as_bool() == Some(true) {
            // The server refused, not Sallyport: the story must not take that for its own.
            return Ok(Outcome::refused("server_error", text));
        }
        Ok(Outcome::Allowed(format!(
            "“{}”",
            text.lines().last().unwrap_or_default()
        )))
    }

    /// Goes away, as an agent does whose work is done.
    ///
    /// # Errors
    /// [`Failure`] when the connector does not end.
    pub(super) async fn leave(self) -> Result<(), Failure> {
        let Self {
            mut child,
            input,
            output,
            ..
        } = self;
        drop((input, output));
        match tokio::time::timeout(ANSWER, child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::new(
                "the connector did not end when its client went away",
            )),
        }
    }

    async fn request(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.last += 1;
        let id = self.last;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await?;
        let answer = async {
            loop {
                let line = match self.output.next_line().await {
                    Ok(Some(line)) => line,
                    Ok(None) => return Err(Failure::new("the connector went away")),
                    Err(error) => return Err(Failure::new(format!("the connector: {error}"))),
                };
                let message: Value = serde_json::from_str(&line).map_err(|error| {
                    Failure::new(format!("the connector wrote no JSON: {error}"))
                })?;
                if message["id"] == id && message.get("method").is_none() {
                    return Ok(message);
                }
            }
        };
        tokio::time::timeout(ANSWER, answer)
            .await
            .unwrap_or_else(|_| Err(Failure::new(format!("no answer to `{method}` in time"))))
    }

    async fn send(&mut self, message: &Value) -> Result<(), Failure> {
        let line = format!("{message}\n");
        self.input
            .write_all(line.as_bytes())
            .await
            .map_err(|error| Failure::new(format!("the connector does not listen: {error}")))
    }
}
