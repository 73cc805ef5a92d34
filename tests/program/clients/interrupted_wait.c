/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives COUNT datagrams, then waits for another one until the wait ends. Modes: alarm: by a
 * signal after 50 ms; rcvtimeo: by SO_RCVTIMEO of 50 ms; rcvtimeo-max: by the signal, with the
 * maximum SO_RCVTIMEO; rcvtimeo-negative: by a negative SO_RCVTIMEO. */
#include "client.h"
#include <limits.h>
#include <sys/time.h>

static void ignore_signal(int signal) { (void)signal; }

int main(int argc, char **argv) {
    if (argc < 3) return 9;
    stop_on_signals();
    handle(SIGALRM, ignore_signal);
    int fd = subscribed(0), count = atoi(argv[2]);
    while (count-- > 0 && receive(fd, 0)) {
    }
    struct itimerval once = {.it_value.tv_usec = 50000};
    if ((mode_is(argv, "alarm") || mode_is(argv, "rcvtimeo-max")) && setitimer(ITIMER_REAL, &once, NULL) < 0) die("setitimer");
    struct timeval limit = once.it_value;
    if (mode_is(argv, "rcvtimeo-max")) limit = (struct timeval){LONG_MAX, 0};
    if (mode_is(argv, "rcvtimeo-negative")) limit = (struct timeval){-1, 0};
    if (!mode_is(argv, "alarm") && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) die("SO_RCVTIMEO");
    ssize_t received;
    while ((received = recv(fd, buffer, sizeof buffer, 0)) > 0) {
    }
    puts(received == 0 ? "end" : errno == EINTR ? "eintr" : errno == EAGAIN ? "timeout" : strerrorname_np(errno));
    return 0;
}
