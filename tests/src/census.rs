//! What there is before a body and after it, and the difference.
//!
//! Things are compared by kind and number, not by identity: a fork server that was started anew has another id, a socket
//! that was made anew another inode, and neither is a leak. A second fork server is one, and so is one that is gone. It also lets two processes be
//! compared, which is how a test that starts cold is checked. The names of threads and processes are shown but
//! not compared, since each takes its name only some time after it began.

use std::collections::BTreeMap;
use std::process;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::own::{open_fds, shared_mappings, threads};
use crate::proc::{ProcInfo, descendants_of};
use crate::wait::holds_within;

/// How long a process may take, after the warm-up, until two counts in a row agree.
const CALM_LIMIT: Duration = Duration::from_secs(5);

/// One thing that a process holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Thing {
    /// What it is counted as.
    kind: String,
    /// What tells it from others of its kind.
    id: String,
    /// What a report says of it.
    shown: String,
}

/// What a process and its descendants hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Census(Vec<Thing>);

impl Census {
    /// Counts the processes under `keeper` but this one; files, threads and shared mappings of this one.
    pub(crate) fn now(keeper: u32) -> Self {
        let others = descendants_of(keeper).into_iter().filter(|it| it.pid != process::id());
        let processes = others.map(|it| Thing::process(&it, keeper));
        let fds = open_fds().into_iter().map(|(fd, target)| Thing::fd(fd, &target));
        let threads = threads().into_iter().map(|(tid, name)| Thing::thread(tid, &name));
        let mappings = shared_mappings().into_iter().map(|(range, path)| Thing::mapping(range, &path));
        Self(processes.chain(fds).chain(threads).chain(mappings).collect())
    }

    /// As [`now`](Self::now), once what ends in the background has ended.
    pub(crate) fn when_calm(keeper: u32) -> Self {
        let mut last = Self::default();
        holds_within(CALM_LIMIT, || {
            let before = std::mem::replace(&mut last, Self::now(keeper));
            before.is_same(&last)
        });
        last
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|it| other.has(it))
    }

    fn has(&self, thing: &Thing) -> bool {
        self.0.iter().any(|it| it.kind == thing.kind && it.id == thing.id)
    }

    /// What is here and not in the other one, and the other way round; one line each, empty if they agree.
    pub(crate) fn difference(&self, before: &Self) -> Vec<String> {
        let left = self.beyond(before).into_iter().map(|it| format!("left behind: {}", it.shown));
        let lost = before.beyond(self).into_iter().map(|it| format!("there before, and gone: {}", it.shown));
        left.chain(lost).collect()
    }

    /// The things that are more in number here, those first that the other does not have at all.
    fn beyond<'a>(&'a self, other: &Self) -> Vec<&'a Thing> {
        let mut excess: BTreeMap<&str, isize> = BTreeMap::new();
        self.0.iter().for_each(|it| *excess.entry(&it.kind).or_default() += 1);
        other.0.iter().for_each(|it| *excess.entry(&it.kind).or_default() -= 1);
        let (old, new): (Vec<_>, Vec<_>) = self.0.iter().partition(|it| other.has(it));
        let mut beyond: Vec<&Thing> = new.into_iter().chain(old).collect();
        beyond.retain(|it| excess.get_mut(it.kind.as_str()).is_some_and(take_one));
        beyond
    }
}

impl Thing {
    fn process(process: &ProcInfo, keeper: u32) -> Self {
        let kind = match (process.is_zombie(), process.ppid == keeper) {
            (true, _) => "zombie",
            (false, true) => "orphan",
            (false, false) => "process",
        };
        Self { kind: kind.to_owned(), id: process.pid.to_string(), shown: format!("{kind}: {process}") }
    }

    fn fd(fd: u32, target: &str) -> Self {
        let shown = format!("fd {fd} -> {target}");
        Self { kind: format!("fd {}", without_ids(without_inode(target))), id: shown.clone(), shown }
    }

    fn thread(tid: u32, name: &str) -> Self {
        Self { kind: "thread".to_owned(), id: tid.to_string(), shown: format!("thread {tid} {name:?}") }
    }

    fn mapping(range: String, path: &str) -> Self {
        let shown = format!("shared mapping {range} of {path:?}");
        Self { kind: format!("shared mapping {path}"), id: range, shown }
    }
}

/// Takes one of a number, if it is above zero.
fn take_one(number: &mut isize) -> bool {
    *number -= 1;
    *number >= 0
}

/// `socket:[4711]` is `socket`, `anon_inode:[eventfd]` stays.
fn without_inode(target: &str) -> &str {
    match target.split_once(":[") {
        Some((kind, inode)) if inode.trim_end_matches(']').bytes().all(|byte| byte.is_ascii_digit()) => kind,
        _ => target,
    }
}

/// `/proc/17/task/18/status` is the file of some thread, in whichever process it was opened.
fn without_ids(target: &str) -> String {
    let is_id = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match target.strip_prefix("/proc/") {
        Some(rest) => {
            let parts: Vec<&str> = rest.split('/').map(|part| if is_id(part) { "_" } else { part }).collect();
            format!("/proc/{}", parts.join("/"))
        }
        None => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Census, Thing, without_ids, without_inode};

    #[test]
    fn ids_in_proc_are_no_difference() {
        assert_eq!(without_ids("/proc/17/task/18/status"), "/proc/_/task/_/status");
        assert_eq!(without_ids("/tmp/17"), "/tmp/17");
    }

    #[test]
    fn the_same_number_of_a_kind_is_no_difference() {
        let before = Census(vec![Thing::fd(3, "socket:[7]"), Thing::thread(7, "new")]);
        let after = Census(vec![Thing::thread(8, "old"), Thing::fd(5, "socket:[9]")]);
        assert_eq!(after.difference(&before), Vec::<String>::new());
        assert!(!after.is_same(&before));
    }

    #[test]
    fn the_new_one_of_a_kind_is_named() {
        let before = Census(vec![Thing::thread(3, "new")]);
        let after = Census(vec![Thing::thread(3, "old"), Thing::thread(5, "older")]);
        assert_eq!(after.difference(&before), ["left behind: thread 5 \"older\""]);
        assert_eq!(before.difference(&after), ["there before, and gone: thread 5 \"older\""]);
    }

    #[test]
    fn a_mapping_is_told_by_its_path() {
        let before = Census(vec![Thing::mapping("1000-2000".to_owned(), "/memfd:a (deleted)")]);
        let after = Census(vec![Thing::mapping("3000-4000".to_owned(), "/memfd:b (deleted)")]);
        let expected = [
            "left behind: shared mapping 3000-4000 of \"/memfd:b (deleted)\"",
            "there before, and gone: shared mapping 1000-2000 of \"/memfd:a (deleted)\"",
        ];
        assert_eq!(after.difference(&before), expected);
    }

    #[test]
    fn only_inode_numbers_are_cut_off() {
        assert_eq!(without_inode("pipe:[4711]"), "pipe");
        assert_eq!(without_inode("anon_inode:[eventfd]"), "anon_inode:[eventfd]");
        assert_eq!(without_inode("/dev/null"), "/dev/null");
    }
}
