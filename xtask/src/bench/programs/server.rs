//! A server that answers every request with the same few bytes, over TLS, keeping connections open.
//! Ends with its standard input.

use std::error::Error;
use std::io::Read as _;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const BODY: &str =
    r#"{"data":{"release":"9.2","repoid":"0123456789abcdef","version":"9.2.1","console":"html5"}}"#;

const TASK: &str =
    r#"{"data":"UPID:node00:00001234:00005678:66000000:imgcopy::root@pam!bench:"}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der())?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("https://127.0.0.1:{}", listener.local_addr()?.port());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = serve(stream).await;
            }
        });
    }
}

async fn serve<S>(mut stream: S) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(256 * 1024);
    loop {
        while let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0_usize);
            let body = if head.starts_with("post ") { TASK } else { BODY };
            // The request's own body is read and discarded.
            let here = length.min(buffer.len() - end - 4);
            buffer.drain(..end + 4 + here);
            let mut missing = length - here;
            while missing > 0 {
                let count = stream.read_buf(&mut buffer).await?;
                if count == 0 {
                    return Ok(());
                }
                let used = count.min(missing);
                buffer.drain(..used);
                missing -= used;
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
