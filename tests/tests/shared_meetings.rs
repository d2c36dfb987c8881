//! Events, barriers and condition variables between processes: conformance SY09 to SY23.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures::{FutureExt, poll};
use procession::pipe::{Receiver, Sender};
use procession::shared::{Barrier, BarrierWaitResult, Condvar, Event, Mutex, NewBarrierError, Region};
use procession::{Failure, Pipe, Process, pipe, process, simplex};
use procession_tests::{eventually_async, in_time, isolated, patience, state};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(1);

fn signal<T>(process: &Process<T>, signal: Signal) {
    kill_process(Pid::from_raw(process.pid().cast_signed()).unwrap(), signal).unwrap();
}

/// Stops a process, and returns when it stands still.
async fn stop<T>(process: &Process<T>) {
    signal(process, Signal::STOP);
    eventually_async(20 * SECOND, || state(process.pid()) == Some('T')).await;
}

/// What a task of any runtime can do.
const fn can_be_spawned(_: &(impl Future + Send)) {}

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

/// Does so each time that it is told to.
#[process]
async fn sets_when_told(event: Event, mut told: Receiver<()>) -> Result<(), Failure> {
    while told.recv().await?.is_some() {
        event.set();
    }
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

/// The same, when it has waited for something else: from then on it is told of deaths, and does not look for those before.
#[process]
async fn waits_at_later(barrier: Barrier, event: Event) -> Result<Option<bool>, Failure> {
    assert!(event.wait().now_or_never().is_none());
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

/// How many have begun to wait, and how many have been woken.
type Counts = [u32; 2];

async fn wait_once(counts: &Mutex<Counts>, changed: &Condvar) -> Result<(), Failure> {
    let mut guard = counts.lock().await?;
    guard[0] += 1;
    let mut guard = changed.wait(guard).await?;
    guard[1] += 1;
    Ok(())
}

#[process]
async fn waits_once(counts: Mutex<Counts>, changed: Condvar) -> Result<(), Failure> {
    wait_once(&counts, &changed).await
}

#[process]
fn waits_once_plainly(counts: Mutex<Counts>, changed: Condvar) -> Result<(), Failure> {
    let mut guard = counts.blocking_lock()?;
    guard[0] += 1;
    changed.blocking_wait(guard)?[1] += 1;
    Ok(())
}

/// Waits, gives up, and stays.
#[process]
async fn gives_up(counts: Mutex<Counts>, changed: Condvar) -> Result<(), Failure> {
    let mut guard = counts.lock().await?;
    guard[0] += 1;
    let mut waiting = Box::pin(changed.wait(guard));
    assert!(poll!(&mut waiting).is_pending());
    drop(waiting);
    counts.lock().await?[0] += 1;
    std::future::pending().await
}

/// Says whether it timed out.
#[process]
async fn waits_in_vain(counts: Mutex<Counts>, changed: Condvar) -> Result<bool, Failure> {
    Ok(timeout(TICK, wait_once(&counts, &changed)).await.is_err())
}

async fn began(counts: &Mutex<Counts>, count: u32) {
    eventually_async(20 * SECOND, || counts.try_lock().is_ok_and(|counts| counts[0] == count)).await;
}

async fn woken(counts: &Mutex<Counts>, count: u32) {
    eventually_async(20 * SECOND, || counts.try_lock().is_ok_and(|counts| counts[1] == count)).await;
}

/// Nobody else is woken: a chance to fail, which takes a moment.
async fn only_woken(counts: &Mutex<Counts>, count: u32) {
    woken(counts, count).await;
    tokio::time::sleep(20 * TICK).await;
    assert_eq!(counts.lock().await.unwrap()[1], count);
}

fn meeting() -> (Mutex<Counts>, Condvar) {
    (Mutex::new([0; 2]).unwrap(), Condvar::new().unwrap())
}

/// Waits until four, which is where others count to.
#[process]
async fn waits_for_four(state: Mutex<u32>, changed: Condvar) -> Result<u32, Failure> {
    let mut guard = state.lock().await?;
    *guard = 0;
    changed.notify_all();
    Ok(*changed.wait_while(guard, |state| *state < 4).await?)
}

/// Takes tokens until there is an end of them; gives how many it had.
#[process]
async fn consumes(tokens: Mutex<[u32; 2]>, changed: Condvar) -> Result<u32, Failure> {
    consume(&tokens, &changed).await
}

async fn consume(tokens: &Mutex<[u32; 2]>, changed: &Condvar) -> Result<u32, Failure> {
    let mut had = 0;
    loop {
        let guard = tokens.lock().await?;
        let mut guard = changed.wait_while(guard, |[tokens, is_end]| *tokens + *is_end == 0).await?;
        if guard[0] == 0 {
            return Ok(had);
        }
        guard[0] -= 1;
        had += 1;
    }
}

/// Locks and notifies, and is killed while it has the lock.
#[process]
async fn notifies_and_keeps(counts: Mutex<Counts>, changed: Condvar) -> Result<(), Failure> {
    let mut guard = counts.lock().await?;
    guard[1] += 100;
    changed.notify_one();
    std::future::pending::<()>().await;
    Ok(())
}

/// Notifies one, when it is woken; and how often it was.
struct Notifies(Condvar, AtomicUsize);

impl Wake for Notifies {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, SeqCst);
        self.0.notify_one();
    }
}

type Everything = (Mutex<Counts>, Condvar, Barrier, Event);

/// Uses all that comes in one message.
#[process]
async fn meets_in_all_ways(mut pipe: Pipe<(), Everything>) -> Result<(), Failure> {
    let (counts, changed, barrier, event) = pipe.recv().await?.ok_or(std::fmt::Error)?;
    event.wait().await;
    wait_once(&counts, &changed).await?;
    barrier.wait().await?;
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

        // Several times: who begins to wait, or hears that somebody joins, looks once more without a wake-up. One that ends is heard of, too.
        let (mut tell, told) = simplex().unwrap();
        let child = sets_when_told(event.clone(), told).spawn().await.unwrap();
        for _ in 0..5 {
            let mut waiting = std::pin::pin!(event.wait());
            assert!(poll!(&mut waiting).is_pending());
            tell.send(()).await.unwrap();
            in_time(waiting).await;
            assert!(event.is_set());
            event.clear();
        }
        drop(tell);
        joined(child).await;
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

    /// The same for one that comes when this process watches already, and none of its tasks sleeps, which would hear of it.
    async fn killed_while_nobody_sleeps() {
        let barrier = Barrier::new(2).unwrap();
        for _ in 0..3 {
            let first = waits_at(barrier.clone()).spawn().await.unwrap();
            arrived(&barrier, 1).await;
            assert!(in_time(barrier.wait()).await.unwrap().is_leader());
            assert_eq!(joined(first).await, Some(false));
            let mut killed = waits_at(barrier.clone()).spawn().await.unwrap();
            arrived(&barrier, 1).await;
            killed.kill().await.unwrap();
            assert!(in_time(barrier.wait()).await.is_err());
            barrier.reset();
        }
    }

    /// Who gets the slot of a party that was killed does not make up for it.
    async fn another_in_the_slot_of_the_dead() {
        for is_told_of_deaths in [false, true] {
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
            let next = if is_told_of_deaths {
                waits_at_later(barrier.clone(), event.clone()).spawn().await.unwrap()
            } else {
                waits_at(barrier.clone()).spawn().await.unwrap()
            };
            assert_eq!(joined(next).await, None);
            assert!(barrier.is_broken());
        }
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

    /// SY09: each notice wakes one, be it a process or a task.
    async fn sy09_notify_one() {
        let (counts, changed) = meeting();
        let child = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        let plain = waits_once_plainly(counts.clone(), changed.clone()).spawn().await.unwrap();
        let task = tokio::spawn({
            let (counts, changed) = (counts.clone(), changed.clone());
            async move { wait_once(&counts, &changed).await.unwrap() }
        });
        began(&counts, 3).await;
        only_woken(&counts, 0).await;
        for count in 1..=3 {
            changed.notify_one();
            only_woken(&counts, count).await;
        }
        joined(child).await;
        joined(plain).await;
        task.await.unwrap();
    }

    /// SY10: three processes and three tasks time out; three others of each are woken all at once.
    async fn sy10_notify_all() {
        let (counts, changed) = meeting();
        let wait = || tokio::spawn({
            let (counts, changed) = (counts.clone(), changed.clone());
            async move { wait_once(&counts, &changed).await.unwrap() }
        });
        let mut in_vain = Vec::new();
        for _ in 0..3 {
            in_vain.push(waits_in_vain(counts.clone(), changed.clone()).spawn().await.unwrap());
            timeout(TICK, wait_once(&counts, &changed)).await.unwrap_err();
        }
        for child in in_vain {
            assert!(joined(child).await);
        }
        let (mut children, tasks) = (Vec::new(), [wait(), wait(), wait()]);
        for _ in 0..3 {
            children.push(waits_once(counts.clone(), changed.clone()).spawn().await.unwrap());
        }
        eventually_async(20 * SECOND, || counts.try_lock().is_ok_and(|counts| counts[0] == 12)).await;
        only_woken(&counts, 0).await;
        changed.notify_all();
        woken(&counts, 6).await;
        for child in children {
            joined(child).await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        // None is left that a later wait would find.
        timeout(20 * TICK, wait_once(&counts, &changed)).await.unwrap_err();
    }

    /// SY10: as many as were named, and all that there are where there are fewer.
    async fn sy10_notify_n() {
        let (counts, changed) = meeting();
        let mut children = Vec::new();
        for _ in 0..3 {
            children.push(waits_once(counts.clone(), changed.clone()).spawn().await.unwrap());
        }
        began(&counts, 3).await;
        changed.notify_n(0);
        only_woken(&counts, 0).await;
        changed.notify_n(2);
        only_woken(&counts, 2).await;
        changed.notify_n(7);
        only_woken(&counts, 3).await;
        for child in children {
            joined(child).await;
        }
    }

    /// SY12: a wait that times out has unlocked, and does not lock again; one that is notified has the lock.
    async fn sy12_timeout() {
        let (counts, changed) = meeting();
        let guard = counts.lock().await.unwrap();
        timeout(TICK, changed.wait(guard)).await.unwrap_err();
        drop(counts.try_lock().unwrap());

        let mut guard = counts.lock().await.unwrap();
        guard[0] = 7;
        let mut waiting = Box::pin(changed.wait(guard));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(counts.try_lock().unwrap()[0], 7);
        changed.notify_one();
        let guard = in_time(waiting).await.unwrap();
        assert!(counts.try_lock().is_err());
        assert_eq!(*guard, [7, 0]);
        drop(guard);

        // Never polled: as if the guard had been dropped.
        let mut guard = counts.lock().await.unwrap();
        guard[0] = 8;
        drop(changed.wait(guard));
        assert_eq!(counts.try_lock().unwrap()[0], 8);
    }

    /// SY13: a handshake by a value, from 0 to 4.
    async fn sy13_wait_while() {
        let (state, changed) = (Mutex::new(u32::MAX).unwrap(), Condvar::new().unwrap());
        let child = waits_for_four(state.clone(), changed.clone()).spawn().await.unwrap();
        let guard = state.lock().await.unwrap();
        let guard = in_time(changed.wait_while(guard, |state| *state != 0)).await.unwrap();
        drop(guard);
        for _ in 0..4 {
            *state.lock().await.unwrap() += 1;
            changed.notify_one();
        }
        assert_eq!(joined(child).await, 4);
    }

    /// SY14: what never comes true times out, with notices or without.
    async fn sy14_wait_while_times_out() {
        let (counts, changed) = meeting();
        let guard = counts.lock().await.unwrap();
        timeout(TICK, changed.wait_while(guard, |_| true)).await.unwrap_err();
        let guard = counts.lock().await.unwrap();
        let waiting = changed.wait_while(guard, |counts| {
            counts[0] += 1;
            true
        });
        let mut waiting = Box::pin(waiting);
        for looks in 1..5 {
            assert!(poll!(&mut waiting).is_pending());
            assert_eq!(counts.try_lock().unwrap()[0], looks);
            changed.notify_all();
        }
        drop(waiting);
        drop(counts.try_lock().unwrap());
    }

    /// A notice is for those who wait: nobody finds it later.
    async fn no_stored_notices() {
        let (counts, changed) = meeting();
        changed.notify_one();
        changed.notify_n(3);
        changed.notify_all();
        timeout(20 * TICK, wait_once(&counts, &changed)).await.unwrap_err();
        let child = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 2).await;
        changed.notify_n(5);
        only_woken(&counts, 1).await;
        joined(child).await;
        timeout(20 * TICK, wait_once(&counts, &changed)).await.unwrap_err();
    }

    /// To unlock and to wait is one step: who notifies as soon as it is unlocked finds who waits.
    #[once]
    async fn notified_as_soon_as_it_is_unlocked() {
        let (counts, changed) = meeting();
        let guard = counts.lock().await.unwrap();
        let notifies = Arc::new(Notifies(changed.clone(), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&notifies));
        let mut other = Box::pin(counts.lock());
        assert!(other.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // It is told to look once more when this process begins to watch for deaths, and by nobody else.
        eventually_async(20 * SECOND, || notifies.1.load(SeqCst) == 1).await;
        assert!(other.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let mut waiting = Box::pin(changed.wait(guard));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(notifies.1.load(SeqCst), 2);
        drop(other);
        drop(in_time(waiting).await.unwrap());
    }

    /// Those of one process are notified in the order in which they came, and who comes later takes nobody's notice.
    #[once]
    async fn in_their_order() {
        let (counts, changed) = meeting();
        let waits = || async { drop(changed.wait(counts.lock().await.unwrap()).await.unwrap()) };
        let [mut one, mut two, mut three] = [Box::pin(waits()), Box::pin(waits()), Box::pin(waits())];
        assert!(poll!(&mut one).is_pending());
        assert!(poll!(&mut two).is_pending());
        changed.notify_n(2);
        assert!(poll!(&mut three).is_pending());
        assert!(poll!(&mut two).is_ready());
        assert!(poll!(&mut three).is_pending());
        assert!(poll!(&mut one).is_ready());
        assert!(poll!(&mut three).is_pending());
        changed.notify_one();
        in_time(three).await;
    }

    /// Two wait, one is notified and dropped: the other one gets the notice; in this process, and in another.
    async fn notified_and_dropped() {
        let (counts, changed) = meeting();
        let mut one = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut one).is_pending());
        let mut two = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut two).is_pending());
        changed.notify_one();
        drop(one);
        in_time(two).await.unwrap();

        let (counts, changed) = meeting();
        // The first search begins with whoever has made it.
        let mut one = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut one).is_pending());
        let child = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 2).await;
        changed.notify_one();
        only_woken(&counts, 0).await;
        drop(one);
        only_woken(&counts, 1).await;
        joined(child).await;
    }

    /// One that was notified is dropped while it waits for the lock: another one gets the notice.
    async fn dropped_before_it_has_the_lock() {
        let (counts, changed) = meeting();
        let mut one = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut one).is_pending());
        let child = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 2).await;
        let guard = counts.lock().await.unwrap();
        changed.notify_one();
        assert!(poll!(&mut one).is_pending());
        assert!(poll!(&mut one).is_pending());
        drop(one);
        drop(guard);
        only_woken(&counts, 1).await;
        joined(child).await;
        drop(counts.try_lock().unwrap());
    }

    /// One that is dropped without a notice takes none away.
    async fn dropped_without_a_notice() {
        let (counts, changed) = meeting();
        let mut one = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut one).is_pending());
        let mut two = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut two).is_pending());
        drop(one);
        changed.notify_one();
        in_time(two).await.unwrap();
        timeout(20 * TICK, wait_once(&counts, &changed)).await.unwrap_err();
    }

    /// Who gives up without a notice waits no longer in the eyes of others either: what is notified later is for those elsewhere.
    async fn given_up_here_and_waiting_elsewhere() {
        let (counts, changed) = meeting();
        // The first search begins with this process.
        let mut one = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut one).is_pending());
        drop(one);
        let child = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 2).await;
        changed.notify_one();
        only_woken(&counts, 1).await;
        joined(child).await;

        // And the other way: a child gives up, and this process waits; the second search begins behind this process.
        let (counts, changed) = meeting();
        let mut child = gives_up(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 2).await;
        for _ in 0..2 {
            let mut here = Box::pin(wait_once(&counts, &changed));
            assert!(poll!(&mut here).is_pending());
            changed.notify_one();
            in_time(here).await.unwrap();
        }
        child.kill().await.unwrap();
    }

    /// One that was notified is killed before it has the lock: another one gets the notice.
    async fn notified_and_killed() {
        let (counts, changed) = meeting();
        let mut killed = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 1).await;
        stop(&killed).await;
        changed.notify_one();
        let mut here = Box::pin(wait_once(&counts, &changed));
        assert!(poll!(&mut here).is_pending());
        let child = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 3).await;
        only_woken(&counts, 0).await;
        killed.kill().await.unwrap();
        // One gets it here, or there; a second time it may be woken without a notice.
        let mut woken = 0;
        eventually_async(20 * SECOND, || {
            if woken == 0 && (&mut here).now_or_never().is_some() {
                woken += 1;
            }
            woken > 0 || counts.try_lock().is_ok_and(|counts| counts[1] > 0)
        }).await;
        changed.notify_all();
        if woken == 0 {
            in_time(here).await.unwrap();
        }
        joined(child).await;
    }

    /// One that was notified while it waits for the lock is killed: another one gets the notice.
    async fn killed_before_it_has_the_lock() {
        let (counts, changed) = meeting();
        let mut killed = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 1).await;
        let guard = counts.lock().await.unwrap();
        changed.notify_one();
        // Another lock, because that one is not to be had: neither by the one that was notified.
        let other = Mutex::new(0).unwrap();
        let mut here = Box::pin(changed.wait(other.lock().await.unwrap()));
        assert!(poll!(&mut here).is_pending());
        // By then it has most likely seen its notice; if not, that is as good.
        tokio::time::sleep(20 * TICK).await;
        assert!(poll!(&mut here).is_pending());
        killed.kill().await.unwrap();
        drop(in_time(here).await.unwrap());
        assert_eq!(*guard, [1, 0]);
    }

    /// One that waits and is stopped keeps nobody else from being notified.
    async fn stopped_while_it_waits_to_be_notified() {
        let (counts, changed) = meeting();
        let stopped = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        let other = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
        began(&counts, 2).await;
        stop(&stopped).await;
        changed.notify_one();
        changed.notify_one();
        only_woken(&counts, 1).await;
        joined(other).await;
        in_time(async { changed.notify_all() }).await;
        signal(&stopped, Signal::CONT);
        joined(stopped).await;
        assert_eq!(counts.lock().await.unwrap()[1], 2);
    }

    /// The owner dies that one waits for after its notice: it gets the guard that says so, and can wait by that as by another.
    async fn owner_dies_while_another_waits() {
        let (counts, changed) = meeting();
        let mut guard = counts.lock().await.unwrap();
        guard[0] = 1;
        let mut waiting = Box::pin(changed.wait(guard));
        assert!(poll!(&mut waiting).is_pending());
        let mut keeper = notifies_and_keeps(counts.clone(), changed.clone()).spawn().await.unwrap();
        eventually_async(20 * SECOND, || counts.owner() == Some(keeper.pid())).await;
        keeper.kill().await.unwrap();
        // Without its notice, if it was killed before that.
        changed.notify_all();
        let mut guard = in_time(waiting).await.unwrap_err().recover();
        assert_eq!(*guard, [1, 0]);
        guard[0] = 2;
        let mut waiting = Box::pin(changed.wait(guard));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(*counts.try_lock().unwrap(), [2, 0]);
        changed.notify_one();
        let mut guard = in_time(waiting).await.unwrap();
        guard[1] = 3;
        assert!(counts.try_lock().is_err());
        drop(guard);
        assert_eq!(*counts.try_lock().unwrap(), [2, 3]);
    }

    /// A wait that begins in one runtime and goes on in another, when the first one is gone.
    fn condvar_from_runtime_to_runtime() {
        let (counts, changed) = meeting();
        let one = runtime();
        let mut waiting = Box::pin(wait_once(&counts, &changed));
        one.block_on(async { assert!(poll!(&mut waiting).is_pending()) });
        drop(one);
        let other = runtime();
        other.block_on(async {
            let child = waits_once(counts.clone(), changed.clone()).spawn().await.unwrap();
            began(&counts, 2).await;
            let notifier = std::thread::spawn({
                let changed = changed.clone();
                move || changed.notify_all()
            });
            in_time(waiting).await.unwrap();
            notifier.join().unwrap();
            joined(child).await;
        });
    }

    /// Tokens of one, and takers in three processes: none is lost, and no taker sleeps beside one.
    #[threads(2)]
    async fn no_lost_notices() {
        const TOKENS: u32 = 3000;
        let (tokens, changed) = (Mutex::new([0; 2]).unwrap(), Condvar::new().unwrap());
        let (one, other) = (
            consumes(tokens.clone(), changed.clone()).spawn().await.unwrap(),
            consumes(tokens.clone(), changed.clone()).spawn().await.unwrap(),
        );
        let tasks = [(); 3].map(|()| tokio::spawn({
            let (tokens, changed) = (tokens.clone(), changed.clone());
            async move { consume(&tokens, &changed).await.unwrap() }
        }));
        for n in 0..TOKENS {
            tokens.lock().await.unwrap()[0] += 1;
            changed.notify_one();
            if n % 100 == 0 {
                // What was lost until now is not made up for by a later notice.
                let is_taken = async { while tokens.lock().await.unwrap()[0] > 0 { tokio::task::yield_now().await } };
                in_time(is_taken).await;
            }
        }
        tokens.lock().await.unwrap()[1] = 1;
        changed.notify_all();
        let mut had = joined(one).await + joined(other).await;
        for task in tasks {
            had += in_time(task).await.unwrap();
        }
        assert_eq!(had, TOKENS);
    }

    /// All of them in one region, and in one message.
    async fn all_in_one_region() {
        let size = Mutex::<Counts>::size_in_region()
            + Condvar::size_in_region()
            + Barrier::size_in_region()
            + Event::size_in_region();
        let region = Region::with_capacity(size).unwrap();
        let counts = Mutex::new_in(&region, [0; 2]).unwrap();
        let changed = Condvar::new_in(&region).unwrap();
        let barrier = Barrier::new_in(&region, 2).unwrap();
        let event = Event::new_in(&region).unwrap();
        while Event::new_in(&region).is_ok() {}
        assert!(matches!(Barrier::new_in(&region, 2), Err(NewBarrierError::Io(_))));
        drop(region);
        let (mut here, there) = pipe::<Everything, ()>().unwrap();
        let child = meets_in_all_ways(there).spawn().await.unwrap();
        here.send((counts.clone(), changed.clone(), barrier.clone(), event.clone())).await.unwrap();
        event.set();
        began(&counts, 1).await;
        changed.notify_one();
        woken(&counts, 1).await;
        in_time(barrier.wait()).await.unwrap();
        joined(child).await;
    }

    /// All waits go on in whatever thread a runtime likes.
    #[once]
    async fn waits_can_be_spawned() {
        let (counts, changed) = meeting();
        let (barrier, event) = (Barrier::new(1).unwrap(), Event::new().unwrap());
        can_be_spawned(&event.wait());
        can_be_spawned(&barrier.wait());
        can_be_spawned(&barrier.wait_with(|| ()));
        can_be_spawned(&changed.wait(counts.lock().await.unwrap()));
        can_be_spawned(&changed.wait_while(counts.lock().await.unwrap(), |_| true));
    }
}
