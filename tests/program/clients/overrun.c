/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Says how many events it missed, by their numbers; deaf to ENOBUFS by choice. */
#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    int fd = subscribed(0), one = 1, more = 1;
    if (is(argv, "deaf") && setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof one) < 0) die("setsockopt");
    static uint32_t next[4096];
    while (more) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        struct message message = decoded(buffer, received);
        uint32_t cpu = message.cpu % 4096, seq = message.cn.seq;
        if (received > 0 && next[cpu] != 0 && seq != next[cpu]) printf("missed %u\n", seq - next[cpu]);
        if (received > 0) next[cpu] = seq + 1;
        more = took(buffer, received);
    }
    return 0;
}
