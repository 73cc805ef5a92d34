/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives on a duplicate of the socket. Modes: dup, dup2, dup3, twice (dup2 again, while events
 * are queued), dupfd (F_DUPFD_CLOEXEC), fork, thread, exec; inherited FD: use this descriptor; long:
 * send a long datagram to the socket first. */
#include "client.h"
#include <pthread.h>
#include <sys/wait.h>

static void *read_all(void *fd) {
    while (receive(*(int *)fd, 0)) {
    }
    return NULL;
}

/* Receives in a child; passes a request to end to the child. */
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

/* Receives in a thread. The main thread handles the signals. */
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

/* Sends a datagram that is longer than any of the kernel's, from another socket. */
static void send_long(void) {
    static struct nlmsghdr message[1250] = {{.nlmsg_len = sizeof message}};
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = getpid()};
    int fd = connector(0);
    if (sendto(fd, message, sizeof message, 0, (struct sockaddr *)&to, sizeof to) != sizeof message) die("sendto");
    close(fd);
}

int main(int argc, char **argv) {
    stop_on_signals();
    if (mode_is(argv, "inherited") && argc > 2) {
        int fd = atoi(argv[2]);
        read_all(&fd);
        return 0;
    }
    int fd = subscribed(0), copy = fd;
    if (mode_is(argv, "dup")) copy = dup(fd);
    if (mode_is(argv, "dup2") || mode_is(argv, "long")) copy = dup2(fd, 200);
    if (mode_is(argv, "twice") && dup2(fd, 200) == 200) {
        usleep(20000);
        copy = dup2(fd, 202);
    }
    if (mode_is(argv, "dup3")) copy = dup3(fd, 201, O_CLOEXEC);
    if (mode_is(argv, "dupfd")) copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    if (copy < 0) die("dup");
    if (mode_is(argv, "dup2") && copy != 200) return 9;
    if (mode_is(argv, "dup3") && (copy != 201 || !(fcntl(copy, F_GETFD) & FD_CLOEXEC))) return 9;
    if (mode_is(argv, "dupfd") && (copy < 100 || !(fcntl(copy, F_GETFD) & FD_CLOEXEC))) return 9;
    if (copy != fd) close(fd);
    if (mode_is(argv, "long")) send_long();
    if (mode_is(argv, "fork")) return read_in_child(fd);
    if (mode_is(argv, "thread")) return read_in_thread(fd);
    if (mode_is(argv, "exec")) {
        char number[12];
        snprintf(number, sizeof number, "%d", fd);
        execl("/proc/self/exe", argv[0], "inherited", number, argv[2], NULL);
        die("exec");
    }
    read_all(&copy);
    return 0;
}
