//! Uploads a file to a storage and shows the progress.
//!
//! ```text
//! PROXMOX_HOST=pve1 PROXMOX_TOKEN_ID=root@pam!ci PROXMOX_TOKEN_SECRET=… \
//!     cargo run -p proxmox-api --example upload -- pve1 local debian-13.iso
//! ```
//!
//! Further environment variables: see `Client::from_env`.

use indicatif::{ProgressBar, ProgressStyle};
use proxmox_api::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [node, storage, path] = arguments.as_slice() else {
        return Err("usage: upload NODE STORAGE FILE".into());
    };
    let pve = Client::from_env()?;

    let bar = ProgressBar::new(std::fs::metadata(path)?.len());
    bar.set_style(ProgressStyle::with_template(
        "{msg:9} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
    )?);
    bar.set_message("checking");
    let progress_bar = bar.clone();
    let upload = pve
        .upload(node, storage)
        .path(path)
        .verified()
        .on_progress(move |progress| {
            progress_bar.set_message("uploading");
            progress_bar.set_position(progress.sent);
        });

    // Ctrl-C drops the upload, which also ends it on the server.
    let task = tokio::select! {
        task = upload => task?,
        _ = tokio::signal::ctrl_c() => {
            bar.abandon_with_message("cancelled");
            return Err("cancelled".into());
        }
    };
    bar.finish_with_message("uploaded");

    task.wait().on_log(|line| println!("{line}")).await?;
    Ok(())
}
