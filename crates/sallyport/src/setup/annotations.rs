//! What annotations must be beyond their format.

use std::path::Path;
use std::sync::Arc;

use gateway::provenance::Annotated;
use model::config::{Config, ServerKind};
use model::{Mistake, ServerName};
use provenance::Annotations;

use super::{Reading, Remark, toml_text};

impl Reading {
    /// Reads the annotations of all servers, one file for each.
    pub(super) fn annotations(&mut self, folder: &Path, config: Option<&Config>) -> Annotated {
        let mut annotated = Annotated::new();
        for file in self.files(folder, "toml") {
            let stem = super::stem(&file);
            let server = ServerName::parse(&stem).ok();
            let found = server
                .as_ref()
                .zip(config)
                .and_then(|(name, config)| config.servers.get(name));
            let wrong = match (found, &server) {
                (Some(server), _)
                    if matches!(
                        server.kind,
                        ServerKind::Mcp | ServerKind::Http | ServerKind::Postgres
                    ) =>
                {
                    None
                }
                (Some(_), _) => Some(
                    "only MCP servers, HTTP APIs and databases have something to annotate"
                        .to_owned(),
                ),
                (None, Some(_)) if config.is_none() => None,
                (None, _) => Some(format!("there is no server `{}`", stem.escape_debug())),
            };
            if let Some(wrong) = wrong {
                let mistake = Mistake::new(&file, wrong)
                    .hint("the name of the file, without `.toml`, is the name of the server");
                self.remarks.push(mistake.into());
            }
            let Some(text) = self.text(&file) else {
                continue;
            };
            match toml_text::read(&file, &text, |text| Annotations::parse(&file, text)) {
                Ok(annotations) => {
                    if let Some(server) = found
                        && let Some(wrong) = misplaced(&annotations, server.kind)
                    {
                        let mistake = Mistake::new(&file, wrong).hint(
                            "write `[tools.NAME]` for an MCP server, `[endpoints.\"POST /path\"]` for an \
                             HTTP API, and `[tables.\"schema.name\"]` or `[functions.NAME]` for a database",
                        );
                        self.remarks.push(mistake.into());
                    }
                    annotated.extend(server.map(|server| (server, Arc::new(annotations))));
                }
                Err(mistakes) => self.remarks.extend(mistakes.into_iter().map(Remark::from)),
            }
        }
        annotated
    }
}

/// What is annotated that such a server does not have.
fn misplaced(annotations: &Annotations, kind: ServerKind) -> Option<String> {
    if kind == ServerKind::Postgres {
        let tool = annotations.tools().next()?;
        let says = format!("`{}` is no table of a database", tool.escape_debug());
        return Some(says);
    }
    if let Some(table) = annotations.of_databases().next() {
        return Some(format!(
            "`{}` belongs to a database, and the server is none",
            table.escape_debug()
        ));
    }
    let is_endpoint = |name: &&str| {
        name.split_once(' ')
            .is_some_and(|(_, path)| path.starts_with('/'))
    };
    let other = annotations
        .tools()
        .find(|name| is_endpoint(name) != (kind == ServerKind::Http))?;
    Some(match kind {
        ServerKind::Http => format!("`{}` is no endpoint", other.escape_debug()),
        _ => format!(
            "`{}` is an endpoint, and the server has tools",
            other.escape_debug()
        ),
    })
}
