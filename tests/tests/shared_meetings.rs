//! Events, barriers and condition variables between processes: conformance SY09 to SY23.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::panic::Location;
use std::time::Duration;

use futures::{FutureExt, poll};
use procession::pipe::Sender;
use procession::shared::{Barrier, BarrierWaitResult, Event, Mutex, NewBarrierError, Region};
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

/// Meets the others so many times; gives how often it was the leader.
#[process]
async fn meets(barrier: Barrier, progress: Mutex<[u32; 5]>, me: usize, rounds: u32) -> Result<u32, Failure> {
    meet(&barrier, &progress, me, rounds).await
}

/// Nobody is a round ahead of another.
async fn meet(barrier: &Barrier, progress: &Mutex<[u32; 5]>, me: usize, rounds: u32) -> Result<u32, Failure> {
    let mut leads = 0;
    for round in 1..=rounds {
        progress.lock().await?[me] = round;
        leads += u32::from(barrier.wait().await?.is_leader());
        let all = *progress.lock().await?;
        assert!(all.iter().all(|it| (round..=round + 1).contains(it)), "{all:?} in round {round}");
    }
    Ok(leads)
}

/// Waits once; gives whether the round was completed, and it the leader.
#[process]
async fn waits_at(barrier: Barrier) -> Result<Option<bool>, Failure> {
    Ok(barrier.wait().await.ok().map(BarrierWaitResult::is_leader))
}

#[process]
fn waits_at_plainly(barrier: Barrier) -> Result<Option<bool>, Failure> {
    Ok(barrier.blocking_wait().ok().map(BarrierWaitResult::is_leader))
}

/// Counts the action, and gives what it sees of the count after each round.
#[process]
async fn acts(barrier: Barrier, actions: Mutex<u32>, rounds: u32) -> Result<Vec<u32>, Failure> {
    act(&barrier, &actions, rounds).await
}

async fn act(barrier: &Barrier, actions: &Mutex<u32>, rounds: u32) -> Result<Vec<u32>, Failure> {
    let mut seen = Vec::new();
    for _ in 0..rounds {
        barrier.wait_with(|| *actions.try_lock().unwrap() += 1).await?;
        seen.push(*actions.lock().await?);
        barrier.wait().await?;
    }
    Ok(seen)
}

/// As the last one to arrive, is long in its action.
#[process]
fn leads_slowly(barrier: Barrier, begins: Event, ends: Event) -> Result<bool, Failure> {
    let action = || {
        begins.set();
        ends.blocking_wait();
    };
    Ok(futures::executor::block_on(barrier.wait_with(action))?.is_leader())
}

/// Returns when so many have arrived.
async fn arrived(barrier: &Barrier, count: usize) {
    eventually_async(20 * SECOND, || barrier.waiting() == count).await;
}

async fn in_lockstep(rounds: u32) {
    let (barrier, progress) = (Barrier::new(5).unwrap(), Mutex::new([0; 5]).unwrap());
    let mut children = Vec::new();
    for me in 1..5 {
        children.push(meets(barrier.clone(), progress.clone(), me, rounds).spawn().await.unwrap());
    }
    let mut leads = in_time(meet(&barrier, &progress, 0, rounds)).await.unwrap();
    for child in children {
        leads += joined(child).await;
    }
    assert_eq!(leads, rounds);
    assert_eq!(barrier.waiting(), 0);
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

    /// SY17: five parties, one round.
    async fn sy17_one_round() {
        in_lockstep(1).await;
    }

    /// SY17: five parties, ten rounds.
    async fn sy17_ten_rounds() {
        in_lockstep(10).await;
    }

    /// Many rounds of tasks and processes: more than there is history.
    #[threads(2)]
    async fn rounds_without_end() {
        in_lockstep(500).await;
    }

    /// SY19: the action runs once in each round, before any party goes on.
    async fn sy19_action() {
        let (barrier, actions) = (Barrier::new(3).unwrap(), Mutex::new(0).unwrap());
        let one = acts(barrier.clone(), actions.clone(), 5).spawn().await.unwrap();
        let other = acts(barrier.clone(), actions.clone(), 5).spawn().await.unwrap();
        assert_eq!(in_time(act(&barrier, &actions, 5)).await.unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(joined(one).await, [1, 2, 3, 4, 5]);
        assert_eq!(joined(other).await, [1, 2, 3, 4, 5]);
    }

    /// One that comes while the action runs waits for the next round; the action may end.
    async fn comes_while_the_action_runs() {
        let (barrier, begins, ends) = (Barrier::new(2).unwrap(), Event::new().unwrap(), Event::new().unwrap());
        let mut first = std::pin::pin!(barrier.wait());
        assert!(poll!(&mut first).is_pending());
        let child = leads_slowly(barrier.clone(), begins.clone(), ends.clone()).spawn().await.unwrap();
        in_time(begins.wait()).await;
        let mut next = std::pin::pin!(barrier.wait());
        assert!(poll!(&mut next).is_pending());
        assert!(poll!(&mut first).is_pending());
        ends.set();
        assert!(!in_time(first).await.unwrap().is_leader());
        assert!(joined(child).await);
        let (last, next) = in_time(async { tokio::join!(barrier.wait(), next) }).await;
        assert!(last.unwrap().is_leader() != next.unwrap().is_leader());
    }

    /// A leader that is killed in its action breaks the barrier.
    async fn killed_in_its_action() {
        let (barrier, begins, ends) = (Barrier::new(2).unwrap(), Event::new().unwrap(), Event::new().unwrap());
        let mut first = std::pin::pin!(barrier.wait());
        assert!(poll!(&mut first).is_pending());
        let mut child = leads_slowly(barrier.clone(), begins.clone(), ends.clone()).spawn().await.unwrap();
        in_time(begins.wait()).await;
        let mut next = std::pin::pin!(barrier.wait());
        assert!(poll!(&mut next).is_pending());
        child.kill().await.unwrap();
        assert!(in_time(first).await.is_err());
        assert!(in_time(next).await.is_err());
    }

    /// An action that panics breaks the barrier.
    async fn panics_in_its_action() {
        let barrier = Barrier::new(2).unwrap();
        let mut first = std::pin::pin!(barrier.wait());
        assert!(poll!(&mut first).is_pending());
        let last = barrier.clone();
        tokio::spawn(async move { last.wait_with(|| panic!("as it is to")).await }).await.unwrap_err();
        assert!(in_time(first).await.is_err());
    }

    /// SY20: one aborts: the others get `Broken`, and so does who comes later, until somebody resets it.
    async fn sy20_abort() {
        let barrier = Barrier::new(3).unwrap();
        let one = waits_at(barrier.clone()).spawn().await.unwrap();
        let other = waits_at_plainly(barrier.clone()).spawn().await.unwrap();
        arrived(&barrier, 2).await;
        assert!(!barrier.is_broken());
        barrier.abort();
        assert_eq!((joined(one).await, joined(other).await), (None, None));
        assert!(barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);
        assert!(in_time(barrier.wait()).await.is_err());
        assert_eq!(joined(waits_at(barrier.clone()).spawn().await.unwrap()).await, None);

        barrier.reset();
        assert!(!barrier.is_broken());
        let one = waits_at(barrier.clone()).spawn().await.unwrap();
        let other = waits_at_plainly(barrier.clone()).spawn().await.unwrap();
        arrived(&barrier, 2).await;
        assert!(in_time(barrier.wait()).await.unwrap().is_leader());
        assert_eq!((joined(one).await, joined(other).await), (Some(false), Some(false)));
    }

    /// SY20: a party that is killed while it waits breaks the barrier for the others, within a second.
    async fn sy20_killed_while_it_waits() {
        let barrier = Barrier::new(3).unwrap();
        let mut killed = waits_at(barrier.clone()).spawn().await.unwrap();
        let other = waits_at(barrier.clone()).spawn().await.unwrap();
        arrived(&barrier, 2).await;
        killed.start_kill().unwrap();
        let is_broken = timeout(patience(SECOND), joined(other)).await;
        assert_eq!(is_broken.expect("it is noticed within a second"), None);
        killed.wait().await.unwrap();
        assert!(barrier.is_broken());
        assert!(in_time(barrier.wait()).await.is_err());
    }

    /// Nobody waits, so that nobody watches, when a party is killed: whoever comes, or asks, finds out.
    async fn killed_while_nobody_watches() {
        for asks in [true, false] {
            let barrier = Barrier::new(2).unwrap();
            let mut killed = waits_at(barrier.clone()).spawn().await.unwrap();
            arrived(&barrier, 1).await;
            killed.kill().await.unwrap();
            assert!(!asks || barrier.is_broken());
            assert!(in_time(barrier.wait()).await.is_err());
        }
    }

    /// Who gets the slot of a party that was killed does not make up for it.
    async fn another_in_the_slot_of_the_dead() {
        let size = Barrier::size_in_region() + Event::size_in_region();
        let region = Region::with_capacity(size).unwrap();
        let (barrier, event) = (Barrier::new_in(&region, 3).unwrap(), Event::new_in(&region).unwrap());
        let mut killed = waits_at(barrier.clone()).spawn().await.unwrap();
        arrived(&barrier, 1).await;
        // Who waits for anything in a region frees the slots of the dead.
        let mut waiting = std::pin::pin!(event.wait());
        assert!(poll!(&mut waiting).is_pending());
        killed.kill().await.unwrap();
        eventually_async(20 * SECOND, || region.members().len() == 1).await;
        let next = waits_at(barrier.clone()).spawn().await.unwrap();
        assert_eq!(joined(next).await, None);
        assert!(barrier.is_broken());
    }

    /// SY22: a wait that times out breaks the barrier for all.
    async fn sy22_timeout() {
        let barrier = Barrier::new(3).unwrap();
        let one = waits_at(barrier.clone()).spawn().await.unwrap();
        arrived(&barrier, 1).await;
        timeout(TICK, barrier.wait()).await.unwrap_err();
        assert_eq!(joined(one).await, None);
        assert!(barrier.is_broken());
        assert!(in_time(barrier.wait()).await.is_err());
    }

    /// One that is dropped after the round was completed breaks nothing.
    async fn dropped_when_it_was_completed() {
        let barrier = Barrier::new(2).unwrap();
        let mut first = Box::pin(barrier.wait());
        assert!(poll!(&mut first).is_pending());
        assert!(barrier.wait().await.unwrap().is_leader());
        drop(first);
        assert!(!barrier.is_broken());
    }

    /// SY23: a barrier for one, and the limits of the number of parties.
    #[once]
    async fn sy23_one_party() {
        let barrier = Barrier::new(1).unwrap();
        for _ in 0..3 {
            assert!(barrier.wait().now_or_never().unwrap().unwrap().is_leader());
        }
        assert!(barrier.blocking_wait().unwrap().is_leader());
        assert_eq!(Barrier::new(4095).unwrap().parties(), 4095);
        for parties in [0, 4096, usize::MAX] {
            let error = Barrier::new(parties).unwrap_err();
            assert!(matches!(error, NewBarrierError::Parties { parties: it } if it == parties));
        }
    }

    /// A party that was stopped learns what became of its round, whatever has become of others since.
    async fn stopped_while_it_waits_at_a_barrier() {
        for is_reset in [false, true] {
            let barrier = Barrier::new(2).unwrap();
            let late = waits_at(barrier.clone()).spawn().await.unwrap();
            arrived(&barrier, 1).await;
            stop(&late).await;
            if is_reset {
                barrier.reset();
            } else {
                assert!(in_time(barrier.wait()).await.unwrap().is_leader());
            }
            for _ in 0..5 {
                let (one, other) = in_time(async { tokio::join!(barrier.wait(), barrier.wait()) }).await;
                assert!(one.unwrap().is_leader() != other.unwrap().is_leader());
                // The other way round than the round that is looked for.
                if !is_reset {
                    barrier.abort();
                    barrier.reset();
                }
            }
            signal(&late, Signal::CONT);
            assert_eq!(joined(late).await, (!is_reset).then_some(false));
        }
    }

    /// A reset sends those away that wait.
    async fn reset_while_others_wait() {
        let barrier = Barrier::new(2).unwrap();
        let mut first = std::pin::pin!(barrier.wait());
        assert!(poll!(&mut first).is_pending());
        barrier.reset();
        assert!(in_time(first).await.is_err());
        assert!(!barrier.is_broken());
        assert_eq!(barrier.waiting(), 0);
    }
}
