/* What the clients share: checks, and the decoding of datagrams. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmon_fake.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s; errno %d, last error: %s\n", __FILE__, __LINE__, #condition, errno, \
                    pmon_last_error()); \
            exit(1); \
        } \
    } while (0)

/* A client that waits for an event that does not come is killed. */
#define TIMEOUT 60

struct event {
    unsigned seq;
    unsigned cpu;
    int what;
    pid_t pid;   /* of the process that the event is about */
    pid_t other; /* the parent of a fork */
    int value;   /* the code of an exit, the errno of an acknowledgement */
};

/* Receives one datagram; returns 0 or an errno. */
__attribute__((unused)) static int next(int fd, int flags, struct event *event) {
    char buffer[1024] __attribute__((aligned(8)));
    struct sockaddr_nl sender = {0};
    struct iovec iov = {buffer, sizeof buffer};
    struct msghdr message = {.msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &iov, .msg_iovlen = 1};
    ssize_t len = recvmsg(fd, &message, flags);
    if (len < 0)
        return errno;
    if (len == 0)
        return ENODATA;
    CHECK(sender.nl_pid == 0);
    struct nlmsghdr *header = (struct nlmsghdr *)buffer;
    CHECK(NLMSG_OK(header, (unsigned)len) && header->nlmsg_type == NLMSG_DONE);
    struct cn_msg *connector = NLMSG_DATA(header);
    struct proc_event proc;
    memcpy(&proc, connector->data, sizeof proc < connector->len ? sizeof proc : connector->len);
    *event = (struct event){.seq = connector->seq, .cpu = proc.cpu, .what = (int)proc.what};
    switch (event->what) {
    case 0: /* PROC_EVENT_NONE */
        event->value = (int)proc.event_data.ack.err;
        break;
    case 1: /* PROC_EVENT_FORK */
        event->pid = proc.event_data.fork.child_pid;
        event->other = proc.event_data.fork.parent_pid;
        break;
    case (int)0x80000000: /* PROC_EVENT_EXIT */
        event->value = (int)proc.event_data.exit.exit_code;
        event->pid = proc.event_data.exit.process_pid;
        break;
    default:
        event->pid = proc.event_data.exec.process_pid;
    }
    return 0;
}

/* Sends a request to subscribe or unsubscribe. */
__attribute__((unused)) static void request(int fd, int operation) {
    struct __attribute__((packed)) {
        struct nlmsghdr header;
        struct cn_msg connector;
        int operation;
    } message = {
        .header = {.nlmsg_len = sizeof message, .nlmsg_type = NLMSG_DONE},
        .connector = {.id = {CN_IDX_PROC, CN_VAL_PROC}, .len = sizeof operation},
        .operation = operation,
    };
    CHECK(send(fd, &message, sizeof message, 0) == sizeof message);
}

__attribute__((unused)) static pmon_kernel *new_kernel(unsigned cpus) {
    alarm(TIMEOUT);
    pmon_kernel *kernel = pmon_kernel_new(cpus);
    CHECK(kernel != NULL);
    return kernel;
}

/* Opens a socket. Where this system allows no netlink sockets, the test is skipped. */
__attribute__((unused)) static int open_socket(pmon_kernel *kernel, unsigned flags) {
    int fd = pmon_kernel_socket(kernel, flags);
    if (fd < 0 && !(flags & PMON_SOCK_PAIR)) {
        fprintf(stderr, "%s\n", pmon_last_error());
        exit(77);
    }
    CHECK(fd >= 0);
    return fd;
}
