//! An HTTPS API with a private authority, and clients of the forward proxy that write every byte themselves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::PATIENCE;
use super::program::Program;

/// A private certification authority, and a certificate of it for `localhost`.
pub(crate) struct Pki {
    folder: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::from_params(&params, &key);
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = rcgen::KeyPair::generate().unwrap();
        let mut leaf = rcgen::CertificateParams::new(names).unwrap();
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&own, &issuer).unwrap();
        let pki = Self { folder };
        std::fs::write(pki.authority(), root.pem()).unwrap();
        std::fs::write(pki.path("cert.pem"), leaf.pem()).unwrap();
        std::fs::write(pki.path("key.pem"), own.serialize_pem()).unwrap();
        pki
    }

    /// The file with the authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The files with the certificate for `localhost` and its key.
    pub(crate) fn identity(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The API of `tests/web/api.py`; it ends with this.
pub(crate) struct Api {
    _program: Program,
    pub(crate) port: u16,
}

impl Api {
    /// Over TLS, as `localhost`.
    pub(crate) fn secure(pki: &Pki) -> Self {
        Self::start(&pki.identity(), Stdio::null())
    }

    /// In the clear.
    pub(crate) fn clear() -> Self {
        Self::start(&[], Stdio::inherit())
    }

    /// Its URL, in the clear.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    fn start(arguments: &[PathBuf], errors: Stdio) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/web/api.py");
        let mut command = Command::new("python3");
        command.arg(script).args(arguments);
        let (program, port) = Program::announced(command.stdin(Stdio::piped()).stderr(errors));
        Self {
            port: port.parse().unwrap(),
            _program: program,
        }
    }
}

/// What a client that writes bytes gets back: the status, the reason and the headers.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// Connects, and sends bytes.
pub(crate) fn send(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// Reads the head of an answer, and nothing behind it; status 0 when there is none.
pub(crate) fn head(stream: &mut TcpStream) -> Head {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        text.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    Head {
        status: status.unwrap_or(0),
        text,
    }
}

/// Speaks TLS as a client that trusts one file with authorities.
pub(crate) fn encrypt<S: std::io::Read + std::io::Write>(
    stream: S,
    trusted: &[u8],
    name: &str,
) -> std::io::Result<StreamOwned<ClientConnection, S>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Reads one answer with a `content-length`: its status and its body.
pub(crate) fn answer(stream: &mut impl std::io::Read) -> (u16, String) {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    let mut length = 0;
    let mut status = 0;
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        if status == 0 {
            status = line.split(' ').nth(1).unwrap().parse().unwrap();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}
