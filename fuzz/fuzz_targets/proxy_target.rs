//! What agents name to the forward proxy: a host and a port that mean one thing to everybody, or nothing.
#![no_main]
use libfuzzer_sys::fuzz_target;
use web::proxy::target::{Host, Target};

fuzz_target!(|text: &str| {
    if let Ok(target) = Target::parse(text) {
        let spelt = target.to_string();
        assert_eq!(Target::parse(&spelt), Ok(target.clone()));
        assert_eq!(Target::with_default(&spelt, 1), Ok(target.clone()));
        // Nothing but letters and the spelling of an IPv6 address is ever changed.
        assert!(spelt.eq_ignore_ascii_case(text) || text.starts_with('['));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
        assert!(spelt.bytes().all(plain) && !spelt.contains(".:"));
        assert_ne!(target.port(), 0);
        // A name is no address to anybody who reads addresses in other ways.
        if let Host::Name(name) = target.host() {
            let last = name.rsplit('.').next().unwrap_or_default();
            assert!(!last.is_empty() && !last.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(name.parse::<std::net::IpAddr>().is_err());
        }
        let url = format!("https://{spelt}/x");
        assert_eq!(url.parse().ok().map(|url| Target::of(&url)), Some(Ok(target)));
    }
    if let Ok(target) = Target::with_default(text, 443) {
        assert_eq!(Target::parse(&target.to_string()), Ok(target));
    }
});
