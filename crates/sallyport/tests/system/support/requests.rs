//! What servers of a test's own read.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The next request of a connection, with its whole body; `None` when there is none any more.
pub(crate) async fn next(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut piece = [0; 16_384];
    while !is_whole(&request) {
        match stream.read(&mut piece).await {
            Ok(read @ 1..) => request.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
    Some(request)
}

/// Whether a request has its whole body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let line = line.to_ascii_lowercase();
        line.strip_prefix("content-length:")?.trim().parse().ok()
    });
    body.len() >= length.unwrap_or(0)
}
