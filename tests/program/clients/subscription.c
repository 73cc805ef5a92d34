/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives events without a subscription of its own. Modes: bound: never subscribes; ignore:
 * unsubscribes after the acknowledgement and three events, receives nothing, and subscribes
 * again. */
#include "client.h"

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    int fd = connector(0);
    bind_to(fd, 0, GROUP);
    if (mode_is(argv, "ignore")) {
        send_request(fd, LISTEN, 0);
        for (int i = 0; i < 4; i++) receive(fd, 0);
        send_request(fd, IGNORE, 0);
        for (int i = 0; i < 20; i++) {
            ssize_t received = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (received >= 0 || errno != EAGAIN) die("an ignored event");
        }
        printf("ignored\n");
        send_request(fd, LISTEN, 0);
    }
    while (receive(fd, 0)) {
    }
    return 0;
}
