/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Subscribes in various ways. Modes: add-membership: joins the group after bind; two: has two
 * sockets; reopen: closes its first socket; closed, unread: has another subscribed socket that
 * is closed, or never read. */
#include "client.h"
#include <poll.h>

static uint32_t port(int fd) {
    struct sockaddr_nl name = {0};
    socklen_t length = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0 || length != sizeof name) die("getsockname");
    return name.nl_pid;
}

/* Binds without a group, then joins it. */
static int join_after_bind(void) {
    int fd = connector(0), group = GROUP;
    bind_to(fd, getpid(), 0);
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) die("NETLINK_ADD_MEMBERSHIP");
    send_request(fd, LISTEN, 0);
    return fd;
}

/* Checks that the port is free after its socket was closed. */
static int reopen(void) {
    close(subscribed(0));
    int fd = subscribed(0);
    return port(fd) == (uint32_t)getpid() ? fd : -1;
}

/* Also opens another socket that receives all events. */
static int open_beside_another(int is_closed) {
    int other = connector(0), fd = connector(0);
    bind_to(other, 0, GROUP);
    bind_to(fd, 0, GROUP);
    send_request(fd, LISTEN, 0);
    if (is_closed) close(other);
    return fd;
}

/* Receives all events on two sockets; each line starts with the name of the socket. */
static void read_two(void) {
    int first = connector(SOCK_NONBLOCK), second = connector(SOCK_NONBLOCK);
    bind_to(first, 0, GROUP);
    bind_to(second, 0, GROUP);
    if (port(first) != (uint32_t)getpid() || port(second) == port(first) || port(second) == 0) exit(9);
    send_request(first, LISTEN, 0);
    while (!done) {
        struct pollfd both[] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
        if (poll(both, 2, -1) < 0 && errno != EINTR) die("poll");
        for (int i = 0; i < 2; i++) {
            if (both[i].revents == 0) continue;
            ssize_t received = recv(both[i].fd, buffer, sizeof buffer, 0);
            if (received == 0) return;
            if (received < 0) die("recv");
            printf("%c ", "ab"[i]);
            print_event(buffer, received);
        }
    }
}

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    if (mode_is(argv, "two")) return read_two(), 0;
    int fd = mode_is(argv, "reopen") ? reopen() : mode_is(argv, "add-membership") ? join_after_bind() : open_beside_another(mode_is(argv, "closed"));
    if (fd < 0) return 9;
    while (receive(fd, 0)) {
    }
    return 0;
}
