/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Shares the work between threads. Modes: edge, oneshot: one thread waits in epoll; another
 * reads until the queue is empty, then waits on a condition variable, as in the runtime of Go;
 * spin: one thread polls, another never sleeps; main-exits: another thread continues after the
 * main thread has ended. */
#include "client.h"
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static int fd, epoll, is_oneshot, is_ready = 1;

static void watch(int how) {
    struct epoll_event event = {.events = EPOLLIN | (is_oneshot ? EPOLLONESHOT : EPOLLET), .data.fd = fd};
    if (epoll_ctl(epoll, how, fd, &event) < 0) die("epoll_ctl");
}

static void start(void *(*run)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0) die("pthread_create");
}

static void *wait_for_events(void *unused) {
    struct epoll_event event;
    for (;;) {
        int count = epoll_wait(epoll, &event, 1, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        if (count != 1 || event.data.fd != fd) continue;
        pthread_mutex_lock(&lock);
        is_ready = 1;
        pthread_cond_signal(&woken);
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

static void *read_when_woken(void *unused) {
    for (;;) {
        pthread_mutex_lock(&lock);
        while (!is_ready) pthread_cond_wait(&woken, &lock);
        is_ready = 0;
        pthread_mutex_unlock(&lock);
        for (;;) {
            ssize_t received = recv(fd, buffer, sizeof buffer, 0);
            if (received < 0 && errno == EAGAIN) break;
            print_received(buffer, received);
        }
        if (is_oneshot) watch(EPOLL_CTL_MOD);
    }
    return unused;
}

static void *spin(void *unused) {
    for (volatile int turns = 0;; turns++) {
    }
    return unused;
}

static pthread_t main_thread;

/* Duplicates the socket, lists /proc, and receives all events. */
static void *run_without_main(void *unused) {
    pthread_join(main_thread, NULL);
    /* The kernel ends the thread slightly later than pthread_join returns. */
    usleep(20000);
    int copy = dup(fd);
    DIR *proc = opendir("/proc");
    if (copy < 0 || !proc || !readdir(proc)) die("without the main thread");
    while (receive(copy, 0)) {
    }
    exit(0);
    return unused;
}

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    is_oneshot = mode_is(argv, "oneshot");
    fd = subscribed(SOCK_NONBLOCK);
    if (mode_is(argv, "main-exits")) {
        fcntl(fd, F_SETFL, 0);
        main_thread = pthread_self();
        start(run_without_main);
        pthread_exit(NULL);
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (mode_is(argv, "spin")) {
        start(spin);
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
        struct pollfd one = {.fd = fd, .events = POLLIN};
        while (!done)
            if (poll(&one, 1, -1) == 1) receive(fd, 0);
        return 0;
    }
    start(wait_for_events);
    start(read_when_woken);
    int signal;
    sigwait(&signals, &signal);
    return 0;
}
