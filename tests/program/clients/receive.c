/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Every way to receive: recv, read, readv, preadv2, recvfrom, recvmsg, recvmmsg, eight, peek, length, short;
 * hasty: eight, if they come fast. */
#include "client.h"
#include <sys/time.h>

static void check(int holds, const char *what) {
    if (!holds) fprintf(stderr, "not so: %s\n", what), exit(9);
}

static void check_sender(const struct sockaddr_nl *from, socklen_t length) {
    check(length == 12 && from->nl_family == AF_NETLINK, "an address of 12 bytes");
    check(from->nl_pid == 0 && from->nl_groups == GROUP, "from the kernel");
}

static ssize_t in_two_parts(int fd, int is_positioned) {
    struct iovec parts[] = {{buffer, 20}, {buffer + 20, sizeof buffer - 20}};
    return is_positioned ? preadv2(fd, parts, 2, -1, 0) : readv(fd, parts, 2);
}

static ssize_t with_sender(int fd) {
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    ssize_t received = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
    if (received > 0) check_sender((struct sockaddr_nl *)&from, length);
    return received;
}

static ssize_t as_message(int fd, size_t room) {
    struct sockaddr_nl from = {0};
    char control[64];
    struct iovec parts[] = {{buffer, 36}, {buffer + 36, room - 36}};
    struct msghdr message = {&from, sizeof from, parts, 2, control, sizeof control, 0};
    ssize_t received = recvmsg(fd, &message, 0);
    if (received > 0) {
        check_sender(&from, message.msg_namelen);
        check(message.msg_controllen == 0, "nothing beside");
        check(message.msg_flags == (room < 76 ? MSG_TRUNC : 0), "cut only if it was too long");
    }
    return received;
}

/* Up to eight at a time. */
static int many(int fd, int flags) {
    static char rooms[8][128];
    struct sockaddr_nl from[8];
    struct iovec parts[8];
    struct mmsghdr messages[8];
    for (int i = 0; i < 8; i++) {
        parts[i] = (struct iovec){rooms[i], sizeof rooms[i]};
        messages[i] = (struct mmsghdr){{&from[i], sizeof from[i], &parts[i], 1, NULL, 0, 0}, 0};
    }
    int count = recvmmsg(fd, messages, 8, flags, NULL);
    for (int i = 0; i < count; i++) {
        check_sender(&from[i], messages[i].msg_hdr.msg_namelen);
        show(rooms[i], messages[i].msg_len);
    }
    return count < 0 ? took(NULL, count) : !done;
}

/* Looks before it takes. */
static ssize_t peeked(int fd) {
    static char before[4096];
    ssize_t seen = recv(fd, before, sizeof before, MSG_PEEK);
    if (seen <= 0) return seen;
    ssize_t received = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    check(received == seen && memcmp(before, buffer, seen) == 0, "the same that was seen");
    return received;
}

/* The first bytes, and the length of all. */
static ssize_t length(int fd) {
    ssize_t received = recv(fd, buffer, 72, MSG_TRUNC);
    check(received <= 0 || received == 76, "the whole length");
    return received;
}

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    int fd = subscribed(0), more = 1;
    struct timeval limit = {.tv_usec = 300};
    if (is(argv, "hasty") && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) die("SO_RCVTIMEO");
    while (more) {
        if (is(argv, "recv")) more = receive(fd, 0);
        else if (is(argv, "read")) more = took(buffer, read(fd, buffer, sizeof buffer));
        else if (is(argv, "readv")) more = took(buffer, in_two_parts(fd, 0));
        else if (is(argv, "preadv2")) more = took(buffer, in_two_parts(fd, 1));
        else if (is(argv, "recvfrom")) more = took(buffer, with_sender(fd));
        else if (is(argv, "recvmsg")) more = took(buffer, as_message(fd, sizeof buffer));
        else if (is(argv, "short")) more = took(buffer, as_message(fd, 72));
        else if (is(argv, "recvmmsg")) more = many(fd, MSG_WAITFORONE);
        else if (is(argv, "eight") || is(argv, "hasty")) more = many(fd, 0);
        else if (is(argv, "peek")) more = took(buffer, peeked(fd));
        else if (is(argv, "length")) more = took(buffer, length(fd));
        else return 9;
    }
    return 0;
}
