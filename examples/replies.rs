//! A question that brings along where its answer is to go.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::pipe::{Receiver, Sender};
use procession::{Failure, process, simplex};
use serde::{Deserialize, Serialize};

// ANCHOR: all
#[derive(Serialize, Deserialize)]
struct Question {
    word: String,
    answer: Sender<String>,
}

#[process]
async fn dictionary(mut questions: Receiver<Question>) -> Result<(), Failure> {
    while let Some(Question { word, mut answer }) = questions.recv().await? {
        let translated = match word.as_str() {
            "dog" => "Hund",
            "cat" => "Katze",
            // Nobody answers: the end that was to do it is dropped.
            _ => continue,
        };
        // Whoever has asked may be gone: that is no reason to end.
        let _gone = answer.send(translated.into()).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut questions, receiver) = simplex()?;
    let mut dictionary = dictionary(receiver).spawn().await?;
    for word in ["dog", "unicorn", "cat"] {
        let (answer, mut answers) = simplex()?;
        questions.send(Question { word: word.into(), answer }).await?;
        println!("{word}: {:?}", answers.recv().await?);
    }
    drop(questions);
    dictionary.join().await??;
    Ok(())
}
// ANCHOR_END: all
