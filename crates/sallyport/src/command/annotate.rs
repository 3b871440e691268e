//! `sallyport annotate`: a draft of a server's annotations, from what it says about its tools,
//! tables or endpoints.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use gateway::caller::Principal;
use gateway::upstream::{Outgoing, Upstream, Upstreams};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use model::config::{Server, ServerKind};
use model::{InstanceId, ServerName, TaskId};
use provenance::Endpoint;
use serde_json::{Value, json};

use super::ConfigArg;
use crate::failure::Failure;
use crate::{output, setup};

/// Arguments of `sallyport annotate`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sallyport annotate mail             print a draft
  sallyport annotate mail --write     write it to annotations/mail.toml, if there is none yet
  sallyport annotate crm              the same for a database, from its tables
  sallyport annotate billing          the same for an HTTP API, from its endpoints")]
pub(crate) struct Args {
    /// The MCP server, the database or the HTTP API
    server: ServerName,
    /// Write the draft beside the configuration instead of printing it
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// Most pages of tools that are asked for.
const PAGES: usize = 64;
/// The revision that the draft is asked for in; every server speaks it.
const REVISION: &str = "2025-06-18";

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let file = &args.config.config;
    let config = setup::config_alone(file)?;
    let about = config.servers.get(&args.server);
    if let Some(about) = about.filter(|about| about.kind == ServerKind::Postgres) {
        let tables = runtime()?
            .block_on(postgres::described(&args.server, about))
            .map_err(|error| Failure::new(format!("the database cannot be asked: {error}")))?;
        let tables = tables
            .iter()
            .map(|table| (&*table.name, &table.columns[..]));
        let draft = provenance::draft_tables(args.server.as_str(), tables);
        return hand_over(args, file, &draft);
    }
    if let Some(about) = about.filter(|about| about.kind == ServerKind::Http) {
        let endpoints = endpoints(args, about)?;
        let draft = provenance::draft_endpoints(args.server.as_str(), &endpoints);
        return hand_over(args, file, &draft);
    }
    let upstreams =
        Upstreams::with_launcher(&config, Some(crate::serve::launcher(file))).map_err(|wrong| {
            let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            Failure::new(wrong.join("\n"))
        })?;
    let upstream = upstreams.get(&args.server).ok_or_else(|| {
        Failure::new(format!(
            "there is no MCP server, database or HTTP API `{}`",
            args.server
        ))
        .hint("`[servers.NAME]` in sallyport.toml names them")
    })?;
    let tools = runtime()?.block_on(async {
        let tools = tools(&upstream, config.limits.response_bytes).await;
        upstreams.stop().await;
        tools
    })?;
    let draft = provenance::draft(args.server.as_str(), &tools);
    hand_over(args, file, &draft)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the server cannot be asked: {error}")))
}

/// The endpoints of an API, as its configuration and its OpenAPI document have them. The API itself is not asked.
fn endpoints(args: &Args, about: &Server) -> Result<Vec<Endpoint>, Failure> {
    let described = web::described(&about.http).map_err(|why| {
        Failure::new(format!(
            "the endpoints of `{}` cannot be read: {why}",
            args.server
        ))
        .hint("`sallyport check` says more of the configuration")
    })?;
    let endpoints = described.into_iter().map(|one| Endpoint {
        name: one.name,
        summary: one.summary,
        arguments: one.arguments,
        open: one.open,
    });
    Ok(endpoints.collect())
}

/// Writes or prints a draft.
fn hand_over(args: &Args, file: &Path, draft: &str) -> Result<(), Failure> {
    if args.write {
        write(&setup::folder_of(file), &args.server, draft)
    } else {
        output::line(draft.trim_end())
    }
}

fn write(folder: &Path, server: &ServerName, draft: &str) -> Result<(), Failure> {
    let folder = folder.join("annotations");
    let file = folder.join(format!("{server}.toml"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        // Never over what someone wrote.
        let mut new = std::fs::File::create_new(&file)?;
        new.write_all(draft.as_bytes())
    });
    match written {
        Ok(()) => {
            output::note(format_args!(
                "wrote {}; calls of `{server}` are checked from now on",
                file.display()
            ));
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("{} is there already", file.display()))
                .hint("print the draft without `--write` and compare"))
        }
        Err(error) => Err(Failure::new(format!(
            "{} cannot be written: {error}",
            file.display()
        ))),
    }
}

/// Everything that `tools/list` answers, over all pages.
async fn tools(upstream: &Upstream, limit: usize) -> Result<Value, Failure> {
    let now = Timestamp::now();
    let mut conversation = Conversation {
        upstream,
        principal: Principal {
            instance: InstanceId::new(now, [0; 10]),
            task: TaskId::new(now, [0; 10]),
        },
        session: None,
        limit,
    };
    let hello = json!({
        "protocolVersion": REVISION,
        "capabilities": {},
        "clientInfo": { "name": "sallyport", "version": env!("CARGO_PKG_VERSION") },
    });
    conversation.ask(1, "initialize", hello).await?;
    conversation
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        .await?;
    let mut tools = Vec::new();
    let mut cursor = None;
    for page in 0..PAGES {
        let params = match cursor.take() {
            Some(cursor) => json!({ "cursor": cursor }),
            None => json!({}),
        };
        let mut result = conversation.ask(2 + page, "tools/list", params).await?;
        if let Some(Value::Array(more)) = result.get_mut("tools").map(Value::take) {
            tools.extend(more);
        }
        cursor = result
            .get("nextCursor")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if cursor.is_none() {
            return Ok(json!({ "tools": tools }));
        }
    }
    Err(Failure::new(format!(
        "the server lists its tools on more than {PAGES} pages"
    )))
}

/// A conversation with one server, in a session if it wants one.
struct Conversation<'a> {
    upstream: &'a Upstream,
    principal: Principal,
    session: Option<HeaderValue>,
    limit: usize,
}

impl Conversation<'_> {
    /// Sends one message; the body of what comes back.
    async fn send(&mut self, message: &Value) -> Result<Bytes, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        headers.insert("mcp-protocol-version", HeaderValue::from_static(REVISION));
        if let Some(session) = &self.session {
            headers.insert("mcp-session-id", session.clone());
        }
        let out = Outgoing {
            method: Method::POST,
            headers,
            body: message.to_string().into(),
            principal: self.principal,
        };
        let failed = |what: String| Failure::new(format!("the server cannot be asked: {what}"));
        let response = self
            .upstream
            .send(out)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if !response.status().is_success() {
            return Err(failed(format!("it answers {}", response.status())));
        }
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.session = Some(session.clone());
        }
        let body = Limited::new(response.into_body(), self.limit);
        let body = body.collect().await;
        body.map(|body| body.to_bytes())
            .map_err(|error| failed(error.to_string()))
    }

    /// Asks for something; its result.
    async fn ask(&mut self, id: usize, method: &str, params: Value) -> Result<Value, Failure> {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let body = self.send(&request).await?;
        let answer = answer(&String::from_utf8_lossy(&body), id).ok_or_else(|| {
            Failure::new(format!("the server does not answer `{method}` as MCP does"))
        })?;
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => Err(Failure::new(format!(
                "the server refuses `{method}`: {}",
                output::visible(&answer["error"]["message"].to_string())
            ))),
        }
    }
}

/// The answer to one request: the body itself, or one event of a stream.
fn answer(body: &str, id: usize) -> Option<Value> {
    let is_it = |message: &Value| message.get("id") == Some(&json!(id));
    if let Some(message) = serde_json::from_str(body).ok().filter(is_it) {
        return Some(message);
    }
    let body = body.replace("\r\n", "\n");
    body.split("\n\n").find_map(|event| {
        let data: Vec<&str> = event
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.strip_prefix(' ').unwrap_or(data))
            .collect();
        serde_json::from_str(&data.join("\n")).ok().filter(is_it)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_in_bodies_and_streams() {
        let message = json!({"jsonrpc": "2.0", "id": 2, "result": {}});
        let stream =
            format!(": hello\n\nevent: message\r\ndata: {{\"id\":1}}\r\n\r\ndata: {message}\n\n");
        assert_eq!(answer(&message.to_string(), 2), Some(message.clone()));
        assert_eq!(answer(&stream, 2), Some(message));
        assert_eq!(answer(&stream, 3), None);
    }

    #[test]
    fn a_draft_is_never_written_over_a_file() {
        let home = tempfile::tempdir().unwrap();
        let server = ServerName::parse("mail").unwrap();
        write(home.path(), &server, "# draft\n").unwrap();
        assert!(write(home.path(), &server, "# other\n").is_err());
        let kept = std::fs::read_to_string(home.path().join("annotations/mail.toml")).unwrap();
        assert_eq!(kept, "# draft\n");
    }
}
