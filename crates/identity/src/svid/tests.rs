//! Certificates as others read them, and requests and certificates that are refused.

use std::path::Path;

use model::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SanType,
};
use x509_parser::time::ASN1Time;

use super::*;

fn home() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn agent() -> AgentName {
    AgentName::parse("triage").unwrap()
}

fn instance() -> InstanceId {
    InstanceId::new(Timestamp::UNIX_EPOCH, [7; 10])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn open(dir: &Path, now: Timestamp) -> Authority {
    Authority::open(&dir.join("authority"), home(), LIFETIME, now).unwrap()
}

fn der_of(pem: &str) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    pem.contents
}

/// Whether a certificate was signed by one of the bundle's authorities and is good now.
fn is_trusted(pem: &str, bundle: &Bundle, now: Timestamp) -> bool {
    let der = der_of(pem);
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let now = ASN1Time::from_timestamp(now.as_second()).unwrap();
    bundle.certificates().iter().any(|root| {
        let (_, root) = X509Certificate::from_der(root).unwrap();
        root.validity().is_valid_at(now)
            && leaf.validity().is_valid_at(now)
            && leaf.issuer() == root.subject()
            && leaf.verify_signature(Some(root.public_key())).is_ok()
    })
}

#[test]
fn an_svid_is_as_the_standard_has_it() {
    let home = tempfile::tempdir().unwrap();
    let now = at(1_800_000_000);
    let authority = open(home.path(), now);
    let request = Request::new().unwrap();
    let issued = authority
        .issue(request.pem(), &agent(), &instance(), now)
        .unwrap();
    let svid = &issued.svid;
    assert_eq!((&svid.agent, svid.instance), (&agent(), instance()));
    assert_eq!((svid.issued_at, svid.expires_at), (now, now + LIFETIME));
    assert!(!svid.is_expired(now + LIFETIME - SignedDuration::from_secs(1)));
    assert!(svid.is_expired(now + LIFETIME));
    assert!(is_trusted(&issued.pem, &issued.bundle, now));
    let der = der_of(&issued.pem);
    assert_eq!(svid.thumbprint, Thumbprint::of(&der));
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value;
    let id = "spiffe://example.org/agent/triage";
    assert_eq!(names.general_names, [GeneralName::URI(id)]);
    assert!(leaf.key_usage().unwrap().unwrap().critical);
    assert!(!leaf.is_ca());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && purposes.server_auth && !purposes.any);
    let (_, root) = X509Certificate::from_der(&issued.bundle.certificates()[0]).unwrap();
    let names = root.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(
        names.general_names,
        [GeneralName::URI("spiffe://example.org")]
    );
    let constraints = root.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = root.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());
}

#[test]
fn serial_numbers_do_not_repeat_and_cannot_be_guessed() {
    let home = tempfile::tempdir().unwrap();
    let now = at(1_800_000_000);
    let authority = open(home.path(), now);
    let request = Request::new().unwrap();
    let serials: std::collections::HashSet<_> = (0..64)
        .map(|_| {
            let issued = authority.issue(request.pem(), &agent(), &instance(), now);
            issued.unwrap().svid.serial
        })
        .collect();
    assert_eq!(serials.len(), 64);
    assert!(serials.iter().all(|serial| serial.len() == 32));
}

#[test]
fn the_bundle_is_one_of_spiffe() {
    let home = tempfile::tempdir().unwrap();
    let authority = open(home.path(), at(1_800_000_000));
    let bundle = authority.bundle();
    let keys = bundle.document()["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["use"], "x509-svid");
    assert_eq!(keys[0]["kty"], "EC");
    assert_eq!(keys[0]["crv"], "P-256");
    assert_eq!(keys[0]["x5c"].as_array().unwrap().len(), 1);
    assert!(bundle.document()["spiffe_sequence"].is_i64());
    assert!(bundle.document()["spiffe_refresh_hint"].is_u64());
    assert!(!bundle.document().to_string().contains("PRIVATE"));
    assert_eq!(der_of(bundle.pem()), bundle.certificates()[0]);
}

#[test]
fn authorities_are_replaced_with_an_overlap_on_both_sides() {
    let home = tempfile::tempdir().unwrap();
    let start = at(1_800_000_000);
    let hours = SignedDuration::from_hours;
    let authority = open(home.path(), start);
    let request = Request::new().unwrap();
    let issue = |authority: &Authority, now| {
        authority
            .issue(request.pem(), &agent(), &instance(), now)
            .unwrap()
    };
    assert!(!authority.rotate_if_due(start + hours(719)).unwrap());
    let before = authority.bundle();
    let due = start + hours(720);
    assert!(authority.rotate_if_due(due).unwrap());
    let both = authority.bundle();
    assert_eq!(both.certificates().len(), 2);
    let sequence = |bundle: &Bundle| bundle.document()["spiffe_sequence"].as_i64().unwrap();
    assert!(sequence(&both) > sequence(&before));
    // For an hour others get to know the new one before it signs.
    let early = issue(&authority, due + hours(1) - SignedDuration::from_secs(1));
    assert!(is_trusted(&early.pem, &before, due + hours(1)));
    let late = issue(&authority, due + hours(1));
    assert!(!is_trusted(&late.pem, &before, due + hours(1)));
    assert!(is_trusted(&late.pem, &both, due + hours(1)));
    // The one before goes when all that it signed is over, from the disk too.
    assert!(!authority.rotate_if_due(due + hours(24)).unwrap());
    assert_eq!(authority.bundle().certificates().len(), 2);
    authority.rotate_if_due(due + hours(25)).unwrap();
    let after = authority.bundle();
    assert_eq!(after.certificates().len(), 1);
    assert!(sequence(&after) > sequence(&both));
    assert!(!is_trusted(&early.pem, &after, due + hours(1)));
    let files = std::fs::read_dir(home.path().join("authority"))
        .unwrap()
        .count();
    assert_eq!(files, 2);
}

#[test]
fn a_process_that_was_away_for_long_gets_an_authority_that_signs_at_once() {
    let home = tempfile::tempdir().unwrap();
    let start = at(1_800_000_000);
    drop(open(home.path(), start));
    let now = start + SignedDuration::from_hours(24 * 365);
    let authority = open(home.path(), now);
    assert_eq!(authority.bundle().certificates().len(), 1);
    let request = Request::new().unwrap();
    let issued = authority
        .issue(request.pem(), &agent(), &instance(), now)
        .unwrap();
    assert!(is_trusted(&issued.pem, &issued.bundle, now));
}

#[test]
fn an_authority_survives_the_disk_and_crashes_in_between() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let now = at(1_800_000_000);
    let request = Request::new().unwrap();
    let first = open(home.path(), now);
    let issued = first
        .issue(request.pem(), &agent(), &instance(), now)
        .unwrap();
    let bundle = first.bundle();
    drop(first);
    assert_eq!(
        *open(home.path(), now).bundle(),
        *bundle,
        "the very same certificate"
    );
    let dir = home.path().join("authority");
    let file = |end: &str| {
        let files = std::fs::read_dir(&dir)
            .unwrap()
            .map(|it| it.unwrap().path());
        files
            .into_iter()
            .find(|path| path.extension().is_some_and(|it| it == end))
            .unwrap()
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&file("pem"))), (0o700, 0o600));
    // The certificate was not written yet: it is made again for the same key.
    std::fs::remove_file(file("crt")).unwrap();
    let again = open(home.path(), now);
    assert!(is_trusted(&issued.pem, &again.bundle(), now));
    // A certificate without a key is trusted by nobody.
    std::fs::remove_file(file("pem")).unwrap();
    assert!(!is_trusted(
        &issued.pem,
        &open(home.path(), now).bundle(),
        now
    ));
    // Another trust domain's is not taken.
    let foreign = TrustDomain::parse("other.example").unwrap();
    let refused = Authority::open(&dir, foreign, LIFETIME, now).err().unwrap();
    assert!(matches!(refused, AuthorityError::Foreign { .. }));
    std::fs::set_permissions(file("pem"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Authority::open(&dir, super::tests::home(), LIFETIME, now).err();
    assert!(refused.unwrap().to_string().contains("chmod"));
}

#[test]
fn lives_are_kept_within_bounds() {
    let home = tempfile::tempdir().unwrap();
    let now = at(1_800_000_000);
    let life = |seconds| {
        let dir = home.path().join(format!("{seconds}"));
        let wanted = SignedDuration::from_secs(seconds);
        let authority = Authority::open(&dir, super::tests::home(), wanted, now).unwrap();
        let request = Request::new().unwrap();
        let issued = authority
            .issue(request.pem(), &agent(), &instance(), now)
            .unwrap();
        issued.svid.expires_at.duration_since(now).as_secs()
    };
    assert_eq!((life(0), life(900), life(i64::MAX)), (60, 900, 86_400));
}

/// A request with other parameters than this program's own.
fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn a_request_names_the_agent_or_nobody() {
    let home = tempfile::tempdir().unwrap();
    let now = at(1_800_000_000);
    let authority = open(home.path(), now);
    let key = KeyPair::generate().unwrap();
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let ask = |names: Vec<SanType>| {
        let pem = request(&key, |params| params.subject_alt_names = names);
        authority.issue(&pem, &agent(), &instance(), now)
    };
    let own = "spiffe://example.org/agent/triage";
    for good in [vec![], vec![uri(own)]] {
        assert!(ask(good).is_ok());
    }
    for bad in [
        vec![uri("spiffe://example.org/agent/other")],
        vec![uri(own), uri("spiffe://example.org/agent/other")],
        vec![uri("spiffe://EXAMPLE.org/agent/triage")],
        vec![dns("example.org")],
        vec![uri(own), dns("example.org")],
    ] {
        let refused = ask(bad.clone()).err();
        let expected = NotIssued::Request(NotRequested::OtherName);
        assert_eq!(refused, Some(expected), "{bad:?}");
    }
    // What it says of itself otherwise does not get in.
    let pem = request(&key, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "inst_somebody-else");
    });
    let issued = authority.issue(&pem, &agent(), &instance(), now).unwrap();
    let der = der_of(&issued.pem);
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(Svid::read(&der).unwrap().instance, instance());
}

#[test]
fn only_who_has_a_p256_key_gets_a_certificate_for_it() {
    let home = tempfile::tempdir().unwrap();
    let now = at(1_800_000_000);
    let authority = open(home.path(), now);
    let ask = |pem: &str| {
        authority
            .issue(pem, &agent(), &instance(), now)
            .err()
            .map(|error| match error {
                NotIssued::Request(why) => why,
                NotIssued::NotMade(why) => panic!("{why}"),
            })
    };
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert_eq!(ask(&request(&other, |_| {})), Some(NotRequested::OtherKey));
    // Somebody else's key in a request of one's own: the signature is not that key's.
    let (mine, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let plain = |key: &KeyPair| der_of(&request(key, |_| {}));
    let mut forged = plain(&mine);
    let (from, to) = (mine.public_key_raw(), theirs.public_key_raw());
    let position = forged.windows(from.len()).position(|part| part == from);
    let position = position.unwrap();
    forged[position..position + to.len()].copy_from_slice(to);
    let as_pem = |der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    };
    assert_eq!(ask(&as_pem(&plain(&mine))), None);
    assert_eq!(ask(&as_pem(&forged)), Some(NotRequested::NotSigned));
    let mut longer = plain(&mine);
    longer.push(0);
    for bad in [
        String::new(),
        "x".repeat(100_000),
        as_pem(b""),
        as_pem(&[0x30; 64]),
        as_pem(&longer),
        as_pem(&plain(&mine)).replace("CERTIFICATE REQUEST", "CERTIFICATE"),
    ] {
        assert_eq!(ask(&bad), Some(NotRequested::Malformed), "{bad:.80}");
    }
}

/// A certificate like those of the authority but for what is changed, signed by somebody.
fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let key = crate::x509::Key::generate().unwrap();
    let mut root = crate::x509::params("root", at(0), at(4_000_000_000)).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut params =
        crate::x509::params(instance().to_string(), at(1_000), at(2_000_000_000)).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(
        "spiffe://example.org/agent/triage".try_into().unwrap(),
    )];
    change(&mut params);
    let issuer = Issuer::from_params(&root, key.pair());
    params
        .signed_by(&key.pair(), &issuer)
        .unwrap()
        .der()
        .to_vec()
}

#[test]
fn a_certificate_that_could_be_taken_for_several_things_is_no_svid() {
    let uri = |uri: &str| SanType::URI(uri.try_into().unwrap());
    let own = || uri("spiffe://example.org/agent/triage");
    assert!(Svid::read(&certificate(|_| {})).is_ok());
    let named = |names: Vec<SanType>| Svid::read(&certificate(|it| it.subject_alt_names = names));
    for names in [
        vec![],
        vec![own(), own()],
        vec![own(), uri("spiffe://example.org/agent/other")],
        vec![own(), SanType::DnsName("example.org".try_into().unwrap())],
        vec![SanType::DnsName("example.org".try_into().unwrap())],
    ] {
        assert_eq!(
            named(names.clone()),
            Err(NotAnSvid::NotOneName),
            "{names:?}"
        );
    }
    for id in [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org/agent/",
        "spiffe://example.org/agent/triage/x",
        "spiffe://example.org/agent/triage?x",
        "spiffe://example.org/agent/../agent/triage",
        "spiffe://example.org:443/agent/triage",
        "spiffe://EXAMPLE.ORG/agent/triage",
        "https://example.org/agent/triage",
    ] {
        assert_eq!(named(vec![uri(id)]), Err(NotAnSvid::NotAnAgent), "{id}");
    }
    let changed = |change: fn(&mut CertificateParams)| Svid::read(&certificate(change));
    assert_eq!(
        changed(|it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        Err(NotAnSvid::NotALeaf)
    );
    for usages in [
        vec![],
        vec![KeyUsagePurpose::KeyCertSign],
        vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
    ] {
        let read = Svid::read(&certificate(|it| it.key_usages = usages.clone()));
        assert_eq!(read, Err(NotAnSvid::NotALeaf), "{usages:?}");
    }
    assert_eq!(
        changed(|it| it.distinguished_name = rcgen::DistinguishedName::new()),
        Err(NotAnSvid::NoInstance)
    );
    let mut longer = certificate(|_| {});
    longer.push(0);
    assert_eq!(Svid::read(&longer), Err(NotAnSvid::Malformed));
}

#[test]
fn a_thumbprint_is_32_bytes_in_base64url_and_nothing_else() {
    let thumbprint = Thumbprint::of(b"certificate");
    let text = serde_json::to_string(&thumbprint).unwrap();
    assert_eq!(text.len(), 45);
    assert_eq!(
        serde_json::from_str::<Thumbprint>(&text).unwrap(),
        thumbprint
    );
    for bad in [
        "\"\"",
        "\"AA\"",
        "7",
        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
    ] {
        assert!(serde_json::from_str::<Thumbprint>(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn no_certificate_does_harm(at in 0usize..600, byte: u8, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        let _ = Svid::read(&bytes);
        let mut damaged = certificate(|_| {});
        let length = damaged.len();
        damaged[at % length] = byte;
        let _ = Svid::read(&damaged);
    }
}
