/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What daemons do with themselves around the opening of a socket: limit their files, more and less; have many of them, where that is
 * allowed; become nobody, of a class of their own. */
#include "client.h"
#include <grp.h>
#include <sched.h>
#include <sys/resource.h>

int main(int argc, char **argv) {
    (void)argc;
    until_signalled();
    struct rlimit few = {256, 256}, fewer = {64, 64}, many;
    struct sched_param first = {.sched_priority = 1};
    if (is(argv, "limit") && setrlimit(RLIMIT_NOFILE, &few) < 0) die("setrlimit");
    if (is(argv, "fewer") && setrlimit(RLIMIT_NOFILE, &fewer) < 0) die("setrlimit");
    if (is(argv, "many") && getrlimit(RLIMIT_NOFILE, &many) == 0 && many.rlim_max >= 4096) {
        many.rlim_cur = 4096;
        if (setrlimit(RLIMIT_NOFILE, &many) < 0) die("setrlimit");
        while (open("/dev/null", O_RDONLY) < 1100) {
        }
    }
    int fd = subscribed(0);
    if (is(argv, "nobody")) {
        gid_t group = 65534;
        if (sched_setscheduler(0, SCHED_FIFO, &first) < 0) die("sched_setscheduler");
        if (setgroups(1, &group) < 0) die("setgroups");
        if (setgid(group) < 0) die("setgid");
        if (setuid(65534) < 0) die("setuid");
    }
    while (receive(fd, 0)) {
    }
    return 0;
}
