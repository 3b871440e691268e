//! The beginning of a session: who it is, what its role may do, and the login with that role.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use gateway::caller::{Caller, Credentials, Unauthenticated};
use gateway::pipeline::Denied;
use gateway::resource::Route;
use gateway::slots::Slot;
use identity::svid::Svid;
use model::config::ServerKind;
use model::{Action, Denial, Operation, Proof, Rule, ServerName, TaskId};
use tokio::io::AsyncWriteExt as _;
use tokio_util::either::Either;
use zeroize::Zeroizing;

use super::expected::denied;
use crate::cancel::Cancellable;
use crate::door::Endpoint;
use crate::listen::{Client, Greeted};
use crate::role::{self, Plan, Role, search_path};
use crate::sql::{Catalog, may_set};
use crate::upstream::{Database, Login, Ready, UpstreamError, dial, login};
use crate::wire::backend::{ErrorResponse, NONCE, put};
use crate::wire::{password, startup};

/// The SQLSTATE of a password that is none.
const WRONG_PASSWORD: &str = "28P01";
/// The SQLSTATE of one that lacks something.
const NO_PASSWORD: &str = "28000";

/// One of all sessions.
pub(super) struct Counted(Arc<Endpoint>);

impl Counted {
    fn new(endpoint: &Arc<Endpoint>, limit: usize) -> Option<Self> {
        let counted = Self(Arc::clone(endpoint));
        (endpoint.sessions.fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets a client in; `None` when it does not get in, and was told why.
pub(super) async fn enter(
    endpoint: &Arc<Endpoint>,
    greeted: Greeted,
) -> Option<(Client, Admitted)> {
    let Greeted {
        mut client,
        peer,
        minor,
        parameters,
    } = greeted;
    let seconds = endpoint.settings.load().limits.request_seconds;
    let svid = presented(&client);
    let reading = async {
        match svid.as_deref().zip(named_task(&parameters)) {
            Some((svid, task)) => by_svid(&mut client, minor, &parameters, svid, task).await,
            None => {
                let loopback = peer.ip().is_loopback();
                let password = read_password(&mut client, loopback, minor, &parameters).await?;
                Ok(Shown::Password(password, svid.as_deref()))
            }
        }
    };
    let told = match tokio::time::timeout(Duration::from_secs(seconds), reading).await {
        Ok(Ok(shown)) => match admit_from(endpoint, peer.ip(), &parameters, minor, &shown).await {
            Ok(admitted) => return begin(client, admitted).await,
            Err(refusal) => refusal,
        },
        Ok(Err(Some(refusal))) => refusal,
        Ok(Err(None)) | Err(_) => return None,
    };
    let _ = client.write_all(&told.to_bytes()).await;
    let _ = client.shutdown().await;
    None
}

/// What a client shows of itself.
enum Shown<'a> {
    /// A password, and the SVID that its connection was made with, if any: a token may be bound to that.
    Password(Zeroizing<String>, Option<&'a Svid>),
    /// An SVID alone, and the task that the user name is.
    Svid(&'a Svid, TaskId),
}

/// The SVID that a client's connection was made with.
fn presented(client: &Client) -> Option<Arc<Svid>> {
    match client {
        Either::Left(_) => None,
        Either::Right(encrypted) => gateway::peer::of_connection(encrypted.get_ref().1),
    }
}

/// The task that the user name is, if it is the id of one.
fn named_task(parameters: &[(String, String)]) -> Option<TaskId> {
    let user = parameters.iter().find(|(name, _)| name == "user");
    user.and_then(|(_, value)| TaskId::parse(value).ok())
}

/// Nothing is asked for: the certificate was shown before.
async fn by_svid<'a>(
    client: &mut Client,
    minor: u16,
    parameters: &[(String, String)],
    svid: &'a Svid,
    task: TaskId,
) -> Result<Shown<'a>, Option<ErrorResponse>> {
    if let Some(negotiation) = startup::negotiation(minor, parameters) {
        client.write_all(&negotiation).await.map_err(|_| None)?;
    }
    Ok(Shown::Svid(svid, task))
}

/// Asks for the password: a token is a secret, so only over TLS or on this machine.
async fn read_password(
    client: &mut Client,
    loopback: bool,
    minor: u16,
    parameters: &[(String, String)],
) -> Result<Zeroizing<String>, Option<ErrorResponse>> {
    let gone = |_: std::io::Error| None;
    if matches!(client, Either::Left(_)) && !loopback {
        return Err(Some(
            ErrorResponse::fatal("28000", "the gateway takes tokens over TLS only")
                .hint("connect with sslmode=verify-full"),
        ));
    }
    let negotiation = startup::negotiation(minor, parameters);
    password::ask(client, negotiation).await.map_err(gone)?;
    let asked = password::receive(client).await.map_err(gone)?;
    asked.ok_or_else(|| {
        let why = "a password of at most 24 KiB was expected";
        Some(ErrorResponse::fatal("08P01", why))
    })
}

fn wrong_password(refused: &Unauthenticated) -> ErrorResponse {
    let why = format!("authentication failed: {}", refused.reason);
    if let Some(nonce) = &refused.nonce {
        let detail = format!("{NONCE} {nonce}");
        return ErrorResponse::fatal(NO_PASSWORD, why).detail(detail);
    }
    ErrorResponse::fatal(WRONG_PASSWORD, why).hint(
        "the password is the access token of a task, made for the resource <gateway>/postgres/<server>; a token \
         that is bound to a key is followed by ~ and a DPoP proof",
    )
}

fn wrong_certificate(why: &str) -> ErrorResponse {
    ErrorResponse::fatal("28000", format!("authentication failed: {why}")).hint(
        "with a client certificate, the user name is the id of an open task of the certificate's agent; any \
         other user name is asked for a token",
    )
}

/// What a session is made of, but for the client.
pub(super) struct Admitted {
    pub(super) caller: Caller,
    pub(super) route: Route,
    pub(super) database: Arc<Database>,
    pub(super) catalog: Catalog,
    pub(super) plan: Plan,
    pub(super) role: String,
    pub(super) ready: Ready,
    pub(super) cancellable: Cancellable,
    pub(super) _slot: Slot,
    pub(super) _counted: Counted,
}

/// Lets a client in, unless passwords from its address were wrong too often.
async fn admit_from(
    endpoint: &Arc<Endpoint>,
    from: IpAddr,
    parameters: &[(String, String)],
    minor: u16,
    shown: &Shown<'_>,
) -> Result<Admitted, ErrorResponse> {
    let pipeline = &endpoint.pipeline;
    if let Shown::Password(password, svid) = shown
        && let Some(wait) = pipeline.puts_off_credentials(from, &credentials(password, *svid))
    {
        let denial = pipeline.put_off("postgres");
        let seconds = wait.as_secs_f64();
        return Err(ErrorResponse::fatal("53400", denial.reason)
            .hint(format!("wait {seconds:.1} seconds, then send a good one")));
    }
    let admitted = admit(endpoint, parameters, minor, shown).await;
    admitted.inspect_err(|told| {
        if told.sqlstate == WRONG_PASSWORD {
            pipeline.wrong_from(from);
        }
    })
}

async fn admit(
    endpoint: &Arc<Endpoint>,
    parameters: &[(String, String)],
    minor: u16,
    shown: &Shown<'_>,
) -> Result<Admitted, ErrorResponse> {
    let settings = endpoint.settings.load_full();
    let name = parameters.iter().find(|(name, _)| name == "database");
    let name = name.or_else(|| parameters.iter().find(|(name, _)| name == "user"));
    let name = name.and_then(|(_, value)| ServerName::parse(value).ok());
    let server = name.ok_or_else(|| {
        ErrorResponse::fatal("3D000", "the database is not named")
            .hint("the database's name is the server's in the gateway's configuration")
    })?;
    let route = Route {
        kind: ServerKind::Postgres,
        server: server.clone(),
        task: None,
    };
    let caller = match shown {
        Shown::Password(password, svid) => {
            let credentials = credentials(password, *svid);
            let base_url = &settings.base_url;
            let pipeline = &endpoint.pipeline;
            pipeline
                .authenticate_with("CONNECT", &route, "", base_url, &credentials)
                .map_err(|refused| wrong_password(&refused))?
        }
        Shown::Svid(svid, task) => endpoint
            .pipeline
            .authenticate_by_svid(&route, svid, task)
            .map_err(|refused| wrong_certificate(&refused.reason))?,
    };
    let session = session_parameters(parameters)?;
    let limits = &settings.limits;
    let task = caller.task.task().id;
    let busy = |what: &str| {
        ErrorResponse::fatal(
            "53300",
            format!("{what} has as many sessions open as it may"),
        )
        .hint("close one first")
    };
    let counted = Counted::new(endpoint, limits.sessions).ok_or_else(|| busy("the gateway"))?;
    let slot = endpoint.slots.take(task, limits.sessions_per_task);
    let slot = slot.ok_or_else(|| busy("the task"))?;
    // The session itself is an action: decided and recorded before anything reaches the database.
    let action = Action::new(server.clone(), "connect", Operation::Converse);
    let fatal = |refused: Denied| {
        let mut error = denied(&refused);
        error.fatal = true;
        error
    };
    let mut permit = endpoint
        .pipeline
        .attempt(&caller, action)
        .await
        .map_err(fatal)?;
    let database = endpoint
        .database(&server)
        .ok_or_else(|| ErrorResponse::fatal("3D000", "the server is not a database"))?;
    let dispatch = permit.dispatch().map_err(fatal)?;
    let failed = |error: &UpstreamError| {
        tracing::warn!(server = %server, %error, "a session could not be begun");
        let what = format!("the session cannot be begun: {error}");
        let told = ErrorResponse::fatal(error.sqlstate(), what);
        match error.remedy() {
            Some(remedy) => told.hint(remedy),
            None => told,
        }
    };
    let mut catalog = role::catalog(&database)
        .await
        .map_err(|error| failed(&error))?;
    let grant = &caller.task.task().grant;
    let tables = grant
        .permissions
        .iter()
        .filter(|permission| permission.server == server)
        .flat_map(|permission| &permission.tables);
    let plan = role::plan(tables.clone(), &catalog).map_err(|error| {
        let denial = Denial {
            rule: Rule::NotGranted,
            reason: error.to_string(),
            remedy: error.remedy(),
        };
        endpoint
            .pipeline
            .refuse(&route.path(), Some(&caller), denial);
        ErrorResponse::fatal("42501", error.to_string()).hint(error.remedy())
    })?;
    catalog.hide(|name| tables.clone().any(|granted| granted.name.matches(name)));
    let role = Role::make(&database, &plan)
        .await
        .map_err(|error| failed(&error))?;
    let signal = caller.signal();
    let login = tokio::select! {
        login = log_in(&database, &role, &plan, &session) => login.map_err(|error| failed(&error)),
        () = signal.cut() => Err(fatal(permit.cut_off())),
    };
    let ready = match login {
        Ok(ready) => ready,
        Err(error) => {
            super::drop_role(&database, &role.name).await;
            return Err(error);
        }
    };
    drop(dispatch);
    permit.note("role", role.name.clone());
    permit.finish(
        model::record::Ended::Answered,
        gateway::pipeline::Digest::new(&caller.task),
    );
    let secret = if minor >= 2 { 32 } else { 4 };
    let cancellable = endpoint.cancels.add(&database, ready.key.clone(), secret);
    Ok(Admitted {
        caller,
        route,
        database,
        catalog,
        plan,
        role: role.name,
        ready,
        cancellable,
        _slot: slot,
        _counted: counted,
    })
}

/// A password as credentials: a token, with `~` and a proof behind it if it is bound to a key.
fn credentials<'a>(password: &'a str, certificate: Option<&'a Svid>) -> Credentials<'a> {
    let (token, proof) = match password.split_once('~') {
        Some((token, proof)) => (token, Some(proof)),
        None => (password, None),
    };
    Credentials {
        scheme: if proof.is_some() {
            Proof::Dpop
        } else {
            Proof::Bearer
        },
        token,
        proof,
        certificate,
    }
}

/// The parameters of the client that its session gets.
fn session_parameters(
    parameters: &[(String, String)],
) -> Result<Vec<(String, String)>, ErrorResponse> {
    let mut session = Vec::new();
    for (name, value) in parameters {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "user" | "database" => {}
            known if startup::is_option(known) => {}
            "options" if value.trim().is_empty() => {}
            "client_encoding" => {
                let auto = value.eq_ignore_ascii_case("auto");
                if !auto && !crate::sql::is_utf8(value.trim_matches('\'')) {
                    return Err(ErrorResponse::fatal(
                        "22023",
                        "the client's encoding must be UTF8",
                    ));
                }
            }
            known if may_set(known) => session.push((lower, value.clone())),
            _ => {
                let shown: String = name.chars().take(64).collect();
                return Err(ErrorResponse::fatal(
                    "42501",
                    format!("the setting \"{shown}\" cannot be chosen for a session"),
                )
                .hint("leave it out; `options` cannot be used either"));
            }
        }
    }
    Ok(session)
}

async fn log_in(
    database: &Database,
    role: &Role,
    plan: &Plan,
    session: &[(String, String)],
) -> Result<Ready, UpstreamError> {
    let about = &database.server.postgres;
    let millis = |seconds: u64| seconds.saturating_mul(1_000).min(2_147_483_647).to_string();
    let (statement, idle) = (
        millis(about.statement_seconds),
        millis(about.transaction_idle_seconds),
    );
    let path = search_path(database);
    let read_only = if plan.writes() { "off" } else { "on" };
    let mut parameters = vec![
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("row_security", "on"),
        ("search_path", path.as_str()),
        ("statement_timeout", statement.as_str()),
        ("idle_in_transaction_session_timeout", idle.as_str()),
        ("default_transaction_read_only", read_only),
        // So that a database notices when a gateway is gone in the middle of a statement.
        ("client_connection_check_interval", "10000"),
    ];
    parameters.extend(session.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let stream = dial(database).await?;
    let login_as = Login {
        user: &role.name,
        password: role.password.as_bytes(),
        database: &database.address.database,
        parameters: &parameters,
    };
    login(stream, &login_as).await
}

/// Tells the client that its session is ready.
async fn begin(mut client: Client, admitted: Admitted) -> Option<(Client, Admitted)> {
    let mut out = BytesMut::with_capacity(1_024);
    put(&mut out, b'R', |body| body.put_u32(0));
    for status in &admitted.ready.status {
        out.put_slice(status);
    }
    let cancellable = &admitted.cancellable;
    put(&mut out, b'K', |body| {
        body.put_u32(cancellable.number);
        body.put_slice(&cancellable.secret);
    });
    put(&mut out, b'Z', |body| body.put_u8(b'I'));
    let sent = async {
        client.write_all(&out).await?;
        client.flush().await
    };
    if sent.await.is_err() {
        super::drop_role(&admitted.database, &admitted.role).await;
        return None;
    }
    Some((client, admitted))
}
