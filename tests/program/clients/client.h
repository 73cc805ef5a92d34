/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Functions that the clients share: subscribing, printing an event per line, and ending at
 * SIGINT or SIGTERM. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* No client uses all functions. */
#pragma GCC diagnostic ignored "-Wunused-function"

/* Definitions of <linux/connector.h> and <linux/cn_proc.h>, whose versions before 6.6 lack the
 * event mask. */
enum { GROUP = 1, LISTEN = 1, IGNORE = 2 };
enum { ACK = 0, FORK = 1, EXEC = 2, UID = 4, GID = 0x40, SID = 0x80, PTRACE = 0x100, COMM = 0x200 };
#define COREDUMP 0x40000000u
#define EXIT 0x80000000u

struct cn_msg {
    uint32_t idx, val, seq, ack;
    uint16_t len, flags;
};

struct message {
    struct nlmsghdr nl;
    struct cn_msg cn;
    uint32_t what, cpu, time[2], data[6];
};

struct request {
    struct nlmsghdr nl;
    struct cn_msg cn;
    uint32_t op, mask;
};

static volatile sig_atomic_t done;
static char buffer[4096];

static void stop(int signal) { done = signal; }

static void die(const char *what) {
    perror(what);
    exit(9);
}

/* Installs a handler without SA_RESTART, so that a signal interrupts blocking calls. */
static void handle(int signal, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    if (sigaction(signal, &action, NULL) < 0) die("sigaction");
}

static void stop_on_signals(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    handle(SIGINT, stop);
    handle(SIGTERM, stop);
}

static int connector(int flags) {
    int fd = socket(AF_NETLINK, SOCK_DGRAM | flags, NETLINK_CONNECTOR);
    if (fd < 0) die("socket");
    return fd;
}

static void bind_to(int fd, uint32_t port, uint32_t groups) {
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_pid = port, .nl_groups = groups};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
}

/* Returns a request: 40 bytes, or 44 with a mask. */
static struct request request(uint32_t op, uint32_t mask) {
    uint16_t payload = mask ? 8 : 4;
    return (struct request){
        .nl = {.nlmsg_len = 36 + payload, .nlmsg_type = NLMSG_DONE, .nlmsg_pid = getpid()},
        .cn = {.idx = 1, .val = 1, .len = payload},
        .op = op,
        .mask = mask,
    };
}

static void send_request(int fd, uint32_t op, uint32_t mask) {
    struct request message = request(op, mask);
    if (send(fd, &message, message.nl.nlmsg_len, 0) != (ssize_t)message.nl.nlmsg_len) die("send");
}

/* Returns a subscribed socket. */
static int subscribed(int flags) {
    int fd = connector(flags);
    bind_to(fd, getpid(), GROUP);
    send_request(fd, LISTEN, 0);
    return fd;
}

/* Returns the message of a datagram; truncated fields are 0. */
static struct message decoded(const void *bytes, ssize_t length) {
    struct message message = {0};
    if (length > 0) memcpy(&message, bytes, length < (ssize_t)sizeof message ? (size_t)length : sizeof message);
    return message;
}

/* Waits for an exec of `sleep DURATION`; returns the id of the process. On a live system, other
 * processes may also execute `sleep`. */
static unsigned wait_for_sleep(const char *duration) {
    char expected[64], path[64], found[64];
    size_t length = snprintf(expected, sizeof expected, "sleep%c%s", 0, duration) + 1;
    stop_on_signals();
    int fd = subscribed(0);
    while (!done) {
        struct message message = decoded(buffer, recv(fd, buffer, sizeof buffer, 0));
        if (message.what != EXEC) continue;
        snprintf(path, sizeof path, "/proc/%u/cmdline", message.data[1]);
        int file = open(path, O_RDONLY);
        ssize_t size = file < 0 ? -1 : read(file, found, sizeof found);
        if (file >= 0) close(file);
        if (size == (ssize_t)length && memcmp(found, expected, length) == 0) return message.data[1];
    }
    exit(9);
}

/* Prints the event of a datagram. */
static void print_event(const void *bytes, ssize_t length) {
    struct message message = decoded(bytes, length);
    const uint32_t *data = message.data;
    switch (message.what) {
    case ACK: printf("ack\n"); break;
    case FORK: printf("fork %u %u\n", data[0], data[2]); break;
    case EXEC: printf("exec %u\n", data[0]); break;
    case UID: printf("uid %u %u %u\n", data[0], data[2], data[3]); break;
    case GID: printf("gid %u %u %u\n", data[0], data[2], data[3]); break;
    case SID: printf("sid %u\n", data[0]); break;
    case PTRACE: printf("ptrace %u %u\n", data[0], data[2]); break;
    case COMM: printf("comm %u %.16s\n", data[0], (const char *)&data[2]); break;
    case COREDUMP: printf("coredump %u\n", data[0]); break;
    case EXIT: printf("exit %u %u\n", data[0], data[2]); break;
    default: printf("what %#x\n", message.what);
    }
}

/* Prints the result of a receiving call. Returns whether to continue: not after the end of file or a
 * signal. */
static int print_received(const void *bytes, ssize_t received) {
    if (received > 0) print_event(bytes, received);
    else if (received == 0) return 0;
    else if (errno == ENOBUFS) printf("nobufs\n");
    else if (errno != EINTR && errno != EAGAIN) die("receive");
    return !done;
}

/* Receives and prints a datagram with `recv`; returns whether to continue. */
static int receive(int fd, int flags) {
    ssize_t received = recv(fd, buffer, sizeof buffer, flags);
    return print_received(buffer, received);
}

/* Returns whether the client's mode, its first argument, is `mode`. */
static int mode_is(char **argv, const char *mode) { return argv[1] && strcmp(argv[1], mode) == 0; }
