//! A child's output, line by line, as events.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::retry_on_intr;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::child::Child;

/// A line that is longer is told in pieces, in bytes.
const MAX_LINE: usize = 8 << 10;
/// The most that a pipe holds unless root has made it larger, in bytes: `/proc/sys/fs/pipe-max-size`.
const MAX_PIPE: usize = 1 << 20;
/// How many lines are kept for an error.
const KEPT: usize = 20;

/// The task that carries one of a child's streams into `tracing`.
#[derive(Debug)]
pub(crate) struct Tracer {
    task: JoinHandle<Vec<String>>,
    child_ended: Arc<Notify>,
}

impl Tracer {
    /// Starts one in the runtime that is current.
    pub(crate) fn start(pipe: OwnedFd, stream: &'static str, child: &Child) -> io::Result<Self> {
        let receiver = Receiver::from_owned_fd(pipe)?;
        let child_ended = Arc::new(Notify::new());
        let lines = Lines::new(child.name.clone(), child.pid(), stream);
        let task = tokio::spawn(carry(receiver, lines, Arc::clone(&child_ended)));
        Ok(Self { task, child_ended })
    }

    /// Carries the rest, now that the child has ended, and gives the last lines.
    pub(crate) async fn finish(self) -> Vec<String> {
        self.child_ended.notify_one();
        self.task.await.unwrap_or_default()
    }
}

async fn carry(mut pipe: Receiver, mut lines: Lines, child_ended: Arc<Notify>) -> Vec<String> {
    let mut chunk = vec![0; MAX_LINE];
    loop {
        tokio::select! {
            biased;
            read = pipe.read(&mut chunk) => match read {
                Ok(count) if count > 0 => lines.take(&chunk[..count]),
                _ => break,
            },
            // What it wrote is in the pipe by now. A process that outlived it may hold the pipe open, so that its
            // end is not waited for.
            () = child_ended.notified() => {
                // Nor is more read than a pipe can hold. Not by tokio, which asks the pipe only once it was told of it.
                for _ in 0..MAX_PIPE / MAX_LINE {
                    let read = retry_on_intr(|| rustix::io::read(&pipe, &mut *chunk));
                    let Ok(count @ 1..) = read else { break };
                    lines.take(&chunk[..count]);
                }
                break;
            }
        }
    }
    lines.end()
}

/// Cuts bytes into lines, and tells them.
#[derive(Debug)]
struct Lines {
    process: String,
    pid: u32,
    stream: &'static str,
    unfinished: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    fn new(process: String, pid: u32, stream: &'static str) -> Self {
        Self { process, pid, stream, unfinished: Vec::new(), last: VecDeque::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(part);
            if part.ends_with(b"\n") || self.unfinished.len() >= MAX_LINE {
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        let line = String::from_utf8_lossy(&self.unfinished);
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        self.unfinished.clear();
        let Self { process, pid, stream, .. } = self;
        tracing::info!(target: "procession::output", process, pid, stream, "{line}");
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn end(mut self) -> Vec<String> {
        if !self.unfinished.is_empty() {
            self.tell();
        }
        self.last.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new("p".into(), 1, "stderr");
        parts.iter().for_each(|part| lines.take(part));
        lines.end()
    }

    #[test]
    fn lines_come_in_pieces() {
        assert_eq!(lines(&[b"a", b"b\nc\r", b"\n", b"\n", b"end"]), ["ab", "c", "", "end"]);
        assert_eq!(lines(&[b"bad \xff byte\n"]), ["bad \u{fffd} byte"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn long_lines_are_cut_and_old_ones_forgotten() {
        assert_eq!(lines(&[&[b'x'; 2 * MAX_LINE][..], b"\n"]).len(), 2);
        let many: Vec<u8> = (0..100).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        assert_eq!(lines(&[&many]).first().map(String::as_str), Some("80"));
    }
}
