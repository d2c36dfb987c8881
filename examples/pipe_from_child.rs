//! A list through a pipe, from a child. Lecture A ("Multiprozessing"), row 0.12; lecture B ("Module 05 - Processes"), row 1.9;
//! lecture D ("Многопроцессорность"), row 3.5. There both processes have both ends, and whoever forgets to close one of them
//! waits for ever; here an end is where it was moved to, and the child's closes when its function is done with it.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::fmt;

use procession::pipe::Sender;
use procession::{Failure, process, simplex};
use serde::{Deserialize, Serialize};

// ANCHOR: functions
/// What those lists hold.
#[derive(Serialize, Deserialize)]
enum Item {
    None,
    Number(i64),
    Text(String),
}

#[process]
async fn send_list(list: Vec<Item>, mut pipe: Sender<Vec<Item>>) -> Result<(), Failure> {
    pipe.send(list).await?;
    Ok(())
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for list in lists() {
        let (sender, mut receiver) = simplex()?;
        let mut child = send_list(list, sender).spawn().await?;
        while let Some(list) = receiver.recv().await? {
            println!("{list:?}");
        }
        child.join().await??;
    }
    Ok(())
}
// ANCHOR_END: main

fn lists() -> [Vec<Item>; 3] {
    [
        vec![Item::Number(42), Item::None, Item::Text("Hello World!".into())],
        vec![Item::Text("hello".into()), Item::Text("world".into())],
        vec![Item::Number(23), Item::None, Item::Text("child".into())],
    ]
}

/// As Python shows it.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "'{text}'"),
        }
    }
}
