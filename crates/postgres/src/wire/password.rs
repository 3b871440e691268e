//! A password that is asked for in clear (§55.2.1): it is a token, or a secret of this machine.

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::backend::{put, put_text};

/// Longest password, in bytes: a token and a proof.
const LONGEST: usize = 24 << 10;

/// Asks for the password; before that, says what the protocol will be if it is not what was asked for.
pub(crate) async fn ask(
    client: &mut (impl AsyncWrite + Unpin),
    negotiation: Option<Bytes>,
) -> io::Result<()> {
    let mut out = BytesMut::from(negotiation.unwrap_or_default());
    put(&mut out, b'R', |body| body.put_u32(3));
    client.write_all(&out).await?;
    client.flush().await
}

/// Receives it; `None` when what comes is something else, or longer than a password may be.
pub(crate) async fn receive(
    client: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Zeroizing<String>>> {
    let tag = client.read_u8().await?;
    let length = usize::try_from(client.read_u32().await?).unwrap_or(usize::MAX);
    let length = length.checked_sub(4).filter(|l| (1..=LONGEST).contains(l));
    let (b'p', Some(length)) = (tag, length) else {
        return Ok(None);
    };
    let mut password = vec![0; length];
    if let Err(error) = client.read_exact(&mut password).await {
        password.zeroize();
        return Err(error);
    }
    if password.pop() != Some(0) || password.contains(&0) {
        password.zeroize();
        return Ok(None);
    }
    Ok(match String::from_utf8(password) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    })
}

/// The message that answers with a password.
pub(crate) fn message(password: &str) -> Zeroizing<Vec<u8>> {
    // Room for all of it at once, so that no part of it is left behind when it grows.
    let mut out = BytesMut::with_capacity(password.len() + 8);
    put(&mut out, b'p', |body| put_text(body, password));
    let message = Zeroizing::new(out.to_vec());
    out.as_mut().zeroize();
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_what_was_sent() {
        let sent = message("eyJ~x");
        let got = receive(&mut &sent[..]).await.unwrap().unwrap();
        assert_eq!(got.as_str(), "eyJ~x");
        for bad in [
            &b"q\0\0\0\x06a\0"[..],
            b"p\0\0\0\x06ab",
            b"p\0\0\0\x06\0\0",
            b"p\0\0\0\x04",
            b"p\0\x01\0\0",
            b"p\0\0\0\x06\xff\0",
        ] {
            assert_eq!(receive(&mut &bad[..]).await.unwrap(), None, "{bad:?}");
        }
        assert!(receive(&mut &b"p\0\0\0\x09ab"[..]).await.is_err());
    }
}
