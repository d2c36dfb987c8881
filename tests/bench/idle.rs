//! The memory of a child that waits: its proportional set size, beside that of the least child.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

use procession::{Call, StartMethod, process};
use procession_bench::limit::{self, Answers, Server};
use procession_bench::settled_memory_of;
use tokio::runtime::Builder;

#[process]
async fn idle() {
    std::future::pending().await
}

#[process]
fn idle_plain() {
    loop {
        std::thread::park();
    }
}

fn main() -> std::io::Result<()> {
    if limit::was_child()? {
        return Ok(());
    }
    Builder::new_current_thread().enable_all().build()?.block_on(show_all())
}

async fn show_all() -> std::io::Result<()> {
    let mut child = limit::Child::start(Answers::Many)?;
    child.ask(0).await?;
    println!("limit: {}", settled_memory_of(child.pid().unwrap_or_default())?);
    child.wait().await?;
    show_forked().await?;
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        show(&format!("{method:?}, async fn"), idle().start_method(method)).await?;
        show(&format!("{method:?}, fn"), idle_plain().start_method(method)).await?;
    }
    Ok(())
}

async fn show_forked() -> std::io::Result<()> {
    let server = Server::start()?;
    let mut child = server.child().await?;
    child.ask(0).await?;
    println!("fork server limit: {}", settled_memory_of(child.pid())?);
    child.wait().await?;
    server.end().await
}

async fn show(what: &str, call: Call<()>) -> std::io::Result<()> {
    let mut process = call.spawn().await.map_err(std::io::Error::other)?;
    println!("{what}: {}", settled_memory_of(process.pid())?);
    process.kill().await.map(drop).map_err(std::io::Error::other)
}
