/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives no event, or does not request any. Modes: open: exits after opening a socket; bind:
 * after joining the group, too; subscribe: after requesting events, too; ack: after receiving the
 * acknowledgement, too; unsubscribed: joins the group and receives all events. */
#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    int fd = connector(0);
    if (mode_is(argv, "open")) return 0;
    bind_to(fd, getpid(), GROUP);
    if (mode_is(argv, "bind")) return 0;
    if (mode_is(argv, "unsubscribed")) {
        stop_on_signals();
        while (receive(fd, 0)) {
        }
        return 0;
    }
    send_request(fd, LISTEN, 0);
    if (mode_is(argv, "ack")) receive(fd, 0);
    return 0;
}
