/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Changes its process as daemons do, around the opening of a socket. Modes: limit-256, limit-64:
 * lower the limit on open files; many-files: open more than 1100 files; setuid: change the
 * scheduling class and the user. */
#include "client.h"
#include <grp.h>
#include <sched.h>
#include <sys/resource.h>

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    struct rlimit limit_256 = {256, 256}, limit_64 = {64, 64}, limit;
    struct sched_param fifo = {.sched_priority = 1};
    if (mode_is(argv, "limit-256") && setrlimit(RLIMIT_NOFILE, &limit_256) < 0) die("setrlimit");
    if (mode_is(argv, "limit-64") && setrlimit(RLIMIT_NOFILE, &limit_64) < 0) die("setrlimit");
    if (mode_is(argv, "many-files") && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max >= 4096) {
        limit.rlim_cur = 4096;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) die("setrlimit");
        while (open("/dev/null", O_RDONLY) < 1100) {
        }
    }
    int fd = subscribed(0);
    if (mode_is(argv, "setuid")) {
        gid_t group = 65534;
        if (sched_setscheduler(0, SCHED_FIFO, &fifo) < 0) die("sched_setscheduler");
        if (setgroups(1, &group) < 0) die("setgroups");
        if (setgid(group) < 0) die("setgid");
        if (setuid(65534) < 0) die("setuid");
    }
    while (receive(fd, 0)) {
    }
    return 0;
}
