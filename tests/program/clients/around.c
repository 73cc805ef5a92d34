/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Of the first exec of a `sleep` of a duration: what /proc is like around it, and what can be done to it by its number. */
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

static void holds(const char *what, int does) { printf("%s: %s\n", what, does ? "yes" : strerrorname_np(errno)); }

static int is_sleep(int fd) {
    char name[16] = "";
    ssize_t length = read(fd, name, sizeof name);
    if (fd >= 0) close(fd);
    return length == 6 && memcmp(name, "sleep\n", 6) == 0;
}

static void list(void) {
    DIR *proc = opendir("/proc");
    long last = 0;
    int rises = 1, has_hidden = 0;
    for (struct dirent *entry; (entry = readdir(proc));) {
        const char *name = entry->d_name;
        if (name[0] == '.' && strcmp(name, ".") && strcmp(name, "..")) has_hidden = 1;
        if (name[strspn(name, "0123456789")] != 0) continue;
        rises = rises && atol(name) > last;
        last = atol(name);
    }
    closedir(proc);
    errno = 0;
    holds("numbers rise", rises && last > 0);
    holds("nothing is hidden", !has_hidden);
}

static void find(void) {
    struct stat status = {0};
    holds("its folder", stat(path("/proc/%s"), &status) == 0 && S_ISDIR(status.st_mode));
    printf("since %ld\n", (long)status.st_mtime);
    if (chdir("/") < 0) die("chdir");
    holds("from the root", is_sleep(open(path("proc/%s/comm"), O_RDONLY)));
    holds("by the parent", is_sleep(open(path("/tmp/../proc/%s/comm"), O_RDONLY)));
    struct stat behind, real = {0};
    int is_there = stat(path("/proc/%s/cwd/etc/passwd"), &behind) == 0 && stat("/etc/passwd", &real) == 0;
    holds("a file behind a link", is_there && behind.st_ino == real.st_ino && behind.st_mtime == real.st_mtime &&
                                      behind.st_size == real.st_size && behind.st_mode == real.st_mode);
    int root = open("/", O_RDONLY | O_DIRECTORY);
    holds("from a folder", is_sleep(openat(root, path("proc/%s/comm"), O_RDONLY)));
}

/* Nobody may, not even root. */
static void change(void) {
    holds("no new file", open("/proc/new", O_WRONLY | O_CREAT, 0644) < 0);
    holds("no new folder", mkdir(path("/proc/%s/new"), 0755) < 0 && mkdir("/proc/new", 0755) < 0);
    holds("no file is removed", unlink(path("/proc/%s/stat")) < 0);
    holds("no folder is removed", rmdir(path("/proc/%s/task")) < 0 && rmdir(path("/proc/%s")) < 0);
    holds("no file is renamed", rename(path("/proc/%s/stat"), "/proc/new") < 0);
    holds("it is all there", is_sleep(open(path("/proc/%s/comm"), O_RDONLY)) && access(path("/proc/%s/stat"), R_OK) == 0);
    int score = open(path("/proc/%s/oom_score_adj"), O_WRONLY);
    holds("its score is written", score >= 0 && write(score, "100", 3) == 3);
}

static void call(void) {
    cpu_set_t cpus;
    struct rlimit limit;
    int folder = open(path("/proc/%s"), O_RDONLY | O_DIRECTORY);
    holds("affinity", sched_getaffinity(atoi(pid), sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0);
    holds("limits", prlimit(atoi(pid), RLIMIT_NOFILE, NULL, &limit) == 0 && limit.rlim_max > 0);
    holds("scheduler", sched_getscheduler(atoi(pid)) == SCHED_OTHER);
    holds("signal with a value", sigqueue(atoi(pid), 0, (union sigval){0}) == 0);
    holds("signal to its folder", syscall(SYS_pidfd_send_signal, folder, 0, NULL, 0) == 0);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    snprintf(pid, sizeof pid, "%u", asleep(argv[1]));
    list();
    find();
    change();
    call();
    return 0;
}
