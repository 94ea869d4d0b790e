//! Limits on the memory for callers, which is used for request bodies and parsed lists: in total,
//! and for each address.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;

use crate::peer::prefix;
use crate::refusal::Refusal;

/// Time limit for receiving a request's body as a whole.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The limits. Clones share them.
#[derive(Clone)]
pub(crate) struct MemoryBudget {
    max: usize,
    /// Limit for one address.
    max_per_address: usize,
    used: Arc<Mutex<Used>>,
}

#[derive(Default)]
struct Used {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// The memory of one address. Every request has it as an extension.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    budget: MemoryBudget,
    address: IpAddr,
}

/// Memory that is reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    share: Share,
    bytes: usize,
}

impl MemoryBudget {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            max,
            max_per_address,
            used: Arc::default(),
        }
    }

    pub(crate) fn share(&self, address: IpAddr) -> Share {
        Share {
            budget: self.clone(),
            address: prefix(address),
        }
    }

    /// The reserved bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Share {
    /// The share of a request's client.
    pub(crate) fn of_request(extensions: &http::Extensions) -> Result<Self, Refusal> {
        // The middleware adds one to each request.
        extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a request has no memory share");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        })
    }

    fn release(&self, bytes: usize) {
        let used = &self.budget.used;
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        used.all = used.all.saturating_sub(bytes);
        let used_by_address = used.by.get(&self.address).copied().unwrap_or(0);
        // Addresses without reserved memory are removed.
        match used_by_address.saturating_sub(bytes) {
            0 => drop(used.by.remove(&self.address)),
            rest => drop(used.by.insert(self.address, rest)),
        }
    }

    /// An empty reservation.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation {
            share: self.clone(),
            bytes: 0,
        }
    }
}

impl Reservation {
    /// Reserves more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Share { budget, address } = &self.share;
        let mut used = budget.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used_by_address = used.by.get(address).copied().unwrap_or(0);
        if used.all.saturating_add(bytes) > budget.max
            || used_by_address.saturating_add(bytes) > budget.max_per_address
        {
            let text = "the memory limit is reached; try again later";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
            return Err(refusal.retry_after(Duration::from_secs(5)));
        }
        used.all += bytes;
        *used.by.entry(*address).or_default() += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Releases some.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.share.release(bytes);
    }

    /// A body of these bytes, which stay reserved until they are sent.
    pub(crate) fn until_sent(self, bytes: Bytes) -> Body {
        Body::from_stream(self.stream::<std::convert::Infallible>(bytes))
    }

    /// A stream of these bytes, to be chained with more.
    pub(crate) fn stream<E: Send + 'static>(
        self,
        bytes: Bytes,
    ) -> impl Stream<Item = Result<Bytes, E>> + Send {
        // The server drops a body of known length when it has read the bytes, which is before the
        // client receives them. It polls a stream again only after they are sent.
        stream::unfold((self, Some(bytes)), async |(reservation, bytes)| {
            let bytes = bytes?;
            Some((Ok(bytes), (reservation, None)))
        })
    }

    /// Reads the body of a request.
    pub(crate) async fn read(&mut self, mut body: Body, max: usize) -> Result<Bytes, Refusal> {
        let all = async {
            let mut whole = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| Refusal::bad_request("the body ended early"))?;
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                if whole.len() + piece.len() > max {
                    let text = format!("the body is longer than {max} bytes");
                    return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
                }
                self.grow(piece.len())?;
                whole.extend_from_slice(&piece);
            }
            Ok(whole.into())
        };
        let late = |_| {
            let text = format!("the body was not received within {} s", TIMEOUT.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
        };
        tokio::time::timeout(TIMEOUT, all).await.map_err(late)?
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.share.release(self.bytes);
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("max", &self.max)
            .field("max_per_address", &self.max_per_address)
            .field("used", &self.used())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(budget: &MemoryBudget, last: u8) -> Reservation {
        budget.share(IpAddr::from([10, 0, 0, last])).reserve()
    }

    #[test]
    fn one_address_cannot_reserve_all_memory_and_dropping_releases_it() {
        let budget = MemoryBudget::new(10, 4);
        let (mut one, mut same, mut other) = (
            reserve(&budget, 1),
            reserve(&budget, 1),
            reserve(&budget, 2),
        );
        one.grow(3).expect("below the limits");
        same.grow(2).expect_err("three of four are used");
        same.grow(1).expect("the last byte");
        other.grow(4).expect("below the limits");
        let mut third = reserve(&budget, 3);
        third.grow(3).expect_err("only two are left");
        third.grow(2).expect("below the limits");
        assert_eq!(budget.used(), 10);
        third.grow(usize::MAX).expect_err("without overflow");
        drop(one);
        third.grow(1).expect("it was released");
        drop((same, other, third));
        assert_eq!(budget.used(), 0);
        assert!(budget.used.lock().expect("no panic").by.is_empty());
    }

    #[tokio::test]
    async fn a_body_stays_reserved_until_it_is_sent() {
        let budget = MemoryBudget::new(10, 10);
        let mut reservation = reserve(&budget, 1);
        reservation.grow(3).expect("below the limits");
        let mut body = reservation.until_sent(Bytes::from_static(b"abc"));
        let frame = body.frame().await.expect("one").expect("it does not fail");
        assert_eq!(frame.into_data().expect("data"), "abc");
        assert_eq!(budget.used(), 3, "it may not be sent yet");
        assert!(body.frame().await.is_none());
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_releases_its_memory() {
        let budget = MemoryBudget::new(10, 10);
        let parts = [b"abcd".as_slice(); 3];
        let parts = || stream::iter(parts.map(Ok::<_, std::convert::Infallible>));
        let never = stream::pending::<Result<&[u8], std::convert::Infallible>>();
        for (body, max, status) in [
            (Body::from_stream(parts()), 8, 413),
            (Body::from_stream(parts()), 100, 503),
            (Body::from_stream(never), 100, 408),
        ] {
            let whole = reserve(&budget, 1).read(body, max).await;
            assert_eq!(whole.expect_err("refused").status(), status);
            assert_eq!(budget.used(), 0);
        }
    }
}
