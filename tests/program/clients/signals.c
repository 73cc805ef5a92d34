/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Does not ask, but is told by a signal that there is something: pause, by SIGIO and its handler; owner, which is set
 * in another way; info, by one that is waited for. */
#include "client.h"
#include <sys/ioctl.h>

static sigset_t all;

static void nothing(int signal) { (void)signal; }

static void drain(int fd) {
    ssize_t received;
    while ((received = recv(fd, buffer, sizeof buffer, 0)) > 0) show(buffer, received);
    if (received < 0 && errno != EAGAIN) took(NULL, received);
}

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    int fd = subscribed(0), self = getpid(), signal = is(argv, "info") ? SIGRTMIN : SIGIO;
    on(signal, nothing);
    sigaddset(&all, SIGINT);
    sigaddset(&all, SIGTERM);
    sigaddset(&all, SIGIO);
    sigaddset(&all, SIGRTMIN);
    sigset_t before;
    sigprocmask(SIG_BLOCK, &all, &before);
    if ((is(argv, "owner") ? ioctl(fd, FIOSETOWN, &self) : fcntl(fd, F_SETOWN, self)) < 0) die("owner");
    if (fcntl(fd, F_GETOWN) != self) return 9;
    if (is(argv, "info") && fcntl(fd, F_SETSIG, SIGRTMIN) < 0) die("F_SETSIG");
    if (fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) < 0) die("F_SETFL");
    while (!done) {
        drain(fd);
        if (!is(argv, "info")) sigsuspend(&before);
        else if ((signal = sigwaitinfo(&all, NULL)) == SIGINT || signal == SIGTERM) break;
    }
    return 0;
}
