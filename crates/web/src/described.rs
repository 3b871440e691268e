//! What an API says of its endpoints, for whoever writes about them.

use model::config::Http;
use serde_json::Value;

use crate::openapi::{self, Operation};
use crate::routes::Route;

/// One endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Its name in grants.
    pub name: String,
    /// What it is for, in the words of the document; may be empty.
    pub summary: String,
    /// Its arguments as templates call them, with their schemas.
    pub arguments: Vec<(String, Value)>,
    /// Whether there may be more of them.
    pub open: bool,
}

/// The endpoints of a configuration: what an OpenAPI document says of them, and of `routes` what their paths
/// say.
///
/// # Errors
/// Why they cannot be read, in words.
pub fn described(settings: &Http) -> Result<Vec<Described>, String> {
    let mut all = Vec::new();
    if let Some(file) = &settings.openapi {
        let text =
            crate::api::read(file).map_err(|why| format!("`openapi` {}: {why}", file.display()))?;
        for operation in openapi::operations(&text)? {
            let Operation {
                route,
                summary,
                arguments,
                open,
            } = operation;
            all.push(Described {
                name: route.name(),
                summary,
                arguments,
                open,
            });
        }
    }
    for written in &settings.routes {
        let route = Route::parse(written).map_err(|error| error.to_string())?;
        let name = route.name();
        if all.iter().any(|known| known.name == name) {
            continue;
        }
        let parameters = route
            .parameters()
            .map(|name| (format!("path.{name}"), Value::Null));
        all.push(Described {
            summary: String::new(),
            arguments: parameters.collect(),
            open: true,
            name,
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_say_more_than_routes() {
        let file = std::env::temp_dir().join(format!("described-{}.yaml", std::process::id()));
        let document = r##"
openapi: 3.1.0
paths:
  /mails/{box}:
    post:
      summary: Sends a mail
      parameters:
        - { name: box, in: path, schema: { type: string } }
        - { name: dry, in: query, schema: { type: boolean } }
        - { name: X-Trace, in: header, schema: { type: string } }
      requestBody: { $ref: "#/components/requestBodies/Mail" }
components:
  requestBodies:
    Mail:
      content:
        application/json:
          schema:
            type: object
            properties: { to: { type: string, format: email }, text: { type: string } }
            additionalProperties: false
"##;
        std::fs::write(&file, document).unwrap();
        let settings = Http {
            openapi: Some(file.clone()),
            routes: vec![
                "POST /mails/{box}".to_owned(),
                "DELETE /mails/{box}/{id}".to_owned(),
            ],
            ..Http::default()
        };
        let all = described(&settings);
        std::fs::remove_file(file).unwrap();
        let all = all.unwrap();
        let names = |at: usize| -> Vec<&str> {
            all[at]
                .arguments
                .iter()
                .map(|(name, _)| name.as_str())
                .collect()
        };
        assert_eq!(
            (all.len(), &*all[0].summary, all[0].open),
            (2, "Sends a mail", false)
        );
        assert_eq!(names(0), ["path.box", "query.dry", "body.to", "body.text"]);
        assert_eq!(all[0].arguments[2].1["format"], "email");
        assert_eq!(
            (&*all[1].name, all[1].open),
            ("DELETE /mails/{box}/{id}", true)
        );
        assert_eq!(names(1), ["path.box", "path.id"]);
    }
}
