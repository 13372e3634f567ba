//! The futures of one replica, polled as they are woken, in that order.
//!
//! tokio's scheduler costs more for each event than what the event does; it is entered only where a task that the
//! product has spawned there can go on, and for timers.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

thread_local! {
    /// Whether what is polled is a task of ours.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Whether what is polled now belongs to a task of tokio's, which only its scheduler can poll again.
pub(crate) fn is_foreign() -> bool {
    !OURS.get()
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// Which tasks can go on.
#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

impl Ready {
    fn push(&self, place: usize) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.push_back(place);
    }

    fn is_empty(&self) -> bool {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.is_empty()
    }

    fn pop(&self) -> Option<usize> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.pop_front()
    }
}

/// Wakes one task.
struct Alarm {
    place: usize,
    woken: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Relaxed) {
            self.ready.push(self.place);
        }
    }
}

struct Task {
    future: Boxed,
    alarm: Arc<Alarm>,
    waker: Waker,
}

/// Adds tasks, those that run included.
#[derive(Clone, Default)]
pub(crate) struct Spawner(Rc<RefCell<Vec<Boxed>>>);

impl Spawner {
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.borrow_mut().push(Box::pin(future));
    }
}

/// All tasks of a replica.
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: Vec<Option<Task>>,
    ready: Arc<Ready>,
    pub(crate) spawner: Spawner,
}

impl Tasks {
    fn admit(&mut self) {
        for future in self.spawner.0.take() {
            let place = self.tasks.len();
            let alarm = Arc::new(Alarm {
                place,
                woken: AtomicBool::new(true),
                ready: Arc::clone(&self.ready),
            });
            let waker = Waker::from(Arc::clone(&alarm));
            self.tasks.push(Some(Task {
                future,
                alarm,
                waker,
            }));
            self.ready.push(place);
        }
    }

    /// Whether none can go on.
    pub(crate) fn rest(&self) -> bool {
        self.ready.is_empty() && self.spawner.0.borrow().is_empty()
    }

    /// Polls whatever was woken, until nothing is.
    ///
    /// # Errors
    /// What a task that panicked said.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        loop {
            self.admit();
            let Some(place) = self.ready.pop() else {
                return Ok(());
            };
            let Some(task) = self.tasks.get_mut(place) else {
                continue;
            };
            let Some(Task {
                future,
                alarm,
                waker,
            }) = task
            else {
                continue;
            };
            alarm.woken.store(false, Ordering::Relaxed);
            let mut context = Context::from_waker(waker);
            OURS.set(true);
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
            OURS.set(false);
            match polled {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) => *task = None,
                Err(panic) => {
                    *task = None;
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
                    return Err(text.unwrap_or_default());
                }
            }
        }
    }

    /// Drops all of them.
    pub(crate) fn clear(&mut self) {
        self.tasks.clear();
        self.spawner.0.take();
    }
}
