//! The certificate of the task's authority, in files for programs that must trust it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use http::{Request, StatusCode};
use tempfile::TempDir;

use super::super::channel::Channel;
use super::super::http::read;
use crate::failure::Failure;

/// Longest certificate, in bytes.
const LONGEST: usize = 64 << 10;
/// Where systems keep the certificates of public authorities, in one file.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Files with certificates; they go with this.
pub(super) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Gets the certificate of the task's authority and writes it into files; `None` when the task has no
    /// authority, since none of its tunnels is looked into.
    ///
    /// # Errors
    /// [`Failure`]
    pub(super) async fn fetch(channel: &Channel) -> Result<Option<Self>, Failure> {
        let request = Request::new(gateway::full(""));
        let answer = channel.pass(request, "/ca.pem").await?;
        let status = answer.status();
        let body = read(answer.into_body(), LONGEST).await?;
        match status {
            StatusCode::OK => Self::write(&body).map(Some).map_err(|error| {
                Failure::new(format!("the certificate cannot be written: {error}"))
            }),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(Failure::new(format!(
                "the proxy gives no certificate (HTTP {status}): {}",
                String::from_utf8_lossy(&body)
            ))),
        }
    }

    fn write(own: &[u8]) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sallyport-proxy-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let certificates = Self { folder };
        std::fs::write(certificates.own(), own)?;
        let mut bundle = std::fs::File::create(certificates.bundle())?;
        bundle.write_all(own)?;
        // Tunnels that nobody looks into end at the API, whose certificate is another authority's.
        let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let known = given.into_iter().chain(SYSTEM.map(PathBuf::from));
        if let Some(text) = known.filter_map(|path| std::fs::read(path).ok()).next() {
            bundle.write_all(b"\n")?;
            bundle.write_all(&text)?;
        }
        Ok(certificates)
    }

    /// The file with the certificate of the task's authority alone.
    pub(super) fn own(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The file with that and the certificates that the system trusts.
    pub(super) fn bundle(&self) -> PathBuf {
        self.path("bundle.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_has_the_own_certificate_first_and_others_cannot_look() {
        let certificates = Certificates::write(b"OWN").unwrap();
        assert_eq!(std::fs::read(certificates.own()).unwrap(), b"OWN");
        assert!(
            std::fs::read(certificates.bundle())
                .unwrap()
                .starts_with(b"OWN")
        );
        let folder = certificates.folder.path().to_owned();
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        drop(certificates);
        assert!(!folder.exists());
    }
}
