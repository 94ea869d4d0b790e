//! A server.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::tls::Fingerprint;
use proxmox_api::{Client, ClientBuilder, Error, Secret, Value};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET, releases};
use serde_json::json;

use crate::answer::{Answer, Fit};
use crate::call::{Call, Words};

/// The simulator's root password. The client removes it from all texts, so it must not be a word
/// that occurs in them.
const PASSWORD: &str = "Simulated-root-8006";

/// The kind of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A simulator in this process, of that release.
    Simulator(Option<String>),
    /// The server of the environment variables `PROXMOX_…`.
    Environment,
    Url(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "simulator" => Ok(Self::Simulator(None)),
            None if text == "environment" => Ok(Self::Environment),
            Some(("simulator", release)) => match releases().contains(&release) {
                true => Ok(Self::Simulator(Some(release.to_owned()))),
                false => Err(format!(
                    "there is no simulator of release {release:?}; there are {}",
                    releases().join(", ")
                )),
            },
            Some(("https" | "http", rest)) if rest.starts_with("//") => {
                Ok(Self::Url(text.to_owned()))
            }
            _ => Err(format!(
                "{text:?} is not one of `simulator`, `simulator:9.2`, `environment`, `https://HOST:8006`"
            )),
        }
    }
}

/// The credentials and trust settings for an address.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Id and secret.
    pub token: Option<(String, Secret)>,
    /// User and password.
    pub password: Option<(String, Secret)>,
    pub fingerprint: Option<Fingerprint>,
    pub ca_file: Option<PathBuf>,
    /// Accepts any certificate.
    pub insecure: bool,
}

/// The names that calls use: the same on both servers.
#[derive(Clone, Debug)]
pub struct Names {
    pub node: Option<String>,
    pub storage: String,
    pub bridge: String,
    /// A container template; searched for by default.
    pub template: Option<String>,
    /// The prefix of all created objects.
    pub prefix: String,
    /// The numbers of created guests.
    pub vmids: std::ops::RangeInclusive<u32>,
}

impl Names {
    /// Whether an item of a list belongs to this run, by its identifying value.
    #[must_use]
    pub fn is_ours(&self, name: &str) -> bool {
        let vmid = |text: &str| {
            text.parse()
                .is_ok_and(|number: u32| self.vmids.contains(&number))
        };
        let bare = name
            .strip_prefix("custom-")
            .or_else(|| name.strip_prefix("PVE"))
            .unwrap_or(name);
        let guest = name
            .strip_prefix("vm:")
            .or_else(|| name.strip_prefix("ct:"))
            .unwrap_or(name);
        let job = name.split_once('-').map_or(name, |(guest, _)| guest);
        bare.starts_with(&self.prefix) || vmid(guest) || vmid(job)
    }

    /// Whether a text mentions an object of this run.
    #[must_use]
    pub fn in_text(&self, text: &str) -> bool {
        let number = |text: &str| {
            text.split(|c: char| !c.is_ascii_digit())
                .filter_map(|digits| digits.parse::<u32>().ok())
                .any(|number| self.vmids.contains(&number))
        };
        text.contains(&self.prefix) || number(text)
    }

    /// Whether a value mentions an object of this run.
    #[must_use]
    pub fn in_value(&self, json: &Value) -> bool {
        match json {
            Value::String(text) => self.in_text(text),
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .is_some_and(|number| self.vmids.contains(&number)),
            Value::Array(items) => items.iter().any(|item| self.in_value(item)),
            Value::Object(object) => object.values().any(|value| self.in_value(value)),
            Value::Null | Value::Bool(_) => false,
        }
    }
}

/// The caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// The configured login.
    #[default]
    Configured,
    /// A token without privileges, created for the run.
    Unprivileged,
}

/// A server to send calls to.
pub struct Server {
    /// Description for people.
    pub title: String,
    /// `9.2`.
    pub release: String,
    pub words: Words,
    place: Place,
    client: Client,
    nobody: Option<Client>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("title", &self.title)
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}

/// Settings of all clients of the server.
enum Place {
    Simulator(Box<Simulator>),
    Environment,
    Url(String, Access),
}

impl Place {
    /// A client without its login.
    fn builder(&self) -> Result<ClientBuilder, Error> {
        Ok(match self {
            Self::Simulator(simulator) => {
                let fingerprint = simulator
                    .fingerprint()
                    .parse()
                    .unwrap_or_else(|_| Fingerprint::of(&[]));
                Client::builder(simulator.url()).fingerprint(fingerprint)
            }
            Self::Environment => Client::builder_from_env()?,
            Self::Url(url, access) => {
                let mut builder = Client::builder(url).danger_accept_invalid_certs(access.insecure);
                if let Some(fingerprint) = access.fingerprint {
                    builder = builder.fingerprint(fingerprint);
                }
                if let Some(path) = &access.ca_file {
                    builder = builder.ca_file(path);
                }
                builder
            }
        }
        // Refusals are the subject, so the client must neither hold calls back nor repeat them.
        .check_token_access(false)
        .retry(RetryPolicy::none())
        .rate_limit(proxmox_api::client::limit::RateLimit::none())
        .timeout(Duration::from_secs(90)))
    }
}

impl Server {
    /// Connects, and determines the values of placeholders. A simulator takes its release, nodes
    /// and storages from `like`.
    ///
    /// # Errors The server is unreachable, refuses the login, or lacks an object in `names`; a text
    /// for people.
    pub async fn open(
        address: &Address,
        access: &Access,
        names: &Names,
        like: Option<&Server>,
    ) -> Result<Self, String> {
        let place = match address {
            Address::Simulator(release) => {
                Place::Simulator(Box::new(simulator(release.as_deref(), like).await?))
            }
            Address::Environment => Place::Environment,
            Address::Url(url) => Place::Url(url.clone(), access.clone()),
        };
        let builder = place.builder().map_err(|error| error.to_string())?;
        let builder = match (&place, &access.token, &access.password) {
            // With the same kind of login as the other server, because a ticket allows more.
            (Place::Simulator(_), _, Some(_)) => builder.password("root@pam", PASSWORD),
            (Place::Simulator(_), ..) => builder.api_token(TOKEN_ID, TOKEN_SECRET),
            (Place::Environment, ..) => builder,
            (_, Some((id, secret)), _) => builder.api_token(id, secret.clone()),
            (_, None, Some((user, password))) => builder.password(user, password.clone()),
            (Place::Url(url, _), None, None) => {
                return Err(format!(
                    "{url}: no login: set a token file, or a user and a password file"
                ));
            }
        };
        let client = builder.build().map_err(|error| error.to_string())?;
        let version = client
            .version()
            .get()
            .await
            .map_err(|error| format!("{}: {error}", client.url()))?;
        let title = match &place {
            Place::Simulator(simulator) => format!("simulator {}", simulator.release()),
            _ => format!("{} ({})", client.url(), version.version),
        };
        let mut server = Self {
            title,
            release: version.release,
            words: Words::new(),
            place,
            client,
            nobody: None,
        };
        server.look_around(names).await?;
        Ok(server)
    }

    /// Fills in placeholders.
    async fn look_around(&mut self, names: &Names) -> Result<(), String> {
        let nodes = self.list("/nodes").await?;
        let mut online: Vec<String> = nodes
            .iter()
            .filter(|node| node["status"] == "online")
            .filter_map(|node| Some(node["node"].as_str()?.to_owned()))
            .collect();
        online.sort();
        let node = match &names.node {
            Some(node) if !online.contains(node) => {
                return Err(format!(
                    "{}: node {node:?} is not online; there are {}",
                    self.title,
                    online.join(", ")
                ));
            }
            Some(node) => node.clone(),
            None => online
                .first()
                .cloned()
                .ok_or_else(|| format!("{}: no node is online", self.title))?,
        };
        let other = online.into_iter().find(|name| *name != node);
        let storage = &names.storage;
        let volumes = self
            .list(&format!("/nodes/{node}/storage/{storage}/content"))
            .await
            .map_err(|error| format!("storage {storage:?}: {error}"))?;
        let first = |content: &str| {
            let mut ids: Vec<&str> = volumes
                .iter()
                .filter(|volume| volume["content"] == content)
                .filter_map(|volume| volume["volid"].as_str())
                .collect();
            ids.sort_unstable();
            ids.first().map(|id| (*id).to_owned())
        };
        let template = names.template.clone().or_else(|| first("vztmpl"));
        let iso = first("iso");
        let mut words = Words::from([
            ("node".to_owned(), node),
            ("storage".to_owned(), storage.clone()),
            ("bridge".to_owned(), names.bridge.clone()),
            ("p".to_owned(), names.prefix.clone()),
        ]);
        for (word, value) in [("other", other), ("template", template), ("iso", iso)] {
            words.extend(value.map(|value| (word.to_owned(), value)));
        }
        for (number, vmid) in names.vmids.clone().enumerate() {
            words.insert(format!("vm{}", number + 1), vmid.to_string());
        }
        self.words = words;
        Ok(())
    }

    /// The items of a list.
    ///
    /// # Errors Those of every request, as text; the answer is not a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, String> {
        let request = self
            .client
            .request(proxmox_api::value::endpoint::Method::Get, path);
        match self.client.send(request).await {
            Ok(Value::Array(items)) => Ok(items),
            Ok(_) => Err(format!("GET {path}: no list")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Nodes and storages for a simulator like this server.
    async fn outline(&self) -> Result<(Vec<String>, Vec<Value>), String> {
        let nodes = self.list("/nodes").await?;
        let mut nodes: Vec<String> = nodes
            .iter()
            .filter_map(|node| Some(node["node"].as_str()?.to_owned()))
            .collect();
        // The first node is the connected one.
        nodes.sort_by_key(|name| (self.words.get("node") != Some(name), name.clone()));
        Ok((nodes, self.list("/storage").await?))
    }

    /// Sends calls of [`Caller::Unprivileged`] with this token.
    ///
    /// # Errors The client cannot be built.
    pub fn set_nobody(&mut self, id: &str, secret: &str) -> Result<(), String> {
        let builder = self.place.builder().map_err(|error| error.to_string())?;
        let client = builder
            .api_token(id, secret)
            .build()
            .map_err(|error| error.to_string())?;
        self.nobody = Some(client);
        Ok(())
    }

    /// Sends a call with filled placeholders, and waits for its task.
    pub async fn send(&self, call: &Call, caller: Caller, patience: Duration) -> Answer {
        let client = match caller {
            Caller::Configured => &self.client,
            Caller::Unprivileged => self.nobody.as_ref().unwrap_or(&self.client),
        };
        let mut request = client.request(call.method, call.path.as_str());
        let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &call.params {
            params.entry(name).or_default().push(value);
        }
        for (name, mut values) in params {
            request = match values.len() {
                1 => request.param(name, values.remove(0)),
                _ => request.param(name, values),
            };
        }
        let method = call.method.to_string();
        let mut answer = match request.with_envelope().await {
            Ok(found) => {
                let mut body = found.extra;
                body.insert("data".to_owned(), found.data);
                body.extend(found.total.map(|total| ("total".to_owned(), json!(total))));
                body.extend(
                    found
                        .changes
                        .map(|text| ("changes".to_owned(), json!(text))),
                );
                Answer {
                    status: Some(200),
                    body: Some(body.into()),
                    ..Answer::default()
                }
            }
            Err(Error::Api(error)) => Answer {
                status: Some(error.status()),
                message: error.message().to_owned(),
                errors: error.errors().clone(),
                ..Answer::default()
            },
            // A file instead of JSON.
            Err(Error::Decode(_)) => Answer {
                status: Some(200),
                ..Answer::default()
            },
            Err(error) => Answer {
                message: error.to_string(),
                ..Answer::default()
            },
        };
        answer.fit = Fit::of(&method, &call.path, answer.body.as_ref());
        if let Some(upid) = upid(&answer) {
            let wait = client
                .task(upid)
                .wait()
                .poll_interval(Duration::from_millis(100));
            answer.task = Some(match wait.timeout(patience).await {
                Ok(outcome) => format!("{outcome:?}"),
                Err(Error::Task(error)) => error.to_string(),
                Err(error) => error.to_string(),
            });
        }
        answer
    }
}

/// The task in an answer.
fn upid(answer: &Answer) -> Option<proxmox_api::value::upid::Upid> {
    answer.body.as_ref()?.get("data")?.as_str()?.parse().ok()
}

async fn simulator(release: Option<&str>, like: Option<&Server>) -> Result<Simulator, String> {
    let known = releases();
    let newest = known.last().copied().unwrap_or_default();
    let release = release
        .or_else(|| {
            like.map(|like| like.release.as_str())
                .filter(|r| known.contains(r))
        })
        .unwrap_or(newest);
    let mut builder = Simulator::builder()
        .release(release)
        .time_factor(0.01)
        .user("root@pam", PASSWORD);
    let Some(like) = like else {
        let builder = builder.node("pve1").node("pve2");
        return builder.start().await.map_err(|error| error.to_string());
    };
    let (nodes, storages) = like.outline().await?;
    for node in nodes {
        builder = builder.node(node);
    }
    for storage in &storages {
        let text = |name: &str| storage[name].as_str().unwrap_or_default();
        let content: Vec<&str> = text("content")
            .split(',')
            .filter(|c| !c.is_empty())
            .collect();
        builder = builder.storage(text("storage"), text("type"), &content, 100 << 30);
    }
    builder.start().await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_determines_the_kind_of_server() {
        let read = |text: &str| text.parse::<Address>();
        assert_eq!(read("simulator"), Ok(Address::Simulator(None)));
        assert_eq!(
            read("simulator:8.4"),
            Ok(Address::Simulator(Some("8.4".into())))
        );
        assert_eq!(read("environment"), Ok(Address::Environment));
        assert_eq!(
            read("https://pve1:8006"),
            Ok(Address::Url("https://pve1:8006".into()))
        );
        assert!(
            read("simulator:1.0")
                .is_err_and(|error| error.contains(proxmox_simulator::newest_release()))
        );
        assert!(read("pve1").is_err());
    }

    fn names() -> Names {
        Names {
            node: None,
            storage: "local".into(),
            bridge: "vmbr0".into(),
            template: None,
            prefix: "dfr".into(),
            vmids: 9000..=9009,
        }
    }

    #[test]
    fn only_objects_of_the_run_are_removed() {
        let names = names();
        for name in [
            "9000",
            "vm:9009",
            "ct:9001",
            "9001-0",
            "dfr-a@pve",
            "PVEdfr",
            "custom-dfr",
            "dfrz",
        ] {
            assert!(names.is_ours(name), "{name}");
        }
        for other in [
            "100",
            "vm:100",
            "19000",
            "100-9001",
            "web-dfr",
            "local",
            "PVEAdmin",
            "vzdump-9001",
        ] {
            assert!(!names.is_ours(other), "{other}");
        }
    }

    #[test]
    fn objects_of_the_run_are_recognized_by_number_and_prefix() {
        let names = names();
        assert!(names.in_value(&json!({ "vmid": 9001 })));
        assert!(names.in_value(&json!([{ "id": "qemu/9009" }])));
        assert!(names.in_value(&json!({ "name": "dfr-web" })));
        assert!(!names.in_value(&json!({ "vmid": 100, "name": "web", "size": 90_000 })));
    }
}
