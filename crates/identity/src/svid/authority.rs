//! The certification authority of the trust domain. Its keys are rotated with an overlap on both sides: a new one
//! is in the bundle for a while before it signs, and the one before stays there until all that it signed has
//! expired.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use model::{AgentName, InstanceId, TrustDomain};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::bundle::{Bundle, Root};
use super::request::{NotRequested, Requested};
use super::{BACKDATED, LONGEST, SHORTEST, Svid};
use crate::private_file::{self, KeyError};
use crate::signing::SigningKey;
use crate::x509::{self, NotMade};

/// An authority is replaced when it is this old.
const ROTATE_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long an authority's own certificate is good.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A new authority is in the bundle for this long before it signs, so that everyone has it by then.
const KNOWN_BEFORE: SignedDuration = SignedDuration::from_hours(1);
/// What an authority's certificate is called, beside its key.
const CERTIFICATE: &str = "crt";
/// What its key is called.
const KEY: &str = private_file::DATED;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key cannot be read, made or kept.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate cannot be made.
    #[error(transparent)]
    NotMade(#[from] NotMade),
    /// A certificate is not that of the key beside it, or is for another trust domain.
    #[error(
        "{path} is not the certificate of the key beside it for this trust domain: move both away, and new ones \
         are made"
    )]
    Foreign {
        /// The certificate's file.
        path: PathBuf,
    },
}

/// Why an SVID was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotIssued {
    /// What was asked for cannot be taken.
    #[error(transparent)]
    Request(#[from] NotRequested),
    /// The certificate could not be made.
    #[error(transparent)]
    NotMade(#[from] NotMade),
}

/// An SVID, as its agent gets it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What stands in it.
    pub svid: Svid,
    /// The certificate, in PEM. It is signed by an authority of the bundle, with nothing in between.
    pub pem: String,
    /// What verifies the certificates of the trust domain.
    pub bundle: Arc<Bundle>,
}

/// The authority of one trust domain. Reading it takes no lock.
pub struct Authority {
    dir: PathBuf,
    trust_domain: TrustDomain,
    lifetime: SignedDuration,
    state: ArcSwap<State>,
    /// Held while the folder changes.
    changing: Mutex<()>,
}

/// The authorities that there are, the newest first, and what others see of them.
struct State {
    certifiers: Vec<Arc<Certifier>>,
    bundle: Arc<Bundle>,
}

impl State {
    fn of(certifiers: Vec<Arc<Certifier>>) -> Self {
        let newest = certifiers.first().map(|one| one.created_at);
        let roots = certifiers.iter().map(|one| Root {
            certificate: &one.certificate,
            pem: &one.pem,
            jwk: &one.jwk,
        });
        Self {
            bundle: Arc::new(Bundle::of(newest.unwrap_or(Timestamp::UNIX_EPOCH), roots)),
            certifiers,
        }
    }
}

/// One key with its certificate.
struct Certifier {
    created_at: Timestamp,
    key: x509::Key,
    params: CertificateParams,
    certificate: Vec<u8>,
    pem: String,
    jwk: Value,
    path: PathBuf,
}

impl Authority {
    /// Opens the folder of authorities; an empty one gets its first. SVIDs are good for `lifetime`, which is
    /// kept between [`SHORTEST`] and [`LONGEST`].
    ///
    /// # Errors
    /// [`AuthorityError`], also when others can look into the folder or read a key.
    pub fn open(
        dir: &Path,
        trust_domain: TrustDomain,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        private_file::private_dir(dir)?;
        let mut certifiers = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(KeyError::io(dir))? {
            let path = entry.map_err(KeyError::io(dir))?.path();
            let end = path.extension().and_then(|end| end.to_str());
            match end {
                Some(KEY) => certifiers.push(Arc::new(Certifier::load(path, &trust_domain)?)),
                // It goes with its key, which is looked at; alone it is good for nothing.
                Some(CERTIFICATE) if path.with_extension(KEY).exists() => {}
                Some(CERTIFICATE | private_file::UNFINISHED) => {
                    std::fs::remove_file(&path).map_err(KeyError::io(&path))?;
                }
                _ => return Err(KeyError::Misnamed { path }.into()),
            }
        }
        certifiers.sort_by_key(|one| std::cmp::Reverse(one.created_at));
        let authority = Self {
            dir: dir.to_owned(),
            trust_domain,
            lifetime: lifetime.clamp(SHORTEST, LONGEST),
            state: ArcSwap::from_pointee(State::of(certifiers)),
            changing: Mutex::new(()),
        };
        authority.rotate_if_due(now)?;
        Ok(authority)
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What verifies SVIDs now. It is the same `Arc` until something changes.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.state.load().bundle)
    }

    /// Issues an SVID to an instance of an agent, for the key of a certification request in PEM. Whether the
    /// agent and the instance may have one is for the caller to know.
    ///
    /// # Errors
    /// [`NotIssued`]
    pub fn issue(
        &self,
        request: &str,
        agent: &AgentName,
        instance: &InstanceId,
        now: Timestamp,
    ) -> Result<Issued, NotIssued> {
        let id = self.trust_domain.agent(agent);
        let requested = Requested::read(request, id.as_str())?;
        let state = self.state.load();
        let signs = signing(&state.certifiers, now, self.lifetime);
        let by = &state.certifiers[signs];
        let until = by.good_until().min(now + self.lifetime);
        let mut params = x509::params(instance.to_string(), now - BACKDATED, until)?;
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Both, as X509-SVID §4.4 has it: an agent may be asked as well as ask.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let name = id.as_str().try_into().map_err(NotMade::because)?;
        params.subject_alt_names = vec![SanType::URI(name)];
        let issuer = Issuer::from_params(&by.params, by.key.pair());
        let certificate = params
            .signed_by(&requested, &issuer)
            .map_err(NotMade::because)?;
        Ok(Issued {
            svid: Svid::read(certificate.der()).map_err(NotMade::because)?,
            pem: certificate.pem(),
            bundle: Arc::clone(&state.bundle),
        })
    }

    /// Makes a new authority. It is in the bundle at once, and signs an hour later.
    ///
    /// # Errors
    /// [`AuthorityError`]; then everything is as it was.
    pub fn rotate(&self, now: Timestamp) -> Result<(), AuthorityError> {
        let _changing = self.changing.lock();
        let mut certifiers = self.state.load().certifiers.clone();
        // Later than the one before, whatever the clock says: the order decides which one signs.
        let newest = certifiers.first().map(|one| one.created_at.as_second());
        let created = newest.map_or(now.as_second(), |newest| now.as_second().max(newest + 1));
        let created_at = Timestamp::from_second(created).unwrap_or(now);
        let made = Certifier::make(&self.dir, &self.trust_domain, created_at)?;
        certifiers.insert(0, Arc::new(made));
        self.state.store(Arc::new(State::of(certifiers)));
        Ok(())
    }

    /// Makes a new authority when the newest one is 30 days old, and removes those whose time is over. Says
    /// whether it made one. Call it now and then.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn rotate_if_due(&self, now: Timestamp) -> Result<bool, AuthorityError> {
        let newest = self.state.load().certifiers.first().map(Arc::clone);
        let due = newest.is_none_or(|newest| now.duration_since(newest.created_at) >= ROTATE_AFTER);
        if due {
            self.rotate(now)?;
        }
        self.prune(now)?;
        Ok(due)
    }

    /// Removes the authorities that nothing needs any more.
    fn prune(&self, now: Timestamp) -> Result<(), AuthorityError> {
        let _changing = self.changing.lock();
        let state = self.state.load_full();
        let over = |at: &usize| now >= trusted_until(&state.certifiers, *at);
        let (gone, kept): (Vec<usize>, Vec<usize>) =
            (0..state.certifiers.len()).partition(|at| *at > 0 && over(at));
        if gone.is_empty() {
            return Ok(());
        }
        let kept = kept.iter().map(|at| Arc::clone(&state.certifiers[*at]));
        self.state.store(Arc::new(State::of(kept.collect())));
        for at in gone {
            let key = &state.certifiers[at].path;
            // The key first: a certificate without one is not trusted.
            for path in [key.clone(), key.with_extension(CERTIFICATE)] {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(KeyError::io(&path)(error).into());
                    }
                    _ => {}
                }
            }
        }
        Ok(private_file::sync_parent(&self.dir.join(KEY))?)
    }
}

/// Which authority signs: the newest that has been known for long enough and outlives what it signs; the newest
/// of all where there is none, as at the very beginning or after a long pause.
fn signing(certifiers: &[Arc<Certifier>], now: Timestamp, lifetime: SignedDuration) -> usize {
    let ready = certifiers.iter().position(|one| {
        now.duration_since(one.created_at) >= KNOWN_BEFORE
            && one.good_until().duration_since(now) >= lifetime
    });
    ready.unwrap_or(0)
}

/// Until when an authority is in the bundle: the newest as long as its certificate is good, each other one until
/// what it signed before the next one took over has expired.
fn trusted_until(certifiers: &[Arc<Certifier>], at: usize) -> Timestamp {
    let good_until = certifiers[at].good_until();
    match at.checked_sub(1).map(|next| certifiers[next].created_at) {
        Some(replaced) => good_until.min(after(replaced, KNOWN_BEFORE + LONGEST)),
        None => good_until,
    }
}

fn after(moment: Timestamp, time: SignedDuration) -> Timestamp {
    moment.checked_add(time).unwrap_or(Timestamp::MAX)
}

/// A serial number that nobody can guess (RFC 5280 §4.1.2.2): 127 random bits, positive.
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    // Neither negative nor with a zero in front, so that it has one spelling.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

impl Certifier {
    fn good_until(&self) -> Timestamp {
        after(self.created_at, GOOD_FOR)
    }

    /// A new one, on the disk.
    fn make(
        dir: &Path,
        trust_domain: &TrustDomain,
        created_at: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let signing = SigningKey::generate().map_err(KeyError::from)?;
        let path = dir.join(private_file::dated_name(
            created_at,
            &signing.public().thumbprint(),
        ));
        private_file::save(&signing, &path)?;
        Self::certified(path, &signing, trust_domain, created_at)
    }

    /// Reads one; its file's name says when it was made, and must be the key's own.
    fn load(path: PathBuf, trust_domain: &TrustDomain) -> Result<Self, AuthorityError> {
        let (signing, created_at) = private_file::load_dated(&path)?;
        Self::certified(path, &signing, trust_domain, created_at)
    }

    /// With the certificate beside the key, which is made if a crash came between.
    fn certified(
        path: PathBuf,
        signing: &SigningKey,
        trust_domain: &TrustDomain,
        created_at: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let der = signing.to_pkcs8().map_err(KeyError::from)?;
        let key = x509::Key::from_pkcs8(&der)?;
        let params = params(trust_domain, created_at)?;
        let beside = path.with_extension(CERTIFICATE);
        let (certificate, pem) = match std::fs::read_to_string(&beside) {
            Ok(pem) => (certificate_of(&pem, &key, trust_domain), pem),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = params.self_signed(key.pair()).map_err(NotMade::because)?;
                private_file::write_public(&beside, made.pem().as_bytes())?;
                (Some(made.der().to_vec()), made.pem())
            }
            Err(error) => return Err(KeyError::io(&beside)(error).into()),
        };
        Ok(Self {
            created_at,
            certificate: certificate.ok_or(AuthorityError::Foreign { path: beside })?,
            key,
            params,
            pem,
            jwk: signing.public().to_jwk(),
            path,
        })
    }
}

/// The certificate of an authority (X509-SVID §3.2, §4.1): its name is the trust domain's, it signs certificates
/// of agents and nothing else, and nothing that it signs can sign.
fn params(trust_domain: &TrustDomain, created_at: Timestamp) -> Result<CertificateParams, NotMade> {
    let from = created_at.checked_sub(BACKDATED).unwrap_or(created_at);
    let name = format!("Sallyport authority {}", created_at.as_second());
    let mut params = x509::params(name, from, after(created_at, GOOD_FOR))?;
    params
        .distinguished_name
        .push(DnType::OrganizationName, trust_domain.as_str());
    params.serial_number = Some(serial());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![SanType::URI(
        id_of(trust_domain)
            .as_str()
            .try_into()
            .map_err(NotMade::because)?,
    )];
    Ok(params)
}

fn id_of(trust_domain: &TrustDomain) -> String {
    format!("spiffe://{trust_domain}")
}

/// The certificate in a PEM text, if it is this key's for this trust domain.
fn certificate_of(pem: &str, key: &x509::Key, trust_domain: &TrustDomain) -> Option<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let (rest, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let own = matches!(names.value.general_names[..], [GeneralName::URI(id)] if id == id_of(trust_domain));
    let same = certificate.public_key().subject_public_key.data == key.pair().public_key_raw();
    (own && same && rest.is_empty()).then(|| pem.contents.clone())
}
