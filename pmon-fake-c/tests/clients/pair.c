/* A pair shows an overrun only by a gap, holds more than is in transit, and ends. */
#include "client.h"

int main(void) {
    pmon_kernel *kernel = new_kernel(1);
    int fd = open_socket(kernel, PMON_SOCK_PAIR | PMON_SOCK_LISTEN);
    int domain = 0;
    socklen_t len = sizeof domain;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX);
    pid_t shell = pmon_kernel_add_process(kernel, "sh");
    struct event event;

    CHECK(pmon_kernel_overrun(kernel, 0, 3) == 0);
    /* The library's thread transfers what the pair cannot hold at once. */
    for (int i = 0; i < 100; i++)
        CHECK(pmon_kernel_fork(kernel, shell) > 0);
    for (unsigned i = 0; i < 100; i++)
        CHECK(next(fd, 0, &event) == 0 && event.seq == 4 + i);

    pmon_kernel_fork(kernel, shell);
    CHECK(pmon_kernel_end_of_file(kernel) == 0);
    CHECK(next(fd, 0, &event) == 0 && event.seq == 104);
    CHECK(next(fd, 0, &event) == ENODATA);

    /* The program closes its end: the kernel goes on. */
    close(fd);
    CHECK(pmon_kernel_fork(kernel, shell) > 0);
    pmon_kernel_free(kernel);

    kernel = new_kernel(1);
    fd = open_socket(kernel, PMON_SOCK_PAIR | PMON_SOCK_LISTEN);
    CHECK(pmon_kernel_fork(kernel, 1) > 0);
    pmon_kernel_free(kernel);
    CHECK(next(fd, 0, &event) == 0 && next(fd, 0, &event) == ENODATA);
}
