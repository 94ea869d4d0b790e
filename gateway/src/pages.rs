//! Lists: totals, and links between pages.

use http::header::{HeaderMap, HeaderName, HeaderValue, LINK};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::refusal::Refusal;

pub(crate) const TOTAL: HeaderName = HeaderName::from_static("x-total-count");

/// Escapes all characters with a meaning in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// The decoded query of a request, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split(['&', ';']).filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == key)?;
        Some(value)
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let wrong = |_| Refusal::parameters([(key, format!("{text:?} is not a number"))]);
        text.parse().map(Some).map_err(wrong)
    }

    pub(crate) fn without(&self, keys: &[&str]) -> Self {
        let pairs = self.0.iter();
        let pairs = pairs.filter(|(key, _)| !keys.contains(&key.as_str()));
        Self(pairs.cloned().collect())
    }

    pub(crate) fn to_text(&self) -> String {
        let pairs: Vec<String> = (self.0.iter())
            .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
            .collect();
        pairs.join("&")
    }
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) start: u64,
    /// 0 for no limit.
    pub(crate) limit: u64,
}

/// The default limit of Proxmox VE.
const LIMIT: u64 = 50;

impl Page {
    /// The page that a query requests; `None` without paging parameters.
    pub(crate) fn from_query(query: &Query) -> Result<Option<Self>, Refusal> {
        let (start, limit) = (query.number("start")?, query.number("limit")?);
        Ok((start.is_some() || limit.is_some()).then(|| Self {
            start: start.unwrap_or(0),
            limit: limit.unwrap_or(LIMIT),
        }))
    }

    /// Adds the total, and links to the next and last page.
    pub(crate) fn write(self, path: &str, query: &Query, total: u64, headers: &mut HeaderMap) {
        headers.insert(TOTAL, HeaderValue::from(total));
        let others = query.without(&["start", "limit"]).to_text();
        let separator = if others.is_empty() { "" } else { "&" };
        let link = |start: u64, rel: &str| {
            let limit = self.limit;
            format!("<{path}?{others}{separator}start={start}&limit={limit}>; rel=\"{rel}\"")
        };
        let next = self.start.saturating_add(self.limit);
        let mut links = Vec::new();
        if self.limit > 0 && next < total {
            links.push(link(next, "next"));
            links.push(link((total - 1) / self.limit * self.limit, "last"));
        }
        if let Ok(value) = HeaderValue::from_str(&links.join(", "))
            && !links.is_empty()
        {
            headers.insert(LINK, value);
        }
    }
}

/// Lists that the cluster returns in pages, with the total.
pub(crate) fn is_paged(path: &str) -> bool {
    path.ends_with("/tasks") || path.ends_with("/log") || path.ends_with("/syslog")
}

/// The total beside the data; the cluster omits it for 0.
pub(crate) fn total(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default)]
        total: Option<u64>,
        data: Option<Vec<IgnoredAny>>,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let data = envelope.data?;
    envelope.total.or(data.is_empty().then_some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_next_and_the_last_page() {
        let query = Query::parse("start=0&limit=50&typefilter=a%26b");
        let page = Page::from_query(&query).expect("good").expect("a page");
        let mut headers = HeaderMap::new();
        page.write("/api2/json/nodes/node1/tasks", &query, 1_234, &mut headers);
        assert_eq!(headers[&TOTAL], "1234");
        let links = headers[&LINK].to_str().expect("text");
        let path = "/api2/json/nodes/node1/tasks?typefilter=a%26b";
        assert_eq!(
            links,
            format!(
                "<{path}&start=50&limit=50>; rel=\"next\", <{path}&start=1200&limit=50>; rel=\"last\""
            )
        );
        headers.clear();
        page.write("/x", &query, 50, &mut headers);
        assert!(headers.get(LINK).is_none());
    }

    #[test]
    fn a_missing_total_is_zero() {
        assert_eq!(total(br#"{"data":[1],"total":7}"#), Some(7));
        assert_eq!(total(br#"{"data":[]}"#), Some(0));
        assert_eq!(total(br#"{"data":[1]}"#), None);
        assert_eq!(total(br#"{"data":{}}"#), None);
    }
}
