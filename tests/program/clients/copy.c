/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A copy is the same socket: dup, dup2, dup3, dupfd, fork, thread, exec, number; long: a long datagram is sent to it. */
#include "client.h"
#include <pthread.h>
#include <sys/wait.h>

static void *read_all(void *fd) {
    while (receive(*(int *)fd, 0)) {
    }
    return NULL;
}

/* The child reads; who is asked to end, asks the child. */
static int read_in_child(int fd) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        read_all(&fd);
        exit(0);
    }
    close(fd);
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno == EINTR && done) kill(child, SIGTERM);
        else if (errno != EINTR) die("waitpid");
    return WEXITSTATUS(status);
}

/* Signals go to the first thread, which does nothing else. */
static int read_in_thread(int fd) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_t reader;
    if (pthread_create(&reader, NULL, read_all, &fd) != 0) die("pthread_create");
    int signal;
    sigwait(&signals, &signal);
    return 0;
}

/* By another socket, longer than any of the kernel's. */
static void send_long(void) {
    static struct nlmsghdr message[1250] = {{.nlmsg_len = sizeof message}};
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = getpid()};
    int fd = connector(0);
    if (sendto(fd, message, sizeof message, 0, (struct sockaddr *)&to, sizeof to) != sizeof message) die("sendto");
    close(fd);
}

int main(int argc, char **argv) {
    until_signalled();
    if (is(argv, "inherited") && argc > 2) {
        int fd = atoi(argv[2]);
        read_all(&fd);
        return 0;
    }
    int fd = subscribed(0), copy = fd;
    if (is(argv, "dup")) copy = dup(fd);
    if (is(argv, "dup2") || is(argv, "long")) copy = dup2(fd, 200);
    if (is(argv, "dup3")) copy = dup3(fd, 201, O_CLOEXEC);
    if (is(argv, "dupfd")) copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    if (copy < 0) die("dup");
    if (is(argv, "dup2") && copy != 200) return 9;
    if (is(argv, "dup3") && (copy != 201 || !(fcntl(copy, F_GETFD) & FD_CLOEXEC))) return 9;
    if (is(argv, "dupfd") && (copy < 100 || !(fcntl(copy, F_GETFD) & FD_CLOEXEC))) return 9;
    if (copy != fd) close(fd);
    if (is(argv, "long")) send_long();
    if (is(argv, "fork")) return read_in_child(fd);
    if (is(argv, "thread")) return read_in_thread(fd);
    if (is(argv, "exec")) {
        char number[12];
        snprintf(number, sizeof number, "%d", fd);
        execl("/proc/self/exe", argv[0], "inherited", number, argv[2], NULL);
        die("exec");
    }
    read_all(&copy);
    return 0;
}
