//! A list through a queue, from a child. Lecture B ("Module 05 - Processes"), row 1.8; lecture D ("Многопроцессорность"), row 3.4. There
//! `get` must come before `join`, or a long list keeps the child from its end and the parent with it; here the order
//! does not matter, since what was sent is in the mailbox, whoever is gone.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::fmt;

use procession::mailbox::Sender;
use procession::{Failure, mailbox, process};
use serde::{Deserialize, Serialize};

// ANCHOR: functions
/// What those lists hold.
#[derive(Serialize, Deserialize)]
enum Item {
    Number(i64),
    Text(String),
}

#[process]
async fn put(list: Vec<Item>, queue: Sender<Vec<Item>>) -> Result<(), Failure> {
    queue.send(list).await?;
    Ok(())
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sender, queue) = mailbox(2)?;
    for list in lists() {
        put(list, sender.clone()).await??;
    }
    sender.close();
    while let Some(list) = queue.recv().await {
        println!("{list:?}");
    }
    Ok(())
}
// ANCHOR_END: main

fn lists() -> [Vec<Item>; 2] {
    let text = |text: &str| Item::Text(text.into());
    [vec![text("one"), text("two"), Item::Number(3)], vec![text("u"), Item::Number(0), text("hello")]]
}

/// As Python shows it.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "'{text}'"),
        }
    }
}
