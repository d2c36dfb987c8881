//! Mailboxes through a mailbox: who asks sends the mailbox in which it wants the answer. Any number of processes ask, any number answer, and nobody
//! knows of the others.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::mailbox::{Builder, Handles, Receiver, Sender};
use procession::{Failure, ProcessSet, mailbox, process};
use serde::{Deserialize, Serialize};

// ANCHOR: functions
#[derive(Serialize, Deserialize)]
struct Question {
    text: String,
    answer_to: Sender<usize>,
}

#[process]
async fn answer(questions: Receiver<Question, Handles>) -> Result<(), Failure> {
    while let Some(Question { text, answer_to }) = questions.recv().await {
        answer_to.send(text.len()).await?;
    }
    Ok(())
}

/// Gives the answer, or `None` if whoever has the question has died with it.
async fn ask(questions: &Sender<Question, Handles>, text: &str) -> Result<Option<usize>, Failure> {
    let (answer_to, answer) = mailbox(1)?;
    questions.send(Question { text: text.to_owned(), answer_to }).await?;
    Ok(answer.recv().await)
}
// ANCHOR_END: functions

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failure> {
    let (sender, questions) = Builder::new(16).build_with_handles()?;
    let mut processes = ProcessSet::new();
    for _ in 0..3 {
        processes.spawn(answer(questions.clone())).await?;
    }
    drop(questions);
    for text in ["one", "three", "seventeen"] {
        println!("{text}: {:?}", ask(&sender, text).await?);
    }
    drop(sender);
    while let Some(ended) = processes.join_next().await {
        ended??;
    }
    Ok(())
}
