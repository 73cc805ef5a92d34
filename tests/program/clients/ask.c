/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Asks the kernel about each new process; and at the end, which of them are there, by their numbers and by what was opened of them. */
#include "client.h"
#include <poll.h>
#include <sys/syscall.h>

static const char *whether(pid_t pid) { return kill(pid, 0) == 0 ? "is there" : strerrorname_np(errno); }

static const char *whether_open(int pidfd) {
    return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 ? "is there" : strerrorname_np(errno);
}

static int has_ended(int pidfd) {
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    return poll(&ended, 1, 0) == 1 && ended.revents & POLLIN;
}

int main(void) {
    until_signalled();
    int fd = subscribed(0), count = 0, more = 1;
    static uint32_t pids[100];
    static int pidfds[100];
    while (more) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        struct message message = decoded(buffer, received);
        const uint32_t *data = message.data;
        int is_process = received > 0 && message.what == FORK && data[2] == data[3];
        more = took(buffer, received);
        if (is_process && count < 100) {
            pid_t pid = pids[count] = data[2];
            int pidfd = pidfds[count++] = syscall(SYS_pidfd_open, pid, 0);
            const char *open = pidfd < 0 ? strerrorname_np(errno) : has_ended(pidfd) ? "has ended" : whether_open(pidfd);
            printf("%d %s group %d session %d open %s\n", pid, whether(pid), getpgid(pid), getsid(pid), open);
        }
    }
    for (int i = 0; i < count; i++) {
        const char *life = has_ended(pidfds[i]) ? "ended" : "lives";
        printf("%u %s open %s %s\n", pids[i], whether(pids[i]), life, whether_open(pidfds[i]));
    }
    int is_told = getpgid(0) == getpgrp() && getsid(0) == getsid(getpid());
    printf("self %s\n", is_told ? whether(getpid()) : "is not told");
    return 0;
}
