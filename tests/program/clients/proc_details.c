/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Checks /proc around a process, and calls that take its id: the process of the first exec of
 * `sleep DURATION`. */
#include "client.h"
#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static char pid[16];

static char *path(const char *form) {
    static char path[64];
    snprintf(path, sizeof path, form, pid);
    return path;
}

static void check(const char *name, int holds) { printf("%s: %s\n", name, holds ? "yes" : strerrorname_np(errno)); }

static int is_sleep(int fd) {
    char name[16] = "";
    ssize_t length = read(fd, name, sizeof name);
    if (fd >= 0) close(fd);
    return length == 6 && memcmp(name, "sleep\n", 6) == 0;
}

static void check_listing(void) {
    DIR *proc = opendir("/proc");
    long last = 0;
    int is_sorted = 1, has_hidden = 0;
    for (struct dirent *entry; (entry = readdir(proc));) {
        const char *name = entry->d_name;
        if (name[0] == '.' && strcmp(name, ".") && strcmp(name, "..")) has_hidden = 1;
        if (name[strspn(name, "0123456789")] != 0) continue;
        is_sorted = is_sorted && atol(name) > last;
        last = atol(name);
    }
    closedir(proc);
    errno = 0;
    check("ids are sorted", is_sorted && last > 0);
    check("no hidden entry", !has_hidden);
}

static void check_paths(void) {
    struct stat status = {0};
    check("directory", stat(path("/proc/%s"), &status) == 0 && S_ISDIR(status.st_mode));
    printf("since %ld\n", (long)status.st_mtime);
    if (chdir("/") < 0) die("chdir");
    check("relative to the root", is_sleep(open(path("proc/%s/comm"), O_RDONLY)));
    check("through dot dot", is_sleep(open(path("/tmp/../proc/%s/comm"), O_RDONLY)));
    struct stat linked, real = {0};
    int both_exist = stat(path("/proc/%s/cwd/etc/passwd"), &linked) == 0 && stat("/etc/passwd", &real) == 0;
    check("a file through a link", both_exist && linked.st_ino == real.st_ino && linked.st_mtime == real.st_mtime &&
                                      linked.st_size == real.st_size && linked.st_mode == real.st_mode);
    int root = open("/", O_RDONLY | O_DIRECTORY);
    check("openat of the root", is_sleep(openat(root, path("proc/%s/comm"), O_RDONLY)));
}

/* Not even root may change files in /proc. */
static void check_read_only(void) {
    check("no new file", open("/proc/new", O_WRONLY | O_CREAT, 0644) < 0);
    check("no new directory", mkdir(path("/proc/%s/new"), 0755) < 0 && mkdir("/proc/new", 0755) < 0);
    check("no file is removed", unlink(path("/proc/%s/stat")) < 0);
    check("no directory is removed", rmdir(path("/proc/%s/task")) < 0 && rmdir(path("/proc/%s")) < 0);
    check("no file is renamed", rename(path("/proc/%s/stat"), "/proc/new") < 0);
    check("files are unchanged", is_sleep(open(path("/proc/%s/comm"), O_RDONLY)) && access(path("/proc/%s/stat"), R_OK) == 0);
    int score = open(path("/proc/%s/oom_score_adj"), O_WRONLY);
    check("oom_score_adj is written", score >= 0 && write(score, "100", 3) == 3);
}

static void check_calls(void) {
    cpu_set_t cpus;
    struct rlimit limit;
    int directory = open(path("/proc/%s"), O_RDONLY | O_DIRECTORY);
    check("affinity", sched_getaffinity(atoi(pid), sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0);
    check("limits", prlimit(atoi(pid), RLIMIT_NOFILE, NULL, &limit) == 0 && limit.rlim_max > 0);
    check("scheduler", sched_getscheduler(atoi(pid)) == SCHED_OTHER);
    check("signal with a value", sigqueue(atoi(pid), 0, (union sigval){0}) == 0);
    check("signal by directory", syscall(SYS_pidfd_send_signal, directory, 0, NULL, 0) == 0);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    snprintf(pid, sizeof pid, "%u", wait_for_sleep(argv[1]));
    check_listing();
    check_paths();
    check_read_only();
    check_calls();
    return 0;
}
