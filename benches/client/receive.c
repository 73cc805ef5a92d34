/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives COUNT events and exits: receive recv|poll|epoll|comm COUNT. For comparison, it receives
 * datagrams of the same length from another process that writes as fast as possible (plain) or on
 * request (asked), or the kernel's own events, which a third process causes (kernel).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LISTEN = 1, LENGTH = 76, PID_AT = 52 };

struct request {
    struct nlmsghdr nl;
    struct { uint32_t idx, val, seq, ack; uint16_t len, flags; } cn;
    uint32_t op;
};

static char buffer[4096];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int connector(void) {
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    struct request it = {{sizeof it, NLMSG_DONE, 0, 0, 0}, {1, 1, 0, 0, 4, 0}, LISTEN};
    int fd = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("socket");
    if (send(fd, &it, sizeof it, 0) < 0 || recv(fd, buffer, sizeof buffer, 0) < 0) die("listen");
    return fd;
}

/* Starts a child that runs `act` on one end of a socket pair; returns the other end. */
static int start_child(void (*act)(int fd, long count), long count) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) < 0) die("socketpair");
    if (fork() == 0) {
        close(fds[0]);
        act(fds[1], count);
        _exit(0);
    }
    close(fds[1]);
    return fds[0];
}

/* Sends datagrams as fast as possible. */
static void send_all(int fd, long count) {
    while (count--) if (send(fd, buffer, LENGTH, 0) < 0) _exit(1);
}

/* Sends a datagram after each received byte. */
static void send_on_request(int fd, long count) {
    char token;
    while (count-- && recv(fd, &token, 1, 0) == 1) if (send(fd, buffer, LENGTH, 0) < 0) _exit(1);
}

/* Causes an event after each received byte. */
static void rename_on_request(int fd, long count) {
    char token;
    while (count-- && recv(fd, &token, 1, 0) == 1) prctl(PR_SET_NAME, count & 1 ? "odd" : "even");
}

static void read_comm(uint32_t pid) {
    char path[32], comm[32];
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    if (read(fd, comm, sizeof comm) < 0) die("read");
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *mode = argv[1];
    long count = atol(argv[2]);
    int reads_comm = !strcmp(mode, "comm"), polls = !strcmp(mode, "poll"), request_fd = -1, epoll = -1, fd;
    if (!strcmp(mode, "plain")) fd = start_child(send_all, count);
    else if (!strcmp(mode, "asked")) fd = request_fd = start_child(send_on_request, count);
    else fd = connector();
    if (!strcmp(mode, "kernel")) request_fd = start_child(rename_on_request, count);
    struct epoll_event interest = {.events = EPOLLIN}, ready;
    if (!strcmp(mode, "epoll") &&
        ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) < 0))
        die("epoll");
    while (count--) {
        struct pollfd polled = {fd, POLLIN, 0};
        uint32_t pid;
        if (request_fd >= 0 && send(request_fd, "", 1, 0) < 0) die("send");
        if (polls && poll(&polled, 1, -1) != 1) die("poll");
        if (epoll >= 0 && epoll_wait(epoll, &ready, 1, -1) != 1) die("epoll_wait");
        if (recv(fd, buffer, sizeof buffer, 0) < LENGTH && errno != ENOBUFS) die("recv");
        if (reads_comm) memcpy(&pid, buffer + PID_AT, sizeof pid), read_comm(pid);
    }
    /* The time of the other process counts, too. */
    close(fd);
    while (wait(NULL) > 0) {}
    return 0;
}
