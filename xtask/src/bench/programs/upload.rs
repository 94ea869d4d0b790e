//! Uploads a file, with this crate or with a stream of reqwest's: way, URL, file.

use std::error::Error;
use std::time::Instant;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, way, url, file] = &arguments[..] else {
        return Err("way, URL, file".into());
    };
    let before = (status("VmRSS:")?, cpu()?, Instant::now());
    match &**way {
        "ours" => ours(url, file).await?,
        _ => raw(url, file).await?,
    }
    println!(
        "{} {} {}",
        before.2.elapsed().as_secs_f64(),
        cpu()? - before.1,
        status("VmHWM:")? - before.0
    );
    Ok(())
}

async fn ours(url: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let client = proxmox_api::Client::builder(url)
        .api_token("root@pam!bench", "secret")
        .danger_accept_invalid_certs(true)
        .build()?;
    client.upload("node00", "local").path(file).await?;
    Ok(())
}

async fn raw(url: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .http1_only()
        .no_proxy()
        .build()?;
    let form = reqwest::multipart::Form::new()
        .text("content", "iso")
        .file("filename", file)
        .await?;
    http.post(format!("{url}/api2/json/nodes/node00/storage/local/upload"))
        .header("Authorization", "PVEAPIToken=root@pam!bench=secret")
        .multipart(form)
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?;
    Ok(())
}

/// Processor seconds of all threads, in hundredths.
fn cpu() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, figures) = text.rsplit_once(')').ok_or("no figures")?;
    let mut figures = figures.split_whitespace().skip(11);
    let mut next = || figures.next().ok_or("too few figures");
    let (user, system): (f64, f64) = (next()?.parse()?, next()?.parse()?);
    Ok((user + system) / 100.0)
}

/// The kernel's figure for this process's memory, in bytes.
fn status(name: &str) -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("no figure")?.parse::<f64>()? * 1024.0)
}
