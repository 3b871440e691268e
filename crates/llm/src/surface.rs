//! What of the providers' HTTP APIs there is here. Everything else is refused.

use http::Method;
use model::config::Surface;

/// One operation of a provider's HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI, `POST /v1/chat/completions`.
    Chat,
    /// OpenAI, `POST /v1/responses`.
    Responses,
    /// OpenAI, `POST /v1/completions`.
    Completions,
    /// OpenAI, `POST /v1/embeddings`.
    Embeddings,
    /// Anthropic, `POST /v1/messages`.
    Messages,
    /// Anthropic, `POST /v1/messages/count_tokens`.
    CountTokens,
    /// Both, `GET /v1/models`.
    Models,
}

/// Every operation, with the surface that it is of.
const ALL: [(Surface, Api); 8] = [
    (Surface::OpenAi, Api::Chat),
    (Surface::OpenAi, Api::Responses),
    (Surface::OpenAi, Api::Completions),
    (Surface::OpenAi, Api::Embeddings),
    (Surface::OpenAi, Api::Models),
    (Surface::Anthropic, Api::Messages),
    (Surface::Anthropic, Api::CountTokens),
    (Surface::Anthropic, Api::Models),
];

impl Api {
    /// The operation at a path behind the server's, from its `/` on. Only the one spelling is taken.
    #[must_use]
    pub fn find(surface: Surface, method: &Method, rest: &str) -> Option<Self> {
        let there = |api: &Self| api.path() == rest && *method == api.method();
        let own = ALL.iter().filter(|(of, _)| *of == surface);
        own.map(|(_, api)| *api).find(there)
    }

    /// The HTTP method.
    #[must_use]
    pub fn method(self) -> Method {
        match self {
            Self::Models => Method::GET,
            _ => Method::POST,
        }
    }

    /// The path as both surfaces document it.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::Models => "/v1/models",
        }
    }

    /// The path behind an address of a provider, which is its SDK's base URL: with `/v1` at OpenAI, and
    /// without it at Anthropic.
    #[must_use]
    pub fn path_behind(self, surface: Surface) -> &'static str {
        let path = self.path();
        match surface {
            Surface::OpenAi => path.strip_prefix("/v1").unwrap_or(path),
            Surface::Anthropic => path,
        }
    }

    /// What records call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "POST /v1/chat/completions",
            Self::Responses => "POST /v1/responses",
            Self::Completions => "POST /v1/completions",
            Self::Embeddings => "POST /v1/embeddings",
            Self::Messages => "POST /v1/messages",
            Self::CountTokens => "POST /v1/messages/count_tokens",
            Self::Models => "GET /v1/models",
        }
    }

    /// Whether a model writes something, so that the answer may be long, and may come as a stream.
    #[must_use]
    pub fn generates(self) -> bool {
        matches!(
            self,
            Self::Chat | Self::Responses | Self::Completions | Self::Messages
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_surface_has_its_own_and_nothing_else() {
        let find = |surface, method: &Method, path| Api::find(surface, method, path);
        let (openai, anthropic) = (Surface::OpenAi, Surface::Anthropic);
        assert_eq!(
            find(openai, &Method::POST, "/v1/chat/completions"),
            Some(Api::Chat)
        );
        assert_eq!(
            find(anthropic, &Method::POST, "/v1/messages"),
            Some(Api::Messages)
        );
        for (surface, method, path) in [
            (openai, &Method::POST, "/v1/messages"),
            (anthropic, &Method::POST, "/v1/chat/completions"),
            (openai, &Method::GET, "/v1/chat/completions"),
            (openai, &Method::POST, "/v1/models"),
            (openai, &Method::POST, "/v1/chat/completions/"),
            (openai, &Method::POST, "/v1//chat/completions"),
            (openai, &Method::POST, "/v1/chat%2fcompletions"),
            (openai, &Method::POST, "/chat/completions"),
            (openai, &Method::POST, "/v1/files"),
            (openai, &Method::GET, ""),
        ] {
            assert_eq!(find(surface, method, path), None, "{method} {path}");
        }
    }
}
