//! One rehearsal after the other: each attack at a twin of its own, so that what is done about one does not hide
//! another.

use std::io::IsTerminal;

use model::config::ServerKind;
use model::{ServerName, Template, TemplateName};
use tokio::signal::unix::{SignalKind, signal};

use super::attacks::{At, Drill};
use super::cast::{self, Part, Role};
use super::errand::Errand;
use super::report::{Outcome, Report, Verdict};
use super::scene::{Scene, Stop};
use super::stand_in::StandIn;
use super::twin::Twin;
use super::written::{self, STRANGER};
use crate::failure::Failure;
use crate::output::{self, FAINT, paint};
use crate::setup::{self, Setup};

/// What is to be rehearsed.
pub(super) struct Wanted {
    /// The attacks.
    pub(super) drills: Vec<&'static Drill>,
    /// The templates; all when there are none.
    pub(super) templates: Vec<TemplateName>,
    /// The servers; all when there are none.
    pub(super) servers: Vec<ServerName>,
}

/// A template's tasks that can be attacked, or why they cannot.
type Cast = Result<Part, (TemplateName, String)>;

/// Rehearses all that is wanted.
///
/// # Errors
/// [`Failure`] when no twin can be made or started, or this is interrupted.
pub(super) async fn all(setup: &Setup, wanted: &Wanted) -> Result<Report, Failure> {
    let mut notes = about(setup);
    let mut casts: Vec<Cast> = Vec::new();
    if wanted.drills.iter().any(|drill| drill.at == At::Templates) {
        for (name, template) in &setup.templates {
            let is_wanted = wanted.templates.is_empty() || wanted.templates.contains(name);
            if is_wanted {
                progress(format_args!("opening tasks of {name} …"));
                casts.push(cast(setup, template, &wanted.servers).await?);
            }
        }
    }
    for part in casts.iter().flatten() {
        let name = &part.errand.template.name;
        notes.push(format!(
            "tasks of `{name}` are those of {}",
            part.role.shown()
        ));
        let left_out = part.errand.left_out.iter();
        notes.extend(left_out.map(|what| format!("`{name}`: not exercised: {what}")));
    }
    for (name, why) in casts.iter().filter_map(|cast| cast.as_ref().err()) {
        notes.push(format!("tasks of `{name}` cannot be attacked: {why}"));
    }
    let mut outcomes = Vec::new();
    for drill in &wanted.drills {
        match drill.at {
            At::Templates => at_templates(setup, drill, &casts, &mut outcomes).await?,
            At::Policies => outcomes.push(at_policies(setup, drill, &wanted.servers).await?),
        }
    }
    Ok(Report {
        configuration: setup.file.display().to_string(),
        notes,
        drills: outcomes,
    })
}

async fn at_templates(
    setup: &Setup,
    drill: &'static Drill,
    casts: &[Cast],
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Failure> {
    if !casts.iter().any(Result::is_ok) {
        let why = match casts {
            [] => "there are no templates".to_owned(),
            _ => "no template's tasks can be attacked; the notes say why".to_owned(),
        };
        outcomes.push(Outcome::nothing(drill.name, "", Verdict::NotRehearsed, why));
    }
    for part in casts.iter().flatten() {
        let name = part.errand.template.name.as_str();
        if let Some(why) = drill.has_nothing_at(part) {
            outcomes.push(Outcome::nothing(
                drill.name,
                name,
                Verdict::NotApplicable,
                why,
            ));
            continue;
        }
        progress(format_args!("rehearsing {} at {name} …", drill.name));
        outcomes.push(one(setup, part, None, drill).await?);
    }
    Ok(())
}

/// The attack of an agent that belongs nowhere, with a template of the drill.
async fn at_policies(
    setup: &Setup,
    drill: &'static Drill,
    servers: &[ServerName],
) -> Result<Outcome, Failure> {
    let nothing = |why: String| Outcome::nothing(drill.name, "", Verdict::NotApplicable, why);
    let Some(text) = written::wide_template(setup) else {
        let why = "no server belongs to a segment, so policies cannot tell who belongs to it";
        return Ok(nothing(why.to_owned()));
    };
    let file = setup::folder_of(&setup.file)
        .join("templates")
        .join(format!("{STRANGER}.toml"));
    let template = TemplateName::parse(STRANGER)
        .map_err(|error| error.to_string())
        .and_then(|name| {
            let first = |mistakes: Vec<model::Mistake>| {
                mistakes
                    .into_iter()
                    .next()
                    .map(|it| it.message)
                    .unwrap_or_default()
            };
            Template::parse(name, &file, &text).map_err(first)
        });
    let template = template.map_err(Failure::new)?;
    let errand = match Errand::of(setup, &template, &text, servers) {
        Ok(errand) => errand,
        Err(why) => return Ok(nothing(why)),
    };
    let part = Part {
        calls: errand.calls.clone(),
        errand,
        role: Role::stranger(),
    };
    progress(format_args!("rehearsing {} …", drill.name));
    one(setup, &part, Some((STRANGER, &text)), drill).await
}

/// Finds an agent for a template's tasks.
async fn cast(setup: &Setup, template: &Template, servers: &[ServerName]) -> Result<Cast, Failure> {
    let name = &template.name;
    let file = setup::folder_of(&setup.file)
        .join("templates")
        .join(format!("{name}.toml"));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let errand = match Errand::of(setup, template, &text, servers) {
        Ok(errand) => errand,
        Err(why) => return Ok(Err((name.clone(), why))),
    };
    let mut refused = "no agent may open them".to_owned();
    for role in cast::roles(setup, &errand) {
        let tried = in_twin(setup, None, async |twin, stand_in| {
            cast::try_out(twin, stand_in, setup, &errand, &role).await
        });
        match tried.await? {
            Ok(part) => return Ok(Ok(part)),
            Err(why) => refused = format!("as {}: {why}", role.shown()),
        }
    }
    Ok(Err((name.clone(), refused)))
}

async fn one(
    setup: &Setup,
    part: &Part,
    more: Option<(&str, &str)>,
    drill: &'static Drill,
) -> Result<Outcome, Failure> {
    in_twin(setup, more, async |twin, stand_in| {
        let mut scene = Scene::set(twin, stand_in, setup, part).await?;
        match drill.carry_out(&mut scene).await {
            Ok(()) => scene.outcome(drill).await,
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Refused(rule, reason)) => {
                let name = part.errand.template.name.as_str();
                let why = format!("the ordinary work was refused ({rule}): {reason}");
                Ok(Outcome::nothing(
                    drill.name,
                    name,
                    Verdict::NotRehearsed,
                    why,
                ))
            }
        }
    })
    .await
}

/// Does something at a running twin, which ends whatever happens.
async fn in_twin<T>(
    setup: &Setup,
    more: Option<(&str, &str)>,
    run: impl AsyncFnOnce(&Twin, &StandIn) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let ended = |error: std::io::Error| Failure::new(format!("signals cannot be seen: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(ended)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(ended)?;
    let stand_in = StandIn::start().await?;
    let mut twin = Twin::new(setup, more, |kind, name| stand_in.url(kind, name))?;
    let outcome = tokio::select! {
        outcome = async {
            twin.start().await?;
            run(&twin, &stand_in).await
        } => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
        _ = terminate.recv() => Err(Failure::new("ended")),
        _ = hang_up.recv() => Err(Failure::new("ended")),
    };
    // Whatever happened: nothing is left running.
    let stopped = twin.stop().await;
    let outcome = outcome?;
    stopped.map(|()| outcome)
}

fn progress(what: std::fmt::Arguments<'_>) {
    if std::io::stderr().is_terminal() {
        output::note(paint(FAINT, what));
    }
}

/// What a reader should know of the configuration before any attack.
fn about(setup: &Setup) -> Vec<String> {
    let mut notes = Vec::new();
    let config = &setup.config;
    let labels = &config.monitor.servers;
    let is_labelled =
        labels.values().any(|label| label.sensitive) && labels.values().any(|label| label.external);
    if !is_labelled {
        notes.push(
            "no servers are `sensitive` and `external` in [monitor.servers] of sallyport.toml: that one's data \
             leaves through the other is not noticed"
                .to_owned(),
        );
    }
    let bare: Vec<&str> = config
        .servers
        .iter()
        .filter(|(name, server)| {
            matches!(server.kind, ServerKind::Mcp | ServerKind::Http)
                && !setup.annotations.contains_key(*name)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if !bare.is_empty() {
        notes.push(format!(
            "these servers have no annotations, and their arguments are not checked for where they come from: {}",
            bare.join(", ")
        ));
    }
    notes
}
