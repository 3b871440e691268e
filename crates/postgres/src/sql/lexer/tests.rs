use super::*;
use proptest::prelude::*;

fn shapes(text: &str) -> Vec<String> {
    lex(text)
        .unwrap()
        .into_iter()
        .map(|one| one.shape)
        .collect()
}

#[test]
fn constants_and_comments_go() {
    assert_eq!(
        shapes("SELECT a, 'x''y' FROM t -- c\nWHERE b=12.5e3 /* /* n */ */ AND c = $1;;"),
        ["SELECT a , '?' FROM t WHERE b = 0 AND c = $1"]
    );
    assert_eq!(shapes("a;b;"), ["a", "b"]);
    assert_eq!(
        shapes(r"SELECT E'a\'b', $q$ ' $$ $q$, B'01'"),
        ["SELECT '?' , '?' , '?'"]
    );
}

#[test]
fn operators_end_where_the_database_ends_them() {
    // A comment begins in the middle of what looks like an operator.
    assert_eq!(shapes("SELECT 1 +-- 'x\n, f()"), ["SELECT 0 + , f ( )"]);
    assert_eq!(shapes("SELECT 1 +/* , f() */ 2"), ["SELECT 0 + 0"]);
    assert_eq!(shapes("SELECT a*-1, b<-2"), ["SELECT a * - 0 , b < - 0"]);
    assert_eq!(shapes("SELECT a->>'k'"), ["SELECT a ->> '?'"]);
    assert_eq!(shapes(r"SELECT '\', f() --'"), ["SELECT '?' , f ( )"]);
}

#[test]
fn what_is_not_clear_is_refused() {
    for text in [
        "SELECT 'a",
        "SELECT \"a",
        "SELECT $a$ $b$",
        "/* /* */",
        "SELECT U&'\\0041'",
        "SELECT u&\"\\0041\"",
        "SELECT 0x1f",
        "SELECT 1_000",
        "SELECT 1a",
        "SELECT 1..2",
        "SELECT $1a",
        "SELECT \"a\\b\"",
        "SELECT 'a'\n'b'",
        "SELECT E'a' --c\n'b\\'",
        "SELECT 1 @-@ 2",
        "SELECT (1;2)",
        "SELECT (1",
        "SELECT 1)",
        "SELECT a := 1",
        "SELECT \\ 1",
        "SELECT q'a'",
    ] {
        assert!(lex(text).is_err(), "{text}");
    }
    let long = "a".repeat(64);
    assert!(lex(&long).is_err() && lex(&format!("\"{long}\"")).is_err());
}

#[test]
fn long_chains_and_deep_parentheses_are_refused() {
    assert!(lex(&format!("SELECT 1{}", "+1".repeat(CHAIN + 1))).is_err());
    assert!(lex(&format!("SELECT 1{}", "+f(1,1)".repeat(CHAIN + 1))).is_err());
    assert!(lex(&format!("SELECT 1{}", "::a".repeat(CHAIN + 1))).is_err());
    assert!(lex(&format!("SELECT {}", "(".repeat(DEPTH + 1))).is_err());
    let rows = "(-1,-2),".repeat(10_000);
    assert!(lex(&format!("INSERT INTO t VALUES {rows} (1,2)")).is_ok());
}

#[test]
fn strings_are_kept_of_settings_only() {
    let lexed = lex("SET a = 'x''y'; SELECT 'z'").unwrap();
    assert_eq!(lexed[0].strings, ["x'y"]);
    assert!(lexed[1].strings.is_empty());
    assert!(lex("SET a = E'x'").is_err());
}

proptest! {
    #[test]
    fn anything_is_taken_or_refused(text in "\\PC{0,200}") {
        let _ = lex(&text);
    }

    /// A shape is in the lexer's own terms: taken apart again, it stays what it is.
    #[test]
    fn shapes_are_stable(text in "([a-z]{1,3}|'[^']{0,3}'|[0-9]{1,3}|[-+*/<>=(),.;\" ]|--\n|/\\*|\\*/| ){0,40}") {
        if let Ok(lexed) = lex(&text) {
            for one in lexed {
                let again = lex(&one.shape).unwrap();
                prop_assert_eq!(again.len(), 1);
                prop_assert_eq!(&again[0].shape, &one.shape);
            }
        }
    }
}
