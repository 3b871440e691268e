//! A template that grants too much, to an agent that belongs nowhere: what policies are for.

use super::pressing;
use crate::command::drill::scene::{Scene, Stop};

pub(super) async fn wide_template(scene: &mut Scene<'_>) -> Result<(), Stop> {
    let part = scene.part;
    scene.begin();
    let times = pressing(scene.setup.config.monitor.denials);
    for round in 0..times {
        for call in &part.calls {
            // Once each, and the first again and again.
            if round > 0 && call.server != part.calls[0].server {
                continue;
            }
            let before = scene.came_through().len();
            let what = format!("{} as an agent of no segment", call.shown());
            scene.attack(&what, call, &call.arguments).await?;
            if scene.came_through().len() > before {
                let server = scene.setup.config.servers.get(&call.server);
                let segment = server.and_then(|server| server.segment.as_ref());
                let segment = segment.map(ToString::to_string).unwrap_or_default();
                scene.through(
                    format!(
                        "an agent of no segment reached `{}` of the segment `{segment}`: only templates keep \
                         others out",
                        call.server
                    ),
                    format!(
                        "policies/: permit what is in Sallyport::Segment::\"{segment}\" only to principals \
                         that belong there"
                    ),
                );
            }
        }
    }
    Ok(())
}
