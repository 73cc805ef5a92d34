//! Calls that wait: for a datagram, or for any of several files.

use std::os::fd::AsFd as _;
use std::time::Instant;

use rustix::io::Errno;

use crate::sockets::proxy::Held;
use crate::sockets::receive::Receive;
use crate::supervisor::{Answer, ServeError, Supervisor};
use crate::sys::{self, Notification};
use crate::tracee::FileId;
use crate::world::{NextEvent, ReplayWorld};
use pmon_fake::QueuedDatagram;

/// So much happens at a time before other calls are looked at.
const STEPS: u32 = 4096;

/// A call that waits for a datagram.
pub(crate) struct Waiting {
    pub(crate) notification: Notification,
    receive: Receive,
    /// Of which socket.
    file: FileId,
    /// How many it has got already,
    got: u64,
    /// and those that are out of the queue: if it is interrupted, they go back.
    taken: Vec<QueuedDatagram>,
    pub(crate) until: Option<Instant>,
}

impl Supervisor {
    /// A call that receives.
    pub(crate) fn receive<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        notification: &Notification,
        at: usize,
    ) -> Result<Answer, ServeError<W::Error>> {
        let nr = i64::from(notification.data.nr);
        let receive = match Receive::parse(notification) {
            Ok(receive) => receive,
            Err(error) => return Ok(Answer::Give(Err(error))),
        };
        if receive.wants_nothing(nr) {
            return Ok(Answer::Give(Ok(0)));
        }
        let held = &self.held[at];
        let waits = !held.nonblocking && receive.flags & libc::MSG_DONTWAIT as u32 == 0;
        // One that is beyond all time is none.
        let until = held.rcvtimeo.and_then(|time| Instant::now().checked_add(time));
        let (notification, file) = (*notification, held.file);
        let mut waiting = Waiting { notification, receive, file, got: 0, taken: Vec::new(), until };
        let answer = match self.attempt(world, &mut waiting, at, waits) {
            Ok(answer) => answer,
            // It is asked anew, from its first datagram on.
            Err(error) => {
                waiting.give_up(&mut self.held);
                return Err(error);
            }
        };
        Ok(answer.unwrap_or_else(|| {
            self.waiting.push(waiting);
            Answer::None
        }))
    }

    /// Gives a call what there is; `None` if it waits for more.
    fn attempt<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        waiting: &mut Waiting,
        at: usize,
        waits: bool,
    ) -> Result<Option<Answer>, ServeError<W::Error>> {
        let Waiting { notification, receive, got, taken, .. } = waiting;
        let is_many = i64::from(notification.data.nr) == libc::SYS_recvmmsg;
        let mut len = 0;
        while *got < receive.count() {
            let asks = waits && (*got == 0 || receive.flags & libc::MSG_WAITFORONE as u32 == 0);
            if receive.until.is_some_and(|until| *got > 0 && until <= Instant::now()) {
                break;
            }
            // Who looks again and again, and sleeps in between, waits in its own way.
            if asks || self.held[at].asked_in_vain {
                self.feed(world, &[at], Some(at))?;
                // That may have taken long: it must still be the same task that is written to.
                if !sys::is_waiting(self.listener.as_fd(), notification.id) {
                    waiting.give_up(&mut self.held);
                    return Ok(Some(Answer::None));
                }
            }
            let held = &mut self.held[at];
            held.asked_in_vain = false;
            match receive.give(held, notification.pid, *got) {
                Ok(given) => {
                    held.is_idle = false;
                    world.mark_received();
                    self.owes |= std::mem::take(&mut self.is_held_back);
                    len = given;
                    *got += 1;
                    // Of one, it is enough to take it when the answer was heard.
                    if is_many {
                        taken.extend(receive.take(held));
                    }
                }
                // A script may have it that a call finds nothing, whatever there is.
                Err(Errno::AGAIN) if asks && held.is_ready() => {}
                // Of several, what there is is better than none when no more comes.
                Err(Errno::AGAIN) if asks && (*got == 0 || !self.wants_more) => return Ok(None),
                Err(_) if *got > 0 => break,
                Err(error) => {
                    if error == Errno::FAULT {
                        receive.take(held);
                    }
                    if error == Errno::AGAIN {
                        held.asked_in_vain = true;
                        self.asked_in_vain += u32::from(self.wants_more);
                        // Somebody else waits for what it has not found, or for an edge of it.
                        if !self.pollers.is_empty() {
                            self.owes = true;
                            if held.is_ready() {
                                held.announce();
                            }
                        }
                    }
                    world.mark_received();
                    return Ok(Some(Answer::Give(Err(error))));
                }
            }
        }
        let result = if is_many { *got as i64 } else { len as i64 };
        match sys::answer(self.listener.as_fd(), notification.id, Some(Ok(result))) {
            Ok(()) if !is_many => drop(receive.take(&mut self.held[at])),
            Ok(()) => {}
            // It was interrupted, and will come again.
            Err(Errno::NOENT) => waiting.give_up(&mut self.held),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Answer::None))
    }

    /// Lets the next things happen until any of these sockets has something to receive, which `taker` takes at once.
    pub(crate) fn feed<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        sockets: &[usize],
        taker: Option<usize>,
    ) -> Result<(), ServeError<W::Error>> {
        // Who reads faster waits for who reads slower, unless that one does nothing at all.
        let is_other_behind =
            |(at, held): (usize, &Held)| !sockets.contains(&at) && held.is_behind() && !held.is_closed();
        if self.held.len() > 1 && self.held.iter().enumerate().any(is_other_behind) {
            self.is_held_back = true;
            return Ok(());
        }
        let mut steps = 0;
        let any = |held: &[Held], has: fn(&Held) -> bool| sockets.iter().any(|&at| has(&held[at]));
        while !any(&self.held, Held::is_ready) && any(&self.held, |held| held.socket.receives_events()) {
            match world.next_event().map_err(ServeError::World)? {
                NextEvent::OnDemand if steps == STEPS => {
                    self.is_unfinished = true;
                    break;
                }
                NextEvent::OnDemand => {
                    world.step().map_err(ServeError::World)?;
                    steps += 1;
                }
                NextEvent::In(_) => break,
                NextEvent::Never => {
                    self.wants_more = true;
                    break;
                }
            }
        }
        if steps > 0 {
            self.stirred = true;
            let others =
                self.held.iter_mut().enumerate().filter(|(at, held)| Some(*at) != taker && held.is_ready());
            others.for_each(|(_, held)| held.announce());
        }
        Ok(())
    }

    /// Lets something happen for those who wait in calls that were let through.
    pub(crate) fn nudge<W: ReplayWorld>(&mut self, world: &mut W) -> Result<(), ServeError<W::Error>> {
        for at in 0..self.held.len() {
            if self.held[at].socket.receives_events() {
                self.feed(world, &[at], None)?;
            }
        }
        self.go_on(world)
    }

    /// The same, though a socket is half full that nobody reads.
    pub(crate) fn force<W: ReplayWorld>(&mut self, world: &mut W) -> Result<(), ServeError<W::Error>> {
        for held in self.held.iter_mut().filter(|held| held.is_behind()) {
            held.is_idle = true;
        }
        self.nudge(world)
    }

    /// Calls that wait get what has come.
    pub(crate) fn go_on<W: ReplayWorld>(&mut self, world: &mut W) -> Result<(), ServeError<W::Error>> {
        let mut result = Ok(());
        for mut waiting in std::mem::take(&mut self.waiting) {
            let id = waiting.notification.id;
            if !sys::is_waiting(self.listener.as_fd(), id) {
                waiting.give_up(&mut self.held);
                continue;
            }
            // Who waits has the file, even if its number was closed meanwhile.
            let Some(at) = self.held.iter().position(|held| held.file == waiting.file) else {
                self.answer(&waiting.notification, Answer::Give(Err(Errno::BADF)))?;
                continue;
            };
            match self.attempt(world, &mut waiting, at, true) {
                Ok(Some(answer)) => self.answer(&waiting.notification, answer)?,
                Ok(None) => self.waiting.push(waiting),
                Err(error) => {
                    self.waiting.push(waiting);
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Calls that have waited for as long as they wanted.
    pub(crate) fn expire(&mut self) -> Result<(), Errno> {
        let now = Instant::now();
        let is_over = |waiting: &mut Waiting| waiting.until.is_some_and(|until| until <= now);
        let over: Vec<_> = self.waiting.extract_if(.., is_over).collect();
        for mut waiting in over {
            // Of several, what there is.
            let result = if waiting.got > 0 { Ok(waiting.got as i64) } else { Err(Errno::AGAIN) };
            match sys::answer(self.listener.as_fd(), waiting.notification.id, Some(result)) {
                // It was interrupted before.
                Err(Errno::NOENT) => waiting.give_up(&mut self.held),
                done => done?,
            }
        }
        Ok(())
    }
}

impl Waiting {
    /// It was interrupted: what it has not told the program of is queued again.
    pub(crate) fn give_up(&mut self, held: &mut [Held]) {
        if let Some(held) = held.iter_mut().find(|held| held.file == self.file) {
            for skb in self.taken.drain(..).rev() {
                held.socket.requeue(skb);
            }
        }
    }
}
