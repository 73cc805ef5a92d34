/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Clients that do not end as they should: crash, close, or exit after COUNT datagrams; deaf to SIGINT, or deafer, to
 * SIGTERM too; default, without handlers; daemon goes on in a child, and writes to FILE; early does so before it has a
 * socket; worker has a child that does all, and starts it anew when it ends. */
#include "client.h"
#include <sys/resource.h>
#include <sys/wait.h>

/* Goes on in a child, as a leader of its own. */
static void go_on_in_child(const char *file) {
    if (fork() != 0) _exit(0);
    setsid();
    if (!file || !freopen(file, "w", stdout)) die("freopen");
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* Returns in the child. */
static void keep_worker(void) {
    while (!done) {
        pid_t worker = fork();
        if (worker == 0) return;
        while (waitpid(worker, NULL, 0) < 0 && errno == EINTR) {
        }
        printf("%s\n", done ? "stopped" : "started anew");
    }
    exit(0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!is(argv, "default")) until_signalled();
    if (is(argv, "deaf") || is(argv, "deafer")) on(SIGINT, SIG_IGN);
    if (is(argv, "deafer")) on(SIGTERM, SIG_IGN);
    if (is(argv, "early")) go_on_in_child(argv[2]);
    if (is(argv, "worker")) keep_worker();
    int fd = subscribed(0);
    if (is(argv, "daemon")) go_on_in_child(argv[2]);
    int is_counting = is(argv, "crash") || is(argv, "close") || is(argv, "exit");
    int count = is_counting && argc > 2 ? atoi(argv[2]) : -1;
    while (count-- != 0 && receive(fd, 0)) {
    }
    if (done) return 0;
    if (is(argv, "crash")) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        raise(SIGSEGV);
    }
    if (is(argv, "close")) {
        close(fd);
        return recv(fd, buffer, sizeof buffer, 0) < 0 && errno == EBADF ? 3 : 9;
    }
    return is(argv, "exit") ? 4 : 0;
}
