/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Prints the control messages of a datagram by the size of the buffer: with one message, then
 * with two. */
#include "client.h"

static void print_control(int fd, size_t room) {
    union {
        struct cmsghdr header;
        char bytes[64];
    } control = {0};
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = room};
    if (recvmsg(fd, &message, 0) <= 0) die("recvmsg");
    printf("%zu: %zu %s", room, (size_t)message.msg_controllen, message.msg_flags & MSG_CTRUNC ? "cut" : "whole");
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        printf(", %zu", (size_t)at->cmsg_len);
    printf("\n");
}

int main(void) {
    static const size_t one[] = {0, 8, 15, 16, 18, 20, 22, 24, 64}, two[] = {20, 24, 39, 40, 50, 52, 56, 64};
    stop_on_signals();
    int fd = subscribed(0), yes = 1;
    if (setsockopt(fd, SOL_NETLINK, NETLINK_PKTINFO, &yes, sizeof yes) < 0) die("NETLINK_PKTINFO");
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) print_control(fd, one[i]);
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) < 0) die("SO_PASSCRED");
    for (size_t i = 0; i < sizeof two / sizeof *two; i++) print_control(fd, two[i]);
    return 0;
}
