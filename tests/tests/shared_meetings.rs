//! Events, barriers and condition variables between processes: conformance SY09 to SY23.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::panic::Location;
use std::time::Duration;

use futures::{FutureExt, poll};
use procession::pipe::Sender;
use procession::shared::Event;
use procession::{Failure, Pipe, Process, pipe, process, simplex};
use procession_tests::{eventually_async, isolated, patience, state};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(1);

/// What takes no longer than that, however busy the machine is.
#[track_caller]
fn in_time<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let done = timeout(patience(20 * SECOND), future).await;
        done.unwrap_or_else(|_elapsed| panic!("what {caller} waits for did not happen"))
    }
}

fn signal<T>(process: &Process<T>, signal: Signal) {
    kill_process(Pid::from_raw(process.pid().cast_signed()).unwrap(), signal).unwrap();
}

/// Stops a process, and returns when it stands still.
async fn stop<T>(process: &Process<T>) {
    signal(process, Signal::STOP);
    eventually_async(20 * SECOND, || state(process.pid()) == Some('T')).await;
}

/// Waits for the end of a child, which must be a good one.
async fn joined<T: serde::de::DeserializeOwned + 'static>(mut child: Process<Result<T, Failure>>) -> T {
    in_time(child.join()).await.unwrap().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Says by the pipe that it waits for the event, and then that the wait is over.
#[process]
async fn waits_for_event(event: Event, mut says: Sender<bool>) -> Result<(), Failure> {
    let mut waiting = std::pin::pin!(event.wait());
    let is_over = poll!(&mut waiting).is_ready();
    says.send(is_over).await?;
    waiting.await;
    says.send(true).await?;
    Ok(())
}

#[process]
fn waits_for_event_plainly(event: Event, answer: Event) -> Result<(), Failure> {
    event.blocking_wait();
    answer.set();
    Ok(())
}

#[process]
async fn sets(event: Event) -> Result<(), Failure> {
    event.set();
    Ok(())
}

/// Sets and clears whatever event comes by its pipe, until that ends.
#[process]
async fn pulses(mut pipe: Pipe<(), Event>) -> Result<(), Failure> {
    while let Some(event) = pipe.recv().await? {
        event.set();
        event.clear();
        pipe.send(()).await?;
    }
    Ok(())
}

isolated! {
    /// SY15: unset at first; `set` ends waits of all processes, and those that begin later, until `clear`.
    async fn sy15_event() {
        let event = Event::new().unwrap();
        assert!(!event.is_set());
        assert!(event.wait().now_or_never().is_none());
        timeout(TICK, event.wait()).await.unwrap_err();
        event.set();
        assert!(event.is_set());
        assert!(event.wait().now_or_never().is_some());
        event.blocking_wait();
        event.set();
        event.clear();
        assert!(!event.is_set());
        event.clear();
        timeout(TICK, event.wait()).await.unwrap_err();

        let child = sets(event.clone()).spawn().await.unwrap();
        in_time(event.wait()).await;
        joined(child).await;
        assert!(event.is_set());
    }

    /// SY15: a plain function waits, and answers by another event.
    async fn sy15_plain_function() {
        let (event, answer) = (Event::new().unwrap(), Event::new().unwrap());
        let child = waits_for_event_plainly(event.clone(), answer.clone()).spawn().await.unwrap();
        timeout(TICK, answer.wait()).await.unwrap_err();
        event.set();
        in_time(answer.wait()).await;
        joined(child).await;
    }

    /// SY16: it says whether it is set.
    #[once]
    fn sy16_debug() {
        let event = Event::new().unwrap();
        assert_eq!(format!("{event:?}"), "Event(unset)");
        event.set();
        assert_eq!(format!("{event:?}"), "Event(set)");
    }

    /// Set and cleared at once: those that waited are released, in this process and in others; those that come later wait.
    async fn set_and_cleared_at_once() {
        let event = Event::new().unwrap();
        let (says, mut said) = simplex().unwrap();
        let child = waits_for_event(event.clone(), says).spawn().await.unwrap();
        assert_eq!(said.recv().await.unwrap(), Some(false));
        let begun_unpolled = event.wait();
        let mut parked = std::pin::pin!(event.wait());
        assert!(poll!(&mut parked).is_pending());
        event.set();
        event.clear();
        in_time(begun_unpolled).await;
        in_time(parked).await;
        assert_eq!(in_time(said.recv()).await.unwrap(), Some(true));
        assert!(event.wait().now_or_never().is_none());
        joined(child).await;
    }

    /// Events come through a pipe, and are the same ones there.
    async fn event_through_a_pipe() {
        let (mut here, there) = pipe::<Event, ()>().unwrap();
        let child = pulses(there).spawn().await.unwrap();
        for _ in 0..20 {
            let event = Event::new().unwrap();
            let mut parked = std::pin::pin!(event.wait());
            assert!(poll!(&mut parked).is_pending());
            here.send(event.clone()).await.unwrap();
            in_time(parked).await;
            in_time(here.recv()).await.unwrap();
            assert!(!event.is_set());
        }
        drop(here);
        joined(child).await;
    }

    /// One that waits and is stopped keeps nobody from the event, and sees it when it goes on.
    async fn stopped_while_it_waits_for_an_event() {
        let event = Event::new().unwrap();
        let (says, mut said) = simplex().unwrap();
        let (other_says, mut other_said) = simplex().unwrap();
        let stopped = waits_for_event(event.clone(), says).spawn().await.unwrap();
        let other = waits_for_event(event.clone(), other_says).spawn().await.unwrap();
        assert_eq!(said.recv().await.unwrap(), Some(false));
        assert_eq!(other_said.recv().await.unwrap(), Some(false));
        stop(&stopped).await;
        event.set();
        in_time(event.wait()).await;
        assert_eq!(in_time(other_said.recv()).await.unwrap(), Some(true));
        event.clear();
        signal(&stopped, Signal::CONT);
        assert_eq!(in_time(said.recv()).await.unwrap(), Some(true));
        joined(stopped).await;
        joined(other).await;
    }

    /// A wait that begins in one runtime and goes on in another, when the first one is gone.
    fn event_from_runtime_to_runtime() {
        let (one, event) = (runtime(), Event::new().unwrap());
        let mut waiting = Box::pin(event.wait());
        one.block_on(async { assert!(poll!(&mut waiting).is_pending()) });
        drop(one);
        let other = runtime();
        other.block_on(async {
            let child = sets(event.clone()).spawn().await.unwrap();
            in_time(waiting).await;
            joined(child).await;
        });
        drop(other);
        event.clear();
        let setter = std::thread::spawn({
            let event = event.clone();
            move || event.set()
        });
        event.blocking_wait();
        setter.join().unwrap();
    }
}
