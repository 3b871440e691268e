//! What rates must be beyond their format.

use model::config::Config;
use model::{Rate, Template};

use super::remarks::Remarks;

/// Checks those of the configuration.
pub(super) fn check(remarks: &mut Remarks<'_>, config: &Config) {
    let task = config.limits.task_rate.rate();
    in_vain(remarks, &["limits", "task_rate"], task, config);
}

/// Checks the one of a template.
pub(super) fn check_template(remarks: &mut Remarks<'_>, template: &Template, config: &Config) {
    in_vain(remarks, &["rate"], template.grant.rate, config);
}

/// Says when a task may go faster than its agent may with all of them.
fn in_vain(remarks: &mut Remarks<'_>, path: &[&str], rate: Option<Rate>, config: &Config) {
    let agent = config.limits.agent_rate.rate();
    if let Some((rate, agent)) = rate.zip(agent)
        && rate.interval() < agent.interval()
    {
        remarks.advice(
            path,
            format!("a task may go faster ({rate}) than its agent ({agent}), so it never does"),
            "make it slower, or `limits.agent_rate` faster",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::remarks::lines;
    use std::path::Path;

    #[test]
    fn a_task_that_may_go_faster_than_its_agent_is_told() {
        let told = |task: &str, agent: &str| {
            let text = format!("[limits]\ntask_rate = {task}\nagent_rate = {agent}\n");
            lines(&text, check)
        };
        let (slow, fast) = ("{ per_minute = 60 }", "{ per_second = 2 }");
        let said = told(fast, slow);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].0, 3);
        assert!(said[0].1.contains("2 calls a second"), "{said:?}");
        assert_eq!(told(slow, fast), []);
        assert_eq!(told(slow, slow), []);
        assert_eq!(told(fast, "\"off\""), []);
    }

    #[test]
    fn so_is_a_template_of_such_tasks() {
        let told = |rate: &str| {
            let text = format!("description = \"x\"\nttl = \"5m\"\nrate = {rate}\n");
            let name = model::TemplateName::parse("t").unwrap();
            let template = Template::parse(name, Path::new("t.toml"), &text).unwrap();
            let config = "[limits]\nagent_rate = { per_second = 5 }\n";
            crate::setup::remarks::messages(config, |remarks, config| {
                check_template(remarks, &template, config);
            })
        };
        assert_eq!(told("{ per_second = 6 }").len(), 1);
        assert_eq!(told("{ per_second = 5, burst = 100 }").len(), 0);
    }
}
