//! Consumers on a tokio runtime.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pmon_core::Task;
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_fake::{AsyncFdSocket, Errno, FdSocket, Kernel};
use pmon_testkit::guard::skip;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().unwrap()
}

/// A kernel with a consumer that has subscribed; to be created in a runtime.
struct Setup {
    kernel: Kernel,
    fd_socket: FdSocket,
    consumer: AsyncFdSocket,
    task: Task,
}

impl Setup {
    async fn new(mut kernel: Kernel, mut fd_socket: FdSocket) -> Self {
        let consumer = AsyncFdSocket::new(fd_socket.consumer().unwrap()).unwrap();
        consumer.listen().await.unwrap();
        fd_socket.pump().unwrap();
        let task = kernel.add_process("busy");
        let mut setup = Self { kernel, fd_socket, consumer, task };
        assert!(matches!(setup.recv().await.unwrap().body, EventBody::Ack { err: 0, .. }));
        setup
    }

    fn emit(&mut self) {
        self.kernel.rename(self.task, "name");
        self.fd_socket.pump().unwrap();
    }

    async fn recv(&mut self) -> Result<Event, Errno> {
        let mut buffer = [0; 1024];
        let received = self.consumer.recv(&mut buffer).await;
        let len = received.map_err(|error| Errno::from_io_error(&error).unwrap())?;
        Ok(Event::decode(&buffer[..len], ByteOrder::NATIVE).unwrap())
    }
}

/// Runs a test with each kind of socket that this system allows.
fn test<F: Future<Output = ()>>(test: impl Fn(Setup) -> F) {
    let kernel = Kernel::new(1);
    let pair = kernel.fd_socket().unwrap();
    runtime().block_on(async { test(Setup::new(kernel, pair).await).await });
    test_netlink(test);
}

/// Runs a test with a netlink socket.
fn test_netlink<F: Future<Output = ()>>(test: impl Fn(Setup) -> F) {
    let kernel = Kernel::new(1);
    match kernel.netlink_fd_socket() {
        Ok(netlink) => runtime().block_on(async { test(Setup::new(kernel, netlink).await).await }),
        Err(error) => skip(&error.to_string()),
    }
}

/// Polls a future once.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_waiting_receive_call_returns_the_next_event() {
    test(|mut setup| async move {
        let mut buffer = [0; 1024];
        {
            let mut waiting = pin!(setup.consumer.recv(&mut buffer));
            assert!(poll_once(waiting.as_mut()).is_pending());
        }
        for seq in 1..=20 {
            setup.emit();
            assert_eq!(setup.recv().await.unwrap().seq.0, seq);
        }
    });
}

#[test]
fn an_event_wakes_a_task_that_waits() {
    test(|mut setup| async move {
        let local = tokio::task::LocalSet::new();
        let consumer = setup.consumer;
        let waiting = local.spawn_local(async move {
            let mut buffer = [0; 1024];
            consumer.readable().await.unwrap();
            consumer.try_recv(&mut buffer).unwrap()
        });
        local
            .run_until(async {
                // The other task begins to wait.
                yield_now().await;
                setup.kernel.rename(setup.task, "name");
                setup.fd_socket.pump().unwrap();
                assert_eq!(waiting.await.unwrap(), 76);
            })
            .await;
    });
}

#[test]
fn an_overrun_of_an_empty_socket_wakes_a_task_that_waits() {
    test_netlink(|mut setup| async move {
        let local = tokio::task::LocalSet::new();
        let consumer = setup.consumer;
        let waiting = local.spawn_local(async move { consumer.recv(&mut [0; 1024]).await.unwrap_err() });
        local
            .run_until(async {
                yield_now().await;
                setup.kernel.lose(1);
                setup.kernel.rename(setup.task, "lost");
                setup.fd_socket.pump().unwrap();
                assert_eq!(Errno::from_io_error(&waiting.await.unwrap()), Some(Errno::NOBUFS));
            })
            .await;
    });
}

/// The reason why `AsyncFdSocket` waits for errors too.
#[test]
#[allow(deprecated, reason = "the replacement is unsafe")]
fn an_overrun_of_an_empty_socket_does_not_wake_a_task_that_waits_for_readability_alone() {
    test_netlink(|mut setup| async move {
        let local = tokio::task::LocalSet::new();
        let consumer = setup.consumer.into_inner();
        let readable = AsyncFd::with_interest(consumer, Interest::READABLE).unwrap();
        let waiting = local.spawn_local(async move { readable.readable().await.map(drop).unwrap() });
        local
            .run_until(async {
                yield_now().await;
                setup.kernel.lose(1);
                setup.kernel.rename(setup.task, "lost");
                setup.fd_socket.pump().unwrap();
                // The runtime has reported a later event of another socket.
                let mut other = setup.kernel.fd_socket().unwrap();
                other.socket().listen().unwrap();
                let consumer = AsyncFdSocket::new(other.consumer().unwrap()).unwrap();
                other.pump().unwrap();
                assert_eq!(consumer.recv(&mut [0; 1024]).await.unwrap(), 76);
                yield_now().await;
                assert!(!waiting.is_finished());
                waiting.abort();
            })
            .await;
    });
}

#[test]
fn an_overrun_comes_before_what_is_queued() {
    test_netlink(|mut setup| async move {
        setup.emit();
        setup.kernel.lose(1);
        setup.emit();
        assert_eq!(setup.recv().await, Err(Errno::NOBUFS));
        assert_eq!(setup.recv().await.unwrap().seq.0, 1);
        setup.emit();
        assert_eq!(setup.recv().await.unwrap().seq.0, 3);
    });
}

#[test]
fn a_cancelled_receive_call_loses_no_event() {
    test(|mut setup| async move {
        for _ in 0..3 {
            let mut buffer = [0; 1024];
            let mut cancelled = pin!(setup.consumer.recv(&mut buffer));
            assert!(poll_once(cancelled.as_mut()).is_pending());
        }
        setup.emit();
        assert_eq!(setup.recv().await.unwrap().seq.0, 1);
    });
}

#[test]
fn an_asynchronous_consumer_reports_a_lost_fork() {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = match kernel.netlink_fd_socket() {
        Ok(fd_socket) => fd_socket,
        Err(error) => return skip(&error.to_string()),
    };
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let socket = AsyncFdSocket::new(fd_socket.consumer().unwrap()).unwrap();
        socket.listen().await.unwrap();
        fd_socket.pump().unwrap();
        let mut buffer = [0; 1024];
        assert_eq!(socket.recv(&mut buffer).await.unwrap(), 76); // The acknowledgement.

        let shell = kernel.add_process("sh");
        kernel.lose(1);
        kernel.fork(shell);
        fd_socket.pump().unwrap();
        let error = socket.recv(&mut buffer).await.unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NOBUFS));
    });
}

#[test]
fn a_pump_thread_serves_a_task_and_ends_it() {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.fd_socket().unwrap();
    let consumer = fd_socket.consumer().unwrap();
    let pump_thread = fd_socket.spawn_pump().unwrap();
    runtime().block_on(async {
        let consumer = AsyncFdSocket::new(consumer).unwrap();
        consumer.listen().await.unwrap();
        let mut buffer = [0; 1024];
        assert_eq!(consumer.recv(&mut buffer).await.unwrap(), 76);
        let task = kernel.add_process("busy");
        (0..100).for_each(|_| kernel.rename(task, "name"));
        kernel.end_of_file();
        let mut events = 0;
        while consumer.recv(&mut buffer).await.unwrap() > 0 {
            events += 1;
        }
        assert_eq!(events, 100);
        drop(consumer.into_inner());
    });
    pump_thread.wait().unwrap();
}
