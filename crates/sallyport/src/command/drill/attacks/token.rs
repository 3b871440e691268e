//! Attacks with what was copied of an agent's credentials.

use model::Proof;

use crate::command::drill::agent::{Answer, Stolen};
use crate::command::drill::scene::{Scene, Stop};

/// Requests without valid credentials at most, whatever the configuration counts as pressure.
const MOST: u32 = 500;
/// Between two of them: at more than 50 a second the log counts them without records of their own, and
/// pressure is counted by records.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

pub(super) async fn stolen_token(scene: &mut Scene<'_>) -> Result<(), Stop> {
    scene.usual_work().await?;
    let part = scene.part;
    let Some(call) = part.reading() else {
        return Ok(());
    };
    let own = scene.agent.authorised(call).await?;
    let copy = own.clone();
    if let Answer::Refused(rule, reason) = scene.agent.send(own).await? {
        return Err(Stop::Refused(rule, reason));
    }
    scene.begin();
    scene.send("the same request again", copy.clone()).await?;
    for (what, stolen) in [
        ("the token with a proof by another key", Stolen::OtherKey),
        ("the token alone", Stolen::TokenAlone),
    ] {
        let request = scene.agent.stolen(call, stolen).await?;
        scene.send(what, request).await?;
    }
    let threshold = scene.setup.config.monitor.refusals;
    for _ in 0..(threshold + 5).min(MOST) {
        tokio::time::sleep(PAUSE).await;
        scene.send("the same request again", copy.clone()).await?;
    }
    let more = scene.came_through().len();
    let file = part.errand.line(None);
    if more > 0 {
        let change = format!("{file}: `proof` is not what fails here: report this");
        scene.through(
            format!("{more} calls with a stolen token reached `{}`", call.server),
            change,
        );
    }
    if part.errand.template.grant.proof == Proof::Bearer {
        // The drill's agent gets tokens that are bound to its key, so this is read and not tried.
        scene.through(
            "clients that prove nothing get tokens that are bound to nothing: whoever copies one can use it",
            format!("{file}: `proof = \"bearer\"` allows that; leave it out if the clients can do better"),
        );
    }
    Ok(())
}
