//! What agents ask of HTTP APIs: a path has one spelling, and what is read of a query is all of it.
#![no_main]
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use web::routes::{Found, Route, Routes};
use web::{path, query};

/// The one way to write a segment.
fn written(segment: &str, path: &mut String) {
    path.push('/');
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

fuzz_target!(|text: &str| {
    let (route, sent) = text.split_once('\n').unwrap_or(("GET /a/{b}", text));
    let (sent_path, sent_query) = sent.split_once('?').unwrap_or((sent, ""));
    if let Ok(segments) = path::segments(sent_path) {
        let mut again = String::new();
        segments
            .iter()
            .for_each(|segment| written(segment, &mut again));
        assert_eq!(again, sent_path);
        for segment in &segments {
            assert!(!segment.contains(['/', '\\', ';', '%', '\0']));
            assert!(segment != "." && segment != "..");
        }
        if let Ok(route) = Route::parse(route) {
            let method = route.name();
            let method = method.split(' ').next().unwrap_or_default();
            let routes = Routes::new([route.clone()]);
            if let Found::Route(found, values) = routes.find(method, &segments) {
                assert_eq!(*found, route);
                assert!(values.iter().all(|(_, value)| segments.contains(value)));
            }
        }
    }
    let mut all = Map::new();
    if query::parameters(sent_query, "query.", &mut all).is_ok() {
        let count = |value: &Value| value.as_array().map_or(1, Vec::len);
        let read: usize = all.values().map(count).sum();
        let sent = sent_query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .count();
        assert_eq!(read, sent);
    }
});
