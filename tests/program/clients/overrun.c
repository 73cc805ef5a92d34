/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Prints how many events are missing, by sequence numbers. Modes: enobufs; no-enobufs: sets
 * NETLINK_NO_ENOBUFS. */
#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    int fd = subscribed(0), one = 1, more = 1;
    if (mode_is(argv, "no-enobufs") && setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof one) < 0) die("setsockopt");
    static uint32_t next[4096];
    while (more) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        struct message message = decoded(buffer, received);
        uint32_t cpu = message.cpu % 4096, seq = message.cn.seq;
        if (received > 0 && next[cpu] != 0 && seq != next[cpu]) printf("missed %u\n", seq - next[cpu]);
        if (received > 0) next[cpu] = seq + 1;
        more = print_received(buffer, received);
    }
    return 0;
}
