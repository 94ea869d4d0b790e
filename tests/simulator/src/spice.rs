//! The proxy of SPICE viewers: plain HTTP, and `CONNECT` only.

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::App;
use crate::http::{ReadHead, Response, encode, plain_error, read_head, until_closed};

/// Serves one viewer until it disconnects.
pub(crate) async fn serve(stream: TcpStream, app: &App) {
    let mut stream = BufReader::new(stream);
    let Ok(Ok(ReadHead::Head(head))) = timeout(app.idle_timeout(), read_head(&mut stream)).await
    else {
        return;
    };
    let refusal = if head.method != "CONNECT" {
        let reason = format!("method '{}' not available", head.method);
        Some(Response::new(501, reason))
    } else if !app.takes_spice_ticket(head.header("host").unwrap_or("")) {
        tokio::time::sleep(app.scaled(Duration::from_secs(3))).await;
        Some(plain_error(401, "invalid ticket"))
    } else {
        None
    };
    let open = refusal.is_none();
    let answer = match refusal {
        Some(response) => encode(response, Some(&head), false, app.clock().now()),
        None => Some(format!("HTTP/1.{} 200 OK\r\n\r\n", head.minor).into_bytes()),
    };
    let answer = answer.unwrap_or_default();
    let sent = stream.get_mut().write_all(&answer).await.is_ok();
    // The simulated display sends nothing.
    if open && sent {
        until_closed(&mut stream).await;
    }
    let _ = stream.get_mut().shutdown().await;
}
