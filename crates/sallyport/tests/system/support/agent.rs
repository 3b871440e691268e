//! An enrolled instance as tests use it: honest by default, and an attacker where a test wants one.

use std::path::{Path, PathBuf};

use identity::InstanceKey;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Gateway;
use super::http::{Answer, Call};

/// The revision that tests speak when they write requests themselves.
pub(crate) const MODERN: &str = "2026-07-28";

/// An enrolled instance.
pub(crate) struct Agent {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) key: InstanceKey,
    control: String,
    gateway: String,
}

/// An access token and the resource that it is for.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) resource: String,
    pub(crate) dpop: bool,
}

/// 128 random bits, for a `jti`.
pub(crate) fn unique() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

impl Agent {
    /// Opens an instance's folder.
    pub(crate) fn open(gateway: &Gateway, folder: PathBuf) -> Self {
        let about: Value =
            serde_json::from_slice(&std::fs::read(folder.join("instance.json")).unwrap()).unwrap();
        Self {
            key: InstanceKey::load_pem(&folder.join("key.pem")).unwrap(),
            name: about["agent"].as_str().unwrap().to_owned(),
            id: about["id"].as_str().unwrap().to_owned(),
            control: gateway.control.clone(),
            gateway: gateway.gateway.clone(),
            folder,
        }
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of a server at the gateway.
    pub(crate) fn resource(&self, server: &str) -> String {
        format!("{}/mcp/{server}", self.gateway)
    }

    /// A client assertion (RFC 7523).
    pub(crate) fn assertion(&self) -> String {
        self.key
            .sign_assertion(&self.id, &self.control, Timestamp::now(), &unique())
            .unwrap()
    }

    /// A DPoP proof (RFC 9449).
    pub(crate) fn proof(&self, method: &str, url: &str, token: Option<&str>) -> String {
        self.key
            .sign_dpop(method, url, token, None, Timestamp::now(), &unique())
            .unwrap()
    }

    /// Opens a task as this instance, as the connector does.
    pub(crate) async fn open_task(&self, template: &str, parameters: Value) -> String {
        let body = json!({ "template": template, "parameters": parameters, "purpose": "a test" });
        let answer = self.manage("/v1/tasks", &body).await;
        assert!(answer.is_success(), "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Says that a task is done.
    pub(crate) async fn complete(&self, task: &str) {
        let answer = self
            .manage(&format!("/v1/tasks/{task}/complete"), &json!({}))
            .await;
        assert!(answer.is_success(), "{answer:?}");
    }

    /// Calls the management API as this instance.
    pub(crate) async fn manage(&self, path: &str, body: &Value) -> Answer {
        let fields = [("resource", self.control.as_str()), ("scope", "tasks")];
        let answer = self.ask_token(&fields, true).await;
        assert!(answer.is_success(), "{answer:?}");
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        let url = format!("{}{path}", self.control);
        let proof = self.proof("POST", &url, Some(&token));
        Call::post(&url)
            .header("authorization", &format!("DPoP {token}"))
            .header("dpop", &proof)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    /// Asks the token endpoint with this instance's credentials and further fields.
    pub(crate) async fn ask_token(&self, more: &[(&str, &str)], dpop: bool) -> Answer {
        let url = format!("{}/oauth/token", self.control);
        let assertion = self.assertion();
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion.as_str()),
        ];
        fields.extend_from_slice(more);
        let mut call = Call::post(&url).form(&fields);
        if dpop {
            call = call.header("dpop", &self.proof("POST", &url, None));
        }
        call.send().await.unwrap()
    }

    /// A token for an MCP server under a task.
    pub(crate) async fn token(&self, server: &str, task: &str, dpop: bool) -> Token {
        self.token_of_kind("mcp", server, task, dpop).await
    }

    /// A token for a server of a kind under a task.
    pub(crate) async fn token_of_kind(
        &self,
        kind: &str,
        server: &str,
        task: &str,
        dpop: bool,
    ) -> Token {
        let resource = format!("{}/{kind}/{server}", self.gateway);
        let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
        let fields = [
            ("resource", resource.as_str()),
            ("scope", kind),
            ("authorization_details", &details),
        ];
        let answer = self.ask_token(&fields, dpop).await;
        assert!(answer.is_success(), "{answer:?}");
        let text = answer.json()["access_token"].as_str().unwrap().to_owned();
        Token {
            text,
            resource,
            dpop,
        }
    }

    /// Adds the token, and a fresh proof if it is bound to the key.
    pub(crate) fn authorise(&self, call: Call, token: &Token) -> Call {
        if !token.dpop {
            return call.header("authorization", &format!("Bearer {}", token.text));
        }
        let url = call.url().split('?').next().unwrap_or_default();
        let proof = self.proof(call.method(), url, Some(&token.text));
        call.header("authorization", &format!("DPoP {}", token.text))
            .header("dpop", &proof)
    }

    /// One request of the stateless revision.
    pub(crate) async fn ask(&self, token: &Token, method: &str, params: Value) -> Answer {
        self.authorise(request(&token.resource, method, params), token)
            .send()
            .await
            .unwrap()
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, token: &Token, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        self.ask(token, "tools/call", params).await.json()
    }
}

/// A request of the stateless revision, with headers that agree with its body.
pub(crate) fn request(url: &str, method: &str, mut params: Value) -> Call {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
    });
    let named = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    let mut call = Call::post(url)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", MODERN)
        .header("mcp-method", method);
    if let Some(name) = named {
        call = call.header("mcp-name", name);
    }
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    call.json(&body)
}
