//! One provider of models: its addresses in the order in which they are asked, what they call the
//! models, and what the models cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::upstream::Web;
use model::config::{Credential, Fallback, Limits, Llm, Price, Server, Surface};
use model::{AgentName, Pattern, ServerName};
use parking_lot::Mutex;

use crate::circuit::Circuit;

/// One provider.
pub(crate) struct Provider {
    pub(crate) llm: Llm,
    pub(crate) addresses: Vec<Arc<Address>>,
}

/// One address of a provider.
pub(crate) struct Address {
    pub(crate) web: Arc<Web>,
    models: Vec<Pattern>,
    aliases: BTreeMap<String, String>,
    /// Whether it has all models when it names none: the server's own address, whose aliases only add
    /// names.
    has_all: bool,
    circuit: Mutex<Circuit>,
    allowed: u32,
    cool_down: Duration,
}

impl Provider {
    /// Reads what the configuration says of a provider. Addresses that are the same as before keep
    /// their connections.
    ///
    /// # Errors
    /// Every address that cannot be used, and why.
    pub(crate) fn new(
        name: &ServerName,
        server: &Server,
        limits: &Limits,
        before: Option<&Self>,
    ) -> Result<Self, Vec<String>> {
        let llm = &server.llm;
        let first = Fallback {
            url: server.url.clone().unwrap_or_default(),
            ca: server.ca.clone(),
            credential: server.credential.clone(),
            models: llm.models.clone(),
            aliases: llm.aliases.clone(),
        };
        let mut addresses = Vec::new();
        let mut wrong = Vec::new();
        for (position, at) in std::iter::once(&first).chain(&llm.fallbacks).enumerate() {
            let known = before.and_then(|provider| provider.addresses.get(position));
            match Address::new(name, server, (at, position == 0), limits, known) {
                Ok(address) => addresses.push(address),
                Err(error) => wrong.push(error),
            }
        }
        if wrong.is_empty() {
            Ok(Self {
                llm: llm.clone(),
                addresses,
            })
        } else {
            Err(wrong)
        }
    }

    /// The addresses that an agent asks for a model, in order. Those that are left alone come into it only
    /// when there is no other, and then only the first of them.
    pub(crate) fn for_model(
        &self,
        model: &str,
        agent: &AgentName,
        now: Instant,
    ) -> Vec<Arc<Address>> {
        let having = self.addresses.iter().filter(|at| at.has(model));
        let (rested, tired): (Vec<_>, Vec<_>) =
            having.cloned().partition(|at| at.may_be_asked(agent, now));
        if rested.is_empty() {
            tired.into_iter().take(1).collect()
        } else {
            rested
        }
    }

    /// What a model costs, in the agent's words.
    pub(crate) fn price(&self, model: &str) -> Option<&Price> {
        let matching = self.llm.prices.iter().filter(|(of, _)| of.matches(model));
        let nearest = matching.max_by_key(|(of, _)| {
            let text = String::from((*of).clone());
            (text == model, text.len())
        });
        nearest.map(|(_, price)| price)
    }
}

impl Address {
    fn new(
        name: &ServerName,
        server: &Server,
        (at, is_first): (&Fallback, bool),
        limits: &Limits,
        known: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, String> {
        let surface = server.llm.surface;
        // Only what a connection depends on, so that it outlives other changes.
        let reached = Server {
            kind: server.kind,
            url: Some(at.url.clone()),
            ca: at.ca.clone(),
            http2: server.http2,
            credential: at.credential.clone().map(|of| presented(of, surface)),
            ..Server::default()
        };
        let web = match known.filter(|known| known.web.is_what(&reached, limits)) {
            Some(known) => Arc::clone(&known.web),
            None => Arc::new(Web::new(name, &reached, limits).map_err(|error| error.to_string())?),
        };
        Ok(Arc::new(Self {
            web,
            models: at.models.clone(),
            aliases: at.aliases.clone(),
            has_all: is_first,
            circuit: Mutex::default(),
            allowed: server.llm.failures.max(1),
            cool_down: Duration::from_secs(server.llm.cool_down_seconds),
        }))
    }

    /// Whether it is asked for a model.
    pub(crate) fn has(&self, model: &str) -> bool {
        let named = self.aliases.contains_key(model);
        let any = self.models.is_empty() && (self.has_all || self.aliases.is_empty());
        named || any || self.models.iter().any(|pattern| pattern.matches(model))
    }

    /// What it calls a model.
    pub(crate) fn name_of<'a>(&'a self, model: &'a str) -> &'a str {
        self.aliases.get(model).map_or(model, String::as_str)
    }

    /// The names that it has besides those of its models, each with the model's.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        let aliases = self.aliases.iter();
        aliases.map(|(name, model)| (name.as_str(), model.as_str()))
    }

    /// Whether an agent does not leave it alone.
    pub(crate) fn may_be_asked(&self, agent: &AgentName, now: Instant) -> bool {
        self.circuit.lock().lets(agent, now)
    }

    /// It answered an agent.
    pub(crate) fn succeeded(&self, agent: &AgentName) {
        self.circuit.lock().succeeded(agent);
    }

    /// For an agent it could not be reached, had no room, or failed.
    pub(crate) fn failed(&self, agent: &AgentName, now: Instant) {
        let mut circuit = self.circuit.lock();
        circuit.failed(agent, self.allowed, self.cool_down, now);
    }
}

/// A credential that does not say how it is presented is presented the way of the surface.
fn presented(mut credential: Credential, surface: Surface) -> Credential {
    let unsaid =
        credential.header.eq_ignore_ascii_case("authorization") && credential.prefix.is_empty();
    match surface {
        Surface::OpenAi if unsaid => credential.prefix = "Bearer ".to_owned(),
        Surface::Anthropic if unsaid => credential.header = "x-api-key".to_owned(),
        _ => {}
    }
    credential
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::Config;
    use std::path::Path;

    fn provider(text: &str, before: Option<&Provider>) -> Provider {
        let text = format!(
            "trust_domain = \"a\"\n[servers.ai]\nkind = \"llm\"\nurl = \"http://127.0.0.1:1/v1\"\n{text}"
        );
        let config = Config::parse(Path::new("t"), &text).unwrap();
        let (name, server) = config.servers.first_key_value().unwrap();
        Provider::new(name, server, &config.limits, before).unwrap()
    }

    fn agent() -> AgentName {
        AgentName::parse("writer").unwrap()
    }

    fn asked(provider: &Provider, model: &str) -> Vec<String> {
        let addresses = provider.for_model(model, &agent(), Instant::now());
        addresses.iter().map(|at| at.web.base_url()).collect()
    }

    #[test]
    fn each_address_is_asked_for_what_it_has() {
        let provider = provider(
            "[servers.ai.llm]\naliases = { fast = \"small-2026\" }\nmodels = [\"small*\"]\n\
             fallbacks = [{ url = \"http://127.0.0.1:2/v1\", aliases = { fast = \"tiny\" } }, \
             { url = \"http://127.0.0.1:3/v1\" }]",
            None,
        );
        let (one, two, three) = (
            "http://127.0.0.1:1/v1",
            "http://127.0.0.1:2/v1",
            "http://127.0.0.1:3/v1",
        );
        assert_eq!(asked(&provider, "fast"), [one, two, three]);
        assert_eq!(asked(&provider, "small-1"), [one, three]);
        assert_eq!(asked(&provider, "large"), [three]);
        assert_eq!(provider.addresses[0].name_of("fast"), "small-2026");
        assert_eq!(provider.addresses[1].name_of("fast"), "tiny");
        assert_eq!(provider.addresses[0].name_of("small-1"), "small-1");
    }

    #[test]
    fn who_fails_is_left_alone_for_a_while() {
        let provider = provider(
            "[servers.ai.llm]\nfailures = 2\ncool_down_seconds = 60\n\
             fallbacks = [{ url = \"http://127.0.0.1:2/v1\" }]",
            None,
        );
        let now = Instant::now();
        let first = &provider.addresses[0];
        for _ in 0..2 {
            assert!(first.may_be_asked(&agent(), now));
            first.failed(&agent(), now);
        }
        assert!(!first.may_be_asked(&agent(), now));
        assert!(first.may_be_asked(&agent(), now + Duration::from_secs(61)));
        assert_eq!(asked(&provider, "m"), ["http://127.0.0.1:2/v1"]);
        for _ in 0..2 {
            provider.addresses[1].failed(&agent(), now);
        }
        assert_eq!(
            asked(&provider, "m"),
            ["http://127.0.0.1:1/v1"],
            "one is always asked"
        );
        first.succeeded(&agent());
        assert!(first.may_be_asked(&agent(), now));
    }

    #[test]
    fn the_nearest_price_counts() {
        let provider = provider(
            "[servers.ai.llm.prices.\"*\"]\ninput_usd_per_million = 9\n\
             [servers.ai.llm.prices.\"gpt-4o*\"]\ninput_usd_per_million = 2.5\n\
             [servers.ai.llm.prices.\"gpt-4o\"]\ninput_usd_per_million = 5",
            None,
        );
        let price = |model| {
            provider
                .price(model)
                .unwrap()
                .input_usd_per_million
                .to_string()
        };
        assert_eq!(price("gpt-4o"), "5");
        assert_eq!(price("gpt-4o-mini"), "2.5");
        assert_eq!(price("other"), "9");
    }

    #[test]
    fn connections_outlive_changes_of_other_things() {
        let first = provider("", None);
        let again = provider("[servers.ai.llm]\nmax_output_tokens = 9", Some(&first));
        assert!(Arc::ptr_eq(
            &first.addresses[0].web,
            &again.addresses[0].web
        ));
    }

    #[test]
    fn credentials_are_presented_the_way_of_the_surface() {
        let plain = |header: &str, prefix: &str| Credential {
            header: header.to_owned(),
            prefix: prefix.to_owned(),
            value: model::config::Secret::Plain("k".to_owned()),
        };
        let openai = presented(plain("authorization", ""), Surface::OpenAi);
        assert_eq!(openai.prefix, "Bearer ");
        let anthropic = presented(plain("authorization", ""), Surface::Anthropic);
        assert_eq!(
            (anthropic.header.as_str(), anthropic.prefix.as_str()),
            ("x-api-key", "")
        );
        let own = presented(plain("api-key", ""), Surface::OpenAi);
        assert_eq!((own.header.as_str(), own.prefix.as_str()), ("api-key", ""));
    }
}
