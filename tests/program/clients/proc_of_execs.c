/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Prints the /proc files of each exec; at the end, checks the list of processes and its own
 * entry. */
#include "client.h"
#include <dirent.h>

static char *text(uint32_t pid, const char *file) {
    static char path[64], content[4096];
    snprintf(path, sizeof path, "/proc/%u/%s", pid, file);
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? 0 : read(fd, content, sizeof content - 1);
    if (fd >= 0) close(fd);
    content[length < 0 ? 0 : length] = 0;
    for (ssize_t i = 0; i + 1 < length; i++)
        if (content[i] == 0) content[i] = ' ';
    return content;
}

static char *link_of(uint32_t pid, const char *file) {
    static char path[64], target[4096];
    snprintf(path, sizeof path, "/proc/%u/%s", pid, file);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = 0;
    return target;
}

static void describe(uint32_t pid) {
    int ppid = -1, uid = -1;
    char *comm = text(pid, "comm");
    comm[strcspn(comm, "\n")] = 0;
    printf("exec %u %s", pid, comm);
    printf(" [%s]", text(pid, "cmdline"));
    printf(" %s", link_of(pid, "exe"));
    printf(" %s", link_of(pid, "cwd"));
    char *after_name = strrchr(text(pid, "stat"), ')');
    if (after_name) sscanf(after_name, ") %*c %d", &ppid);
    char *uids = strstr(text(pid, "status"), "\nUid:");
    if (uids) sscanf(uids, "\nUid: %d", &uid);
    printf(" ppid %d uid %d\n", ppid, uid);
}

static void check_listing(void) {
    char own[32], self[32] = "";
    snprintf(own, sizeof own, "%d", getpid());
    int count = 0, has_self = 0;
    DIR *proc = opendir("/proc");
    if (!proc) die("/proc");
    for (struct dirent *entry; (entry = readdir(proc));) {
        if (entry->d_name[strspn(entry->d_name, "0123456789")] != 0) continue;
        if (strcmp(entry->d_name, own) == 0) has_self = 1;
        else count++;
    }
    closedir(proc);
    ssize_t length = readlink("/proc/self", self, sizeof self - 1);
    printf("others %d\n", count);
    printf("self: %s\n", length > 0 && strcmp(self, own) == 0 ? "yes" : "no");
    printf("own entry: %s\n", has_self ? "yes" : "no");
    printf("own stat: %s\n", atoi(text(getpid(), "stat")) == getpid() ? "yes" : "no");
    printf("own cmdline: %s\n", strstr(text(getpid(), "cmdline"), "proc_of_execs") ? "yes" : "no");
}

int main(void) {
    stop_on_signals();
    int fd = subscribed(0), more = 1;
    while (more) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        struct message message = decoded(buffer, received);
        if (received > 0 && message.what == EXEC) describe(message.data[1]);
        else if (received <= 0) more = print_received(buffer, received);
        more = more && !done;
    }
    check_listing();
    return 0;
}
