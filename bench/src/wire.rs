//! HTTP/1.1 as the load generator speaks it: one request at a time, written in one piece. What the
//! generator spends is taken from what it measures, so it does no more than it must.

use std::io;
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most headers of an answer.
const HEADERS: usize = 32;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    got: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Its status code.
    pub status: u16,
    /// Its body; one that came in chunks still has their sizes in it.
    pub body: &'a [u8],
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            got: Vec::with_capacity(8 << 10),
        })
    }

    /// Sends a whole request and waits for the whole answer.
    ///
    /// # Errors
    /// The connection broke, or what came is no HTTP.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.got.clear();
        loop {
            if self.stream.read_buf(&mut self.got).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some((status, body)) = whole(&self.got)? {
                return Ok(Answer {
                    status,
                    body: &self.got[body],
                });
            }
        }
    }
}

/// The status and where the body is, once all of it is there.
fn whole(got: &[u8]) -> io::Result<Option<(u16, Range<usize>)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = answer.parse(got).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let mut all = answer.headers.iter();
        all.find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let end = if header("transfer-encoding").is_some() {
        // No answer to the load has these bytes anywhere but at its end.
        if !got[start..].ends_with(b"0\r\n\r\n") {
            return Ok(None);
        }
        got.len()
    } else {
        let length = header("content-length").and_then(|text| std::str::from_utf8(text).ok());
        start + length.map_or(Ok(0), str::parse).map_err(io::Error::other)?
    };
    let status = answer.code.unwrap_or_default();
    Ok((got.len() >= end).then_some((status, start..end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_all_of_it_is_there() {
        let sized = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..sized.len() {
            assert_eq!(whole(&sized[..end]).unwrap(), None);
        }
        let (status, body) = whole(sized).unwrap().unwrap();
        assert_eq!((status, &sized[body]), (200, &b"abc"[..]));
        let chunked = b"HTTP/1.1 403 No\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        for end in 0..chunked.len() {
            assert_eq!(whole(&chunked[..end]).unwrap(), None);
        }
        assert_eq!(whole(chunked).unwrap().unwrap().0, 403);
        assert!(whole(b"hello\r\n\r\n").is_err());
    }
}
