/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Asks the kernel about each new process; and at the end, which of them are there. */
#include "client.h"

static const char *whether(pid_t pid) { return kill(pid, 0) == 0 ? "is there" : strerrorname_np(errno); }

int main(void) {
    until_signalled();
    int fd = subscribed(0), count = 0, more = 1;
    static uint32_t pids[10000];
    while (more) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        struct message message = decoded(buffer, received);
        const uint32_t *data = message.data;
        int is_process = received > 0 && message.what == FORK && data[2] == data[3];
        more = took(buffer, received);
        if (is_process && count < 10000) {
            pid_t pid = pids[count++] = data[2];
            printf("%d %s group %d session %d\n", pid, whether(pid), getpgid(pid), getsid(pid));
        }
    }
    for (int i = 0; i < count; i++) printf("%u %s\n", pids[i], whether(pids[i]));
    int is_told = getpgid(0) == getpgrp() && getsid(0) == getsid(getpid());
    printf("self %s\n", is_told ? whether(getpid()) : "is not told");
    return 0;
}
