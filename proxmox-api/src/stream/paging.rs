//! Long lists, a page at a time.
//!
//! Some calls take `start` and `limit`: task lists, logs, firewall logs. They are read to the end
//! by
//!
//! ```no_run
//! # #[cfg(feature = "nodes")]
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use proxmox_api::request::ApiRequest;
//!
//! let mut tasks = pve.nodes().node("pve1").tasks().get().errors(true).items(100);
//! while let Some(task) = tasks.try_next().await? {
//!     println!("{}", task.upid);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Most of these lists count from the newest entry, so new entries shift the rest: an item may then
//! be read twice, but none is skipped.
//!
//! A call that ignores `start` would return the same page for ever. This is detected when a full
//! page starts with the first item of the page before it, and ends in a decode error that says so.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde_json::Value;

use crate::bounds::{Bound, Exceeded};
use crate::client::request::Request;
use crate::error::Error;
use crate::stream::envelope::Answer;
use crate::value::BoxFuture;
use crate::value::decode::{DecodeError, Extra, read_any};
use crate::value::encode::ParamValue;
use crate::value::serialize::generic_record_serde;

/// The additional memory limit of a page, for reading its items untyped.
const PAGE: usize = 16 * 1024 * 1024;

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The number of items before it.
    pub start: u64,
    /// Its items.
    pub items: Vec<T>,
    /// The total number of items, if the server counts them.
    pub total: Option<u64>,
    /// Like [`Answer::extra`]: `data` has the items that do not fit their type, in their positions.
    pub extra: Extra,
}

generic_record_serde!(Page {
    start,
    items,
    total,
    extra
});

/// A page, and its first item undecoded if the page is full.
type FetchedPage<T> = (Answer<Vec<T>>, Option<Value>);

/// The pages of a list; made by [`Request::pages`].
#[must_use = "does nothing unless iterated"]
pub struct Pages<T> {
    request: Request<Vec<T>>,
    start: u64,
    size: u64,
    is_finished: bool,
    /// The first item of the last page, if that was full.
    first: Option<Value>,
    /// The number of pages so far.
    count: usize,
    pending: Option<BoxFuture<'static, Result<FetchedPage<T>, Error>>>,
}

impl<T: 'static> Request<Vec<T>> {
    /// Reads a list by pages of `size` items, for calls that take `start` and `limit`. Begins at the
    /// request's own `start` if it has one, and replaces its `limit`.
    pub fn pages(self, size: u32) -> Pages<T> {
        let start = match self.call().params().get("start") {
            Some(ParamValue::One(digits)) => digits.parse().unwrap_or(0),
            _ => 0,
        };
        Pages {
            request: self,
            start,
            // The server reads 0 as no limit.
            size: u64::from(size.max(1)),
            is_finished: false,
            first: None,
            count: 0,
            pending: None,
        }
    }

    /// Reads a list item by item, `size` items with each request; see [`Request::pages`]. Items
    /// that do not fit their type are skipped; the pages have them.
    pub fn items(self, size: u32) -> Items<T> {
        self.pages(size).items()
    }
}

impl<T: 'static> Pages<T> {
    /// The next page; `None` after the last, never an empty one. Dropping the future loses nothing,
    /// and after an error the same page is requested again.
    ///
    /// # Errors
    /// Those of awaiting the request.
    pub async fn try_next(&mut self) -> Result<Option<Page<T>>, Error> {
        std::future::poll_fn(|context| self.poll_page(context))
            .await
            .transpose()
    }

    /// The items of the pages, one after the other.
    pub fn items(self) -> Items<T> {
        Items {
            pages: self,
            ready: VecDeque::new(),
            total: None,
        }
    }

    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Page<T>, Error>>> {
        if self.is_finished {
            return Poll::Ready(None);
        }
        let max = (self.request.client.as_ref()).map_or(usize::MAX, |client| client.bounds().pages);
        if self.count >= max {
            self.is_finished = true;
            let name = self.request.call().id();
            let exceeded = Exceeded::new(Bound::Pages, max);
            return Poll::Ready(Some(Err(Error::exceeded(&name, exceeded))));
        }
        let pending = self.pending.get_or_insert_with(|| {
            let mut request = self.request.clone();
            for (key, value) in [("start", self.start), ("limit", self.size)] {
                let value = ParamValue::One(value.to_string());
                request.call.params.set(key, value);
            }
            page(request, self.first.clone(), self.size)
        });
        let answer = ready!(pending.as_mut().poll(context));
        self.pending = None;
        let answer = match answer {
            Ok((answer, first)) => {
                self.first = first;
                answer
            }
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        // Items that do not fit were sent, too.
        let unfit = match answer.extra.get("data") {
            Some(Value::Array(rest)) => rest.iter().filter(|item| !item.is_null()).count(),
            _ => 0,
        };
        let count = (answer.data.len() + unfit) as u64;
        let page = Page {
            start: self.start,
            items: answer.data,
            total: answer.total,
            extra: answer.extra,
        };
        self.start = self.start.saturating_add(count);
        self.count += 1;
        // A total may count only the items read so far, so it can prolong the list but not end it.
        let more = page.total.is_some_and(|total| total > self.start);
        self.is_finished = count == 0 || (count < self.size && !more);
        Poll::Ready((count > 0).then_some(Ok(page)))
    }
}

/// Requests a page, and returns its first item undecoded if the page is full. `before` is that of
/// the page before.
fn page<T: 'static>(
    request: Request<Vec<T>>,
    before: Option<Value>,
    size: u64,
) -> BoxFuture<'static, Result<FetchedPage<T>, Error>> {
    Box::pin(async move {
        let (answer, name, reply) = request.with_envelope().exchange().await?;
        // The typed rows exist beside these.
        let Some(mut rows) = read_any(&reply.body, PAGE) else {
            let problem = "the page takes too much memory; request fewer items at a time";
            return Err(Error::decode(name, DecodeError::new("data", problem)));
        };
        let rows = rows.get_mut("data").map(Value::take).unwrap_or_default();
        let Value::Array(rows) = rows else {
            return Ok((answer, None));
        };
        if (rows.len() as u64) < size {
            return Ok((answer, None));
        }
        if before.is_some_and(|before| rows.contains(&before)) {
            let problem =
                "the server repeats items of the previous page; does this call support `start`?";
            return Err(Error::decode(name, DecodeError::new("data", problem)));
        }
        Ok((answer, rows.into_iter().next()))
    })
}

impl<T: 'static> Stream for Pages<T> {
    type Item = Result<Page<T>, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_page(context)
    }
}

// Items are never pinned.
impl<T> Unpin for Pages<T> {}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("request", &self.request)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// The items of a list; made by [`Request::items`].
#[must_use = "does nothing unless iterated"]
pub struct Items<T> {
    pages: Pages<T>,
    ready: VecDeque<T>,
    total: Option<u64>,
}

impl<T: 'static> Items<T> {
    /// The next item; `None` after the last. Dropping the future loses nothing, and after an error
    /// the list continues at the same item.
    ///
    /// # Errors
    /// Those of awaiting the request.
    pub async fn try_next(&mut self) -> Result<Option<T>, Error> {
        std::future::poll_fn(|context| self.poll_item(context))
            .await
            .transpose()
    }

    /// The number of items in all, if the server has reported it yet.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            match ready!(self.pages.poll_page(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(page)) => {
                    self.total = page.total;
                    self.ready = page.items.into();
                }
            }
        }
    }
}

impl<T: 'static> Stream for Items<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(context)
    }
}

// Items are never pinned.
impl<T> Unpin for Items<T> {}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("pages", &self.pages)
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::client::path::PathNode;
    use crate::client::request::{Decode, reply};
    use crate::testing::{Fake, json, ok};
    use crate::transport::{TransportError, WireRequest};
    use crate::value::endpoint::{Endpoint, Method, Permission};

    static LIST: Endpoint = Endpoint::new(Method::Get, "/list", Permission::Authenticated);

    fn list(client: &Client) -> Request<Vec<i64>> {
        let read: Decode<Vec<i64>> = reply::data;
        PathNode::root(Some(client))
            .literal("list")
            .request(&LIST, read)
    }

    fn number(request: &WireRequest, name: &str) -> usize {
        let (_, query) = request.path.split_once('?').expect("parameters");
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(&format!("{name}=")))
            .expect(name)
            .parse()
            .expect("a number")
    }

    /// A list of the numbers below `length`, with `total` if requested.
    fn server(length: usize, with_total: bool) -> Fake {
        Fake::new(move |request| {
            let (start, limit) = (number(request, "start"), number(request, "limit"));
            let items: Vec<_> = (start..length).take(limit).collect();
            let total = if with_total && length > 0 {
                format!(",\"total\":{length}")
            } else {
                String::new()
            };
            ok(format!("{{\"data\":{items:?}{total}}}"))
        })
    }

    #[tokio::test]
    async fn every_item_comes_once_for_all_page_sizes() {
        for length in [0, 1, 6, 7] {
            for size in [1, 2, 3, 7, 100] {
                for with_total in [true, false] {
                    let fake = server(length, with_total);
                    let mut items = list(&fake.token_client()).items(size);
                    let mut seen = Vec::new();
                    while let Some(item) = items.try_next().await.expect("accepted") {
                        seen.push(item);
                    }
                    let expected: Vec<_> = (0..length as i64).collect();
                    assert_eq!(seen, expected, "pages of {size}");
                    let total = (with_total && length > 0).then_some(length as u64);
                    assert_eq!(items.total(), total);
                    let max = length / size as usize + 1;
                    assert_eq!(fake.requests().len(), max, "{length} by {size}");
                    assert_eq!(items.try_next().await.expect("over"), None);
                }
            }
        }
    }

    #[tokio::test]
    async fn short_pages_do_not_end_the_list() {
        let fake = Fake::new(|request| {
            let start = number(request, "start");
            let items: Vec<_> = (start..5).take(2).collect();
            ok(format!("{{\"data\":{items:?},\"total\":5}}"))
        });
        let mut pages = list(&fake.token_client()).pages(50);
        let mut starts = Vec::new();
        while let Some(page) = pages.try_next().await.expect("accepted") {
            starts.push((page.start, page.items.len(), page.total));
        }
        assert_eq!(starts, [(0, 2, Some(5)), (2, 2, Some(5)), (4, 1, Some(5))]);
    }

    #[tokio::test]
    async fn rejected_items_count_and_are_in_extra() {
        let fake = Fake::new(|request| {
            let start = number(request, "start");
            let misfits = ["\"x\"", "{}", "7", "8", "[]", "9"];
            let items: Vec<&str> = misfits.iter().skip(start).take(2).copied().collect();
            ok(format!("{{\"data\":[{}]}}", items.join(",")))
        });
        let mut pages = list(&fake.token_client()).pages(2);
        pages.start = 1;
        let mut seen = Vec::new();
        while let Some(page) = pages.try_next().await.expect("accepted") {
            seen.push((page.start, page.items, page.extra.get("data").cloned()));
        }
        let json = serde_json::json!([[{}, null], [null, []]]);
        let [first, second] = [0, 1].map(|at| Some(json[at].clone()));
        assert_eq!(
            seen,
            [
                (1, vec![7], first),
                (3, vec![8], second),
                (5, vec![9], None)
            ]
        );
    }

    #[tokio::test]
    async fn a_server_that_ignores_start_is_an_error() {
        for (limit, new_ones) in [(3, 0), (3, 1), (3, 2), (100, 0)] {
            let mut newest = 10;
            let fake = Fake::new(move |_| {
                newest += new_ones;
                let items: Vec<_> = (0..10).map(|n| newest - n).take(limit).collect();
                ok(format!("{{\"data\":{items:?}}}"))
            });
            let mut items = list(&fake.token_client()).items(3);
            let error = loop {
                match items.try_next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it has no end"),
                    Err(error) => break error,
                }
            };
            assert!(error.to_string().contains("`start`"), "{error}");
            assert_eq!(fake.requests().len(), 2);
        }
    }

    #[tokio::test]
    async fn a_failed_page_is_requested_again() {
        let mut calls = 0;
        let fake = Fake::new(move |request| {
            calls += 1;
            match calls {
                2 => Err(TransportError::interrupted("gone")),
                4 => Ok(json(500, "no", "{\"data\":null}")),
                _ => {
                    let start = number(request, "start");
                    let items: Vec<_> = (start..3).take(1).collect();
                    ok(format!("{{\"data\":{items:?}}}"))
                }
            }
        });
        let client = fake.token_client();
        let mut items = list(&client).param("start", 1_i64).items(1);
        let mut seen = Vec::new();
        let mut failed = 0;
        loop {
            match items.try_next().await {
                Ok(Some(item)) => seen.push(item),
                Ok(None) => break,
                Err(_) => failed += 1,
            }
            assert!(failed < 3);
        }
        assert_eq!((seen, failed), (vec![1, 2], 2));
    }
}
