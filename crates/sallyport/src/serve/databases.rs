//! The listener for clients of databases: there from the start, or from the reload on that first configures a
//! database.

use std::sync::{Arc, OnceLock};

use gateway::peer::Peers;
use model::config::{Config, Listener};

use super::Bound;
use crate::failure::Failure;

/// The listener, once there is one.
pub(super) struct Databases {
    door: Arc<postgres::Endpoint>,
    peers: Arc<Peers>,
    known: Arc<OnceLock<control::Databases>>,
}

impl Databases {
    /// For an enforcement point, without a listener yet.
    pub(super) fn new(door: Arc<postgres::Endpoint>, peers: Arc<Peers>) -> Self {
        Self {
            door,
            peers,
            known: Arc::default(),
        }
    }

    /// Tells where it listens, once it does.
    pub(super) fn known(&self) -> Arc<OnceLock<control::Databases>> {
        Arc::clone(&self.known)
    }

    /// Whether there is a listener: it then stays where it is.
    pub(super) fn is_open(&self) -> bool {
        self.known.get().is_some()
    }

    /// Serves at an address that was taken, in the background; it ends with the enforcement point.
    ///
    /// # Errors
    /// [`Failure`] when TLS cannot be set up.
    pub(super) fn serve(
        &self,
        bound: Bound,
        listener: &Listener,
        config: &Config,
    ) -> Result<(), Failure> {
        let options = postgres::Options::of(bound.options(config, &self.peers)?);
        // Whoever asks is told where the listener is, not where it will be.
        let _ = self.known.set(about(listener));
        tracing::info!(address = %listener.listen, "databases are served");
        tokio::spawn(postgres::serve(
            Arc::clone(&self.door),
            bound.listener,
            options,
        ));
        Ok(())
    }
}

fn about(listener: &Listener) -> control::Databases {
    let plain = || format!("postgres://{}", listener.listen);
    control::Databases {
        base_url: listener.public_url.clone().unwrap_or_else(plain),
        encrypted: listener.tls.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn clients_are_told_how_to_reach_it() {
        let url = |text: &str| {
            let text = format!("trust_domain = \"a.example\"\n[postgres]\n{text}");
            let config = Config::parse(Path::new("sallyport.toml"), &text).unwrap();
            about(&config.postgres).url(&model::ServerName::parse("crm").unwrap())
        };
        assert_eq!(
            url("listen = \"127.0.0.1:7\""),
            "postgres://127.0.0.1:7/crm"
        );
        assert_eq!(
            url(
                "listen = \"0.0.0.0:7\"\npublic_url = \"postgres://gw.example.org:7\"\n\
                 tls = { cert = \"a\", key = \"b\" }"
            ),
            "postgres://gw.example.org:7/crm?sslmode=verify-full"
        );
    }
}
