/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Threads that share the work: edge, oneshot: one waits in epoll, another reads what there is, and sleeps on a condition
 * until it is woken, as Go's runtime does; spin: one polls, another never sleeps; left:
 * another goes on where the first one has ended. */
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
            took(buffer, received);
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

static pthread_t first;

/* A copy of the socket, who is there, and everything that happens. */
static void *go_on(void *unused) {
    pthread_join(first, NULL);
    /* It takes the kernel a moment longer. */
    usleep(20000);
    int copy = dup(fd);
    DIR *proc = opendir("/proc");
    if (copy < 0 || !proc || !readdir(proc)) die("without the first");
    while (receive(copy, 0)) {
    }
    exit(0);
    return unused;
}

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    is_oneshot = is(argv, "oneshot");
    fd = subscribed(SOCK_NONBLOCK);
    if (is(argv, "left")) {
        fcntl(fd, F_SETFL, 0);
        first = pthread_self();
        start(go_on);
        pthread_exit(NULL);
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (is(argv, "spin")) {
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
