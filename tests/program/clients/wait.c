/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Waits in every possible way. Modes: select, poll, epoll; edge: edge-triggered epoll; pselect,
 * ppoll, signalfd: with signals that are blocked elsewhere; flag, fcntl, ioctl: sleeps between
 * calls on a socket that each of these made nonblocking. */
#include "client.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>

static sigset_t none, blocked;

/* Receives until the queue is empty. */
static int drain(int fd) {
    for (;;) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        if (received < 0 && errno == EAGAIN) return !done;
        if (!print_received(buffer, received)) return 0;
    }
}

/* Checks the result of a wait that has found no datagram; returns whether to continue. */
static int check_wait(int ready) {
    if (ready < 0 && errno != EINTR) die("wait");
    return !done;
}

static int selected(int fd, int masked) {
    fd_set readers;
    FD_ZERO(&readers);
    FD_SET(fd, &readers);
    int ready = masked ? pselect(fd + 1, &readers, NULL, NULL, NULL, &none)
                       : select(fd + 1, &readers, NULL, NULL, NULL);
    if (ready == 1 && FD_ISSET(fd, &readers)) return receive(fd, 0);
    return check_wait(ready);
}

static int polled(int fd, int masked) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int ready = masked ? ppoll(&one, 1, NULL, &none) : poll(&one, 1, -1);
    if (ready == 1 && one.revents == POLLIN) return receive(fd, 0);
    if (ready == 1) fprintf(stderr, "revents %#x\n", one.revents), exit(9);
    return check_wait(ready);
}

static int epolled(int epoll, int fd, int is_edge) {
    struct epoll_event event;
    int ready = epoll_wait(epoll, &event, 1, -1);
    if (ready != 1) return check_wait(ready);
    if (event.data.fd != fd) return 0;
    if (event.events & ~(EPOLLIN | EPOLLOUT)) fprintf(stderr, "events %#x\n", event.events), exit(9);
    return is_edge ? drain(fd) : receive(fd, 0);
}

static void block_signals(void) {
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

static void watch(int epoll, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    int one = 1, more = 1, is_edge = mode_is(argv, "edge"), has_signals = mode_is(argv, "signalfd");
    if (mode_is(argv, "pselect") || mode_is(argv, "ppoll") || has_signals) block_signals();
    int fd = subscribed(is_edge || mode_is(argv, "flag") ? SOCK_NONBLOCK | SOCK_CLOEXEC : 0);
    if (mode_is(argv, "fcntl") && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) die("F_SETFL");
    if (mode_is(argv, "ioctl") && ioctl(fd, FIONBIO, &one) < 0) die("FIONBIO");
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    /* Language runtimes register both directions at once; the socket is always writable. */
    watch(epoll, fd, is_edge ? EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET : EPOLLIN);
    if (has_signals) watch(epoll, signalfd(-1, &blocked, 0), EPOLLIN);
    while (more) {
        if (mode_is(argv, "select")) more = selected(fd, 0);
        else if (mode_is(argv, "pselect")) more = selected(fd, 1);
        else if (mode_is(argv, "poll")) more = polled(fd, 0);
        else if (mode_is(argv, "ppoll")) more = polled(fd, 1);
        else if (mode_is(argv, "epoll") || has_signals) more = epolled(epoll, fd, 0);
        else if (is_edge) more = epolled(epoll, fd, 1);
        else usleep(1000), more = drain(fd);
    }
    return 0;
}
