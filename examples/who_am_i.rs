//! What a process knows of itself. Lecture B ("Module 05 - Processes"), row 1.4: name, pid and argument; lecture E ("Aula 8
//! - Multiprocessamento"), row 4.4: names that are given, and the one by default.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::{ProcessError, current, parent, process};

// ANCHOR: functions
#[process]
fn introduce(value: String) {
    let (me, parent) = (current(), parent().expect("a process function runs in a child"));
    println!("In child process: name={}, pid={}, val={value}", me.name(), me.pid());
    println!("My parent is {}, pid={}", parent.name(), parent.pid());
}

#[process]
async fn worker() {
    println!("{} Starting", current().name());
    println!("{} Exiting", current().name());
}

#[process]
async fn my_service() {
    println!("{} Starting", current().name());
    println!("{} Exiting", current().name());
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), ProcessError> {
    println!("In main: name={}, pid={}", current().name(), current().pid());
    introduce("param_val".into()).await?;

    let (named, by_default) = (worker().name("worker 1"), worker());
    let service = my_service().name("my_service");
    tokio::try_join!(named, by_default, service)?;
    Ok(())
}
// ANCHOR_END: main
