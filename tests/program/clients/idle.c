/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Exits without having received an event. Modes: open: after opening a socket; bind: after
 * joining the group, too; subscribe: after requesting events, too; ack: after receiving the
 * acknowledgement, too. */
#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    int fd = connector(0);
    if (mode_is(argv, "open")) return 0;
    bind_to(fd, getpid(), GROUP);
    if (mode_is(argv, "bind")) return 0;
    send_request(fd, LISTEN, 0);
    if (mode_is(argv, "ack")) receive(fd, 0);
    return 0;
}
