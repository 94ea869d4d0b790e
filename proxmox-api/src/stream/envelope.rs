//! Members of an answer beside its data.

use std::fmt;
use std::future::IntoFuture;

use serde_json::Value;

use crate::client::request::{Request, exchange};
use crate::client::{Client, Reply};
use crate::error::{CallId, Error};
use crate::value::BoxFuture;
use crate::value::api_value::ApiValue;
use crate::value::decode::{DecodeError, Extra, count, decode_answer};
use crate::value::serialize::generic_record_serde;

/// An answer with all its members; see [`Request::with_envelope`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The result of awaiting the request itself.
    pub data: T,
    /// The number of items in all, if the server counts them. The server omits a count of 0 ([wire
    /// protocol §5](crate::guide::wire_protocol)).
    pub total: Option<u64>,
    /// Configured changes that are not in effect, as the difference between two files: network
    /// settings have it.
    pub changes: Option<String>,
    /// All other members beside the data. For a list or a map, `data` holds the values that do not
    /// fit their type: an array with these elements in their positions and null in all others, or
    /// an object with these values.
    pub extra: Extra,
}

generic_record_serde!(Answer {
    data,
    total,
    changes,
    extra
});

impl<T: ApiValue> Answer<T> {
    /// Decodes a stored answer as its request would with [`with_envelope`](Request::with_envelope):
    /// `body` is the whole answer with its `data` member.
    ///
    /// # Errors
    /// Those of [`from_answer`](crate::value::decode::from_answer).
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut extra = Extra::new();
        let data = decode_answer(body, &mut extra)?;
        Ok(Self::new(data, extra))
    }
}

impl<T> Answer<T> {
    fn new(data: T, mut extra: Extra) -> Self {
        let total = extra.get("total").and_then(count);
        let changes = match extra.get("changes") {
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        if total.is_some() {
            extra.remove("total");
        }
        if changes.is_some() {
            extra.remove("changes");
        }
        Self {
            data,
            total,
            changes,
            extra,
        }
    }
}

/// A request that returns the whole answer; made by [`Request::with_envelope`], sent by awaiting
/// it.
#[must_use = "does nothing unless awaited"]
pub struct WithEnvelope<T>(Request<T>);

impl<T> Request<T> {
    /// Returns also the members beside the data: the number of items in all, and changes that are
    /// not applied.
    pub fn with_envelope(self) -> WithEnvelope<T> {
        WithEnvelope(self)
    }
}

impl<T: 'static> WithEnvelope<T> {
    fn read(&self, client: &Client, reply: &Reply) -> Result<Answer<T>, DecodeError> {
        let mut extra = Extra::new();
        let data = (self.0.decode)(client, reply, &mut extra)?;
        Ok(Answer::new(data, extra))
    }
}

impl<T> Clone for WithEnvelope<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for WithEnvelope<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: 'static> IntoFuture for WithEnvelope<T> {
    type Output = Result<Answer<T>, Error>;
    type IntoFuture = BoxFuture<'static, Result<Answer<T>, Error>>;

    fn into_future(self) -> BoxFuture<'static, Result<Answer<T>, Error>> {
        let sent = self.exchange();
        Box::pin(async move { Ok(sent.await?.0) })
    }
}

/// An answer with the id of its call and the reply that it was read from.
type Exchanged<T> = Result<(Answer<T>, CallId, Reply), Error>;

impl<T: 'static> WithEnvelope<T> {
    /// The answer, and the reply it was decoded from.
    pub(super) fn exchange(self) -> BoxFuture<'static, Exchanged<T>> {
        Box::pin(async move {
            let sent = exchange(self.0.client.clone(), self.0.call.clone());
            let (client, name, reply) = sent.await?;
            match self.read(&client, &reply) {
                Ok(answer) => Ok((answer, name, reply)),
                Err(error) => Err(client.undecodable(name, &reply.secrets, error)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::call::Call;
    use crate::client::request::reply;
    use crate::testing::{Fake, ok};
    use crate::value::endpoint::Method;

    async fn answer(body: &'static str) -> Result<Answer<Value>, Error> {
        let fake = Fake::new(move |_| ok(body));
        let client = fake.token_client();
        client
            .request::<Value>(Method::Get, "/nodes/pve1/network")
            .with_envelope()
            .await
    }

    #[tokio::test]
    async fn members_beside_the_data_are_available() {
        let body =
            r#"{"total":"7","data":[{"a":[1,{"b":null}]},"x"],"changes":"-a\n+b","new":{"k":1}}"#;
        let answer = answer(body).await.expect("an answer");
        assert_eq!(answer.total, Some(7));
        assert_eq!(answer.changes.as_deref(), Some("-a\n+b"));
        assert_eq!(answer.extra["new"]["k"], 1);
        assert_eq!(answer.extra.len(), 1);
        assert_eq!(answer.data[0]["a"][0], 1);
    }

    #[tokio::test]
    async fn rejected_elements_keep_their_positions() {
        let fake = Fake::new(|_| ok(r#"{"data":[7,"many",8,null,{"a":1},9]}"#));
        let client = fake.token_client();
        let list: Request<Vec<i64>> = Request {
            client: Some(client.clone()),
            call: Call::new(Method::Get, "/list"),
            decode: reply::data,
        };
        assert_eq!(list.clone().await.expect("a list"), [7, 8, 9]);
        let answer = list.with_envelope().await.expect("a list");
        assert_eq!(answer.data, [7, 8, 9]);
        let misfits = json!([null, "many", null, {"a": 1}, null]);
        assert_eq!(answer.extra["data"], misfits);
    }

    #[tokio::test]
    async fn an_answer_without_more_has_none() {
        let answer = answer("{\"data\":null}").await.expect("an answer");
        assert_eq!((answer.total, answer.changes), (None, None));
        assert!(answer.extra.is_empty());
    }

    #[tokio::test]
    async fn an_invalid_total_is_kept_unchanged() {
        let answer = answer("{\"data\":1,\"total\":\"many\"}")
            .await
            .expect("an answer");
        assert_eq!(answer.total, None);
        assert_eq!(answer.extra["total"], "many");
    }
}
