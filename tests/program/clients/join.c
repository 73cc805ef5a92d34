/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * How a socket comes to its events: later, two, again; closed, unread: beside another that is so. */
#include "client.h"
#include <poll.h>

static uint32_t port(int fd) {
    struct sockaddr_nl name = {0};
    socklen_t length = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0 || length != sizeof name) die("getsockname");
    return name.nl_pid;
}

/* Bound without a group, which it joins afterwards. */
static int joined_later(void) {
    int fd = connector(0), group = GROUP;
    bind_to(fd, getpid(), 0);
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) die("NETLINK_ADD_MEMBERSHIP");
    ask(fd, LISTEN, 0);
    return fd;
}

/* The number is free again once its socket is closed. */
static int opened_again(void) {
    close(subscribed(0));
    int fd = subscribed(0);
    return port(fd) == (uint32_t)getpid() ? fd : -1;
}

/* The other one hears everything, too. */
static int beside_another(int is_closed) {
    int other = connector(0), fd = connector(0);
    bind_to(other, 0, GROUP);
    bind_to(fd, 0, GROUP);
    ask(fd, LISTEN, 0);
    if (is_closed) close(other);
    return fd;
}

/* Both hear everything. Each line begins with the socket's. */
static void read_two(void) {
    int first = connector(SOCK_NONBLOCK), second = connector(SOCK_NONBLOCK);
    bind_to(first, 0, GROUP);
    bind_to(second, 0, GROUP);
    if (port(first) != (uint32_t)getpid() || port(second) == port(first) || port(second) == 0) exit(9);
    ask(first, LISTEN, 0);
    while (!done) {
        struct pollfd both[] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
        if (poll(both, 2, -1) < 0 && errno != EINTR) die("poll");
        for (int i = 0; i < 2; i++) {
            if (both[i].revents == 0) continue;
            ssize_t received = recv(both[i].fd, buffer, sizeof buffer, 0);
            if (received == 0) return;
            if (received < 0) die("recv");
            printf("%c ", "ab"[i]);
            show(buffer, received);
        }
    }
}

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    if (is(argv, "two")) return read_two(), 0;
    int fd = is(argv, "again") ? opened_again() : is(argv, "later") ? joined_later() : beside_another(is(argv, "closed"));
    if (fd < 0) return 9;
    while (receive(fd, 0)) {
    }
    return 0;
}
