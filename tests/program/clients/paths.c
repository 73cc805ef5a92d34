/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Every way to a file in /proc: of the first exec of a `sleep` of a duration, prints its name as each way has it. */
#include "client.h"
#include <dirent.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static char pid[16];

/* `/proc` with the process's number for `%s`. */
static char *path(const char *form) {
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], form, pid, pid);
    return path;
}

static void say(const char *way, const char *what) { printf("%s: %s\n", way, what); }

static void holds(const char *way, int does) { say(way, does ? "yes" : strerrorname_np(errno)); }

/* What is in a file, up to the end of its first line. */
static char *first_line(int fd) {
    static char line[4096];
    ssize_t length = read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    if (length < 0) return "nothing";
    line[length] = 0;
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* How often a name is listed, over two looks at one open folder. */
static int listed(DIR *dir, const char *name) {
    int count = 0;
    if (!dir) return -1;
    for (int look = 0; look < 2; look++, rewinddir(dir))
        for (struct dirent *entry; (entry = readdir(dir));) count += strcmp(entry->d_name, name) == 0;
    closedir(dir);
    return count;
}

static void through_folders(void) {
    int proc = open("/proc", O_RDONLY | O_DIRECTORY), one = open(path("/proc/%s"), O_RDONLY | O_DIRECTORY);
    int place = open(path("/proc/%s/"), O_PATH), from = open(".", O_PATH);
    say("openat /proc", first_line(openat(proc, path("%s/comm"), O_RDONLY)));
    say("openat", first_line(openat(one, "comm", O_RDONLY)));
    say("openat of a copy", first_line(openat(dup(one), "comm", O_RDONLY)));
    say("openat of a path", first_line(openat(place, "./comm", O_RDONLY)));
    say("chdir", chdir(path("/proc/%s")) < 0 ? "no" : first_line(open("comm", O_RDONLY)));
    say("fchdir", fchdir(proc) < 0 ? "no" : first_line(open(path("%s/comm"), O_RDONLY)));
    holds("and back", fchdir(from) == 0);
    char exe[PATH_MAX] = "";
    holds("readlinkat", readlinkat(one, "exe", exe, sizeof exe - 1) > 0);
    say("exe", strrchr(exe, '/') ? strrchr(exe, '/') : exe);
    struct stat status;
    holds("fstat", fstat(one, &status) == 0 && S_ISDIR(status.st_mode));
    holds("fstatat", fstatat(proc, pid, &status, 0) == 0 && S_ISDIR(status.st_mode));
    holds("fdopendir", listed(fdopendir(proc), pid) == 2);
}

static void try_all(void) {
    char room[16] = "";
    struct stat status;
    struct statfs system;
    say("open", first_line(open(path("/proc/%s/comm"), O_RDONLY)));
    holds("its files", listed(opendir(path("/proc/%s")), "cmdline") == 2);
    say("slashes and dots", first_line(open(path("//proc///%s/./task/../comm"), O_RDONLY)));
    say("task", first_line(open(path("/proc/%s/task/%s/comm"), O_RDONLY)));
    int fd = open(path("/proc/%s/comm"), O_RDONLY | O_CLOEXEC);
    holds("pread", pread(fd, room, 4, 1) == 4 && strcmp(room, "leep") == 0);
    int is_at_end = read(fd, room, 16) == 6 && read(fd, room, 16) == 0;
    holds("read again", is_at_end && lseek(fd, 0, SEEK_SET) == 0 && read(fd, room, 16) == 6);
    FILE *file = fopen(path("/proc/%s/status"), "r");
    holds("stdio", file && fscanf(file, "Name: %15s", room) == 1 && strcmp(room, "sleep") == 0);
    holds("stat", stat(path("/proc/%s"), &status) == 0 && S_ISDIR(status.st_mode));
    holds("lstat", lstat(path("/proc/%s/exe"), &status) == 0 && S_ISLNK(status.st_mode));
    holds("statfs", statfs(path("/proc/%s"), &system) == 0 && system.f_type == PROC_SUPER_MAGIC);
    holds("access", access(path("/proc/%s/stat"), R_OK) == 0);
    holds("nobody", access("/proc/4194303", F_OK) < 0 && errno == ENOENT);
    holds("tasks", listed(opendir(path("/proc/%s/task")), pid) == 2);
    through_folders();
    holds("uptime", atof(first_line(open("/proc/uptime", O_RDONLY))) > 0);
    holds("pid_max", atoi(first_line(open("/proc/sys/kernel/pid_max", O_RDONLY))) > 0);
    holds("cpu", strncmp(first_line(open("/proc/stat", O_RDONLY)), "cpu ", 4) == 0);
    holds("memory", strncmp(first_line(open("/proc/meminfo", O_RDONLY)), "MemTotal:", 9) == 0);
    say("self", first_line(open("/proc/self/comm", O_RDONLY)));
    say("thread-self", first_line(open("/proc/thread-self/comm", O_RDONLY)));
    holds("own files", listed(opendir("/proc/self/fd"), "0") == 2);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    snprintf(pid, sizeof pid, "%u", asleep(argv[1]));
    try_all();
    return 0;
}
