/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Queries each new process by system calls; at the end, queries all of them again, by their ids
 * and by their pidfds. */
#include "client.h"
#include <poll.h>
#include <sys/syscall.h>

static const char *exists(pid_t pid) { return kill(pid, 0) == 0 ? "exists" : strerrorname_np(errno); }

static const char *exists_by_pidfd(int pidfd) {
    return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 ? "exists" : strerrorname_np(errno);
}

static int has_ended(int pidfd) {
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    return poll(&ended, 1, 0) == 1 && ended.revents & POLLIN;
}

int main(void) {
    stop_on_signals();
    int fd = subscribed(0), count = 0, more = 1;
    static uint32_t pids[100];
    static int pidfds[100];
    while (more) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        struct message message = decoded(buffer, received);
        const uint32_t *data = message.data;
        int is_process = received > 0 && message.what == FORK && data[2] == data[3];
        more = print_received(buffer, received);
        if (is_process && count < 100) {
            pid_t pid = pids[count] = data[2];
            int pidfd = pidfds[count++] = syscall(SYS_pidfd_open, pid, 0);
            const char *by_pidfd = pidfd < 0 ? strerrorname_np(errno) : has_ended(pidfd) ? "has ended" : exists_by_pidfd(pidfd);
            printf("%d %s group %d session %d pidfd %s\n", pid, exists(pid), getpgid(pid), getsid(pid), by_pidfd);
        }
    }
    for (int i = 0; i < count; i++) {
        const char *state = has_ended(pidfds[i]) ? "ended" : "running";
        printf("%u %s pidfd %s %s\n", pids[i], exists(pids[i]), state, exists_by_pidfd(pidfds[i]));
    }
    int is_consistent = getpgid(0) == getpgrp() && getsid(0) == getsid(getpid());
    printf("self %s\n", is_consistent ? exists(getpid()) : "is inconsistent");
    return 0;
}
