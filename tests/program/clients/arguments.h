/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Functions of the clients that make calls on a proc connector socket with every kind of argument,
 * combined from lists of values. They print a line for each call: its result, what it wrote to memory,
 * and the datagrams left in the queue. The lines are the same on the real kernel and under replay.
 *
 * The datagrams come from another socket of the same program, so that the queue does not depend on
 * what happens on the machine. */
#include "client.h"
#include <sys/mman.h>
#include <sys/syscall.h>

#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-const-variable"

#define COUNT(list) (sizeof(list) / sizeof *(list))
#define EACH(at, list) (size_t at = 0; at < COUNT(list); at++)

enum { PAGE = 4096, OTHER_GROUP = 5, FILL = 0xA5 };

/* Ports of the sockets. The numbers are an argument, so that several runs do not disturb each other. */
static uint32_t receiver_port, sender_port, other_port;

/* Where an argument points to. */
enum place { NUL, RW, ODD, EDGE2, EDGE6, EDGE8, EDGE60, RO, UNMAPPED, KERNEL, PLACES };
static const char *const place_names[] = {"null",  "rw", "odd",      "edge2", "edge6",
                                          "edge8", "edge60", "read-only", "unmapped", "kernel"};

/* Memory for the arguments of one call, each in an area of its own. */
enum area { DATA, NAME, LENGTH, HEADER, CONTROL, VECTOR, TIME, AREAS };
static const char *const area_names[] = {"data", "name", "length", "header", "control", "vector", "time"};

/* An area: a writable page, before a page that is not mapped. */
static unsigned char *areas[AREAS], *read_only;
static unsigned char before[AREAS][PAGE];

static int receiver, sender;

static void *place(enum area area, enum place place) {
    unsigned char *end = areas[area] + PAGE;
    switch (place) {
    case NUL: return NULL;
    case RW: return areas[area];
    case ODD: return areas[area] + 1;
    case EDGE2: return end - 2;
    case EDGE6: return end - 6;
    case EDGE8: return end - 8;
    case EDGE60: return end - 60;
    case RO: return read_only + area * 512;
    case UNMAPPED: return end;
    default: return (void *)0xffff800000001000;
    }
}

static void map_areas(void) {
    for EACH(area, area_names) {
        areas[area] = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (areas[area] == MAP_FAILED || mprotect(areas[area] + PAGE, PAGE, PROT_NONE) < 0) die("mmap");
    }
    read_only = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(read_only, 0, PAGE);
}

/* Copies an argument to its place, as far as that is mapped. */
static void put(enum area area, enum place where, const void *bytes, size_t length) {
    unsigned char *at = place(area, where);
    if (where == NUL || where >= UNMAPPED) return;
    size_t room = where == RO ? length : (size_t)(areas[area] + PAGE - at);
    memcpy(at, bytes, length < room ? length : room);
}

static void queue(int length) {
    unsigned char bytes[64];
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = receiver_port};
    for (int at = 0; at < length; at++) bytes[at] = length + at;
    if (sendto(sender, bytes, length, 0, (struct sockaddr *)&to, sizeof to) != length) die("queue");
}

static int opened(uint32_t port) {
    int fd = connector(SOCK_NONBLOCK | SOCK_CLOEXEC);
    bind_to(fd, port, 0);
    return fd;
}

/* Prepares the memory and, with `datagrams`, a queue of two datagrams. */
static void begin(int datagrams) {
    for EACH(area, area_names) memset(areas[area], FILL, PAGE);
    mprotect(read_only, PAGE, PROT_READ | PROT_WRITE);
    if (receiver) close(receiver);
    receiver = opened(receiver_port);
    if (datagrams) queue(20), queue(30);
}

/* Must follow the preparation of all arguments. */
static void ready(void) {
    mprotect(read_only, PAGE, PROT_READ);
    for EACH(area, area_names) memcpy(before[area], areas[area], PAGE);
}

static void print_error(int error) { printf(" %s", error ? strerrorname_np(error) : "0"); }

/* Prints the datagrams that are queued, and removes them. */
static void print_queue(void) {
    unsigned char bytes[64];
    printf(" queue");
    for (int tries = 0; tries < 10; tries++) {
        ssize_t length = recv(receiver, bytes, sizeof bytes, MSG_DONTWAIT);
        if (length < 0 && errno == EAGAIN) break;
        if (length < 0) print_error(errno);
        else printf(" %zd", length);
    }
}

/* Prints what the call has written. */
static void print_written(void) {
    for EACH(area, area_names) {
        for (int at = 0; at < PAGE; at++) {
            if (areas[area][at] == before[area][at]) continue;
            int end = at;
            while (end < PAGE && areas[area][end] != before[area][end]) end++;
            printf(" %s[%d]=", area_names[area], at);
            for (; at < end; at++) printf("%02x", areas[area][at]);
        }
    }
}

/* Finishes the line of a call that has returned `result`. */
static void end(long result, int is_descriptor) {
    int error = errno;
    if (result < 0) printf(":"), print_error(error);
    else if (is_descriptor) printf(": fd"), close(result);
    else printf(": %ld", result);
    print_written();
    print_queue();
    printf("\n");
}

#define CALL(...) end(syscall(__VA_ARGS__), 0)

static const enum place all_places[] = {NUL, RW, ODD, EDGE2, EDGE6, EDGE8, EDGE60, RO, UNMAPPED, KERNEL};
static const long sizes[] = {0, 1, 3, 4, 11, 12, 13, 19, 20, 21, 128, 129, 0x7FFFFFFF, 0x80000000, -1, 1L << 62};
static const int lengths[] = {0, 1, 3, 4, 11, 12, 13, 127, 128, 129, 4096, 0x7FFFFFFF, -1, -0x7FFFFFFF - 1};
static const unsigned receive_flags[] = {
    0, MSG_OOB, MSG_PEEK, MSG_DONTROUTE, MSG_CTRUNC, 0x10, MSG_TRUNC, MSG_PEEK | MSG_TRUNC, MSG_DONTWAIT, MSG_EOR,
    MSG_WAITALL, MSG_FIN, MSG_SYN, MSG_CONFIRM, MSG_RST, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_MORE, MSG_WAITFORONE,
    0x40000, 0x100000, 0x1000000, 0x4000000, MSG_FASTOPEN, MSG_CMSG_CLOEXEC, 0x80000000u, ~0u & ~MSG_OOB, ~0u};

struct vector_case { const char *name; int count; struct iovec parts[3]; };

static struct vector_case vectors[] = {
    {"none", 0, {{0, 0}}},
    {"one", 1, {{(void *)RW, 64}}},
    {"null of no bytes", 1, {{(void *)NUL, 0}}},
    {"unmapped of no bytes", 1, {{(void *)UNMAPPED, 0}}},
    {"kernel of no bytes", 1, {{(void *)KERNEL, 0}}},
    {"null of no bytes, then one", 2, {{(void *)NUL, 0}, {(void *)RW, 64}}},
    {"kernel of no bytes, then one", 2, {{(void *)KERNEL, 0}, {(void *)RW, 64}}},
    {"ten, then the rest", 2, {{(void *)RW, 10}, {(void *)EDGE60, 50}}},
    {"ten, then null", 2, {{(void *)RW, 10}, {(void *)NUL, 50}}},
    {"ten, then unmapped", 2, {{(void *)RW, 10}, {(void *)UNMAPPED, 50}}},
    {"ten, then kernel", 2, {{(void *)RW, 10}, {(void *)KERNEL, 50}}},
    {"ten, then the edge", 2, {{(void *)RW, 10}, {(void *)EDGE6, 50}}},
    {"twenty, then unmapped", 2, {{(void *)RW, 20}, {(void *)UNMAPPED, 50}}},
    {"ten, read-only, ten", 3, {{(void *)RW, 10}, {(void *)RO, 5}, {(void *)EDGE60, 50}}},
    {"read-only", 1, {{(void *)RO, 50}}},
    {"length SSIZE_MAX", 1, {{(void *)RW, 0x7FFFFFFFFFFFFFFF}}},
    {"length SSIZE_MAX + 1", 1, {{(void *)RW, 0x8000000000000000}}},
    {"length -1", 1, {{(void *)RW, -1}}},
    {"two of SSIZE_MAX", 2, {{(void *)RW, 0x7FFFFFFFFFFFFFFF}, {(void *)RW, 0x7FFFFFFFFFFFFFFF}}},
    {"one, then length -1", 2, {{(void *)RW, 64}, {(void *)RW, -1}}},
    {"kernel, then length -1", 2, {{(void *)KERNEL, 64}, {(void *)RW, -1}}},
    {"two of INT_MAX", 2, {{(void *)RW, 0x7FFFFFFF}, {(void *)RW, 0x7FFFFFFF}}},
    {"2 GiB, then kernel", 2, {{(void *)RW, 0x7FFFF000}, {(void *)KERNEL, 1}}},
};

static struct iovec *put_vector(const struct vector_case *vector) {
    struct iovec parts[3];
    for (int at = 0; at < vector->count; at++) {
        parts[at] = vector->parts[at];
        parts[at].iov_base = place(DATA, (enum place)(uintptr_t)parts[at].iov_base);
    }
    put(VECTOR, RW, parts, vector->count * sizeof *parts);
    return (struct iovec *)areas[VECTOR];
}

static const unsigned counts[] = {0, 1, 2, 8, 1024, 1025, 0x7FFFFFFF, 0x80000000u, ~0u};
static const unsigned rw_flags[] = {0, 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x1000, 0x80000000u};
static const long offsets[] = {-1, 0, 1, -2, 1L << 40};

/* Puts a vector of `count` parts of one byte, as many as fit, at a place. */
static void put_bytes(enum place where) {
    static struct iovec parts[PAGE / sizeof(struct iovec)];
    for EACH(at, parts) parts[at] = (struct iovec){areas[DATA] + at, 1};
    put(VECTOR, where, parts, where == RO ? 512 : sizeof parts);
}

/* Sets a numeric option of the receiver. */
static void set(int level, int option, int value) {
    if (setsockopt(receiver, level, option, &value, sizeof value) < 0) die("setsockopt");
}

/* Returns a message to receive. */
static struct msghdr message(void) {
    return (struct msghdr){areas[NAME], 64, put_vector(&vectors[1]), 1, areas[CONTROL], 64, 0x5A5A};
}

/* Leaves ENOBUFS pending, and two datagrams queued. */
static void overrun(void) {
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_groups = 1u << (OTHER_GROUP - 1)};
    set(SOL_SOCKET, SO_RCVBUF, 1);
    set(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, OTHER_GROUP);
    for (int at = 0; at < 4; at++) sendto(sender, areas[DATA], 30 + at, 0, (struct sockaddr *)&to, sizeof to);
}

static const char *const states[] = {"empty", "readable", "overrun"};

static void begin_state(int state) {
    begin(state == 1);
    if (state == 2) overrun();
}


/* Prepares the memory and the sender. The first argument is the first of three ports. */
static void start(char **argv) {
    signal(SIGPIPE, SIG_IGN), signal(SIGIO, SIG_IGN), signal(SIGURG, SIG_IGN);
    receiver_port = argv[1] ? strtoul(argv[1], NULL, 10) : 4000001;
    sender_port = receiver_port + 1, other_port = receiver_port + 2;
    map_areas();
    sender = opened(sender_port);
}
