//! API tokens in their text form.

use std::fmt;
use std::str::FromStr;

use super::texts::check_user;
use crate::value::Secret;
use crate::value::product::PVE;

/// An API token: its id and its secret.
///
/// Parses the text that goes into the `Authorization` header, with or without the word before it:
///
/// ```
/// use proxmox_api::client::auth::ApiToken;
///
/// let text = "PVEAPIToken=root@pam!ci=12345678-1234-1234-1234-123456789abc";
/// let token: ApiToken = text.parse()?;
/// assert_eq!(token.id(), "root@pam!ci");
/// # Ok::<(), proxmox_api::client::auth::ApiTokenError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    id: String,
    secret: Secret,
}

impl ApiToken {
    /// A token from its id, `user@realm!name`, and its secret.
    ///
    /// # Errors
    /// The problem with either, and how to fix it. No part of them is repeated.
    pub fn new(id: impl Into<String>, secret: impl Into<Secret>) -> Result<Self, ApiTokenError> {
        let (id, secret) = (id.into(), secret.into());
        check_id(&id)?;
        check_secret(secret.expose())?;
        Ok(Self { id, secret })
    }

    /// `user@realm!name`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The user it belongs to, as `user@realm`.
    #[must_use]
    pub fn user(&self) -> &str {
        self.id.split('!').next().unwrap_or_default()
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

fn check_id(id: &str) -> Result<(), ApiTokenError> {
    let wrong = |what| Err(ApiTokenError(what));
    if id.is_empty() {
        return wrong("its id is empty; the form is user@realm!name");
    }
    if id.starts_with("PVEAPIToken") {
        return wrong(
            "its id starts with PVEAPIToken, which belongs to the header; leave that out",
        );
    }
    if id.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("its id contains white space; remove it");
    }
    if id.contains('=') {
        return wrong("its id contains the secret; the id is the part before the =");
    }
    let mut parts = id.split('!');
    let (user, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(user), Some(name), None) => (user, name),
        (_, Some(_), Some(_)) => {
            return wrong("its id has more than one !; the form is user@realm!name");
        }
        _ => return wrong("its id has no !; the form is user@realm!name"),
    };
    if check_user(user).is_err() {
        return wrong("its id has no user with a realm before the !; the form is user@realm!name");
    }
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !starts || !name.chars().all(usable) {
        return wrong(
            "the name after the ! has to be a letter followed by letters, digits, dots, - and _",
        );
    }
    Ok(())
}

fn check_secret(secret: &str) -> Result<(), ApiTokenError> {
    let wrong = |what| Err(ApiTokenError(what));
    if secret.is_empty() {
        return wrong("its secret is empty");
    }
    if secret.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("its secret contains white space, maybe the line end of a file; remove it");
    }
    if secret.contains('!') || secret.contains("PVEAPIToken") {
        return wrong("its secret contains the id; the secret is the part after the =");
    }
    Ok(())
}

impl FromStr for ApiToken {
    type Err = ApiTokenError;

    fn from_str(text: &str) -> Result<Self, ApiTokenError> {
        let text = text.trim();
        let text = text.strip_prefix("Authorization:").unwrap_or(text).trim();
        let text = text.strip_prefix(PVE.token).unwrap_or(text);
        let Some((id, secret)) = text.split_once(PVE.token_separator) else {
            return Err(ApiTokenError(
                "it has no = between id and secret; the form is user@realm!name=secret",
            ));
        };
        Self::new(id, secret)
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({}, …)", self.id)
    }
}

/// The problem with an API token. Shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiTokenError(&'static str);

impl fmt::Display for ApiTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the API token cannot be used: {}", self.0)
    }
}

impl std::error::Error for ApiTokenError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::Client;

    const UUID: &str = "b81d1f5b-433c-4e7f-9c0e-0123456789ab";

    #[test]
    fn usual_spellings_of_a_token_are_accepted() {
        for text in [
            format!("root@pam!ci={UUID}"),
            format!("PVEAPIToken=root@pam!ci={UUID}"),
            format!("Authorization: PVEAPIToken=root@pam!ci={UUID}\n"),
        ] {
            let token: ApiToken = text.parse().expect("it is a token");
            assert_eq!((token.id(), token.user()), ("root@pam!ci", "root@pam"));
            assert_eq!(token.secret().expose(), UUID);
            assert_eq!(format!("{token:?}"), "ApiToken(root@pam!ci, …)");
            let client = Client::builder("pve1").api_token_text(text).build();
            assert_eq!(client.expect("it builds").user(), Some("root@pam!ci"));
        }
    }

    #[test]
    fn errors_say_how_to_fix_a_token_and_do_not_quote_it() {
        let doubled = format!("root@pam!ci={UUID}");
        let header = format!("PVEAPIToken={doubled}");
        let line = format!("{UUID}\n");
        let slips = [
            (doubled.as_str(), "", "contains the secret"),
            (&doubled, UUID, "contains the secret"),
            ("root@pam!ci", &doubled, "contains the id"),
            ("root@pam!ci", &header, "contains the id"),
            (&header, UUID, "leave that out"),
            ("PVEAPIToken=root@pam!ci", UUID, "leave that out"),
            ("root@pam!ci ", UUID, "white space"),
            ("root@pam !ci", UUID, "white space"),
            ("root@pam!ci", &line, "white space"),
            ("root@pam!ci", "", "secret is empty"),
            ("", UUID, "id is empty"),
            ("root@pam!a!ci", UUID, "more than one !"),
            ("root@pam", UUID, "no !"),
            (UUID, "root@pam!ci", "no !"),
            ("root!ci", UUID, "no user with a realm"),
            ("root@pam!", UUID, "a letter followed by"),
            ("root@pam!c/i", UUID, "a letter followed by"),
        ];
        for (id, secret, expected) in slips {
            let error = (Client::builder("pve1").api_token(id, secret).build())
                .expect_err("it is no token")
                .to_string();
            assert!(error.contains(expected), "{id}: {error}");
            for part in [UUID, "root", "ci="] {
                assert!(!error.contains(part), "{id}: {error}");
            }
        }
        let error = Client::builder("pve1").api_token_text(UUID).build();
        let error = error.expect_err("it has no id").to_string();
        assert!(error.contains("no =") && !error.contains(UUID), "{error}");
    }

    #[test]
    fn the_id_of_a_token_is_refused_as_a_user() {
        let builder = Client::builder("pve1").password("root@pam!ci", UUID);
        let error = builder.build().expect_err("it is a token").to_string();
        assert!(
            error.contains("api_token") && !error.contains(UUID),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_error_repeats_the_text(text in "[a-zA-Z0-9@!= -]{12,60}") {
            if let Err(error) = text.parse::<ApiToken>() {
                let message = error.to_string();
                for start in 0..text.len() - 11 {
                    let part = &text[start..start + 12];
                    prop_assert!(!message.contains(part), "{part}: {message}");
                }
            }
        }
    }
}
