//! Memory that is held for callers: the bodies of their requests and the lists that are looked into for them. There is so
//! much in all, and so much for one address, so that nobody can make the gateway hold more.

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

use crate::peer::home;
use crate::refusal::Refusal;

/// How long all of a request's body may take, however steadily it comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The memory. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Room {
    most: usize,
    /// What may be held for one address.
    each: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// The part of one address. Every request has it among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    room: Room,
    address: IpAddr,
}

/// Memory that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    share: Share,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(most: usize, each: usize) -> Self {
        Self {
            most,
            each,
            held: Arc::default(),
        }
    }

    pub(crate) fn share(&self, address: IpAddr) -> Share {
        Share {
            room: self.clone(),
            address: home(address),
        }
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Share {
    /// The share of the address that a request comes from.
    pub(crate) fn of(extensions: &http::Extensions) -> Result<Self, Refusal> {
        // The guard gives each request one.
        extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a request came by another way");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        })
    }

    fn release(&self, bytes: usize) {
        let held = &self.room.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(bytes);
        let own = held.by.get(&self.address).copied().unwrap_or(0);
        // Addresses for which nothing is held are not kept.
        match own.saturating_sub(bytes) {
            0 => drop(held.by.remove(&self.address)),
            rest => drop(held.by.insert(self.address, rest)),
        }
    }

    /// Holds nothing yet.
    pub(crate) fn hold(&self) -> Hold {
        Hold {
            share: self.clone(),
            bytes: 0,
        }
    }
}

impl Hold {
    /// Holds more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Share { room, address } = &self.share;
        let mut held = room.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by.get(address).copied().unwrap_or(0);
        if held.all.saturating_add(bytes) > room.most || own.saturating_add(bytes) > room.each {
            let text = "too much is held in memory already; try again later";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
            return Err(refusal.retry_after(Duration::from_secs(5)));
        }
        held.all += bytes;
        *held.by.entry(*address).or_default() += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Holds less.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.share.release(bytes);
    }

    /// A body of these bytes, which are held until they are sent.
    pub(crate) fn until_sent(self, bytes: Bytes) -> Body {
        Body::from_stream(self.stream::<std::convert::Infallible>(bytes))
    }

    /// The same, to be followed by more.
    pub(crate) fn stream<E: Send + 'static>(
        self,
        bytes: Bytes,
    ) -> impl Stream<Item = Result<Bytes, E>> + Send {
        // Not a body of known length: that would be dropped as soon as the server has its bytes, which it keeps until the
        // client takes them. A stream is asked for more once they are gone.
        stream::unfold((self, Some(bytes)), async |(hold, bytes)| {
            let bytes = bytes?;
            Some((Ok(bytes), (hold, None)))
        })
    }

    /// Reads the body of a request.
    pub(crate) async fn read(&mut self, mut body: Body, most: usize) -> Result<Bytes, Refusal> {
        let all = async {
            let mut whole = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| Refusal::bad_request("the body broke off"))?;
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                if whole.len() + piece.len() > most {
                    let text = format!("the body is longer than {most} bytes");
                    return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
                }
                self.grow(piece.len())?;
                whole.extend_from_slice(&piece);
            }
            Ok(whole.into())
        };
        let late = |_| {
            let text = format!("the body was not there within {} s", PATIENCE.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
        };
        tokio::time::timeout(PATIENCE, all).await.map_err(late)?
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.share.release(self.bytes);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("most", &self.most)
            .field("each", &self.each)
            .field("held", &self.held())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(room: &Room, last: u8) -> Hold {
        room.share(IpAddr::from([10, 0, 0, last])).hold()
    }

    #[test]
    fn one_address_leaves_memory_to_others_and_gives_back_what_it_had() {
        let room = Room::new(10, 4);
        let (mut one, mut same, mut other) = (hold(&room, 1), hold(&room, 1), hold(&room, 2));
        one.grow(3).expect("there is room");
        same.grow(2).expect_err("it has three of four");
        same.grow(1).expect("the last one");
        other.grow(4).expect("there is room");
        let mut third = hold(&room, 3);
        third.grow(3).expect_err("two are left");
        third.grow(2).expect("there is room");
        assert_eq!(room.held(), 10);
        third.grow(usize::MAX).expect_err("nor does it overflow");
        drop(one);
        third.grow(1).expect("it was given back");
        drop((same, other, third));
        assert_eq!(room.held(), 0);
        assert!(room.held.lock().expect("free").by.is_empty());
    }

    #[tokio::test]
    async fn a_body_is_held_until_it_is_sent() {
        let room = Room::new(10, 10);
        let mut own = hold(&room, 1);
        own.grow(3).expect("there is room");
        let mut body = own.until_sent(Bytes::from_static(b"abc"));
        let frame = body.frame().await.expect("one").expect("it does not fail");
        assert_eq!(frame.into_data().expect("data"), "abc");
        assert_eq!(room.held(), 3, "it may not have been taken yet");
        assert!(body.frame().await.is_none());
        assert_eq!(room.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_wanted_is_not_kept() {
        let room = Room::new(10, 10);
        let parts = [b"abcd".as_slice(); 3];
        let parts = || stream::iter(parts.map(Ok::<_, std::convert::Infallible>));
        let never = stream::pending::<Result<&[u8], std::convert::Infallible>>();
        for (body, most, status) in [
            (Body::from_stream(parts()), 8, 413),
            (Body::from_stream(parts()), 100, 503),
            (Body::from_stream(never), 100, 408),
        ] {
            let whole = hold(&room, 1).read(body, most).await;
            assert_eq!(whole.expect_err("not wanted").status(), status);
            assert_eq!(room.held(), 0);
        }
    }
}
