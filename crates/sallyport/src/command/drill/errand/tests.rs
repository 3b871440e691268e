//! Errands made of templates.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use model::TemplateName;
use provenance::Annotations;
use serde_json::json;

use super::*;

const CONFIG: &str = "trust_domain = \"x.example\"\n[servers.mail]\nurl = \"http://127.0.0.1:1\"\n\
    [servers.crm]\nkind = \"http\"\nurl = \"http://127.0.0.1:1\"\n\
    http = { routes = [\"GET /customers/{id}\", \"POST /mails\"] }\n\
    [servers.db]\nkind = \"postgres\"\nurl = \"postgres://127.0.0.1:1/x\"\npostgres = { user = \"u\" }\n";

const HEAD: &str = "description = \"x\"\nagents = [\"a\"]\nttl = \"5m\"\n";

fn setup(annotations: &[(&str, &str)]) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sallyport.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let read = crate::setup::read(&file);
    let mut setup = read.setup.unwrap_or_else(|| panic!("{:?}", read.remarks));
    for (server, text) in annotations {
        let read = Annotations::parse(Path::new("a.toml"), text).unwrap();
        setup
            .annotations
            .insert(ServerName::parse(server).unwrap(), Arc::new(read));
    }
    setup
}

fn errand(setup: &Setup, rest: &str) -> Result<Errand, String> {
    let text = format!("{HEAD}{rest}");
    let name = TemplateName::parse("t").unwrap();
    let template = Template::parse(name, Path::new("templates/t.toml"), &text).unwrap();
    Errand::of(setup, &template, &text, &[])
}

#[test]
fn arguments_are_what_the_grant_admits_and_the_purpose_says() {
    let said = "[tools.send]\nsinks = { to = \"address\", ticket = { type = \"identifier\", of = \"ticket\" } }\ncontent = { body = [\"urls\"] }\n";
    let setup = setup(&[("mail", said)]);
    let errand = errand(
        &setup,
        "[parameters.ticket]\npattern = \"[0-9]{4}\"\n\
         [[allow]]\nserver = \"mail\"\ntools = [\"send\"]\n\
         arguments = { to = {}, ticket = { equals = \"${ticket}\" }, body = {} }\n",
    )
    .unwrap();
    let call = &errand.calls[0];
    let expected = json!({"to": "bo@drill.example", "ticket": "1111", "body": "drill4711"});
    assert_eq!(json!(call.arguments), expected);
    assert_eq!(
        errand.parameters,
        BTreeMap::from([("ticket".to_owned(), "1111".to_owned())])
    );
    assert!(
        errand.purpose.contains("bo@drill.example") && errand.purpose.contains("id 1111"),
        "{}",
        errand.purpose
    );
    assert_eq!(errand.line(call.allowed_at), "templates/t.toml:6");
    // An attacker chooses what the annotations call a sink, and nothing else.
    let (steered, places) = call.steered().unwrap();
    assert_eq!(places.len(), 2);
    assert_eq!(steered["to"], json!(value::ATTACKER));
    assert_eq!(steered["body"], call.arguments["body"]);
    // Data leaves as free text.
    assert_eq!(call.carrying("s3cret").unwrap().1, "body");
}

#[test]
fn where_nobody_said_what_a_tool_does_everything_is_the_attackers() {
    let setup = setup(&[]);
    let errand = errand(
        &setup,
        "[[allow]]\nserver = \"mail\"\ntools = [\"send_*\", \"read_mail\"]\n",
    )
    .unwrap();
    let names: Vec<&str> = errand.calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["send_drill", "read_mail"]);
    assert_eq!(
        (errand.calls[0].reads, errand.calls[1].reads),
        (false, true)
    );
    let (steered, _) = errand.calls[0].steered().unwrap();
    assert_eq!(steered["to"], json!(value::ATTACKER));
    assert!(!errand.has_budget());
}

#[test]
fn numbers_and_narrow_arguments_leave_an_attacker_nothing() {
    let setup = setup(&[]);
    let errand = errand(
        &setup,
        "budget = { calls = 9 }\n[[allow]]\nserver = \"mail\"\ntools = [\"set\"]\narguments = { level = { min = 1, max = 3 } }\n",
    )
    .unwrap();
    let call = &errand.calls[0];
    assert_eq!(json!(call.arguments), json!({"level": 1}));
    assert!(call.steered().is_none() && call.carrying("x").is_none());
    assert_eq!(call.narrowed(), ["level"]);
    assert!(errand.has_budget());
}

#[test]
fn endpoints_are_those_of_the_api() {
    let setup = setup(&[]);
    let found = errand(
        &setup,
        "[[allow]]\nserver = \"crm\"\nendpoints = [\"GET *\", \"POST /mails\"]\n",
    )
    .unwrap();
    let names: Vec<&str> = found.calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["GET /customers/{id}", "POST /mails"]);
    assert!(found.calls[0].reads && !found.calls[1].reads);
    assert_eq!(found.calls[0].arguments["path.id"], json!("drill4711"));
}

#[test]
fn what_cannot_be_tried_is_said_with_the_reason() {
    let setup = setup(&[]);
    let reason = |rest: &str| errand(&setup, rest).unwrap_err();
    assert!(reason("[[allow]]\nserver = \"db\"\ntables = [\"public.x\"]\n").contains("postgres"));
    let asked = "[[allow]]\nserver = \"mail\"\ntools = [\"send\"]\napproval = \"always\"\n";
    assert!(reason(asked).contains("approval each time"));
    assert!(reason(&format!("proof = \"certificate\"\n{asked}")).contains("certificate"));
    let impossible = "[[allow]]\nserver = \"mail\"\ntools = [\"send\"]\narguments = { to = { prefix = \"a\", regex = \"b\" } }\n";
    assert!(reason(impossible).contains("`to` of `send`"));
    let parameter = "[parameters.x]\npattern = \"[^\\\\s\\\\S]\"\n[[allow]]\nserver = \"mail\"\ntools = [\"send\"]\n";
    assert!(reason(parameter).contains("parameter `x`"));
}
