//! A lock under random kills: one has it at a time, and nobody waits for it in vain.
//!
//! What its owners do is told by them through a pipe of the system: when one has it, with which token, which value, and when
//! it is about to leave it. A write is never cut, so that what comes through it comes in the order in which it was done.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex as Locked};
use std::thread;
use std::time::Duration;

use futures::future::join_all;
use procession::shared::{Event, Mutex};
use procession::{Failure, Passed, Process, process};
use procession_tests::patience;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::timeout;

use crate::random::Random;

/// How many processes want it.
const PROCESSES: usize = 16;
/// How long it may be free, while many want it.
const LIMIT: Duration = Duration::from_secs(1);

/// What an owner tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    kind: u64,
    pid: u64,
    token: u64,
    value: u64,
    /// In nanoseconds.
    at: u64,
    waited: u64,
}

const BEGINS: u64 = 0;
const BEGINS_AFTER_DEATH: u64 = 1;
const ENDS: u64 = 2;
/// All have come to their end: nobody wants it.
const PAUSES: u64 = 3;

impl Word {
    const LENGTH: usize = 48;

    fn write(self, to: &mut File) -> Result<(), Failure> {
        let words = [self.kind, self.pid, self.token, self.value, self.at, self.waited];
        Ok(to.write_all(&words.map(u64::to_le_bytes).concat())?)
    }

    fn read(from: &mut File) -> Option<Self> {
        let mut bytes = [0; Self::LENGTH];
        from.read_exact(&mut bytes).ok()?;
        let (numbers, _) = bytes.as_chunks();
        let [kind, pid, token, value, at, waited] = std::array::from_fn(|n| u64::from_le_bytes(numbers[n]));
        Some(Self { kind, pid, token, value, at, waited })
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Locks, adds one and unlocks, until it is over, or this is killed.
#[process]
async fn wants_it(total: Mutex<u64>, over: Event, tells: Passed<OwnedFd>, seed: u64) -> Result<(), Failure> {
    let mut tells = File::from(tells.into_inner()?);
    let mut random = Random(seed);
    let pid = u64::from(std::process::id());
    while !over.is_set() {
        let began = now();
        let (mut guard, kind) = match total.lock().await {
            Ok(guard) => (guard, BEGINS),
            Err(died) => (died.recover(), BEGINS_AFTER_DEATH),
        };
        let at = now();
        let word = Word { kind, pid, token: guard.token(), value: *guard, at, waited: at - began };
        word.write(&mut tells)?;
        *guard += 1;
        if random.below(8) == 0 {
            tokio::task::yield_now().await;
        }
        Word { kind: ENDS, at: now(), ..word }.write(&mut tells)?;
        drop(guard);
        // Free for a moment now and then, with all of them asleep.
        if random.below(4) == 0 {
            tokio::time::sleep(Duration::from_micros(random.below(2000))).await;
        }
    }
    Ok(())
}

/// What was killed, before it was.
type Killed = Arc<Locked<HashSet<u64>>>;

/// What is true by what was told.
#[derive(Default)]
struct Told {
    killed: Killed,
    inside: Option<Word>,
    last: Option<Word>,
    /// Whether nobody has wanted it since the last one.
    pauses: bool,
    times: u64,
    after_deaths: u64,
    longest_free: u64,
    longest_wait: u64,
}

impl Told {
    fn take(&mut self, word: Word) {
        match word.kind {
            PAUSES => return self.pauses = true,
            ENDS => {
                let begin = self.inside.take().expect("who ends has begun");
                assert_eq!((begin.pid, begin.token), (word.pid, word.token), "another ends than has begun");
            }
            _ => self.begins(word),
        }
        self.last = Some(word);
    }

    fn begins(&mut self, word: Word) {
        let is_after_death = word.kind == BEGINS_AFTER_DEATH;
        let inside = self.inside.replace(word);
        assert!(inside.is_none_or(|inside| self.has_died(inside.pid)), "two have it: {inside:?}, {word:?}");
        assert!(inside.is_none() || is_after_death, "nobody told {word:?} that {inside:?} has died");
        let Some(last) = self.last else { return };
        assert!(word.token > last.token && word.at >= last.at, "{word:?} comes after {last:?}");
        // What was told to end may not have been committed any more; what was not told to end was not.
        let (least, most) = match (last.kind, is_after_death) {
            (ENDS, false) => (last.value + 1, last.value + 1),
            (ENDS, true) => (last.value, last.value + 1),
            _ => (last.value, last.value),
        };
        assert!(
            (least..=most).contains(&word.value),
            "another value than was committed last: {last:?}, {word:?}"
        );
        self.times += 1;
        self.after_deaths += u64::from(is_after_death);
        if !std::mem::take(&mut self.pauses) {
            self.longest_free = self.longest_free.max(word.at - last.at);
        }
        self.longest_wait = self.longest_wait.max(word.waited);
    }

    fn has_died(&self, pid: u64) -> bool {
        self.killed.lock().unwrap().contains(&pid)
    }

    fn finish(self) {
        let Self { times, after_deaths, longest_free, longest_wait, .. } = self;
        let [free, wait] = [longest_free, longest_wait].map(Duration::from_nanos);
        println!("{times} times locked, {after_deaths} times after a death");
        println!("free, or its owner dead, for {free:?} at most; one has waited for {wait:?}");
        assert!(after_deaths > 0, "no owner has died");
        assert!(free < patience(LIMIT), "it was free for {free:?}, and many wanted it");
    }
}

/// What all of them have.
struct Scene {
    total: Mutex<u64>,
    over: Event,
    tells: Passed<OwnedFd>,
    tells_itself: File,
    killed: Killed,
    random: Random,
}

impl Scene {
    async fn start(&mut self) -> Process<Result<(), Failure>> {
        let seed = self.random.below(u64::MAX);
        wants_it(self.total.clone(), self.over.clone(), self.tells.clone(), seed).spawn().await.unwrap()
    }

    /// Kills so many, each replaced by another; at the end nobody is, and all of them come to their end.
    async fn round(&mut self, kills: u64) {
        self.over.clear();
        let mut living = Vec::new();
        for _ in 0..PROCESSES {
            living.push(self.start().await);
        }
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(self.random.below(20))).await;
            // Every other time whoever has it.
            let owner = self.total.owner().filter(|_| self.random.below(2) == 0);
            let owner = owner.and_then(|owner| living.iter().position(|it| it.pid() == owner));
            let victim = owner.unwrap_or(self.random.below(PROCESSES as u64) as usize);
            self.killed.lock().unwrap().insert(living[victim].pid().into());
            living[victim].kill().await.unwrap();
            living[victim] = self.start().await;
        }
        self.over.set();
        let all = living.iter_mut().map(Process::join);
        let ended = timeout(patience(20 * LIMIT), join_all(all)).await.expect("nobody sleeps for ever");
        ended.into_iter().for_each(|ended| ended.unwrap().unwrap());
        let nobody = Word { kind: PAUSES, pid: 0, token: 0, value: 0, at: now(), waited: 0 };
        nobody.write(&mut self.tells_itself).unwrap();
    }
}

/// How many are killed until all may come to their end.
const ROUND: u64 = 20;

/// Kills so many of sixteen processes that want a lock.
#[tokio::main]
pub(crate) async fn locks(kills: u64, seed: u64) {
    let (reader, writer) = std::io::pipe().unwrap();
    let killed = Killed::default();
    let mut told = Told { killed: Arc::clone(&killed), ..Told::default() };
    let reads = thread::spawn(move || {
        let mut reader = File::from(OwnedFd::from(reader));
        while let Some(word) = Word::read(&mut reader) {
            told.take(word);
        }
        told.finish();
    });
    let mut scene = Scene {
        total: Mutex::new(0).unwrap(),
        over: Event::new().unwrap(),
        tells_itself: File::from(OwnedFd::from(writer.try_clone().unwrap())),
        tells: Passed::new(writer.into()).unwrap(),
        killed,
        random: Random(seed),
    };
    for round in 0..kills.div_ceil(ROUND) {
        scene.round(ROUND.min(kills - round * ROUND)).await;
        assert!(!reads.is_finished(), "what was told is wrong");
    }
    drop(scene);
    reads.join().unwrap();
}
