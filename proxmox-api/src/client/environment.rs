//! A client from environment variables.

use super::auth::ApiToken;
use super::builder::ClientBuilder;
use super::state::Client;
use crate::error::Error;

impl Client {
    /// A client from environment variables.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `PROXMOX_HOST` | the server, as for [`Client::builder`]; required. Further nodes after a comma, as for [`ClientBuilder::host`] |
    /// | `PROXMOX_PORT` | its port, if `PROXMOX_HOST` names none; 8006 |
    /// | `PROXMOX_API_TOKEN` | an API token with its secret, as for [`ClientBuilder::api_token_text`] |
    /// | `PROXMOX_USERNAME` | `user@realm` |
    /// | `PROXMOX_TOKEN_ID` | an API token: its name alone, or `user@realm!name` |
    /// | `PROXMOX_TOKEN_SECRET` | the token's secret |
    /// | `PROXMOX_PASSWORD` | the password, where no token is given; white space is part of it |
    /// | `PROXMOX_NODE` | what [`Client::default_node`] returns |
    /// | `PROXMOX_FINGERPRINT` | SHA-256 fingerprint of the server's certificate |
    /// | `PROXMOX_CA_FILE` | PEM file with a further certificate authority |
    /// | `PROXMOX_INSECURE` | `1` accepts any certificate |
    ///
    /// An empty variable counts as absent.
    ///
    /// # Errors
    /// [`Error::Config`] if a variable is missing, does not parse or contradicts another.
    pub fn from_env() -> Result<Self, Error> {
        Self::builder_from_env()?.build()
    }

    /// Like [`Client::from_env`], as a builder for further settings.
    ///
    /// # Errors
    /// [`Error::Config`] if a variable is missing, does not parse or contradicts another.
    pub fn builder_from_env() -> Result<ClientBuilder, Error> {
        from_variables(&|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Error::config(format!("{name} is not UTF-8")))
            }
        })
    }
}

type Variables<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Error>;

pub(super) fn from_variables(read: Variables<'_>) -> Result<ClientBuilder, Error> {
    let exact = |name: &str| read(name).map(|value| value.filter(|value| !value.is_empty()));
    let read = |name: &str| -> Result<Option<String>, Error> {
        let value = exact(name)?.map(|value| value.trim().to_owned());
        Ok(value.filter(|value| !value.is_empty()))
    };
    let host = read("PROXMOX_HOST")?.ok_or_else(|| Error::config("PROXMOX_HOST is not set"))?;
    let mut hosts = host
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty());
    let mut builder = Client::builder(hosts.next().unwrap_or_default());
    for host in hosts {
        builder = builder.host(host);
    }
    if let Some(port) = read("PROXMOX_PORT")? {
        let port = port
            .parse()
            .map_err(|_| Error::config(format!("PROXMOX_PORT {port:?} is not a port")))?;
        builder.port = Some(port);
    }
    let user = read("PROXMOX_USERNAME")?;
    let secret = read("PROXMOX_TOKEN_SECRET")?;
    let password = exact("PROXMOX_PASSWORD")?;
    if password
        .as_deref()
        .is_some_and(|password| password.ends_with(['\n', '\r']))
    {
        return Err(Error::config(
            "PROXMOX_PASSWORD ends with a line break; remove it",
        ));
    }
    if let Some(text) = read("PROXMOX_API_TOKEN")? {
        for (name, value) in [
            ("PROXMOX_TOKEN_ID", read("PROXMOX_TOKEN_ID")?),
            ("PROXMOX_TOKEN_SECRET", secret.clone()),
        ] {
            if value.is_some() {
                return Err(Error::config(format!(
                    "PROXMOX_API_TOKEN holds id and secret, but {name} is set too; unset one of them"
                )));
            }
        }
        let token: ApiToken =
            (text.parse()).map_err(|error| Error::config(format!("PROXMOX_API_TOKEN: {error}")))?;
        if user.as_ref().is_some_and(|user| user != token.user()) {
            return Err(Error::config(
                "PROXMOX_API_TOKEN belongs to another user than PROXMOX_USERNAME; unset one of them",
            ));
        }
        builder = builder.api_token_text(text);
        return with_connection_settings(builder, &read);
    }
    match (read("PROXMOX_TOKEN_ID")?, secret) {
        (Some(id), Some(secret)) => builder = builder.api_token(token_id(id, user)?, secret),
        (Some(_), None) => {
            return Err(Error::config(
                "PROXMOX_TOKEN_ID is set, but PROXMOX_TOKEN_SECRET is not",
            ));
        }
        (None, Some(_)) => {
            return Err(Error::config(
                "PROXMOX_TOKEN_SECRET is set, but PROXMOX_TOKEN_ID is not",
            ));
        }
        (None, None) => match (user, password) {
            (Some(user), Some(password)) => builder = builder.password(user, password),
            (Some(_), None) => {
                return Err(Error::config(
                    "PROXMOX_USERNAME is set, but neither PROXMOX_TOKEN_ID nor PROXMOX_PASSWORD is",
                ));
            }
            (None, Some(_)) => {
                return Err(Error::config(
                    "PROXMOX_PASSWORD is set, but PROXMOX_USERNAME is not",
                ));
            }
            (None, None) => {
                return Err(Error::config(
                    "no credentials: set PROXMOX_API_TOKEN to user@realm!name=secret, or PROXMOX_USERNAME and PROXMOX_PASSWORD",
                ));
            }
        },
    }
    with_connection_settings(builder, &read)
}

/// The variables that do not concern credentials.
fn with_connection_settings(
    mut builder: ClientBuilder,
    read: Variables<'_>,
) -> Result<ClientBuilder, Error> {
    if let Some(text) = read("PROXMOX_FINGERPRINT")? {
        let pin = text
            .parse()
            .map_err(|error| Error::config(format!("PROXMOX_FINGERPRINT: {error}")))?;
        builder = builder.fingerprint(pin);
    }
    if let Some(path) = read("PROXMOX_CA_FILE")? {
        builder = builder.ca_file(path);
    }
    match read("PROXMOX_INSECURE")?.as_deref() {
        Some("1" | "true" | "yes" | "on") => builder = builder.danger_accept_invalid_certs(true),
        None | Some("0" | "false" | "no" | "off") => {}
        Some(_) => return Err(Error::config("PROXMOX_INSECURE must be 0 or 1")),
    }
    builder.node = read("PROXMOX_NODE")?;
    Ok(builder)
}

fn token_id(id: String, user: Option<String>) -> Result<String, Error> {
    match (id.split_once('!'), user) {
        (None, None) => Err(Error::config(
            "PROXMOX_TOKEN_ID has no user and PROXMOX_USERNAME is not set",
        )),
        (None, Some(user)) => Ok(format!("{user}!{id}")),
        (Some((owner, _)), Some(user)) if owner != user => Err(Error::config(
            "PROXMOX_TOKEN_ID belongs to another user than PROXMOX_USERNAME; unset one of them",
        )),
        (Some(_), _) => Ok(id),
    }
}
