//! What of a message's headers belongs to one connection (RFC 9110 §7.6.1), and the names that the
//! two sides know the same server by.

use http::header::{
    CONNECTION, HOST, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Removes what is meant for the next hop only.
pub(crate) fn remove_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in always.into_iter().chain(named) {
        headers.remove(name);
    }
}

/// Where clients believe the server to be, and where it is; each a host with its port.
pub(crate) struct Names {
    pub(crate) proxy: String,
    pub(crate) gateway: String,
}

impl Names {
    /// Says the gateway's name where the client said the proxy's. Every other name goes on as it is:
    /// judging it is the gateway's part.
    pub(crate) fn translate(&self, headers: &mut HeaderMap) {
        let here = [("", HOST), ("http://", ORIGIN)];
        for (scheme, header) in here {
            if headers
                .get(&header)
                .is_some_and(|value| value == &format!("{scheme}{}", self.proxy))
            {
                let value = HeaderValue::try_from(format!("{scheme}{}", self.gateway));
                headers.insert(header, value.expect("a host and port are visible ASCII"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let parsed = all.iter().map(|&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        parsed.collect()
    }

    #[test]
    fn what_belongs_to_the_connection_stays_there() {
        let mut some = headers(&[
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("mcp-session-id", "s"),
            ("last-event-id", "7"),
        ]);
        remove_connection(&mut some);
        assert_eq!(
            some,
            headers(&[("mcp-session-id", "s"), ("last-event-id", "7")])
        );
    }

    #[test]
    fn only_the_proxy_s_own_name_is_translated() {
        let names = Names {
            proxy: "127.0.0.1:1".to_owned(),
            gateway: "127.0.0.1:2".to_owned(),
        };
        let mut own = headers(&[("host", "127.0.0.1:1"), ("origin", "http://127.0.0.1:1")]);
        names.translate(&mut own);
        assert_eq!(
            own,
            headers(&[("host", "127.0.0.1:2"), ("origin", "http://127.0.0.1:2")])
        );
        let foreign = headers(&[
            ("host", "evil.example.com"),
            ("origin", "http://evil.example.com"),
        ]);
        let mut carried = foreign.clone();
        names.translate(&mut carried);
        assert_eq!(carried, foreign);
    }
}
