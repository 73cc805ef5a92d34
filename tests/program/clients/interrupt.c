/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What ends a wait for the next event: alarm, timeout; ever: alarm, with a limit that is never reached; past: a limit
 * that is over. After COUNT datagrams, it waits 50 ms for the next one. */
#include "client.h"
#include <limits.h>
#include <sys/time.h>

static void nothing(int signal) { (void)signal; }

int main(int argc, char **argv) {
    if (argc < 3) return 9;
    until_signalled();
    on(SIGALRM, nothing);
    int fd = subscribed(0), count = atoi(argv[2]);
    while (count-- > 0 && receive(fd, 0)) {
    }
    struct itimerval once = {.it_value.tv_usec = 50000};
    if ((is(argv, "alarm") || is(argv, "ever")) && setitimer(ITIMER_REAL, &once, NULL) < 0) die("setitimer");
    struct timeval limit = once.it_value;
    if (is(argv, "ever")) limit = (struct timeval){LONG_MAX, 0};
    if (is(argv, "past")) limit = (struct timeval){-1, 0};
    if (!is(argv, "alarm") && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) die("SO_RCVTIMEO");
    ssize_t received;
    while ((received = recv(fd, buffer, sizeof buffer, 0)) > 0) {
    }
    puts(received == 0 ? "end" : errno == EINTR ? "eintr" : errno == EAGAIN ? "timeout" : strerrorname_np(errno));
    return 0;
}
