//! The tree of paths and its methods.

use super::import::Import;
use super::keys::Position;
use crate::facts::{Additional, Endpoint, Method, Parameters, ProxyTo, Schema, Type};
use crate::json::{Json, point};
use crate::product::Dialect;

impl Import {
    pub(super) fn node(&mut self, at: &str, json: &Json) {
        let members = self.members(at, json);
        let mut path = None;
        for &(key, value) in &members {
            let at = point(at, key);
            match key {
                "path" => path = self.string(&at, value),
                "text" => {
                    self.string(&at, value);
                }
                "leaf" => {
                    self.flag(&at, value);
                }
                "expanded" if self.dialect == Dialect::Rust => {
                    self.flag(&at, value);
                }
                "info" | "children" => {}
                _ => self.unknown(&at, key, "on a path node"),
            }
        }
        let Some(path) = path else {
            if matches!(json, Json::Object(_)) && !members.iter().any(|(key, _)| *key == "path") {
                self.problem(at, "the key \"path\" is missing");
            }
            return;
        };
        if !path.starts_with('/') {
            self.problem(
                &point(at, "path"),
                format!("the path {path:?} does not begin with a slash"),
            );
        }
        for &(key, value) in &members {
            let at = point(at, key);
            match key {
                "info" => {
                    self.endpoint = Some(path.to_owned());
                    for (verb, method) in self.members(&at, value) {
                        self.endpoint = Some(path.to_owned());
                        self.verb(&point(&at, verb), path, verb, method);
                    }
                    self.endpoint = None;
                }
                "children" => {
                    for (n, child) in self.array(&at, value).iter().enumerate() {
                        self.node(&point(&at, n), child);
                    }
                }
                _ => {}
            }
        }
    }

    fn verb(&mut self, at: &str, path: &str, verb: &str, json: &Json) {
        let method: Method = match verb.parse() {
            Ok(method) => method,
            Err(message) => return self.problem(at, message),
        };
        self.endpoint = Some(format!("{verb} {path}"));
        if self
            .endpoints
            .get(path)
            .is_some_and(|methods| methods.contains_key(&method))
        {
            return self.problem("", "the method is defined twice");
        }
        let endpoint = self.method(verb, json);
        self.endpoints
            .entry(path.to_owned())
            .or_default()
            .insert(method, endpoint);
    }

    fn method(&mut self, verb: &str, json: &Json) -> Endpoint {
        let perl = self.dialect == Dialect::Perl;
        let mut endpoint = Endpoint {
            name: None,
            protected: false,
            proxyto: None,
            allowtoken: true,
            download: false,
            upload: false,
            unstable: false,
            expose_credentials: false,
            permissions: None,
            parameters: Parameters::default(),
            returns: Schema::default(),
        };
        let members = self.members("", json);
        for &(key, value) in &members {
            let at = &point("", key);
            match key {
                "description" => {
                    self.string(at, value);
                }
                "method" => match (self.string(at, value), verb) {
                    (None, _) => {}
                    (Some(name), verb) if name == verb => {}
                    (Some("DOWNLOAD"), "GET") if !perl => endpoint.download = true,
                    (Some("UPLOAD"), "POST") if !perl => endpoint.upload = true,
                    _ => self.expected(at, &format!("{verb:?}"), value),
                },
                "parameters" => endpoint.parameters = self.parameters(at, value),
                "returns" => endpoint.returns = self.schema(at, value, Position::Returns),
                "permissions" => endpoint.permissions = Some(self.permissions(at, value)),
                "unstable" => endpoint.unstable = self.flag(at, value),
                "name" if perl => endpoint.name = self.owned(at, value),
                "allowtoken" if perl => endpoint.allowtoken = self.flag(at, value),
                "protected" if perl => endpoint.protected = self.flag(at, value),
                key if self.product.download.contains(&key) => {
                    endpoint.download = self.flag(at, value);
                }
                "expose_credentials" if perl => endpoint.expose_credentials = self.flag(at, value),
                "proxyto" if perl => {
                    endpoint.proxyto = match value {
                        Json::Null => Some(ProxyTo::NoNode),
                        value => self.owned(at, value).map(ProxyTo::Parameter),
                    };
                }
                _ => self.unknown(at, key, "on a method"),
            }
        }
        let required: &[&str] = match self.dialect {
            Dialect::Perl => &["method", "name", "allowtoken", "parameters", "returns"],
            Dialect::Rust => &["method", "parameters", "returns"],
        };
        if matches!(json, Json::Object(_)) {
            for key in required {
                if !members.iter().any(|(known, _)| known == key) {
                    self.problem("", format!("the key {key:?} is missing"));
                }
            }
        }
        endpoint
    }

    fn parameters(&mut self, at: &str, json: &Json) -> Parameters {
        let schema = self.schema(at, json, Position::Parameters);
        if !matches!(schema.ty, None | Some(Type::Object)) {
            self.problem(&point(at, "type"), "parameters have to be an object");
        }
        Parameters {
            additional: match schema.additional {
                None => None,
                Some(Additional::Allowed(allowed)) => Some(allowed),
                Some(Additional::Schema(_)) => {
                    self.problem(
                        &point(at, "additionalProperties"),
                        "expected a flag (0 or 1), found an object",
                    );
                    None
                }
            },
            properties: schema.properties.unwrap_or_default(),
        }
    }
}
