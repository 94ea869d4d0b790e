//! Consoles: upgraded connections, passed through byte by byte.

use axum::extract::Request;
use axum::response::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use proxmox_api::transport::Upgraded;

use super::answer::{head, refused, whole};
use super::target::Target;
use crate::app::App;
use crate::cluster::unanswered;
use crate::connections::Slot;
use crate::refusal::Refusal;

const PASSED: [HeaderName; 4] = [
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_ACCEPT,
];

pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

pub(super) async fn pass(
    app: &App,
    target: &Target,
    mut request: Request,
) -> Result<Response, Refusal> {
    if target.method != Method::GET {
        return Err(Refusal::bad_request("only GET can switch protocols"));
    }
    let mut wire = target.wire(request.headers());
    let mut add = |name: &str, value: &str| wire.headers.push((name.to_owned(), value.to_owned()));
    add("connection", "Upgrade");
    add("upgrade", "websocket");
    for name in &PASSED {
        if let Some(value) = request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
        {
            add(name.as_str(), value);
        }
    }
    let upgraded = app.cluster.upgrade(wire).await;
    match upgraded.map_err(|error| unanswered(&error))? {
        Upgraded::Answered(mut answer) => {
            let body = std::mem::take(&mut answer.body);
            match answer.status >= 400 && target.is_json() {
                true => Ok(refused(target, answer, body)),
                false => Ok(whole(&answer, body)),
            }
        }
        Upgraded::Switched(answer, mut cluster) => {
            let caller = hyper::upgrade::on(&mut request);
            let slot = request.extensions().get::<Slot>().cloned();
            let stopping = app.stopping();
            tokio::spawn(async move {
                let _slot = slot;
                let Ok(caller) = caller.await else { return };
                let mut caller = TokioIo::new(caller);
                tokio::select! {
                    // Either side may end it at any time.
                    _ = tokio::io::copy_bidirectional(&mut caller, &mut cluster) => {}
                    () = stopping => {}
                }
            });
            let mut response = head(&answer);
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            Ok(response)
        }
        _ => Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "the cluster's answer to the upgrade is invalid",
        )),
    }
}
