//! The endpoints of an API, and which one a request is for.

use std::collections::HashMap;

use crate::path;

/// The methods that a route can have: those of HTTP that do not concern the connection, and the word for
/// an upgrade to WebSocket.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", WEBSOCKET,
];
/// The method of an upgrade to WebSocket.
pub(crate) const WEBSOCKET: &str = "WEBSOCKET";

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    method: String,
    segments: Vec<Segment>,
    /// Parameters whose values are numbers, as `path.NAME` or `query.NAME`.
    pub(crate) numbers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

/// Why something is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// It is not a method and a path.
    #[error("`{0}` is not a method and a path, such as `GET /customers/{{id}}`")]
    Form(String),
    /// The method is none that can be granted.
    #[error("`{0}` is not a method that can be granted")]
    Method(String),
    /// The path could be read in two ways.
    #[error("`{0}`: {1}")]
    Path(String, path::Ambiguous),
    /// A parameter is only a part of its segment, or has no name, or occurs twice.
    #[error("`{0}` has a parameter that is not a whole segment, or has no name of its own")]
    Parameter(String),
}

impl Route {
    /// Reads `METHOD /path/{parameter}`.
    ///
    /// # Errors
    /// [`NoRoute`]
    pub fn parse(text: &str) -> Result<Self, NoRoute> {
        let (method, path) = text
            .split_once(' ')
            .ok_or_else(|| NoRoute::Form(text.to_owned()))?;
        if !METHODS.contains(&method) {
            return Err(NoRoute::Method(method.to_owned()));
        }
        let wrong = || NoRoute::Parameter(text.to_owned());
        let rest = path
            .strip_prefix('/')
            .ok_or_else(|| NoRoute::Form(text.to_owned()))?;
        let mut segments: Vec<Segment> = Vec::new();
        for written in rest.split('/') {
            let named = written
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            let segment = match named {
                Some(name) => {
                    let again = Segment::Parameter(name.to_owned());
                    if name.is_empty()
                        || name.contains(['{', '}', '.'])
                        || segments.contains(&again)
                    {
                        return Err(wrong());
                    }
                    again
                }
                None if written.contains(['{', '}']) => return Err(wrong()),
                None => {
                    let decoded = path::segments(&format!("/{written}"))
                        .map_err(|why| NoRoute::Path(text.to_owned(), why))?;
                    Segment::Literal(decoded.into_iter().next().unwrap_or_default())
                }
            };
            segments.push(segment);
        }
        // An empty segment in the middle, which no request can have.
        if segments[..segments.len() - 1].contains(&Segment::Literal(String::new())) {
            return Err(NoRoute::Path(text.to_owned(), path::Ambiguous::Empty));
        }
        Ok(Self {
            method: method.to_owned(),
            segments,
            numbers: Vec::new(),
        })
    }

    /// How it is written in grants, policies and records.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = format!("{} ", self.method);
        for segment in &self.segments {
            name.push('/');
            match segment {
                Segment::Literal(text) => name.push_str(text),
                Segment::Parameter(parameter) => {
                    name.push('{');
                    name.push_str(parameter);
                    name.push('}');
                }
            }
        }
        name
    }

    /// The names of its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Literals first, from the left: the order in which routes are tried.
    fn rank(&self) -> Vec<bool> {
        let parameter = |segment: &Segment| matches!(segment, Segment::Parameter(_));
        self.segments.iter().map(parameter).collect()
    }

    fn fit(&self, segments: &[String]) -> Fit {
        let mut exact = true;
        for (own, given) in self.segments.iter().zip(segments) {
            match own {
                Segment::Literal(literal) if literal == given => {}
                Segment::Literal(literal) if literal.to_lowercase() == given.to_lowercase() => {
                    exact = false;
                }
                Segment::Literal(_) => return Fit::Not,
                // An empty value is no value.
                Segment::Parameter(_) if given.is_empty() => return Fit::Not,
                Segment::Parameter(_) => {}
            }
        }
        if exact { Fit::Is } else { Fit::AllButCase }
    }
}

enum Fit {
    Is,
    /// It would be this one for a server that does not tell small and capital letters apart.
    AllButCase,
    Not,
}

/// What a request's path was found to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// This endpoint, with the values of its parameters.
    Route(&'a Route, Vec<(&'a str, String)>),
    /// Another endpoint for servers that do not tell small and capital letters apart.
    Case,
    /// None.
    Nothing,
}

/// All endpoints of an API.
#[derive(Debug, Default)]
pub struct Routes {
    /// By method and number of segments, literals first.
    by_shape: HashMap<(String, usize), Vec<Route>>,
    count: usize,
}

impl Routes {
    /// Puts routes together; one that is there already is left out.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut all = Self::default();
        for route in routes {
            let shape = (route.method.clone(), route.segments.len());
            let same = all.by_shape.entry(shape).or_default();
            if !same.iter().any(|known| known.name() == route.name()) {
                all.count += 1;
                same.push(route);
            }
        }
        for same in all.by_shape.values_mut() {
            same.sort_by_key(Route::rank);
        }
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.by_shape.values().flatten().map(Route::name)
    }

    /// The endpoint that a request is for.
    #[must_use]
    pub fn find<'a>(&'a self, method: &str, segments: &[String]) -> Found<'a> {
        let shape = (method.to_owned(), segments.len());
        let same = self.by_shape.get(&shape).map_or(&[][..], Vec::as_slice);
        for route in same {
            match route.fit(segments) {
                Fit::Is => {
                    let values = route.segments.iter().zip(segments);
                    let values = values.filter_map(|(segment, value)| match segment {
                        Segment::Parameter(name) => Some((name.as_str(), value.clone())),
                        Segment::Literal(_) => None,
                    });
                    return Found::Route(route, values.collect());
                }
                Fit::AllButCase => return Found::Case,
                Fit::Not => {}
            }
        }
        Found::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let written = [
            "GET /customers/{id}",
            "GET /customers/me",
            "POST /customers",
            "GET /customers/{id}/orders/{order}",
            "WEBSOCKET /feed",
            "GET /",
            "GET /list/",
        ];
        Routes::new(written.map(|text| Route::parse(text).unwrap()))
    }

    fn find(method: &str, path: &str) -> Option<(String, Vec<String>)> {
        match routes().find(method, &path::segments(path).unwrap()) {
            Found::Route(route, values) => {
                let values = values.into_iter().map(|(_, value)| value).collect();
                Some((route.name(), values))
            }
            Found::Case | Found::Nothing => None,
        }
    }

    #[test]
    fn each_request_is_for_one_endpoint_and_literals_come_first() {
        let found = |name: &str, values: &[&str]| {
            let values = values.iter().map(|&value| value.to_owned()).collect();
            Some((name.to_owned(), values))
        };
        assert_eq!(
            find("GET", "/customers/17"),
            found("GET /customers/{id}", &["17"])
        );
        assert_eq!(
            find("GET", "/customers/me"),
            found("GET /customers/me", &[])
        );
        assert_eq!(find("GET", "/"), found("GET /", &[]));
        assert_eq!(find("GET", "/list/"), found("GET /list/", &[]));
        assert_eq!(
            find("GET", "/customers/17/orders/%20"),
            found("GET /customers/{id}/orders/{order}", &["17", " "])
        );
        for (method, path) in [
            ("DELETE", "/customers/17"),
            ("GET", "/customers"),
            ("GET", "/customers/17/"),
            ("GET", "/customers/"),
            ("GET", "/list"),
            ("HEAD", "/customers/17"),
            ("GET", "/feed"),
        ] {
            assert_eq!(find(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn another_spelling_of_a_literal_is_not_a_value() {
        let routes = routes();
        let segments = path::segments("/customers/ME").unwrap();
        assert_eq!(routes.find("GET", &segments), Found::Case);
    }

    #[test]
    fn what_is_no_route_says_why() {
        for text in ["GET", "get /a", "TRACE /a", "CONNECT a:1", "GET a"] {
            assert!(Route::parse(text).is_err(), "{text}");
        }
        for text in ["GET /{a}.json", "GET /{}", "GET /{a}/{a}", "GET /a{b"] {
            assert!(
                matches!(Route::parse(text), Err(NoRoute::Parameter(_))),
                "{text}"
            );
        }
        for text in ["GET /a//b", "GET /../a", "GET /a;b"] {
            assert!(
                matches!(Route::parse(text), Err(NoRoute::Path(..))),
                "{text}"
            );
        }
    }
}
