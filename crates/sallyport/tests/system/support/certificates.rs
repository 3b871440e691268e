//! Certificates of agents, and what an attacker has in their place.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::SALLYPORT;

/// A certificate and its key, in files.
pub(crate) struct Shown {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Shown {
    fn write(folder: &Path, cert: &str, key: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let this = Self {
            cert: folder.join("forged.pem"),
            key: folder.join("forged.key"),
        };
        std::fs::write(&this.cert, cert).unwrap();
        std::fs::write(&this.key, key).unwrap();
        let only_mine = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&this.key, only_mine).unwrap();
        this
    }
}

/// Gets an SVID for the instance in a folder, with the real command.
pub(crate) fn svid(instance: &Path, out: &Path, more: &[&str]) -> Shown {
    let output = Command::new(SALLYPORT)
        .args(["agent", "svid", "--instance"])
        .arg(instance)
        .arg("--out")
        .arg(out)
        .args(more)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Shown {
        cert: out.join("svid.pem"),
        key: out.join("svid.key"),
    }
}

/// What a certificate says, if nobody keeps to the rules.
pub(crate) struct Said {
    /// URIs in it.
    pub(crate) uris: Vec<String>,
    /// The instance.
    pub(crate) instance: String,
    /// Since when it is good; for an hour.
    pub(crate) from: Timestamp,
    /// What it is for.
    pub(crate) purpose: ExtendedKeyUsagePurpose,
}

impl Said {
    /// As an SVID of an instance has it.
    pub(crate) fn of(agent: &str, instance: &str) -> Self {
        Self {
            uris: vec![format!("spiffe://example.org/agent/{agent}")],
            instance: instance.to_owned(),
            from: Timestamp::now() - SignedDuration::from_secs(60),
            purpose: ExtendedKeyUsagePurpose::ClientAuth,
        }
    }

    fn params(&self) -> CertificateParams {
        let until = self.from + SignedDuration::from_hours(1);
        let mut params = identity::x509::params(self.instance.clone(), self.from, until).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.purpose.clone()];
        let uris = self.uris.iter();
        params.subject_alt_names = uris
            .map(|uri| SanType::URI(uri.as_str().try_into().unwrap()))
            .collect();
        params
    }

    /// Signed with its own key.
    pub(crate) fn by_itself(&self, folder: &Path) -> Shown {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params().self_signed(&key).unwrap();
        Shown::write(folder, &certificate.pem(), &key.serialize_pem())
    }

    /// Signed with another authority's key, in the name of the one in a data directory.
    pub(crate) fn by_another(&self, folder: &Path, data: &Path) -> Shown {
        self.by(folder, data, &KeyPair::generate().unwrap())
    }

    /// Signed with the stolen key of the authority in a data directory.
    pub(crate) fn by_the_authority(&self, folder: &Path, data: &Path) -> Shown {
        let text = std::fs::read_to_string(authority(data)).unwrap();
        self.by(folder, data, &KeyPair::from_pem(&text).unwrap())
    }

    fn by(&self, folder: &Path, data: &Path, signing: &KeyPair) -> Shown {
        let file = authority(data);
        let name = file.file_name().unwrap().to_str().unwrap();
        let seconds: i64 = name.split('.').next().unwrap().parse().unwrap();
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = DistinguishedName::new();
        let name = format!("Sallyport authority {seconds}");
        issuer.distinguished_name.push(DnType::CommonName, name);
        issuer
            .distinguished_name
            .push(DnType::OrganizationName, "example.org");
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&issuer, signing);
        let certificate = self.params().signed_by(&key, &issuer).unwrap();
        Shown::write(folder, &certificate.pem(), &key.serialize_pem())
    }
}

/// The key of the authority in a data directory.
fn authority(data: &Path) -> PathBuf {
    let files = std::fs::read_dir(data.join("authority")).unwrap();
    let mut files = files.map(|it| it.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|end| end == "pem"))
        .unwrap()
}
