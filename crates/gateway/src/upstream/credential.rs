//! Secrets for servers: read when the configuration is, wiped when they go, shown to nobody.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use model::config::{Credential, Secret, Server};
use model::name::ServerName;
use zeroize::Zeroizing;

use super::UpstreamConfigError;

/// Longest secret, in bytes.
const LONGEST: usize = 64 << 10;

/// The secrets of one server.
#[derive(PartialEq, Eq)]
pub(super) struct Resolved {
    /// The header that presents the credential; marked sensitive, its bytes wiped at the end.
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    /// The variables of a program's environment.
    pub(super) environment: Vec<Variable>,
}

/// A variable of a program's environment.
#[derive(PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: Zeroizing<Vec<u8>>,
    /// Whether the value must not be seen.
    pub(super) is_secret: bool,
}

impl Resolved {
    /// Reads all secrets of a server.
    pub(super) fn read(name: &ServerName, server: &Server) -> Result<Self, UpstreamConfigError> {
        let refuse = |what: String| {
            |because: String| UpstreamConfigError::Secret {
                server: name.clone(),
                what,
                because,
            }
        };
        let header = server
            .credential
            .as_ref()
            .map(|credential| header(credential).map_err(refuse("its credential".to_owned())))
            .transpose()?;
        let mut environment = Vec::with_capacity(server.environment.len());
        for (variable, secret) in &server.environment {
            let read = variable_value(variable, secret).map_err(refuse(format!(
                "its variable `{}`",
                variable.escape_debug()
            )))?;
            environment.push(read);
        }
        Ok(Self {
            header,
            environment,
        })
    }

    /// Takes the secrets out of text that is about to be logged.
    pub(super) fn redact(&self, text: &mut String) {
        for variable in &self.environment {
            // Very short values would take words apart, and hide nothing.
            if !variable.is_secret || variable.value.len() < 6 {
                continue;
            }
            if let Ok(value) = std::str::from_utf8(&variable.value)
                && text.contains(value)
            {
                *text = text.replace(value, "[redacted]");
            }
        }
    }
}

/// Reads a secret: its bytes, which are wiped when they go.
///
/// # Errors
/// Why it cannot be read, in words; never the secret.
pub fn read_secret(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, String> {
    read(secret)
}

/// The header that presents a credential; its value is marked sensitive.
///
/// # Errors
/// Why it cannot be made, in words; never the secret.
pub fn credential_header(credential: &Credential) -> Result<(HeaderName, HeaderValue), String> {
    header(credential)
}

fn header(credential: &Credential) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::try_from(credential.header.as_str()).map_err(|_| {
        format!(
            "`{}` is not a header name",
            credential.header.escape_debug()
        )
    })?;
    let value = read(&credential.value)?;
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    let mut text = Zeroizing::new(Vec::with_capacity(credential.prefix.len() + value.len()));
    text.extend_from_slice(credential.prefix.as_bytes());
    text.extend_from_slice(&value);
    // The header shares these bytes with all its clones; the last one wipes them.
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .map_err(|_| "the value has characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn variable_value(name: &str, secret: &Secret) -> Result<Variable, String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("this cannot be the name of a variable".to_owned());
    }
    let value = read(secret)?;
    if value.contains(&0) {
        return Err("the value has a NUL byte".to_owned());
    }
    let is_secret = !matches!(secret, Secret::Plain(_));
    Ok(Variable {
        name: name.to_owned(),
        value,
        is_secret,
    })
}

fn read(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, String> {
    let value = match secret {
        Secret::File(path) => read_file(path)
            .map_err(|error| format!("the file `{}` cannot be read: {error}", path.display()))?,
        Secret::Env(name) => match std::env::var_os(name) {
            Some(value) => Zeroizing::new(value.into_vec()),
            None => return Err(format!("the environment variable `{name}` is not set")),
        },
        Secret::Plain(text) => Zeroizing::new(text.clone().into_bytes()),
    };
    if value.len() > LONGEST {
        return Err(format!("the value is longer than {LONGEST} bytes"));
    }
    Ok(value)
}

/// The file's content, without the line's end. The buffer never grows: growing leaves copies.
fn read_file(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    File::open(path)?
        .take(LONGEST as u64 + 1)
        .read_to_end(&mut value)?;
    for end in [b'\n', b'\r'] {
        if value.last() == Some(&end) {
            value.pop();
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        let config = format!("trust_domain = \"a\"\n[servers.x]\n{text}");
        let config = model::config::Config::parse(Path::new("t"), &config).unwrap();
        config.servers.into_values().next().unwrap()
    }

    fn resolve(text: &str) -> Result<Resolved, UpstreamConfigError> {
        Resolved::read(&"x".parse().unwrap(), &server(text))
    }

    fn secret_file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn a_credential_is_prefixed_trimmed_and_never_shown() {
        let file = secret_file("hunter2hunter2\r\n");
        let text = format!(
            "url = \"https://a/\"\ncredential = {{ header = \"X-Key\", prefix = \"Bearer \", \
             value = {{ file = {:?} }} }}",
            file.path()
        );
        let (name, value) = resolve(&text).unwrap().header.unwrap();
        assert_eq!(name, "x-key");
        assert_eq!(value.as_bytes(), b"Bearer hunter2hunter2");
        assert!(value.is_sensitive());
        assert!(!format!("{value:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_a_credential_is_refused_without_showing_it() {
        let file = secret_file("hunter2\nhunter3");
        let text = format!(
            "url = \"https://a/\"\ncredential = {{ value = {{ file = {:?} }} }}",
            file.path()
        );
        let refused = resolve(&text).err().unwrap().to_string();
        assert!(
            refused.contains("credential") && !refused.contains("hunter"),
            "{refused}"
        );
        for missing in [
            "url = \"https://a/\"\ncredential = { value = { file = \"/nonexistent\" } }",
            "url = \"https://a/\"\ncredential = { value = { env = \"SALLYPORT_NOT_SET\" } }",
            "url = \"https://a/\"\ncredential = { value = { plain = \"\" } }",
            "command = [\"x\"]\nenvironment = { \"A=B\" = { plain = \"1\" } }",
            "command = [\"x\"]\nenvironment = { A = { plain = \"\\u0000\" } }",
        ] {
            assert!(resolve(missing).is_err(), "{missing}");
        }
        let long = secret_file(&"x".repeat(LONGEST + 1));
        let text = format!(
            "command = [\"x\"]\nenvironment = {{ A = {{ file = {:?} }} }}",
            long.path()
        );
        assert!(resolve(&text).is_err());
    }

    #[test]
    fn secrets_are_taken_out_of_log_lines() {
        let file = secret_file("hunter2\n");
        let text = format!(
            "command = [\"x\"]\nenvironment = {{ A = {{ file = {:?} }}, B = {{ plain = \"verbose\" }} }}",
            file.path()
        );
        let mut line = "key hunter2, verbose".to_owned();
        resolve(&text).unwrap().redact(&mut line);
        assert_eq!(line, "key [redacted], verbose");
    }
}
