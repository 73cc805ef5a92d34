/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the clients share: they subscribe in the usual form, print an event a line, and end at SIGINT or SIGTERM. */
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

/* Everything here is for whoever needs it. */
#pragma GCC diagnostic ignored "-Wunused-function"

/* What <linux/connector.h> and <linux/cn_proc.h> of any age have, and the mask that those before 6.6 lack. */
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

/* Without SA_RESTART: a call that waits is interrupted. */
static void on(int signal, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    if (sigaction(signal, &action, NULL) < 0) die("sigaction");
}

static void until_signalled(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    on(SIGINT, stop);
    on(SIGTERM, stop);
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

/* A request of 40 bytes, or of 44 with a mask. */
static struct request request(uint32_t op, uint32_t mask) {
    uint16_t payload = mask ? 8 : 4;
    return (struct request){
        .nl = {.nlmsg_len = 36 + payload, .nlmsg_type = NLMSG_DONE, .nlmsg_pid = getpid()},
        .cn = {.idx = 1, .val = 1, .len = payload},
        .op = op,
        .mask = mask,
    };
}

static void ask(int fd, uint32_t op, uint32_t mask) {
    struct request it = request(op, mask);
    if (send(fd, &it, it.nl.nlmsg_len, 0) != (ssize_t)it.nl.nlmsg_len) die("send");
}

/* A socket that listens. */
static int subscribed(int flags) {
    int fd = connector(flags);
    bind_to(fd, getpid(), GROUP);
    ask(fd, LISTEN, 0);
    return fd;
}

/* The message in a datagram; zeros for what was cut off. */
static struct message decoded(const void *bytes, ssize_t length) {
    struct message message = {0};
    if (length > 0) memcpy(&message, bytes, length < (ssize_t)sizeof message ? (size_t)length : sizeof message);
    return message;
}

/* The number of the first process that is heard to exec `sleep DURATION`: on a live system, others sleep, too. */
static unsigned asleep(const char *duration) {
    char wanted[64], path[64], found[64];
    size_t length = snprintf(wanted, sizeof wanted, "sleep%c%s", 0, duration) + 1;
    until_signalled();
    int fd = subscribed(0);
    while (!done) {
        struct message message = decoded(buffer, recv(fd, buffer, sizeof buffer, 0));
        if (message.what != EXEC) continue;
        snprintf(path, sizeof path, "/proc/%u/cmdline", message.data[1]);
        int file = open(path, O_RDONLY);
        ssize_t had = file < 0 ? -1 : read(file, found, sizeof found);
        if (file >= 0) close(file);
        if (had == (ssize_t)length && memcmp(found, wanted, length) == 0) return message.data[1];
    }
    exit(9);
}

/* Prints the event of a datagram. */
static void show(const void *bytes, ssize_t length) {
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

/* Prints what a call received, and says whether to go on: not at the end, nor when a signal has asked for it. */
static int took(const void *bytes, ssize_t received) {
    if (received > 0) show(bytes, received);
    else if (received == 0) return 0;
    else if (errno == ENOBUFS) printf("nobufs\n");
    else if (errno != EINTR && errno != EAGAIN) die("receive");
    return !done;
}

/* Receives once more, in the usual form. */
static int receive(int fd, int flags) {
    ssize_t received = recv(fd, buffer, sizeof buffer, flags);
    return took(buffer, received);
}

/* Whether the client's mode is that one. */
static int is(char **argv, const char *mode) { return argv[1] && strcmp(argv[1], mode) == 0; }
