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
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let server = ServerName::parse(&stem).ok();
            let found = server
                .as_ref()
                .zip(config)
                .and_then(|(name, config)| config.servers.get(name));
            let wrong = match (found, &server) {
                (Some(server), _) if server.kind == ServerKind::Mcp => None,
                (Some(_), _) => Some("only MCP servers have tools to annotate".to_owned()),
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
                    annotated.extend(server.map(|server| (server, Arc::new(annotations))));
                }
                Err(mistakes) => self.remarks.extend(mistakes.into_iter().map(Remark::from)),
            }
        }
        annotated
    }
}
