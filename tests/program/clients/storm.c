/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Sixteen at a time, or fewer, while a timer's signal comes every 5 ms: again, after which calls go on; interrupt. */
#include "client.h"
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void tick(int signal) { ticks += signal != 0; }

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    int fd = subscribed(0);
    struct sigaction action = {.sa_handler = tick, .sa_flags = is(argv, "again") ? SA_RESTART : 0};
    struct itimerval often = {{0, 5000}, {0, 5000}};
    if (sigaction(SIGALRM, &action, NULL) < 0 || setitimer(ITIMER_REAL, &often, NULL) < 0) die("setitimer");
    static char rooms[16][128];
    while (!done) {
        struct mmsghdr messages[16] = {0};
        struct iovec parts[16];
        for (int i = 0; i < 16; i++) {
            parts[i] = (struct iovec){rooms[i], sizeof rooms[i]};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(fd, messages, 16, 0, NULL);
        if (count <= 0) took(NULL, count);
        for (int i = 0; i < count; i++) show(rooms[i], messages[i].msg_len);
    }
    fprintf(stderr, "%d ticks\n", ticks);
    return 0;
}
