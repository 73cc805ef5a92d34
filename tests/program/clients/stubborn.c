/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Prints each SIGINT and SIGTERM, and exits at the first one that it does not survive.
 * Arguments: how it waits, and the signals that it survives, `int` and `term`. Modes: recv, poll,
 * busy: receive for ever, also after the end of file; pause: waits for signals, and does not
 * receive; spin: neither waits nor exits. */
#include "client.h"
#include <poll.h>

static int survives_int, survives_term;

static void print_signal(int signal) {
    const char *name = signal == SIGINT ? "int\n" : "term\n";
    if (write(1, name, strlen(name)) < 0) _exit(9);
    if (!(signal == SIGINT ? survives_int : survives_term)) _exit(0);
}

int main(int argc, char **argv) {
    for (int at = 2; at < argc; at++) {
        survives_int |= strcmp(argv[at], "int") == 0;
        survives_term |= strcmp(argv[at], "term") == 0;
    }
    /* If both signals are pending, SIGINT is handled first. */
    struct sigaction action = {.sa_handler = print_signal};
    sigfillset(&action.sa_mask);
    if (sigaction(SIGINT, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0) die("sigaction");
    int fd = subscribed(0);
    for (;;) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        if (mode_is(argv, "spin")) continue;
        if (mode_is(argv, "pause")) {
            pause();
            continue;
        }
        if (mode_is(argv, "poll")) poll(&one, 1, -1);
        int flags = mode_is(argv, "busy") ? MSG_DONTWAIT : 0;
        if (recv(fd, buffer, sizeof buffer, flags) < 0 && errno == EBADF) die("recv");
    }
}
