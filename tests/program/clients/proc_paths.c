/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Accesses /proc in every possible way, for the process of the first exec of `sleep DURATION`. */
#include "client.h"
#include <dirent.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static char pid[16];

/* Returns a path with the process id in place of each `%s`. */
static char *path(const char *form) {
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], form, pid, pid);
    return path;
}

static void print_result(const char *name, const char *result) { printf("%s: %s\n", name, result); }

static void check(const char *name, int holds) { print_result(name, holds ? "yes" : strerrorname_np(errno)); }

/* Returns the first line of a file, and closes the file. */
static char *first_line(int fd) {
    static char line[4096];
    ssize_t length = read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    if (length < 0) return "nothing";
    line[length] = 0;
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* Returns how often a name is listed when a directory is read twice, and closes the directory. */
static int listed(DIR *dir, const char *name) {
    int count = 0;
    if (!dir) return -1;
    for (int pass = 0; pass < 2; pass++, rewinddir(dir))
        for (struct dirent *entry; (entry = readdir(dir));) count += strcmp(entry->d_name, name) == 0;
    closedir(dir);
    return count;
}

/* Whether all entries of a directory have the inode number and the type that the listing shows, and files keep
 * them when they are opened. */
static int is_consistent(const char *directory) {
    DIR *dir = opendir(directory);
    int count = 0, same = 1;
    if (!dir) return 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat status, opened;
        if (strcmp(entry->d_name, "..") == 0) continue;
        count++;
        if (fstatat(dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0) same = 0;
        same = same && entry->d_ino == status.st_ino && entry->d_type == IFTODT(status.st_mode);
        if (!S_ISREG(status.st_mode)) continue;
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY);
        if (fd < 0) continue;
        same = same && fstat(fd, &opened) == 0 && opened.st_ino == status.st_ino && opened.st_dev == status.st_dev;
        close(fd);
    }
    closedir(dir);
    return same && count > 5;
}

/* Opened files are independent of each other, and keep their content. */
static void check_many_files(void) {
    enum { FILES = 40 };
    int fds[FILES], same = 1;
    char first[1024], other[1024];
    for (int i = 0; i < FILES; i++) fds[i] = open(path(i % 2 ? "/proc/%s/stat" : "/proc/1/stat"), O_RDONLY);
    for (int i = 0; i < FILES; i++) {
        ssize_t length = read(fds[i], other, sizeof other - 1);
        other[length < 0 ? 0 : length] = 0;
        if (i < 2) snprintf(first, sizeof first, "%s", other);
        same = same && length > 0 && atoi(other) == (i % 2 ? atoi(pid) : 1);
        same = same && lseek(fds[i], 0, SEEK_CUR) == length && write(fds[i], "x", 1) < 0 && errno == EBADF;
    }
    for (int i = 0; i < FILES; i++) close(fds[i]);
    check("many files", same && first[0]);
}

/* What the kernel derives from the opened file. */
static void check_descriptors(void) {
    struct stat status;
    struct statfs system;
    int fd = open(path("/proc/%s/stat"), O_RDONLY);
    check("inodes", is_consistent(path("/proc/%s")) && is_consistent(path("/proc/%s/task/%s")));
    char link[64], target[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    check("link", readlink(link, target, sizeof target - 1) > 0 && strcmp(target, path("/proc/%s/stat")) == 0);
    int again = open(link, O_RDWR);
    check("not writable by its link", again < 0 || write(again, "x", 1) < 0);
    check("fstatfs", fstatfs(fd, &system) == 0 && system.f_type == PROC_SUPER_MAGIC);
    check("empty path", fstatat(fd, "", &status, AT_EMPTY_PATH) == 0 && S_ISREG(status.st_mode) && status.st_size == 0);
    check("no empty path", fstatat(fd, "", &status, 0) < 0 && errno == ENOENT);
    check("dot dot after a link", stat(path("/proc/%s/root/../etc/passwd"), &status) == 0 && status.st_size > 0);
    check("not a directory", open(path("/proc/%s/stat/below"), O_RDONLY) < 0 && errno == ENOTDIR);
    check("no leading zero", stat(path("/proc/0%s"), &status) < 0 && errno == ENOENT);
    check("not a link", readlink(path("/proc/%s/stat"), (char[8]){0}, 8) < 0 && errno == EINVAL);
    check("short buffer", readlink(path("/proc/%s/exe"), (char[1]){0}, 1) == 1);
    close(fd);
}

static void check_directories(void) {
    int proc = open("/proc", O_RDONLY | O_DIRECTORY), one = open(path("/proc/%s"), O_RDONLY | O_DIRECTORY);
    int o_path = open(path("/proc/%s/"), O_PATH), from = open(".", O_PATH);
    print_result("openat /proc", first_line(openat(proc, path("%s/comm"), O_RDONLY)));
    print_result("openat", first_line(openat(one, "comm", O_RDONLY)));
    print_result("openat of a duplicate", first_line(openat(dup(one), "comm", O_RDONLY)));
    print_result("openat of O_PATH", first_line(openat(o_path, "./comm", O_RDONLY)));
    print_result("chdir", chdir(path("/proc/%s")) < 0 ? "no" : first_line(open("comm", O_RDONLY)));
    print_result("fchdir", fchdir(proc) < 0 ? "no" : first_line(open(path("%s/comm"), O_RDONLY)));
    check("fchdir back", fchdir(from) == 0);
    char exe[PATH_MAX] = "";
    check("readlinkat", readlinkat(one, "exe", exe, sizeof exe - 1) > 0);
    print_result("exe", strrchr(exe, '/') ? strrchr(exe, '/') : exe);
    struct stat status;
    check("fstat", fstat(one, &status) == 0 && S_ISDIR(status.st_mode));
    check("fstatat", fstatat(proc, pid, &status, 0) == 0 && S_ISDIR(status.st_mode));
    check("fdopendir", listed(fdopendir(proc), pid) == 2);
}

static void check_all(void) {
    char room[16] = "";
    struct stat status;
    struct statfs system;
    print_result("open", first_line(open(path("/proc/%s/comm"), O_RDONLY)));
    check("its files", listed(opendir(path("/proc/%s")), "cmdline") == 2);
    print_result("slashes and dots", first_line(open(path("//proc///%s/./task/../comm"), O_RDONLY)));
    print_result("task", first_line(open(path("/proc/%s/task/%s/comm"), O_RDONLY)));
    int fd = open(path("/proc/%s/comm"), O_RDONLY | O_CLOEXEC);
    check("pread", pread(fd, room, 4, 1) == 4 && strcmp(room, "leep") == 0);
    int is_at_end = read(fd, room, 16) == 6 && read(fd, room, 16) == 0;
    check("read again", is_at_end && lseek(fd, 0, SEEK_SET) == 0 && read(fd, room, 16) == 6);
    FILE *file = fopen(path("/proc/%s/status"), "r");
    check("stdio", file && fscanf(file, "Name: %15s", room) == 1 && strcmp(room, "sleep") == 0);
    check("stat", stat(path("/proc/%s"), &status) == 0 && S_ISDIR(status.st_mode));
    check("lstat", lstat(path("/proc/%s/exe"), &status) == 0 && S_ISLNK(status.st_mode));
    check("statfs", statfs(path("/proc/%s"), &system) == 0 && system.f_type == PROC_SUPER_MAGIC);
    check("access", access(path("/proc/%s/stat"), R_OK) == 0);
    check("missing process", access("/proc/4194303", F_OK) < 0 && errno == ENOENT);
    check("tasks", listed(opendir(path("/proc/%s/task")), pid) == 2);
    check_directories();
    check_many_files();
    check_descriptors();
    check("uptime", atof(first_line(open("/proc/uptime", O_RDONLY))) > 0);
    check("pid_max", atoi(first_line(open("/proc/sys/kernel/pid_max", O_RDONLY))) > 0);
    check("cpu", strncmp(first_line(open("/proc/stat", O_RDONLY)), "cpu ", 4) == 0);
    check("memory", strncmp(first_line(open("/proc/meminfo", O_RDONLY)), "MemTotal:", 9) == 0);
    print_result("self", first_line(open("/proc/self/comm", O_RDONLY)));
    print_result("thread-self", first_line(open("/proc/thread-self/comm", O_RDONLY)));
    check("own files", listed(opendir("/proc/self/fd"), "0") == 2);
    int is_elsewhere = chroot("/usr") < 0 || (open(path("/proc/%s/comm"), O_RDONLY) < 0 && errno == ENOENT);
    check("no /proc in another root", is_elsewhere);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    snprintf(pid, sizeof pid, "%u", wait_for_sleep(argv[1]));
    check_all();
    return 0;
}
