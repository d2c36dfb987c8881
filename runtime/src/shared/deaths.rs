//! Watching for the deaths of those that take part in a region.
//!
//! A process that sleeps in a region watches all that take part in it: any of them may own what it waits for, or may have been
//! about to wake it. When one dies, each process that watches frees its slot, and has those that sleep look again.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::attachment::Attachment;
use super::identity;
use super::words::{Identity, Member};
use crate::control::Control;
use crate::sys;

/// Those that are watched, whatever the number of regions that they take part in: a descriptor for each.
static WATCHED: Mutex<Option<HashMap<Identity, Watched>>> = Mutex::new(None);

#[derive(Debug)]
struct Watched {
    by: Vec<(Weak<Attachment>, Member)>,
    task: AbortHandle,
}

/// How long to wait for a descriptor, where there is none left.
const CROWDED: Duration = Duration::from_millis(100);

fn watched() -> MutexGuard<'static, Option<HashMap<Identity, Watched>>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches all that take part in a region, and those that join.
pub(super) fn watch(attachment: &Arc<Attachment>) {
    let attachment = Arc::downgrade(attachment);
    let Ok(control) = Control::get() else { return look_by_turns(attachment) };
    control.run(async move {
        let mut known: Vec<Member> = Vec::new();
        while let Some(epoch) = look_around(&attachment, &mut known) {
            joined(&attachment, epoch).await;
        }
    });
}

/// How often a process looks that can have no control thread: a fork of one that has.
const TURN: Duration = Duration::from_millis(10);

/// Looks again and again for those that have died, and for those that are to be woken, on a thread of its own.
fn look_by_turns(attachment: Weak<Attachment>) {
    let look = move || {
        while let Some(attachment) = attachment.upgrade() {
            attachment.check_all();
            attachment.look();
            drop(attachment);
            std::thread::sleep(TURN);
        }
    };
    // Where the system has no room for a thread, those that wait do so until they are given up.
    drop(std::thread::Builder::new().name("procession".into()).spawn(look));
}

/// Watches those that are new; gives the number of the wake-ups before.
fn look_around(attachment: &Weak<Attachment>, known: &mut Vec<Member>) -> Option<u32> {
    let attachment = attachment.upgrade()?;
    let me = attachment.me()?;
    let epoch = attachment.joins().sleep(attachment.bells.of(me));
    known.retain(|member| attachment.members().contains(*member));
    forget_where(|by, member| {
        std::ptr::eq(by.as_ptr(), &raw const *attachment) && !attachment.members().contains(member)
    });
    for (member, who) in attachment.members().iter() {
        if member != me && !known.contains(&member) {
            known.push(member);
            follow(&attachment, member, who);
        }
    }
    attachment.has_seen(epoch);
    // One may have joined, locked and died, and been buried by another process, before it was seen here.
    attachment.waiters.stir();
    Some(epoch)
}

/// Waits until somebody has joined, or the attachment is gone.
async fn joined(attachment: &Weak<Attachment>, epoch: u32) {
    let mut ticket = None;
    std::future::poll_fn(|context| {
        let Some(attachment) = attachment.upgrade() else { return Poll::Ready(()) };
        // A death is nothing to it.
        let known = (epoch, attachment.waiters.stirs());
        if attachment.sleep_until_one_joins(&mut ticket, known, context.waker()) {
            return Poll::Pending;
        }
        if let Some(ticket) = ticket.take() {
            attachment.waiters.leave(ticket);
        }
        Poll::Ready(())
    })
    .await;
}

fn follow(attachment: &Arc<Attachment>, member: Member, who: Identity) {
    let mut watched = watched();
    let all = watched.get_or_insert_default();
    let by = (Arc::downgrade(attachment), member);
    if let Some(known) = all.get_mut(&who) {
        known.by.push(by);
        return;
    }
    let Ok(control) = Control::get() else { return };
    let task = control.runtime().spawn(async move {
        ended(who).await;
        bury(who);
    });
    all.insert(who, Watched { by: vec![by], task: task.abort_handle() });
}

/// Waits until a process has ended.
async fn ended(who: Identity) {
    loop {
        match identity::follow(who) {
            Ok(None) => return,
            Ok(Some(pidfd)) => {
                if readable(pidfd).await {
                    return;
                }
            }
            Err(_no_descriptor) => {}
        }
        tokio::time::sleep(CROWDED).await;
    }
}

async fn readable(pidfd: OwnedFd) -> bool {
    match sys::watch(Arc::new(pidfd)) {
        Ok(watch) => watch.readable().await.is_ok(),
        Err(_no_room) => false,
    }
}

fn bury(dead: Identity) {
    let known = watched().as_mut().and_then(|all| all.remove(&dead));
    let by = known.map(|known| known.by).unwrap_or_default();
    // Outside of the lock: an attachment that ends here takes it.
    for (attachment, member) in by {
        if let Some(attachment) = attachment.upgrade() {
            attachment.bury(member);
        }
    }
}

/// Watches nobody any more for an attachment that ends.
pub(super) fn forget(attachment: &Attachment) {
    forget_where(|by, _| std::ptr::eq(by.as_ptr(), attachment) || by.strong_count() == 0);
}

/// Watches some no more for some attachments, and those for none that nobody wants to know of.
fn forget_where(is_over: impl Fn(&Weak<Attachment>, Member) -> bool) {
    let mut watched = watched();
    let Some(all) = watched.as_mut() else { return };
    all.retain(|_, known| {
        known.by.retain(|(by, member)| !is_over(by, *member));
        let is_of_use = !known.by.is_empty();
        if !is_of_use {
            known.task.abort();
        }
        is_of_use
    });
}
