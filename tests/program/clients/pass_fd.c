/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Passes its socket to a child through a UNIX socket. With the argument `unsubscribed`, the child
 * subscribes. */
#include "client.h"
#include <sys/wait.h>

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static void pass(int through, int fd) {
    union control control = {0};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    if (sendmsg(through, &message, 0) != 1) die("sendmsg");
}

static int passed(int through) {
    union control control;
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(through, &message, 0) != 1 || message.msg_controllen == 0) die("recvmsg");
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

int main(int argc, char **argv) {
    int child_subscribes = argc > 1 && strcmp(argv[1], "unsubscribed") == 0;
    stop_on_signals();
    int pair[2], status;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0) die("socketpair");
    pid_t child = fork();
    if (child == 0) {
        int fd = passed(pair[1]);
        if (child_subscribes) send_request(fd, LISTEN, 0);
        while (receive(fd, 0)) {
        }
        return 0;
    }
    int fd = child_subscribes ? connector(0) : subscribed(0);
    if (child_subscribes) bind_to(fd, getpid(), GROUP);
    pass(pair[0], fd);
    close(fd);
    while (waitpid(child, &status, 0) < 0)
        if (errno == EINTR && done) kill(child, SIGTERM);
        else if (errno != EINTR) die("waitpid");
    return WEXITSTATUS(status);
}
