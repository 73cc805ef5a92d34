/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives in three children, each with a socket of its own; prints the number of events of
 * each. */
#include "client.h"
#include <sys/wait.h>

enum { READERS = 3 };

static void count(int fd) {
    int events = 0, gaps = 0;
    while (!done) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        if (received > 0) events += decoded(buffer, received).what != ACK;
        else if (received == 0 || errno != ENOBUFS) break;
        else gaps++;
    }
    char line[64];
    int length = snprintf(line, sizeof line, "%d events %d nobufs\n", events, gaps);
    if (write(1, line, length) != length) die("write");
    _exit(0);
}

int main(void) {
    stop_on_signals();
    int fds[READERS];
    for (int i = 0; i < READERS; i++) {
        fds[i] = connector(0);
        bind_to(fds[i], 0, GROUP);
        send_request(fds[i], LISTEN, 0);
    }
    for (int i = 0; i < READERS; i++) {
        if (fork() != 0) continue;
        for (int other = 0; other < READERS; other++)
            if (other != i) close(fds[other]);
        count(fds[i]);
    }
    for (int i = 0; i < READERS; i++) close(fds[i]);
    while (wait(NULL) > 0 || errno == EINTR) {
    }
    return 0;
}
