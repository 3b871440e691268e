//! Handshakes with clients that show what they should not.

use std::path::Path;

use identity::svid::{LIFETIME, Request};
use jiff::SignedDuration;
use model::{AgentName, InstanceId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ServerConnection, SupportedProtocolVersion,
};

use super::*;
use crate::live::Live;

const OWN: &str = "spiffe://example.org/agent/triage";

fn instance() -> InstanceId {
    InstanceId::new(Timestamp::UNIX_EPOCH, [7; 10])
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A listener, and the authority that it trusts.
struct Scene {
    dir: tempfile::TempDir,
    authority: Arc<Authority>,
    live: Arc<Live>,
    server: Arc<ServerConfig>,
    root: CertificateDer<'static>,
}

/// What a client shows.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let home = TrustDomain::parse("example.org").unwrap();
    let folder = dir.path().join("authority");
    let authority = Authority::open(&folder, home, LIFETIME, Timestamp::now()).unwrap();
    let authority = Arc::new(authority);
    let options = audit::Options::new("example.org/audit", dir.path().join("key"));
    let (log, _) = audit::AuditLog::open(&dir.path().join("log"), options).unwrap();
    let policies = policy::Policies::compile(&[]).unwrap();
    let live = Arc::new(Live::new(policy::World::new(Arc::new(policies)), log));
    let refusals = Refusals::new(Arc::clone(&live));
    let peers = Arc::new(Peers::new(Arc::clone(&authority), refusals));
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let root = own.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let certified = CertifiedKey::from_der(vec![root.clone()], key.into(), &provider()).unwrap();
    let mut resolver = ResolvesServerCertUsingSni::new();
    resolver.add("localhost", certified).unwrap();
    let server = Arc::new(peers.listener(Arc::new(resolver)).unwrap());
    Scene {
        dir,
        authority,
        live,
        server,
        root,
    }
}

impl Scene {
    /// An SVID that was issued at some time.
    fn svid(&self, at: Timestamp) -> Shown {
        let request = Request::new().unwrap();
        let agent = AgentName::parse("triage").unwrap();
        let issued = self.authority.issue(request.pem(), &agent, &instance(), at);
        let der = pem(&issued.unwrap().pem);
        Shown {
            chain: vec![der],
            key: PrivatePkcs8KeyDer::from(request.key().unwrap().to_vec()).into(),
        }
    }

    /// The key of the authority and its name, as whoever stole the data directory has them.
    fn stolen(&self) -> (KeyPair, CertificateParams) {
        let key = file(&self.dir.path().join("authority"), "pem");
        let name = key.file_name().unwrap().to_str().unwrap().to_owned();
        let seconds: i64 = name.split('.').next().unwrap().parse().unwrap();
        let key = KeyPair::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = format!("Sallyport authority {seconds}");
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "example.org");
        (key, params)
    }

    /// A certificate that the authority would not have made, signed with its key.
    fn forged(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let (key, params) = self.stolen();
        signed(&Issuer::from_params(&params, &key), change)
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        shown: Option<Shown>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shown {
            Some(Shown { chain, key }) => client.with_client_auth_cert(chain, key).unwrap(),
            None => client.with_no_client_auth(),
        })
    }

    /// What the listener knows of a client after the handshake, and whether all of it was made.
    fn handshake(
        &self,
        client: &Arc<ClientConfig>,
    ) -> Result<(Option<Arc<Svid>>, HandshakeKind), String> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        for _ in 0..8 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().map_err(|e| e.to_string())?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().map_err(|e| e.to_string())?;
            }
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        let kind = server.handshake_kind().unwrap();
        Ok((of_connection(&server), kind))
    }

    fn refusal(&self, shown: Shown) -> String {
        let client = self.client(&rustls::version::TLS13, Some(shown));
        self.handshake(&client).unwrap_err()
    }
}

fn file(dir: &Path, end: &str) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|it| it == end))
        .unwrap()
}

fn pem(text: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
}

fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

/// A certificate like an SVID but for what is changed, with a new key.
fn signed(
    by: &Issuer<'_, impl rcgen::SigningKey>,
    change: impl FnOnce(&mut CertificateParams),
) -> Shown {
    let key = KeyPair::generate().unwrap();
    let params = like_an_svid(change);
    let certificate = params.signed_by(&key, by).unwrap();
    Shown {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

fn like_an_svid(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let now = Timestamp::now();
    let (from, until) = (now - SignedDuration::from_secs(60), now + LIFETIME);
    let mut params = identity::x509::params(instance().to_string(), from, until).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri(OWN)];
    change(&mut params);
    params
}

#[test]
fn a_certificate_may_be_shown_and_is_known_then() {
    let scene = scene();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let nobody = scene.client(version, None);
        assert_eq!(scene.handshake(&nobody).unwrap().0, None);
        let shown = scene.svid(Timestamp::now());
        let der = shown.chain[0].clone();
        let client = scene.client(version, Some(shown));
        let svid = scene.handshake(&client).unwrap().0.unwrap();
        assert_eq!(svid.instance, instance());
        assert_eq!(svid.thumbprint, identity::svid::Thumbprint::of(&der));
        let forged = scene.client(version, Some(scene.forged(|_| {})));
        assert!(
            scene.handshake(&forged).is_ok(),
            "so that the others fail for what they say"
        );
    }
}

#[test]
fn nothing_else_gets_a_connection() {
    let scene = scene();
    let now = Timestamp::now();
    let day = SignedDuration::from_hours(24);
    let own = KeyPair::generate().unwrap();
    let itself = like_an_svid(|_| {}).self_signed(&own).unwrap();
    let itself = Shown {
        chain: vec![itself.der().clone()],
        key: PrivatePkcs8KeyDer::from(own.serialize_der()).into(),
    };
    // Another authority, with the very same name.
    let (stolen, params) = scene.stolen();
    let other = KeyPair::generate().unwrap();
    let twin = signed(&Issuer::from_params(&params, &other), |_| {});
    let authority = Shown {
        chain: vec![pem(scene.authority.bundle().pem())],
        key: PrivatePkcs8KeyDer::from(stolen.serialize_der()).into(),
    };
    let refused = [
        ("expired", scene.svid(now - day), "expired"),
        ("from the future", scene.svid(now + day), "not valid yet"),
        ("self-signed", itself, "UnknownIssuer"),
        ("of another authority", twin, "BadSignature"),
        ("the authority itself", authority, "CaUsedAsEndEntity"),
    ];
    for (what, shown, why) in refused {
        let said = scene.refusal(shown);
        assert!(said.contains(why), "{what}: {said}");
    }
    let uris = |ids: &'static [&'static str]| {
        scene.forged(|it| it.subject_alt_names = ids.iter().map(|id| uri(id)).collect())
    };
    let dns = SanType::DnsName("gateway.example.org".try_into().unwrap());
    let forged = [
        (
            "two names",
            uris(&[OWN, "spiffe://example.org/agent/other"]),
        ),
        ("the same name twice", uris(&[OWN, OWN])),
        ("no agent", uris(&["spiffe://example.org/server/crm"])),
        (
            "another trust domain",
            uris(&["spiffe://other.example/agent/triage"]),
        ),
        ("no name", uris(&[])),
        (
            "a server",
            scene.forged(|it| it.subject_alt_names = vec![dns]),
        ),
        (
            "only for servers",
            scene.forged(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "an authority below",
            scene.forged(|it| {
                it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                it.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            }),
        ),
        (
            "no instance",
            scene.forged(|it| it.distinguished_name = rcgen::DistinguishedName::new()),
        ),
    ];
    for (what, shown) in forged {
        let client = scene.client(&rustls::version::TLS13, Some(shown));
        assert!(scene.handshake(&client).is_err(), "{what}");
    }
}

#[test]
fn an_agent_cannot_issue_certificates_of_others() {
    let scene = scene();
    let svid = scene.svid(Timestamp::now());
    let PrivateKeyDer::Pkcs8(key) = &svid.key else {
        unreachable!("it was made so")
    };
    let key = KeyPair::try_from(key).unwrap();
    let as_issuer = like_an_svid(|_| {});
    let mut below = signed(&Issuer::from_params(&as_issuer, &key), |_| {});
    below.chain.push(svid.chain[0].clone());
    let client = scene.client(&rustls::version::TLS13, Some(below));
    assert!(scene.handshake(&client).is_err());
}

#[test]
fn no_session_is_resumed_so_nobody_is_who_they_were_before() {
    let scene = scene();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        // Clients keep sessions, and would resume them.
        let client = scene.client(version, Some(scene.svid(Timestamp::now())));
        for _ in 0..3 {
            let (svid, kind) = scene.handshake(&client).unwrap();
            assert!(svid.is_some());
            assert_eq!(kind, HandshakeKind::Full);
        }
    }
}

#[test]
fn an_authority_that_was_replaced_is_trusted_until_its_time_is_over() {
    let scene = scene();
    let client = scene.client(&rustls::version::TLS13, Some(scene.svid(Timestamp::now())));
    assert!(scene.handshake(&client).is_ok());
    scene.authority.rotate(Timestamp::now()).unwrap();
    assert!(scene.handshake(&client).is_ok());
    let fresh = scene.client(&rustls::version::TLS13, Some(scene.svid(Timestamp::now())));
    assert!(scene.handshake(&fresh).is_ok());
    let later = Timestamp::now() + SignedDuration::from_hours(26);
    scene.authority.rotate_if_due(later).unwrap();
    assert!(
        scene
            .handshake(&client)
            .unwrap_err()
            .contains("UnknownIssuer")
    );
}

#[tokio::test]
async fn a_refused_certificate_is_on_record() {
    let scene = scene();
    scene.refusal(scene.svid(Timestamp::now() - SignedDuration::from_hours(24)));
    scene.live.audit().close().await;
    let reader = audit::Reader::open(&scene.dir.path().join("log")).unwrap();
    let entries = reader.entries(0..reader.size());
    let texts = entries.map(|entry| String::from_utf8(entry.unwrap().1.to_vec()).unwrap());
    let refused: Vec<String> = texts.filter(|text| text.contains("\"tls\"")).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("not trusted"));
}
