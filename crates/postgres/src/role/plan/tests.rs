use super::*;
use serde_json::{Value, json};

fn catalog(row_security: bool) -> Catalog {
    let relation = |schema: &str, name: &str, kind| Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind,
        columns: ["id", "name", "region"].map(str::to_owned).to_vec(),
        row_security,
        open_policies: false,
        sequences: vec!["crm.customers_id_seq".to_owned()],
    };
    Catalog::new(
        vec![
            relation("crm", "customers", RelationKind::Table),
            relation("crm", "report", RelationKind::Other),
            relation("pg_catalog", "pg_authid", RelationKind::Table),
        ],
        vec!["crm".to_owned()],
    )
}

fn planned(permissions: Value, row_security: bool) -> Result<Plan, PlanError> {
    let permissions: Vec<TablePermission> = serde_json::from_value(permissions).unwrap();
    plan(permissions.iter(), &catalog(row_security))
}

#[test]
fn rights_are_given_exactly() {
    let plan = planned(
        json!([{ "name": "crm.customers", "operations": ["select", "delete"], "columns": ["id", "other"] }]),
        false,
    )
    .unwrap();
    assert_eq!(
        plan.sql("r"),
        "GRANT USAGE ON SCHEMA \"crm\" TO \"r\";\n\
         GRANT SELECT (\"id\") ON \"crm\".\"customers\" TO \"r\";\n\
         GRANT DELETE ON \"crm\".\"customers\" TO \"r\";\n"
    );
    assert!(plan.writes());
    let all = planned(json!([{ "name": "*", "operations": ["select"] }]), false).unwrap();
    assert!(!all.sql("r").contains("pg_authid") && !all.writes());
}

#[test]
fn rows_need_row_security_and_a_table() {
    let rows = |name: &str, rows: &str| json!([{ "name": name, "operations": ["select", "update"], "rows": rows }]);
    assert!(matches!(
        planned(rows("crm.customers", "region = 'eu'"), false),
        Err(PlanError::NoRowSecurity(_))
    ));
    assert!(matches!(
        planned(rows("crm.report", "region = 'eu'"), true),
        Err(PlanError::NotATable(_))
    ));
    for bad in [
        "true); DROP TABLE t; --",
        "true) OR (true",
        "a = ",
        "true; true",
        "1 = 1 /*",
    ] {
        assert!(
            matches!(
                planned(rows("crm.customers", bad), true),
                Err(PlanError::Condition(..))
            ),
            "{bad}"
        );
    }
    let plan = planned(rows("crm.customers", "region = 'eu'"), true).unwrap();
    assert!(plan.is_filtered("crm.customers"));
    let rules = plan.row_rules("db");
    let of = |way: &str| {
        rules
            .iter()
            .find(|rule| rule.policies.contains(way))
            .unwrap_or_else(|| panic!("{way}: {rules:?}"))
    };
    let select = of("AS RESTRICTIVE FOR SELECT");
    let condition = "USING (((region = 'eu'\n)\n))";
    assert!(select.policies.contains(condition), "{}", select.policies);
    assert!(select.policies.contains(&select.role));
    of("AS PERMISSIVE FOR UPDATE");
}

#[test]
fn conditions_are_joined_without_widening() {
    let right = |columns: Option<&[&str]>, rows: Option<&str>| Right {
        columns: columns.map(|c| c.iter().map(|c| (*c).to_owned()).collect()),
        rows: rows.map(str::to_owned),
    };
    let same = merged(vec![right(None, Some("a")), right(None, Some("b"))]);
    assert_eq!(same.rows.as_deref(), Some("(a\n) OR (b\n)"));
    let open = merged(vec![right(None, Some("a")), right(None, None)]);
    assert_eq!(open.rows, None);
    let other = merged(vec![
        right(Some(&["x"]), Some("a")),
        right(Some(&["y"]), None),
    ]);
    assert_eq!(other.rows.as_deref(), Some("(a\n)"));
    assert_eq!(other.columns.map(|c| c.len()), Some(2));
}
