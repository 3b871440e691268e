//! The document as it is written (CACAO 2.0, §3.1, §4 and §5). Members of the standard that say nothing
//! about what is done are read and left out; members that the standard does not have are refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A playbook (§3.1).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) spec_version: String,
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    #[expect(dead_code, reason = "read, so that it is known to be a list")]
    pub(super) playbook_types: Vec<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "read, so that it is known to be a list")]
    pub(super) playbook_activities: Vec<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "says what can be seen from the steps")]
    pub(super) playbook_processing_summary: Option<BTreeMap<String, bool>>,
    #[expect(dead_code, reason = "who made it proves nothing without a signature")]
    pub(super) created_by: String,
    pub(super) created: String,
    pub(super) modified: String,
    #[serde(default)]
    pub(super) revoked: bool,
    #[serde(default)]
    pub(super) valid_from: Option<String>,
    #[serde(default)]
    pub(super) valid_until: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who keep playbooks")]
    pub(super) derived_from: Vec<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who keep playbooks")]
    pub(super) related_to: Vec<String>,
    #[serde(default)]
    pub(super) priority: u8,
    #[serde(default)]
    pub(super) severity: u8,
    #[serde(default)]
    pub(super) impact: u8,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who keep playbooks")]
    pub(super) industry_sectors: Vec<String>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who keep playbooks")]
    pub(super) external_references: Vec<Value>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who share playbooks")]
    pub(super) markings: Vec<String>,
    #[serde(default)]
    pub(super) playbook_variables: BTreeMap<String, WrittenVariable>,
    pub(super) workflow_start: String,
    #[serde(default)]
    pub(super) workflow_exception: Option<String>,
    pub(super) workflow: BTreeMap<String, WrittenStep>,
    #[serde(default)]
    pub(super) agent_definitions: BTreeMap<String, WrittenAgent>,
    #[serde(default)]
    pub(super) target_definitions: BTreeMap<String, WrittenAgent>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who share playbooks")]
    pub(super) data_marking_definitions: BTreeMap<String, Value>,
}

/// A variable (§10.18.3).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenVariable {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) value: Option<String>,
    #[serde(default)]
    pub(super) constant: bool,
    #[serde(default)]
    pub(super) external: bool,
}

/// A step of any kind (§4): which members it may have depends on its type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStep {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    #[expect(dead_code, reason = "for people who keep playbooks")]
    pub(super) external_references: Vec<Value>,
    #[serde(default)]
    pub(super) delay: u64,
    #[serde(default)]
    pub(super) timeout: Option<u64>,
    #[serde(default)]
    #[expect(dead_code, reason = "who answers for a step is for people")]
    pub(super) owner: Option<String>,
    #[serde(default)]
    pub(super) on_completion: Option<String>,
    #[serde(default)]
    pub(super) on_success: Option<String>,
    #[serde(default)]
    pub(super) on_failure: Option<String>,
    #[serde(default)]
    pub(super) commands: Option<Vec<WrittenCommand>>,
    #[serde(default)]
    pub(super) agent: Option<String>,
    #[serde(default)]
    pub(super) targets: Option<Vec<String>>,
    #[serde(default)]
    pub(super) in_args: Option<Vec<String>>,
    #[serde(default)]
    pub(super) out_args: Option<Vec<String>>,
    #[serde(default)]
    pub(super) next_steps: Option<Vec<String>>,
    #[serde(default)]
    pub(super) condition: Option<String>,
    #[serde(default)]
    pub(super) on_true: Option<String>,
    #[serde(default)]
    pub(super) on_false: Option<String>,
    #[serde(default)]
    pub(super) switch: Option<String>,
    #[serde(default)]
    pub(super) cases: Option<BTreeMap<String, String>>,
}

impl WrittenStep {
    /// The members that not every step has, with whether this one has them.
    pub(super) fn special(&self) -> [(&'static str, bool); 10] {
        [
            ("commands", self.commands.is_some()),
            ("agent", self.agent.is_some()),
            ("targets", self.targets.is_some()),
            ("in_args", self.in_args.is_some()),
            ("out_args", self.out_args.is_some()),
            ("next_steps", self.next_steps.is_some()),
            ("condition", self.condition.is_some()),
            ("on_true", self.on_true.is_some()),
            ("on_false", self.on_false.is_some()),
            ("switch", self.switch.is_some() || self.cases.is_some()),
        ]
    }
}

/// A command (§5): those that are carried out here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCommand {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) command: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "the step's description says it")]
    pub(super) description: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "there is one version of what is carried out here")]
    pub(super) version: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "says what can be seen from the act")]
    pub(super) playbook_activity: Option<String>,
    #[serde(default)]
    pub(super) headers: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    pub(super) content: Option<String>,
}

/// An agent or a target (§7). Where it is, is for other engines; here it is Sallyport itself, or people.
#[derive(Debug, Deserialize)]
pub(super) struct WrittenAgent {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) name: String,
}
