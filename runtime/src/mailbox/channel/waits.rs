//! What the ends of a mailbox wait for.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::task::{Context, Poll, ready};

use tokio::time::sleep;

use super::{Channel, Found, NEVER, Put, Unsent};
use crate::control::Control;
use crate::mailbox::config::{CLOSED, DRAINED, RECEIVERS, SENDERS};
use crate::mailbox::lives::Role;
use crate::shared::words::Receipt;
use crate::shared::{Turns, Waiting};
use crate::wire::Parcel;
use crate::wire::handles::CROWDED;

impl Channel {
    /// Has nothing be sent any more, and wakes all.
    pub(in crate::mailbox) fn close(&self) {
        self.ring().close();
        self.socket.as_ref().inspect(|socket| socket.close());
        [&self.receivers, &self.senders, &self.drained, &self.closed]
            .into_iter()
            .for_each(|wait| self.wake(wait));
    }

    pub(in crate::mailbox) fn is_closed(&self) -> bool {
        self.ring().is_closed()
    }

    /// Closes it if it has no senders any more, or no receivers.
    pub(in crate::mailbox) fn look_for_lives(&self) {
        if self.lives.is_one_gone() {
            self.close();
        }
    }

    /// Looks whether those have died that have slots: where nobody waits, nobody watches.
    pub(in crate::mailbox) fn look_for_deaths(&self) {
        let me = self.me();
        let owners = self.ring().owners().filter(|owner| Some(*owner) != me);
        owners.for_each(|owner| self.attachment().check(owner));
        // Others may have seen it first, which tells this process nothing.
        self.looked_into.store(NEVER, Relaxed);
    }

    pub(in crate::mailbox) fn to_receive(&self) -> Waiting<'_> {
        self.waiting(RECEIVERS, Turns::One)
    }

    /// Waits for a message, or for the end.
    pub(in crate::mailbox) fn poll_take(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
        receipt: Receipt,
    ) -> Poll<Found> {
        let is_to_look = || self.socket.is_some() || self.ring().is_to_look();
        if !is_to_look() {
            self.spin.look(is_to_look);
        }
        let is_to_sleep = || {
            self.watch();
            // Where it is closed, somebody holds what may come back.
            self.socket.is_some() || self.is_closed() || self.ring().sleep()
        };
        waiting.poll(context, || self.take(receipt), is_to_sleep)
    }

    /// Waits for a message that was delivered too often, or for the end: by the word of those that wait until all is done with,
    /// not by that of those that receive, whose turn it would take.
    pub(in crate::mailbox) fn poll_poisoned(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Poll<Option<usize>> {
        let is_over = || self.is_closed() && self.is_drained();
        let attempt = || match self.take_poisoned() {
            Some(slot) => Some(Some(slot)),
            None => is_over().then_some(None),
        };
        let is_to_sleep = || {
            self.watch();
            // As in `poll_drained`: what was freed before is seen here.
            self.senders.catch_up();
            !is_over()
        };
        waiting.poll(context, attempt, is_to_sleep)
    }

    pub(in crate::mailbox) fn to_send(&self) -> Waiting<'_> {
        self.waiting(SENDERS, Turns::InOrder)
    }

    /// Waits for a slot; `None` if the mailbox is closed.
    pub(in crate::mailbox) fn poll_claim(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Poll<Option<usize>> {
        let attempt = || match self.claim() {
            Some(slot) => Some(Some(slot)),
            None => self.is_closed().then_some(None),
        };
        waiting.poll(context, attempt, || self.watch_and_sleep())
    }

    /// Waits until there is room for a message, and sends it.
    pub(in crate::mailbox) fn poll_put(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
        message: &Parcel,
    ) -> Poll<Result<(), Unsent>> {
        match ready!(waiting.poll(context, || self.put(message), || self.watch_and_sleep())) {
            Put::Done => Poll::Ready(Ok(())),
            Put::Closed => Poll::Ready(Err(Unsent::Closed)),
            Put::Failed(error) => Poll::Ready(Err(Unsent::System(error))),
            Put::Crowded => match Control::get() {
                Ok(control) => {
                    let waker = context.waker().clone();
                    control.run(async move {
                        sleep(CROWDED).await;
                        waker.wake();
                    });
                    Poll::Pending
                }
                Err(cause) => Poll::Ready(Err(Unsent::System(io::Error::other(cause)))),
            },
        }
    }

    fn watch_and_sleep(&self) -> bool {
        self.watch();
        true
    }

    pub(in crate::mailbox) fn until_drained(&self) -> Waiting<'_> {
        self.waiting(DRAINED, Turns::All)
    }

    /// Whether there is no message that anybody has still to receive, or to acknowledge.
    pub(in crate::mailbox) fn is_drained(&self) -> bool {
        self.ring().is_drained(self.attachment().members())
    }

    /// Waits until all is done with, or nobody is left who could do it.
    pub(in crate::mailbox) fn poll_drained(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Poll<()> {
        // It is closed then, by whoever has heard of it: before that no look at the lives is worth its system call.
        let is_over = || self.is_drained() || self.is_closed() && self.lives.are_gone(Role::Receiver);
        let is_to_sleep = || {
            self.watch();
            // Who frees a slot from now on sees that somebody sleeps; what was freed before is seen here.
            self.senders.catch_up();
            !is_over()
        };
        waiting.poll(context, || is_over().then_some(()), is_to_sleep)
    }

    pub(in crate::mailbox) fn until_closed(&self) -> Waiting<'_> {
        self.waiting(CLOSED, Turns::All)
    }

    pub(in crate::mailbox) fn poll_closed(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Poll<()> {
        waiting.poll(context, || self.is_closed().then_some(()), || self.watch_and_sleep())
    }

    /// Gives back a message that this process holds.
    pub(in crate::mailbox) fn give_back(&self, slot: usize) {
        self.ring().give_back(slot);
        // Release: who sees the number sees what was given back, and looks for it no second time.
        self.given_back.fetch_add(1, Release);
        self.wake(&self.receivers);
        self.wake(&self.drained);
    }

    /// Frees the slot of a message that this process held.
    pub(in crate::mailbox) fn done_with(&self, slot: usize) {
        self.free(slot);
        // Those that wait whether it comes back.
        self.wake(&self.receivers);
    }

    /// Has the control thread look for the last sender, and the last receiver, to be gone.
    fn watch(&self) {
        self.watch.begin(&self.this, &self.lives);
    }
}
