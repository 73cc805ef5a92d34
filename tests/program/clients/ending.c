/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Ends in various ways. Modes: crash COUNT, close COUNT, exit COUNT: after COUNT datagrams;
 * ignore-int: ignores SIGINT; ignore-both: ignores SIGINT and SIGTERM; default: has no handlers;
 * daemon FILE: continues in a child that writes to FILE; daemon-early FILE: forks before it
 * opens the socket; worker: receives in a child, and restarts the child whenever it ends. */
#include "client.h"
#include <sys/resource.h>
#include <sys/wait.h>

/* Continues in a child with a session of its own. */
static void daemonize(const char *file) {
    if (fork() != 0) _exit(0);
    setsid();
    if (!file || !freopen(file, "w", stdout)) die("freopen");
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* Forks a worker again whenever it ends. Returns in the worker. */
static void supervise_worker(void) {
    while (!done) {
        pid_t worker = fork();
        if (worker == 0) return;
        while (waitpid(worker, NULL, 0) < 0 && errno == EINTR) {
        }
        printf("%s\n", done ? "stopped" : "restarted");
    }
    exit(0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!mode_is(argv, "default")) stop_on_signals();
    if (mode_is(argv, "ignore-int") || mode_is(argv, "ignore-both")) handle(SIGINT, SIG_IGN);
    if (mode_is(argv, "ignore-both")) handle(SIGTERM, SIG_IGN);
    if (mode_is(argv, "daemon-early")) daemonize(argv[2]);
    if (mode_is(argv, "worker")) supervise_worker();
    int fd = subscribed(0);
    if (mode_is(argv, "daemon")) daemonize(argv[2]);
    int is_counting = mode_is(argv, "crash") || mode_is(argv, "close") || mode_is(argv, "exit");
    int count = is_counting && argc > 2 ? atoi(argv[2]) : -1;
    while (count-- != 0 && receive(fd, 0)) {
    }
    if (done) return 0;
    if (mode_is(argv, "crash")) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        raise(SIGSEGV);
    }
    if (mode_is(argv, "close")) {
        close(fd);
        return recv(fd, buffer, sizeof buffer, 0) < 0 && errno == EBADF ? 3 : 9;
    }
    return mode_is(argv, "exit") ? 4 : 0;
}
