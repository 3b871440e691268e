use super::*;
use bytes::Bytes;
use http_body_util::{Empty, Full};

fn request(line: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

/// What a request is taken for, with its target.
fn taken(line: &str, headers: &[(&str, &str)]) -> Result<String, u16> {
    match read(&request(line, headers)) {
        Ok(Wanted::Tunnel(target)) => Ok(format!("tunnel {target}")),
        Ok(Wanted::Plain(target)) => Ok(format!("plain {target}")),
        Ok(Wanted::Own) => Ok("own".to_owned()),
        Err(refusal) => Err(refusal.response().status().as_u16()),
    }
}

#[test]
fn each_form_of_a_target_means_one_thing() {
    let host = |host| [("host", host)];
    for (line, headers, wanted) in [
        (
            "CONNECT api.example:443",
            host("api.example:443"),
            "tunnel api.example:443",
        ),
        // Some clients leave a default port out.
        (
            "CONNECT api.example:443",
            host("API.example"),
            "tunnel api.example:443",
        ),
        (
            "CONNECT [::1]:8443",
            host("[::1]:8443"),
            "tunnel [::1]:8443",
        ),
        (
            "GET http://api.example/a?b",
            host("api.example"),
            "plain api.example:80",
        ),
        (
            "POST http://api.example:8080/",
            host("api.example:8080"),
            "plain api.example:8080",
        ),
        ("GET /ca.pem", host("anything"), "own"),
    ] {
        assert_eq!(taken(line, &headers).as_deref(), Ok(wanted), "{line}");
    }
}

#[test]
fn what_two_could_take_for_different_targets_is_refused() {
    for (line, host, status) in [
        ("CONNECT api.example:443", "evil.example:443", 421),
        ("CONNECT api.example:443", "api.example:8443", 421),
        ("CONNECT api.example:443", "api.example.:443", 421),
        ("CONNECT api.example:443", "u@api.example:443", 421),
        ("GET http://api.example/", "evil.example", 421),
        ("GET http://api.example:8080/", "api.example", 421),
        ("CONNECT api.example.:443", "api.example.:443", 400),
        ("CONNECT u:p@api.example:443", "api.example:443", 400),
        ("CONNECT 127.1:443", "127.1:443", 400),
        ("CONNECT api.example", "api.example", 400),
        ("CONNECT /api.example:443", "api.example:443", 400),
        ("CONNECT http://api.example:443/", "api.example:443", 400),
        ("GET api.example:443", "api.example:443", 400),
        ("GET https://api.example/", "api.example", 400),
        ("GET ftp://api.example/", "api.example", 400),
        ("GET http://u:p@api.example/", "api.example", 400),
        ("GET http://api.example./", "api.example.", 400),
        ("OPTIONS http://0x7f.1/", "0x7f.1", 400),
    ] {
        let taken = taken(line, &[("host", host)]);
        assert_eq!(taken, Err(status), "{line} of {host}");
    }
    let twice = [("host", "api.example"), ("host", "api.example")];
    assert_eq!(taken("CONNECT api.example:443", &twice), Err(421));
    assert_eq!(taken("CONNECT api.example:443", &[]), Err(421));
}

#[test]
fn a_connect_has_no_content() {
    let host = ("host", "api.example:443");
    let bare = |more: (&str, &str)| taken("CONNECT api.example:443", &[host, more]);
    assert!(bare(("content-length", "0")).is_ok());
    for more in [
        ("content-length", "4"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
    ] {
        assert_eq!(bare(more), Err(400), "{more:?}");
    }
    let request = Request::builder()
        .method("CONNECT")
        .uri("api.example:443")
        .header("host", "api.example:443")
        .body(Full::new(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")))
        .unwrap();
    assert!(read(&request).is_err());
}

#[test]
fn clients_of_http_1_0_may_leave_the_host_out() {
    let mut old = request("CONNECT api.example:443", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert!(matches!(read(&old), Ok(Wanted::Tunnel(_))));
    let mut new = request("CONNECT api.example:443", &[("host", "api.example:443")]);
    *new.version_mut() = Version::HTTP_2;
    assert!(read(&new).is_err());
}

#[test]
fn a_refusal_says_why_in_the_status_line_and_ends_the_connection() {
    let target = Target::parse("evil.example:443").unwrap();
    let answer = ended(Refusal::nothing_at(&target).response());
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.headers()["connection"], "close");
    let phrase = answer.extensions().get::<hyper::ext::ReasonPhrase>();
    assert_eq!(
        phrase.unwrap().as_bytes(),
        b"the task grants no server at `evil.example:443`"
    );
    let status = answer.headers()["proxy-status"].to_str().unwrap();
    assert!(status.contains("error=http_request_denied"), "{status}");
    let odd = Refusal::malformed("two\r\nlines: \"ä\\\"", "none").response();
    let phrase = odd.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
    assert_eq!(phrase.as_bytes(), b"two  lines: \" \\\"");
}
