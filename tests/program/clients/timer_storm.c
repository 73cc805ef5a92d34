/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives up to 16 datagrams per call while a timer sends a signal every 5 ms. Modes: restart:
 * with SA_RESTART; interrupt. */
#include "client.h"
#include <sys/time.h>

/* ERESTARTSYS: if a signal interrupts recvmmsg after some datagrams, Linux makes this internal error
 * the socket's error, which the next call returns. */
enum { INTERRUPTED_BEFORE = 512 };

static volatile sig_atomic_t ticks;

static void tick(int signal) { ticks += signal != 0; }

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    int fd = subscribed(0);
    struct sigaction action = {.sa_handler = tick, .sa_flags = mode_is(argv, "restart") ? SA_RESTART : 0};
    struct itimerval timer = {{0, 5000}, {0, 5000}};
    if (sigaction(SIGALRM, &action, NULL) < 0 || setitimer(ITIMER_REAL, &timer, NULL) < 0) die("setitimer");
    static char rooms[16][128];
    while (!done) {
        struct mmsghdr messages[16] = {0};
        struct iovec parts[16];
        for (int i = 0; i < 16; i++) {
            parts[i] = (struct iovec){rooms[i], sizeof rooms[i]};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(fd, messages, 16, 0, NULL);
        if (count < 0 && errno == INTERRUPTED_BEFORE) continue;
        if (count <= 0) print_received(NULL, count);
        for (int i = 0; i < count; i++) print_event(rooms[i], messages[i].msg_len);
    }
    fprintf(stderr, "%d ticks\n", ticks);
    return 0;
}
