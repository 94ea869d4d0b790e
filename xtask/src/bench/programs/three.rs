//! A user's program: three endpoints.

#[path = "../subject.rs"]
mod subject;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("which server?")?;
    let client = subject::connect(&url)?;
    println!("{}", subject::version(&client).await?);
    println!("{:?}", subject::nodes(&client).await?);
    println!("{:?}", subject::guests(&client).await?);
    Ok(())
}
