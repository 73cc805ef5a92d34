/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Is notified by a signal. Modes: sigsuspend: SIGIO and its handler; fiosetown: the same, with
 * the owner set by ioctl; sigwaitinfo: a realtime signal. */
#include "client.h"
#include <sys/ioctl.h>

static sigset_t all;

static void ignore_signal(int signal) { (void)signal; }

static void drain(int fd) {
    ssize_t received;
    while ((received = recv(fd, buffer, sizeof buffer, 0)) > 0) print_event(buffer, received);
    if (received < 0 && errno != EAGAIN) print_received(NULL, received);
}

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    int fd = subscribed(0), self = getpid(), signal = mode_is(argv, "sigwaitinfo") ? SIGRTMIN : SIGIO;
    handle(signal, ignore_signal);
    sigaddset(&all, SIGINT);
    sigaddset(&all, SIGTERM);
    sigaddset(&all, SIGIO);
    sigaddset(&all, SIGRTMIN);
    sigset_t before;
    sigprocmask(SIG_BLOCK, &all, &before);
    if ((mode_is(argv, "fiosetown") ? ioctl(fd, FIOSETOWN, &self) : fcntl(fd, F_SETOWN, self)) < 0) die("owner");
    if (fcntl(fd, F_GETOWN) != self) return 9;
    if (mode_is(argv, "sigwaitinfo") && fcntl(fd, F_SETSIG, SIGRTMIN) < 0) die("F_SETSIG");
    if (fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) < 0) die("F_SETFL");
    while (!done) {
        drain(fd);
        if (!mode_is(argv, "sigwaitinfo")) sigsuspend(&before);
        else if ((signal = sigwaitinfo(&all, NULL)) == SIGINT || signal == SIGTERM) break;
    }
    return 0;
}
