/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Prints the addresses and options of a socket. */
#include "client.h"

static void print_address(const char *name, int result, const struct sockaddr_nl *address, socklen_t length) {
    const char *port = address->nl_pid == 0 ? "0" : address->nl_pid == (uint32_t)getpid() ? "self" : "other";
    if (result < 0) printf("%s %s\n", name, strerrorname_np(errno));
    else printf("%s %u family %u pid %s groups %u\n", name, length, address->nl_family, port, address->nl_groups);
}

static void print_addresses(int fd) {
    struct sockaddr_nl name = {0}, peer = {0};
    socklen_t name_length = sizeof name, peer_length = sizeof peer;
    int named = getsockname(fd, (struct sockaddr *)&name, &name_length);
    print_address("name", named, &name, name_length);
    int peered = getpeername(fd, (struct sockaddr *)&peer, &peer_length);
    print_address("peer", peered, &peer, peer_length);
}

static void print_option(int fd, const char *name, int level, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    if (getsockopt(fd, level, option, &value, &length) < 0) printf("%s %s\n", name, strerrorname_np(errno));
    else printf("%s %d\n", name, value);
}

static void set_option(int fd, const char *name, int level, int option, int value) {
    if (setsockopt(fd, level, option, &value, sizeof value) < 0) printf("set %s %s\n", name, strerrorname_np(errno));
    else printf("set %s\n", name);
}

int main(int argc, char **argv) {
    (void)argc, (void)argv;
    stop_on_signals();
    int fd = connector(SOCK_NONBLOCK);
    print_addresses(fd);
    bind_to(fd, 0, GROUP);
    print_addresses(fd);
    printf("flags %#x %#x\n", fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), fcntl(fd, F_GETFD));
    print_option(fd, "type", SOL_SOCKET, SO_TYPE);
    print_option(fd, "protocol", SOL_SOCKET, SO_PROTOCOL);
    print_option(fd, "domain", SOL_SOCKET, SO_DOMAIN);
    print_option(fd, "error", SOL_SOCKET, SO_ERROR);
    set_option(fd, "rcvbuf", SOL_SOCKET, SO_RCVBUF, 65536);
    print_option(fd, "rcvbuf", SOL_SOCKET, SO_RCVBUF);
    set_option(fd, "rcvbuf", SOL_SOCKET, SO_RCVBUF, 1);
    print_option(fd, "rcvbuf", SOL_SOCKET, SO_RCVBUF);
    set_option(fd, "rcvbufforce", SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20);
    print_option(fd, "rcvbuf", SOL_SOCKET, SO_RCVBUF);
    set_option(fd, "no_enobufs", SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
    print_option(fd, "no_enobufs", SOL_NETLINK, NETLINK_NO_ENOBUFS);
    set_option(fd, "pktinfo", SOL_NETLINK, NETLINK_PKTINFO, 1);
    set_option(fd, "unknown", SOL_NETLINK, 9999, 1);
    printf("recv %s\n", recv(fd, buffer, sizeof buffer, 0) < 0 ? strerrorname_np(errno) : "something");
    return 0;
}
