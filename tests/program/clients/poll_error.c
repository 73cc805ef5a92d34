/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Waits with poll or epoll, and prints whether the socket has an error. */
#include "client.h"
#include <poll.h>
#include <sys/epoll.h>

enum { MARK = 0x1234567 };

static unsigned polled(int fd) {
    struct pollfd both[] = {{.fd = -1, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    return poll(both, 2, -1) == 1 ? (unsigned)both[1].revents : 0;
}

static unsigned epolled(int epoll) {
    struct epoll_event event = {0};
    if (epoll_wait(epoll, &event, 1, -1) != 1) return 0;
    if (event.data.u64 != ((uint64_t)MARK << 32 | MARK)) fprintf(stderr, "data %#lx\n", (long)event.data.u64), exit(9);
    return event.events;
}

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    int fd = subscribed(SOCK_NONBLOCK), epoll = epoll_create1(EPOLL_CLOEXEC), more = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)MARK << 32 | MARK};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    while (more && !done) {
        unsigned events = mode_is(argv, "epoll") ? epolled(epoll) : polled(fd);
        if (events & POLLERR) puts("error");
        if (events & ~(POLLIN | POLLERR)) return 9;
        if (events) more = receive(fd, 0);
    }
    return 0;
}
