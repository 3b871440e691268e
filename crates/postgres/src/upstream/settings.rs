//! What the configuration says of one database, ready for use.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use model::ServerName;
use model::config::{PostgresTls, Secret, Server};
use zeroize::Zeroizing;

use super::tls::Tls;
use super::{Admin, tls};

/// Longest password, in bytes.
const PASSWORD: usize = 1_024;

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The database's name there.
    pub database: String,
}

/// Why a database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server `{server}`: {what}")]
pub struct DatabaseError {
    /// The server's name in the configuration.
    pub server: ServerName,
    /// What is wrong.
    pub what: String,
}

/// One database.
pub struct Database {
    /// Its name in the configuration.
    pub(crate) name: ServerName,
    /// Where it is.
    pub(crate) address: Address,
    /// How TLS is spoken with it; none where it is not.
    pub(crate) tls: Option<Tls>,
    /// The user that makes roles.
    pub(crate) user: String,
    /// Its password.
    pub(crate) password: Zeroizing<Vec<u8>>,
    /// Functions that statements may call besides the harmless ones.
    pub(crate) functions: BTreeSet<String>,
    /// The certification authorities that it is verified with, as their file has them.
    authorities: Option<Vec<u8>>,
    /// What else is configured.
    pub(crate) server: Server,
    /// The connection that makes roles.
    pub(crate) admin: Admin,
}

impl Address {
    /// Reads `postgres://host:port/database`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "`{}` is not like postgres://host:port/database",
                url.escape_debug()
            )
        };
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(form)?;
        let (authority, database) = rest.split_once('/').ok_or_else(form)?;
        if authority.contains('@') {
            return Err(
                "the URL has a user or password in it: use `user` and `password`".to_owned(),
            );
        }
        if database.is_empty() || database.contains(['?', '#', '%', '/', '\0']) {
            return Err(form());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, port.parse().map_err(|_| form())?)
            }
            _ => (authority, 5432),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(form());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            database: database.to_owned(),
        })
    }

    /// Whether it is this machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }
}

impl Database {
    /// Reads what the configuration says of a database, with its password.
    ///
    /// # Errors
    /// [`DatabaseError`]; never with a secret in it.
    pub fn read(name: &ServerName, server: &Server) -> Result<Self, DatabaseError> {
        Self::reads(name, server).map_err(|what| DatabaseError {
            server: name.clone(),
            what,
        })
    }

    fn reads(name: &ServerName, server: &Server) -> Result<Self, String> {
        let about = &server.postgres;
        let url = server.url.as_deref().ok_or("it has no `url`")?;
        let address = Address::parse(url)?;
        if about.user.is_empty() {
            return Err("`user` in `postgres` must name the user that makes roles".to_owned());
        }
        if about.search_path.is_empty() {
            return Err("`search_path` is empty".to_owned());
        }
        let password = match &about.password {
            Some(secret) => read_secret(secret)?,
            None => Zeroizing::default(),
        };
        let encrypted = match about.tls {
            PostgresTls::Require => true,
            PostgresTls::Off => false,
            PostgresTls::Auto => server.ca.is_some() || !address.is_loopback(),
        };
        let authorities = server.ca.as_deref().map(tls::read).transpose()?;
        let tls = match encrypted {
            true => Some(Tls::new(&address.host, authorities.as_deref())?),
            false => None,
        };
        Ok(Self {
            name: name.clone(),
            address,
            tls,
            user: about.user.clone(),
            password,
            functions: about.functions.clone(),
            authorities,
            server: server.clone(),
            admin: Admin::default(),
        })
    }

    /// Whether another reading of the configuration says the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.server == other.server
            && self.password == other.password
            && self.authorities == other.authorities
    }
}

fn read_secret(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut value = match secret {
        Secret::File(path) => {
            let failed = |error| format!("the file `{}` cannot be read: {error}", path.display());
            let mut value = Zeroizing::new(Vec::with_capacity(PASSWORD + 2));
            File::open(path)
                .and_then(|file| file.take(PASSWORD as u64 + 1).read_to_end(&mut value))
                .map_err(failed)?;
            value
        }
        Secret::Env(name) => match std::env::var(name) {
            Ok(value) => Zeroizing::new(value.into_bytes()),
            Err(_) => return Err(format!("the environment variable `{name}` is not set")),
        },
        Secret::Plain(text) => Zeroizing::new(text.clone().into_bytes()),
    };
    for end in [b'\n', b'\r'] {
        if value.last() == Some(&end) {
            value.pop();
        }
    }
    if value.len() > PASSWORD || std::str::from_utf8(&value).is_err() {
        return Err(format!(
            "the password is not text of at most {PASSWORD} bytes"
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let at = |url| Address::parse(url).map(|a| (a.host, a.port, a.database));
        let is =
            |host: &str, port, database: &str| Ok((host.to_owned(), port, database.to_owned()));
        assert_eq!(
            at("postgres://db.example:6432/crm"),
            is("db.example", 6432, "crm")
        );
        assert_eq!(at("postgresql://db/crm"), is("db", 5432, "crm"));
        assert_eq!(at("postgres://[::1]:5433/crm"), is("::1", 5433, "crm"));
        assert_eq!(at("postgres://[::1]/crm"), is("::1", 5432, "crm"));
        for bad in [
            "http://db/crm",
            "postgres://db",
            "postgres://db/",
            "postgres://u:p@db/crm",
            "postgres://db:x/crm",
            "postgres://db/crm?sslmode=disable",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
