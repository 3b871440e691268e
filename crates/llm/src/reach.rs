//! What would let the provider do more than answer what was sent, beyond the gateway: only where the grant
//! names it.

use serde_json::Value;

use crate::refusal::Refusal;
use crate::request::{Asked, Names};
use crate::surface::Api;
use crate::visit::Visit;

/// Members that let the provider, or a router of models in its place, do more than answer: each only
/// where the grant names it.
const REACHING: [(&str, &str); 20] = [
    ("api_base", ROUTES),
    ("api_key", ROUTES),
    ("background", "it is answered where nobody counts it"),
    ("base_url", ROUTES),
    ("container", STORED),
    ("conversation", STORED),
    ("deployment_id", ROUTES),
    ("extra_body", ROUTES),
    ("extra_headers", ROUTES),
    ("fallbacks", ROUTES),
    ("inference_geo", "it says where the provider computes"),
    (
        "mcp_servers",
        "the provider would call servers beyond this gateway",
    ),
    ("models", ROUTES),
    ("plugins", "the provider would search beyond this gateway"),
    ("prompt_id", STORED),
    ("route", ROUTES),
    ("service_tier", "it changes what the answer costs"),
    ("speed", "it changes what the answer costs"),
    ("user_config", ROUTES),
    (
        "web_search_options",
        "the provider would search beyond this gateway",
    ),
];
const STORED: &str = "it names what is stored at the provider";
const ROUTES: &str = "it says which model answers, or where";

impl Visit {
    /// Checks what would let the provider do more than answer what was sent. Returns the tokens of an
    /// earlier answer that is gone on with.
    pub(crate) fn reaches(&self, asked: &Asked, names: &Names<'_>) -> Result<u64, Refusal> {
        let ask = "do without it, or open a task whose grant names it";
        let stored = asked
            .member("prompt")
            .filter(|_| asked.api == Api::Responses);
        let reaching = REACHING
            .iter()
            .filter(|(name, _)| asked.member(name).is_some());
        let reaching = reaching.copied().chain(stored.map(|_| ("prompt", STORED)));
        for (name, why) in reaching {
            // What it is by default may be said.
            let default = [Value::Bool(false), "auto".into(), "default".into()];
            let said = asked
                .member(name)
                .is_some_and(|value| !default.contains(value));
            if said && !names.name(name) {
                let reason = format!("the task does not grant `{name}`: {why}");
                return Err(Refusal::not_granted(name, reason, ask));
            }
        }
        if let Some(tool) = asked.traffic.run_by_provider()
            && !names.name("tools")
        {
            let name: String = tool
                .name
                .chars()
                .take(64)
                .flat_map(char::escape_debug)
                .collect();
            let reason =
                format!("the provider itself would run the tool `{name}`, beyond this gateway");
            let ask = "do without it, or open a task whose grant has a constraint on `tools`";
            return Err(Refusal::not_granted("tools", reason, ask));
        }
        if let Some(what) = asked.traffic.remote.first()
            && !self.provider.llm.remote_content
        {
            let reason = format!("the provider would fetch content by itself (`{what}`)");
            let remedy = "send the content itself, such as `data:` URLs; an operator can set \
                          `remote_content` of this server";
            return Err(Refusal::not_granted("", reason, remedy));
        }
        match asked.member("previous_response_id") {
            None => Ok(0),
            Some(id) => {
                let id = id.as_str().unwrap_or_default();
                let task = self.caller.task.task().id;
                let found = self.shared.stored.find(task, &self.route.server, id);
                found.ok_or_else(|| {
                    Refusal::not_granted(
                        "previous_response_id",
                        "it is no answer that this task was given",
                        "send the conversation itself in `input`",
                    )
                })
            }
        }
    }
}
