/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Every way to wait: select, poll, epoll, edge; pselect, ppoll, and signalfd with signals blocked elsewhere; and not to
 * wait but to sleep and look again, with sockets made so by flag, fcntl, or ioctl. */
#include "client.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>

static sigset_t none, blocked;

/* Takes what there is. */
static int drain(int fd) {
    for (;;) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        if (received < 0 && errno == EAGAIN) return !done;
        if (!took(buffer, received)) return 0;
    }
}

/* Whether to go on after a wait, which tells of one file or was interrupted. */
static int woken(int ready) {
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
    return woken(ready);
}

static int polled(int fd, int masked) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    int ready = masked ? ppoll(&one, 1, NULL, &none) : poll(&one, 1, -1);
    if (ready == 1 && one.revents == POLLIN) return receive(fd, 0);
    if (ready == 1) fprintf(stderr, "revents %#x\n", one.revents), exit(9);
    return woken(ready);
}

static int epolled(int epoll, int fd, int is_edge) {
    struct epoll_event event;
    int ready = epoll_wait(epoll, &event, 1, -1);
    if (ready != 1) return woken(ready);
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
    until_signalled();
    int one = 1, more = 1, is_edge = is(argv, "edge"), has_signals = is(argv, "signalfd");
    if (is(argv, "pselect") || is(argv, "ppoll") || has_signals) block_signals();
    int fd = subscribed(is_edge || is(argv, "flag") ? SOCK_NONBLOCK | SOCK_CLOEXEC : 0);
    if (is(argv, "fcntl") && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) die("F_SETFL");
    if (is(argv, "ioctl") && ioctl(fd, FIONBIO, &one) < 0) die("FIONBIO");
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    /* As the runtimes of languages do, both ways at once: it can always be written. */
    watch(epoll, fd, is_edge ? EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET : EPOLLIN);
    if (has_signals) watch(epoll, signalfd(-1, &blocked, 0), EPOLLIN);
    while (more) {
        if (is(argv, "select")) more = selected(fd, 0);
        else if (is(argv, "pselect")) more = selected(fd, 1);
        else if (is(argv, "poll")) more = polled(fd, 0);
        else if (is(argv, "ppoll")) more = polled(fd, 1);
        else if (is(argv, "epoll") || has_signals) more = epolled(epoll, fd, 0);
        else if (is_edge) more = epolled(epoll, fd, 1);
        else usleep(1000), more = drain(fd);
    }
    return 0;
}
