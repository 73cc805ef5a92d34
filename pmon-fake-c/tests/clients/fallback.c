/* This system allows no netlink sockets: without PMON_SOCK_ANY, the reason is reported. */
#include "client.h"

int main(void) {
    pmon_kernel *kernel = new_kernel(1);
    CHECK(pmon_kernel_socket(kernel, 0) == -ENOSPC);
    CHECK(strstr(pmon_last_error(), "cannot create a network namespace") != NULL);
    CHECK(strstr(pmon_last_error(), "PMON_SOCK_PAIR") != NULL);
    int fd = pmon_kernel_socket(kernel, PMON_SOCK_ANY | PMON_SOCK_LISTEN), domain = 0;
    socklen_t len = sizeof domain;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX);
    struct event event;
    CHECK(pmon_kernel_fork(kernel, 1) > 0 && next(fd, 0, &event) == 0 && event.what == 1);
    pmon_kernel_free(kernel);
}
