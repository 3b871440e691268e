//! The certification authority of one task: what lets the proxy look into the task's tunnels.
//!
//! Its key is made when it is first needed, lives in memory only, and goes with the task. Its certificate
//! is good for as long as the task, for the hosts that the task may reach, and for nothing else (RFC 5280
//! §4.2.1.10), so that trusting it gives away nothing but those tunnels, even to whoever had the key.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use identity::x509::{self, Key, NotMade};
use jiff::SignedDuration;
use model::{Task, TaskId};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::target::Host;

/// How far the clocks of clients may be behind.
const SKEW: SignedDuration = SignedDuration::from_secs(300);
/// A domain in which there is nothing (RFC 6761 §6.4): what an authority without names is held to.
const NOTHING: &str = "invalid";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCertificate {
    /// The host was not among those of the task when its authority was made.
    #[error("the task's certification authority was made before this host was one of its hosts")]
    NotOfTheTask,
    /// It could not be made.
    #[error(transparent)]
    Failed(#[from] NotMade),
}

impl NoCertificate {
    fn failed(error: impl ToString) -> Self {
        Self::Failed(NotMade::because(error))
    }
}

/// The authorities of all tasks that have one.
#[derive(Default)]
pub(crate) struct Authorities(Mutex<HashMap<TaskId, Arc<Authority>>>);

impl Authorities {
    /// The authority of a task, made for these hosts if there is none yet.
    ///
    /// # Errors
    /// [`NoCertificate::Failed`]
    pub(crate) fn of(
        &self,
        task: &Task,
        hosts: impl FnOnce() -> Vec<Host>,
    ) -> Result<Arc<Authority>, NoCertificate> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(&task.id) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(Authority::new(task, hosts().into_iter().collect())?);
        all.insert(task.id, Arc::clone(&made));
        Ok(made)
    }

    /// Forgets those of tasks that are over, with their keys.
    pub(crate) fn sweep(&self, is_over: impl Fn(&TaskId) -> bool) {
        self.0.lock().retain(|task, _| !is_over(task));
    }
}

/// The authority of one task.
pub(crate) struct Authority {
    params: CertificateParams,
    key: Key,
    pem: String,
    hosts: BTreeSet<Host>,
    /// How TLS is spoken as each host.
    servers: Mutex<HashMap<Host, Arc<ServerConfig>>>,
}

impl Authority {
    fn new(task: &Task, hosts: BTreeSet<Host>) -> Result<Self, NoCertificate> {
        let key = Key::generate()?;
        let mut params = params(task, format!("Sallyport, {}", task.id))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted(&hosts),
            excluded_subtrees: Vec::new(),
        });
        let certificate = params
            .self_signed(key.pair())
            .map_err(NoCertificate::failed)?;
        Ok(Self {
            pem: certificate.pem(),
            params,
            key,
            hosts,
            servers: Mutex::default(),
        })
    }

    /// Its certificate, in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// How TLS is spoken as a host: with a certificate for it, and HTTP/1.1 behind it.
    ///
    /// # Errors
    /// [`NoCertificate`]
    pub(crate) fn server(
        &self,
        host: &Host,
        task: &Task,
    ) -> Result<Arc<ServerConfig>, NoCertificate> {
        if !self.hosts.contains(host) {
            return Err(NoCertificate::NotOfTheTask);
        }
        let mut servers = self.servers.lock();
        if let Some(known) = servers.get(host) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(self.make(host, task)?);
        servers.insert(host.clone(), Arc::clone(&made));
        Ok(made)
    }

    fn make(&self, host: &Host, task: &Task) -> Result<ServerConfig, NoCertificate> {
        // The common name has no dot: some verifiers take one with dots for the name of a host.
        let mut params = params(task, "Sallyport".to_owned())?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![match host {
            Host::Name(name) => {
                SanType::DnsName(name.as_str().try_into().map_err(NoCertificate::failed)?)
            }
            Host::V4(address) => SanType::IpAddress(IpAddr::V4(*address)),
            Host::V6(address) => SanType::IpAddress(IpAddr::V6(*address)),
        }];
        let key = Key::generate()?;
        let issuer = Issuer::from_params(&self.params, self.key.pair());
        let certificate = params
            .signed_by(key.pair(), &issuer)
            .map_err(NoCertificate::failed)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pair().serialized_der()));
        let signing =
            rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).map_err(NoCertificate::failed)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(NoCertificate::failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Every tunnel begins anew: nothing is kept for clients that may never come back.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// What all certificates of a task have in common.
fn params(task: &Task, name: String) -> Result<CertificateParams, NoCertificate> {
    let from = task.opened_at.checked_sub(SKEW);
    let from = from.map_err(NoCertificate::failed)?;
    Ok(x509::params(name, from, task.expires_at)?)
}

/// The hosts as constraints on names. Names of a kind that no constraint is about would not be held to
/// anything (RFC 5280 §4.2.1.10), so there is always one for names and one for addresses.
fn permitted(hosts: &BTreeSet<Host>) -> Vec<GeneralSubtree> {
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    let single = |address: IpAddr| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
    };
    for host in hosts {
        match host {
            Host::Name(name) => names.push(GeneralSubtree::DnsName(name.clone())),
            Host::V4(address) => addresses.push(single(IpAddr::V4(*address))),
            Host::V6(address) => addresses.push(single(IpAddr::V6(*address))),
        }
    }
    if names.is_empty() {
        names.push(GeneralSubtree::DnsName(NOTHING.to_owned()));
    }
    if addresses.is_empty() {
        addresses.push(single(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    }
    names.into_iter().chain(addresses).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::TaskStatus;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    fn task(number: u8) -> Task {
        let now = Timestamp::now();
        Task {
            id: TaskId::new(now, [number; 10]),
            parent: None,
            agent: "clerk".parse().unwrap(),
            instance: None,
            template: "work".parse().unwrap(),
            parameters: Default::default(),
            purpose: String::new(),
            grant: serde_json::from_value(serde_json::json!({
                "permissions": [], "budget": {}, "proof": "dpop",
            }))
            .unwrap(),
            status: TaskStatus::Open,
            opened_at: now,
            expires_at: now + jiff::SignedDuration::from_mins(10),
            ended_at: None,
            ended_because: None,
        }
    }

    fn host(text: &str) -> Host {
        super::super::target::Target::parse(&format!("{text}:1"))
            .unwrap()
            .host()
            .clone()
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    /// Whether a client that trusts an authority lets in who speaks as another one's host.
    fn trusts(trusted: &Authority, server: &Arc<ServerConfig>, name: &str) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().map_err(|e| e.to_string())?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn a_client_of_the_task_trusts_the_hosts_of_the_task_and_no_other_authority() {
        let (one, other) = (task(1), task(2));
        let hosts = || vec![host("api.example.org"), host("127.0.0.1"), host("[::1]")];
        let all = Authorities::default();
        let mine = all.of(&one, hosts).unwrap();
        let theirs = all.of(&other, hosts).unwrap();
        assert!(Arc::ptr_eq(
            &mine,
            &all.of(&one, || unreachable!("it is there already"))
                .unwrap()
        ));
        for (of, name) in [
            ("api.example.org", "api.example.org"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
        ] {
            let server = mine.server(&host(of), &one).unwrap();
            assert_eq!(trusts(&mine, &server, name), Ok(()), "{of}");
            assert!(trusts(&theirs, &server, name).is_err(), "{of}");
        }
        let server = mine.server(&host("api.example.org"), &one).unwrap();
        assert!(trusts(&mine, &server, "evil.example.org").is_err());
        assert!(matches!(
            mine.server(&host("evil.example.org"), &one),
            Err(NoCertificate::NotOfTheTask)
        ));
        all.sweep(|task| *task == one.id);
        assert!(!Arc::ptr_eq(&mine, &all.of(&one, hosts).unwrap()));
    }

    #[test]
    fn whoever_has_the_key_can_still_be_nobody_else() {
        let task = task(3);
        for (ours, foreign) in [
            (vec![host("api.example.org")], "evil.example.net"),
            (vec![host("api.example.org")], "10.0.0.1"),
            (vec![host("api.example.org")], "[::1]"),
            (vec![host("10.0.0.1")], "evil.example.net"),
            (vec![host("10.0.0.1")], "10.0.0.2"),
            (vec![host("10.0.0.1")], "[::1]"),
        ] {
            let authority = Authority::new(&task, ours.into_iter().collect()).unwrap();
            // Made with the key, past the look at whose host it is.
            let server = Arc::new(authority.make(&host(foreign), &task).unwrap());
            let name = foreign.trim_matches(['[', ']']);
            let refused = trusts(&authority, &server, name).unwrap_err();
            assert!(refused.contains("NameConstraint"), "{foreign}: {refused}");
        }
    }
}
