//! The token endpoint (RFC 6749 §4.4): an instance gets a token for one resource, under one task,
//! bound to its key.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use gateway::hex;
use gateway::live::LiveTask;
use gateway::resource::Route;
use http::HeaderMap;
use identity::svid::Svid;
use identity::{AccessClaims, Cnf, dpop};
use jiff::Timestamp;
use model::config::ServerKind;
use model::grant::{Permission, PermissionKind};
use model::json::{Limits, parse};
use model::record::Record;
use model::{Instance, Proof, TaskId, TaskStatus};
use serde_json::{Value, json};

use super::error::{OAuthError, no_store};
use super::form::Form;
use super::{DETAILS_TYPE, TASKS_SCOPE, client};
use crate::engine::{EngineError, Settings, random};
use crate::http_api::Shared;

/// Longest `authorization_details`, in bytes.
const DETAILS: Limits = Limits {
    bytes: 8 << 10,
    depth: 8,
};

pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    certificate: Option<Extension<Arc<Svid>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut client = None;
    let certificate = certificate.as_ref().map(|Extension(svid)| &**svid);
    match grant(&shared, certificate, &headers, &body, &mut client).await {
        Ok(response) => response,
        Err(error) => {
            match &client {
                Some(instance) => {
                    shared.refuse_instance("/oauth/token", instance, error.denial());
                }
                None => shared.refuse("/oauth/token", None, error.denial()),
            }
            error.into_response()
        }
    }
}

/// What a token is to be for.
struct Target {
    audience: String,
    scope: &'static str,
    task: Option<Arc<LiveTask>>,
}

async fn grant(
    shared: &Shared,
    certificate: Option<&Svid>,
    headers: &HeaderMap,
    body: &Bytes,
    client: &mut Option<Instance>,
) -> Result<Response, OAuthError> {
    let now = Timestamp::now();
    let form = Form::read(headers, body)?;
    if form.need("grant_type")? != "client_credentials" {
        return Err(OAuthError::grant_type());
    }
    // Before anything is used up that can be used once, so that the same assertion may come again.
    let proof = headers.get("dpop").and_then(|proof| proof.to_str().ok());
    if proof.is_some_and(|proof| shared.proofs.lacks_nonce(proof, now)) {
        return Err(OAuthError::nonce());
    }
    let instance = client.insert(client::instance(shared, headers, &form, now).await?);
    client::must_be_active(shared, instance)?;
    let paced = shared.engine.live().pace_at_control(&instance.agent);
    paced.map_err(|(denial, wait)| {
        shared.engine.pipeline().metrics().too_fast("control");
        OAuthError::too_fast(&denial, wait)
    })?;
    let target = target(shared, &form, instance, now)?;
    check_scope(&form, target.scope)?;
    let proved = prove(shared, headers, instance, now)?;
    let certificate = own(certificate, instance)?;
    let weakest = target.task.as_ref().map(|task| task.task().grant.proof);
    let cnf = binding(shared, weakest, proved, certificate, instance, now)?;
    let proof = match &cnf {
        Some(Cnf::Key { .. }) => Proof::Dpop,
        Some(Cnf::Certificate { .. }) => Proof::Certificate,
        None => Proof::Bearer,
    };
    let lifetime = identity::TOKEN_LIFETIME.as_secs();
    let most = now.as_second() + lifetime;
    let expires = target
        .task
        .as_ref()
        .map_or(most, |task| most.min(task.task().expires_at.as_second()));
    // So that nobody has to look at the certificate's time on each call.
    let expires = certificate
        .filter(|_| proof == Proof::Certificate)
        .map_or(expires, |svid| expires.min(svid.expires_at.as_second()));
    if expires <= now.as_second() {
        return Err(OAuthError::grant("the task or the certificate is expired"));
    }
    let task = target.task.as_ref().map(|task| task.task().id);
    let details = task.map(|task| json!([{ "type": DETAILS_TYPE, "task": task }]));
    let settings = shared.engine.settings();
    let claims = AccessClaims {
        iss: settings.control_url.clone(),
        sub: settings.trust_domain.agent(&instance.agent).to_string(),
        aud: target.audience,
        exp: expires,
        iat: now.as_second(),
        jti: hex(&random::<16>()),
        client_id: instance.id,
        agent: instance.agent.clone(),
        task,
        scope: target.scope.to_owned(),
        cnf,
        authorization_details: details.clone(),
    };
    let issued = shared.engine.keys().issue(&claims);
    let token = issued.map_err(|error| EngineError::Keys(error.to_string()))?;
    // A credential that the log does not know of must not exist outside (R4).
    let record = Record::change(
        now,
        instance.id.to_string(),
        "token.issued",
        hex(&identity::token_id(&token)),
    )
    .with("agent", instance.agent.as_str())
    .with("task", task.map(|task| task.to_string()))
    .with("resource", claims.aud.as_str())
    .with("proof", proof.as_str())
    .with("expires", claims.exp);
    shared.engine.record(record).await?;
    let mut answer = json!({
        "access_token": token,
        "token_type": if proof == Proof::Dpop { "DPoP" } else { "Bearer" },
        "expires_in": expires - now.as_second(),
        "scope": claims.scope,
    });
    if let Some(details) = details {
        answer["authorization_details"] = details;
    }
    Ok(no_store(Json(answer).into_response()))
}

/// The SVID of the connection, which is the instance's own: a certificate of somebody else is in the wrong
/// hands, whatever else is shown.
fn own<'a>(
    certificate: Option<&'a Svid>,
    instance: &Instance,
) -> Result<Option<&'a Svid>, OAuthError> {
    match certificate {
        Some(svid) if svid.instance != instance.id || svid.agent != instance.agent => Err(
            OAuthError::client("the certificate of this connection was issued to another instance"),
        ),
        certificate => Ok(certificate),
    }
}

/// What a token is bound to: to the key where that is proved (RFC 9449 §6), else to the connection's certificate
/// (RFC 8705 §3), and to that alone where the template demands it. `weakest` is what the task demands, if there
/// is one; tokens for the control listener are always bound to the key.
fn binding(
    shared: &Shared,
    weakest: Option<Proof>,
    proved: bool,
    certificate: Option<&Svid>,
    instance: &Instance,
    now: Timestamp,
) -> Result<Option<Cnf>, OAuthError> {
    let by_key = || {
        Some(Cnf::Key {
            jkt: instance.thumbprint.clone(),
        })
    };
    match (weakest, certificate) {
        (Some(Proof::Certificate), None) => Err(OAuthError::request(
            "the template demands a certificate: connect with the agent's SVID over TLS (RFC 8705 section 3)",
        )),
        (None | Some(Proof::Bearer | Proof::Dpop), _) if proved => Ok(by_key()),
        (Some(_), Some(svid)) => {
            let live = shared.engine.live();
            let revoked = live.refuses_issued(&svid.agent, svid.issued_at.as_second());
            if revoked || svid.is_expired(now) {
                return Err(OAuthError::client(
                    "the certificate of this connection has expired or was revoked: get a new one",
                ));
            }
            Ok(Some(Cnf::Certificate {
                x5t: svid.thumbprint,
            }))
        }
        (Some(Proof::Bearer), None) => Ok(None),
        (None | Some(Proof::Dpop), _) => Err(OAuthError::proof(
            "a DPoP proof by the instance's key is needed here (RFC 9449 section 5); a template can allow bearer \
             tokens with proof = bearer",
        )),
    }
}

/// The resource (RFC 8707) and the task that a token is for.
fn target(
    shared: &Shared,
    form: &Form,
    instance: &Instance,
    now: Timestamp,
) -> Result<Target, OAuthError> {
    let settings = shared.engine.settings();
    let [resource] = form.all("resource")[..] else {
        return Err(OAuthError::target(
            "exactly one resource is needed: the URL that the token is for (RFC 8707)",
        ));
    };
    let named = form
        .get("authorization_details")
        .map(task_of_details)
        .transpose()?;
    if resource.strip_suffix('/').unwrap_or(resource) == settings.control_url {
        if named.is_some() {
            return Err(OAuthError::details(
                "a token for the control listener names no task",
            ));
        }
        let audience = settings.control_url.clone();
        return Ok(Target {
            audience,
            scope: TASKS_SCOPE,
            task: None,
        });
    }
    // One answer for whatever the client may not know of: other agents' tasks, tasks of other
    // instances, servers that are not granted, servers that do not exist.
    let refused = || OAuthError::target("no open task of this client covers this resource");
    let place = Place::of(settings, resource).ok_or_else(refused)?;
    let id = match (place.task(), named) {
        (Some(id), Some(named)) if id != named => {
            return Err(OAuthError::details(
                "the resource names another task than these details",
            ));
        }
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => {
            return Err(OAuthError::details(
                "name the task: with authorization_details of type sallyport_task, or with a \
                 resource of the form /tasks/TASK/KIND/SERVER",
            ));
        }
    };
    let task = shared.engine.live().task(&id).ok_or_else(refused)?;
    let is_own = task.task().agent == instance.agent
        && task
            .task()
            .instance
            .is_none_or(|owner| owner == instance.id);
    if !is_own {
        return Err(refused());
    }
    let status = task.status_at(now);
    if status != TaskStatus::Open {
        return Err(OAuthError::grant(format!(
            "the task is {}",
            status.as_str()
        )));
    }
    let world = shared.engine.live().world();
    let mut permissions = task.task().grant.permissions.iter();
    if !permissions.any(|it| place.is_for(it) && world.server(&it.server).is_some()) {
        return Err(refused());
    }
    let (audience, scope) = match place {
        Place::Server(route) => (route.resource(&settings.gateway_url), route.scope()),
        Place::Proxy(url) => (url.to_owned(), ServerKind::Http.as_str()),
    };
    Ok(Target {
        audience,
        scope,
        task: Some(task),
    })
}

/// What a task's token can be for.
enum Place<'a> {
    /// One server, at the gateway.
    Server(Route),
    /// The forward proxy, at this URL: all HTTP APIs of the task.
    Proxy(&'a str),
}

impl<'a> Place<'a> {
    fn of(settings: &'a Settings, resource: &str) -> Option<Self> {
        let proxy = settings.proxy_url.as_deref();
        match proxy.filter(|url| resource.strip_suffix('/').unwrap_or(resource) == *url) {
            Some(url) => Some(Self::Proxy(url)),
            None => Route::of_resource(&settings.gateway_url, resource).map(Self::Server),
        }
    }

    /// The task that the resource names.
    fn task(&self) -> Option<TaskId> {
        match self {
            Self::Server(route) => route.task,
            Self::Proxy(_) => None,
        }
    }

    /// Whether a permission is about it.
    fn is_for(&self, permission: &Permission) -> bool {
        match self {
            Self::Server(route) => {
                permission.server == route.server && permission.kind == route.kind.permission()
            }
            Self::Proxy(_) => permission.kind == PermissionKind::Http,
        }
    }
}

/// The task that `authorization_details` (RFC 9396) name.
fn task_of_details(text: &str) -> Result<TaskId, OAuthError> {
    let wrong = || {
        OAuthError::details(
            "authorization_details must be one object of type sallyport_task with the id of the task",
        )
    };
    let details = parse(text.as_bytes(), DETAILS).map_err(|_| wrong())?;
    let [Value::Object(detail)] = details.as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(wrong());
    };
    let member = |name: &str| detail.get(name).and_then(Value::as_str);
    if detail.len() != 2 || member("type") != Some(DETAILS_TYPE) {
        return Err(wrong());
    }
    member("task")
        .and_then(|task| TaskId::parse(task).ok())
        .ok_or_else(wrong)
}

fn check_scope(form: &Form, scope: &str) -> Result<(), OAuthError> {
    let mut asked = form
        .get("scope")
        .unwrap_or(scope)
        .split(' ')
        .filter(|one| !one.is_empty());
    if asked.all(|one| one == scope) {
        Ok(())
    } else {
        Err(OAuthError::scope(format!(
            "the only scope of this resource is {scope}"
        )))
    }
}

/// Whether the request proves possession of the instance's key (RFC 9449 §5). A proof by another
/// key is refused: the enrolled key is what the agent is known by, and who has caught an unused
/// assertion must not be able to bind a token to a key of their own.
fn prove(
    shared: &Shared,
    headers: &HeaderMap,
    instance: &Instance,
    now: Timestamp,
) -> Result<bool, OAuthError> {
    let mut proofs = headers.get_all("dpop").iter();
    let proof = match (proofs.next(), proofs.next()) {
        (None, _) => return Ok(false),
        (Some(proof), None) => proof.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let proof = proof.ok_or_else(|| OAuthError::proof("exactly one DPoP header is needed"))?;
    let url = format!("{}/oauth/token", shared.engine.settings().control_url);
    let request = dpop::Request {
        method: "POST",
        url: &url,
        access_token: None,
    };
    match shared
        .proofs
        .verify_by(proof, &request, &instance.thumbprint, now)
    {
        Ok(_) => Ok(true),
        Err(dpop::ProofError::OtherKey) => Err(OAuthError::proof(
            "the proof must be made with the key that the instance enrolled",
        )),
        Err(dpop::ProofError::NonceNeeded) => Err(OAuthError::nonce()),
        Err(error) => Err(OAuthError::proof(error.to_string())),
    }
}
