//! Where a request to the proxy leads: one host and one port, in one spelling.
//!
//! What an agent names is never resolved and never connected to: it is only looked up among the servers
//! of the configuration. So the one thing that matters is that a name that is found means that server to
//! everybody. Whatever could mean two things is refused: user names, trailing dots, numbers that some take
//! for addresses, zones, escapes, letters that are not ASCII, ports with leading zeros or without.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Longest name of a host, in bytes (RFC 1035 §2.3.4).
const NAME: usize = 253;
/// Longest part of a name between dots, in bytes.
const LABEL: usize = 63;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    host: Host,
    port: u16,
}

/// A host, in the one spelling that it has here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name, in small letters.
    Name(String),
    /// An address of IPv4.
    V4(Ipv4Addr),
    /// An address of IPv6. One that stands for an address of IPv4 is still another host.
    V6(Ipv6Addr),
}

/// Why a text names no host and port here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// There is no port, or it is not a number from 1 to 65535 without leading zeros.
    #[error("it needs a port: a number from 1 to 65535 in plain digits")]
    Port,
    /// It has a user name.
    #[error("it has a user name in it")]
    User,
    /// The name has characters that no name of a host has.
    #[error(
        "its host is no plain name: letters, digits, `-` and `_`, with dots in between; other \
         alphabets in their ASCII form (`xn--…`)"
    )]
    Name,
    /// The name ends with a dot.
    #[error("its host ends with a dot")]
    TrailingDot,
    /// It ends like an address of IPv4, but is not one as everyone writes it.
    #[error("its host is an address that can be read in two ways; write it like `192.0.2.1`")]
    V4,
    /// It is in brackets, but no address of IPv6.
    #[error("its host is no IPv6 address as in `[2001:db8::1]`, without a zone")]
    V6,
    /// A URL that is neither http nor https, or is none.
    #[error("it is no http or https URL")]
    Url,
}

impl Target {
    /// Reads `host:port`, as CONNECT has it (RFC 9112 §3.2.3).
    ///
    /// # Errors
    /// [`NoTarget`]
    pub fn parse(text: &str) -> Result<Self, NoTarget> {
        let (host, port) = split(text)?;
        Ok(Self {
            host: Host::parse(host)?,
            port: number(port.ok_or(NoTarget::Port)?)?,
        })
    }

    /// Reads `host` or `host:port`, as a `Host` header has it (RFC 9110 §7.2), where `port` is meant when
    /// none is written.
    ///
    /// # Errors
    /// [`NoTarget`]
    pub fn with_default(text: &str, port: u16) -> Result<Self, NoTarget> {
        let (host, written) = split(text)?;
        Ok(Self {
            host: Host::parse(host)?,
            port: written.map_or(Ok(port), number)?,
        })
    }

    /// Where a URL leads.
    ///
    /// # Errors
    /// [`NoTarget`]
    pub fn of(url: &Uri) -> Result<Self, NoTarget> {
        let port = match url.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(NoTarget::Url),
        };
        let authority = url.authority().ok_or(NoTarget::Url)?;
        Self::with_default(authority.as_str(), port)
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, NoTarget> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(NoTarget::V6)?;
            return inner.parse().map(Self::V6).map_err(|_| NoTarget::V6);
        }
        if text.ends_with('.') {
            return Err(NoTarget::TrailingDot);
        }
        if text.len() > NAME || !text.split('.').all(is_label) {
            return Err(NoTarget::Name);
        }
        // What ends in a number is an address to some, in whatever base (WHATWG URL, "ends in a number").
        let last = text.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last
            .strip_prefix("0x")
            .or_else(|| last.strip_prefix("0X"))
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::V4).map_err(|_| NoTarget::V4);
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    /// The host as programs take it that resolve and connect: without brackets.
    #[must_use]
    pub fn plain(&self) -> String {
        match self {
            Self::V6(address) => address.to_string(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The host, and the port if one is written.
fn split(text: &str) -> Result<(&str, Option<&str>), NoTarget> {
    if text.contains('@') {
        return Err(NoTarget::User);
    }
    let end = match text.strip_prefix('[') {
        Some(inner) => inner.find(']').ok_or(NoTarget::V6)? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(NoTarget::V6),
    }
}

fn number(port: &str) -> Result<u16, NoTarget> {
    let plain = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(number) if plain => Ok(number),
        _ => Err(NoTarget::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_and_a_port_have_one_spelling() {
        for (text, spelt) in [
            ("api.example.org:443", "api.example.org:443"),
            ("API.Example.ORG:443", "api.example.org:443"),
            ("localhost:1", "localhost:1"),
            ("my_service:65535", "my_service:65535"),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example:443"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[2001:DB8:0::1]:443", "[2001:db8::1]:443"),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"),
            ("1and1.example:80", "1and1.example:80"),
            ("example.0xyz:80", "example.0xyz:80"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), spelt, "{text}");
            assert_eq!(Target::parse(spelt), Ok(target), "{text}");
        }
        let mapped = Target::parse("[::ffff:127.0.0.1]:80");
        assert_ne!(mapped, Target::parse("127.0.0.1:80"));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        use NoTarget::*;
        for (text, why) in [
            ("api.example.org", Port),
            ("api.example.org:", Port),
            ("api.example.org:0", Port),
            ("api.example.org:0443", Port),
            ("api.example.org:+443", Port),
            ("api.example.org:65536", Port),
            ("api.example.org:443:443", Port),
            ("api.example.org:443/", Port),
            ("api.example.org:443 ", Port),
            ("api.example.org:https", Port),
            ("2001:db8::1:443", Port),
            ("user@api.example.org:443", User),
            ("api.example.org:443@evil.example:443", User),
            ("@:1", User),
            ("api.example.org.:443", TrailingDot),
            (".:443", TrailingDot),
            (":443", Name),
            ("", Name),
            ("api..example:443", Name),
            (".example:443", Name),
            ("-a.example:443", Name),
            ("a b:443", Name),
            ("api.example.org\\evil:443", Name),
            ("api.example.org#:443", Name),
            ("api.example.org/:443", Name),
            ("api%2eexample.org:443", Name),
            ("bücher.example:443", Name),
            ("ⅰ.example:443", Name),
            ("api.example.org\u{0}:443", Name),
            ("127.1:80", V4),
            ("2130706433:80", V4),
            ("0x7f000001:80", V4),
            ("127.0.0.0x1:80", V4),
            ("0177.0.0.1:80", V4),
            ("127.0.0.01:80", V4),
            ("1.2.3.4.5:80", V4),
            ("a.1:80", V4),
            ("[::1:443", V6),
            ("[::1]443", V6),
            ("[::1]]:443", V6),
            ("[]:443", V6),
            ("[fe80::1%eth0]:443", V6),
            ("[127.0.0.1]:443", V6),
            ("[api.example.org]:443", V6),
        ] {
            let parsed = Target::parse(text);
            assert!(parsed.is_err(), "{text}: {parsed:?}");
            if !matches!(why, Name | Port) {
                assert_eq!(parsed, Err(why), "{text}");
            }
        }
        let long = format!("{}:1", "a.".repeat(127) + "aa");
        assert_eq!(Target::parse(&long), Err(Name));
    }

    #[test]
    fn a_url_leads_where_its_scheme_says_unless_it_says_otherwise() {
        let of = |url: &str| Target::of(&url.parse().unwrap()).map(|target| target.to_string());
        assert_eq!(of("https://API.example/v1").unwrap(), "api.example:443");
        assert_eq!(of("http://api.example").unwrap(), "api.example:80");
        assert_eq!(of("http://[::1]:8080/x").unwrap(), "[::1]:8080");
        assert_eq!(of("https://u:p@api.example/"), Err(NoTarget::User));
        assert_eq!(of("ftp://api.example/"), Err(NoTarget::Url));
        assert_eq!(of("/x"), Err(NoTarget::Url));
        assert_eq!(
            Target::with_default("api.example", 443),
            Target::parse("api.example:443")
        );
        assert_eq!(
            Target::with_default("api.example:", 443),
            Err(NoTarget::Port)
        );
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(text in "[a-zA-Z0-9.:\\[\\]@_%x-]{0,24}") {
            if let Ok(target) = Target::parse(&text) {
                let spelt = target.to_string();
                prop_assert!(spelt.eq_ignore_ascii_case(&text) || text.starts_with('['), "{}", text);
                prop_assert_eq!(Target::parse(&spelt), Ok(target.clone()));
                let url: Uri = format!("https://{spelt}/x").parse().unwrap();
                prop_assert_eq!(Target::of(&url), Ok(target));
            }
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}") {
            let _ = Target::parse(&text);
            let _ = Target::with_default(&text, 1);
        }
    }
}
