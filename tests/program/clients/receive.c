/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives in every possible way. Modes: recv, read, readv, preadv2, recvfrom, recvmsg, recvmmsg
 * (MSG_WAITFORONE), peek; trunc: MSG_TRUNC; truncated: recvmsg with a short buffer;
 * recvmmsg-eight: waits for eight datagrams; recvmmsg-rcvtimeo: the same with SO_RCVTIMEO of 300
 * us. */
#include "client.h"
#include <sys/time.h>

static void check(int holds, const char *message) {
    if (!holds) fprintf(stderr, "wrong: %s\n", message), exit(9);
}

static void check_sender(const struct sockaddr_nl *from, socklen_t length) {
    check(length == 12 && from->nl_family == AF_NETLINK, "netlink address");
    check(from->nl_pid == 0 && from->nl_groups == GROUP, "sender");
}

static ssize_t receive_scattered(int fd, int is_positioned) {
    struct iovec parts[] = {{buffer, 20}, {buffer + 20, sizeof buffer - 20}};
    return is_positioned ? preadv2(fd, parts, 2, -1, 0) : readv(fd, parts, 2);
}

static ssize_t receive_with_sender(int fd) {
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    ssize_t received = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
    if (received > 0) check_sender((struct sockaddr_nl *)&from, length);
    return received;
}

static ssize_t receive_message(int fd, size_t room) {
    struct sockaddr_nl from = {0};
    char control[64];
    struct iovec parts[] = {{buffer, 36}, {buffer + 36, room - 36}};
    struct msghdr message = {&from, sizeof from, parts, 2, control, sizeof control, 0};
    ssize_t received = recvmsg(fd, &message, 0);
    if (received > 0) {
        check_sender(&from, message.msg_namelen);
        check(message.msg_controllen == 0, "no control message");
        check(message.msg_flags == (room < 76 ? MSG_TRUNC : 0), "MSG_TRUNC");
    }
    return received;
}

/* Receives up to eight datagrams. */
static int receive_many(int fd, int flags) {
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
        print_event(rooms[i], messages[i].msg_len);
    }
    return count <= 0 ? print_received(NULL, count) : !done;
}

/* Peeks at a datagram, then receives it. */
static ssize_t receive_peeked(int fd) {
    static char before[4096];
    ssize_t seen = recv(fd, before, sizeof before, MSG_PEEK);
    if (seen <= 0) return seen;
    ssize_t received = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    check(received == seen && memcmp(before, buffer, seen) == 0, "same datagram as by MSG_PEEK");
    return received;
}

/* Receives the first bytes of a datagram, and its full length. */
static ssize_t receive_trunc(int fd) {
    ssize_t received = recv(fd, buffer, 72, MSG_TRUNC);
    check(received <= 0 || received == 76, "full length");
    return received;
}

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    int fd = subscribed(0), more = 1;
    struct timeval limit = {.tv_usec = 300};
    if (mode_is(argv, "recvmmsg-rcvtimeo") && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) die("SO_RCVTIMEO");
    while (more) {
        if (mode_is(argv, "recv")) more = receive(fd, 0);
        else if (mode_is(argv, "read")) more = print_received(buffer, read(fd, buffer, sizeof buffer));
        else if (mode_is(argv, "readv")) more = print_received(buffer, receive_scattered(fd, 0));
        else if (mode_is(argv, "preadv2")) more = print_received(buffer, receive_scattered(fd, 1));
        else if (mode_is(argv, "recvfrom")) more = print_received(buffer, receive_with_sender(fd));
        else if (mode_is(argv, "recvmsg")) more = print_received(buffer, receive_message(fd, sizeof buffer));
        else if (mode_is(argv, "truncated")) more = print_received(buffer, receive_message(fd, 72));
        else if (mode_is(argv, "recvmmsg")) more = receive_many(fd, MSG_WAITFORONE);
        else if (mode_is(argv, "recvmmsg-eight") || mode_is(argv, "recvmmsg-rcvtimeo")) more = receive_many(fd, 0);
        else if (mode_is(argv, "peek")) more = print_received(buffer, receive_peeked(fd));
        else if (mode_is(argv, "trunc")) more = print_received(buffer, receive_trunc(fd));
        else return 9;
    }
    return 0;
}
